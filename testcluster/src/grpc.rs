//! gRPC over TLS: the services of each route, and the record of their calls.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use teleport_api::proto::auth_service_server::AuthServiceServer;
use teleport_api::teleport::join::v1::join_service_server::JoinServiceServer;
use teleport_api::teleport::transport::v1::transport_service_server::TransportServiceServer;
use teleport_api::teleport::trust::v1::trust_service_server::TrustServiceServer;
use tonic::{Code, Status};
use tower_service::Service;

use crate::alpn::Route;
use crate::auth::AuthApi;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::injection::{CallFault, FaultyBody, NetworkFault};
use crate::join_service::JoinApi;
use crate::listener::TlsConnection;
use crate::options::JoinService;
use crate::peer::Peer;
use crate::record::EventKind;
use crate::transport::TransportApi;
use crate::trust::TrustApi;

/// Streams that a client may have open on one connection (docs/protocol.md, "Stream limits").
const MAX_STREAMS: u32 = 1000;

type GrpcResponse = Response<tonic::body::Body>;

/// Serves a connection until either side ends it.
pub(crate) async fn serve(cluster: &Arc<Cluster>, connection: TlsConnection, peer: &Peer, route: Route) {
    let service = service_fn(|request: Request<Incoming>| {
        let (cluster, peer) = (Arc::clone(cluster), peer.clone());
        call(cluster, peer, route, request)
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(MAX_STREAMS)
        .serve_connection(TokioIo::new(connection), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client may end its connection in any way.
        _ = connection.as_mut() => return,
        () = peer.closed() => return,
        () = peer.goaway() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = peer.closed() => {}
    }
}

async fn call(
    cluster: Arc<Cluster>,
    peer: Peer,
    route: Route,
    mut request: Request<Incoming>,
) -> Result<Response<RecordedBody>, h2::Error> {
    let name = request.uri().path().to_owned();
    let number = cluster.record.next_call();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    cluster.record.add(
        peer.connection(),
        EventKind::Call {
            call: number,
            name: name.clone(),
            version: header("version"),
            user_agent: header("user-agent"),
        },
    );
    let recorder =
        Recorder { cluster: Arc::clone(&cluster), connection: peer.connection(), number, name, ended: false };
    if route == Route::Auth && cluster.faults.trigger(Fault::DropAuthConnectionOnce) {
        peer.close();
        // The connection must not end with a response.
        std::future::pending::<()>().await;
    }
    let call_fault = CallFault::default();
    let path = request.uri().path();
    let method = path.rsplit('/').next().unwrap_or_default();
    if let Some(body) = cluster.lies.message(method).map(FaultyBody::message) {
        return Ok(RecordedBody::replaced(200, "application/grpc", Some(body), recorder));
    }
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(call_fault.clone());
    let response = dispatch(cluster, route, request).await;
    match call_fault.take() {
        Some(NetworkFault::ResetStream) => Err(h2::Reason::REFUSED_STREAM.into()),
        Some(fault) => Ok(RecordedBody::faulty(fault, recorder)),
        None => Ok(RecordedBody::new(response, recorder, call_fault)),
    }
}

/// Calls the service, if the route has it.
async fn dispatch(cluster: Arc<Cluster>, route: Route, request: Request<Incoming>) -> GrpcResponse {
    let path = request.uri().path();
    let service = path.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
    match (route, service.as_str()) {
        (Route::Join, "teleport.join.v1.JoinService") if cluster.options.join_service != JoinService::Absent => {
            run(JoinServiceServer::new(JoinApi::new(cluster)), request).await
        }
        (Route::Auth, "proto.AuthService") => run(AuthServiceServer::new(AuthApi::new(cluster)), request).await,
        (Route::Auth, "teleport.trust.v1.TrustService") => {
            run(TrustServiceServer::new(TrustApi::new(cluster)), request).await
        }
        (Route::Transport, "teleport.transport.v1.TransportService") => {
            run(TransportServiceServer::new(TransportApi::new(cluster)), request).await
        }
        _ => Status::unimplemented(format!("unknown service {service}")).into_http(),
    }
}

async fn run<S>(mut service: S, request: Request<Incoming>) -> GrpcResponse
where
    S: Service<Request<Incoming>, Response = GrpcResponse, Error = Infallible>,
    S::Future: Future<Output = Result<GrpcResponse, Infallible>>,
{
    let path = request.uri().path().to_owned();
    let mut response = match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    // tonic has no message for an unknown method, and Teleport's servers do.
    let headers = response.headers_mut();
    if headers.get("grpc-status").is_some_and(|status| status == "12") && !headers.contains_key("grpc-message") {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let text = format!("unknown method {method} for service {service}");
        headers.insert("grpc-message", HeaderValue::try_from(text).expect("a path is ASCII"));
    }
    response
}

/// Records how a call ended, once.
struct Recorder {
    cluster: Arc<Cluster>,
    connection: u64,
    number: u64,
    name: String,
    ended: bool,
}

impl Recorder {
    fn record_end(&mut self, code: String) {
        if !std::mem::replace(&mut self.ended, true) {
            let event = EventKind::Answered { call: self.number, name: std::mem::take(&mut self.name), code };
            self.cluster.record.add(self.connection, event);
        }
    }

    fn record_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.record_end(format!("{:?}", Code::from_bytes(status.as_bytes())));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.record_end("Cancelled".to_owned());
    }
}

/// A body that records the status of its call, which is in the trailers.
struct RecordedBody {
    body: tonic::body::Body,
    recorder: Recorder,
    call_fault: CallFault,
    faulty_body: Option<FaultyBody>,
}

impl RecordedBody {
    fn new(response: GrpcResponse, mut recorder: Recorder, call_fault: CallFault) -> Response<Self> {
        // If the call failed at once, its status is in the headers.
        recorder.record_status(response.headers());
        response.map(|body| Self { body, recorder, call_fault, faulty_body: None })
    }

    fn replaced(
        status: u16,
        kind: &'static str,
        faulty_body: Option<FaultyBody>,
        recorder: Recorder,
    ) -> Response<Self> {
        let body = tonic::body::Body::empty();
        let mut response = Response::new(Self { body, recorder, call_fault: CallFault::default(), faulty_body });
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    /// A response in place of the handler's: an HTTP status, as a load balancer would respond, or gRPC with an invalid
    /// body.
    fn faulty(fault: NetworkFault, recorder: Recorder) -> Response<Self> {
        let (status, kind, wait) = match fault {
            NetworkFault::Page(status) => (status, "text/html", None),
            NetworkFault::Http(status, wait) => (status, "application/json", wait),
            _ => (200, "application/grpc", None),
        };
        let faulty_body = (kind == "application/grpc").then(|| FaultyBody::new(fault));
        let mut response = Self::replaced(status, kind, faulty_body, recorder);
        if let Some(wait) = wait {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.faulty_body.is_none() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            let Some(fault) = self.call_fault.take() else {
                if let Some(Ok(frame)) = &frame
                    && let Some(trailers) = frame.trailers_ref()
                {
                    self.recorder.record_status(trailers);
                }
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            };
            // The last frame of the handler is replaced.
            self.faulty_body = Some(FaultyBody::new(fault));
        }
        let next = self.faulty_body.as_mut().and_then(FaultyBody::next);
        Poll::Ready(next.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        // Even an empty body may have been replaced.
        self.faulty_body.is_none() && self.body.is_end_stream()
    }
}
