//! TLS over a stream, by rustls without its own buffers.
//!
//! tokio-rustls receives at most 4 KiB at a time and moves the beginning of a record whenever more of it arrives. Here one
//! read takes everything that has arrived, and a write is sent together with others at the next flush.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroizing;

/// The size of the buffer for received bytes. A record has up to 16 KiB and a handshake message may have several.
const INCOMING: usize = 64 * 1024;

/// The most bytes of one record (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;

/// As many encrypted bytes are sent without waiting for a flush.
const OUTGOING: usize = 64 * 1024;

/// The client's end of a TLS connection, after the handshake. One task must poll both directions.
pub(crate) struct TlsStream<S> {
    stream: S,
    connection: UnbufferedClientConnection,
    /// What was received; from `start` to `end` it is not yet processed.
    incoming: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
    /// What was decrypted and did not fit into the caller's buffer; from `read` on it is not yet read.
    plaintext: Zeroizing<Vec<u8>>,
    read: usize,
    outgoing: Outgoing,
    is_closed: bool,
    /// The error after which nothing is processed any more.
    failed: Option<rustls::Error>,
}

/// What to do, besides what TLS itself needs.
enum Purpose<'a, 'b> {
    Nothing,
    Read(&'a mut ReadBuf<'b>),
    Write(&'a [u8]),
    Close,
}

/// What processing the received bytes has led to.
enum State {
    /// The handshake needs more bytes.
    Handshake,
    /// A record was decrypted.
    Decrypted,
    /// All records were decrypted. If something was to be written, it is encrypted.
    Idle,
    /// The server has closed its direction.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Performs the handshake. If it fails, returns the stream with the error, which has one of rustls inside if TLS itself
    /// failed.
    pub(crate) async fn connect(
        config: Arc<ClientConfig>,
        server: ServerName<'static>,
        stream: S,
    ) -> Result<Self, (io::Error, S)> {
        let connection = match UnbufferedClientConnection::new(config, server) {
            Ok(connection) => connection,
            Err(error) => return Err((tls(error), stream)),
        };
        let mut this = Self {
            stream,
            connection,
            incoming: vec![0; INCOMING].into(),
            start: 0,
            end: 0,
            plaintext: Zeroizing::default(),
            read: 0,
            outgoing: Outgoing::default(),
            is_closed: false,
            failed: None,
        };
        match poll_fn(|cx| this.poll_handshake(cx)).await {
            Ok(()) => Ok(this),
            Err(error) => Err((error, this.stream)),
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let state = self.process(Purpose::Nothing);
            // Also the alert that tells the server about an error. If sending fails, that may follow from the same error.
            let sent = Pin::new(&mut *self).poll_flush(cx);
            if !matches!(state?, State::Handshake) {
                return sent;
            }
            // The server need not read before it has sent everything.
            if let Poll::Ready(sent) = sent {
                sent?;
            }
            if !ready!(self.poll_receive(cx))? {
                return Poll::Ready(Err(end_of_stream()));
            }
        }
    }

