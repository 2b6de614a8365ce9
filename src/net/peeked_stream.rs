//! A stream that remembers how the peer began, so that an error can say what it speaks if that is not TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::protocol::Protocol;
use crate::text::sanitize;

/// How many bytes are remembered. The banner of an SSH server may be longer.
const REMEMBERED: usize = 48;

/// A stream that remembers the first bytes that it reads, and fails if they are not TLS. A TLS library could take them for
/// the length of a record and wait for the rest.
pub(crate) struct PeekedStream<S> {
    stream: S,
    first: Vec<u8>,
}

impl<S> PeekedStream<S> {
    /// Nothing must have been read from `stream`.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, first: Vec::new() }
    }

    /// The peer's protocol if it is not TLS; completes "it is …".
    pub(crate) fn identify_protocol(&self) -> Option<String> {
        match Protocol::identify(&self.first)? {
            Protocol::Tls => None,
            Protocol::Http => Some("plain HTTP".to_owned()),
            Protocol::Ssh => {
                let banner = self.first.split(u8::is_ascii_control).next().unwrap_or_default();
                Some(format!("an SSH server, {}", sanitize(&String::from_utf8_lossy(banner))))
            }
            Protocol::Socks5 => Some("a SOCKS5 server".to_owned()),
            Protocol::Unknown if self.first.trim_ascii_start().starts_with(b"<") => Some("a page".to_owned()),
            Protocol::Unknown => Some("something else".to_owned()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeekedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let missing = REMEMBERED - self.first.len();
        self.first.extend(buf.filled().iter().skip(before).take(missing));
        match Protocol::identify(&self.first) {
            None | Some(Protocol::Tls) => Poll::Ready(Ok(())),
            Some(_) => {
                buf.set_filled(before);
                Poll::Ready(Err(io::Error::other("this is not TLS")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeekedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn other_protocols_are_identified_and_end_the_stream() {
        for (bytes, found) in [
            (&b""[..], None),
            (b"\x16\x03\x03\x00\x7a\x02", None),
            (b"\x15\x03\x01\x00\x02\x02\x46", None),
            (b"HTTP/1.1 400 Bad Request\r\n", Some("plain HTTP")),
            (b"SSH-2.0-OpenSSH_9.2p1\r\nmore", Some("an SSH server, SSH-2.0-OpenSSH_9.2p1")),
            (b"220 mail.example.com ESMTP\r\n", Some("something else")),
            (b"<html>", Some("a page")),
            (b"\r\n<!DOCTYPE html>", Some("a page")),
        ] {
            let mut stream = PeekedStream::new(bytes);
            let read = stream.read_to_end(&mut Vec::new()).await;
            assert_eq!(stream.identify_protocol().as_deref(), found);
            assert_eq!(read.is_err(), found.is_some());
        }
    }

    #[tokio::test]
    async fn tls_passes_and_only_its_beginning_is_remembered() {
        let bytes = b"\x16\x03\x03\x3f".repeat(100);
        let (mut stream, mut all) = (PeekedStream::new(&bytes[..]), Vec::new());
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!((all, stream.first.len()), (bytes, REMEMBERED));
    }
}
