//! TLS, and its two domains of trust (teleport-issue-and-outputs.md 9.6):
//!
//! * the **web** certificate of the proxy, by public authorities: discovery and joining;
//! * certificates of the **cluster's host CA**, with a client certificate: Auth, and connections to nodes.
//!
//! The proxy routes by the first ALPN name that it knows in *our* order, and negotiates by *its own* order; that is why
//! each offer is exact (teleport-join.md 3.1, teleport-ssh-proxy.md 2.2).

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::discovery::ClusterName;
use super::{Error, Stream};
use crate::error::foreign;
use crate::retry::{Awaited, Deadline};
use crate::x509::X509;

/// What we want to talk to behind the proxy's one port.
#[derive(Clone, Debug)]
pub enum Service {
    /// Discovery and the REST join.
    Web,
    /// The join service.
    Join,
    /// The cluster's Auth Service.
    Auth(ClusterName),
    /// The cluster's Auth Service, through the transport service: nobody routes by name there.
    AuthInside,
    /// The transport service: connections to nodes.
    Transport,
    /// Nothing that we want: only a Teleport proxy knows the name.
    ReverseTunnel,
    /// A load balancer, which is asked for a connection upgrade.
    Balancer,
}

impl Service {
    /// The ALPN names to offer, in order.
    pub fn alpn(&self) -> Vec<Vec<u8>> {
        let names: &[&str] = match self {
            Self::Web => &["http/1.1"],
            Self::Join => &["teleport-proxy-grpc", "h2"],
            // The name comes first to be routed by, `h2` is what Auth itself knows.
            Self::Auth(cluster) => &[&format!("teleport-auth@{}", cluster.auth_server_name()), "h2"],
            Self::AuthInside => &["h2"],
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
pub struct Trust {
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
pub struct ClientIdentity {
    /// The leaf, alone: a chain of two is refused (teleport-issue-and-outputs.md 1.2).
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Trust {
    /// The public authorities, and those in `ca_file` besides.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub fn web(ca_file: Option<&Path>) -> Result<Self, Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = ca_file {
            let unusable = |reason: String| Error::CaFile { path: path.to_owned(), reason };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let before = roots.len();
            // A whole system's bundle may hold a certificate that rustls does not read.
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
            if roots.len() == before {
                return Err(unusable("there is no certificate in it".to_owned()));
            }
        }
        Ok(Self { servers: Servers::SignedBy(Arc::new(roots)), client: None })
    }

    /// The cluster's own authorities, and the certificate that we show.
    pub fn cluster<'a>(
        authorities: impl IntoIterator<Item = &'a CertificateDer<'static>>,
        client: ClientIdentity,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.into_iter().cloned());
        Self { servers: Servers::SignedBy(Arc::new(roots)), client: Some(Arc::new(client)) }
    }

    /// For a join inside of a connection upgrade. The proxy shows a certificate of the host CA there, which only the
    /// join makes known; who is talked to was found out by the TLS around the upgrade. So a certificate with the name
    /// that all servers of Teleport have will do, as it does for Teleport's own clients (teleport-join.md 3.3).
    pub fn inside() -> Self {
        Self { servers: Servers::Teleport, client: None }
    }

    fn config(&self, service: &Service) -> Result<ClientConfig, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &self.servers {
            Servers::SignedBy(roots) => builder.with_root_certificates(roots.clone()),
            Servers::Teleport => builder.dangerous().with_custom_certificate_verifier(Arc::new(TeleportServer)),
        };
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

/// See [`Trust::inside`].
#[derive(Debug)]
struct TeleportServer;

impl ServerCertVerifier for TeleportServer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        const NAME: &str = "teleport.cluster.local";
        let name = ServerName::try_from(NAME).map_err(|_| CertificateError::NotValidForName)?;
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

/// The cryptography of this program.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// TLS over `stream`, to the server of that name. `addr` is for messages.
///
/// # Errors
/// The handshake fails, takes too long, or negotiates no protocol.
pub async fn connect(
    stream: impl super::Io + 'static,
    server: &str,
    service: &Service,
    trust: &Trust,
    deadline: Deadline,
) -> Result<Stream, Error> {
    let other = |reason: String| Error::Tls { host: server.to_owned(), reason };
    let name = ServerName::try_from(server.to_owned()).map_err(|error| other(error.to_string()))?;
    let config = trust.config(service).map_err(|error| other(error.to_string()))?;
    let handshake = async {
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| match &trust.client {
            None => explain_web(server, &error),
            Some(_) => explain_cluster(server, &error),
        })
    };
    let awaited = Awaited { addr: server.to_owned(), what: "a TLS handshake" };
    let stream = deadline.bound(awaited, handshake).await?;
    // A web server may leave HTTP/1.1 unsaid; every other service must have been picked by name.
    if stream.get_ref().1.alpn_protocol().is_none() && !matches!(service, Service::Web | Service::Balancer) {
        return Err(Error::NoAlpn { host: server.to_owned() });
    }
    Ok(Box::new(stream))
}

/// The failure of a handshake with Auth or the transport service.
fn explain_cluster(server: &str, error: &std::io::Error) -> Error {
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            let reason = match fault {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "another authority signed it".to_owned()
                }
                fault => foreign(&rustls::Error::InvalidCertificate(fault.clone()).to_string()),
            };
            Error::NotOfCluster { host: server.to_owned(), reason }
        }
        _ => explain_web(server, error),
    }
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// The failure of a handshake with the proxy's web port, told apart by what a person can do.
fn explain_web(server: &str, error: &std::io::Error) -> Error {
    let host = server.to_owned();
    let Some(tls) = tls_error(error) else {
        return Error::Broken { addr: host, reason: format!("during the TLS handshake: {error}") };
    };
    match tls {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // An authority of the same name is another one if its key is.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Error::Untrusted { host },
            CertificateError::NotValidForName => Error::WrongName { host, names: "its names are not known".to_owned() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                // Each is written as `DnsName("example.com")`.
                let names = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).collect::<Vec<_>>();
                Error::WrongName { host, names: foreign(&format!("it is for {}", names.join(", "))) }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Error::WrongTime { host, problem: "has expired" }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Error::WrongTime { host, problem: "is not valid yet" }
            }
            _ => Error::Certificate { host, reason: foreign(&tls.to_string()) },
        },
        rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)
        | rustls::Error::PeerMisbehaved(rustls::PeerMisbehaved::SelectedUnofferedApplicationProtocol) => {
            Error::NoAlpn { host }
        }
        _ => Error::Tls { host, reason: foreign(&tls.to_string()) },
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
