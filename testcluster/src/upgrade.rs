//! `GET /webapi/connectionupgrade`: TLS to the proxy inside an HTTP connection, for clients behind a load balancer that
//! terminates TLS (docs/protocol.md, "Connection upgrade").

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::cluster::Cluster;
use crate::listener;
use crate::peer::Peer;
use crate::record::EventKind;
use crate::refusal::Refusal;
use crate::websocket::{self, Observation, WriteOptions};

const WEBSOCKET: &str = "websocket";
/// The sub-protocol in which the server pings.
const ALPN_PING: &str = "alpn-ping";
const PROTOCOLS: [&str; 2] = ["alpn", ALPN_PING];
/// Buffer between the WebSocket and the connection inside it.
const BUFFER: usize = 64 * 1024;

/// Why a connection is not upgraded.
pub(crate) enum Error {
    /// The request asks for no upgrade, or for an unknown one.
    Unsupported(Refusal),
    /// The headers of the WebSocket handshake are invalid.
    BadHandshake,
}

/// Returns the response that switches protocols, and serves the connection inside the WebSocket in a task of its own.
pub(crate) fn switch<B: Default>(
    cluster: &Arc<Cluster>,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Response<B>, Error> {
    let headers = request.headers();
    if !list(headers, CONNECTION).any(|value| value.eq_ignore_ascii_case("upgrade"))
        || !list(headers, UPGRADE).any(|value| value.eq_ignore_ascii_case(WEBSOCKET))
    {
        return Err(Error::Unsupported(Refusal::not_found("unsupported upgrade types: []")));
    }
    let version_13 = list(headers, SEC_WEBSOCKET_VERSION).any(|version| version == "13");
    let key = list(headers, SEC_WEBSOCKET_KEY).next().filter(|_| version_13).ok_or(Error::BadHandshake)?;
    let protocol = list(headers, SEC_WEBSOCKET_PROTOCOL).find(|name| PROTOCOLS.contains(name)).map(str::to_owned);

    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let mut set = |name: HeaderName, value: &str| {
        let value = HeaderValue::from_str(value).expect("a value of the request's header, or base64");
        response.headers_mut().insert(name, value);
    };
    set(CONNECTION, "Upgrade");
    set(UPGRADE, WEBSOCKET);
    set(SEC_WEBSOCKET_ACCEPT, &websocket::accept(key));
    if let Some(protocol) = &protocol {
        set(SEC_WEBSOCKET_PROTOCOL, protocol);
    }

    let (cluster, outside) = (Arc::clone(cluster), peer.connection());
    let inside = cluster.record.next_connection();
    cluster.record.add(outside, EventKind::Upgrade { protocol: protocol.clone(), inside });
    let pings = (protocol.as_deref() == Some(ALPN_PING)).then_some(cluster.options.upgrade_ping);
    let options = WriteOptions { ping: pings, small_frames: cluster.options.small_websocket_frames };
    tokio::spawn(async move {
        // The client may have left.
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let (near, far) = tokio::io::duplex(BUFFER);
        tokio::spawn(listener::serve_upgraded(Arc::clone(&cluster), Box::new(far), inside));
        let note = |observed| {
            let event = match observed {
                Observation::Pong(same) => EventKind::Pong { same },
                Observation::Mistake(what) => EventKind::WebSocketMistake(what),
            };
            cluster.record.add(outside, event);
        };
        // A client may end its connection in any way.
        let _ended = websocket::relay(TokioIo::new(upgraded), near, options, note).await;
    });
    Ok(response)
}

/// The values of a header in all its lines.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect::<Vec<_>>()
        .into_iter()
}
