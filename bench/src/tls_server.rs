//! A TLS 1.3 server that forwards to a TCP address: the other end of the bare TLS relay.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::relay::BUFFER;

/// Starts a server, which runs until the program ends, and returns its address. It writes its new certificate, for
/// `localhost`, to the file.
pub(crate) fn start(target: String, certificate: &Path) -> io::Result<SocketAddr> {
    let acceptor = acceptor(certificate)?;
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::spawn(move || runtime.block_on(serve(listener, acceptor, target)));
    Ok(addr)
}

fn acceptor(certificate: &Path) -> io::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    fs::write(certificate, made.cert.pem())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    // teleport-peer, as every server in Go, negotiates this one with clients on processors that have AES.
    let cipher_suites = vec![rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = CryptoProvider { cipher_suites, ..rustls::crypto::ring::default_provider() };
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: StdListener, acceptor: TlsAcceptor, target: String) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        // What fails there shows in the client.
        tokio::spawn(forward(client, acceptor.clone(), target.clone()));
    }
}

async fn forward(client: TcpStream, acceptor: TlsAcceptor, target: String) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::tls_client;

    #[test]
    fn it_forwards_and_hands_on_the_end() {
        let node = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let certificate = directory.path().join("certificate");
        let addr = start(node.local_addr().unwrap().to_string(), &certificate).unwrap();
        let echo = thread::spawn(move || {
            let (stream, _) = node.accept().unwrap();
            io::copy(&mut &stream, &mut &stream).unwrap()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let text = runtime.block_on(async {
            let roots = tls_client::trust(&certificate).unwrap();
            let mut stream = tls_client::connect(&addr.to_string(), &roots).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        });
        assert_eq!((text.as_str(), echo.join().unwrap()), ("hello", 5));
    }
}
