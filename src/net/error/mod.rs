//! Why the cluster was not reached: one variant per thing that a person can do about it.

pub(crate) mod egress;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::peer_chain::Signer;
use crate::address::HostPort;
use crate::error::{Advice, Exit, Explain, Retry};
use crate::retry::{RetryAfter, Transient, WaitingFor};
use crate::text::sanitize;

/// What [`Error::Timeout`] waits for if nothing has answered at all.
pub(crate) const TCP: &str = "a TCP connection";

/// `addr` is `host:port`, or the name of a service behind the proxy; `host` is the name of a server in TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Egress(#[from] egress::Error),
    #[error("the forward proxy {proxy} cannot be reached: {source}")]
    EgressUnreached { proxy: String, source: Box<Self> },
    #[error("the proxy's name {host} does not resolve ({reason})")]
    Resolve { host: String, reason: String },
    /// None of the addresses accepts a connection. `source` is the failure of the last one.
    #[error("no connection to {addr} ({source})")]
    Connect { addr: String, source: io::Error },
    #[error("no answer from {addr} in time (waiting for {waiting_for})")]
    Timeout { addr: String, waiting_for: &'static str },
    #[error("the certificate of {host} is signed by {signer}, which is not a trusted CA")]
    Untrusted { host: String, signer: Signer },
    /// Auth or the transport service show a certificate that does not belong to any Teleport cluster.
    #[error("{host} shows a certificate signed by {signer}: something in front of the cluster terminates TLS")]
    TlsTerminated { host: String, signer: Signer },
    /// Auth or the transport service show a certificate that the cluster's host CA did not sign, or for another name.
    #[error("the certificate of {host} is not a valid certificate of the cluster's host CA ({reason})")]
    NotOfCluster { host: String, reason: String },
    #[error("the certificate of {host} cannot be accepted ({reason})")]
    Certificate { host: String, reason: String },
    #[error("{addr} does not accept the certificate that was issued ({alert})")]
    ClientRefused { addr: String, alert: String },
    #[error("{addr} answered HTTP {status} where gRPC was expected{retry_after}")]
    NotGrpc { addr: String, status: u16, retry_after: RetryAfter },
    #[error("the certificate of {host} is not for that name ({names})")]
    WrongName { host: String, names: String },
    /// `times` says until when the certificate was valid and what the time is here; it may be empty.
    #[error("the certificate of {host} has expired{times}")]
    Expired { host: String, times: String },
    #[error("the certificate of {host} is not valid yet{times}")]
    NotYetValid { host: String, times: String },
    #[error("{host} does not speak TLS on that port: it is {found}")]
    NotTls { host: String, found: String },
    #[error("{host} and this program have no {lacking} in common")]
    OldTls { host: String, lacking: &'static str },
    #[error("no TLS connection to {host} ({reason})")]
    Tls { host: String, reason: String },
    #[error("{host} does not speak Teleport's protocols on its web port: no ALPN protocol was negotiated")]
    NoAlpn { host: String },
    /// `answer` is the HTTP status, and what was wrong if it was 101.
    #[error(
        "{addr} does not let Teleport's protocols through: it terminates TLS and refuses a connection upgrade (it answered {answer})"
    )]
    NoUpgrade { addr: String, answer: String },
    #[error("the connection to {addr} broke ({reason})")]
    Broken { addr: String, reason: String },
    #[error("{addr} is not a Teleport proxy ({found})")]
    NotTeleport { addr: String, found: String },
    /// `to` is only the host of the new address: the rest may hold a secret.
    #[error("{addr} is not a Teleport proxy (/webapi/find answered {status} and redirects to {to})")]
    Redirect { addr: String, status: u16, to: String },
    #[error("{addr} answered {status} ({message}){retry_after}")]
    Status { addr: String, status: u16, retry_after: RetryAfter, message: String },
    /// The answer is of the right protocol and not valid.
    #[error("the answer of {addr} makes no sense ({reason})")]
    Garbled { addr: String, reason: String },
    #[error("the answer of {addr} has more than {most}, the most that is read")]
    TooLarge { addr: String, most: &'static str },
    #[error("the file of certificate authorities {} cannot be used ({reason})", path.display())]
    CaFile { path: PathBuf, reason: String },
}

/// The failure of an open connection. In TLS 1.3 a server refuses a client certificate only after the handshake, by an alert,
/// which the layers above pass on as text (docs/protocol.md, "Transport service").
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
        Self::Timeout { addr, waiting_for }
    }
}

