//! A small bot that shares only the protobuf messages with the cluster.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use prost_types::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use ssh_key::{Algorithm, EcdsaCurve, PrivateKey};
use teleport_api::proto::UserCertsRequest;
use teleport_api::proto::auth_service_client::AuthServiceClient;
use teleport_api::teleport::join::v1 as join;
use teleport_api::teleport::join::v1::join_request::Payload as RequestPayload;
use teleport_api::teleport::join::v1::join_service_client::JoinServiceClient;
use testcluster::Testcluster;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// An error of gRPC or of a layer below.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A connection below TLS.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// The key pair of a bot.
pub(crate) struct Key {
    pub(crate) ssh: PrivateKey,
    tls: p256::SecretKey,
}

impl Key {
    pub(crate) fn new() -> Self {
        let algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let ssh = PrivateKey::random(&mut rand_core::OsRng, algorithm).unwrap();
        let tls = p256::SecretKey::from_slice(ssh.key_data().ecdsa().unwrap().private_key_bytes()).unwrap();
        Self { ssh, tls }
    }

    fn der(&self) -> Vec<u8> {
        self.tls.public_key().to_public_key_der().unwrap().into_vec()
    }

    fn pem(&self) -> String {
        self.tls.public_key().to_public_key_pem(LineEnding::LF).unwrap()
    }
}

/// The settings of a TLS client.
pub(crate) struct Dial<'a> {
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) name: String,
    pub(crate) alpn: &'a [&'a str],
    pub(crate) identity: Option<(Vec<CertificateDer<'static>>, Vec<u8>)>,
}

impl Dial<'_> {
    /// Trusts the authority of the web certificate.
    pub(crate) fn web<'a>(cluster: &Testcluster, alpn: &'a [&'a str]) -> Dial<'a> {
        let roots = vec![CertificateDer::from_pem_file(cluster.web_ca_file()).unwrap()];
        Dial { roots, name: "localhost".into(), alpn, identity: None }
    }

    /// Does not verify the server.
    pub(crate) fn unverified<'a>(alpn: &'a [&'a str]) -> Dial<'a> {
        Dial { roots: Vec::new(), name: "localhost".into(), alpn, identity: None }
    }

    pub(crate) async fn connect(self, cluster: &Testcluster) -> Result<TlsStream<TcpStream>, Failure> {
        self.connect_over(TcpStream::connect(("127.0.0.1", cluster.port())).await?).await
    }

    pub(crate) async fn connect_over<S: ByteStream>(self, stream: S) -> Result<TlsStream<S>, Failure> {
        let unverified = self.roots.is_empty();
        let mut roots = RootCertStore::empty();
        for root in self.roots {
            roots.add(root)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key)))?
            }
        };
        if unverified {
            config.dangerous().set_certificate_verifier(Arc::new(AcceptAll));
        }
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(self.name)?, stream).await?)
    }

    pub(crate) async fn grpc(self, cluster: &Testcluster) -> Result<Http2, Failure> {
        self.grpc_over(TcpStream::connect(("127.0.0.1", cluster.port())).await?).await
    }

    pub(crate) async fn grpc_over<S: ByteStream>(self, stream: S) -> Result<Http2, Failure> {
        let stream = self.connect_over(stream).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Http2(sender))
    }
}

/// Accepts every certificate: a bot that joins through an upgrade does not have the host CA yet.
#[derive(Debug)]
struct AcceptAll;

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// An HTTP/2 connection as the service that generated clients need.
#[derive(Clone)]
pub(crate) struct Http2(SendRequest<tonic::body::Body>);

impl tower_service::Service<Request<tonic::body::Body>> for Http2 {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Sends an HTTP/1.1 request, and returns status and body of the response.
pub(crate) async fn http(cluster: &Testcluster, request: &str, body: &str) -> (u16, String) {
    let mut stream = Dial::web(cluster, &["http/1.1"]).connect(cluster).await.unwrap();
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut response = Vec::new();
    // The connection may break after the beginning of a response.
    let _broken = stream.read_to_end(&mut response).await;
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, body.to_owned())
}

fn in_seconds(seconds: i64) -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Timestamp { seconds: now as i64 + seconds, nanos: 0 }
}

/// The message of a bot after `ServerInit`.
pub(crate) fn oidc_init(key: &Key, token: &str) -> join::OidcInit {
    let public_keys =
        join::PublicKeys { public_tls_key: key.der(), public_ssh_key: key.ssh.public_key().to_bytes().unwrap() };
    let bot = join::BotParams { public_keys: Some(public_keys), expires: Some(in_seconds(3600)) };
    join::OidcInit {
        client_params: Some(join::ClientParams { payload: Some(join::client_params::Payload::BotParams(bot)) }),
        id_token: token.as_bytes().to_vec(),
    }
}

