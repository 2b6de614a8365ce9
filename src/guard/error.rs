//! Why the run must not go on.

use crate::error::{Advice, Exit, Explain};
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
    fn advice(&self) -> Advice {
        let after_script = |first: &str, destination: &str| {
            format!(
                "{first}\nOr remove the keys at the end of the step; this is a warning then:\n\
                 after-script:\n  - rm -rf {}\n\
                 LEAK_CHECK: 'warn' goes on in spite of it.",
                shell::path(destination),
            )
        };
        match self {
            Self::Artifacts { destination, pattern, .. } => {
                let first = match pattern.starts_with(destination.as_str()) {
                    true => format!("Take {} out of the artifacts.", quoted(pattern)),
                    false => format!(
                        "Name what later steps need instead of that pattern, or leave the directory out of it:\n\
                         artifacts:\n  upload:\n    - name: files\n      paths: [{}]\n      ignore-paths: [{}]",
                        quoted(pattern),
                        quoted(&format!("{destination}/**")),
                    ),
                };
                Advice::new(Exit::BadInput, "artifacts-take-the-keys", after_script(&first, destination))
                    .cause("Artifacts go to later steps, and for 14 days to everybody who may see the pipeline.")
            }
            Self::Cache { name, destination, .. } => {
                let first = format!(
                    "Give the cache `{name}` a path that does not hold `{destination}`, or change DESTINATION."
                );
                Advice::new(Exit::BadInput, "a-cache-takes-the-keys", after_script(&first, destination))
                    .cause("A cache goes to every pipeline of the repository, on any branch, for a week or longer.")
            }
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
