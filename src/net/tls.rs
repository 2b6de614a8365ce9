//! TLS, and its two domains of trust (docs/protocol.md, "Two trust domains"):
//!
//! * the **web** certificate of the proxy, signed by public authorities: discovery and joining;
//! * certificates of the **cluster's host CA**, with a client certificate: Auth, and connections to nodes.
//!
//! The proxy routes by the first ALPN name that it knows in *our* order, and negotiates by *its own* order. That is why each
//! offer is exact (docs/protocol.md, "ALPN routing").

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, PeerIncompatible, PeerMisbehaved, RootCertStore};

use super::authorities::Authorities;
use super::crypto::provider;
use super::peeked_stream::PeekedStream;
use super::peer_chain::PeerChain;
use super::tls_stream::TlsStream;
use super::verifier::RecordingVerifier;
use super::{Error, Stream};
use crate::address::ClusterName;
use crate::retry::{Deadline, WaitingFor};
use crate::text::sanitize;

/// A service behind the proxy's port.
#[derive(Clone, Debug)]
pub(crate) enum Service {
    /// Discovery and the REST join.
    Web,
    Join,
    /// The cluster's Auth Service.
    Auth(ClusterName),
    /// The cluster's Auth Service, through the transport service, where nothing is routed by ALPN.
    NestedAuth,
    /// The transport service: connections to nodes.
    Transport,
    /// Only used to find load balancers: no other server than a Teleport proxy knows the name.
    ReverseTunnel,
    /// A connection upgrade, which a load balancer may pass on.
    Balancer,
}

impl Service {
    /// The ALPN names to offer, in order.
    pub(crate) fn alpn(&self) -> Vec<Vec<u8>> {
        let names: &[&str] = match self {
            Self::Web => &["http/1.1"],
            Self::Join => &["teleport-proxy-grpc", "h2"],
            // The proxy routes by the first name; Auth itself knows `h2`.
            Self::Auth(cluster) => &[&format!("teleport-auth@{}", cluster.auth_server_name()), "h2"],
            Self::NestedAuth => &["h2"],
            Self::Transport => &["teleport-proxy-ssh-grpc", "h2"],
            Self::ReverseTunnel => &["teleport-reversetunnel"],
            // As Teleport's own clients do: a load balancer that sees no name expects HTTP/1.1.
            Self::Balancer => &[],
        };
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }
}

/// Which server certificates are accepted, and the client certificate.
#[derive(Clone)]
pub(crate) enum Trust {
    /// Those that the public authorities and `CA_FILE` have signed.
    Web(Arc<RootCertStore>),
    /// Those that the cluster's own authorities have signed.
    Cluster(Arc<RootCertStore>, Arc<ClientIdentity>),
    /// Any that names a Teleport server: for the nested TLS of a join.
    UnverifiedTeleport,
}

