//! gRPC over a stream that we dialled: one HTTP/2 connection, any number of calls at the same time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use teleport_api::codec::TOO_MANY_FIELDS;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service as _;

use super::http::retry_after;
use super::{Error, Stream};
use crate::address::HostPort;
use crate::retry::{Deadline, RetryAfter, WaitingFor};
use crate::text::{sanitize, sanitize_nested};

/// Flow-control window per stream and connection, in bytes. HTTP/2's 64 KiB would make one round trip per 64 KiB the
/// speed limit of a file copy over ssh (docs/protocol.md, "Stream limits").
const WINDOW: u32 = 4 << 20;

/// A connection to one gRPC server. Clones share it.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: SendRequest<Body>,
    origin: Uri,
}

impl Channel {
    /// Speaks HTTP/2 over `stream`. This costs no round trip: the first call is sent with the preface.
    pub(crate) async fn new(stream: Stream, proxy: &HostPort) -> Result<Self, Error> {
        let broken = |reason: String| Error::Broken { addr: proxy.to_string(), reason };
        let origin: Result<Uri, _> = format!("https://{proxy}").parse();
        let origin = origin.map_err(|error| broken(error.to_string()))?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| broken(error.to_string()))?;
        // Ends by itself when the last clone and the last call are gone. Its errors reach the calls.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { sender, origin })
    }

    /// Calls a method that no server has. A server that knows the service answers `unknown method`, any other `unknown
    /// service`. Both are `Unimplemented`, and the service itself does nothing.
    pub(crate) async fn probe(&mut self, service: &str, addr: &str, deadline: Deadline) -> Result<Status, Error> {
        let uri = format!("{}{service}/Doctor", self.origin);
        let asking = async {
            let request = Request::post(uri)
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers")
                // An empty message: not compressed, length 0.
                .body(Body::new(Full::new(Bytes::from_static(&[0; 5]))))
                .map_err(|error| super::error::broken(addr, &error))?;
            let answer = self.call(request).await.map_err(|error| Self::broken(&*error, addr))?;
            Ok(Status::from_header_map(answer.headers()).unwrap_or_else(|| Status::unknown("no status")))
        };
        deadline.bound(WaitingFor { addr: addr.to_owned(), what: "a gRPC answer" }, asking).await
    }

    fn broken(error: &(dyn std::error::Error + 'static), addr: &str) -> Error {
        match error.downcast_ref::<NotGrpc>() {
            Some(NotGrpc(status, retry_after)) => {
                Error::NotGrpc { addr: addr.to_owned(), status: *status, retry_after: *retry_after }
            }
            None => super::error::broken(addr, error),
        }
    }

    /// The prefix of a call's path in tonic's clients. Servers ignore it.
    pub(crate) fn origin(&self) -> Uri {
        self.origin.clone()
    }
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    /// A connection that has ended meanwhile (GOAWAY) is not reported here, because tonic would turn that into a status
    /// that looks like the server's. The call reports it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // No `version` metadata: a missing one is accepted, a wrong one is not (docs/protocol.md, "Client version").
        let agent = HeaderValue::from_static(concat!("teleport-pipe/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let answer = self.sender.send_request(request);
        Box::pin(async move {
            let answer = answer.await?;
            let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            // Any other answer comes from something in front of the service, and tonic would make up a gRPC status for it.
            match answer.status().as_u16() {
                200 if kind.starts_with("application/grpc") => Ok(answer),
                status => Err(NotGrpc(status, retry_after(answer.headers())).into()),
            }
        })
    }
}

/// An HTTP answer that is not gRPC: its status, and `Retry-After`.
#[derive(Debug, thiserror::Error)]
#[error("HTTP {0} where gRPC was expected")]
struct NotGrpc(u16, RetryAfter);

/// The messages of tonic, and of Go's gRPC in the cluster, about a message that is larger than they read (4 MiB both). Go's
/// code for it is `ResourceExhausted`, as for a rate limit, but trying again does not help.
const TOO_LARGE: [&str; 2] = ["decoded message length too large", "message larger than max"];

/// The messages of tonic about an answer that is incomplete.
const CUT_SHORT: [&str; 2] = ["Unexpected EOF decoding stream", "missing grpc-status trailer"];

/// The messages of tonic about bytes that are not a message.
const GARBLED: [&str; 3] = ["protocol error: ", "failed to decode Protobuf message", "Missing response message"];

/// The status with which a server ended a call, fit for a log.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) retry_after: RetryAfter,
}