    /// Processes one record after the other, up to one with plaintext.
    fn process(&mut self, mut purpose: Purpose<'_, '_>) -> io::Result<State> {
        if let Some(error) = &self.failed {
            return Err(tls(error.clone()));
        }
        loop {
            let Self { connection, incoming, start, end, plaintext, outgoing, .. } = self;
            let received = incoming.get_mut(*start..*end).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = connection.process_tls_records(received);
            let state = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    outgoing.append(|room| Ok(data.encode(room)?))?;
                    None
                }
                // It is in `outgoing`, in front of everything that comes later.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(tls)?;
                        discard += record.discard;
                        let room = if let Purpose::Read(out) = &purpose { out.remaining() } else { 0 };
                        let (fitting, rest) = record.payload.split_at(room.min(record.payload.len()));
                        if let Purpose::Read(out) = &mut purpose {
                            out.put_slice(fitting);
                        }
                        plaintext.extend_from_slice(rest);
                    }
                    Some(State::Decrypted)
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match purpose {
                        Purpose::Nothing | Purpose::Read(_) => {}
                        Purpose::Write(bytes) => outgoing.append(|room| Ok(traffic.encrypt(bytes, room)?))?,
                        Purpose::Close => outgoing.append(|room| Ok(traffic.queue_close_notify(room)?))?,
                    }
                    Some(State::Idle)
                }
                Ok(ConnectionState::BlockedHandshake) => Some(State::Handshake),
                Ok(ConnectionState::PeerClosed) => Some(State::Closed),
                // In both directions.
                Ok(ConnectionState::Closed) if matches!(purpose, Purpose::Write(_)) => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Ok(ConnectionState::Closed) => Some(State::Idle),
                // Early data, which a client does not receive.
                Ok(_) => return Err(io::ErrorKind::Unsupported.into()),
                Err(error) => {
                    // The alert for the server, which comes before anything else is processed.
                    let unprocessed = received.get_mut(discard..).unwrap_or_default();
                    while connection.wants_write()
                        && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                            connection.process_tls_records(unprocessed).state
                    {
                        outgoing.append(|room| Ok(data.encode(room)?))?;
                    }
                    self.failed = Some(error.clone());
                    return Err(tls(error));
                }
            };
            self.start += discard;
            if let Some(state) = state {
                self.is_closed |= matches!(state, State::Closed);
                return Ok(state);
            }
        }
    }

    /// Receives more bytes. Returns false at the end of the stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.start > 0 {
            self.incoming.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut room = ReadBuf::new(self.incoming.get_mut(self.end..).unwrap_or_default());
        if room.remaining() == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too large")));
        }
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let length = room.filled().len();
        self.end += length;
        Poll::Ready(Ok(length > 0))
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let unsent @ [_, ..] = self.outgoing.unsent() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.outgoing.sent(length),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> TlsStream<S> {
    /// The facts of the handshake.
    pub(crate) fn facts(&self) -> &CommonState {
        &self.connection
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        while out.remaining() > 0 {
            let unread = this.plaintext.get(this.read..).unwrap_or_default();
            if !unread.is_empty() {
                let length = unread.len().min(out.remaining());
                out.put_slice(unread.get(..length).unwrap_or_default());
                this.read += length;
                return Poll::Ready(Ok(()));
            }
            this.plaintext.clear();
            this.read = 0;
            if this.is_closed {
                break;
            }
            let state = this.process(Purpose::Read(out));
            // Whatever waits to be sent, such as an alert or, in a `WebSocket` on top, a pong. An error is that of the next
            // write: what the server has sent before, and its reason, can still be read.
            let _ = this.poll_send(cx);
            if matches!(state?, State::Decrypted | State::Closed) {
                if out.filled().len() > before {
                    break;
                }
                continue;
            }
            if !ready!(this.poll_receive(cx))? {
                return Poll::Ready(Err(end_of_stream()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.outgoing.unsent().len() >= OUTGOING {
            ready!(this.poll_send(cx))?;
        }
        let bytes = bytes.get(..RECORD).unwrap_or(bytes);
        // What is decrypted on the way waits for the reader.
        while !matches!(this.process(Purpose::Write(bytes))?, State::Idle) {}
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !matches!(this.process(Purpose::Close)?, State::Idle) {}
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// Encrypted bytes on their way to the server.
#[derive(Default)]
struct Outgoing {
    /// From `start` to `end` they are not yet sent. The rest is room for others.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outgoing {
    /// Lets rustls write into the room behind the last byte, which is as large as it needs.
    fn append(&mut self, mut write: impl FnMut(&mut [u8]) -> Result<usize, NotWritten>) -> io::Result<()> {
        loop {
            match write(self.bytes.get_mut(self.end..).unwrap_or_default()) {
                Ok(length) => {
                    self.end += length;
                    return Ok(());
                }
                Err(NotWritten::Needs(size)) => {
                    self.bytes.drain(..self.start);
                    (self.start, self.end) = (0, self.end - self.start);
                    self.bytes.resize(self.end + size, 0);
                }
                Err(NotWritten::Failed(error)) => return Err(error),
            }
        }
    }

    fn unsent(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn sent(&mut self, length: usize) {
        self.start += length;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

/// Why rustls wrote nothing.
enum NotWritten {
    /// As many bytes of room are needed.
    Needs(usize),
    Failed(io::Error),
}

impl From<EncodeError> for NotWritten {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Self::Needs(required_size),
            other @ EncodeError::AlreadyEncoded => Self::Failed(io::Error::other(other)),
        }
    }
}

impl From<EncryptError> for NotWritten {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Self::Needs(required_size),
            other @ EncryptError::EncryptExhausted => Self::Failed(io::Error::other(other)),
        }
    }
}

fn tls(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The stream has ended, and the server has not said so by TLS.
fn end_of_stream() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed in the middle")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{AlertDescription, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_rustls::{TlsAcceptor, server};

    use super::*;

    type Server = server::TlsStream<DuplexStream>;

    /// A server, and a client that trusts it.
    fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let made = rcgen::generate_simple_self_signed(["proxy.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let server = ServerConfig::builder_with_protocol_versions(&[version]).with_no_client_auth();
        let client = ClientConfig::builder_with_protocol_versions(&[version]);
        (
            Arc::new(server.with_single_cert(vec![made.cert.der().clone()], key).unwrap()),
            Arc::new(client.with_root_certificates(roots).with_no_client_auth()),
        )
    }

    async fn connect(
        version: &'static SupportedProtocolVersion,
        name: &'static str,
    ) -> (io::Result<Server>, io::Result<TlsStream<DuplexStream>>) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (server, client) = configs(version);
        let client = async {
            let connected = TlsStream::connect(client, name.try_into().unwrap(), near).await;
            connected.map_err(|(error, _)| error)
        };
        tokio::join!(TlsAcceptor::from(server).accept(far), client)
    }

    async fn connected() -> (Server, TlsStream<DuplexStream>) {
        let (server, client) = connect(&version::TLS13, "proxy.example").await;
        (server.unwrap(), client.unwrap())
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    /// Writes everything in pieces of this size and reads as many bytes, at the same time.
    async fn exchange(stream: impl AsyncRead + AsyncWrite, bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut from, mut to) = tokio::io::split(stream);
        let mut received = Vec::new();
        let writing = async {
            for piece in bytes.chunks(piece) {
                to.write_all(piece).await.unwrap();
                to.flush().await.unwrap();
            }
        };
        let reading = async {
            let mut buffer = vec![0; piece];
            while received.len() < bytes.len() {
                let length = from.read(&mut buffer).await.unwrap();
                assert!(length > 0);
                received.extend_from_slice(&buffer[..length]);
            }
        };
        tokio::join!(writing, reading);
        received
    }

    #[tokio::test]
    async fn bytes_pass_in_both_directions_at_once() {
        for version in [&version::TLS12, &version::TLS13] {
            for (size, piece, length) in [(1, 7, 500), (1000, 100, 20_000), (1 << 16, 100_000, 1 << 20)] {
                let sent = bytes(length);
                let (near, far) = tokio::io::duplex(size);
                let (server, client) = configs(version);
                // The server waits until its session tickets are read.
                let server =
                    async { exchange(TlsAcceptor::from(server).accept(far).await.unwrap(), &sent, piece).await };
                let client = async {
                    let client = TlsStream::connect(client, "proxy.example".try_into().unwrap(), near).await;
                    exchange(client.map_err(|(error, _)| error).unwrap(), &sent, piece).await
                };
                let received = tokio::join!(server, client);
                assert!(received == (sent.clone(), sent), "{version:?} {size} {piece}");
            }
        }
    }

    #[tokio::test]
    async fn keys_may_be_updated() {
        let (mut server, mut client) = connected().await;
        for _ in 0..3 {
            server.get_mut().1.refresh_traffic_keys().unwrap();
            let sent = bytes(40_000);
            let received = tokio::join!(exchange(&mut server, &sent, 1000), exchange(&mut client, &sent, 1000));
            assert!(received == (sent.clone(), sent));
        }
    }

    #[tokio::test]
    async fn writes_are_sent_together_when_they_are_flushed() {
        let (mut server, mut client) = connected().await;
        for byte in b"abc" {
            client.write_all(&[*byte]).await.unwrap();
        }
        let mut received = [0; 3];
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), server.read_exact(&mut received)).await;
        assert!(early.is_err());
        client.flush().await.unwrap();
        server.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"abc");
    }

    #[tokio::test]
    async fn an_end_without_a_close_notify_is_an_error_after_the_last_byte() {
        for is_clean in [true, false] {
            let (mut server, mut client) = connected().await;
            server.write_all(&bytes(30_000)).await.unwrap();
            server.flush().await.unwrap();
            if is_clean {
                server.shutdown().await.unwrap();
            }
            drop(server);
            let mut received = Vec::new();
            let end = client.read_to_end(&mut received).await;
            assert_eq!(received, bytes(30_000));
            assert_eq!(end.map_err(|error| error.kind()).err(), (!is_clean).then_some(io::ErrorKind::UnexpectedEof));
        }
    }

    #[tokio::test]
    async fn a_shutdown_sends_a_close_notify() {
        let (mut server, mut client) = connected().await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last");
        assert!(client.write_all(b"more").await.is_err() || client.flush().await.is_err());
    }

    /// Passes everything on, and changes one byte of the first record that follows `change`.
    async fn tamper(from: DuplexStream, to: DuplexStream, change: &Cell<bool>) {
        let ((mut from_server, mut to_server), (mut from_client, mut to_client)) =
            (tokio::io::split(from), tokio::io::split(to));
        let backward = async {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                if change.take() {
                    buffer[7] ^= 1;
                }
                to_client.write_all(&buffer[..length]).await.unwrap();
            }
        };
        let _ = tokio::join!(backward, tokio::io::copy(&mut from_client, &mut to_server));
    }

    #[tokio::test]
    async fn a_record_that_was_changed_is_an_error_that_stays() {
        let ((near, client_end), (server_end, far)) = (tokio::io::duplex(1 << 16), tokio::io::duplex(1 << 16));
        let (server, client) = configs(&version::TLS13);
        let (change, tls_error) = (Cell::new(false), |error: io::Error| error.downcast::<rustls::Error>().unwrap());
        let server = async {
            let mut server = TlsAcceptor::from(server).accept(far).await.unwrap();
            let mut buffer = [0; 8];
            server.read_exact(&mut buffer[..2]).await.unwrap();
            change.set(true);
            server.write_all(b"changed").await.unwrap();
            server.flush().await.unwrap();
            tls_error(server.read(&mut buffer).await.unwrap_err())
        };
        let client = async {
            let client = TlsStream::connect(client, "proxy.example".try_into().unwrap(), near).await;
            let mut client = client.map_err(|(error, _)| error).unwrap();
            client.write_all(b"ok").await.unwrap();
            client.flush().await.unwrap();
            for _ in 0..2 {
                assert_eq!(tls_error(client.read(&mut [0; 8]).await.unwrap_err()), rustls::Error::DecryptError);
            }
            assert!(client.write_all(b"more").await.is_err());
            client
        };
        let received = tokio::select! {
            (received, _client) = async { tokio::join!(server, client) } => received,
            () = tamper(server_end, client_end, &change) => panic!("a stream ended"),
        };
        assert_eq!(received, rustls::Error::AlertReceived(AlertDescription::BadRecordMac));
    }

    #[tokio::test]
    async fn what_the_server_sent_last_can_be_read_when_nothing_can_be_sent() {
        let (mut server, mut client) = connected().await;
        server.write_all(b"last").await.unwrap();
        server.shutdown().await.unwrap();
        drop(server);
        client.write_all(b"unsent").await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last");
        assert!(client.flush().await.is_err());
    }

    #[test]
    fn bytes_that_were_sent_make_room() {
        let mut outgoing = Outgoing::default();
        let write = |room: &mut [u8]| if room.len() < 1000 { Err(NotWritten::Needs(1000)) } else { Ok(1000) };
        for _ in 0..100 {
            outgoing.append(write).unwrap();
            outgoing.sent(if outgoing.unsent().len() > 1000 { 1000 } else { 500 });
        }
        assert!(outgoing.bytes.capacity() < 10_000, "{}", outgoing.bytes.capacity());
    }

    #[tokio::test]
    async fn an_alert_says_why_the_handshake_failed() {
        for version in [&version::TLS12, &version::TLS13] {
            let (server, client) = connect(version, "other.example").await;
            let alert = server.unwrap_err();
            let alert = alert.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()).cloned();
            assert_eq!(alert, Some(rustls::Error::AlertReceived(AlertDescription::BadCertificate)));
            let error = client.err().unwrap();
            let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            assert!(matches!(error, Some(rustls::Error::InvalidCertificate(_))), "{error:?}");
        }
    }
}
