//! TLS 1.3 by the libraries of teleport-pipe, and nothing else: the relay, and one HTTP request.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Reads certificates in PEM.
pub(crate) fn trust(file: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    Ok(roots)
}

/// Connects to an address that has a certificate for `localhost`.
pub(crate) async fn connect(addr: &str, roots: &RootCertStore) -> io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// One connection to a Teleport proxy and one HTTP request: what a run costs at least.
pub(crate) fn handshake(addr: &str, ca_file: &Path) -> io::Result<()> {
    let roots = trust(ca_file)?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let mut stream = connect(addr, &roots).await?;
        stream.write_all(b"GET /webapi/find HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut response = Vec::new();
        // The proxy may close the connection without the end of TLS.
        let _ = stream.read_to_end(&mut response).await;
        if response.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(io::Error::other("no response")) }
    })
}
