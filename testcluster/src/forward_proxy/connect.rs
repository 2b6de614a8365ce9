//! HTTP CONNECT.

use std::io;

use base64ct::{Base64, Encoding as _};
use tokio::io::AsyncReadExt as _;

use super::{ByteStream, ForwardProxyBehavior, Shared};

/// Reads the request and returns the target to connect to. `None` means that the request was refused.
pub(super) async fn read_request(shared: &Shared, client: &mut Box<dyn ByteStream>) -> io::Result<Option<String>> {
    let head = head(client).await?;
    let mut lines = head.split("\r\n");
    let request = lines.next().unwrap_or_default();
    let Some(target) = request.strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1")) else {
        shared.send(client, b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").await?;
        return Ok(None);
    };
    let header = |name: &str| {
        let mut fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let before = shared.record(target);
    if shared.behavior == ForwardProxyBehavior::ClosesOnRequest {
        return Ok(None);
    }
    let given = header("Proxy-Authorization").and_then(|value| value.strip_prefix("Basic "));
    let wanted = shared
        .credentials
        .as_ref()
        .map(|(user, password)| Base64::encode_string(format!("{user}:{password}").as_bytes()));
    let (status, headers, body) = match shared.refusal(before) {
        _ if wanted.is_some() && given != wanted.as_deref() => (407, "Proxy-Authenticate: Basic realm=\"out\"\r\n", ""),
        _ if header("Host") != Some(target) => (400, "", ""),
        Some(refusal) => refusal,
        None if shared.behavior == ForwardProxyBehavior::IgnoresRequest(before) => std::future::pending().await,
        None => return Ok(Some(target.to_owned())),
    };
    let response = format!("HTTP/1.1 {status} No\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
    shared.send(client, response.as_bytes()).await?;
    Ok(None)
}

async fn head(client: &mut Box<dyn ByteStream>) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    String::from_utf8(head).map_err(io::Error::other)
}
