//! Listens on the ports, and routes connections by port and by the ALPN list of the ClientHello.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use crate::alpn::{self, HTTP1, Route};
use crate::authority::Identity;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::injection::{FaultyStream, NetworkFault, Point, SLOW, StreamFaults};
use crate::latency;
use crate::peer::Peer;
use crate::record::EventKind;
use crate::{balancer, grpc, web};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// The bytes of a connection, delayed or not.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection after its TLS handshake.
pub(crate) type TlsConnection = TlsStream<Box<dyn ByteStream>>;

/// What a port is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port {
    /// The web port: everything that ALPN routes to. A load balancer may be in its place.
    Web,
    /// The SSH proxy's port: the transport service for any ALPN list (docs/protocol.md, "Separate ports"). Plain SSH is
    /// not served.
    Ssh,
    /// The port of reverse tunnels, of which only SSH's identification string is served.
    Tunnel,
}

/// Accepts connections until the cluster ends.
pub(crate) async fn listen(cluster: Arc<Cluster>, listener: TcpListener, port: Port) {
    loop {
        // accept() fails if the connection is already gone, or if descriptors run out. Neither lasts.
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            let number = cluster.record.next_connection();
            if let Err(error) = serve(&cluster, connection, port, number).await {
                cluster.record.add(number, EventKind::Refused(error.to_string()));
            }
        });
    }
}

async fn serve(cluster: &Arc<Cluster>, connection: TcpStream, port: Port, number: u64) -> io::Result<()> {
    // Frames are small in both directions, and Nagle's algorithm would look like latency.
    connection.set_nodelay(true)?;
    if cluster.faults.has(Fault::Hang) {
        std::future::pending::<()>().await;
    }
    if cluster.faults.trigger(Fault::ResetOnce) {
        // With a linger time of zero, close() sends RST.
        connection.readable().await?;
        connection.set_zero_linger()?;
        return Err(io::Error::other("reset on purpose"));
    }
    let faults = Arc::<StreamFaults>::default();
    let connection = FaultyStream::new(connection, Arc::clone(&faults));
    if let Some(fault) = cluster.injector.trigger(Point::Accept) {
        inject(fault, &faults).await?;
    }
    let latency = cluster.options.latency;
    let bytes: Box<dyn ByteStream> = if latency.is_zero() {
        Box::new(connection)
    } else {
        Box::new(latency::delay_both_ways(connection, latency).await)
    };
    match (port, cluster.options.load_balancer) {
        (Port::Web, Some(balancer)) => {
            let hello = timeout(HANDSHAKE_LIMIT, ClientHello::read(bytes)).await??;
            balancer::serve(cluster, balancer, hello, number).await
        }
        (Port::Web, None) => serve_routed(cluster, bytes, number, Ingress::Web, faults).await,
        (Port::Ssh, _) => serve_routed(cluster, bytes, number, Ingress::Only(Route::Transport), faults).await,
        (Port::Tunnel, _) => serve_tunnel(bytes).await,
    }
}

/// How a connection arrived, which decides on its routes and certificates.
#[derive(Clone, Copy, Debug)]
enum Ingress {
    Web,
    Upgrade,
    Only(Route),
}

/// Serves the connection inside an upgraded one. Boxed, because the web server calls it recursively.
pub(crate) fn serve_upgraded(
    cluster: Arc<Cluster>,
    bytes: Box<dyn ByteStream>,
    number: u64,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    serve_nested(cluster, bytes, number, Ingress::Upgrade)
}

/// Serves a connection to Auth inside a call of the transport service.
pub(crate) fn serve_auth(
    cluster: Arc<Cluster>,
    bytes: Box<dyn ByteStream>,
    number: u64,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    serve_nested(cluster, bytes, number, Ingress::Only(Route::Auth))
}

fn serve_nested(
    cluster: Arc<Cluster>,
    bytes: Box<dyn ByteStream>,
    number: u64,
    ingress: Ingress,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if let Err(error) = serve_routed(&cluster, bytes, number, ingress, Arc::default()).await {
            cluster.record.add(number, EventKind::Refused(error.to_string()));
        }
    })
}

/// Sends the identification string of Teleport's SSH server.
async fn serve_tunnel(mut bytes: Box<dyn ByteStream>) -> io::Result<()> {
    bytes.write_all(b"SSH-2.0-Teleport\r\n").await?;
    tokio::io::copy(&mut bytes, &mut tokio::io::sink()).await.map(|_| ())
}

