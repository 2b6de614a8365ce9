//! The frames inside a connection upgrade: bytes in, bytes out (RFC 6455, as far as Teleport speaks it;
//! teleport-ssh-proxy.md 3.2).
//!
//! Own code, since Teleport asks for what libraries do not offer: every write is one unfragmented binary frame, and the
//! mask is all zeros, which servers understand whether they unmask or not. The bytes are those of a TLS session, which
//! looks after itself; masks are for proxies that mistake frames for HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Payload of a frame of ours, at most, in bytes.
const FRAME: usize = 16 * 1024;
/// Payload of a control frame, at most, in bytes (RFC 6455, section 5.5).
const CONTROL: usize = 125;
/// Pongs that nobody takes, in bytes: whoever lets more of them wait does not want answers.
const PONGS: usize = 64 * 1024;
/// What is read from the stream at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// The client's end, over an upgraded connection.
pub(crate) struct WebSocket<S> {
    stream: S,
    /// Room for what is read. From `start` to `end` it is not yet understood.
    room: Box<[u8]>,
    start: usize,
    end: usize,
    /// What is left of the payload of a data frame.
    payload: u64,
    /// The other side has said that it is done.
    ended: bool,
    /// Frames on their way out; from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
}

/// What the head of a frame says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    opcode: u8,
    length: u64,
    /// Of the head itself, in bytes.
    size: usize,
}

impl Head {
    /// The head at the beginning of `bytes`, once it is whole.
    fn read(bytes: &[u8]) -> io::Result<Option<Self>> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(mistake("a frame with an extension, or masked"));
        }
        let opcode = first & 0x0f;
        let (length, size) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        match opcode {
            CONTINUATION | BINARY => {}
            CLOSE | PING | PONG if length <= CONTROL as u64 && first & 0x80 != 0 => {}
            _ => return Err(mistake("a frame of an unknown kind")),
        }
        Ok(Some(Self { opcode, length, size }))
    }

    /// The head of one of ours, with the mask that changes nothing.
    fn write(opcode: u8, length: usize, to: &mut Vec<u8>) {
        to.push(0x80 | opcode);
        // A frame of ours is shorter than 64 KiB.
        match u8::try_from(length) {
            Ok(short) if length <= CONTROL => to.push(0x80 | short),
            _ => {
                to.push(0x80 | 126);
                to.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            }
        }
        to.extend([0; 4]);
    }
}

fn mistake(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the connection upgrade brought {what}"))
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Speaks frames over `stream`, which has been upgraded.
    pub(crate) fn new(stream: S) -> Self {
        let room = vec![0; CHUNK].into_boxed_slice();
        Self { stream, room, start: 0, end: 0, payload: 0, ended: false, unsent: Vec::new(), sent: 0 }
    }

    /// Takes the next head, and answers what is no data. `None` if more has to be read first.
    fn next_frame(&mut self) -> io::Result<Option<()>> {
        let bytes = self.room.get(self.start..self.end).unwrap_or_default();
        let Some(Head { opcode, length, size }) = Head::read(bytes)? else {
            return Ok(None);
        };
        if matches!(opcode, BINARY | CONTINUATION) {
            self.start += size;
            self.payload = length;
            return Ok(Some(()));
        }
        let end = size + usize::try_from(length).unwrap_or(CONTROL);
        let Some(body) = bytes.get(size..end) else {
            return Ok(None);
        };
        match opcode {
            CLOSE => self.ended = true,
            PING if self.unsent.len() - self.sent > PONGS => return Err(mistake("more pings than answers fit")),
            PING => {
                Head::write(PONG, body.len(), &mut self.unsent);
                self.unsent.extend_from_slice(body);
            }
            _ => {}
        }
        self.start += end;
        Ok(Some(()))
    }

    /// More bytes from the stream. False at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // At most a head and a control frame that are not whole: there is always room behind them.
        self.room.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let mut buffer = ReadBuf::new(self.room.get_mut(self.end..).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let length = buffer.filled().len();
        self.end += length;
        Poll::Ready(Ok(length > 0))
    }

    /// Sends what waits to be sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(unsent) = self.unsent.get(self.sent..).filter(|unsent| !unsent.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.sent += length,
            }
        }
        self.unsent.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.ended {
            let bytes = this.room.get(this.start..this.end).unwrap_or_default();
            let most = bytes.len().min(out.remaining()).min(usize::try_from(this.payload).unwrap_or(usize::MAX));
            if most > 0 || out.remaining() == 0 {
                out.put_slice(bytes.get(..most).unwrap_or_default());
                this.start += most;
                this.payload -= most as u64;
                return Poll::Ready(Ok(()));
            }
            if this.payload == 0 && !bytes.is_empty() && this.next_frame()?.is_some() {
                // A pong leaves at once; when it cannot, the next write takes it along.
                let _ = this.poll_send(cx)?;
                continue;
            }
            if !ready!(this.poll_fill(cx))? {
                return match this.start == this.end && this.payload == 0 {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                };
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // One frame at a time: whoever writes faster than the network waits.
        ready!(this.poll_send(cx))?;
        let bytes = bytes.get(..FRAME).unwrap_or(bytes);
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Head::write(BINARY, bytes.len(), &mut this.unsent);
        this.unsent.extend_from_slice(bytes);
        // As much of it as goes now; the rest with the next write, or when it is flushed.
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
        // Closing the stream is an end to Teleport just as a close frame is.
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// What a client does on a stream of which the other end is the test's.
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

    /// Everything that a client reads of these bytes, if they come in pieces of this size.
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
    fn frames_are_read_however_they_are_cut() {
        let large = vec![7; 70_000];
        let frames =
            [frame(0x82, b"abc"), frame(0x82, b""), frame(0x82, &large[..300]), frame(0x82, &large), frame(0x88, b"")];
        let expected = [b"abc", &large[..300], &large].concat();
        for piece in [1, 2, 3, 7, 1000, 1 << 20] {
            assert_eq!(read(&frames.concat(), piece).unwrap(), expected, "{piece}");
        }
    }

    /// No Teleport proxy fragments, but what stands in front of one may.
    #[test]
    fn fragments_are_put_together() {
        let frames = [frame(0x02, b"ab"), frame(0x89, b"?"), frame(0x00, b"c"), frame(0x80, b"d")].concat();
        assert_eq!(read(&frames, 1).unwrap(), b"abcd");
    }

    #[test]
    fn what_is_no_frame_of_teleport() {
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
    fn nothing_is_read_behind_the_close() {
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
    fn pings_are_answered_while_nothing_else_is_said() {
        with_server(async |mut client, mut server| {
            server.write_all(&[frame(0x89, b"teleport"), frame(0x82, b"x")].concat()).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            let mut pong = [0; 14];
            server.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, *b"\x8a\x88\0\0\0\0teleport");
        });
    }

    #[test]
    fn a_pong_waits_for_nothing_to_be_written() {
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
            // The other end takes nothing, so answers pile up.
            assert!(matches!(ended, Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData));
        });
    }
}
