//! HTTP CONNECT, by hyper over our own stream. hyper's `with_upgrades` and hyper-util's `Tunnel` do not return the body of a
//! refusal, nor the bytes of an answer that is not HTTP.

use std::future::poll_fn;
use std::io::Cursor;
use std::pin::pin;

use base64ct::{Base64, Encoding as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, join, split};
use zeroize::Zeroizing;

use super::forward_proxy::{Credentials, Proxy};
use crate::address::HostPort;
use crate::net::Stream;
use crate::net::error::egress::Error;
use crate::net::error::reasons;
use crate::text::sanitize;

/// The most that is read of the page of a refusal, in bytes.
const LARGEST_PAGE: usize = 64 * 1024;

/// A connection to `target` through the forward proxy at the other end of `stream`.
pub(super) async fn connect(stream: Stream, proxy: &Proxy, target: &HostPort) -> Result<Stream, Error> {
    let broken = |error: &(dyn std::error::Error + 'static)| Error::Broken {
        proxy: proxy.to_string(),
        reason: sanitize(&reasons(error)),
    };
    let request = request(proxy, target).map_err(|error| broken(&error))?;
    let (sender, mut connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let answer = {
        let mut exchange = pin!(exchange(sender, request));
        let mut driving = pin!(poll_fn(|cx| connection.poll_without_shutdown(cx)));
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut driving => exchange.await,
        }
    };
    // The bytes after the answer are already those of the target. If the answer was not HTTP, they are the answer.
    let parts = connection.into_parts();
    match answer {
        Ok(Answer { status: 200, .. }) if parts.read_buf.is_empty() => Ok(parts.io.into_inner()),
        Ok(Answer { status: 200, .. }) => {
            let (read, write) = split(parts.io.into_inner());
            Ok(Box::new(join(Cursor::new(parts.read_buf).chain(read), write)))
        }
        Ok(answer) => Err(answer.refusal(proxy, target)),
        // For a server that speaks first, hyper has another error than for an answer that is not HTTP.
        Err(_) if !parts.read_buf.is_empty() && !parts.read_buf.starts_with(b"HTTP/") => {
            Err(Error::not_a_proxy(proxy.to_string(), &parts.read_buf))
        }
        Err(error) => Err(broken(&error)),
    }
}

fn request(proxy: &Proxy, target: &HostPort) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let target = target.to_string();
    let mut request = Request::connect(target.as_str())
        .header(HOST, &target)
        .header(USER_AGENT, concat!("teleport-pipe/", env!("CARGO_PKG_VERSION")));
    if let Some(credentials) = &proxy.credentials {
        request = request.header(PROXY_AUTHORIZATION, basic(credentials)?);
    }
    // The same type of body as in `http.rs`, because hyper is compiled once for each type.
    request.body(Full::default())
}

fn basic(Credentials { user, password }: &Credentials) -> Result<HeaderValue, hyper::http::Error> {
    let plain = Zeroizing::new([user.as_slice(), b":", password.as_slice()].concat());
    let text = Zeroizing::new(format!("Basic {}", Zeroizing::new(Base64::encode_string(&plain)).as_str()));
    let mut value = HeaderValue::try_from(text.as_str())?;
    value.set_sensitive(true);
    Ok(value)
}

struct Answer {
    status: u16,
    schemes: Vec<String>,
    reason: String,
}

async fn exchange(mut sender: SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let offers = answer.headers().get_all(PROXY_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let schemes = offers.filter_map(|offer| offer.split_whitespace().next()).map(sanitize).collect();
    let reason = if status == 200 { String::new() } else { reason(answer).await };
    Ok(Answer { status, schemes, reason })
}

/// The body of an answer if it is plain text, else the title of its page, else nothing.
async fn reason(answer: Response<Incoming>) -> String {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_text = kind.starts_with("text/plain");
    let Ok(body) = Limited::new(answer.into_body(), LARGEST_PAGE).collect().await else { return String::new() };
    let body = body.to_bytes();
    let text = String::from_utf8_lossy(&body);
    sanitize(if is_text { &text } else { title(&text).unwrap_or_default() })
}

fn title(page: &str) -> Option<&str> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title>")? + "<title>".len();
    page.get(start..start + lower.get(start..)?.find("</title>")?)
}

