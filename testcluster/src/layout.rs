//! The proxy's ports, and the load balancer in front of it.

use std::net::Ipv6Addr;

/// The proxy's ports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layout {
    /// One port for everything (`auth_service.proxy_listener_mode: multiplex`).
    #[default]
    TlsRouting,
    /// A web port, an SSH port and a port of reverse tunnels: the default before version 15, and still common. The web
    /// port serves discovery and both joins, the SSH port the transport service (docs/protocol.md, "Separate ports").
    /// Whether the web port routes `teleport-auth@` names is inferred from the source and was not observed
    /// (docs/protocol.md, "Routes to Auth"), so a client has to work with both.
    SeparatePorts {
        /// Whether the web port routes ALPN names of Auth.
        auth_on_web: bool,
    },
}

/// A layer 7 load balancer in front of the web port: it terminates TLS with the web certificate and forwards HTTP
/// requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct LoadBalancer {
    pub(crate) alpn: BalancerAlpn,
    pub(crate) backend: Backend,
}

impl LoadBalancer {
    /// A load balancer without ALPN that forwards connection upgrades.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what it does with ALPN.
    pub fn alpn(self, alpn: BalancerAlpn) -> Self {
        Self { alpn, ..self }
    }

    /// Has it remove `Connection` and `Upgrade` headers.
    pub fn strips_upgrades(self) -> Self {
        Self { backend: Backend::NoUpgrades, ..self }
    }

    /// Has the proxy behind it speak plain HTTP (`teleport start --insecure-no-tls`); such a proxy serves only
    /// discovery and the REST join (docs/protocol.md, "REST join").
    pub fn plain_http_proxy(self) -> Self {
        Self { backend: Backend::PlainHttp, ..self }
    }
}

/// What a load balancer does with a client's ALPN list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BalancerAlpn {
    /// It ignores ALPN.
    #[default]
    Ignored,
    /// It supports `http/1.1`, and refuses lists without it (alert `no_application_protocol`).
    Refused,
    /// Like AWS ALB: it supports `h2` and `http/1.1`, selects nothing from other lists, and responds with status 464 to
    /// gRPC for an HTTP/1.1 target.
    H2As464,
    /// Like nginx: it supports `h2` and `http/1.1`, refuses other lists, and responds with status 502 and a page to
    /// gRPC.
    H2As502,
    /// Like nginx, but it buffers a gRPC request until the request ends, which a stream never does.
    H2Silent,
}

/// What happens to connection upgrades behind the load balancer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Backend {
    /// They are forwarded.
    #[default]
    Upgrades,
    /// `Connection` and `Upgrade` headers are removed.
    NoUpgrades,
    /// The proxy has no TLS, and so no ALPN routing to upgrade to.
    PlainHttp,
}

/// `host:port`, with brackets around an IPv6 literal.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
