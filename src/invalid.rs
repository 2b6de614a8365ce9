//! What is wrong with a value that was given to us.

use std::borrow::Cow;

use crate::error::{Advice, Exit, Explain};
use crate::text::sanitize;

/// Why a text is not valid. [`Invalid::named`] adds the name of the variable or flag.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Invalid {
    reason: String,
    remedy: Cow<'static, str>,
    hidden: bool,
}

impl Invalid {
    /// `reason` completes "X is `...`, which ...".
    pub(crate) fn new(reason: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into(), hidden: false }
    }

    /// The text may be a secret and is not shown.
    pub(crate) fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The error of the variable or flag `name` with this text.
    pub(crate) fn named(self, name: &'static str, text: &str) -> Error {
        let value = if self.hidden { "(not shown)".to_owned() } else { format!("`{}`", sanitize(text)) };
        Error::Invalid { name, value, reason: self.reason, remedy: self.remedy }
    }
}

/// A variable, a flag or a value that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{name} is not set")]
    Missing {
        name: &'static str,
        /// A value that would be valid.
        example: &'static str,
    },
    /// Like [`Missing`](Self::Missing), outside of a CI system, where no `variables:` are.
    #[error("{name} is not set")]
    MissingOutside { name: &'static str, example: &'static str },
    #[error("{name} is {value}, which {reason}")]
    Invalid { name: &'static str, value: String, reason: String, remedy: Cow<'static, str> },
    /// tbot can do it and we cannot.
    #[error("{what} is not supported")]
    Unsupported { what: String, instead: Cow<'static, str> },
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        let new = |anchor, remedy| Advice::new(Exit::BadInput, anchor, remedy);
        match self {
            Self::Missing { name, example } => {
                let remedy = match name.starts_with('-') {
                    true => format!("Add {name}={example}."),
                    false => {
                        format!("Set it under `variables:` of the pipe, or in the environment:\n{name}: '{example}'")
                    }
                };
                new("a-variable-or-flag-is-missing", remedy.into())
            }
            Self::MissingOutside { name, example } => {
                let flag = name.to_lowercase().replace('_', "-");
                let remedy = format!(
                    "Set it in the environment, or add the flag to `teleport-pipe join` or `doctor`:\n\
                     export {name}='{example}'\n--{flag}={example}"
                );
                new("a-variable-or-flag-is-missing", remedy.into())
            }
            Self::Invalid { remedy, .. } => new("a-variable-or-flag-is-wrong", remedy.clone()),
            Self::Unsupported { instead, .. } => new("something-of-tbots-is-not-supported", instead.clone()),
        }
    }
}