impl Refusal {
    /// Fails if tonic made the status up because the connection under the call failed.
    pub(crate) fn from_status(status: &Status, addr: &str) -> Result<Self, Error> {
        let (code, message) = (status.code(), sanitize_nested(status.message()));
        let refusal = Self { code, message, retry_after: retry_after_of(status) };
        broken(status, addr).map_or(Ok(refusal), Err)
    }
}

/// The failure of the connection under a call, or `None` if the status is an answer of the server. A status that tonic made
/// up from an error has that error as its source; a status that was received has none.
fn broken(status: &Status, addr: &str) -> Option<Error> {
    let contains = |texts: &[&str]| texts.iter().any(|text| status.message().contains(text));
    let addr = addr.to_owned();
    match std::error::Error::source(status) {
        _ if contains(&TOO_LARGE) => Some(Error::TooLarge { addr, most: "4 MiB" }),
        _ if contains(&[TOO_MANY_FIELDS]) => Some(Error::TooLarge { addr, most: "32768 fields" }),
        Some(source) => Some(Channel::broken(source, &addr)),
        None if contains(&CUT_SHORT) => {
            Some(Error::Broken { addr, reason: "it ended in the middle of an answer".to_owned() })
        }
        None if contains(&GARBLED) => Some(Error::Garbled { addr, reason: sanitize(status.message()) }),
        None => None,
    }
}

/// When the server wants to be called again: the header of HTTP, or that of gRPC in milliseconds (gRFC A6).
fn retry_after_of(status: &Status) -> RetryAfter {
    let pushback = status.metadata().get("grpc-retry-pushback-ms").and_then(|value| value.to_str().ok());
    match pushback.and_then(|text| text.parse().ok()) {
        Some(millis) => RetryAfter::asked(Duration::from_millis(millis)),
        None => retry_after(status.metadata().as_ref()),
    }
}

/// Whether the server may answer the same call differently a moment later. OIDC failures are `Unknown`, too
/// (docs/protocol.md, "ID token checks"), so `Unknown` is for the caller to judge by its text.
pub(crate) fn is_temporary(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted)
}

/// The name of a code as in the documentation of gRPC.
pub(crate) fn code_name(code: Code) -> String {
    format!("{code:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_when_to_ask_again() {
        let read = |name: &'static str, value: &str| {
            let mut status = Status::resource_exhausted("rate limit exceeded");
            status.metadata_mut().insert(name, value.parse().unwrap());
            Refusal::from_status(&status, "p:443").unwrap().retry_after
        };
        assert_eq!(read("retry-after", "7"), RetryAfter::asked(Duration::from_secs(7)));
        assert_eq!(read("grpc-retry-pushback-ms", "1500"), RetryAfter::asked(Duration::from_millis(1500)));
        assert_eq!(read("grpc-retry-pushback-ms", "-1"), RetryAfter::default());
    }

    #[test]
    fn failures_of_the_connection_are_not_answers_of_the_server() {
        let refusal = Refusal::from_status(&Status::unknown("OIDC\n\tsays no"), "p:443").unwrap();
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::Unknown, "OIDC: says no"));
        let failure = |status: Status| Refusal::from_status(&status, "p:443").unwrap_err();
        let html = Status::from_error(Box::new(NotGrpc(464, RetryAfter::default())));
        assert!(matches!(failure(html), Error::NotGrpc { status: 464, .. }));
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        let refused = Status::from_error(Box::new(std::io::Error::other(alert)));
        assert!(matches!(failure(refused), Error::ClientRefused { .. }));
        let large = Status::resource_exhausted("grpc: received message larger than max (5 vs. 4)");
        assert!(matches!(failure(large), Error::TooLarge { .. }));
        let garbled = Status::internal("failed to decode Protobuf message: invalid wire type");
        assert!(matches!(failure(garbled), Error::Garbled { .. }));
        let cut = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert!(matches!(failure(cut), Error::Broken { .. }));
    }
}
