//! Why the cluster was not reached, told apart by what a person can do about it.

pub(crate) mod egress;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::peer_chain::Signer;
use crate::address::HostPort;
use crate::error::{Advice, Exit, Explain, Retry};
use crate::retry::{RetryAfter, Transient, WaitingFor};
use crate::text::sanitize;

/// What [`Error::Late`] waits for when nobody has answered at all.
pub(crate) const TCP: &str = "a TCP connection";

/// Why the cluster was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The outgoing proxy does not let us through.
    #[error(transparent)]
    Egress(#[from] egress::Error),
    /// The forward proxy is not there, or it is not the server that it should be.
    #[error("the outgoing proxy {proxy} is not reached: {source}")]
    EgressUnreached { proxy: String, source: Box<Self> },
    /// The name has no address.
    #[error("the proxy's name {host} does not resolve ({reason})")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// No address takes a connection.
    #[error("no connection to {addr} ({source})")]
    Connect {
        /// `host:port`.
        addr: String,
        /// What the last address tried said.
        source: io::Error,
    },
    /// Somebody does not answer.
    #[error("no answer from {addr} in time (waiting for {waiting_for})")]
    Late {
        /// `host:port`.
        addr: String,
        /// What was awaited.
        waiting_for: &'static str,
    },
    /// The chain ends at a root that we do not trust.
    #[error("the certificate of {host} is not signed by an authority that is trusted here, but by {signer}")]
    Untrusted {
        /// The server's name.
        host: String,
        /// Who signed it.
        signer: Signer,
    },
    /// Auth or the transport service show a certificate that is none of any Teleport cluster.
    #[error("{host} has a certificate of {signer}, not of the cluster: TLS ends before it gets there")]
    EndsTls {
        /// The server's name.
        host: String,
        /// Who signed it.
        signer: Signer,
    },
    /// Auth or the transport service show a certificate that the cluster's host CA did not sign, or for another name.
    #[error("the certificate of {host} is not one of the cluster's host CA ({reason})")]
    NotOfCluster {
        /// The server's name.
        host: String,
        /// What the TLS library says.
        reason: String,
    },
    /// Any other fault of a certificate.
    #[error("the certificate of {host} cannot be accepted ({reason})")]
    Certificate {
        /// The server's name.
        host: String,
        /// What the TLS library says.
        reason: String,
    },
    /// The other side does not accept our certificate. It comes as a TLS alert, not as an answer.
    #[error("{addr} does not accept the certificate that was issued ({alert})")]
    ClientRefused {
        /// `host:port`, or the service.
        addr: String,
        /// The name of the alert.
        alert: String,
    },
    /// HTTP where gRPC was expected.
    #[error("{addr} answered HTTP {status} where gRPC was expected{retry_after}")]
    NotGrpc {
        /// `host:port`, or the service.
        addr: String,
        /// The HTTP status.
        status: u16,
        /// When to come back.
        retry_after: RetryAfter,
    },
    /// It is the certificate of somebody else.
    #[error("the certificate of {host} is not for that name ({names})")]
    WrongName {
        /// The name that was asked for.
        host: String,
        /// The names in the certificate.
        names: String,
    },
    /// It was good once.
    #[error("the certificate of {host} has expired{times}")]
    Expired {
        /// The server's name.
        host: String,
        /// Until when it was valid, and what time it is here; may be empty.
        times: String,
    },
    /// It is from the future.
    #[error("the certificate of {host} is not valid yet{times}")]
    NotYetValid {
        /// The server's name.
        host: String,
        /// From when on it is valid, and what time it is here; may be empty.
        times: String,
    },
    /// Another protocol, before the handshake could begin.
    #[error("{host} does not speak TLS on that port: it is {found}")]
    NotTls {
        /// The server's name.
        host: String,
        /// What it speaks.
        found: String,
    },
    /// TLS, but not the same.
    #[error("{host} and this program have no {lacking} in common")]
    OldTls {
        /// The server's name.
        host: String,
        /// What they do not have.
        lacking: &'static str,
    },
    /// Any other failure of the handshake.
    #[error("no TLS connection to {host} ({reason})")]
    Tls {
        /// The server's name.
        host: String,
        /// What the TLS library says.
        reason: String,
    },
    /// Something between us and the proxy took the protocol name away.
    #[error("{host} does not speak Teleport's protocols on its web port: no ALPN protocol was negotiated")]
    NoAlpn {
        /// The server's name.
        host: String,
    },
    /// A load balancer ends TLS and does not let Teleport's protocols through in a WebSocket, either.
    #[error(
        "{addr} does not let Teleport's protocols through: it ends TLS itself and refuses a connection upgrade (it answered {answer})"
    )]
    NoUpgrade {
        /// `host:port`.
        addr: String,
        /// The HTTP status, and what was wrong if it was the right one.
        answer: String,
    },
    /// The connection broke in the middle.
    #[error("the connection to {addr} broke ({reason})")]
    Broken {
        /// `host:port`.
        addr: String,
        /// What the layer that saw it says.
        reason: String,
    },
    /// Reached, but it is something else.
    #[error("{addr} is not a Teleport proxy ({found})")]
    NotTeleport {
        /// `host:port`.
        addr: String,
        /// What it answered.
        found: String,
    },
    /// Reached, and sent away: a sign-in page, or a new address.
    #[error("{addr} is not a Teleport proxy (/webapi/find answered {status} and leads to {to})")]
    Redirect {
        /// `host:port`.
        addr: String,
        /// The HTTP status.
        status: u16,
        /// The host that it leads to: the rest may hold a secret.
        to: String,
    },
    /// An HTTP error of the proxy.
    #[error("{addr} answered {status} ({message}){retry_after}")]
    Status {
        /// `host:port`.
        addr: String,
        /// The HTTP status.
        status: u16,
        /// When to come back.
        retry_after: RetryAfter,
        /// The proxy's words.
        message: String,
    },
    /// Words of the right protocol that make no sense.
    #[error("the answer of {addr} makes no sense ({reason})")]
    Garbled {
        /// `host:port`, or the service.
        addr: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More than is read.
    #[error("the answer of {addr} is larger than the 4 MiB that are read of it")]
    TooLarge {
        /// `host:port`, or the service.
        addr: String,
    },
    /// `CA_FILE` or `SSL_CERT_FILE` cannot be used.
    #[error("the file of certificate authorities {} cannot be used ({reason})", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The failure of an open connection. TLS 1.3 tells a client that its certificate is refused only after the handshake,
/// by an alert, which the layers above hand on as text (teleport-ssh-proxy.md 2.2).
pub(super) fn broken(addr: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    const ALERTS: [&str; 5] =
        ["BadCertificate", "CertificateExpired", "CertificateUnknown", "AccessDenied", "UnknownCA"];
    let (addr, reason) = (addr.to_owned(), sanitize(&reasons(error)));
    let alert = reason.split_once("received fatal alert: ").map(|(_, alert)| alert);
    match alert.and_then(|alert| ALERTS.into_iter().find(|name| alert.starts_with(name))) {
        Some(alert) => Error::ClientRefused { addr, alert: alert.to_owned() },
        None => Error::Broken { addr, reason },
    }
}

impl From<WaitingFor> for Error {
    fn from(WaitingFor { addr, what: waiting_for }: WaitingFor) -> Self {
        Self::Late { addr, waiting_for }
    }
}

impl Error {
    /// The same failure, of a server behind the proxy: its name in TLS says nothing to people.
    #[must_use]
    pub(crate) fn behind(self, proxy: &HostPort, name: &str) -> Self {
        let host = name.to_owned();
        match self {
            Self::Late { waiting_for, .. } => Self::Late { addr: host, waiting_for },
            Self::Broken { reason, .. } => Self::Broken { addr: host, reason },
            Self::Garbled { reason, .. } => Self::Garbled { addr: host, reason },
            Self::TooLarge { .. } => Self::TooLarge { addr: host },
            Self::NotOfCluster { reason, .. } => Self::NotOfCluster { host, reason },
            // Whoever ends TLS does it at the proxy's address.
            Self::EndsTls { signer, .. } => Self::EndsTls { host: proxy.host.clone(), signer },
            Self::Tls { reason, .. } => Self::Tls { host, reason },
            // And it is the proxy's port.
            Self::NotTls { found, .. } => Self::NotTls { host: proxy.host.clone(), found },
            // It is the proxy that picks the protocol.
            Self::NoAlpn { .. } => Self::NoAlpn { host: proxy.host.clone() },
            other => other,
        }
    }
}

/// An error of a library and what it rests on, in one line.
pub(super) fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    // rustls explains to programmers, with a link, that the other side went away without a word.
    const UNSAID: &str = "peer closed connection without sending TLS close_notify";
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        said.push(if text.starts_with(UNSAID) { "it was closed in the middle".to_owned() } else { text });
        next = error.source();
    }
    // Some errors say what their source says, too.
    said.dedup();
    said.join(": ")
}

