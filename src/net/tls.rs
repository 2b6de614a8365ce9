//! TLS, and its two domains of trust (teleport-issue-and-outputs.md 9.6):
//!
//! * the **web** certificate of the proxy, by public authorities: discovery and joining;
//! * certificates of the **cluster's host CA**, with a client certificate: Auth, and connections to nodes.
//!
//! The proxy routes by the first ALPN name that it knows in *our* order, and negotiates by *its own* order; that is why
//! each offer is exact (teleport-join.md 3.1, teleport-ssh-proxy.md 2.2).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, PeerIncompatible, PeerMisbehaved, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authorities::Authorities;
use super::crypto::provider;
use super::peeked_stream::PeekedStream;
use super::peer_chain::{PeerChain, RecordingVerifier};
use super::teleport_name_verifier::TeleportNameVerifier;
use super::{Error, Stream};
use crate::address::ClusterName;
use crate::retry::{Deadline, WaitingFor};
use crate::text::sanitize;

/// What we want to talk to behind the proxy's one port.
#[derive(Clone, Debug)]
pub(crate) enum Service {
    /// Discovery and the REST join.
    Web,
    /// The join service.
    Join,
    /// The cluster's Auth Service.
    Auth(ClusterName),
    /// The cluster's Auth Service, through the transport service: nobody routes by name there.
    NestedAuth,
    /// The transport service: connections to nodes.
    Transport,
    /// Nothing that we want: only a Teleport proxy knows the name.
    ReverseTunnel,
    /// A load balancer, which is asked for a connection upgrade.
    Balancer,
}

impl Service {
    /// The ALPN names to offer, in order.
    pub(crate) fn alpn(&self) -> Vec<Vec<u8>> {
        let names: &[&str] = match self {
            Self::Web => &["http/1.1"],
            Self::Join => &["teleport-proxy-grpc", "h2"],
            // The name comes first to be routed by, `h2` is what Auth itself knows.
            Self::Auth(cluster) => &[&format!("teleport-auth@{}", cluster.auth_server_name()), "h2"],
            Self::NestedAuth => &["h2"],
            Self::Transport => &["teleport-proxy-ssh-grpc", "h2"],
            Self::ReverseTunnel => &["teleport-reversetunnel"],
            // As Teleport's own clients do: whoever sees no name expects HTTP/1.1.
            Self::Balancer => &[],
        };
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }
}

/// Who is believed to be the server, and who we are.
#[derive(Clone)]
pub(crate) struct Trust {
    servers: Servers,
    client: Option<Arc<ClientIdentity>>,
}

#[derive(Clone)]
enum Servers {
    /// Those that these authorities have signed.
    SignedBy(Arc<RootCertStore>),
    /// Whatever says that it is a Teleport server.
    Teleport,
}

/// A client certificate and its key.
pub(crate) struct ClientIdentity {
    /// The leaf, alone: a chain of two is refused (teleport-issue-and-outputs.md 1.2).
    pub(crate) certificate: CertificateDer<'static>,
    /// Its key.
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Trust {
    /// The public authorities, and these besides.
    pub(crate) fn web(private: &Authorities) -> Self {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(private.iter().cloned());
        Self { servers: Servers::SignedBy(Arc::new(roots)), client: None }
    }

    /// The cluster's own authorities, and the certificate that we show.
    pub(crate) fn cluster<'a>(
        authorities: impl IntoIterator<Item = &'a CertificateDer<'static>>,
        client: ClientIdentity,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.into_iter().cloned());
        Self { servers: Servers::SignedBy(Arc::new(roots)), client: Some(Arc::new(client)) }
    }

    /// Any server of Teleport's: for a join inside of a connection upgrade ([`TeleportNameVerifier`]).
    pub(crate) fn unverified_teleport() -> Self {
        Self { servers: Servers::Teleport, client: None }
    }

    /// Whether the servers have certificates of a cluster, not of the web.
    fn expects_cluster_certificate(&self) -> bool {
        self.client.is_some() || matches!(self.servers, Servers::Teleport)
    }

    /// A verifier for one connection.
    fn verifier(&self) -> Result<Arc<RecordingVerifier>, rustls::Error> {
        let verifier: Arc<dyn ServerCertVerifier> = match &self.servers {
            Servers::SignedBy(roots) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build();
                verifier.map_err(|error| rustls::Error::General(error.to_string()))?
            }
            Servers::Teleport => Arc::new(TeleportNameVerifier),
        };
        Ok(Arc::new(RecordingVerifier::new(verifier)))
    }

    fn config(&self, service: &Service, verifier: Arc<RecordingVerifier>) -> Result<ClientConfig, rustls::Error> {
        // "Dangerous" is any verifier that is not rustls's own; this one hands everything on.
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(client) => builder.with_client_auth_cert(vec![client.certificate.clone()], client.key.clone_key())?,
        };
        config.alpn_protocols = service.alpn();
        // Every connection of a run goes to another service: there is nothing to resume.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// TLS over `stream`, to the server of that name.
///
/// # Errors
/// The handshake fails, takes too long, or negotiates no protocol.
pub(crate) async fn connect(
    stream: impl super::Io + 'static,
    server: &str,
    service: &Service,
    trust: &Trust,
    deadline: Deadline,
) -> Result<Stream, Error> {
    let stream = handshake(stream, server, service, trust, deadline).await?;
    // A web server may leave HTTP/1.1 unsaid; every other service must have been picked by name.
    if stream.get_ref().1.alpn_protocol().is_none() && !matches!(service, Service::Web | Service::Balancer) {
        return Err(Error::NoAlpn { host: server.to_owned() });
    }
    Ok(Box::new(stream))
}

