//! TCP connections to the proxy, by whichever of its addresses answers first.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

use super::Error;
use crate::address::HostPort;
use crate::retry::{Deadline, WaitingFor};

/// An address that does not answer holds up the next one for this long (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// A quiet connection is probed this often: an ssh session may say nothing for hours, and balancers and NAT forget
/// (teleport-ssh-proxy.md 1.3). HTTP/2's own pings would be taken for an attack.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where nothing comes back for this long, neither to what was sent nor to a probe, the network is gone. By itself the
/// system would wait for five minutes, and for a quarter of an hour where something was sent. In milliseconds.
const SILENCE: u32 = 120_000;

/// A connection to one of the proxy's addresses.
///
/// # Errors
/// The name does not resolve, no address takes a connection, or it takes too long.
pub(crate) async fn connect(addr: &HostPort, deadline: Deadline) -> Result<TcpStream, Error> {
    deadline.bound(WaitingFor { addr: addr.to_string(), what: super::error::TCP }, connect_any(addr)).await
}

/// The addresses behind a name, in the order in which they are tried.
///
/// # Errors
/// The name does not resolve, or it takes too long.
pub(crate) async fn resolve(addr: &HostPort, deadline: Deadline) -> Result<Vec<SocketAddr>, Error> {
    deadline.bound(WaitingFor { addr: addr.to_string(), what: "the name's addresses" }, lookup(addr)).await
}

async fn lookup(addr: &HostPort) -> Result<Vec<SocketAddr>, Error> {
    let unresolved = |reason: String| Error::Resolve { host: addr.host.clone(), reason };
    let found = lookup_host((addr.host.as_str(), addr.port)).await.map_err(|error| unresolved(error.to_string()))?;
    let found = alternating(found);
    if found.is_empty() { Err(unresolved("it has no address".to_owned())) } else { Ok(found) }
}

/// What each of these addresses says to a connection, and after how long. Where one answers, the others get as much
/// time as they would in a [`connect`], and a second more.
pub(crate) async fn try_each(addresses: &[SocketAddr], deadline: Deadline) -> Vec<(SocketAddr, io::Result<Duration>)> {
    let mut racing = JoinSet::new();
    for address in addresses.iter().copied() {
        racing.spawn(async move {
            let began = Instant::now();
            (address, TcpStream::connect(address).await.map(|_| began.elapsed()))
        });
    }
    let mut said: Vec<(SocketAddr, io::Result<Duration>)> = Vec::new();
    let mut patience = deadline.left();
    while let Ok(Some(next)) = tokio::time::timeout(patience, racing.join_next()).await {
        said.extend(next);
        let answered = said.iter().any(|(_, answer)| answer.is_ok());
        patience = if answered { deadline.left().min(HEAD_START + Duration::from_secs(1)) } else { deadline.left() };
    }
    let silent = |address: &SocketAddr| said.iter().all(|(other, _)| other != address);
    let silent: Vec<_> = addresses.iter().copied().filter(silent).collect();
    said.extend(silent.into_iter().map(|address| (address, Err(io::ErrorKind::TimedOut.into()))));
    said
}

async fn connect_any(addr: &HostPort) -> Result<TcpStream, Error> {
    let mut waiting = lookup(addr).await?.into_iter();
    // Dropped, and with it every attempt but the one that won, when this function returns.
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
            Ok(Some(Ok(Err(error)))) => last = Some(error),
            Ok(Some(Err(_)) | None) | Err(_) => {}
        }
    }
    // Without an error each attempt has panicked.
    let source = last.unwrap_or_else(|| io::ErrorKind::Other.into());
    Err(Error::Connect { addr: addr.to_string(), source })
}

/// The addresses with the families taking turns, the resolver's first one first: a whole family may be dead.
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

/// The stream with options that a connection can live without, should the system not know them.
fn tuned(stream: TcpStream) -> TcpStream {
    // Requests are small and awaited: waiting for more to send would cost a round trip.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, KEEPALIVE);
    let _ = sockopt::set_tcp_keepintvl(&stream, KEEPALIVE);
    let _ = sockopt::set_tcp_user_timeout(&stream, SILENCE);
    stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_gone_is_noticed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy: HostPort = listener.local_addr().unwrap().to_string().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = runtime.block_on(connect(&proxy, Deadline::after(Duration::from_secs(30)))).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), SILENCE);
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(30));
    }

    #[test]
    fn families_take_turns() {
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(|text| text.parse::<SocketAddr>().unwrap());
        let [one, two, three, four] = addresses;
        assert_eq!(alternating(addresses.into_iter()), [one, four, two, three]);
        assert_eq!(alternating([four, one].into_iter()), [four, one]);
        assert!(alternating([].into_iter()).is_empty());
    }
}
