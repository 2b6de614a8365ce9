//! Connection upgrade: Teleport's protocols inside a WebSocket. It is needed if a load balancer in front of the proxy
//! terminates TLS and so removes the protocol names (ALPN) (docs/protocol.md, "Connection upgrade").

use base64ct::{Base64, Encoding as _};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{
    CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rand_core::{OsRng, RngCore as _};

use super::error::broken;
use super::http::retry_after;
use super::tls::Service;
use super::websocket::WebSocket;
use super::{Error, Stream};
use crate::retry::{Deadline, WaitingFor};

/// tbot's variable for [`Upgrade`].
pub(crate) const VARIABLE: &str = "TELEPORT_TLS_ROUTING_CONN_UPGRADE";

/// Whether connections to the web port are upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// If a connection without an upgrade has shown that a load balancer terminates TLS.
    IfNeeded,
    Always,
    Never,
}

impl Upgrade {
    /// The value of tbot's [`VARIABLE`] for this address (`host:port`). Its items are `<addr>=<bool>`, or `<bool>` for
    /// all other addresses, with `,` or `;` between them. A variable that does not mention the address means no
    /// (docs/protocol.md, "Connection upgrade").
    pub(crate) fn from_variable(text: Option<&str>, addr: &str) -> Self {
        let Some(text) = text else { return Self::IfNeeded };
        let items = || text.split([',', ';']);
        let own = items().find_map(|item| item.split_once(&format!("{addr}=")));
        let value = match own {
            Some((_, text)) => go_bool(text),
            None => items().filter_map(go_bool).next_back(),
        };
        if value == Some(true) { Self::Always } else { Self::Never }
    }
}

/// The words that Teleport accepts for a boolean, which are not those of our own variables.
fn go_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "yeah" | "y" | "true" | "1" | "on" => Some(true),
        "no" | "nope" | "n" | "false" | "0" | "off" => Some(false),
        _ => None,
    }
}

/// The server appends this to the key before it hashes it (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Upgrades `stream`, a TLS connection to a load balancer. The result leads to the proxy itself, which expects nested TLS.
pub(crate) async fn connect(
    stream: Stream,
    addr: &str,
    service: &Service,
    deadline: Deadline,
) -> Result<Stream, Error> {
    // With `alpn-ping` the proxy pings the connection, so that nothing on the way takes it for dead. Connections to the
    // proxy's own services are too short to need that.
    let protocol = if matches!(service, Service::Web | Service::Join) { "alpn" } else { "alpn-ping" };
    let awaited = WaitingFor { addr: addr.to_owned(), what: "a connection upgrade" };
    deadline.bound(awaited, request(stream, addr, protocol)).await
}

async fn request(stream: Stream, addr: &str, protocol: &'static str) -> Result<Stream, Error> {
    let broken = |error: hyper::Error| broken(addr, &error);
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection.with_upgrades());
    let mut random = [0; 16];
    OsRng.fill_bytes(&mut random);
    let key = Base64::encode_string(&random);
    let request = Request::get("/webapi/connectionupgrade")
        .header(HOST, addr)
        .header(USER_AGENT, concat!("teleport-pipe/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .header(SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(Full::<Bytes>::default())
        .map_err(|error| super::error::broken(addr, &error))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    check(&response, addr, &key, protocol)?;
    let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
    Ok(Box::new(WebSocket::new(TokioIo::new(upgraded))))
}

/// Whether the server has upgraded the connection.
fn check<B>(response: &Response<B>, addr: &str, key: &str, protocol: &str) -> Result<(), Error> {
    let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let refused = |answer: String| Err(Error::NoUpgrade { addr: addr.to_owned(), answer });
    match response.status().as_u16() {
        101 => {}
        // These may be gone at the next attempt.
        status @ (429 | 502 | 503 | 504) => {
            let message = "to a connection upgrade".to_owned();
            let (addr, retry_after) = (addr.to_owned(), retry_after(response.headers()));
            return Err(Error::Status { addr, status, message, retry_after });
        }
        status => return refused(status.to_string()),
    }
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    if header(SEC_WEBSOCKET_ACCEPT) != Some(&Base64::encode_string(digest.as_ref())) {
        return refused("101 for another key".to_owned());
    }
    if header(SEC_WEBSOCKET_PROTOCOL) != Some(protocol) {
        return refused(format!("101 without the protocol {protocol}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable() {
        use Upgrade::{Always, IfNeeded, Never};
        assert_eq!(Upgrade::from_variable(None, "a:443"), IfNeeded);
        for (text, expected) in [
            ("true", Always),
            ("YES", Always),
            ("0", Never),
            ("b:443=true", Never),
            ("a:443=on", Always),
            ("true;a:443=off", Never),
            ("a:443=maybe,true", Never),
            ("no,a:443=1,a:443=0", Always),
            ("no,b:443=1,yes", Always),
            ("xa:443=1", Always),
            ("t", Never),
            (" true", Never),
        ] {
            assert_eq!(Upgrade::from_variable(Some(text), "a:443"), expected, "{text}");
        }
    }

    fn answer(status: u16, headers: &[(&str, &str)]) -> Result<(), String> {
        let response =
            headers.iter().fold(Response::builder().status(status), |b, (name, value)| b.header(*name, *value));
        // The example of RFC 6455, section 1.3.
        check(&response.body(()).unwrap(), "p:443", "dGhlIHNhbXBsZSBub25jZQ==", "alpn").map_err(|e| e.to_string())
    }

    #[test]
    fn answers_to_an_upgrade() {
        let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer(101, &[accept, ("sec-websocket-protocol", "alpn")]), Ok(()));
        for (status, headers) in [
            (101, &[accept][..]),
            (101, &[accept, ("sec-websocket-protocol", "alpn-ping")]),
            (101, &[("sec-websocket-accept", "else"), ("sec-websocket-protocol", "alpn")]),
            (200, &[]),
            (404, &[]),
        ] {
            let error = answer(status, headers).unwrap_err();
            assert!(error.contains("connection upgrade"), "{error}");
        }
        assert_eq!(answer(503, &[]).unwrap_err(), "p:443 answered 503 (to a connection upgrade)");
    }
}
