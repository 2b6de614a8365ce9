//! Server certificates that no client may accept.

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

/// Web certificates of an authority that clients trust; certificates of the host CA are issued on demand.
#[derive(Debug)]
pub(crate) struct BadCertificates {
    key: SigningKey,
    good: Vec<u8>,
    expired: Vec<u8>,
}

impl BadCertificates {
    /// Returns the PEM of the authority as well.
    pub(crate) fn new(options: &Options, now: u64) -> (String, Self) {
        let key = SigningKey::new(KeyKind::P256, RsaKey::Server);
        let names = [options.public_name.as_str()];
        let signer = WebSigner::Authority("Testcluster", "Testcluster Web CA of bad certificates");
        let (good_ca, good) = issue_web_certificate(signer, &key, &names, now, (now - DAY, now + DAY));
        let (expired_ca, expired) = issue_web_certificate(signer, &key, &names, now, (now - 90 * DAY, now - DAY));
        (good_ca + &expired_ca, Self { key, good, expired })
    }

    /// The same configuration with a bad certificate, of the web (`web`) or of the host CA.
    pub(crate) fn replace(
        &self,
        cluster: &Cluster,
        web: bool,
        config: &ServerConfig,
        fault: NetworkFault,
    ) -> Arc<ServerConfig> {
        let other = SigningKey::new(KeyKind::P256, RsaKey::Server);
        let now = crate::cluster::now(0);
        let host_ca = cluster.authorities.server_ca();
        let issue = |authority: &Authority, (from, to): (u64, u64)| {
            let names = ["*.teleport.cluster.local", "teleport.cluster.local", &cluster.options.public_name];
            let subject = subject(authority);
            authority.issue_tls(self.key.public(), subject, Purpose::Server(&names), (from, to))
        };
        let (certificate, key) = match (fault, web) {
            (NetworkFault::CertForOtherKey, true) => (self.good.clone(), &other),
            (NetworkFault::CertForOtherKey, false) => (issue(host_ca, (now - DAY, now + DAY)), &other),
            (NetworkFault::CertExpired, true) => (self.expired.clone(), &self.key),
            (NetworkFault::CertExpired, false) => (issue(host_ca, (now - 90 * DAY, now - DAY)), &self.key),
            (NetworkFault::CertForOtherName, _) => {
                let names = ["elsewhere.example.com"];
                let subject = subject(host_ca);
                let purpose = Purpose::Server(&names);
                (host_ca.issue_tls(self.key.public(), subject, purpose, (now - DAY, now + DAY)), &self.key)
            }
            _ => (issue(&cluster.other_ca(), (now - DAY, now + DAY)), &self.key),
        };
        let mut config = config.clone();
        config.cert_resolver = Arc::new(OneCertificate::new(certificate, key));
        Arc::new(config)
    }
}

/// Clients do not read the subject.
fn subject(authority: &Authority) -> x509_cert::name::Name {
    Identity { user: "bad-certificate".into(), ..Identity::default() }.subject(authority.cluster())
}

/// Resolves every server name to one certificate. rustls' own resolvers check that the certificate is for the key.
#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl OneCertificate {
    fn new(certificate: Vec<u8>, key: &SigningKey) -> Self {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8()));
        let key = any_supported_type(&key).expect("our own key is of a kind that ring knows");
        Self(Arc::new(CertifiedKey::new(vec![CertificateDer::from(certificate)], key)))
    }
}

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
