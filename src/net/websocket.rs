//! The frames inside a connection upgrade (RFC 6455, as far as Teleport uses it;
//! docs/protocol.md, "Connection upgrade").
//!
//! No library does what Teleport needs: every write is one unfragmented binary frame, and the mask is all zeros, which
//! servers understand whether they unmask or not. Masks protect proxies that mistake frames for HTTP; these bytes are
//! those of a TLS session, so nothing is lost.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The largest payload of a frame that we send, and the size of the read buffer, in bytes.
const FRAME: usize = 16 * 1024;
/// The largest payload of a control frame, in bytes (RFC 6455, section 5.5).
const CONTROL: usize = 125;
/// The most bytes of pongs that wait to be sent. A server that sends pings and does not read the pongs is refused.
const MOST_PONGS: usize = 64 * 1024;

/// The client's end of an upgraded connection.
pub(crate) struct WebSocket<S> {
    stream: S,
    /// What was read; from `start` to `end` it is not yet parsed.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// How much of the payload of the current data frame is not yet read.
    payload: u64,
    closed: bool,
    /// Frames to be sent.
    unsent: VecDeque<u8>,
}

struct Head {
    opcode: u8,
    length: u64,
    /// The size of the head itself, in bytes.
    size: usize,
}

impl Head {
    /// Parses the head at the beginning of `bytes`. Returns `None` if it is incomplete.
    fn read(bytes: &[u8]) -> io::Result<Option<Self>> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(protocol_error("a frame with an extension, or masked"));
        }
        let opcode = first & 0x0f;
        let length_and_size = match second & 0x7f {
            126 => rest.first_chunk().map(|length| (u64::from(u16::from_be_bytes(*length)), 4)),
            127 => rest.first_chunk().map(|length| (u64::from_be_bytes(*length), 10)),
            short => Some((u64::from(short), 2)),
        };
        let Some((length, size)) = length_and_size else { return Ok(None) };
        match opcode {
            CONTINUATION | BINARY => {}
            CLOSE | PING | PONG if length <= CONTROL as u64 && first & 0x80 != 0 => {}
            _ => return Err(protocol_error("a frame of an unknown kind")),
        }
        Ok(Some(Self { opcode, length, size }))
    }

    /// Writes the head of a frame that we send, with a mask of zeros.
    fn write(opcode: u8, length: usize, to: &mut VecDeque<u8>) {
        to.push_back(0x80 | opcode);
        // No frame that we send has 64 KiB.
        match u8::try_from(length) {
            Ok(short) if length <= CONTROL => to.push_back(0x80 | short),
            _ => {
                to.push_back(0x80 | 126);
                to.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            }
        }
        to.extend([0; 4]);
    }
}

