//! Plain web calls to the proxy over a stream that we dialled. Bounded, and without redirects: the ID token must never
//! follow one to another host.

use std::time::SystemTime;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE, DATE, HOST, LOCATION, SERVER, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;

use super::error::broken;
use super::{Error, Stream};
use crate::retry::{Awaited, Deadline};

/// More than any honest answer: discovery has 2 KB, a join's certificates have 20 KB.
const MOST: usize = 1 << 20;

/// One HTTP/1.1 connection, for one request after the other.
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    addr: String,
}

/// An answer. There is no `Debug`: it may hold certificates.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Without parameters, in lower case; empty if not given.
    pub content_type: String,
    /// What serves there, by its own account; empty if not given.
    pub server: String,
    /// The host that a redirect leads to; empty if it is none, or names none.
    pub leads_to: String,
    /// When it was made, by the server's clock.
    pub date: Option<SystemTime>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Http {
    /// Speaks HTTP over `stream`; `addr` is the Host header.
    ///
    /// # Errors
    /// The stream is broken.
    pub async fn over(stream: Stream, addr: String) -> Result<Self, Error> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(&addr, &error))?;
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { sender, addr })
    }

    /// `GET`, or `POST` of JSON where there is a body.
    ///
    /// # Errors
    /// The connection breaks, the answer takes too long or is too large. Any status is an answer.
    pub async fn send(&mut self, path: &str, json: Option<Bytes>, deadline: Deadline) -> Result<Answer, Error> {
        let awaited = Awaited { addr: self.addr.clone(), what: "an HTTP answer" };
        deadline.bound(awaited, self.exchange(path, json)).await
    }

    async fn exchange(&mut self, path: &str, json: Option<Bytes>) -> Result<Answer, Error> {
        let addr = self.addr.as_str();
        let mut request = Request::builder()
            .uri(path)
            .header(HOST, addr)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("teleport-pipe/", env!("CARGO_PKG_VERSION")));
        if json.is_some() {
            request = request.method(Method::POST).header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(json.unwrap_or_default())).map_err(|error| broken(addr, &error))?;
        self.sender.ready().await.map_err(|error| broken(addr, &error))?;
        let response = self.sender.send_request(request).await.map_err(|error| broken(addr, &error))?;
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let server = header(SERVER).to_owned();
        let date = httpdate::parse_http_date(header(DATE)).ok();
        let leads_to = header(LOCATION).parse::<Uri>().ok().and_then(|to| to.host().map(str::to_owned));
        let content_type = header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = Limited::new(response.into_body(), MOST).collect().await.map_err(|error| match error
            .is::<LengthLimitError>()
        {
            true => Error::NotTeleport {
                addr: addr.to_owned(),
                found: format!("{path} answered {status} and more than 1 MiB"),
            },
            false => broken(addr, &*error),
        })?;
        Ok(Answer {
            status,
            content_type,
            server,
            leads_to: leads_to.unwrap_or_default(),
            date,
            body: body.to_bytes().to_vec(),
        })
    }
}
