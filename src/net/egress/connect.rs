//! HTTP CONNECT, by hyper over our own stream: not by `with_upgrades` or hyper-util's `Tunnel`, which keep to themselves
//! what a proxy said instead of letting us through, and what of its answer was no HTTP.

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

/// As much of a page that says no as we look at, in bytes.
const PAGE: usize = 64 * 1024;

/// A connection to `target` through the proxy at the other end of `stream`.
pub(super) async fn ask(stream: Stream, proxy: &Proxy, target: &HostPort) -> Result<Stream, Error> {
    let broken = |error: &hyper::Error| Error::Broken { proxy: proxy.to_string(), reason: sanitize(&reasons(error)) };
    let request = request(proxy, target).map_err(|error| broken_by(proxy, &error))?;
    let (sender, mut connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let answer = {
        let mut asking = pin!(exchange(sender, request));
        let mut driving = pin!(poll_fn(|cx| connection.poll_without_shutdown(cx)));
        tokio::select! {
            answer = &mut asking => answer,
            _ = &mut driving => asking.await,
        }
    };
    // Whatever it sent behind its answer is the first of what is now for us; if it was no HTTP, that is it.
    let parts = connection.into_parts();
    match answer {
        Ok(Answer { status: 200, .. }) if parts.read_buf.is_empty() => Ok(parts.io.into_inner()),
        Ok(Answer { status: 200, .. }) => {
            let (read, write) = split(parts.io.into_inner());
            Ok(Box::new(join(Cursor::new(parts.read_buf).chain(read), write)))
        }
        Ok(answer) => Err(answer.refusal(proxy, target)),
        // Some speak before they are asked, which is another error to hyper than nonsense in an answer.
        Err(_) if !parts.read_buf.is_empty() && !parts.read_buf.starts_with(b"HTTP/") => {
            Err(Error::not_a_proxy(proxy.to_string(), &parts.read_buf))
        }
        Err(error) => Err(broken(&error)),
    }
}

fn broken_by(proxy: &Proxy, error: &dyn std::error::Error) -> Error {
    Error::Broken { proxy: proxy.to_string(), reason: sanitize(&error.to_string()) }
}

fn request(proxy: &Proxy, target: &HostPort) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let target = target.to_string();
    let mut request = Request::connect(target.as_str())
        .header(HOST, &target)
        .header(USER_AGENT, concat!("teleport-pipe/", env!("CARGO_PKG_VERSION")));
    if let Some(credentials) = &proxy.credentials {
        request = request.header(PROXY_AUTHORIZATION, basic(credentials)?);
    }
    // The kind of body that plain web calls have: hyper is compiled anew for each.
    request.body(Full::default())
}

fn basic(Credentials { user, password }: &Credentials) -> Result<HeaderValue, hyper::http::Error> {
    let plain = Zeroizing::new([user.as_slice(), b":", password.as_slice()].concat());
    let text = Zeroizing::new(format!("Basic {}", Zeroizing::new(Base64::encode_string(&plain)).as_str()));
    let mut value = HeaderValue::try_from(text.as_str())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a proxy answered.
struct Answer {
    status: u16,
    /// The ways to sign in that it knows.
    schemes: Vec<String>,
    /// Why not, in its words.
    words: String,
}

async fn exchange(mut sender: SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let offers = answer.headers().get_all(PROXY_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let schemes = offers.filter_map(|offer| offer.split_whitespace().next()).map(sanitize).collect();
    let words = if status == 200 { String::new() } else { words(answer).await };
    Ok(Answer { status, schemes, words })
}

/// What an answer says: its body if that is plain text, else the title of its page, else nothing.
async fn words(answer: Response<Incoming>) -> String {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_text = kind.starts_with("text/plain");
    let Ok(body) = Limited::new(answer.into_body(), PAGE).collect().await else { return String::new() };
    let body = body.to_bytes();
    let text = String::from_utf8_lossy(&body);
    match is_text {
        true => sanitize(&text),
        false => title(&text).map(sanitize).unwrap_or_default(),
    }
}

fn title(page: &str) -> Option<&str> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title>")? + "<title>".len();
    page.get(start..start + lower.get(start..)?.find("</title>")?)
}

impl Answer {
    fn refusal(self, proxy: &Proxy, target: &HostPort) -> Error {
        let Self { status, schemes, words } = self;
        let (proxy, target, given) = (proxy.to_string(), target.to_string(), proxy.credentials.is_some());
        let said = if words.is_empty() { status.to_string() } else { format!("{status}, {words}") };
        match status {
            407 if schemes.is_empty() || schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) => {
                Error::Credentials { proxy, given, said }
            }
            407 => Error::SignIn { proxy, schemes: schemes.join(", ") },
            500.. => Error::NoWay { proxy, target, said },
            _ => Error::Refused { proxy, target, said },
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
    fn credentials_as_rfc_7617_has_them() {
        let proxy = Proxy::parse("HTTPS_PROXY", "http://Aladdin:open%20sesame@p").unwrap();
        let header = basic(&proxy.credentials.unwrap()).unwrap();
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    /// Both ends in memory: what the proxy says, in one piece, and what comes of it.
    async fn ask_one_that_says(says: &[u8]) -> Result<Stream, Error> {
        let (near, mut far) = tokio::io::duplex(1 << 17);
        let proxy = Proxy::parse("HTTPS_PROXY", "http://p").unwrap();
        let target = "p.example:443".parse().unwrap();
        let asking = ask(Box::new(near), &proxy, &target);
        let answering = async {
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                question.push(far.read_u8().await.unwrap());
            }
            far.write_all(says).await.unwrap();
            let mut echo = [0; 5];
            // Nobody speaks where the way is not open, and half an answer ends there.
            let is_whole = says.windows(4).any(|end| end == b"\r\n\r\n");
            if is_whole && far.read_exact(&mut echo).await.is_ok() {
                far.write_all(&echo).await.unwrap();
            }
            drop(far);
            question
        };
        let speaking = async {
            let mut stream = asking.await?;
            stream.write_all(b"hello").await.unwrap();
            Ok(stream)
        };
        let (stream, question) = tokio::join!(speaking, answering);
        assert!(question.starts_with(b"CONNECT p.example:443 HTTP/1.1\r\nhost: p.example:443\r\n"), "{question:?}");
        stream
    }

    #[tokio::test]
    async fn what_comes_right_behind_the_answer_is_kept() {
        let long = "x".repeat(70_000);
        for behind in ["", "more", &long] {
            for head in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 Connection established\r\nContent-Length: 3\r\n\r\n"]
            {
                let mut stream = ask_one_that_says(format!("{head}{behind}").as_bytes()).await.unwrap();
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await.unwrap();
                assert!(heard == format!("{behind}hello").into_bytes(), "{head:?}, {} bytes", heard.len());
            }
        }
    }

    #[tokio::test]
    async fn only_200_opens_the_way() {
        for status in [201, 204, 302, 400, 404, 511] {
            let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
            let error = ask_one_that_says(head.as_bytes()).await.err().unwrap();
            assert!(error.to_string().ends_with(&format!("({status})")), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_no_nonsense() {
        let error = ask_one_that_says(b"HTTP/1.1 200 Conn").await.err().unwrap();
        assert!(matches!(error, Error::Broken { .. }), "{error}");
    }
}