/// Joins with the join service by these messages.
pub(crate) async fn join_with(
    cluster: &Testcluster,
    init: join::ClientInit,
    oidc: join::OidcInit,
) -> Result<join::Certificates, Status> {
    let aborted = |error: Failure| Status::new(Code::Aborted, error.to_string());
    let channel = Dial::web(cluster, &["teleport-proxy-grpc", "h2"]).grpc(cluster).await.map_err(aborted)?;
    join_over(channel, init, oidc).await
}

/// [`join_with`] over an open connection.
pub(crate) async fn join_over(
    channel: Http2,
    init: join::ClientInit,
    oidc: join::OidcInit,
) -> Result<join::Certificates, Status> {
    let mut client = JoinServiceClient::with_origin(channel, "https://localhost".parse().unwrap());
    let (requests, stream) = mpsc::channel(4);
    let request = |payload| join::JoinRequest { payload: Some(payload) };
    requests.send(request(RequestPayload::ClientInit(init))).await.unwrap();
    let mut responses = client.join(ReceiverStream::new(stream)).await?.into_inner();
    let first = responses.message().await?.and_then(|response| response.payload);
    let Some(join::join_response::Payload::Init(_)) = first else {
        panic!("the first response is ServerInit");
    };
    // The server may have ended the stream, and the next response has the error.
    let _ended = requests.send(request(RequestPayload::OidcInit(oidc))).await;
    let second = responses.message().await?.and_then(|response| response.payload);
    let Some(join::join_response::Payload::Result(result)) = second else {
        panic!("the second response is Result");
    };
    drop(requests);
    assert!(responses.message().await?.is_none(), "the stream ends once the client has half-closed");
    match result.payload {
        Some(join::result::Payload::BotResult(bot)) => Ok(bot.certificates.unwrap()),
        None => panic!("a bot gets a BotResult"),
    }
}

pub(crate) fn client_init(cluster: &Testcluster) -> join::ClientInit {
    join::ClientInit { join_method: None, token_name: cluster.token_name().into(), system_role: "Bot".into() }
}

/// A bot that has joined.
pub(crate) struct Bot {
    pub(crate) key: Key,
    pub(crate) certificates: join::Certificates,
}

impl Bot {
    pub(crate) async fn join(cluster: &Testcluster) -> Self {
        let key = Key::new();
        let oidc = oidc_init(&key, &cluster.step_token());
        let certificates = join_with(cluster, client_init(cluster), oidc).await.unwrap();
        Self { key, certificates }
    }

    pub(crate) fn dial<'a>(&self, name: &str, alpn: &'a [&'a str]) -> Dial<'a> {
        let certificate = CertificateDer::from(self.certificates.tls_cert.clone());
        Dial {
            roots: self.certificates.tls_ca_certs.iter().cloned().map(CertificateDer::from).collect(),
            name: name.into(),
            alpn,
            identity: Some((vec![certificate], self.key.tls.to_pkcs8_der().unwrap().as_bytes().to_vec())),
        }
    }

    /// Auth, by its ALPN name.
    pub(crate) async fn auth(&self, cluster: &Testcluster) -> Result<AuthServiceClient<Http2>, Failure> {
        let channel = self.auth_channel(cluster).await?;
        Ok(AuthServiceClient::with_origin(channel, "https://localhost".parse().unwrap()))
    }

    pub(crate) async fn auth_channel(&self, cluster: &Testcluster) -> Result<Http2, Failure> {
        let (sni, alpn) = auth_names(cluster.name());
        self.dial(&sni, &[&alpn, "h2"]).grpc(cluster).await
    }
}

/// The server name and the ALPN name of a cluster's Auth.
pub(crate) fn auth_names(cluster: &str) -> (String, String) {
    let hex: String = cluster.bytes().map(|byte| format!("{byte:02x}")).collect();
    let sni = format!("{hex}.teleport.cluster.local");
    (sni.clone(), format!("teleport-auth@{sni}"))
}

/// A valid request for user certificates.
pub(crate) fn user_certs(cluster: &Testcluster, key: &Key) -> UserCertsRequest {
    UserCertsRequest {
        username: cluster.bot_user().into(),
        expires: Some(in_seconds(3600)),
        route_to_cluster: String::new(),
        role_requests: vec!["example-role".into()],
        use_role_requests: true,
        ssh_public_key: key.ssh.public_key().to_openssh().unwrap().into_bytes(),
        tls_public_key: key.pem().into_bytes(),
    }
}