impl Error {
    /// Adds the way of the connection: its target, because TLS knows only the name of the server and a person needs the
    /// address, and the forward proxy, which answers in the server's place if there is no TLS.
    pub(super) fn through(self, forward_proxy: Option<String>, target: &HostPort) -> Self {
        match (self, forward_proxy) {
            (Self::NotTls { found, .. }, Some(proxy)) => {
                egress::Error::Intercepted { proxy, target: target.to_string(), found }.into()
            }
            (Self::Timeout { addr, waiting_for }, _) if addr == target.host => {
                Self::Timeout { addr: target.to_string(), waiting_for }
            }
            (other, _) => other,
        }
    }

    /// The same failure with the name of a server behind the proxy, because its name in TLS means nothing to people.
    pub(crate) fn behind(mut self, proxy: &HostPort, name: &str) -> Self {
        match &mut self {
            Self::Timeout { addr: peer, .. }
            | Self::Broken { addr: peer, .. }
            | Self::Garbled { addr: peer, .. }
            | Self::TooLarge { addr: peer, .. }
            | Self::NotOfCluster { host: peer, .. }
            | Self::Tls { host: peer, .. } => name.clone_into(peer),
            // TLS is terminated at the proxy's address, and the proxy picks the protocol.
            Self::TlsTerminated { host, .. } | Self::NotTls { host, .. } | Self::NoAlpn { host } => {
                host.clone_from(&proxy.host);
            }
            _ => {}
        }
        self
    }
}

/// An error of a library and its sources, in one line.
pub(super) fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    // Some errors repeat their source.
    texts.dedup();
    texts.join(": ")
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

/// `addr` need not be the address of a proxy: of a service behind one only the name is known.
fn curl(addr: &str) -> String {
    let addr = addr.parse::<HostPort>().ok().filter(|_| addr.contains(':'));
    addr.map_or_else(
        || "`curl https://<proxy>/webapi/find`".to_owned(),
        |addr| format!("`curl https://{addr}/webapi/find`"),
    )
}

fn try_curl(addr: &str) -> String {
    format!("Try {} on the same runner. If that fails, too, the network is in the way.", curl(addr))
}

const CHECK_CLOCK: &str = "Look at the clock of the runner first, then at the certificate.";
const CHECK_PORT: &str = "Check the port of PROXY_SERVER (--proxy-server): it is the one of Teleport's web interface.";
const PASS_TLS_THROUGH: &str = "Reach the proxy without that load balancer, or let it pass TLS through (layer 4). If \
                                TELEPORT_TLS_ROUTING_CONN_UPGRADE is set, it must not disable upgrades for this address.";
const SEE_PROXY_LOG: &str = "Run the step again; if it keeps failing, look at the proxy's log at that time.";

fn network(
    retry: Retry,
    anchor: &'static str,
    cause: impl Into<Cow<'static, str>>,
    remedy: impl Into<Cow<'static, str>>,
) -> Advice {
    Advice::new(Exit::Network, anchor, remedy).cause(cause).retry(retry)
}

