//! The fields of X.509 certificates that we need.

use std::net::IpAddr;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME as ORGANIZATION};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode as _, Encode as _, EncodePem as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use crate::limits::CERTIFICATE_SIZE;

/// A parsed certificate, with its encodings.
pub(crate) struct X509 {
    der: CertificateDer<'static>,
    pem: String,
    public_key: Vec<u8>,
    not_before: SystemTime,
    not_after: SystemTime,
}

#[derive(Debug, thiserror::Error)]
#[error("it is not an X.509 certificate")]
pub(crate) struct NotX509;

impl X509 {
    /// Fails also if it is larger than [`CERTIFICATE_SIZE`].
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, NotX509> {
        if der.len() > CERTIFICATE_SIZE {
            return Err(NotX509);
        }
        let parsed = Certificate::from_der(der).map_err(|_| NotX509)?;
        let validity = parsed.tbs_certificate.validity;
        Ok(Self {
            pem: parsed.to_pem(LineEnding::LF).map_err(|_| NotX509)?,
            public_key: parsed.tbs_certificate.subject_public_key_info.to_der().map_err(|_| NotX509)?,
            der: CertificateDer::from(der.to_vec()),
            not_before: validity.not_before.to_system_time(),
            not_after: validity.not_after.to_system_time(),
        })
    }

    /// What was parsed takes thirty times as much memory as the encoding, and there may be many, so it is not kept.
    fn parsed<T: Default>(&self, read: impl FnOnce(&TbsCertificate) -> T) -> T {
        Certificate::from_der(&self.der).map(|parsed| read(&parsed.tbs_certificate)).unwrap_or_default()
    }

    /// Parses the first PEM block.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, NotX509> {
        use rustls::pki_types::pem::PemObject as _;
        Self::from_der(&CertificateDer::from_pem_slice(pem).map_err(|_| NotX509)?)
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// PEM with lines of 64 characters, as Go writes it.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key as SubjectPublicKeyInfo DER.
    pub(crate) fn public_key_der(&self) -> &[u8] {
        &self.public_key
    }

    pub(crate) fn not_before(&self) -> SystemTime {
        self.not_before
    }

    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The subject's common name: the user, in Teleport's user certificates.
    pub(crate) fn common_name(&self) -> Option<String> {
        self.parsed(|certificate| texts(&certificate.subject, COMMON_NAME).next())
    }

    /// The subject's organizations: the roles (docs/protocol.md, "Issued certificates").
    pub(crate) fn organizations(&self) -> Vec<String> {
        self.parsed(|certificate| texts(&certificate.subject, ORGANIZATION).collect())
    }

    /// The issuer as a person reads it: common name and organization.
    pub(crate) fn issuer(&self) -> String {
        self.parsed(|certificate| described(&certificate.issuer))
    }

    pub(crate) fn subject(&self) -> String {
        self.parsed(|certificate| described(&certificate.subject))
    }

    /// The DNS names and addresses that the certificate is for.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = |certificate: &TbsCertificate| certificate.get::<SubjectAltName>().ok().flatten();
        let names = self.parsed(names).map(|(_, SubjectAltName(names))| names).unwrap_or_default();
        let text = |name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            GeneralName::IpAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(bytes.as_bytes()).map(IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_bytes()).map(IpAddr::from));
                ip.ok().map(|ip| ip.to_string())
            }
            _ => None,
        };
        names.into_iter().filter_map(text).collect()
    }

    /// The issuer's organization: the cluster (docs/protocol.md, "Auth Service").
    pub(crate) fn issuer_organization(&self) -> Option<String> {
        self.parsed(|certificate| texts(&certificate.issuer, ORGANIZATION).next())
    }
}

/// `Common Name (Organization)`, or one of them.
fn described(name: &Name) -> String {
    let first = |attribute| texts(name, attribute).next();
    match (first(COMMON_NAME), first(ORGANIZATION)) {
        (Some(name), Some(organization)) if organization != name => format!("{name} ({organization})"),
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => "an authority without a name".to_owned(),
    }
}

/// The values of one attribute of a name. Go writes UTF8String or PrintableString.
fn texts(name: &Name, attribute: ObjectIdentifier) -> impl Iterator<Item = String> {
    let attributes = name.0.iter().flat_map(|rdn| rdn.0.iter()).filter(move |entry| entry.oid == attribute);
    attributes.filter_map(|entry| {
        let utf8 = entry.value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
        let printable = || entry.value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
        utf8.or_else(|_| printable()).ok()
    })
}
