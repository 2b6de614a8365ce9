//! Certificates that no client must accept.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::NetworkFault;
use crate::authority::{Authority, Identity, Purpose, RsaKey, SigningKey, WebSigner, issue_web_certificate};
use crate::cluster::Cluster;
use crate::options::Options;
use crate::suite::KeyKind;

const DAY: u64 = 24 * 3600;

/// A private web authority of its own, and bad certificates under it.
#[derive(Debug)]
pub(crate) struct BadCertificates {
    key: SigningKey,
    good: Vec<u8>,
    expired: Vec<u8>,
}

impl BadCertificates {
    /// PEM of the authority, and the certificates.
    pub(crate) fn new(options: &Options, now: u64) -> (String, Self) {
        let key = SigningKey::new(KeyKind::P256, RsaKey::Server);
        let names = [options.public_name.as_str()];
        let signer = WebSigner::Authority("Testcluster", "Testcluster Web CA of the weather");
        let (good_ca, good) = issue_web_certificate(signer, &key, &names, now, (now - DAY, now + DAY));
        let (expired_ca, expired) = issue_web_certificate(signer, &key, &names, now, (now - 90 * DAY, now - DAY));
        (good_ca + &expired_ca, Self { key, good, expired })
    }

    /// The certificate with another certificate, of the web or of the host CA.
    pub(crate) fn with_bad_certificate(
        &self,
        cluster: &Cluster,
        web: bool,
        config: &ServerConfig,
        fault: NetworkFault,
    ) -> Arc<ServerConfig> {
        let other = SigningKey::new(KeyKind::P256, RsaKey::Server);
        let now = crate::cluster::now(0);
        let host_ca = cluster.authorities.server_ca();
        let of_host_ca = |authority: &Authority, (from, to): (u64, u64)| {
            let names = ["*.teleport.cluster.local", "teleport.cluster.local", &cluster.options.public_name];
            let subject = subject(authority);
            authority.issue_tls(self.key.public(), subject, Purpose::Server(&names), (from, to))
        };
        let (certificate, key) = match (fault, web) {
            (NetworkFault::CertForOtherKey, true) => (self.good.clone(), &other),
            (NetworkFault::CertForOtherKey, false) => (of_host_ca(host_ca, (now - DAY, now + DAY)), &other),
            (NetworkFault::CertExpired, true) => (self.expired.clone(), &self.key),
            (NetworkFault::CertExpired, false) => (of_host_ca(host_ca, (now - 90 * DAY, now - DAY)), &self.key),
            (NetworkFault::CertForOtherName, _) => {
                let names = ["elsewhere.example.com"];
                let subject = subject(host_ca);
                let purpose = Purpose::Server(&names);
                (host_ca.issue_tls(self.key.public(), subject, purpose, (now - DAY, now + DAY)), &self.key)
            }
            _ => (of_host_ca(&cluster.foreign_ca(), (now - DAY, now + DAY)), &self.key),
        };
        let mut config = config.clone();
        config.cert_resolver = Arc::new(Always::new(certificate, key));
        Arc::new(config)
    }
}

/// Nobody looks at it.
fn subject(authority: &Authority) -> x509_cert::name::Name {
    Identity { user: "weather".into(), ..Identity::default() }.subject(authority.cluster())
}

/// The same certificate for everybody, whether it fits the key or not.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl Always {
    fn new(certificate: Vec<u8>, key: &SigningKey) -> Self {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8()));
        let key = any_supported_type(&key).expect("our own key is of a kind that ring knows");
        Self(Arc::new(CertifiedKey::new(vec![CertificateDer::from(certificate)], key)))
    }
}

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