impl Answer {
    fn refusal(self, proxy: &Proxy, target: &HostPort) -> Error {
        let Self { status, schemes, reason } = self;
        let (proxy, target, given) = (proxy.to_string(), target.to_string(), proxy.credentials.is_some());
        let answer = if reason.is_empty() { status.to_string() } else { format!("{status}, {reason}") };
        match status {
            407 if schemes.is_empty() || schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) => {
                Error::Credentials { proxy, given, answer }
            }
            407 => Error::AuthScheme { proxy, schemes: schemes.join(", ") },
            500.. => Error::Unreachable { proxy, target, answer },
            _ => Error::Refused { proxy, target, answer },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn the_title_of_a_page() {
        assert_eq!(title("<html><TITLE>No İ way</title>"), Some("No İ way"));
        assert_eq!(title("<title>open"), None);
        assert_eq!(title("nothing"), None);
    }

    #[test]
    fn credentials_are_those_of_rfc_7617() {
        let proxy = Proxy::parse("HTTPS_PROXY", "http://Aladdin:open%20sesame@p").unwrap();
        let header = basic(&proxy.credentials.unwrap()).unwrap();
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    /// Connects through a proxy in memory that sends `answer` in one piece.
    async fn connect_through(answer: &[u8]) -> Result<Stream, Error> {
        let (near, mut far) = tokio::io::duplex(1 << 17);
        let proxy = Proxy::parse("HTTPS_PROXY", "http://p").unwrap();
        let target = "p.example:443".parse().unwrap();
        let connecting = connect(Box::new(near), &proxy, &target);
        let answering = async {
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                question.push(far.read_u8().await.unwrap());
            }
            far.write_all(answer).await.unwrap();
            let mut echo = [0; 5];
            // An incomplete answer is followed by the end of the stream.
            let is_whole = answer.windows(4).any(|end| end == b"\r\n\r\n");
            if is_whole && far.read_exact(&mut echo).await.is_ok() {
                far.write_all(&echo).await.unwrap();
            }
            drop(far);
            question
        };
        let speaking = async {
            let mut stream = connecting.await?;
            stream.write_all(b"hello").await.unwrap();
            Ok(stream)
        };
        let (stream, question) = tokio::join!(speaking, answering);
        assert!(question.starts_with(b"CONNECT p.example:443 HTTP/1.1\r\nhost: p.example:443\r\n"), "{question:?}");
        stream
    }

    #[tokio::test]
    async fn bytes_right_after_the_answer_are_kept() {
        let long = "x".repeat(70_000);
        for behind in ["", "more", &long] {
            for head in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 Connection established\r\nContent-Length: 3\r\n\r\n"]
            {
                let mut stream = connect_through(format!("{head}{behind}").as_bytes()).await.unwrap();
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await.unwrap();
                assert!(heard == format!("{behind}hello").into_bytes(), "{head:?}, {} bytes", heard.len());
            }
        }
    }

    #[tokio::test]
    async fn only_200_is_success() {
        for status in [201, 204, 302, 400, 404, 511] {
            let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
            let error = connect_through(head.as_bytes()).await.err().unwrap();
            assert!(error.to_string().ends_with(&format!("({status})")), "{error}");
        }
    }

    #[tokio::test]
    async fn an_incomplete_answer_is_a_broken_connection() {
        let error = connect_through(b"HTTP/1.1 200 Conn").await.err().unwrap();
        assert!(matches!(error, Error::Broken { .. }), "{error}");
    }
}
