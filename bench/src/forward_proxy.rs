//! An HTTP forward proxy for CONNECT. It resolves every name to this machine.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::relay::copy;

/// A forward proxy that runs until the program ends.
#[derive(Debug)]
pub(crate) struct ForwardProxy {
    addr: SocketAddr,
}

impl ForwardProxy {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // What fails there shows in the client.
                thread::spawn(move || forward(client));
            }
        });
        Ok(Self { addr })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

fn forward(mut client: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port(&request)?))?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    copy_both_ways(&client, &server)
}

fn port(request: &str) -> io::Result<u16> {
    let port =
        request.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(' ')?.0.rsplit_once(':')?.1.parse().ok());
    port.ok_or_else(|| io::Error::other(format!("not a request to connect: {request}")))
}

/// Copies in both directions until both have ended.
fn copy_both_ways(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| forward_bytes(server, client));
        forward_bytes(client, server)
    })
}

fn forward_bytes(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let copied = copy(from, to);
    // The other side may have closed it already.
    let _ = to.shutdown(Shutdown::Write);
    copied
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn it_connects_to_the_port_of_the_request() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = ForwardProxy::start().unwrap();
        let mut client = TcpStream::connect(proxy.addr).unwrap();
        let port = server.local_addr().unwrap().port();
        write!(client, "CONNECT any.example:{port} HTTP/1.1\r\nHost: any.example\r\n\r\n").unwrap();
        server.accept().unwrap().0.write_all(b"hello").unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\nhello"), "{text}");
    }

    #[test]
    fn other_requests_are_refused() {
        assert_eq!(port("CONNECT [::1]:443 HTTP/1.1").unwrap(), 443);
        assert!(port("GET / HTTP/1.1").is_err());
        assert!(port("CONNECT host HTTP/1.1").is_err());
    }
}
