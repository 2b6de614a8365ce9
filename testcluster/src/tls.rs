//! TLS configurations of the web, Auth, the transport service, and the proxy inside an upgrade.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ConfigBuilder, RootCertStore, SupportedProtocolVersion, WantsVerifier};

use crate::alpn::{H2, Route, TRANSPORT, WEB_PREFERENCE};
use crate::authority::{Authority, SigningKey};
use crate::cluster::now;

/// The TLS configuration of each route.
#[derive(Debug)]
pub(crate) struct ServerConfigs {
    web: Arc<ServerConfig>,
    hosts: RwLock<HostConfigs>,
}

/// Those that change during a CA rotation.
#[derive(Debug)]
struct HostConfigs {
    upgraded: Arc<ServerConfig>,
    auth: Arc<ServerConfig>,
    transport: Arc<ServerConfig>,
}

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    pub certificate: Vec<u8>,
    pub key: SigningKey,
}

/// What the configurations of Auth and the transport service are made of.
#[derive(Debug)]
pub(crate) struct HostCertificates<'a> {
    pub auth: ServerCertificate,
    pub proxy: ServerCertificate,
    /// The authorities of client certificates.
    pub user_cas: Vec<&'a Authority>,
    /// Seconds by which the cluster's clock is ahead.
    pub clock_offset: i64,
}

impl ServerConfigs {
    pub(crate) fn new(web: &ServerCertificate, hosts: &HostCertificates<'_>, web_versions: Versions) -> Self {
        let web = Arc::new(with_alpn(server(builder(web_versions).with_no_client_auth(), web), &WEB_PREFERENCE));
        Self { web, hosts: RwLock::new(hosts.configs()) }
    }

    /// New connections get these certificates; the web certificate stays.
    pub(crate) fn replace_host_certificates(&self, hosts: &HostCertificates<'_>) {
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts.configs();
    }

    /// The configuration of a route. Inside an upgrade the proxy uses its host certificate instead of the web
    /// certificate (docs/protocol.md, "Connection upgrade").
    pub(crate) fn for_route(&self, route: Route, upgraded: bool) -> Arc<ServerConfig> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(match route {
            Route::Web | Route::Join | Route::ReverseTunnel if upgraded => &hosts.upgraded,
            Route::Web | Route::Join | Route::ReverseTunnel | Route::LoadBalancer => &self.web,
            Route::Auth => &hosts.auth,
            Route::Transport => &hosts.transport,
        })
    }

    /// The web certificate with other ALPN names.
    pub(crate) fn web_with_alpn(&self, names: &[&str]) -> Arc<ServerConfig> {
        Arc::new(with_alpn(ServerConfig::clone(&self.web), names))
    }
}

/// The cluster's clock, for the validity of client certificates.
#[derive(Debug)]
struct Clock {
    offset: i64,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now(self.offset))))
    }
}

pub(crate) type Versions = &'static [&'static SupportedProtocolVersion];
/// The TLS versions of Teleport's servers.
pub(crate) const ALL_VERSIONS: Versions = rustls::ALL_VERSIONS;
/// The TLS versions of an outdated web server.
pub(crate) const TLS_12: Versions = &[&rustls::version::TLS12];

/// A server without client certificates and without ALPN.
pub(crate) fn web_server(certificate: &ServerCertificate) -> Arc<ServerConfig> {
    Arc::new(server(builder(ALL_VERSIONS).with_no_client_auth(), certificate))
}

type WantsCertificate = ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>;

fn builder(versions: Versions) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring supports all versions")
}

impl HostCertificates<'_> {
    fn configs(&self) -> HostConfigs {
        let upgraded = server(builder(ALL_VERSIONS).with_no_client_auth(), &self.proxy);
        // Auth supports `h2` alone, so that a client that offers only the routing name is refused
        // (docs/protocol.md, "ALPN routing"); the transport service prefers `h2` (docs/protocol.md, "ALPN routing").
        HostConfigs {
            upgraded: Arc::new(with_alpn(upgraded, &WEB_PREFERENCE)),
            auth: Arc::new(with_alpn(self.with_clients(&self.auth), &[H2])),
            transport: Arc::new(with_alpn(self.with_clients(&self.proxy), &[H2, TRANSPORT])),
        }
    }

    /// Requires a client certificate of the user CA that is valid by the cluster's clock.
    fn with_clients(&self, certificate: &ServerCertificate) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        for user_ca in &self.user_cas {
            roots.add(CertificateDer::from(user_ca.der())).expect("a certificate of our own is valid");
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let builder = builder(ALL_VERSIONS).with_client_cert_verifier(verifier.expect("there is a root"));
        let mut config = server(builder, certificate);
        config.time_provider = Arc::new(Clock { offset: self.clock_offset });
        config
    }
}

fn server(builder: WantsCertificate, certificate: &ServerCertificate) -> ServerConfig {
    let chain = vec![CertificateDer::from(certificate.certificate.clone())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certificate.key.pkcs8()));
    builder.with_single_cert(chain, key).expect("the certificate was issued for this key")
}

fn with_alpn(mut config: ServerConfig, names: &[&str]) -> ServerConfig {
    config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}
