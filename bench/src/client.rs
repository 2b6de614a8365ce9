//! The clients that are compared, and their routes to the cluster.

/// A client: its ProxyCommand, or how it joins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Client {
    /// The binary of this project.
    TeleportPipe,
    /// Teleport's own client library, in the programs `proxycommand` and `selfjoin` of teleport-peer.
    Go,
    /// A ProxyCommand that copies bytes between ssh and the node's sshd, without any encryption of its own.
    TcpRelay,
    /// A ProxyCommand that copies them through TLS 1.3, by the TLS library of teleport-pipe.
    TlsRelay,
    /// ssh to the node's sshd, without a ProxyCommand.
    PlainSsh,
}

impl Client {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TeleportPipe => "teleport-pipe",
            Self::Go => "Go reference client",
            Self::TcpRelay => "TCP relay",
            Self::TlsRelay => "TLS relay",
            Self::PlainSsh => "plain ssh",
        }
    }
}

/// A route from the step to the cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    pub(crate) const ALL: [Self; 4] = [Self::Direct, Self::Upgrade, Self::ForwardProxy, Self::SeparatePorts];

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
