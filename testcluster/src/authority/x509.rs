//! Signing X.509 certificates.

use std::net::IpAddr;
use std::time::Duration;

use rand_core::{OsRng, RngCore};
use x509_cert::builder::{Builder, CertificateBuilder, Profile};
use x509_cert::der::asn1::{Ia5String, ObjectIdentifier, OctetString, UtcTime};
use x509_cert::der::{Decode, Encode, EncodePem};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, der};

use super::subject::{authority_name, host_name};
use super::{Authority, RsaKey, SigningKey};
use crate::suite::KeyKind;

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const YEAR: u64 = 365 * 24 * 3600;

/// The purpose of a leaf certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// A user or bot.
    Client,
    /// A server with these names and addresses.
    Server(&'a [&'a str]),
}

impl Authority {
    /// Signs a leaf certificate (DER). The lifetime is in seconds since 1970.
    pub(crate) fn issue_tls(
        &self,
        key: SubjectPublicKeyInfoOwned,
        subject: Name,
        purpose: Purpose<'_>,
        (from, to): (u64, u64),
    ) -> Vec<u8> {
        let issuer = self.certificate.tbs_certificate.subject.clone();
        let profile = Profile::Leaf { issuer, enable_key_agreement: false, enable_key_encipherment: true };
        let certificate = sign(&self.tls, profile, subject, key, Some(purpose), (from, to));
        certificate.to_der().expect("a certificate of our own can be encoded")
    }

    /// Signs a certificate (DER) of a server of the cluster that is valid for ten years.
    pub(crate) fn issue_server(&self, key: &SigningKey, kind: &str, names: &[&str], now: u64) -> Vec<u8> {
        let subject = host_name(kind, &format!("{kind}.{}", self.cluster), &self.cluster);
        self.issue_tls(key.public(), subject, Purpose::Server(names), (now - YEAR, now + 10 * YEAR))
    }
}

/// An authority's own certificate, whose O and CN are the cluster's name (docs/protocol.md, "Auth Service").
pub(super) fn self_signed(key: &SigningKey, cluster: &str, now: u64) -> Certificate {
    sign(key, Profile::Root, authority_name(cluster, cluster), key.public(), None, (now - YEAR, now + 10 * YEAR))
}

/// The signer of the web certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WebSigner {
    /// A private authority with this organization and common name.
    Authority(&'static str, &'static str),
    SelfSigned,
}

/// Issues a web certificate (DER) for `key`. Returns the certificate of its signer (PEM) as well.
pub(crate) fn issue_web_certificate(
    signer: WebSigner,
    key: &SigningKey,
    names: &[&str],
    now: u64,
    lifetime: (u64, u64),
) -> (String, Vec<u8>) {
    let subject = authority_name("Testcluster", names.first().copied().unwrap_or("localhost"));
    let leaf = |authority_key: &SigningKey, issuer| {
        let profile = Profile::Leaf { issuer, enable_key_agreement: false, enable_key_encipherment: true };
        sign(authority_key, profile, subject.clone(), key.public(), Some(Purpose::Server(names)), lifetime)
    };
    let (authority, leaf) = match signer {
        WebSigner::SelfSigned => (leaf(key, subject.clone()), leaf(key, subject.clone())),
        WebSigner::Authority(organization, common_name) => {
            let authority_key = SigningKey::new(KeyKind::P256, RsaKey::Server);
            let name = authority_name(organization, common_name);
            let valid = (now - YEAR, now + 10 * YEAR);
            let public = authority_key.public();
            (sign(&authority_key, Profile::Root, name.clone(), public, None, valid), leaf(&authority_key, name))
        }
    };
    let pem = authority.to_pem(der::pem::LineEnding::LF).expect("a certificate of our own can be encoded");
    (pem, leaf.to_der().expect("a certificate of our own can be encoded"))
}

/// DER to PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    let certificate = Certificate::from_der(der).expect("a certificate of our own can be decoded");
    certificate.to_pem(der::pem::LineEnding::LF).expect("a certificate of our own can be encoded")
}

fn sign(
    signer: &SigningKey,
    profile: Profile,
    subject: Name,
    key: SubjectPublicKeyInfoOwned,
    purpose: Option<Purpose<'_>>,
    lifetime: (u64, u64),
) -> Certificate {
    let validity = Validity { not_before: time(lifetime.0), not_after: time(lifetime.1) };
    // The builder is generic over its signer, and an enum of signers does not implement the trait.
    let built = match signer {
        SigningKey::Rsa(signer) => CertificateBuilder::new(profile, serial(), validity, subject, key, signer.as_ref())
            .and_then(|mut builder| {
                extend(&mut builder, purpose)?;
                builder.build::<rsa::pkcs1v15::Signature>()
            }),
        SigningKey::P256(signer) => CertificateBuilder::new(profile, serial(), validity, subject, key, signer)
            .and_then(|mut builder| {
                extend(&mut builder, purpose)?;
                builder.build::<p256::ecdsa::DerSignature>()
            }),
    };
    built.expect("signing with a valid key succeeds")
}

fn extend<S>(
    builder: &mut CertificateBuilder<'_, S>,
    purpose: Option<Purpose<'_>>,
) -> Result<(), x509_cert::builder::Error>
where
    S: rsa::signature::Keypair + x509_cert::spki::DynSignatureAlgorithmIdentifier,
    S::VerifyingKey: x509_cert::spki::EncodePublicKey,
{
    match purpose {
        None => Ok(()),
        Some(Purpose::Client) => builder.add_extension(&ExtendedKeyUsage(vec![CLIENT_AUTH])),
        Some(Purpose::Server(names)) => {
            // Teleport's servers are clients of each other as well.
            builder.add_extension(&ExtendedKeyUsage(vec![SERVER_AUTH, CLIENT_AUTH]))?;
            builder.add_extension(&SubjectAltName(names.iter().map(|name| general_name(name)).collect()))
        }
    }
}

fn general_name(name: &str) -> GeneralName {
    match name.parse() {
        Ok(IpAddr::V4(ip)) => GeneralName::IpAddress(octets(&ip.octets())),
        Ok(IpAddr::V6(ip)) => GeneralName::IpAddress(octets(&ip.octets())),
        Err(_) => GeneralName::DnsName(Ia5String::new(name).expect("the names of servers are ASCII")),
    }
}

fn octets(bytes: &[u8]) -> OctetString {
    OctetString::new(bytes).expect("an address is short")
}

fn time(seconds: u64) -> Time {
    Time::UtcTime(UtcTime::from_unix_duration(Duration::from_secs(seconds)).expect("the clock is before 2050"))
}

fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    // A serial number is positive and has no leading zero.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::new(&bytes).expect("sixteen bytes are not too many")
}
