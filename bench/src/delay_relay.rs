//! A TCP relay that delays bytes in both directions, as `teleport-peer serve --delay` does, for plain ssh to the node.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Starts a relay, which runs until the program ends, and returns its address.
pub(crate) fn start(target: String, one_way: Duration) -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let target = target.clone();
            // What fails there shows in the client.
            thread::spawn(move || relay(&client, &target, one_way));
        }
    });
    Ok(addr)
}

/// The client's `connect` has returned already. Over a long route it returns after one round trip, and the server
/// accepts the connection half a round trip later.
fn relay(client: &TcpStream, target: &str, one_way: Duration) -> io::Result<()> {
    let connected = Instant::now() + one_way * 2;
    client.set_nodelay(true)?;
    let upload = read(client.try_clone()?, connected, one_way);
    sleep_until(connected + one_way);
    let server = TcpStream::connect(target)?;
    server.set_nodelay(true)?;
    let download = read(server.try_clone()?, connected, one_way);
    thread::scope(|scope| {
        scope.spawn(|| write_when_due(upload, &server));
        write_when_due(download, client);
    });
    Ok(())
}

/// Bytes, and when they arrive. No bytes are the end of the stream.
type Chunk = (Instant, Vec<u8>);

/// Reads without waiting for the bytes to arrive, so that the delay does not limit the rate.
fn read(mut from: TcpStream, connected: Instant, one_way: Duration) -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let due = Instant::now().max(connected) + one_way;
            if sender.send((due, buffer[..length].to_vec())).is_err() || length == 0 {
                return;
            }
        }
    });
    receiver
}

fn write_when_due(receiver: mpsc::Receiver<Chunk>, mut to: &TcpStream) {
    for (due, chunk) in receiver {
        sleep_until(due);
        if chunk.is_empty() || to.write_all(&chunk).is_err() {
            break;
        }
    }
    // The other side may have closed it already.
    let _ = to.shutdown(Shutdown::Write);
}

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_WAY: Duration = Duration::from_millis(100);

    /// Fails if the first byte of the server does not arrive two round trips after the start. The upper bound is for
    /// machines that do other things, too.
    fn assert_two_round_trips(sent: &[u8], serve: fn(&TcpStream) -> io::Result<u64>) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = super::start(server.local_addr().unwrap().to_string(), ONE_WAY).unwrap();
        thread::spawn(move || serve(&server.accept().unwrap().0).unwrap());
        let start = Instant::now();
        let mut client = TcpStream::connect(relay).unwrap();
        client.write_all(sent).unwrap();
        client.read_exact(&mut [0]).unwrap();
        let elapsed = start.elapsed();
        assert!(elapsed >= ONE_WAY * 4 && elapsed < ONE_WAY * 8, "{elapsed:?}");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_server_that_speaks_first_is_heard_after_two_round_trips() {
        assert_two_round_trips(b"", |mut stream| stream.write_all(b"a").map(|()| 1));
    }

    #[test]
    fn an_answer_to_the_first_byte_takes_two_round_trips() {
        assert_two_round_trips(b"a", |stream| io::copy(&mut &*stream, &mut &*stream));
    }
}
