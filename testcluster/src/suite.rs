//! Signature algorithm suites: how they are written, and which keys a cluster's authorities have under each.

/// The cluster's `signature_algorithm_suite` (teleport-issue-and-outputs.md 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Suite {
    /// Not set; servers treat it as `legacy`.
    Unspecified,
    /// RSA everywhere.
    Legacy,
    /// Ed25519 for SSH, P-256 for TLS.
    BalancedV1,
    /// P-256 for both.
    FipsV1,
    /// P-256 for both.
    HsmV1,
}

/// How `/webapi/find` writes the suite (teleport-join.md 1.2: text, number, or not at all).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SuiteInFind {
    /// `"balanced-v1"`; left out when unspecified.
    Text,
    /// The number of the enum.
    Number,
    /// No such key.
    Absent,
}

/// The kinds of keys an authority can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyKind {
    Rsa,
    P256,
    Ed25519,
}

impl Suite {
    /// The short text, empty when unspecified (teleport-join.md 3.5).
    pub(crate) fn text(self) -> &'static str {
        match self {
            Suite::Unspecified => "",
            Suite::Legacy => "legacy",
            Suite::BalancedV1 => "balanced-v1",
            Suite::FipsV1 => "fips-v1",
            Suite::HsmV1 => "hsm-v1",
        }
    }

    /// The number of the enum (teleport-join.md 1.2).
    pub(crate) fn number(self) -> u8 {
        match self {
            Suite::Unspecified => 0,
            Suite::Legacy => 1,
            Suite::BalancedV1 => 2,
            Suite::FipsV1 => 3,
            Suite::HsmV1 => 4,
        }
    }

    /// Kind of the SSH keys of the host and user CA.
    pub(crate) fn ssh_authority(self) -> KeyKind {
        match self {
            Suite::Unspecified | Suite::Legacy => KeyKind::Rsa,
            Suite::BalancedV1 => KeyKind::Ed25519,
            Suite::FipsV1 | Suite::HsmV1 => KeyKind::P256,
        }
    }

    /// Kind of the TLS keys of the host and user CA.
    pub(crate) fn tls_authority(self) -> KeyKind {
        match self {
            Suite::Unspecified | Suite::Legacy => KeyKind::Rsa,
            Suite::BalancedV1 | Suite::FipsV1 | Suite::HsmV1 => KeyKind::P256,
        }
    }
}
