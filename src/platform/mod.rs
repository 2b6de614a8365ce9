//! CI systems: is one here, what is its ID token, what rule admits it.

pub(crate) mod bitbucket;
pub(crate) mod id_token;
pub(crate) mod rule;

use std::str::FromStr;

pub(crate) use self::id_token::{Claims, Detection, Error, IdToken};
use crate::invalid::Invalid;

/// Who may use a join token: the smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Steps of one deployment environment.
    Deployment,
    /// Steps on one branch.
    Branch,
    /// Every step of the repository.
    Repository,
    /// Every step of every repository of the workspace.
    Workspace,
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.to_ascii_lowercase().as_str() {
            "deployment" => Ok(Self::Deployment),
            "branch" => Ok(Self::Branch),
            "repository" => Ok(Self::Repository),
            "workspace" => Ok(Self::Workspace),
            _ => Err(Invalid::new(
                "is no scope of a join token",
                "Write deployment, branch, repository or workspace; without it the narrowest is taken.",
            )),
        }
    }
}
