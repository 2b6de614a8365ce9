//! A layer 7 load balancer in front of the proxy. It terminates TLS and forwards requests to the proxy's web server;
//! the connection between the two is not simulated.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::alpn::{H2, HTTP1, Route};
use crate::cluster::Cluster;
use crate::layout::{Backend, BalancerAlpn, LoadBalancer};
use crate::listener::{ClientHello, TlsConnection};
use crate::peer::Peer;
use crate::record::EventKind;
use crate::web::{self, WebBody};

impl LoadBalancer {
    /// The ALPN names that it supports for a client's list. An empty list keeps rustls from refusing the handshake.
    pub(crate) fn alpn_names(self, offered: &[String]) -> &'static [&'static str] {
        let known: &[&str] = match self.alpn {
            BalancerAlpn::Ignored => &[],
            BalancerAlpn::Refused => return &[HTTP1],
            BalancerAlpn::H2As464 => &[H2, HTTP1],
            BalancerAlpn::H2As502 | BalancerAlpn::H2Silent => return &[H2, HTTP1],
        };
        if offered.iter().any(|name| known.contains(&name.as_str())) { known } else { &[] }
    }

    /// The response to a gRPC call that cannot be forwarded.
    fn refuse_grpc(self) -> Response<WebBody> {
        match self.alpn {
            // AWS documents 464 as an incompatible protocol version of the target.
            BalancerAlpn::H2As464 => {
                let mut response = Response::new(WebBody::default());
                *response.status_mut() = StatusCode::from_u16(464).unwrap_or(StatusCode::BAD_GATEWAY);
                response
            }
            _ => web::html(
                StatusCode::BAD_GATEWAY,
                "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center>\
                 <hr><center>nginx</center></body></html>",
            ),
        }
    }
}

/// Serves a client's connection.
pub(crate) async fn serve(
    cluster: &Arc<Cluster>,
    balancer: LoadBalancer,
    hello: ClientHello,
    number: u64,
) -> io::Result<()> {
    cluster.record.add(number, hello.event(Some(Route::LoadBalancer)));
    let config = cluster.server_configs.web_with_alpn(balancer.alpn_names(&hello.offered));
    let connection: TlsConnection = hello.start.into_stream(config).await?;
    let negotiated = connection.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    cluster.record.add(number, EventKind::Handshake { negotiated: negotiated.clone(), client: None });
    let peer = Peer::new(number, None, Arc::default());
    let service = service_fn(|request| {
        let (cluster, peer) = (Arc::clone(cluster), peer.clone());
        async move { Ok::<_, Infallible>(forward(&cluster, balancer, &peer, request).await) }
    });
    let io = TokioIo::new(connection);
    // A client may end its connection in any way.
    if negotiated.as_deref() == Some(H2) {
        let _ended = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ended = http1::Builder::new().serve_connection(io, service).with_upgrades().await;
    }
    Ok(())
}

async fn forward(
    cluster: &Arc<Cluster>,
    balancer: LoadBalancer,
    peer: &Peer,
    mut request: Request<Incoming>,
) -> Response<WebBody> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/grpc") {
        if balancer.alpn == BalancerAlpn::H2Silent {
            std::future::pending::<()>().await;
        }
        return web::recorded(cluster, peer, request, |_| std::future::ready(balancer.refuse_grpc())).await;
    }
    if balancer.backend == Backend::NoUpgrades {
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().remove(UPGRADE);
    }
    web::call(cluster, peer, request).await
}