/// Advice for an error that only one of several addresses, or of several servers behind one, may cause.
fn once(anchor: &'static str, cause: impl Into<Cow<'static, str>>, remedy: impl Into<Cow<'static, str>>) -> Advice {
    network(Retry::Once, anchor, cause, remedy)
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        match self {
            Self::Egress(error) => error.advice(),
            Self::EgressUnreached { source, .. } => {
                let Advice { remedy, retry, .. } = source.advice();
                let (cause, remedy) = match **source {
                    Self::Untrusted { .. } => ("Its certificate is signed by the company's own authority.", remedy),
                    Self::NotTls { .. } => (
                        "It does not speak TLS itself: https:// is for proxies that do.",
                        "Write http:// in HTTPS_PROXY; most proxies are spoken to in clear.".into(),
                    ),
                    _ => (
                        "The URL is misspelled, or that proxy serves another network than the runner's.",
                        "Compare HTTPS_PROXY with what other tools on this runner use. If the cluster is reached \
                         without a proxy, unset it, or name the cluster in NO_PROXY."
                            .into(),
                    ),
                };
                network(retry, "the-outgoing-proxy-is-not-reached", cause, remedy)
            }
            Self::Resolve { reason, .. } => network(
                retry_resolve(reason),
                "the-proxys-name-does-not-resolve",
                "The name is misspelled, or it is known only in another network.",
                "Compare PROXY_SERVER (--proxy-server) with the address in the browser when you log in to Teleport.",
            ),
            Self::Connect { addr, source } if source.kind() == io::ErrorKind::ConnectionRefused => network(
                Retry::Yes,
                "no-connection-to-the-proxy",
                "Nothing listens on that port. Teleport Cloud uses 443, self-hosted proxies often 3080.",
                try_curl(addr),
            ),
            Self::Connect { addr, .. } | Self::Timeout { addr, waiting_for: TCP } => network(
                Retry::Yes,
                "no-connection-to-the-proxy",
                "A firewall drops the connection, or the proxy is only reachable from another network.",
                try_curl(addr),
            ),
            Self::Timeout { addr, .. } => network(
                Retry::Yes,
                "no-connection-to-the-proxy",
                "The proxy, or something in front of it, takes the connection and then hangs.",
                format!(
                    "Try {} on the same runner. If it answers, but slowly, raise TIMEOUT (--timeout); if it does not \
                     answer, ask the administrators of the cluster.",
                    curl(addr),
                ),
            ),
            Self::Untrusted { signer, .. } => {
                once("the-proxys-certificate-is-not-trusted", signer.likely_cause(), signer.remedy())
            }
            Self::TlsTerminated { .. } => once(
                "tls-ends-before-the-cluster",
                "A load balancer or a gateway in front of the proxy terminates TLS.",
                PASS_TLS_THROUGH,
            ),
            Self::NotOfCluster { .. } => once(
                "a-certificate-is-not-the-clusters",
                "The host CA was rotated since the credentials were issued, or the address leads to another cluster.",
                "Run teleport-pipe again in this step. If that does not help, see where the address leads.",
            ),
            Self::Certificate { .. } => once(
                "the-proxys-certificate-cannot-be-accepted",
                "The certificate was made for something else, or by a tool with a mistake.",
                "Give the proxy a certificate that browsers accept, too.",
            ),
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
            Self::WrongName { .. } => once(
                "the-proxys-certificate-is-for-another-name",
                "The proxy is known under another name.",
                "Use one of the names in the certificate as PROXY_SERVER (--proxy-server).",
            ),
            Self::Expired { .. } => once(
                "the-proxys-certificate-is-out-of-date",
                "The certificate was not renewed, or the clock here is ahead.",
                CHECK_CLOCK,
            ),
            Self::NotYetValid { .. } => {
                once("the-proxys-certificate-is-out-of-date", "The clock here is behind.", CHECK_CLOCK)
            }
            Self::NotTls { .. } => {
                once("the-port-does-not-speak-tls", "The port is that of another service.", CHECK_PORT)
            }
            Self::OldTls { .. } => once(
                "no-tls-in-common",
                "The proxy, or what terminates TLS in front of it, is old or set up for old clients.",
                "Let it offer TLS 1.2 or 1.3, with the ciphers that browsers use.",
            ),
            Self::Tls { .. } => once(
                "no-tls-connection",
                "The port is that of another service, or something in between interferes with TLS.",
                CHECK_PORT,
            ),
            Self::NoAlpn { .. } => {
                network(Retry::No, "no-alpn", "A load balancer in front of the proxy terminates TLS.", PASS_TLS_THROUGH)
            }
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
            Self::NotTeleport { addr, .. } => once(
                "not-a-teleport-proxy",
                "The address is that of another server, or of a page in front of the proxy.",
                format!(
                    "PROXY_SERVER (--proxy-server) is the address at which you log in to Teleport; {} must answer with \
                     JSON.",
                    curl(addr),
                ),
            ),
            Self::Redirect { .. } => once(
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
                    .unwrap_or("Run the step again; if it keeps failing, ask the administrators of the cluster."),
            ),
            Self::Garbled { .. } => network(
                Retry::Yes,
                "the-answer-cannot-be-used",
                "Something between here and the proxy changed the answer or cut it short.",
                SEE_PROXY_LOG,
            ),
            Self::TooLarge { .. } => Advice::new(
                Exit::Refused,
                "the-answer-cannot-be-used",
                "Ask the administrators of the cluster what has grown so large, for example by `tctl get roles`.",
            )
            .cause("The cluster has very many roles or authorities, or it is another server.")
            .retry(Retry::Once),
            Self::CaFile { .. } => Advice::new(
                Exit::BadInput,
                "the-ca-file-cannot-be-used",
                "Name a readable file with one or more certificates in PEM, or unset CA_FILE (SSL_CERT_FILE).",
            ),
        }
    }
}
