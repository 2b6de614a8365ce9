//! Why the run must not go on.

use crate::error::{Exit, Explain};
use crate::shell;
use crate::text::sanitize;
use crate::yaml::scalar::quoted;

/// What would take the credentials out of the step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A pattern of artifacts matches them.
    #[error("artifacts of the step {} the keys in `{destination}`: {at}", if *.sure { "take" } else { "may take" })]
    Artifacts {
        /// They do by any reading of the documentation, and this is surely the step.
        sure: bool,
        /// Where the keys would be, fit to be shown.
        destination: String,
        /// The line of the file, with its number, fit to be shown.
        at: String,
        /// The pattern, fit to be shown.
        pattern: String,
    },
    /// A cache holds their directory.
    #[error("a cache of the step {} the keys in `{destination}`: {at}", if *.sure { "takes" } else { "may take" })]
    Cache {
        /// It does by any reading of the documentation, and this is surely the step.
        sure: bool,
        /// Where the keys would be, fit to be shown.
        destination: String,
        /// The line of the file, with its number, fit to be shown.
        at: String,
        /// Its name, fit to be shown.
        name: String,
    },
}

impl Explain for Error {
    fn likely_cause(&self) -> Option<String> {
        let cause = match self {
            Self::Artifacts { .. } => {
                "Artifacts go to later steps, and for 14 days to everybody who may see the pipeline."
            }
            Self::Cache { .. } => {
                "A cache goes to every pipeline of the repository, on any branch, for a week or longer."
            }
        };
        Some(cause.to_owned())
    }

    fn what_to_do(&self) -> String {
        let (first, destination) = match self {
            Self::Artifacts { destination, pattern, .. } if pattern.starts_with(destination.as_str()) => {
                (format!("Take {} out of the artifacts.", quoted(pattern)), destination)
            }
            Self::Artifacts { destination, pattern, .. } => (
                format!(
                    "Name what later steps need instead of that pattern, or leave the directory out of it:\n\
                     artifacts:\n  upload:\n    - name: files\n      paths: [{}]\n      ignore-paths: [{}]",
                    quoted(pattern),
                    quoted(&format!("{destination}/**")),
                ),
                destination,
            ),
            Self::Cache { name, destination, .. } => (
                format!("Give the cache `{name}` a path that does not hold `{destination}`, or change DESTINATION."),
                destination,
            ),
        };
        format!(
            "{first}\nOr remove the keys at the end of the step; this is a warning then:\n\
             after-script:\n  - rm -rf {}\n\
             LEAK_CHECK: 'warn' goes on in spite of it.",
            shell::path(destination),
        )
    }

    fn exit(&self) -> Exit {
        Exit::BadInput
    }

    fn anchor(&self) -> &'static str {
        match self {
            Self::Artifacts { .. } => "artifacts-take-the-keys",
            Self::Cache { .. } => "a-cache-takes-the-keys",
        }
    }
}

impl Error {
    /// What to do about it, in the line of a warning.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Artifacts { destination, .. } => {
                format!("leave it out: ignore-paths: [{}]", quoted(&format!("{destination}/**")))
            }
            Self::Cache { name, .. } => format!("give the cache `{name}` another path"),
        }
    }
}

/// A line of a file, with its number.
pub(super) fn quote(file: &str, text: &str, line: usize) -> String {
    let words = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    format!("{file}:{line}: {}", sanitize(words))
}
