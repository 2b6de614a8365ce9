//! The verification of server certificates in TLS.

use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use super::crypto::provider;
use super::peer_chain::{PeerChain, TELEPORT_SERVER_NAME};
use crate::x509::X509;

/// Records the chain that it refuses, so that an error can name the signer.
#[derive(Debug)]
pub(super) struct RecordingVerifier {
    /// rustls's own verifier; without one, [`verify_teleport_name`] decides.
    web_pki: Option<Arc<WebPkiServerVerifier>>,
    /// Empty if the chain was accepted. Without a value if the server has shown none.
    refused: OnceLock<Vec<CertificateDer<'static>>>,
}

impl RecordingVerifier {
    pub(super) fn new(web_pki: Option<Arc<WebPkiServerVerifier>>) -> Self {
        Self { web_pki, refused: OnceLock::new() }
    }

    /// Whether a certificate was shown and accepted.
    pub(super) fn has_accepted(&self) -> bool {
        self.refused.get().is_some_and(Vec::is_empty)
    }

    /// The chain that was refused; it is empty if none was.
    pub(super) fn refused(&self) -> PeerChain {
        PeerChain::new(self.refused.get().map_or(&[], Vec::as_slice))
    }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = match &self.web_pki {
            Some(web_pki) => web_pki.verify_server_cert(leaf, others, name, ocsp, now),
            None => verify_teleport_name(leaf, now),
        };
        let chain = std::iter::once(leaf).chain(others).filter(|_| verdict.is_err());
        let _ = self.refused.set(chain.map(|shown| shown.clone().into_owned()).collect());
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts any certificate that is for a Teleport server and has not expired: for the nested TLS of a first join, inside a
/// connection upgrade.
///
/// The proxy shows a certificate of the cluster's host CA there, which is known only after the join. The TLS connection
/// around the upgrade has verified the server. Teleport's own clients do the same (docs/protocol.md, "Connection upgrade").
fn verify_teleport_name(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<ServerCertVerified, rustls::Error> {
    let name = ServerName::try_from(TELEPORT_SERVER_NAME).map_err(|_| CertificateError::NotValidForName)?;
    verify_server_name(&ParsedCertificate::try_from(leaf)?, &name)?;
    let x509 = X509::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    match x509.not_after().duration_since(UNIX_EPOCH) {
        Ok(end) if end.as_secs() > now.as_secs() => Ok(ServerCertVerified::assertion()),
        _ => Err(CertificateError::Expired.into()),
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
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_556_952));
        verify_teleport_name(&certificate, now).map(drop)
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