fn protocol_error(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the connection upgrade brought {what}"))
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// `stream` has been upgraded.
    pub(crate) fn new(stream: S) -> Self {
        let buffer = vec![0; FRAME].into_boxed_slice();
        Self { stream, buffer, start: 0, end: 0, payload: 0, closed: false, unsent: VecDeque::new() }
    }

    /// Parses the next head, and handles control frames. Returns `None` if more has to be read first.
    fn next_frame(&mut self) -> io::Result<Option<()>> {
        let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(Head { opcode, length, size }) = Head::read(bytes)? else { return Ok(None) };
        if matches!(opcode, BINARY | CONTINUATION) {
            self.start += size;
            self.payload = length;
            return Ok(Some(()));
        }
        let end = size + usize::try_from(length).unwrap_or(CONTROL);
        let Some(body) = bytes.get(size..end) else { return Ok(None) };
        match opcode {
            CLOSE => self.closed = true,
            PING if self.unsent.len() > MOST_PONGS => {
                return Err(protocol_error("more pings than answers fit"));
            }
            PING => {
                Head::write(PONG, body.len(), &mut self.unsent);
                self.unsent.extend(body);
            }
            _ => {}
        }
        self.start += end;
        Ok(Some(()))
    }

    /// Reads more bytes from the stream. Returns false at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // At most an incomplete head or control frame is left, so there is always room behind it.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut unread = ReadBuf::new(self.buffer.get_mut(self.end..).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut unread))?;
        let length = unread.filled().len();
        self.end += length;
        Poll::Ready(Ok(length > 0))
    }

    /// Sends the frames that wait.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, self.unsent.as_slices().0))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => drop(self.unsent.drain(..length)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.closed {
            let bytes = this.buffer.get(this.start..this.end).unwrap_or_default();
            let most = bytes.len().min(out.remaining()).min(usize::try_from(this.payload).unwrap_or(usize::MAX));
            if most > 0 || out.remaining() == 0 {
                out.put_slice(bytes.get(..most).unwrap_or_default());
                this.start += most;
                this.payload -= most as u64;
                return Poll::Ready(Ok(()));
            }
            if this.payload == 0 && !bytes.is_empty() && this.next_frame()?.is_some() {
                // A pong is sent at once; if that is not possible, with the next write, whose error it is, too.
                let _ = Pin::new(&mut *this).poll_flush(cx);
                continue;
            }
            if !ready!(this.poll_fill(cx))? {
                let is_complete = this.start == this.end && this.payload == 0;
                return Poll::Ready(is_complete.then_some(()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // One frame at a time, so that the writer does not get ahead of the network.
        ready!(this.poll_send(cx))?;
        let bytes = bytes.get(..FRAME).unwrap_or(bytes);
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Head::write(BINARY, bytes.len(), &mut this.unsent);
        this.unsent.extend(bytes);
        // As much as is possible now; the rest with the next write or flush.
        let _ = this.poll_send(cx)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        // Teleport treats the end of the stream like a close frame.
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// Runs a client and a server at the two ends of a stream.
    fn with_server<T>(talk: impl AsyncFnOnce(WebSocket<DuplexStream>, DuplexStream) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(1 << 20);
            talk(WebSocket::new(near), far).await
        })
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(u8::try_from(length).unwrap()),
            length @ ..65536 => {
                frame.push(126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    /// Everything that a client reads if the server sends these bytes in pieces of this size.
    fn read(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        with_server(async |mut client, mut server| {
            let mut read = Vec::new();
            let writing = async {
                for piece in bytes.chunks(piece) {
                    server.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                server.shutdown().await.unwrap();
            };
            let ((), result) = tokio::join!(writing, client.read_to_end(&mut read));
            result.map(|_| read)
        })
    }

    #[test]
    fn frames_are_read_in_pieces_of_any_size() {
        let large = vec![7; 70_000];
        let frames =
            [frame(0x82, b"abc"), frame(0x82, b""), frame(0x82, &large[..300]), frame(0x82, &large), frame(0x88, b"")];
        let expected = [b"abc", &large[..300], &large].concat();
        for piece in [1, 2, 3, 7, 1000, 1 << 20] {
            assert_eq!(read(&frames.concat(), piece).unwrap(), expected, "{piece}");
        }
    }

    /// No Teleport proxy sends fragments, but a load balancer may.
    #[test]
    fn fragments_are_put_together() {
        let frames = [frame(0x02, b"ab"), frame(0x89, b"?"), frame(0x00, b"c"), frame(0x80, b"d")].concat();
        assert_eq!(read(&frames, 1).unwrap(), b"abcd");
    }

    #[test]
    fn frames_that_teleport_does_not_send_are_refused() {
        let masked = [0x82, 0x81, 0, 0, 0, 0, 1];
        let long_ping = frame(0x89, &[0; 126]);
        for bytes in
            [&masked[..], &frame(0x81, b"text"), &frame(0xc2, b"x"), &frame(0x83, b""), &long_ping, b"HTTP/1.1"]
        {
            assert_eq!(read(bytes, 1).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        // Cut off in the middle of a frame, or of its head.
        assert_eq!(read(&frame(0x82, b"abc")[..4], 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&[0x82], 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nothing_is_read_after_the_close() {
        assert_eq!(read(&[frame(0x88, b""), frame(0x82, b"late")].concat(), 1 << 20).unwrap(), b"");
    }

    #[test]
    fn writes_are_whole_frames_with_a_mask_of_zeros() {
        with_server(async |mut client, mut server| {
            client.write_all(b"hello").await.unwrap();
            client.flush().await.unwrap();
            let mut frame = [0; 11];
            server.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame, *b"\x82\x85\0\0\0\0hello");

            client.write_all(&[1; FRAME + 1]).await.unwrap();
            client.flush().await.unwrap();
            let mut head = [0; 8];
            server.read_exact(&mut head).await.unwrap();
            assert_eq!(head, [0x82, 0xfe, 0x40, 0, 0, 0, 0, 0]);
            let mut rest = vec![0; FRAME + 7];
            server.read_exact(&mut rest).await.unwrap();
            assert_eq!(rest[FRAME..], [0x82, 0x81, 0, 0, 0, 0, 1]);
        });
    }

    #[test]
    fn pings_are_answered_although_nothing_is_written() {
        with_server(async |mut client, mut server| {
            server.write_all(&[frame(0x89, b"teleport"), frame(0x82, b"x")].concat()).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            let mut pong = [0; 14];
            server.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, *b"\x8a\x88\0\0\0\0teleport");
        });
    }

    #[test]
    fn a_pong_is_sent_before_the_client_is_dropped() {
        let pong = with_server(async |mut client, mut server| {
            server.write_all(&[frame(0x89, b"teleport"), frame(0x82, b"x")].concat()).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            drop(client);
            let mut said = Vec::new();
            server.read_to_end(&mut said).await.unwrap();
            said
        });
        assert_eq!(pong, b"\x8a\x88\0\0\0\0teleport");
    }

    #[test]
    fn a_flood_of_pings_ends() {
        let pings = frame(0x89, &[0; CONTROL]).repeat(20_000);
        with_server(async |mut client, mut server| {
            let writing = async { drop(server.write_all(&pings).await) };
            let mut byte = [0];
            let ended = async { client.read(&mut byte).await };
            let ended = tokio::select! { () = writing => None, ended = ended => Some(ended) };
            // The server reads nothing, so pongs pile up.
            assert!(matches!(ended, Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData));
        });
    }
}
