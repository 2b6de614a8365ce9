//! The join methods by name.

use super::token;
use crate::choice::{either, meant};
use crate::invalid::Invalid;
use crate::platform::{self, Platform};

/// A join method, as a person names it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// By an ID token of this platform.
    IdToken(&'static Platform),
    /// By a secret that is spent by the join.
    OneTimeToken,
}

/// Join methods that tbot has and this program does not, and what to use instead.
const OTHERS: &[(&[&str], &str)] = &[
    (
        &["iam", "ec2"],
        "For a job that runs on AWS, use the ID token of its CI system, or `kubernetes` in EKS. A machine can join with a \
         one-time token: JOIN_METHOD: 'token' (--join-method=token).",
    ),
    (
        &["tpm", "oracle"],
        "Use a one-time token: JOIN_METHOD: 'token' (--join-method=token). Or keep tbot for this machine.",
    ),
    (
        &["azure", "bound_keypair"],
        "It is planned. Until then use a one-time token, JOIN_METHOD: 'token' (--join-method=token), or keep tbot.",
    ),
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::IdToken(platform) => platform.method,
            Self::OneTimeToken => token::NAME,
        }
    }

    /// The platform whose ID token the method needs.
    pub(crate) fn platform(self) -> Option<&'static Platform> {
        match self {
            Self::IdToken(platform) => Some(platform),
            Self::OneTimeToken => None,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        platform::ALL.into_iter().map(Self::IdToken).chain([Self::OneTimeToken])
    }
}

/// The names of all methods, for a sentence.
pub(crate) fn names() -> String {
    either(&Kind::all().map(Kind::name).collect::<Vec<_>>())
}

/// The method of this name in a join URI, whose scheme cannot have the `_` of a name: it has `-` there, or nothing.
pub(crate) fn by_uri_name(name: &str) -> Result<Kind, Invalid> {
    let without = |text: &str| text.replace(['-', '_'], "");
    let known = Kind::all().map(Kind::name).chain(OTHERS.iter().flat_map(|(names, _)| names.iter().copied()));
    by_name(known.into_iter().find(|known| without(known) == without(name)).unwrap_or(name))
}

/// The method of this name.
///
/// # Errors
/// There is none, or only tbot has it.
pub(crate) fn by_name(name: &str) -> Result<Kind, Invalid> {
    if let Some(kind) = Kind::all().find(|kind| kind.name() == name) {
        return Ok(kind);
    }
    if let Some((_, instead)) = OTHERS.iter().find(|(names, _)| names.contains(&name)) {
        return Err(Invalid::new("is a join method of tbot that teleport-pipe does not have", *instead));
    }
    let names: Vec<_> = Kind::all().map(Kind::name).collect();
    let remedy =
        format!("{}Write {}; without it, the method is that of the CI system.", meant(name, &names), either(&names));
    Err(Invalid::new("is not a join method", remedy))
}
