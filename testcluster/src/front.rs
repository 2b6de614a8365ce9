//! The proxy's one port: looks at each ClientHello, and sends the connection where its ALPN list leads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::alpn::{self, HTTP1, Route};
use crate::authority::Identity;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::latency;
use crate::peer::Peer;
use crate::record::EventKind;
use crate::tls::Faces;
use crate::{grpc, web};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// A connection's bytes, near or far.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// What a connection is served over.
pub(crate) type Secured = TlsStream<Box<dyn Bytes>>;

/// Takes connections until the cluster ends.
pub(crate) async fn listen(cluster: Arc<Cluster>, listener: TcpListener, faces: Faces) {
    loop {
        // Accepting fails for connections that are gone already, and when descriptors run out; neither lasts.
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (cluster, faces) = (Arc::clone(&cluster), faces.clone());
        tokio::spawn(async move {
            let number = cluster.record.next_connection();
            if let Err(error) = serve(&cluster, connection, &faces, number).await {
                cluster.record.add(number, EventKind::Refused(error.to_string()));
            }
        });
    }
}

async fn serve(cluster: &Arc<Cluster>, connection: TcpStream, faces: &Faces, number: u64) -> io::Result<()> {
    // Small frames both ways; waiting for more of them would look like latency.
    connection.set_nodelay(true)?;
    if cluster.faults.has(Fault::Hang) {
        std::future::pending::<()>().await;
    }
    if cluster.faults.strikes(Fault::ResetOnce) {
        // With unread bytes and no lingering, closing is a reset.
        connection.readable().await?;
        connection.set_zero_linger()?;
        return Err(io::Error::other("reset on purpose"));
    }
    let latency = cluster.options.latency;
    let bytes: Box<dyn Bytes> =
        if latency.is_zero() { Box::new(connection) } else { Box::new(latency::far_away(connection, latency).await) };
    let Some((route, secured)) = timeout(HANDSHAKE_LIMIT, handshake(cluster, bytes, faces, number)).await?? else {
        return Ok(());
    };
    // Recorded before the connection ends, so that whoever sees it end finds the reason.
    let refuse = |error: &io::Error| cluster.record.add(number, EventKind::Refused(error.to_string()));
    let peer = match peer(number, &secured) {
        Ok(peer) => peer,
        Err(error) => {
            refuse(&error);
            return Ok(());
        }
    };
    let negotiated = secured.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let client = peer.identity().map(|identity| identity.user.clone());
    cluster.record.add(number, EventKind::Handshake { negotiated: negotiated.clone(), client });
    match route {
        Route::ReverseTunnel => {}
        Route::Web => web::serve(cluster, secured, &peer, negotiated.as_deref()).await,
        // gRPC's servers drop a connection whose protocol is not HTTP/2.
        _ if negotiated.as_deref() == Some(HTTP1) => {
            refuse(&io::Error::other("a gRPC client that agreed on http/1.1"));
        }
        Route::Join | Route::Auth | Route::Transport => grpc::serve(cluster, secured, &peer, route).await,
    }
    Ok(())
}

async fn handshake(
    cluster: &Cluster,
    bytes: Box<dyn Bytes>,
    faces: &Faces,
    number: u64,
) -> io::Result<Option<(Route, Secured)>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), bytes).await?;
    let hello = start.client_hello();
    let offered: Vec<String> =
        hello.alpn().into_iter().flatten().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let sni = hello.server_name().map(str::to_owned);
    let route = alpn::route(&offered, &cluster.options.name);
    cluster.record.add(number, EventKind::Connection { route, sni, offered });
    let Some(route) = route else {
        return Ok(None);
    };
    let secured = start.into_stream(faces.of(route)).await?;
    Ok(Some((route, secured)))
}

/// Who is on the other end. Auth takes the client's leaf and nothing above it (teleport-issue-and-outputs.md 1.2).
fn peer(number: u64, secured: &Secured) -> io::Result<Peer> {
    let identity = match secured.get_ref().1.peer_certificates() {
        None | Some([]) => None,
        Some([leaf]) => Some(Identity::parse(leaf).ok_or_else(|| io::Error::other("unreadable client certificate"))?),
        Some(chain) => return Err(io::Error::other(format!("client chain of {} certificates", chain.len()))),
    };
    Ok(Peer::new(number, identity))
}
