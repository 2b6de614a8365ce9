//! What a server's certificates tell of who answers: the proxy, somebody in front of it, or another cluster.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

use crate::text::sanitize;
use crate::x509::X509;

/// The name that every host certificate of Auth and of proxies has (teleport-issue-and-outputs.md 1.2).
pub(crate) const TELEPORT_SERVER_NAME: &str = "teleport.cluster.local";

/// What inspects TLS, by what stands in the names of its authorities, in lower case.
const INSPECTORS: [(&str, &str); 24] = [
    ("zscaler", "Zscaler"),
    ("netskope", "Netskope"),
    ("goskope", "Netskope"),
    ("fortinet", "Fortinet FortiGate"),
    ("fortigate", "Fortinet FortiGate"),
    ("palo alto", "Palo Alto Networks"),
    ("paloalto", "Palo Alto Networks"),
    ("blue coat", "Blue Coat (Symantec)"),
    ("bluecoat", "Blue Coat (Symantec)"),
    ("symantec web security", "Blue Coat (Symantec)"),
    ("cisco umbrella", "Cisco Umbrella"),
    ("cisco secure access", "Cisco Secure Access"),
    ("sophos", "Sophos"),
    ("check point", "Check Point"),
    ("mcafee", "Skyhigh (McAfee)"),
    ("skyhigh", "Skyhigh (McAfee)"),
    ("forcepoint", "Forcepoint"),
    ("websense", "Forcepoint"),
    ("gateway ca - cloudflare", "Cloudflare Gateway"),
    ("cato networks", "Cato Networks"),
    ("barracuda", "Barracuda"),
    ("watchguard", "WatchGuard"),
    ("sonicwall", "SonicWall"),
    ("mitmproxy", "mitmproxy"),
];

/// The chain of certificates that a server has shown, its own first. Nothing in it is believed.
pub(crate) struct PeerChain(Vec<X509>);

impl PeerChain {
    /// Those of them that can be read.
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Self {
        Self(chain.iter().filter_map(|der| X509::from_der(der).ok()).collect())
    }

    /// The server's own certificate.
    pub(crate) fn leaf(&self) -> Option<&X509> {
        self.0.first()
    }

    /// Whether it is a certificate for Auth or a proxy of some Teleport cluster, which no web server and no load
    /// balancer has.
    pub(crate) fn is_teleport_server(&self) -> bool {
        self.leaf().is_some_and(|leaf| leaf.names().iter().any(|name| name == TELEPORT_SERVER_NAME))
    }

    /// Who signed.
    pub(crate) fn signer(&self) -> Signer {
        let itself = self.0.len() == 1 && self.leaf().is_some_and(|leaf| leaf.issuer() == leaf.subject());
        Signer::from_issuers(&self.0.iter().map(X509::issuer).collect::<Vec<_>>(), itself)
    }
}

/// Who signed a certificate, by its own account: the issuer of the last certificate that was shown.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nobody else.
    Itself,
    /// A product that opens TLS on its way.
    Inspector(&'static str),
    /// An authority that was not shown: the server has sent its own certificate alone.
    Unshown,
    /// Any other.
    Private,
}

impl Signer {
    /// The issuers of a chain, the server's own first.
    pub(crate) fn from_issuers(issuers: &[String], itself: bool) -> Self {
        let inspector = issuers.iter().find_map(|issuer| {
            let issuer = issuer.to_lowercase();
            INSPECTORS.iter().find(|(part, _)| issuer.contains(part)).map(|(_, product)| *product)
        });
        let kind = match (inspector, issuers) {
            (Some(product), _) => Kind::Inspector(product),
            (None, _) if itself => Kind::Itself,
            (None, [_]) => Kind::Unshown,
            (None, _) => Kind::Private,
        };
        let name = issuers.last().map_or("an authority whose name cannot be read", |issuer| issuer);
        Self { name: sanitize(name), kind }
    }

