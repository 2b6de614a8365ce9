//! The faces of the ports: the web's certificate, Auth, the transport service, and the proxy inside an upgrade.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ConfigBuilder, RootCertStore, SupportedProtocolVersion, WantsVerifier};

use crate::alpn::{H2, Route, TRANSPORT, WEB_PREFERENCE};
use crate::authority::{Authority, SigningKey};
use crate::cluster::now;

/// TLS settings per route.
#[derive(Clone, Debug)]
pub(crate) struct Faces {
    web: Arc<ServerConfig>,
    upgraded: Arc<ServerConfig>,
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
    pub(crate) fn new(web: &Face, auth: &Face, proxy: &Face, user_ca: &Authority, web_versions: Versions) -> Self {
        Self {
            web: Arc::new(with_alpn(server(builder(web_versions).with_no_client_auth(), web), &WEB_PREFERENCE)),
            upgraded: Arc::new(with_alpn(server(builder(ALL_VERSIONS).with_no_client_auth(), proxy), &WEB_PREFERENCE)),
            auth: Arc::new(with_alpn(server(with_clients_of(user_ca), auth), &[H2])),
            transport: Arc::new(with_alpn(server(with_clients_of(user_ca), proxy), &[H2, TRANSPORT])),
        }
    }

    /// What a route shows. Inside an upgrade, where a load balancer has shown the web's certificate already, the
    /// proxy shows its host certificate instead (teleport-ssh-proxy.md 3.3).
    pub(crate) fn of(&self, route: Route, upgraded: bool) -> Arc<ServerConfig> {
        Arc::clone(match route {
            Route::Web | Route::Join | Route::ReverseTunnel if upgraded => &self.upgraded,
            Route::Web | Route::Join | Route::ReverseTunnel | Route::LoadBalancer => &self.web,
            Route::Auth => &self.auth,
            Route::Transport => &self.transport,
        })
    }

    /// The same at a time that is so many seconds ahead, where client certificates count.
    pub(crate) fn at(mut self, clock_offset: i64) -> Self {
        for config in [&mut self.auth, &mut self.transport] {
            Arc::make_mut(config).time_provider = Arc::new(Clock { offset: clock_offset });
        }
        self
    }

    /// The web's certificate, with ALPN names of somebody else.
    pub(crate) fn web_with(&self, names: &[&str]) -> Arc<ServerConfig> {
        Arc::new(with_alpn(ServerConfig::clone(&self.web), names))
    }
}

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

/// Versions of TLS.
pub(crate) type Versions = &'static [&'static SupportedProtocolVersion];
/// Those of Teleport's own servers.
pub(crate) const ALL_VERSIONS: Versions = rustls::ALL_VERSIONS;
/// Those of a web listener that is behind the times.
pub(crate) const TLS_12: Versions = &[&rustls::version::TLS12];

/// A server of its own, with one face.
pub(crate) fn web_server(face: &Face) -> Arc<ServerConfig> {
    Arc::new(server(builder(ALL_VERSIONS).with_no_client_auth(), face))
}

type WantsCertificate = ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>;

fn builder(versions: Versions) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring supports all versions")
}

/// A client certificate of the user CA is a must.
fn with_clients_of(user_ca: &Authority) -> WantsCertificate {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(user_ca.der())).expect("our own authority's certificate is sound");
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    builder(ALL_VERSIONS).with_client_cert_verifier(verifier.expect("there is a root"))
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
