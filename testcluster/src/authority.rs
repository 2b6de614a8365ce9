//! A certificate authority of the cluster, with a key for X.509 and a key for SSH certificates
//! (docs/protocol.md, "Keys").

mod keys;
mod ssh;
mod ssh_signer;
mod subject;
mod x509;

pub(crate) use keys::{RsaKey, SigningKey, rsa_private_key};
pub(crate) use ssh::{HostSsh, JOIN_PRINCIPAL, UserSsh};
pub(crate) use ssh_signer::ssh_private_key;
pub(crate) use subject::Identity;
pub(crate) use x509::{Purpose, WebSigner, issue_web_certificate, pem};

use ssh_key::{LineEnding, PublicKey};
use ssh_signer::SshSigner;
use x509_cert::Certificate;
use x509_cert::der::{Encode, EncodePem};

use crate::suite::Suite;

/// A host CA or a user CA.
#[derive(Debug)]
pub(crate) struct Authority {
    cluster: String,
    tls: SigningKey,
    certificate: Certificate,
    ssh: SshSigner,
}

impl Authority {
    /// An authority with the keys of a suite. `rsa` is the key of the suites with RSA.
    pub(crate) fn new(cluster: &str, suite: Suite, rsa: RsaKey, now: u64) -> Self {
        let tls = SigningKey::new(suite.tls_authority(), rsa);
        let certificate = x509::self_signed(&tls, cluster, now);
        Self { cluster: cluster.to_owned(), tls, certificate, ssh: SshSigner::new(suite.ssh_authority(), rsa) }
    }

    /// The authority's own certificate, DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.certificate.to_der().expect("a certificate of our own can be encoded")
    }

    /// The authority's own certificate, PEM.
    pub(crate) fn pem(&self) -> String {
        self.certificate.to_pem(LineEnding::LF).expect("a certificate of our own can be encoded")
    }

    pub(crate) fn ssh_public(&self) -> &PublicKey {
        self.ssh.public()
    }

    /// The SSH key in wire format.
    pub(crate) fn ssh_wire(&self) -> Vec<u8> {
        self.ssh_public().to_bytes().expect("a key of a known type can be encoded")
    }

    /// The SSH key as an authorized_keys line with a newline.
    pub(crate) fn ssh_line(&self) -> String {
        line(self.ssh_public())
    }

    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }
}

/// A public key as an authorized_keys line with a newline and without a comment.
fn line(key: &PublicKey) -> String {
    let text = PublicKey::new(key.key_data().clone(), "").to_openssh().expect("a key of a known type can be encoded");
    format!("{}\n", text.trim_end())
}
