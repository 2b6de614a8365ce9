//! The server side of a WebSocket with the rules of Teleport's proxies: one unfragmented binary frame per write, pings
//! only from the server, and a close frame ends the stream (docs/protocol.md, "Connection upgrade").

use std::io;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, interval_at};

/// RFC 6455, 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Payload of the proxy's pings.
const PING: &[u8] = b"teleport";
/// Largest accepted payload. No correct client sends more.
const LARGEST: u64 = 16 * 1024 * 1024;
const CHUNK: usize = 16 * 1024;

const FIN: u8 = 0x80;
const MASK: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING_FRAME: u8 = 9;
const PONG_FRAME: u8 = 10;

/// `Sec-WebSocket-Accept` for a client's key.
pub(crate) fn accept(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    Base64::encode_string(&digest)
}

/// How the server writes frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    /// Time between pings. `None` means that it sends none.
    pub ping: Option<Duration>,
    /// Frames of a few bytes, in writes that do not end where a frame ends.
    pub small_frames: bool,
}

/// What the client sent besides data frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Observation {
    /// A pong, and whether it has the payload of our pings.
    Pong(bool),
    /// Something that a real proxy silently drops or fails on.
    Mistake(&'static str),
}

/// Copies bytes between a WebSocket and the connection inside it, until either ends.
pub(crate) async fn relay<S>(
    outer: S,
    inner: DuplexStream,
    options: WriteOptions,
    observe: impl Fn(Observation),
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let (outer_read, outer_write) = tokio::io::split(outer);
    let (inner_read, inner_write) = tokio::io::split(inner);
    tokio::select! {
        ended = from_client(outer_read, inner_write, observe) => ended,
        ended = to_client(inner_read, outer_write, options) => ended,
    }
}

/// Decodes the client's frames. Everything but whole binary frames is dropped, as a real proxy does, and reported.
async fn from_client<R, W>(mut outer: R, mut inner: W, observe: impl Fn(Observation)) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let frame = Frame::read(&mut outer).await?;
        if !frame.masked {
            observe(Observation::Mistake("unmasked frame"));
        }
        match (frame.opcode, frame.fin) {
            (CLOSE, _) => return inner.shutdown().await,
            (PING_FRAME, true) => observe(Observation::Mistake("ping of the client")),
            (PONG_FRAME, true) => observe(Observation::Pong(frame.payload == PING)),
            (CONTINUATION, _) => observe(Observation::Mistake("continuation frame")),
            (TEXT, _) => observe(Observation::Mistake("text frame")),
            (BINARY, false) => observe(Observation::Mistake("fragmented frame")),
            (BINARY, true) if frame.payload.is_empty() => observe(Observation::Mistake("empty frame")),
            (BINARY, true) => inner.write_all(&frame.payload).await?,
            _ => observe(Observation::Mistake("unknown frame")),
        }
    }
}

/// Encodes data as frames, and pings.
async fn to_client<R, W>(mut inner: R, mut outer: W, options: WriteOptions) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let never = Duration::from_secs(365 * 24 * 3600);
    let period = options.ping.unwrap_or(never);
    let mut pings = interval_at(Instant::now() + period, period);
    let mut out = Writer { small_frames: options.small_frames, pending: Vec::new(), turn: 0 };
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            length = inner.read(&mut buffer) => {
                let length = length?;
                if length == 0 {
                    out.frame(&mut outer, CLOSE, &[]).await?;
                    out.flush(&mut outer).await?;
                    return outer.shutdown().await;
                }
                out.data(&mut outer, buffer.get(..length).unwrap_or_default()).await?;
            }
            _ = pings.tick() => {
                out.frame(&mut outer, PING_FRAME, PING).await?;
                out.flush(&mut outer).await?;
            }
        }
    }
}

/// Writes frames, whole or in small pieces.
struct Writer {
    small_frames: bool,
    /// The last bytes of a frame, to be written together with the next frame.
    pending: Vec<u8>,
    turn: usize,
}

impl Writer {
    async fn data<W: AsyncWrite + Unpin>(&mut self, outer: &mut W, payload: &[u8]) -> io::Result<()> {
        if !self.small_frames {
            return self.frame(outer, BINARY, payload).await;
        }
        let mut rest = payload;
        while !rest.is_empty() {
            // 1 to 13 bytes; 5 and 13 have no common divisor, so that all sizes occur.
            self.turn += 5;
            let (now, later) = rest.split_at(rest.len().min(self.turn % 13 + 1));
            self.frame(outer, BINARY, now).await?;
            rest = later;
        }
        self.flush(outer).await
    }

