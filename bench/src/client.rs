//! The clients that are compared.

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
            Self::Go => "Go library",
            Self::TcpRelay => "TCP relay",
            Self::TlsRelay => "TLS relay",
            Self::PlainSsh => "plain ssh",
        }
    }
}
