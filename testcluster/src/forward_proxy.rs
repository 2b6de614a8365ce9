//! A forward proxy: HTTP CONNECT with or without TLS, or SOCKS5. It resolves every name to this machine, so that a
//! cluster with a public name can be reached through it and in no other way.

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

/// The protocol of a forward proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardProxyKind {
    /// HTTP CONNECT.
    Http,
    /// HTTP CONNECT over TLS, with a certificate for `localhost` of a private authority.
    Https,
    /// SOCKS5.
    Socks5,
}

/// How a forward proxy behaves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardProxyBehavior {
    /// It forwards.
    #[default]
    Works,
    /// It forwards, and writes its own responses a byte at a time.
    ByteByByte,
    /// Nothing listens on its port.
    Closed,
    /// It accepts connections and never responds.
    Hangs,
    /// It closes the connection after the request.
    ClosesOnRequest,
    /// It sends these bytes and closes the connection.
    Sends(&'static [u8]),
    /// It responds to every request with an HTTP status, header lines and a body, or with a SOCKS5 reply.
    Responds(u16, &'static str, &'static str),
    /// It responds to the first request with this status or reply, and then forwards.
    RespondsOnce(u16),
    /// It never responds to the request of this number, counted from 0. Only HTTP.
    IgnoresRequest(usize),
}

/// A running forward proxy. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct ForwardProxy {
    shared: Arc<Shared>,
    addr: SocketAddr,
    ca_file: PathBuf,
    _directory: TempDir,
    runtime: Option<Runtime>,
}

/// The state of all connections.
#[derive(Debug)]
struct Shared {
    kind: ForwardProxyKind,
    behavior: ForwardProxyBehavior,
    credentials: Option<(String, String)>,
    targets: Mutex<Vec<String>>,
}

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

impl ForwardProxy {
    /// Starts a forward proxy without authentication.
    ///
    /// # Panics
    ///
    /// If there is no free port, no temporary directory or no thread.
    pub fn start(kind: ForwardProxyKind, behavior: ForwardProxyBehavior) -> Self {
        Self::try_start(kind, behavior, None).expect("a free port, a temporary directory and threads")
    }

    /// Starts a forward proxy that requires these credentials.
    ///
    /// # Panics
    ///
    /// Like [`start`](Self::start).
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
        let directory = TempDir::with_prefix("forward-proxy-")?;
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
            let _guard = runtime.enter();
            runtime.spawn(listen(Arc::clone(&shared), socket.listen(1024)?, acceptor));
        }
        Ok(Self { shared, addr, ca_file, _directory: directory, runtime: Some(runtime) })
    }

    /// Its URL, `http://localhost:PORT`.
    pub fn url(&self) -> String {
        self.url_with("")
    }

    /// Its URL with credentials, `user:password` in percent encoding.
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

    /// PEM of the authority that signed its certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The targets of all requests, as the client wrote them.
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
        // Tests look at what the client makes of an error.
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
            ForwardProxyBehavior::Sends(bytes) => {
                client.write_all(bytes).await?;
                client.shutdown().await?;
                // Reads until the client has closed, because close() with unread bytes sends RST.
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

    /// Connects to the target's port on this machine, whatever its name, and copies bytes.
    async fn forward(&self, mut client: Box<dyn ByteStream>, target: &str) -> io::Result<()> {
        let port = target.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        server.set_nodelay(true)?;
        let response: &[u8] = match self.kind {
            ForwardProxyKind::Http | ForwardProxyKind::Https => {
                b"HTTP/1.1 200 Connection established\r\nVia: gateway\r\n\r\n"
            }
            ForwardProxyKind::Socks5 => b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
        };
        self.send(&mut client, response).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }

    async fn send(&self, client: &mut Box<dyn ByteStream>, bytes: &[u8]) -> io::Result<()> {
        let size = if self.behavior == ForwardProxyBehavior::ByteByByte { 1 } else { bytes.len().max(1) };
        for piece in bytes.chunks(size) {
            client.write_all(piece).await?;
            client.flush().await?;
            if size == 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }

    /// Records a target, and returns the number of earlier requests.
    fn record(&self, target: &str) -> usize {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.push(target.to_owned());
        targets.len() - 1
    }

    /// The response to a request that is not forwarded.
    fn refusal(&self, before: usize) -> Option<(u16, &'static str, &'static str)> {
        match self.behavior {
            ForwardProxyBehavior::Responds(status, headers, body) => Some((status, headers, body)),
            ForwardProxyBehavior::RespondsOnce(status) if before == 0 => Some((status, "", "")),
            _ => None,
        }
    }
}