async fn serve_routed(
    cluster: &Arc<Cluster>,
    bytes: Box<dyn ByteStream>,
    number: u64,
    ingress: Ingress,
    faults: Arc<StreamFaults>,
) -> io::Result<()> {
    let handshake = handshake(cluster, bytes, ingress, number, &faults);
    let Some((route, connection)) = timeout(HANDSHAKE_LIMIT, handshake).await?? else {
        return Ok(());
    };
    // Recorded before the connection ends, so that a test that sees it end finds the reason.
    let refuse = |error: &io::Error| cluster.record.add(number, EventKind::Refused(error.to_string()));
    let peer = match peer(number, &connection, faults) {
        Ok(peer) => peer,
        Err(error) => {
            refuse(&error);
            return Ok(());
        }
    };
    let negotiated = connection.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let client = peer.identity().map(|identity| identity.user.clone());
    cluster.record.add(number, EventKind::Handshake { negotiated: negotiated.clone(), client });
    match route {
        Route::ReverseTunnel | Route::LoadBalancer => {}
        Route::Web => web::serve(cluster, connection, &peer, negotiated.as_deref()).await,
        // gRPC servers close connections that did not agree on HTTP/2.
        _ if negotiated.as_deref() == Some(HTTP1) => {
            refuse(&io::Error::other("a gRPC client that agreed on http/1.1"));
        }
        Route::Join | Route::Auth | Route::Transport => grpc::serve(cluster, connection, &peer, route).await,
    }
    Ok(())
}

/// A ClientHello, and the connection that waits for the ServerHello.
pub(crate) struct ClientHello {
    pub start: StartHandshake<Box<dyn ByteStream>>,
    pub sni: Option<String>,
    /// ALPN names, in the client's order.
    pub offered: Vec<String>,
}

impl ClientHello {
    async fn read(bytes: Box<dyn ByteStream>) -> io::Result<Self> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), bytes).await?;
        let hello = start.client_hello();
        let offered =
            hello.alpn().into_iter().flatten().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let sni = hello.server_name().map(str::to_owned);
        Ok(Self { start, sni, offered })
    }

    pub(crate) fn event(&self, route: Option<Route>) -> EventKind {
        EventKind::Connection { route, sni: self.sni.clone(), offered: self.offered.clone() }
    }
}

async fn handshake(
    cluster: &Cluster,
    bytes: Box<dyn ByteStream>,
    ingress: Ingress,
    number: u64,
    faults: &StreamFaults,
) -> io::Result<Option<(Route, TlsConnection)>> {
    let hello = ClientHello::read(bytes).await?;
    let route = match ingress {
        Ingress::Only(route) => Some(route),
        Ingress::Web | Ingress::Upgrade => {
            let options = &cluster.options;
            alpn::route(&hello.offered, &options.name, |route| options.web_port_serves(route))
        }
    };
    cluster.record.add(number, hello.event(route));
    let Some(route) = route else {
        return Ok(None);
    };
    let upgraded = matches!(ingress, Ingress::Upgrade);
    let mut config = cluster.server_configs.for_route(route, upgraded);
    match cluster.injector.trigger(Point::Handshake(route)) {
        None => {}
        Some(
            fault @ (NetworkFault::CertForOtherKey
            | NetworkFault::CertExpired
            | NetworkFault::CertForOtherName
            | NetworkFault::CertOfOtherCa),
        ) => {
            config =
                cluster.bad_certificates.replace(cluster, !upgraded && route.uses_web_certificate(), &config, fault)
        }
        Some(fault) => inject(fault, faults).await?,
    }
    Ok(Some((route, hello.start.into_stream(config).await?)))
}

/// Injects a fault into a connection before its TLS handshake. Returns an error if the connection has to end.
async fn inject(fault: NetworkFault, faults: &StreamFaults) -> io::Result<()> {
    match fault {
        NetworkFault::Slow => tokio::time::sleep(SLOW).await,
        // This is in the middle of the server's first flight.
        NetworkFault::Truncated => faults.truncate(200),
        NetworkFault::Garbage => faults.send_garbage(),
        NetworkFault::Stall => std::future::pending().await,
        NetworkFault::Reset => {
            faults.reset();
            return Err(io::Error::other("reset on purpose"));
        }
        _ => return Err(io::Error::other("closed on purpose")),
    }
    Ok(())
}

/// The client. Auth accepts one certificate and no chain (docs/protocol.md, "Auth Service").
fn peer(number: u64, connection: &TlsConnection, faults: Arc<StreamFaults>) -> io::Result<Peer> {
    let identity = match connection.get_ref().1.peer_certificates() {
        None | Some([]) => None,
        Some([leaf]) => Some(Identity::parse(leaf).ok_or_else(|| io::Error::other("unreadable client certificate"))?),
        Some(chain) => return Err(io::Error::other(format!("client chain of {} certificates", chain.len()))),
    };
    Ok(Peer::new(number, identity, faults))
}
