//! SOCKS5 (RFC 1928, and RFC 1929 for user and password), as much of it as a client needs.
//!
//! Two libraries were considered. hyper-util's `SocksV5` drops bytes that it reads after the reply, and fails if it has
//! credentials that the server does not ask for. tokio-socks adds five crates, among them a second `thiserror`. Neither
//! returns the answer of a server that speaks another protocol.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::forward_proxy::Proxy;
use crate::address::HostPort;
use crate::net::Stream;
use crate::net::error::egress::Error;
use crate::text::sanitize;

const VERSION: u8 = 5;

/// Authentication methods (RFC 1928, section 3).
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

/// Types of addresses (RFC 1928, section 5).
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// A connection to `target` through the server at the other end of `stream`. Reads nothing after its reply.
pub(super) async fn connect(mut stream: Stream, proxy: &Proxy, target: &HostPort) -> Result<Stream, Error> {
    let broken = |error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it was closed in the middle".to_owned(),
            _ => sanitize(&error.to_string()),
        };
        Error::Broken { proxy: proxy.to_string(), reason }
    };
    let not_a_proxy = |first: &[u8]| Error::not_a_proxy(proxy.to_string(), first);
    let methods: &[u8] = match proxy.credentials {
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, PASSWORD],
        None => &[VERSION, 1, NO_AUTHENTICATION],
    };
    stream.write_all(methods).await.map_err(broken)?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.map_err(broken)?;
    let denied = |answer: &str| Error::Credentials {
        proxy: proxy.to_string(),
        given: proxy.credentials.is_some(),
        answer: answer.to_owned(),
    };
    match (answer, &proxy.credentials) {
        ([VERSION, NO_AUTHENTICATION], _) => {}
        ([VERSION, PASSWORD], Some(given)) => {
            let (user, password) = (given.user.as_slice(), given.password.as_slice());
            // `Proxy::parse` has checked that both lengths fit into a byte.
            let length = |part: &[u8]| u8::try_from(part.len()).unwrap_or(u8::MAX);
            let parts = [&[1, length(user)], user, &[length(password)], password];
            stream.write_all(&Zeroizing::new(parts.concat())).await.map_err(broken)?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.map_err(broken)?;
            if answer[1] != 0 {
                return Err(denied("user or password is wrong"));
            }
        }
        ([VERSION, NO_METHOD], _) => return Err(denied("no authentication method in common")),
        (heard, _) => return Err(not_a_proxy(&heard)),
    }

    stream.write_all(&request(target)).await.map_err(broken)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.map_err(broken)?;
    let [version, reply, _, bound] = answer;
    if version != VERSION {
        return Err(not_a_proxy(&[version, reply]));
    }
    if reply != 0 {
        return Err(refusal(reply, proxy, target));
    }
    // The address from which the server connects is not needed.
    let length = match bound {
        IPV4 => 4,
        IPV6 => 16,
        NAME => stream.read_u8().await.map_err(broken)?.into(),
        _ => {
            let found = format!("it answers with an address of type {bound}");
            return Err(Error::NotAProxy { proxy: proxy.to_string(), found });
        }
    };
    stream.read_exact(&mut vec![0; length + 2]).await.map_err(broken)?;
    Ok(stream)
}

/// CONNECT to an address, or to a name, which the server resolves.
fn request(target: &HostPort) -> Vec<u8> {
    let mut request = vec![VERSION, 1, 0];
    match target.host.parse() {
        Ok(IpAddr::V4(ip)) => request.extend([IPV4].into_iter().chain(ip.octets())),
        Ok(IpAddr::V6(ip)) => request.extend([IPV6].into_iter().chain(ip.octets())),
        // `HostPort` has checked that the name is not longer than a DNS name.
        Err(_) => {
            request.extend([NAME, u8::try_from(target.host.len()).unwrap_or(u8::MAX)]);
            request.extend(target.host.bytes());
        }
    }
    request.extend(target.port.to_be_bytes());
    request
}

/// The replies of RFC 1928, section 6.
fn refusal(reply: u8, proxy: &Proxy, target: &HostPort) -> Error {
    let (proxy, target) = (proxy.to_string(), target.to_string());
    let answer = match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "it does not support CONNECT",
        8 => "it does not support this type of address",
        other => &format!("reply {other}"),
    };
    let answer = answer.to_owned();
    match reply {
        1 | 3..=6 => Error::Unreachable { proxy, target, answer },
        _ => Error::Refused { proxy, target, answer },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_type_of_the_address() {
        let request = |addr: &str| request(&addr.parse().unwrap());
        assert_eq!(request("p.example:443"), b"\x05\x01\x00\x03\x09p.example\x01\xbb");
        assert_eq!(request("192.0.2.1:3080"), b"\x05\x01\x00\x01\xc0\x00\x02\x01\x0c\x08");
        assert_eq!(request("[2001:db8::1]:1")[3..7], [4, 0x20, 1, 0x0d]);
    }

    /// Connects through a server in memory that sends `answer` in one piece, and returns what follows the reply.
    async fn connect_through(answer: &'static [u8], url: &str) -> Result<Vec<u8>, Error> {
        let proxy = Proxy::parse("HTTPS_PROXY", url).unwrap();
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(answer).await.unwrap();
        let mut stream = connect(Box::new(near), &proxy, &"p.example:443".parse().unwrap()).await?;
        let mut behind = vec![0; 5];
        stream.read_exact(&mut behind).await.unwrap();
        Ok(behind)
    }

    #[tokio::test]
    async fn bytes_right_after_the_reply_are_kept() {
        for answer in [
            &b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00hello"[..],
            b"\x05\x00\x05\x00\x00\x03\x02ab\x00\x00hello",
            b"\x05\x02\x01\x00\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x00\x00hello",
        ] {
            assert_eq!(connect_through(answer, "socks5://me:secret@p").await.unwrap(), b"hello");
        }
    }

    #[tokio::test]
    async fn a_server_that_ignores_the_offered_methods_is_not_a_proxy() {
        let error = connect_through(b"\x05\x02", "socks5://p").await.unwrap_err();
        assert!(matches!(error, Error::NotAProxy { .. }), "{error}");
    }
}
