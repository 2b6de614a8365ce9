//! The ports: looks at each ClientHello, and sends the connection where its ALPN list, or its port, leads.

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

/// A connection's bytes, near or far.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What a connection is served over.
pub(crate) type TlsConnection = TlsStream<Box<dyn ByteStream>>;

/// What a port is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port {
    /// Web and join, and whatever else ALPN leads to; a load balancer may stand here instead.
    Web,
    /// The SSH proxy: the transport service, whatever ALPN is offered (teleport-ssh-proxy.md 4). Plain SSH is not
    /// served.
    Ssh,
    /// Reverse tunnels: SSH, of which only the first faults is served.
    Tunnel,
}

/// Takes connections until the cluster ends.
pub(crate) async fn listen(cluster: Arc<Cluster>, listener: TcpListener, port: Port) {
    loop {
        // Accepting fails for connections that are gone already, and when descriptors run out; neither lasts.
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
    // Small frames both ways; waiting for more of them would look like latency.
    connection.set_nodelay(true)?;
    if cluster.faults.has(Fault::Hang) {
        std::future::pending::<()>().await;
    }
    if cluster.faults.trigger(Fault::ResetOnce) {
        // With unread bytes and no lingering, closing is a reset.
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
        (Port::Tunnel, _) => tunnel(bytes).await,
    }
}

/// By which way a connection came in: what it may lead to, and behind which certificate.
#[derive(Clone, Copy, Debug)]
enum Ingress {
    Web,
    Upgrade,
    Only(Route),
}

/// A connection inside another one that was upgraded. Boxed, because serving the web leads here again.
pub(crate) fn serve_upgraded(
    cluster: Arc<Cluster>,
    bytes: Box<dyn ByteStream>,
    number: u64,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    serve_nested(cluster, bytes, number, Ingress::Upgrade)
}

/// A connection to Auth inside a call of the transport service.
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

/// Says what it is, and no more.
async fn tunnel(mut bytes: Box<dyn ByteStream>) -> io::Result<()> {
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
    let Some((route, secured)) = timeout(HANDSHAKE_LIMIT, handshake).await?? else {
        return Ok(());
    };
    // Recorded before the connection ends, so that whoever sees it end finds the reason.
    let refuse = |error: &io::Error| cluster.record.add(number, EventKind::Refused(error.to_string()));
    let peer = match peer(number, &secured, faults) {
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
        Route::ReverseTunnel | Route::LoadBalancer => {}
        Route::Web => web::serve(cluster, secured, &peer, negotiated.as_deref()).await,
        // gRPC's servers drop a connection whose protocol is not HTTP/2.
        _ if negotiated.as_deref() == Some(HTTP1) => {
            refuse(&io::Error::other("a gRPC client that agreed on http/1.1"));
        }
        Route::Join | Route::Auth | Route::Transport => grpc::serve(cluster, secured, &peer, route).await,
    }
    Ok(())
}

/// A ClientHello, and the connection that waits for the answer.
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
    let inside = matches!(ingress, Ingress::Upgrade);
    let mut config = cluster.server_configs.of(route, inside);
    match cluster.injector.trigger(Point::Handshake(route)) {
        None => {}
        Some(
            fault @ (NetworkFault::CertForOtherKey
            | NetworkFault::CertExpired
            | NetworkFault::CertForOtherName
            | NetworkFault::CertOfOtherCa),
        ) => {
            config = cluster.bad_certificates.with_bad_certificate(
                cluster,
                !inside && route.uses_web_certificate(),
                &config,
                fault,
            )
        }
        Some(fault) => inject(fault, faults).await?,
    }
    Ok(Some((route, hello.start.into_stream(config).await?)))
}

/// FaultInjection over a connection that has no protocol yet: an error where it is to end.
async fn inject(fault: NetworkFault, faults: &StreamFaults) -> io::Result<()> {
    match fault {
        NetworkFault::Slow => tokio::time::sleep(SLOW).await,
        // In the middle of the server's first flight.
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

/// Who is on the other end. Auth takes the client's leaf and nothing above it (teleport-issue-and-outputs.md 1.2).
fn peer(number: u64, secured: &TlsConnection, faults: Arc<StreamFaults>) -> io::Result<Peer> {
    let identity = match secured.get_ref().1.peer_certificates() {
        None | Some([]) => None,
        Some([leaf]) => Some(Identity::parse(leaf).ok_or_else(|| io::Error::other("unreadable client certificate"))?),
        Some(chain) => return Err(io::Error::other(format!("client chain of {} certificates", chain.len()))),
    };
    Ok(Peer::new(number, identity, faults))
}
