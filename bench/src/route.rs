//! The routes to the cluster.

use clap::ValueEnum;

/// A route from the step to the cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Route {
    /// TLS routing: one port, the protocol is negotiated by ALPN.
    Direct,
    /// A load balancer ends TLS and strips ALPN, so that connections are upgraded to WebSockets.
    Upgrade,
    /// An HTTP forward proxy (CONNECT).
    ForwardProxy,
    /// The cluster has a port of its own for SSH.
    SeparatePorts,
}

impl Route {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Upgrade => "connection upgrade",
            Self::ForwardProxy => "forward proxy",
            Self::SeparatePorts => "separate ports",
        }
    }

    /// The flags of teleport-peer.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Direct => &[],
            Self::Upgrade => &["--l7", "strip"],
            // Clients do not use a forward proxy for localhost.
            Self::ForwardProxy => &["--public-name", "proxy.example.test"],
            Self::SeparatePorts => &["--separate-ports"],
        }
    }
}
