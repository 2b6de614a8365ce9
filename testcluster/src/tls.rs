//! The three faces of the port: the web's certificate, Auth and the transport service.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ConfigBuilder, RootCertStore, WantsVerifier};

use crate::alpn::{H2, Route, TRANSPORT, WEB_PREFERENCE};
use crate::authority::{Authority, SigningKey};
use crate::cluster::now;

/// TLS settings per route.
#[derive(Clone, Debug)]
pub(crate) struct Faces {
    web: Arc<ServerConfig>,
    auth: Arc<ServerConfig>,
    transport: Arc<ServerConfig>,
}

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Face {
    pub certificate: Vec<u8>,
    pub key: SigningKey,
}

impl Faces {
    /// Auth knows `h2` and nothing else, so a client that offers only its routing name is refused
    /// (teleport-issue-and-outputs.md 9.4); the transport service prefers `h2` (teleport-ssh-proxy.md 2.2).
    pub(crate) fn new(web: &Face, auth: &Face, transport: &Face, user_ca: &Authority, clock_offset: i64) -> Self {
        let builder = || builder(clock_offset);
        let with_clients_of = |authority| with_clients_of(builder(), authority);
        Self {
            web: Arc::new(with_alpn(server(builder().with_no_client_auth(), web), &WEB_PREFERENCE)),
            auth: Arc::new(with_alpn(server(with_clients_of(user_ca), auth), &[H2])),
            transport: Arc::new(with_alpn(server(with_clients_of(user_ca), transport), &[H2, TRANSPORT])),
        }
    }

    pub(crate) fn of(&self, route: Route) -> Arc<ServerConfig> {
        Arc::clone(match route {
            Route::Web | Route::Join | Route::ReverseTunnel => &self.web,
            Route::Auth => &self.auth,
            Route::Transport => &self.transport,
        })
    }
}

type WantsCertificate = ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>;

/// The cluster's clock, by which client certificates are valid or not.
#[derive(Debug)]
struct Clock {
    offset: i64,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now(self.offset))))
    }
}

fn builder(offset: i64) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(Clock { offset }))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
}

/// A client certificate of the user CA is a must.
fn with_clients_of(builder: ConfigBuilder<ServerConfig, WantsVerifier>, user_ca: &Authority) -> WantsCertificate {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(user_ca.der())).expect("our own authority's certificate is sound");
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    builder.with_client_cert_verifier(verifier.expect("there is a root"))
}

fn server(builder: WantsCertificate, face: &Face) -> ServerConfig {
    let chain = vec![CertificateDer::from(face.certificate.clone())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(face.key.pkcs8()));
    builder.with_single_cert(chain, key).expect("our own certificate fits its key")
}

fn with_alpn(mut config: ServerConfig, names: &[&str]) -> ServerConfig {
    config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}
