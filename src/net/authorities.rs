//! Certificate authorities that are trusted on the web besides the public ones: `CA_FILE`, `SSL_CERT_FILE`.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::pem::{LineEnding, encode_string};

use super::Error;
use crate::{limits, regular_file};

/// Certificates of authorities without the public ones. The file may be the whole bundle of a system, and `network.json`
/// keeps what is here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorities(Vec<CertificateDer<'static>>);

impl Authorities {
    /// Reads a PEM file; without a path there are no authorities. A file without a certificate is an error.
    pub(crate) fn from_file(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let unusable = |reason: String| Error::CaFile { path: path.to_owned(), reason };
        let pem = regular_file::read(path, limits::CA_FILE_SIZE).map_err(|error| unusable(error.to_string()))?;
        Self::from_pem(&pem).ok_or_else(|| unusable("there is no certificate in it".to_owned()))
    }

    /// Returns `None` if the text has no certificate.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let mut any = false;
        let mut private = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem).filter_map(Result::ok) {
            // A system's bundle may contain a certificate that rustls does not read.
            let mut one = RootCertStore::empty();
            if one.add(certificate.clone()).is_ok() {
                any = true;
                let is_public = one.roots.iter().all(|root| webpki_roots::TLS_SERVER_ROOTS.contains(root));
                private.extend((!is_public).then_some(certificate));
            }
        }
        any.then_some(Self(private))
    }

    /// Returns `None` if there are no authorities.
    pub(crate) fn pem(&self) -> Option<String> {
        let block = |der: &CertificateDer<'_>| encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default();
        (!self.0.is_empty()).then(|| self.0.iter().map(block).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }
}
