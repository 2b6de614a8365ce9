//! What is wrong with a value that was given to us.

use crate::error::{Exit, Explain};
use crate::text::sanitize;

/// Why a text is not what it should be; whoever knows the variable's or flag's name adds it with [`Invalid::of`].
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Invalid {
    reason: String,
    remedy: &'static str,
    hidden: bool,
}

impl Invalid {
    /// `reason` completes «X is set to `…`, which …».
    pub(crate) fn new(reason: impl Into<String>, remedy: &'static str) -> Self {
        Self { reason: reason.into(), remedy, hidden: false }
    }

    /// The text may be a secret: do not show it.
    pub(crate) fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The error about the variable or flag `name` with this text.
    pub(crate) fn of(self, name: &'static str, text: &str) -> Error {
        let value = if self.hidden { "(not shown)".to_owned() } else { format!("`{}`", sanitize(text)) };
        Error::Invalid { name, value, reason: self.reason, remedy: self.remedy }
    }
}

/// What is wrong with what we were told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A required variable or flag is not there.
    #[error("{name} is not set")]
    Missing {
        /// The variable or flag.
        name: &'static str,
        /// An example of a value.
        example: &'static str,
    },
    /// A value cannot be understood.
    #[error("{name} is {value}, which {reason}")]
    Invalid {
        /// The variable or flag.
        name: &'static str,
        /// The value, fit to be shown.
        value: String,
        /// Completes «… which».
        reason: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// Something that tbot can do and we cannot.
    #[error("{what} is not supported")]
    Unsupported {
        /// The flag or value.
        what: String,
        /// What to do instead.
        instead: &'static str,
    },
}

impl Explain for Error {
    fn what_to_do(&self) -> String {
        match self {
            Self::Missing { name, example } if name.starts_with('-') => format!("Add {name}={example}."),
            Self::Missing { name, example } => {
                format!("Set it under `variables:` of the pipe, or in the environment:\n{name}: '{example}'")
            }
            Self::Invalid { remedy, .. } => (*remedy).to_owned(),
            Self::Unsupported { instead, .. } => (*instead).to_owned(),
        }
    }

    fn exit(&self) -> Exit {
        Exit::BadInput
    }

    fn anchor(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "a-variable-or-flag-is-missing",
            Self::Invalid { .. } => "a-variable-or-flag-is-wrong",
            Self::Unsupported { .. } => "something-of-tbots-is-not-supported",
        }
    }
}