    /// Why it is not trusted, if it was expected to be a public authority.
    pub(crate) fn likely_cause(&self) -> Cow<'static, str> {
        match self.kind {
            Kind::Itself => {
                "The proxy was set up without a certificate of an authority; Teleport makes one then.".into()
            }
            Kind::Inspector(product) => format!("{product} inspects TLS on the way from here.").into(),
            Kind::Private => {
                "The cluster has a certificate of a private authority, or a company's gateway inspects TLS.".into()
            }
            Kind::Unshown => "The cluster has a certificate of a private authority, a company's gateway inspects TLS, \
                              or the proxy does not send the certificates between its own and the authority's."
                .into(),
        }
    }

    /// What makes it trusted.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.kind {
            Kind::Itself => {
                "Give the proxy a certificate of an authority, or name a PEM file with this one by CA_FILE \
                 (or SSL_CERT_FILE)."
            }
            Kind::Inspector(_) => {
                "Have the proxy's address exempted from settings; or name a PEM file with the authority's certificate \
                 by CA_FILE (or SSL_CERT_FILE), if it lets WebSockets pass."
            }
            Kind::Private | Kind::Unshown => {
                "Name a PEM file with the authority's certificate by CA_FILE (or SSL_CERT_FILE). \
                 It is trusted in addition to the public ones."
            }
        }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Itself => write!(f, "itself: {}", self.name),
            _ => f.write_str(&self.name),
        }
    }
}

/// rustls's own verifier, and a memory of what it refused: an error that names who signed is worth more. It decides
/// nothing itself.
#[derive(Debug)]
pub(crate) struct RecordingVerifier {
    verifier: Arc<dyn ServerCertVerifier>,
    refused: Mutex<Vec<CertificateDer<'static>>>,
    accepted: AtomicBool,
}

impl RecordingVerifier {
    /// For one connection.
    pub(crate) fn new(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self { verifier, refused: Mutex::default(), accepted: AtomicBool::new(false) }
    }

    /// Whether a certificate was shown, and is good.
    pub(crate) fn has_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The chain that was refused; empty if none was.
    pub(crate) fn refused(&self) -> PeerChain {
        PeerChain::new(&self.refused.lock().unwrap_or_else(PoisonError::into_inner))
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
        let verdict = self.verifier.verify_server_cert(leaf, others, name, ocsp, now);
        self.accepted.store(verdict.is_ok(), Ordering::Relaxed);
        if verdict.is_err() {
            let chain = std::iter::once(leaf).chain(others).map(|shown| shown.clone().into_owned());
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.verifier.root_hint_subjects()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed_by(issuers: &[&str], itself: bool) -> Signer {
        Signer::from_issuers(&issuers.iter().map(|issuer| (*issuer).to_owned()).collect::<Vec<_>>(), itself)
    }

    #[test]
    fn who_signed_is_told_by_name() {
        let kind = |issuers: &[&str]| signed_by(issuers, false).kind;
        assert_eq!(kind(&["R11 (Let's Encrypt)", "ISRG Root X1 (Internet Security Research Group)"]), Kind::Private);
        assert_eq!(kind(&["Acme Issuing CA (Acme)"]), Kind::Unshown);
        assert_eq!(signed_by(&["localhost"], true).kind, Kind::Itself);
        // A product's authority may be signed by the company's.
        let zscaler = kind(&["Zscaler Intermediate Root CA (zscalertwo.net) (Zscaler Inc.)", "Acme Root (Acme)"]);
        assert_eq!(zscaler, Kind::Inspector("Zscaler"));
        assert_eq!(kind(&["FGT60FTK19000000 (Fortinet)"]), Kind::Inspector("Fortinet FortiGate"));
        let cloudflare = kind(&["Gateway CA - Cloudflare Managed G1 (Cloudflare, Inc.)"]);
        assert_eq!(cloudflare, Kind::Inspector("Cloudflare Gateway"));
        // Cloudflare's authority for the web is another.
        assert_eq!(kind(&["Cloudflare Inc ECC CA-3 (Cloudflare, Inc.)", "Baltimore CyberTrust Root"]), Kind::Private);
    }

    #[test]
    fn names_of_authorities_are_foreign_text() {
        assert_eq!(signed_by(&["a", "Root\u{1b}[2J\nCA"], false).to_string(), "Root [2J CA");
        assert_eq!(signed_by(&[], false).to_string(), "an authority whose name cannot be read");
    }
}