    async fn frame<W: AsyncWrite + Unpin>(&mut self, outer: &mut W, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = header(opcode, payload.len());
        frame.extend_from_slice(payload);
        if !self.small_frames {
            outer.write_all(&frame).await?;
            return outer.flush().await;
        }
        self.pending.extend(frame);
        // 1 to 7 bytes at a time; the last bytes of a frame wait for the next one.
        loop {
            self.turn += 1;
            let size = self.turn % 7 + 1;
            if self.pending.len() <= size {
                return Ok(());
            }
            let piece: Vec<u8> = self.pending.drain(..size).collect();
            outer.write_all(&piece).await?;
            outer.flush().await?;
        }
    }

    async fn flush<W: AsyncWrite + Unpin>(&mut self, outer: &mut W) -> io::Result<()> {
        outer.write_all(&std::mem::take(&mut self.pending)).await?;
        outer.flush().await
    }
}

/// The header of a frame of the server.
fn header(opcode: u8, length: usize) -> Vec<u8> {
    let mut header = vec![FIN | opcode];
    match u16::try_from(length) {
        Ok(short @ 0..126) => header.extend(short.to_be_bytes().get(1..).unwrap_or_default()),
        Ok(medium) => {
            header.push(126);
            header.extend(medium.to_be_bytes());
        }
        Err(_) => {
            header.push(127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

/// A frame of the client, after unmasking.
struct Frame {
    fin: bool,
    opcode: u8,
    masked: bool,
    payload: Vec<u8>,
}

impl Frame {
    async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Self> {
        let [first, second] = [from.read_u8().await?, from.read_u8().await?];
        let length = match second & !MASK {
            126 => from.read_u16().await?.into(),
            127 => from.read_u64().await?,
            short => short.into(),
        };
        if length > LARGEST {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let masked = second & MASK != 0;
        let mut key = [0; 4];
        if masked {
            from.read_exact(&mut key).await?;
        }
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        from.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(key.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(Self { fin: first & FIN != 0, opcode: first & 0x0f, masked, payload })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// RFC 6455, 1.3.
    #[test]
    fn the_accept_key_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn lengths_have_three_encodings() {
        assert_eq!(header(BINARY, 125), [0x82, 125]);
        assert_eq!(header(BINARY, 126), [0x82, 126, 0, 126]);
        assert_eq!(header(BINARY, 65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    /// The first frame is an example of RFC 6455, 5.7.
    #[tokio::test]
    async fn only_whole_masked_binary_frames_are_accepted() {
        let observed = Mutex::new(Vec::new());
        let mut sent = vec![0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        for (opcode, payload) in
            [(0x02, "part"), (0x80, "rest"), (0x81, "text"), (0x8a, "teleport"), (0x8a, "else"), (0x82, "")]
        {
            sent.extend([opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
            sent.extend(payload.as_bytes());
        }
        sent.extend([0x82, 1, b'!', 0x88, 0x80, 0, 0, 0, 0]);
        let mut received = Vec::new();
        from_client(&*sent, &mut received, |what| observed.lock().unwrap().push(what)).await.unwrap();
        assert_eq!(received, b"Hello!");
        let expected = [
            Observation::Mistake("fragmented frame"),
            Observation::Mistake("continuation frame"),
            Observation::Mistake("text frame"),
            Observation::Pong(true),
            Observation::Pong(false),
            Observation::Mistake("empty frame"),
            Observation::Mistake("unmasked frame"),
        ];
        assert_eq!(*observed.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn small_frames_carry_all_bytes() {
        let (client, server) = tokio::io::duplex(1 << 20);
        let (inner, mut data) = tokio::io::duplex(1 << 20);
        data.write_all(&[7; 1000]).await.unwrap();
        drop(data);
        let options = WriteOptions { ping: None, small_frames: true };
        relay(server, inner, options, |_| {}).await.unwrap();
        let (mut read, _write) = tokio::io::split(client);
        let (mut frames, mut total) = (0, 0);
        loop {
            let frame = Frame::read(&mut read).await.unwrap();
            if frame.opcode == CLOSE {
                break;
            }
            assert!((1..=13).contains(&frame.payload.len()) && frame.fin && !frame.masked);
            frames += 1;
            total += frame.payload.len();
        }
        assert_eq!(total, 1000);
        assert!(frames > 100, "{frames}");
    }
}