impl Transient for Error {
    fn retry(&self) -> Retry {
        self.advice().retry
    }

    fn retry_after(&mut self) -> Option<&mut RetryAfter> {
        match self {
            Self::Status { retry_after, .. } | Self::NotGrpc { retry_after, .. } => Some(retry_after),
            _ => None,
        }
    }
}

/// Whether a server that answers with this HTTP status may answer differently a moment later. If it may not, one of
/// several servers may still be the only one that answers so.
fn retry_status(status: u16) -> Retry {
    if status == 429 || (status >= 500 && status != 501) { Retry::Yes } else { Retry::Once }
}

/// The resolver's own trouble (`EAI_AGAIN`), in the words of glibc and of musl.
fn retry_resolve(reason: &str) -> Retry {
    if reason.contains("emporary") || reason.contains("ry again") { Retry::Yes } else { Retry::Once }
}

const FIREWALL: &str = "A firewall drops the connection, or the proxy is only reachable from another network.";
const TRY_CURL: &str =
    "Try `curl https://<proxy>/webapi/find` on the same runner. If that fails, too, the network is in the way.";
const CHECK_CLOCK: &str = "Look at the clock of the runner first, then at the certificate.";
const CHECK_PORT: &str = "Check the port of PROXY_SERVER (--proxy-server): it is the one of Teleport's web interface.";
const PASS_TLS_THROUGH: &str = "Reach the proxy without that load balancer, or let it pass TLS through (layer 4). If \
                                TELEPORT_TLS_ROUTING_CONN_UPGRADE is set, it must not say no for this address.";
