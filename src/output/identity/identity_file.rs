//! The `identity` file: everything in one file, for `tsh -i`, `tctl -i`, Teleport's Go library and our ProxyCommand
//! (docs/protocol.md, "Identity file").

use base64ct::{Base64, Encoding as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::cert_authority;
use crate::credentials::Credentials;
use crate::x509::X509;

/// Writes the key, the SSH certificate, the TLS certificate, all SSH CAs, and all TLS CAs.
pub(crate) fn render(credentials: &Credentials, key_pem: &str) -> Zeroizing<String> {
    // The buffer must not grow, because that would leave copies of the key in memory.
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

/// An upper bound of the file's size.
fn size(credentials: &Credentials, key_pem: &str) -> usize {
    let authorities = credentials.host_authorities.iter();
    let lines = authorities.map(|authority| {
        let keys = authority.ssh.iter().map(|key| key.line.len() + 2 * authority.cluster.as_str().len() + 64);
        keys.sum::<usize>() + authority.tls.iter().map(|certificate| certificate.pem().len()).sum::<usize>()
    });
    let own = key_pem.len() + credentials.ssh_certificate.len() + credentials.tls_certificate.pem().len() + 64;
    own + lines.sum::<usize>()
}

/// What the ProxyCommand needs from an identity file.
pub struct Identity {
    pub key: PrivateKeyDer<'static>,
    pub certificate: CertificateDer<'static>,
    /// The host CAs of the cluster that issued the certificate. The proxy has a certificate of this cluster; CAs of leaf
    /// clusters are not trusted for it.
    pub authorities: Vec<CertificateDer<'static>>,
    /// In wire format, if there is one.
    pub ssh_certificate: Option<Vec<u8>>,
}

/// Parses an identity file, ours or tbot's. The first certificate is the client's, all others are CAs.
///
/// # Errors
/// The part that is missing or invalid.
pub fn parse(bytes: &[u8]) -> Result<Identity, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|_| "private key")?;
    let mut certificates = CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok);
    let certificate = certificates.next().ok_or("TLS certificate")?;
    let cluster = X509::from_der(&certificate).map_err(|_| "TLS certificate")?.issuer_organization();
    let is_of_cluster = |der: &CertificateDer<'_>| {
        X509::from_der(der).is_ok_and(|authority| authority.organizations().first() == cluster.as_ref())
    };
    let authorities = certificates.filter(is_of_cluster).collect();
    Ok(Identity { key, certificate, authorities, ssh_certificate: ssh_certificate(bytes) })
}

/// The last line that begins with the type of a certificate, as in Teleport's own parser.
fn ssh_certificate(bytes: &[u8]) -> Option<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut blobs = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|kind| kind.ends_with("-cert-v01@openssh.com"))?;
        Base64::decode_vec(words.next()?).ok()
    });
    blobs.next_back()
}
