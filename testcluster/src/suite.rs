//! Signature algorithm suites, and the keys of a cluster's authorities in each.

/// The cluster's `signature_algorithm_suite` (docs/protocol.md, "Keys").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Suite {
    /// Not set, which is the same as `legacy`.
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

/// How `/webapi/find` encodes the suite (docs/protocol.md, "Discovery").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SuiteInFind {
    /// A string such as `"balanced-v1"`; the key is absent if the suite is not set.
    Text,
    /// The number of the enum.
    Number,
    /// The key is absent.
    Absent,
}

/// The kinds of keys of an authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyKind {
    Rsa,
    P256,
    Ed25519,
}

impl Suite {
    /// The short text, which is empty if the suite is not set (docs/protocol.md, "Join service").
    pub(crate) fn text(self) -> &'static str {
        match self {
            Suite::Unspecified => "",
            Suite::Legacy => "legacy",
            Suite::BalancedV1 => "balanced-v1",
            Suite::FipsV1 => "fips-v1",
            Suite::HsmV1 => "hsm-v1",
        }
    }

    /// The number of the enum (docs/protocol.md, "Discovery").
    pub(crate) fn number(self) -> u8 {
        match self {
            Suite::Unspecified => 0,
            Suite::Legacy => 1,
            Suite::BalancedV1 => 2,
            Suite::FipsV1 => 3,
            Suite::HsmV1 => 4,
        }
    }

    /// The kind of the authorities' SSH keys.
    pub(crate) fn ssh_authority(self) -> KeyKind {
        match self {
            Suite::Unspecified | Suite::Legacy => KeyKind::Rsa,
            Suite::BalancedV1 => KeyKind::Ed25519,
            Suite::FipsV1 | Suite::HsmV1 => KeyKind::P256,
        }
    }

    /// The kind of the authorities' X.509 keys.
    pub(crate) fn tls_authority(self) -> KeyKind {
        match self {
            Suite::Unspecified | Suite::Legacy => KeyKind::Rsa,
            Suite::BalancedV1 | Suite::FipsV1 | Suite::HsmV1 => KeyKind::P256,
        }
    }
}
