//! HTTP calls to the proxy, and to endpoints that issue ID tokens, over a stream that we dialled. Time and size are
//! limited. Redirects are not followed, because the ID token must not be sent to another host.

use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    ACCEPT, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SERVER, USER_AGENT,
};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;

use super::error::broken;
use super::{Error, Stream};
use crate::limits;
use crate::retry::{Deadline, RetryAfter, WaitingFor};

/// An HTTP/1.1 connection. Requests are sent one after the other.
pub(crate) struct Http {
    sender: SendRequest<Full<Bytes>>,
    addr: String,
}

/// A request.
pub(crate) struct Call<'a> {
    pub(crate) path: &'a str,
    pub(crate) is_post: bool,
    pub(crate) json: Option<Bytes>,
    pub(crate) accept: &'a str,
    pub(crate) headers: &'a [(HeaderName, &'a str)],
}

/// An answer. It has no `Debug` because it may contain certificates.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Without parameters, in lower case; empty if there is none.
    pub(crate) content_type: String,
    /// The `Server` header; empty if there is none.
    pub(crate) server: String,
    /// The host in `Location`; empty if there is none.
    pub(crate) redirect_host: String,
    /// The time of the answer by the server's clock.
    pub(crate) date: Option<SystemTime>,
    pub(crate) retry_after: RetryAfter,
    pub(crate) body: Vec<u8>,
}

impl Http {
    /// Speaks HTTP over `stream`; `addr` is the Host header.
    pub(crate) async fn new(stream: Stream, addr: String) -> Result<Self, Error> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(&addr, &error))?;
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { sender, addr })
    }

    /// Sends a `GET`, or a `POST` if there is a JSON body. An answer with any status is `Ok`.
    pub(crate) async fn send(&mut self, path: &str, json: Option<Bytes>, deadline: Deadline) -> Result<Answer, Error> {
        let is_post = json.is_some();
        self.call(Call { path, is_post, json, accept: "application/json", headers: &[] }, deadline).await
    }

    /// Sends a request. An answer with any status is `Ok`.
    pub(crate) async fn call(&mut self, call: Call<'_>, deadline: Deadline) -> Result<Answer, Error> {
        deadline.bound(WaitingFor { addr: self.addr.clone(), what: "an HTTP answer" }, self.exchange(call)).await
    }

    async fn exchange(&mut self, Call { path, is_post, json, accept, headers }: Call<'_>) -> Result<Answer, Error> {
        let addr = self.addr.as_str();
        let mut request = Request::get(path)
            .header(HOST, addr)
            .header(ACCEPT, accept)
            .header(USER_AGENT, concat!("teleport-pipe/", env!("CARGO_PKG_VERSION")));
        if is_post {
            request = request.method(Method::POST);
        }
        if json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|error| broken(addr, &error))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let request = request.body(Full::new(json.unwrap_or_default())).map_err(|error| broken(addr, &error))?;
        self.sender.ready().await.map_err(|error| broken(addr, &error))?;
        let response = self.sender.send_request(request).await.map_err(|error| broken(addr, &error))?;
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let body = match collect(body).await.map_err(|error| broken(addr, &error))? {
            Some(body) => body,
            // No proxy answers at such length.
            None => {
                let found = format!("{path} answered {status} and more than {} MiB", limits::HTTP_ANSWER_SIZE >> 20);
                return Err(Error::NotTeleport { addr: addr.to_owned(), found });
            }
        };
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let location = header(LOCATION).parse::<Uri>().unwrap_or_default();
        Ok(Answer {
            status,
            content_type: header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase(),
            server: header(SERVER).to_owned(),
            redirect_host: location.host().unwrap_or_default().to_owned(),
            date: httpdate::parse_http_date(header(DATE)).ok(),
            retry_after: retry_after(&head.headers),
            body,
        })
    }
}

/// The whole body, or `None` if it is larger than is read. It is put together as it comes, because a body of many small
/// pieces takes fifty times as much memory as its bytes.
async fn collect(mut body: Incoming) -> Result<Option<Vec<u8>>, hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > limits::HTTP_ANSWER_SIZE {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes))
}

/// `Retry-After`, in seconds or as a date. A date is compared with the server's own clock, if the answer has its time.
pub(super) fn retry_after(headers: &HeaderMap) -> RetryAfter {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = |name| text(name).and_then(|text| httpdate::parse_http_date(text).ok());
    let seconds = text(RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let until = || {
        let now = date(DATE).unwrap_or_else(SystemTime::now);
        date(RETRY_AFTER).map(|at| at.duration_since(now).unwrap_or_default())
    };
    seconds.or_else(until).map(RetryAfter::asked).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |header: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(header));
            headers.insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
            retry_after(&headers)
        };
        let seconds = |seconds| RetryAfter::asked(Duration::from_secs(seconds));
        assert_eq!(read(" 120"), seconds(120));
        assert_eq!(read("Sun, 06 Nov 1994 08:51:37 GMT"), seconds(120));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT"), seconds(0));
        for nonsense in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(read(nonsense), RetryAfter::default(), "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), RetryAfter::default());
    }
}
