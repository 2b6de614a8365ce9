//! Whom a first join believes inside of a connection upgrade.
//!
//! The proxy shows a certificate of the cluster's host CA there, which only the join makes known; who is talked to was
//! found out by the TLS around the upgrade. So a certificate with the name that all servers of Teleport have will do, as
//! it does for Teleport's own clients (teleport-join.md 3.3). That the server has the certificate's key is checked.

use std::time::UNIX_EPOCH;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use super::shown::OF_TELEPORT;
use super::tls::provider;
use crate::x509::X509;

/// Believes any certificate that is for a Teleport server and has not expired.
#[derive(Debug)]
pub struct AnyTeleport;

impl ServerCertVerifier for AnyTeleport {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = ServerName::try_from(OF_TELEPORT).map_err(|_| CertificateError::NotValidForName)?;
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
