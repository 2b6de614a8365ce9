//! Who answers, judged by the certificates of a server: the proxy, something in front of it, or another cluster.

use std::borrow::Cow;
use std::fmt;

use rustls::pki_types::CertificateDer;

use crate::text::sanitize;
use crate::x509::X509;

/// The name that every host certificate of Auth and of proxies has (docs/protocol.md, "Two trust domains").
pub(crate) const TELEPORT_SERVER_NAME: &str = "teleport.cluster.local";

/// Products that intercept TLS, and parts of the names of their authorities in lower case.
const INTERCEPTORS: [(&str, &[&str]); 17] = [
    ("Zscaler", &["zscaler"]),
    ("Netskope", &["netskope", "goskope"]),
    ("Fortinet FortiGate", &["fortinet", "fortigate"]),
    ("Palo Alto Networks", &["palo alto", "paloalto"]),
    ("Blue Coat (Symantec)", &["blue coat", "bluecoat", "symantec web security"]),
    ("Cisco Umbrella", &["cisco umbrella"]),
    ("Cisco Secure Access", &["cisco secure access"]),
    ("Sophos", &["sophos"]),
    ("Check Point", &["check point"]),
    ("Skyhigh (McAfee)", &["mcafee", "skyhigh"]),
    ("Forcepoint", &["forcepoint", "websense"]),
    ("Cloudflare Gateway", &["gateway ca - cloudflare"]),
    ("Cato Networks", &["cato networks"]),
    ("Barracuda", &["barracuda"]),
    ("WatchGuard", &["watchguard"]),
    ("SonicWall", &["sonicwall"]),
    ("mitmproxy", &["mitmproxy"]),
];

/// The certificates that a server has shown, its own first. They are not verified.
pub(crate) struct PeerChain(Vec<X509>);

impl PeerChain {
    /// Leaves out certificates that cannot be parsed.
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Self {
        Self(chain.iter().filter_map(|der| X509::from_der(der).ok()).collect())
    }

    pub(crate) fn leaf(&self) -> Option<&X509> {
        self.0.first()
    }

    /// Whether the server's certificate is one for Auth or a proxy of any Teleport cluster.
    pub(crate) fn is_teleport_server(&self) -> bool {
        self.leaf().is_some_and(|leaf| leaf.names().iter().any(|name| name == TELEPORT_SERVER_NAME))
    }

    pub(crate) fn signer(&self) -> Signer {
        let self_signed = self.0.len() == 1 && self.leaf().is_some_and(|leaf| leaf.issuer() == leaf.subject());
        Signer::from_issuers(&self.0.iter().map(X509::issuer).collect::<Vec<_>>(), self_signed)
    }
}

/// Who signed a certificate: the issuer of the last certificate that was shown. The name is not verified.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SelfSigned,
    /// A product that intercepts TLS.
    Interceptor(&'static str),
    /// An authority whose certificate was not shown: the server sent only its own certificate.
    NotShown,
    Private,
}

impl Signer {
    /// `issuers` are those of a chain, the issuer of the server's own certificate first.
    pub(crate) fn from_issuers(issuers: &[String], self_signed: bool) -> Self {
        let interceptor = issuers.iter().find_map(|issuer| {
            let issuer = issuer.to_lowercase();
            INTERCEPTORS.iter().find(|(_, parts)| parts.iter().any(|part| issuer.contains(part)))
        });
        let kind = match (interceptor, issuers) {
            (Some((product, _)), _) => Kind::Interceptor(product),
            (None, _) if self_signed => Kind::SelfSigned,
            (None, [_]) => Kind::NotShown,
            (None, _) => Kind::Private,
        };
        let name = issuers.last().map_or("an authority whose name cannot be read", |issuer| issuer);
        Self { name: sanitize(name), kind }
    }

    /// Why the signer is not trusted if a public authority was expected.
    pub(crate) fn likely_cause(&self) -> Cow<'static, str> {
        match self.kind {
            Kind::SelfSigned => "The proxy was set up without a certificate; Teleport signs one itself then.".into(),
            Kind::Interceptor(product) => format!("{product} intercepts TLS on the way to the proxy.").into(),
            Kind::Private => {
                "The cluster has a certificate of a private authority, or a company's gateway intercepts TLS.".into()
            }
            Kind::NotShown => {
                "The cluster has a certificate of a private authority, a company's gateway intercepts TLS, \
                               or the proxy does not send its intermediate certificates."
                    .into()
            }
        }
    }

    pub(crate) fn remedy(&self) -> &'static str {
        match self.kind {
            Kind::SelfSigned => {
                "Give the proxy a certificate that an authority signed, or set CA_FILE (or SSL_CERT_FILE) to a PEM file with \
                 this one."
            }
            Kind::Interceptor(_) => {
                "Have the proxy's address exempted from inspection. Or, if it lets WebSockets pass, set CA_FILE (or \
                 SSL_CERT_FILE) to a PEM file with the authority's certificate."
            }
            Kind::Private | Kind::NotShown => {
                "Set CA_FILE (or SSL_CERT_FILE) to a PEM file with the authority's certificate. \
                 It is trusted in addition to the public ones."
            }
        }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::SelfSigned => write!(f, "{} (self-signed)", self.name),
            _ => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed_by(issuers: &[&str], self_signed: bool) -> Signer {
        Signer::from_issuers(&issuers.iter().map(|issuer| (*issuer).to_owned()).collect::<Vec<_>>(), self_signed)
    }

    #[test]
    fn signers_are_classified_by_name() {
        let kind = |issuers: &[&str]| signed_by(issuers, false).kind;
        assert_eq!(kind(&["R11 (Let's Encrypt)", "ISRG Root X1 (Internet Security Research Group)"]), Kind::Private);
        assert_eq!(kind(&["Acme Issuing CA (Acme)"]), Kind::NotShown);
        assert_eq!(signed_by(&["localhost"], true).kind, Kind::SelfSigned);
        // A product's authority may be signed by the company's.
        let zscaler = kind(&["Zscaler Intermediate Root CA (zscalertwo.net) (Zscaler Inc.)", "Acme Root (Acme)"]);
        assert_eq!(zscaler, Kind::Interceptor("Zscaler"));
        assert_eq!(kind(&["FGT60FTK19000000 (Fortinet)"]), Kind::Interceptor("Fortinet FortiGate"));
        let cloudflare = kind(&["Gateway CA - Cloudflare Managed G1 (Cloudflare, Inc.)"]);
        assert_eq!(cloudflare, Kind::Interceptor("Cloudflare Gateway"));
        // This one is Cloudflare's authority for public web servers.
        assert_eq!(kind(&["Cloudflare Inc ECC CA-3 (Cloudflare, Inc.)", "Baltimore CyberTrust Root"]), Kind::Private);
    }

    #[test]
    fn names_of_authorities_are_sanitized() {
        assert_eq!(signed_by(&["a", "Root\u{1b}[2J\nCA"], false).to_string(), "Root [2J CA");
        assert_eq!(signed_by(&[], false).to_string(), "an authority whose name cannot be read");
    }
}
