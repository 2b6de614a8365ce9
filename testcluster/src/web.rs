//! The proxy's web server: discovery, the REST join, and connection upgrades.

mod body;
mod find;
mod host_credentials;

use std::convert::Infallible;
use std::sync::Arc;

pub(crate) use body::WebBody;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, DATE, HeaderValue, LOCATION, SERVER};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::alpn::H2;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::injection::{Exchange, Point, inject_response};
use crate::listener::TlsConnection;
use crate::peer::Peer;
use crate::record::EventKind;
use crate::refusal::Refusal;
use crate::upgrade;

/// Serves a connection until either side ends it. HTTP/2 is for clients that offered nothing else.
pub(crate) async fn serve(cluster: &Arc<Cluster>, connection: TlsConnection, peer: &Peer, negotiated: Option<&str>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (cluster, peer) = (Arc::clone(cluster), peer.clone());
        async move { Ok::<_, Infallible>(call(&cluster, &peer, request).await) }
    });
    let io = TokioIo::new(connection);
    // A client may end its connection in any way.
    let serving = async {
        if negotiated == Some(H2) {
            let _ended = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        } else {
            let _ended = http1::Builder::new().serve_connection(io, service).with_upgrades().await;
        }
    };
    tokio::select! {
        () = serving => {}
        () = peer.closed() => {}
    }
}

/// Handles and records a request to the web server.
pub(crate) async fn call(cluster: &Arc<Cluster>, peer: &Peer, request: Request<Incoming>) -> Response<WebBody> {
    recorded(cluster, peer, request, |request| route(cluster, peer, request)).await
}

/// Handles and records a request.
pub(crate) async fn recorded<F>(
    cluster: &Cluster,
    peer: &Peer,
    request: Request<Incoming>,
    handle: impl FnOnce(Request<Incoming>) -> F,
) -> Response<WebBody>
where
    F: Future<Output = Response<WebBody>>,
{
    let number = cluster.record.next_call();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let name = format!("{} {}", request.method(), request.uri().path());
    let (version, user_agent) = (header("version"), header("user-agent"));
    cluster.record.add(peer.connection(), EventKind::Call { call: number, name: name.clone(), version, user_agent });
    let mut response = handle(request).await;
    if cluster.options.clock_offset != 0 {
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(cluster.now());
        let date = HeaderValue::try_from(httpdate::fmt_http_date(date)).expect("a date is ASCII");
        response.headers_mut().insert(DATE, date);
    }
    let code = response.status().as_u16().to_string();
    cluster.record.add(peer.connection(), EventKind::Answered { call: number, name, code });
    response
}

/// Every path exists with and without a version prefix (docs/protocol.md, "Discovery" and "REST join").
async fn route(cluster: &Arc<Cluster>, peer: &Peer, request: Request<Incoming>) -> Response<WebBody> {
    let path = request.uri().path();
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let exchange = match path {
        "/webapi/find" => Some(Exchange::Find),
        "/webapi/host/credentials" => Some(Exchange::RestJoin),
        _ => None,
    };
    if let Some(exchange) = exchange
        && let Some(response) = inject_response(cluster, peer, Point::Before(exchange)).await
    {
        return response;
    }
    let response = match (request.method(), path) {
        (&Method::GET, "/webapi/find") => find(cluster),
        (&Method::POST, "/webapi/host/credentials") if cluster.options.rest_join => {
            match host_credentials::join(cluster, peer, request).await {
                Ok(certificates) => reply(StatusCode::OK, &certificates),
                Err(refusal) => refuse(&refusal),
            }
        }
        (&Method::GET, "/webapi/connectionupgrade") if cluster.options.has_upgrade() => {
            match upgrade::switch(cluster, peer, request) {
                Ok(response) => response,
                Err(upgrade::Error::Unsupported(refusal)) => refuse(&refusal),
                Err(upgrade::Error::BadHandshake) => {
                    typed(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", "bad WebSocket handshake\n".to_owned())
                }
            }
        }
        _ => html(StatusCode::NOT_FOUND, "<!DOCTYPE html><html><body>404 page not found</body></html>"),
    };
    match exchange {
        Some(exchange) => inject_response(cluster, peer, Point::After(exchange)).await.unwrap_or(response),
        None => response,
    }
}

fn find(cluster: &Cluster) -> Response<WebBody> {
    let faults = &cluster.faults;
    if faults.has(Fault::Find500) {
        return refuse(&Refusal::other("internal error"));
    }
    if faults.has(Fault::FindHtml) {
        return html(StatusCode::OK, "<!DOCTYPE html><html><body>Sign in to continue</body></html>");
    }
    if faults.has(Fault::FindNginx404) {
        let mut response =
            html(StatusCode::NOT_FOUND, "<html><body><center><h1>404 Not Found</h1></center></body></html>");
        response.headers_mut().insert(SERVER, HeaderValue::from_static("nginx/1.24.0"));
        return response;
    }
    if faults.has(Fault::FindRedirect) {
        let mut response = html(StatusCode::FOUND, "");
        let location = "https://login.example.com/authorize?state=bG9uZyBhbmQgc2VjcmV0";
        response.headers_mut().insert(LOCATION, HeaderValue::from_static(location));
        return response;
    }
    let mut response = reply(StatusCode::OK, &find::body(cluster));
    if faults.has(Fault::FindTruncated) {
        *response.body_mut() = WebBody::truncated(&find::body(cluster).to_string());
    } else if faults.has(Fault::FindEndless) {
        *response.body_mut() = WebBody::Endless;
    }
    response
}

pub(crate) fn reply(status: StatusCode, value: &Value) -> Response<WebBody> {
    typed(status, "application/json", value.to_string())
}

/// The response for an error (docs/protocol.md, "Error answers").
fn refuse(refusal: &Refusal) -> Response<WebBody> {
    let status = StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, &json!({"error": {"message": refusal.message()}, "message": refusal.message()}))
}

/// An HTML page.
pub(crate) fn html(status: StatusCode, text: &str) -> Response<WebBody> {
    typed(status, "text/html; charset=utf-8", text.to_owned())
}

pub(crate) fn typed(status: StatusCode, kind: &'static str, text: String) -> Response<WebBody> {
    let mut response = Response::new(WebBody::Whole(Some(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
