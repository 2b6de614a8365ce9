//! A TCP relay that delays bytes in both directions, as `teleport-peer serve --delay` does, for plain ssh to the node.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A relay that runs until the program ends.
#[derive(Debug)]
pub(crate) struct DelayRelay {
    addr: String,
}

impl DelayRelay {
    pub(crate) fn start(target: String, one_way: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?.to_string();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = target.clone();
                // What fails there shows in the client.
                thread::spawn(move || relay(&client, &target, one_way));
            }
        });
        Ok(Self { addr })
    }

    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }
}

fn relay(client: &TcpStream, target: &str, one_way: Duration) -> io::Result<()> {
    // The client's `connect` has returned already, so the round trip of TCP's handshake is waited for here.
    thread::sleep(one_way * 2);
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| delayed(&server, client, one_way));
        delayed(client, &server, one_way)
    })
}

/// Copies bytes and the end of the stream with a delay that does not limit the rate.
fn delayed(from: &TcpStream, to: &TcpStream, one_way: Duration) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| write_when_due(receiver, to, one_way));
        // Dropping the sender is the end of the stream.
        read_into(from, sender, one_way)
    })
}

type Chunk = (Instant, Vec<u8>);

fn read_into(mut from: &TcpStream, sender: mpsc::Sender<Chunk>, one_way: Duration) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        let chunk = (Instant::now() + one_way, buffer[..length].to_vec());
        if length == 0 || sender.send(chunk).is_err() {
            return Ok(());
        }
    }
}

fn write_when_due(receiver: mpsc::Receiver<Chunk>, mut to: &TcpStream, one_way: Duration) {
    for (due, chunk) in receiver {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk).is_err() {
            break;
        }
    }
    thread::sleep(one_way);
    // The other side may have closed it already.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_two_round_trips_from_the_start() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = DelayRelay::start(server.local_addr().unwrap().to_string(), Duration::from_millis(20)).unwrap();
        thread::spawn(move || {
            let (stream, _) = server.accept().unwrap();
            io::copy(&mut &stream, &mut &stream).unwrap();
        });
        let start = Instant::now();
        let mut client = TcpStream::connect(relay.addr()).unwrap();
        client.write_all(b"a").unwrap();
        client.read_exact(&mut [0]).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
