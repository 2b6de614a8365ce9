//! A company's way out: an HTTP CONNECT proxy, in clear or over TLS, or a SOCKS5 server, good or bad. Every name leads
//! to this machine for it, so a cluster with a public name is reached by it and by nothing else.

mod connect;
mod socks5;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::authority::{RsaKey, SigningKey, WebSigner, issue_web_certificate};
use crate::cluster::now;
use crate::suite::KeyKind;
use crate::tls::{ServerCertificate, web_server};

/// What a gateway speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardProxyKind {
    /// HTTP CONNECT in clear.
    Http,
    /// HTTP CONNECT over TLS, with a certificate for `localhost` of an authority of its own.
    Https,
    /// SOCKS5.
    Socks5,
}

/// How a gateway is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardProxyBehavior {
    /// It does its work.
    #[default]
    Works,
    /// It does its work, and says what it says a byte at a time.
    ByteByByte,
    /// Nothing listens.
    Closed,
    /// It takes connections and says nothing.
    Hangs,
    /// It closes when it was targets.
    ClosesOnRequest,
    /// It says this, and closes.
    Sends(&'static [u8]),
    /// It responses every question with this HTTP status, these header lines and this body, or with this SOCKS5 reply.
    Responds(u16, &'static str, &'static str),
    /// It responses the first question so, and does its work from then on.
    RespondsOnce(u16),
    /// It lets the question of this number, counted from 0, wait for ever. Only HTTP.
    IgnoresRequest(usize),
}

/// A running gateway. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct ForwardProxy {
    shared: Arc<Shared>,
    addr: SocketAddr,
    ca_file: PathBuf,
    _directory: TempDir,
    runtime: Option<Runtime>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    kind: ForwardProxyKind,
    behavior: ForwardProxyBehavior,
    credentials: Option<(String, String)>,
    targets: Mutex<Vec<String>>,
}

/// Bytes both ways.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

impl ForwardProxy {
    /// A gateway for everybody.
    ///
    /// # Panics
    ///
    /// When the machine has no port, no temporary directory or no threads.
    pub fn start(kind: ForwardProxyKind, behavior: ForwardProxyBehavior) -> Self {
        Self::try_start(kind, behavior, None).expect("a free port, a temporary directory and threads")
    }

    /// A good gateway for whoever has these credentials.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn with_credentials(kind: ForwardProxyKind, user: &str, password: &str) -> Self {
        let credentials = Some((user.to_owned(), password.to_owned()));
        Self::try_start(kind, ForwardProxyBehavior::Works, credentials)
            .expect("a free port, a temporary directory and threads")
    }

    fn try_start(
        kind: ForwardProxyKind,
        behavior: ForwardProxyBehavior,
        credentials: Option<(String, String)>,
    ) -> io::Result<Self> {
        const DAY: u64 = 24 * 3600;
        let time = now(0);
        let key = SigningKey::new(KeyKind::P256, RsaKey::Server);
        let (signer, valid) =
            (WebSigner::Authority("Example Corp", "Example Corp Gateways"), (time - DAY, time + 90 * DAY));
        let (authority, certificate) = issue_web_certificate(signer, &key, &["localhost"], time, valid);
        let directory = TempDir::with_prefix("gateway-")?;
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, authority)?;
        let acceptor = TlsAcceptor::from(web_server(&ServerCertificate { certificate, key }));

        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let addr = socket.local_addr()?;
        let shared = Arc::new(Shared { kind, behavior, credentials, targets: Mutex::default() });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        if shared.behavior == ForwardProxyBehavior::Closed {
            runtime.spawn(async move {
                let _taken = socket;
                std::future::pending::<()>().await;
            });
        } else {
            let _inside = runtime.enter();
            runtime.spawn(listen(Arc::clone(&shared), socket.listen(1024)?, acceptor));
        }
        Ok(Self { shared, addr, ca_file, _directory: directory, runtime: Some(runtime) })
    }

    /// Its URL, `http://localhost:PORT`.
    pub fn url(&self) -> String {
        self.url_with("")
    }

    /// Its URL with these credentials: `user:password`, encoded.
    pub fn url_with(&self, credentials: &str) -> String {
        let at = if credentials.is_empty() { "" } else { "@" };
        let scheme = match self.shared.kind {
            ForwardProxyKind::Http => "http",
            ForwardProxyKind::Https => "https",
            ForwardProxyKind::Socks5 => "socks5",
        };
        format!("{scheme}://{credentials}{at}localhost:{}", self.port())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// PEM of the authority behind its certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The targets that it was asked for, as they were written.
    pub fn targets(&self) -> Vec<String> {
        self.shared.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn listen(shared: Arc<Shared>, listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        // Whatever ends a connection is the client's to notice.
        tokio::spawn(async move { shared.serve(connection, acceptor).await.ok() });
    }
}

impl Shared {
    async fn serve(&self, connection: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut client: Box<dyn ByteStream> = match self.kind {
            ForwardProxyKind::Https => Box::new(acceptor.accept(connection).await?),
            ForwardProxyKind::Http | ForwardProxyKind::Socks5 => Box::new(connection),
        };
        match self.behavior {
            ForwardProxyBehavior::Hangs => std::future::pending().await,
            ForwardProxyBehavior::Sends(words) => {
                client.write_all(words).await?;
                client.shutdown().await?;
                // Until it has gone: closing with unread bytes would be a reset.
                while client.read(&mut [0; 1024]).await? > 0 {}
                Ok(())
            }
            _ => {
                let target = match self.kind {
                    ForwardProxyKind::Http | ForwardProxyKind::Https => {
                        connect::read_request(self, &mut client).await?
                    }
                    ForwardProxyKind::Socks5 => socks5::read_request(self, &mut client).await?,
                };
                let Some(target) = target else { return client.shutdown().await };
                self.forward(client, &target).await
            }
        }
    }

    /// Opens the way, by the port of the target alone: whatever its name, it is on this machine.
    async fn forward(&self, mut client: Box<dyn ByteStream>, target: &str) -> io::Result<()> {
        let port = target.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        server.set_nodelay(true)?;
        let answer: &[u8] = match self.kind {
            ForwardProxyKind::Http | ForwardProxyKind::Https => {
                b"HTTP/1.1 200 Connection established\r\nVia: gateway\r\n\r\n"
            }
            ForwardProxyKind::Socks5 => b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
        };
        self.send(&mut client, answer).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }

    async fn send(&self, client: &mut Box<dyn ByteStream>, words: &[u8]) -> io::Result<()> {
        let size = if self.behavior == ForwardProxyBehavior::ByteByByte { 1 } else { words.len().max(1) };
        for piece in words.chunks(size) {
            client.write_all(piece).await?;
            client.flush().await?;
            if size == 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }

    /// Writes down what was asked for; gives how many questions there were before.
    fn record(&self, target: &str) -> usize {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.push(target.to_owned());
        targets.len() - 1
    }

    /// What is answered to this question instead of opening the way.
    fn refusal(&self, before: usize) -> Option<(u16, &'static str, &'static str)> {
        match self.behavior {
            ForwardProxyBehavior::Responds(status, headers, body) => Some((status, headers, body)),
            ForwardProxyBehavior::RespondsOnce(status) if before == 0 => Some((status, "", "")),
            _ => None,
        }
    }
}