/// What a handshake with a web port has shown.
pub(crate) struct TlsInfo {
    /// The version of TLS, such as `TLS 1.3`.
    pub(crate) version: String,
    /// The certificates.
    pub(crate) shown: PeerChain,
}

impl TlsInfo {
    /// What this connection has shown.
    pub(crate) fn new<S>(stream: &TlsStream<S>) -> Self {
        let connection = stream.get_ref().1;
        let version = connection.protocol_version().map(|version| format!("{version:?}"));
        Self {
            version: version.unwrap_or_default().replace("TLSv1_", "TLS 1."),
            shown: PeerChain::new(connection.peer_certificates().unwrap_or_default()),
        }
    }
}

/// The same with what was negotiated.
///
/// # Errors
/// The handshake fails or takes too long.
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
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, PeekedStream::new(stream));
        connecting.into_fallible().await.map_err(|(error, stream)| match stream.identify_protocol() {
            Some(found) => Error::NotTls { host: server.to_owned(), found },
            None if trust.expects_cluster_certificate() => explain_cluster(server, &error, trust, &verifier),
            None => explain_web(server, &error, &verifier.refused()),
        })
    };
    let awaited = WaitingFor { addr: server.to_owned(), what: "a TLS handshake" };
    deadline.bound(awaited, handshake).await
}

/// Whose certificate it is, somebody else shows it.
const NO_KEY: &str = "the server does not have its key";

fn at(time: UnixTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

/// The failure of a handshake with Auth or the transport service.
fn explain_cluster(server: &str, error: &std::io::Error, trust: &Trust, verifier: &RecordingVerifier) -> Error {
    let (host, shown) = (server.to_owned(), &verifier.refused());
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            let reason = match fault {
                // Refused after it was accepted.
                CertificateError::BadSignature if shown.leaf().is_none() => NO_KEY.to_owned(),
                // The authority is the right one, where one is known.
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
                    if matches!(trust.servers, Servers::SignedBy(_)) =>
                {
                    "it is that of another of its servers".to_owned()
                }
                _ if !shown.is_teleport_server() => return Error::EndsTls { host, signer: shown.signer() },
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    format!("it is signed by {}", shown.signer())
                }
                CertificateError::ExpiredContext { time, not_after } => {
                    format!("it was valid until {} and here it is {}", at(*not_after), at(*time))
                }
                CertificateError::NotValidYetContext { time, not_before } => {
                    format!("it will be valid from {} on and here it is {}", at(*not_before), at(*time))
                }
                fault => sanitize(&rustls::Error::InvalidCertificate(fault.clone()).to_string()),
            };
            Error::NotOfCluster { host, reason }
        }
        // TLS 1.2 tells in the handshake what TLS 1.3 tells later: once we have accepted the server's certificate, an
        // alert is about ours, or that there is none.
        Some(rustls::Error::AlertReceived(alert)) if verifier.has_accepted() => {
            Error::ClientRefused { addr: host, alert: format!("{alert:?}") }
        }
        _ => explain_web(server, error, shown),
    }
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// The failure of a handshake with the proxy's web port, told apart by what a person can do.
fn explain_web(server: &str, error: &std::io::Error, shown: &PeerChain) -> Error {
    let host = server.to_owned();
    let Some(tls) = tls_error(error) else {
        return Error::Broken { addr: host, reason: format!("during the TLS handshake: {error}") };
    };
    match tls {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // Refused after it was accepted.
            CertificateError::BadSignature if shown.leaf().is_none() => {
                Error::Certificate { host, reason: NO_KEY.to_owned() }
            }
            // An authority of the same name is another one if its key is.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Error::Untrusted { host, signer: shown.signer() }
            }
            CertificateError::NotValidForName => Error::WrongName { host, names: "its names are not known".to_owned() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                // Each is written as `DnsName("example.com")`.
                let names = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).collect::<Vec<_>>();
                Error::WrongName { host, names: sanitize(&format!("it is for {}", names.join(", "))) }
            }
            CertificateError::Expired => Error::Expired { host, times: String::new() },
            CertificateError::ExpiredContext { time, not_after } => {
                let times = format!(": it was valid until {} and here it is {}", at(*not_after), at(*time));
                Error::Expired { host, times }
            }
            CertificateError::NotValidYet => Error::NotYetValid { host, times: String::new() },
            CertificateError::NotValidYetContext { time, not_before } => {
                let times = format!(": it will be from {} on and here it is {}", at(*not_before), at(*time));
                Error::NotYetValid { host, times }
            }
            _ => Error::Certificate { host, reason: sanitize(&tls.to_string()) },
        },
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
        | rustls::Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => Error::NoAlpn { host },
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Error::OldTls { host, lacking: "version of TLS" },
        // What servers say that find none of their ciphers in our offer (RFC 5246, 7.2.2; OpenSSL and Go do).
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon,
        ) => Error::OldTls { host, lacking: "cipher of TLS" },
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
    fn alpn_offers_are_exact() {
        let offer = |service: Service| {
            service.alpn().into_iter().map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(offer(Service::Web), ["http/1.1"]);
        assert_eq!(offer(Service::Join), ["teleport-proxy-grpc", "h2"]);
        assert_eq!(offer(Service::Transport), ["teleport-proxy-ssh-grpc", "h2"]);
        let cluster = "a.example".parse().unwrap();
        let auth = ["teleport-auth@612e6578616d706c65.teleport.cluster.local", "h2"];
        assert_eq!(offer(Service::Auth(cluster)), auth);
    }
}
