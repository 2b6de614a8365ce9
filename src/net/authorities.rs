//! Authorities that are trusted on the web besides the public ones: `CA_FILE`, `SSL_CERT_FILE`.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::pem::{LineEnding, encode_string};

use super::Error;

/// Certificates of authorities, those that are public already left out: whole bundles of a system are given, and kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorities(Vec<CertificateDer<'static>>);

impl Authorities {
    /// Those in a PEM file; none without one.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub(crate) fn from_file(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let unusable = |reason: String| Error::CaFile { path: path.to_owned(), reason };
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        Self::from_pem(&pem).ok_or_else(|| unusable("there is no certificate in it".to_owned()))
    }

    /// Those in a PEM text; `None` if it has none.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let mut any = false;
        let mut private = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem).filter_map(Result::ok) {
            // A system's bundle may hold one that rustls does not read.
            let mut one = RootCertStore::empty();
            if one.add(certificate.clone()).is_ok() {
                any = true;
                let is_public = one.roots.iter().all(|root| webpki_roots::TLS_SERVER_ROOTS.contains(root));
                private.extend((!is_public).then_some(certificate));
            }
        }
        any.then_some(Self(private))
    }

    /// As PEM; `None` if there are none.
    pub(crate) fn pem(&self) -> Option<String> {
        let block = |der: &CertificateDer<'_>| encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default();
        (!self.0.is_empty()).then(|| self.0.iter().map(block).collect())
    }

    /// Each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }
}