const SEE_PROXY_LOG: &str = "Run the step again; if it keeps failing, look at the proxy's log at that time.";

impl Explain for Error {
    fn advice(&self) -> Advice {
        // One of several addresses, or of several servers behind one, may be the wrong one: such errors are retried once.
        let network = |retry, anchor, cause: &'static str, remedy: &'static str| {
            Advice::new(Exit::Network, anchor, remedy).cause(cause).retry(retry)
        };
        match self {
            Self::Egress(error) => error.advice(),
            Self::EgressUnreached { source, .. } => {
                let Advice { remedy, retry, .. } = source.advice();
                let unreached = |cause: &'static str, remedy: Cow<'static, str>| {
                    Advice::new(Exit::Network, "the-outgoing-proxy-is-not-reached", remedy).cause(cause).retry(retry)
                };
                match **source {
                    Self::Untrusted { .. } => unreached("It has a certificate of the company's own authority.", remedy),
                    Self::NotTls { .. } => unreached(
                        "It does not speak TLS itself: https:// is for proxies that do.",
                        "Write http:// in HTTPS_PROXY, as most are.".into(),
                    ),
                    _ => unreached(
                        "The URL is misspelt, or that proxy serves another network than this runner's.",
                        "Compare HTTPS_PROXY with what other tools on this runner use. If the cluster is reached \
                         without it, leave it out, or name the cluster in NO_PROXY."
                            .into(),
                    ),
                }
            }
            Self::Resolve { reason, .. } => network(
                retry_resolve(reason),
                "the-proxys-name-does-not-resolve",
                "The name is misspelt, or known in another network only.",
                "Compare PROXY_SERVER (--proxy-server) with the address in the browser when you log in to Teleport.",
            ),
            Self::Connect { source, .. } => network(
                Retry::Yes,
                "no-connection-to-the-proxy",
                match source.kind() {
                    io::ErrorKind::ConnectionRefused => {
                        "Nothing listens on that port. Teleport Cloud uses 443, self-hosted proxies often 3080."
                    }
                    _ => FIREWALL,
                },
                TRY_CURL,
            ),
            Self::Late { waiting_for: TCP, .. } => {
                network(Retry::Yes, "no-connection-to-the-proxy", FIREWALL, TRY_CURL)
            }
            Self::Late { .. } => network(
                Retry::Yes,
                "no-connection-to-the-proxy",
                "The proxy, or something in front of it, takes the connection and then hangs.",
                "Try `curl https://<proxy>/webapi/find` on the same runner. If it answers, but slowly, raise TIMEOUT \
                 (--timeout); if it does not answer, ask whoever runs the cluster.",
            ),
            Self::Untrusted { signer, .. } => {
                network(Retry::Once, "the-proxys-certificate-is-not-trusted", "", signer.remedy())
                    .cause(signer.likely_cause())
            }
            Self::EndsTls { .. } => network(
                Retry::Once,
                "tls-ends-before-the-cluster",
                "A load balancer or a gateway in front of the proxy ends TLS itself.",
                PASS_TLS_THROUGH,
            ),
            Self::NotOfCluster { .. } => network(
                Retry::Once,
                "a-certificate-is-not-the-clusters",
                "The host CA was rotated since the credentials were issued, or the address leads to another cluster.",
                "Run teleport-pipe again in this step. If that does not help, see where the address leads.",
            ),
            Self::Certificate { .. } => network(
                Retry::Once,
                "the-proxys-certificate-cannot-be-accepted",
                "The certificate was made for something else, or by a tool with a mistake.",
                "Give the proxy a certificate that browsers accept, too.",
            ),
            // The server has understood and said no.
            Self::ClientRefused { .. } => Advice::new(
                Exit::Refused,
                "the-cluster-does-not-accept-the-certificate",
                "See `tctl get locks`, the options of the bot's roles, and the clocks of runner and cluster.",
            )
            .cause(
                "The bot is locked, its roles demand a device or an address that this runner does not have, \
                 the certificate has expired, or a clock is wrong.",
            ),
            Self::NotGrpc { status, retry_after, .. } => network(
                retry_status(*status),
                "not-grpc",
                "A load balancer in front of the proxy does not pass gRPC on.",
                retry_after
                    .remedy()
                    .unwrap_or("Reach the proxy without that load balancer, or let it pass TLS through (layer 4)."),
            ),
            Self::WrongName { .. } => network(
                Retry::Once,
                "the-proxys-certificate-is-for-another-name",
                "The proxy is known under another name.",
                "Use one of the names in the certificate as PROXY_SERVER (--proxy-server).",
            ),
            Self::Expired { .. } => network(
                Retry::Once,
                "the-proxys-certificate-is-out-of-date",
                "The certificate was not renewed, or the clock here is ahead.",
                CHECK_CLOCK,
            ),
            Self::NotYetValid { .. } => {
                network(Retry::Once, "the-proxys-certificate-is-out-of-date", "The clock here is behind.", CHECK_CLOCK)
            }
            Self::NotTls { .. } => {
                network(Retry::Once, "the-port-does-not-speak-tls", "The port is that of another service.", CHECK_PORT)
            }
            Self::OldTls { .. } => network(
                Retry::Once,
                "no-tls-in-common",
                "The proxy, or what ends TLS in front of it, is old or set up for old clients.",
                "Let it offer TLS 1.2 or 1.3, with the ciphers that browsers use.",
            ),
            Self::Tls { .. } => network(
                Retry::Once,
                "no-tls-connection",
                "The port is that of another service, or something in between meddles with TLS.",
                CHECK_PORT,
            ),
            Self::NoAlpn { .. } => network(
                Retry::No,
                "no-alpn",
                "A load balancer in front of the proxy ends TLS itself.",
                PASS_TLS_THROUGH,
            ),
            Self::NoUpgrade { .. } => network(
                Retry::No,
                "no-connection-upgrade",
                "A load balancer in front of the proxy removes the headers `Connection: Upgrade` and \
                 `Upgrade: websocket`, or the proxy behind it has no TLS of its own or is older than 15.1.",
                "Let the load balancer pass WebSockets on (nginx: `proxy_http_version 1.1`, and the headers Upgrade \
                 and Connection), or let it pass TLS through (layer 4).",
            ),
            Self::Broken { .. } => network(
                Retry::Yes,
                "the-connection-broke",
                "The proxy was restarted, or something between here and it cut the connection.",
                SEE_PROXY_LOG,
            ),
            Self::NotTeleport { .. } => network(
                Retry::Once,
                "not-a-teleport-proxy",
                "The address is that of another server, or of a page in front of the proxy.",
                "PROXY_SERVER (--proxy-server) is the address at which you log in to Teleport; \
                 `curl https://<proxy>/webapi/find` must answer with JSON.",
            ),
            Self::Redirect { .. } => network(
                Retry::Once,
                "the-proxy-leads-elsewhere",
                "An access gateway in front of the proxy wants a person to sign in, or the cluster has moved.",
                "If that is where you log in to Teleport, it is the address for PROXY_SERVER (--proxy-server). \
                 If it is a sign-in page, let the runner past the gateway.",
            ),
            Self::Status { status: 429, retry_after, .. } => network(
                Retry::Yes,
                "the-proxy-answers-with-an-error",
                "Too many requests came from this address.",
                retry_after.remedy().unwrap_or("Run the step again later, or fewer at once."),
            ),
            Self::Status { status, retry_after, .. } => network(
                retry_status(*status),
                "the-proxy-answers-with-an-error",
                "The proxy, or its Auth Service behind it, has a problem.",
                retry_after
                    .remedy()
                    .unwrap_or("Run the step again; if it keeps failing, ask whoever runs the cluster."),
            ),
            Self::Garbled { .. } => network(
                Retry::Yes,
                "the-answer-cannot-be-used",
                "Something between here and the proxy changed the answer or cut it short.",
                SEE_PROXY_LOG,
            ),
            Self::TooLarge { .. } => network(
                Retry::Once,
                "the-answer-cannot-be-used",
                "The cluster has very many roles or authorities, or it is another server.",
                "Ask whoever runs the cluster what has grown so large: `tctl get roles`, for one.",
            ),
            Self::CaFile { .. } => Advice::new(
                Exit::BadInput,
                "the-ca-file-cannot-be-used",
                "Name a readable file with one or more certificates in PEM, or unset CA_FILE (SSL_CERT_FILE).",
            ),
        }
    }
}
