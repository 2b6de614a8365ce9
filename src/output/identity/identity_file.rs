//! The `identity` file: everything in one, as `tsh -i`, `tctl -i`, Teleport's Go library and the ProxyCommand read it
//! (teleport-issue-and-outputs.md 4.3).

use base64ct::{Base64, Encoding as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::cert_authority;
use crate::credentials::Credentials;
use crate::x509::X509;

/// Key, SSH certificate, TLS certificate, then all SSH authorities, then all TLS authorities.
pub(crate) fn render(credentials: &Credentials, key_pem: &str) -> Zeroizing<String> {
    // Large enough not to grow: a buffer that grows leaves copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(size(credentials, key_pem)));
    text.push_str(key_pem);
    text.push_str(&credentials.ssh_certificate);
    text.push('\n');
    text.push_str(credentials.tls_certificate.pem());
    for authority in &credentials.host_authorities {
        let patterns = format!("{0},*.{0}", authority.cluster);
        authority.ssh.iter().for_each(|key| text.push_str(&cert_authority(&patterns, key)));
    }
    for certificate in credentials.host_authorities.iter().flat_map(|authority| &authority.tls) {
        text.push_str(certificate.pem());
    }
    text
}

/// At least as many bytes as the file has.
fn size(credentials: &Credentials, key_pem: &str) -> usize {
    let authorities = credentials.host_authorities.iter();
    let lines = authorities.map(|authority| {
        let keys = authority.ssh.iter().map(|key| key.as_str().len() + 2 * authority.cluster.as_str().len() + 64);
        keys.sum::<usize>() + authority.tls.iter().map(|certificate| certificate.pem().len()).sum::<usize>()
    });
    let own = key_pem.len() + credentials.ssh_certificate.len() + credentials.tls_certificate.pem().len() + 64;
    own + lines.sum::<usize>()
}

/// What the ProxyCommand needs of an identity file.
pub struct Identity {
    /// The key of the certificate.
    pub key: PrivateKeyDer<'static>,
    /// The TLS certificate.
    pub certificate: CertificateDer<'static>,
    /// Host authorities of the cluster that issued the certificate: those of the proxy. A leaf cluster's have no say in
    /// who is the proxy.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The SSH certificate in wire format, if there is one.
    pub ssh_certificate: Option<Vec<u8>>,
}

/// Reads one, ours or tbot's: the first certificate is ours, all others are authorities.
///
/// # Errors
/// What is missing, in a word.
pub fn parse(bytes: &[u8]) -> Result<Identity, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|_| "private key")?;
    let mut certificates = CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok);
    let certificate = certificates.next().ok_or("TLS certificate")?;
    let cluster = X509::from_der(&certificate).map_err(|_| "TLS certificate")?.issuer_organization();
    let is_of_the_proxy = |der: &CertificateDer<'_>| {
        X509::from_der(der).is_ok_and(|authority| authority.organizations().first() == cluster.as_ref())
    };
    let authorities = certificates.filter(is_of_the_proxy).collect();
    Ok(Identity { key, certificate, authorities, ssh_certificate: ssh_certificate(bytes) })
}

/// The last line whose first word is the name of a kind of certificate, as the official reader has it.
fn ssh_certificate(bytes: &[u8]) -> Option<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut blobs = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|kind| kind.ends_with("-cert-v01@openssh.com"))?;
        Base64::decode_vec(words.next()?).ok()
    });
    blobs.next_back()
}
