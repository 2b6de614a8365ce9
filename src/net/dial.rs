//! TCP connections to the proxy.

use std::io;

use tokio::net::{TcpStream, lookup_host};

use super::Error;
use crate::retry::Deadline;
use crate::settings::ProxyAddr;

/// A connection to the first of the proxy's addresses that takes one.
///
/// # Errors
/// The name does not resolve, no address takes a connection, or it takes too long.
pub async fn connect(addr: &ProxyAddr, deadline: Deadline) -> Result<TcpStream, Error> {
    let late = || Error::Late { addr: addr.to_string(), waiting_for: super::TCP };
    deadline.bound(connect_any(addr), late).await
}

async fn connect_any(addr: &ProxyAddr) -> Result<TcpStream, Error> {
    let unresolved = |reason: String| Error::Resolve { host: addr.host.clone(), reason };
    let addresses =
        lookup_host((addr.host.as_str(), addr.port)).await.map_err(|error| unresolved(error.to_string()))?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests are small and awaited: waiting for more to send would cost a round trip.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(source) => Error::Connect { addr: addr.to_string(), source },
        None => unresolved(io::Error::from(io::ErrorKind::NotFound).to_string()),
    })
}
