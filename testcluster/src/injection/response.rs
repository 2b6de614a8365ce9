//! Faults of an HTTP/1.1 exchange.

use hyper::Response;
use hyper::header::{HeaderValue, LOCATION, RETRY_AFTER};
use serde_json::json;

use super::{NetworkFault, Point, SLOW};
use crate::cluster::Cluster;
use crate::peer::Peer;
use crate::web::{WebBody, html, reply, typed};

/// The response that replaces the real one. `None` if there is no fault, or only a delay.
pub(crate) async fn inject_response(cluster: &Cluster, peer: &Peer, point: Point) -> Option<Response<WebBody>> {
    if let Point::Before(exchange) = point
        && let Some((status, body)) = cluster.lies.answer(exchange)
    {
        let status = hyper::StatusCode::from_u16(status).unwrap_or_default();
        return Some(typed(status, "application/json", body.to_owned()));
    }
    if let Point::Before(exchange) = point
        && let Some(location) = cluster.lies.redirect(exchange)
    {
        let mut response = typed(hyper::StatusCode::TEMPORARY_REDIRECT, "text/html", String::new());
        response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).expect("an address is ASCII"));
        return Some(response);
    }
    if let Point::Before(exchange) = point
        && let Some(text) = cluster.lies.refusal(exchange)
    {
        let status = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        return Some(reply(status, &json!({"error": {"message": text}, "message": text})));
    }
    let ok = hyper::StatusCode::OK;
    let status = |status| hyper::StatusCode::from_u16(status).unwrap_or(ok);
    match cluster.injector.trigger(point)? {
        NetworkFault::Close => peer.close(),
        NetworkFault::Reset => peer.reset(),
        NetworkFault::Slow => {
            tokio::time::sleep(SLOW).await;
            return None;
        }
        NetworkFault::Garbage => return Some(typed(ok, "application/json", "\u{1}\u{2}}{".repeat(100))),
        NetworkFault::Truncated => {
            let mut response = typed(ok, "application/json", String::new());
            *response.body_mut() = WebBody::truncated(&" ".repeat(1000));
            return Some(response);
        }
        NetworkFault::Oversized => {
            let mut response = typed(ok, "application/json", String::new());
            *response.body_mut() = WebBody::Endless;
            return Some(response);
        }
        NetworkFault::Page(code) => {
            return Some(html(status(code), "<!DOCTYPE html><html><body>Something is wrong</body></html>"));
        }
        NetworkFault::Http(code, wait) => {
            let text = if code == 429 { "rate limit exceeded" } else { "something is wrong" };
            let mut response = reply(status(code), &json!({"error": {"message": text}, "message": text}));
            if let Some(wait) = wait {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
            }
            return Some(response);
        }
        // `Stall`; the others concern other protocols.
        _ => {}
    }
    std::future::pending().await
}
