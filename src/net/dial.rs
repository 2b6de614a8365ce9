//! TCP connections to the address of a name that answers first.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

use super::Error;
use crate::address::HostPort;
use crate::retry::{Deadline, WaitingFor};

/// How long an address that does not answer delays the next one (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// How often a quiet connection is probed: an ssh session may be silent for hours, and load balancers and NAT forget it
/// (docs/protocol.md, "Stream limits"). A server would take HTTP/2's own pings for an attack.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A connection ends if neither data nor a probe is acknowledged for this long, in milliseconds. The system's own limits are
/// five minutes for probes and a quarter of an hour for data.
const USER_TIMEOUT: u32 = 120_000;

pub(crate) async fn connect(addr: &HostPort, deadline: Deadline) -> Result<TcpStream, Error> {
    deadline.bound(WaitingFor { addr: addr.to_string(), what: super::error::TCP }, connect_any(addr)).await
}

/// The addresses of a name, in the order in which they are tried.
pub(crate) async fn resolve(addr: &HostPort, deadline: Deadline) -> Result<Vec<SocketAddr>, Error> {
    deadline.bound(WaitingFor { addr: addr.to_string(), what: "the name's addresses" }, lookup(addr)).await
}

async fn lookup(addr: &HostPort) -> Result<Vec<SocketAddr>, Error> {
    let unresolved = |reason: String| Error::Resolve { host: addr.host.clone(), reason };
    let found = lookup_host((addr.host.as_str(), addr.port)).await.map_err(|error| unresolved(error.to_string()))?;
    let found = alternating(found);
    if found.is_empty() { Err(unresolved("it has no address".to_owned())) } else { Ok(found) }
}

/// Connects to each of these addresses and measures the time. After the first one has answered, the others get as much time
/// as in [`connect`], and a second more.
pub(crate) async fn try_each(addresses: &[SocketAddr], deadline: Deadline) -> Vec<(SocketAddr, io::Result<Duration>)> {
    let mut racing = JoinSet::new();
    for address in addresses.iter().copied() {
        racing.spawn(async move {
            let began = Instant::now();
            (address, TcpStream::connect(address).await.map(|_| began.elapsed()))
        });
    }
    let mut results: Vec<(SocketAddr, io::Result<Duration>)> = Vec::new();
    let mut timeout = deadline.left();
    while let Ok(Some(next)) = tokio::time::timeout(timeout, racing.join_next()).await {
        results.extend(next);
        let answered = results.iter().any(|(_, answer)| answer.is_ok());
        timeout = if answered { deadline.left().min(HEAD_START + Duration::from_secs(1)) } else { deadline.left() };
    }
    let silent = |address: &SocketAddr| results.iter().all(|(other, _)| other != address);
    let silent: Vec<_> = addresses.iter().copied().filter(silent).collect();
    results.extend(silent.into_iter().map(|address| (address, Err(io::ErrorKind::TimedOut.into()))));
    results
}

async fn connect_any(addr: &HostPort) -> Result<TcpStream, Error> {
    let mut waiting = lookup(addr).await?.into_iter();
    // When this function returns, this is dropped, and with it every attempt that has not won.
    let mut racing = JoinSet::new();
    let mut last = None;
    loop {
        match waiting.next() {
            Some(address) => drop(racing.spawn(TcpStream::connect(address))),
            None if racing.is_empty() => break,
            None => {}
        }
        let pause = if waiting.len() > 0 { HEAD_START } else { Duration::MAX };
        match tokio::time::timeout(pause, racing.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(tuned(stream)),
            Ok(Some(Ok(Err(error)))) if last.is_none() || !is_of_this_machine(&error) => last = Some(error),
            Ok(Some(_) | None) | Err(_) => {}
        }
    }
    // If there is no error, each attempt has panicked.
    let source = last.unwrap_or_else(|| io::ErrorKind::Other.into());
    Err(Error::Connect { addr: addr.to_string(), source })
}

/// Whether this machine has no route to the address at all, as a container without IPv6. What another address answered
/// says more about the proxy.
fn is_of_this_machine(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkUnreachable)
}

/// Sorts addresses so that IPv4 and IPv6 alternate, beginning with the resolver's first address: one of them may not work
/// at all.
fn alternating(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let found: Vec<_> = found.collect();
    let (first, other): (Vec<_>, Vec<_>) =
        found.iter().partition(|address| found.first().is_some_and(|first| first.is_ipv6() == address.is_ipv6()));
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let turns = std::iter::from_fn(|| match (first.next(), other.next()) {
        (None, None) => None,
        pair => Some([pair.0, pair.1]),
    });
    turns.flatten().flatten().collect()
}

/// Sets options. A connection works without those that the system does not know.
fn tuned(stream: TcpStream) -> TcpStream {
    // Requests are small: waiting for more to send would cost a round trip.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, KEEPALIVE);
    let _ = sockopt::set_tcp_keepintvl(&stream, KEEPALIVE);
    let _ = sockopt::set_tcp_user_timeout(&stream, USER_TIMEOUT);
    stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_probed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy: HostPort = listener.local_addr().unwrap().to_string().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = runtime.block_on(connect(&proxy, Deadline::after(Duration::from_secs(30)))).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), USER_TIMEOUT);
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(30));
    }

    #[test]
    fn ipv4_and_ipv6_alternate() {
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(|text| text.parse::<SocketAddr>().unwrap());
        let [one, two, three, four] = addresses;
        assert_eq!(alternating(addresses.into_iter()), [one, four, two, three]);
        assert_eq!(alternating([four, one].into_iter()), [four, one]);
        assert!(alternating([].into_iter()).is_empty());
    }
}