pub(crate) struct ClientIdentity {
    /// Without its chain, because a chain of two is refused (docs/protocol.md, "Auth Service").
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Trust {
    /// The public authorities and `private`.
    pub(crate) fn web(private: &Authorities) -> Self {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(private.iter().cloned());
        Self::Web(Arc::new(roots))
    }

    /// The cluster's own authorities, and our client certificate.
    pub(crate) fn cluster<'a>(
        authorities: impl IntoIterator<Item = &'a CertificateDer<'static>>,
        client: ClientIdentity,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.into_iter().cloned());
        Self::Cluster(Arc::new(roots), Arc::new(client))
    }

    fn verifier(&self) -> Result<Arc<RecordingVerifier>, rustls::Error> {
        let web_pki = match self {
            Self::Web(roots) | Self::Cluster(roots, _) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build();
                Some(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
            }
            Self::UnverifiedTeleport => None,
        };
        Ok(Arc::new(RecordingVerifier::new(web_pki)))
    }

    fn config(&self, service: &Service, verifier: Arc<RecordingVerifier>) -> Result<ClientConfig, rustls::Error> {
        // rustls calls any verifier "dangerous" that is not its own. `RecordingVerifier` calls it.
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self {
            Self::Web(_) | Self::UnverifiedTeleport => builder.with_no_client_auth(),
            Self::Cluster(_, client) => {
                builder.with_client_auth_cert(vec![client.certificate.clone()], client.key.clone_key())?
            }
        };
        config.alpn_protocols = service.alpn();
        // Each connection of a run goes to another service, so there is nothing to resume.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// TLS over `stream`. Fails if no protocol is negotiated by ALPN and the service needs one.
pub(crate) async fn connect(
    stream: impl super::Io + 'static,
    server: &str,
    service: &Service,
    trust: &Trust,
    deadline: Deadline,
) -> Result<Stream, Error> {
    let stream = handshake(stream, server, service, trust, deadline).await?;
    // A web server need not confirm HTTP/1.1; every other service must have been selected by name.
    if stream.facts().alpn_protocol().is_none() && !matches!(service, Service::Web | Service::Balancer) {
        return Err(Error::NoAlpn { host: server.to_owned() });
    }
    Ok(Box::new(stream))
}

pub(crate) struct TlsInfo {
    /// The version of TLS, such as `TLS 1.3`.
    pub(crate) version: String,
    pub(crate) chain: PeerChain,
}

impl TlsInfo {
    pub(crate) fn new<S>(stream: &TlsStream<S>) -> Self {
        let connection = stream.facts();
        let version = connection.protocol_version().map(|version| format!("{version:?}"));
        Self {
            version: version.unwrap_or_default().replace("TLSv1_", "TLS 1."),
            chain: PeerChain::new(connection.peer_certificates().unwrap_or_default()),
        }
    }
}

/// As [`connect`], but any ALPN result is accepted.
pub(crate) async fn handshake<S: super::Io>(
    stream: S,
    server: &str,
    service: &Service,
    trust: &Trust,
    deadline: Deadline,
) -> Result<TlsStream<PeekedStream<S>>, Error> {
    let other = |reason: String| Error::Tls { host: server.to_owned(), reason };
    let name = ServerName::try_from(server.to_owned()).map_err(|error| other(error.to_string()))?;
    let verifier = trust.verifier().map_err(|error| other(error.to_string()))?;
    let config = trust.config(service, verifier.clone()).map_err(|error| other(error.to_string()))?;
    let handshake = async {
        let connecting = TlsStream::connect(Arc::new(config), name, PeekedStream::new(stream));
        connecting.await.map_err(|(error, stream)| match stream.identify_protocol() {
            Some(found) => Error::NotTls { host: server.to_owned(), found },
            None if matches!(trust, Trust::Web(_)) => explain_web(server, &error, &verifier.refused()),
            None => explain_cluster(server, &error, trust, &verifier),
        })
    };
    deadline.bound(WaitingFor { addr: server.to_owned(), what: "a TLS handshake" }, handshake).await
}

/// The certificate was accepted, but the server's signature was not made with its key.
const NO_KEY: &str = "the server does not have its key";

/// Until or from when the certificate is valid, and what the time is here, if rustls says so.
fn times(fault: &CertificateError) -> Option<String> {
    let at = |time: &UnixTime| {
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
    };
    match fault {
        CertificateError::ExpiredContext { time, not_after } => {
            Some(format!("it was valid until {} and here it is {}", at(not_after), at(time)))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            Some(format!("it will be valid from {} on and here it is {}", at(not_before), at(time)))
        }
        _ => None,
    }
}

/// The failure of a handshake with Auth or the transport service.
fn explain_cluster(server: &str, error: &std::io::Error, trust: &Trust, verifier: &RecordingVerifier) -> Error {
    let (host, chain) = (server.to_owned(), &verifier.refused());
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            let reason = match fault {
                CertificateError::BadSignature if chain.leaf().is_none() => NO_KEY.to_owned(),
                // The authority is right, if one is known.
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
                    if !matches!(trust, Trust::UnverifiedTeleport) =>
                {
                    "it is for another server of the cluster".to_owned()
                }
                _ if !chain.is_teleport_server() => return Error::TlsTerminated { host, signer: chain.signer() },
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    format!("it is signed by {}", chain.signer())
                }
                fault => times(fault)
                    .unwrap_or_else(|| sanitize(&rustls::Error::InvalidCertificate(fault.clone()).to_string())),
            };
            Error::NotOfCluster { host, reason }
        }
        // In TLS 1.2 the server refuses our certificate during the handshake, in TLS 1.3 later. An alert after we have
        // accepted the server's certificate is about ours, or about the lack of one.
        Some(rustls::Error::AlertReceived(alert)) if verifier.has_accepted() => {
            Error::ClientRefused { addr: host, alert: format!("{alert:?}") }
        }
        _ => explain_web(server, error, chain),
    }
}

/// The name in `DnsName("example.com")` or `IpAddress(127.0.0.1)`, as rustls writes names of a certificate.
fn bare_name(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, name)| name.trim_matches([')', '"']))
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// The failure of a handshake with the proxy's web port.
fn explain_web(server: &str, error: &std::io::Error, chain: &PeerChain) -> Error {
    let host = server.to_owned();
    let Some(tls) = tls_error(error) else {
        return Error::Broken { addr: host, reason: format!("during the TLS handshake: {error}") };
    };
    match tls {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::BadSignature if chain.leaf().is_none() => {
                Error::Certificate { host, reason: NO_KEY.to_owned() }
            }
            // A bad signature is that of another authority with the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Error::Untrusted { host, signer: chain.signer() }
            }
            CertificateError::NotValidForName => Error::WrongName { host, names: "its names are not known".to_owned() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().map(|name| bare_name(name)).collect::<Vec<_>>();
                Error::WrongName { host, names: sanitize(&format!("it is for {}", names.join(", "))) }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Error::Expired { host, times: times(fault).map(|times| format!(": {times}")).unwrap_or_default() }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Error::NotYetValid { host, times: times(fault).map(|times| format!(": {times}")).unwrap_or_default() }
            }
            _ => Error::Certificate { host, reason: sanitize(&tls.to_string()) },
        },
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
        | rustls::Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => Error::NoAlpn { host },
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Error::OldTls { host, lacking: "TLS version" },
        // The alerts of servers that find none of their ciphers in our offer (RFC 5246, section 7.2.2; OpenSSL and Go).
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon,
        ) => Error::OldTls { host, lacking: "TLS cipher" },
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            Error::WrongName { host, names: "the server does not know that name".to_owned() }
        }
        _ => Error::Tls { host, reason: sanitize(&tls.to_string()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_shown_bare() {
        for (name, bare) in [
            ("DnsName(\"example.com\")", "example.com"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("IpAddress(0::1)", "0::1"),
            ("example.com", "example.com"),
        ] {
            assert_eq!(bare_name(name), bare);
        }
    }
}
