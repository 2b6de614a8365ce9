//! What stands between a client and the proxy, and on which ports the proxy is.

use std::net::Ipv6Addr;

/// The proxy's ports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layout {
    /// One port for everything (`auth_service.proxy_listener_mode: multiplex`).
    #[default]
    TlsRouting,
    /// The web port, the SSH proxy's and the reverse tunnel's, as by default before version 15 and by many still. The
    /// web port has discovery and the two ways to join, the SSH port the transport service
    /// (teleport-ssh-proxy.md 4). Whether the web port takes `teleport-auth@` names as well was inferred from the
    /// source and not seen (teleport-issue-and-outputs.md 1.5): a client has to be ready for both.
    SeparatePorts {
        /// Whether the web port leads to Auth for those who ask by ALPN.
        auth_on_web: bool,
    },
}

/// A load balancer of layer 7 in front of the web port: it terminates TLS, behind the web certificate, and passes on
/// HTTP requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct LoadBalancer {
    pub(crate) alpn: BalancerAlpn,
    pub(crate) backend: Backend,
}

impl LoadBalancer {
    /// One that knows no ALPN, and passes connection upgrades on.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, but for its ALPN.
    pub fn alpn(self, alpn: BalancerAlpn) -> Self {
        Self { alpn, ..self }
    }

    /// The same, but `Connection` and `Upgrade` headers stay here.
    pub fn strips_upgrades(self) -> Self {
        Self { backend: Backend::NoUpgrades, ..self }
    }

    /// The same, but the proxy behind it speaks plain HTTP (`teleport start --insecure-no-tls`), and has nothing but
    /// discovery and the REST join (teleport-join.md 8, trap 29).
    pub fn plain_http_proxy(self) -> Self {
        Self { backend: Backend::PlainHttp, ..self }
    }
}

/// What a load balancer makes of a client's ALPN list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BalancerAlpn {
    /// Nothing: none is agreed on.
    #[default]
    Ignored,
    /// It knows `http/1.1`, and refuses lists without it (alert `no_application_protocol`).
    Refused,
    /// As AWS ALB: `h2` and `http/1.1`, none for lists without them; gRPC to a target of HTTP/1.1 is status 464.
    H2As464,
    /// As nginx: `h2` and `http/1.1`, lists without them are refused; gRPC is status 502 with its page.
    H2As502,
    /// The same, but it keeps a gRPC call until it is whole, which a stream never is.
    H2Silent,
}

/// What the load balancer leaves of upgrades.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Backend {
    /// All.
    #[default]
    Upgrades,
    /// Requests arrive without their `Connection` and `Upgrade` headers.
    NoUpgrades,
    /// The proxy has no TLS, hence no ALPN to be upgraded to.
    PlainHttp,
}

/// `host:port`, with brackets where the host is an IPv6 literal.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
