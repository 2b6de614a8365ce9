//! A name server whose answers over UDP are truncated, and whose answers over TCP have one address.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server on port 53 of an address. It runs until the tests end.
pub(crate) struct NameServer {
    queries: Arc<[AtomicUsize; 2]>,
}

impl NameServer {
    /// A server at this address that answers each query with the same address.
    pub(crate) fn start(address: Ipv4Addr) -> Self {
        let (udp, tcp) = (UdpSocket::bind((address, 53)).unwrap(), TcpListener::bind((address, 53)).unwrap());
        let queries = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let counts = Arc::clone(&queries);
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((size, from)) = udp.recv_from(&mut query) {
                counts[0].fetch_add(1, Ordering::SeqCst);
                udp.send_to(&answer(&query[..size], None), from).unwrap();
            }
        });
        let counts = Arc::clone(&queries);
        std::thread::spawn(move || {
            for connection in tcp.incoming() {
                let mut connection = connection.unwrap();
                // A client may send several queries, and may close the connection after any of them.
                while let Some(query) = message(&mut connection) {
                    counts[1].fetch_add(1, Ordering::SeqCst);
                    let answer = answer(&query, Some(address));
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    if connection.write_all(&[&length[..], &answer].concat()).is_err() {
                        break;
                    }
                }
            }
        });
        Self { queries }
    }

    /// Queries over UDP and over TCP so far.
    pub(crate) fn queries(&self) -> (usize, usize) {
        (self.queries[0].load(Ordering::SeqCst), self.queries[1].load(Ordering::SeqCst))
    }
}

/// A message with its length in front (RFC 1035 4.2.2).
fn message(connection: &mut impl std::io::Read) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    connection.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    connection.read_exact(&mut message).ok()?;
    Some(message)
}

/// The answer (RFC 1035 4.1). It is truncated without an address, and has a record if the query is for IPv4.
fn answer(query: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    const TRUNCATED: u8 = 0b10;
    const A: [u8; 2] = [0, 1];
    // After the header of 12 bytes the labels of the name, each with its length, up to an empty one; type and class.
    let mut end = 12;
    while query[end] != 0 {
        end += 1 + usize::from(query[end]);
    }
    let question = &query[12..end + 5];
    let records = address.filter(|_| query[end + 1..end + 3] == A);
    // A response to a recursive query, from a recursive server.
    let flags = [0x81 | if address.is_none() { TRUNCATED } else { 0 }, 0x80];
    let counts = [0, 1, 0, u8::from(records.is_some()), 0, 0, 0, 0];
    let mut answer = [&query[..2], &flags, &counts, question].concat();
    if let Some(address) = records {
        // The name of the question, type A, class IN, valid for a minute.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
