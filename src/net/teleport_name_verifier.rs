//! The verifier for the nested TLS of a first join, inside a connection upgrade.
//!
//! The proxy shows a certificate of the cluster's host CA there, which is known only after the join. The TLS connection
//! around the upgrade has verified the server. So any certificate with the name that all Teleport servers have is
//! accepted, as Teleport's own clients do (docs/protocol.md, "Connection upgrade"). The verifier does check that the
//! server has the certificate's key.

use std::time::UNIX_EPOCH;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use super::crypto::provider;
use super::peer_chain::TELEPORT_SERVER_NAME;
use crate::x509::X509;

/// Accepts any certificate that is for a Teleport server and has not expired.
#[derive(Debug)]
pub(crate) struct TeleportNameVerifier;

impl ServerCertVerifier for TeleportNameVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = ServerName::try_from(TELEPORT_SERVER_NAME).map_err(|_| CertificateError::NotValidForName)?;
        verify_server_name(&ParsedCertificate::try_from(certificate)?, &name)?;
        let x509 = X509::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        match x509.not_after().duration_since(UNIX_EPOCH) {
            Ok(end) if end.as_secs() > now.as_secs() => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::Expired.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64ct::{Base64, Encoding as _};

    use super::*;

    // Self-signed certificates, valid from 2026 to 2036.
    /// For `teleport.cluster.local`.
    const TELEPORT: &str = "MIIBjTCCATOgAwIBAgIUQSLlmYJhDQarZx2VVSDs2EzKDWgwCgYIKoZIzj0EAwIwDDEKMAgGA1UECgwBdDAeFw0yNjExMjExODA1\
        NDZaFw0zNjExMTgxODA1NDZaMAwxCjAIBgNVBAoMAXQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR+CHZOEujzb5deH02z4/JC\
        yJklnWbIJ4zs+gqQ5w9uQF9yDYcQdG25k9JD34lhq1lxqBgoFlE+sw27pvJy2DJto3MwcTAdBgNVHQ4EFgQUjD2dJTMkhhl7Lgue\
        hkbdxnFiHiwwHwYDVR0jBBgwFoAUjD2dJTMkhhl7LguehkbdxnFiHiwwIQYDVR0RBBowGIIWdGVsZXBvcnQuY2x1c3Rlci5sb2Nh\
        bDAMBgNVHRMBAf8EAjAAMAoGCCqGSM49BAMCA0gAMEUCIQC+shUfr0RV1sOpYcRMXYL3M8dqwNurkhB7xVAMi72LbwIgQfG8Sck3\
        Eo2mqU1d06WBczdpIhyNFPrDGh+JWpSuCcU=";
    /// For `example.com`.
    const WEB: &str = "MIIBgTCCASigAwIBAgIUNKgCrE+Xm+pXluDE9o7AAhkizdgwCgYIKoZIzj0EAwIwDDEKMAgGA1UECgwBdDAeFw0yNjExMjExODA1\
        NDZaFw0zNjExMTgxODA1NDZaMAwxCjAIBgNVBAoMAXQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQvR2qPCj0Uz6GQ1JsAaEkx\
        1jpKH4toDIbGAPOvnEgqSY0QuXNEBeZS1aS4C5VdsKttBF2DpCFcZvbNRNPuu131o2gwZjAdBgNVHQ4EFgQUDJEVbGCxwDqHY4CY\
        9j05c77QOXwwHwYDVR0jBBgwFoAUDJEVbGCxwDqHY4CY9j05c77QOXwwFgYDVR0RBA8wDYILZXhhbXBsZS5jb20wDAYDVR0TAQH/\
        BAIwADAKBggqhkjOPQQDAgNHADBEAiAIxdDIVdYXb0EGdhAl/KvEBDobpm6DTbaiNmBNF8NacwIgd9QhDBb7/SiQZUxj1WX/D7Iq\
        txWbh49q5MTi3utSU0s=";

    fn verdict(certificate: &str, year: u64) -> Result<(), rustls::Error> {
        let certificate = CertificateDer::from(Base64::decode_vec(certificate).unwrap());
        let name = ServerName::try_from("example.com").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_556_952));
        TeleportNameVerifier.verify_server_cert(&certificate, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn only_a_teleport_server_with_a_current_certificate_is_accepted() {
        verdict(TELEPORT, 2030).unwrap();
        let error = verdict(TELEPORT, 2038).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(CertificateError::Expired)), "{error}");
        let error = verdict(WEB, 2030).unwrap_err();
        let named = matches!(error, rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }));
        assert!(named, "{error}");
    }
}
