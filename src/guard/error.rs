//! Leaks that end the run.

use crate::error::{Advice, Exit, Explain};
use crate::shell;
use crate::text::sanitize;
use crate::yaml::scalar::quoted;

/// `sure` means that there is no other way to read the file. The texts are sanitized; `at` is the line of the file with
/// its number.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("artifacts of the step {} the keys in `{destination}`: {at}", if *.sure { "take" } else { "may take" })]
    Artifacts { sure: bool, destination: String, at: String, pattern: String },
    #[error("a cache of the step {} the keys in `{destination}`: {at}", if *.sure { "takes" } else { "may take" })]
    Cache { sure: bool, destination: String, at: String, name: String },
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        let after_script = |first: &str, destination: &str| {
            format!(
                "{first}\nOr remove the keys at the end of the step, which turns this error into a warning:\n\
                 after-script:\n  - rm -rf {}\n\
                 Or set LEAK_CHECK: 'warn' to continue with a warning.",
                shell::path(destination),
            )
        };
        match self {
            Self::Artifacts { destination, pattern, .. } => {
                let first = match pattern.starts_with(destination.as_str()) {
                    true => format!("Remove {} from the artifacts.", quoted(pattern)),
                    false => format!(
                        "Replace the pattern with the files that later steps need, or exclude the directory from it:\n\
                         artifacts:\n  upload:\n    - name: files\n      paths: [{}]\n      ignore-paths: [{}]",
                        quoted(pattern),
                        quoted(&format!("{destination}/**")),
                    ),
                };
                Advice::new(Exit::BadInput, "artifacts-take-the-keys", after_script(&first, destination)).cause(
                    "Later steps get the artifacts, and everyone who can see the pipeline can download them for 14 days.",
                )
            }
            Self::Cache { name, destination, .. } => {
                let first = format!(
                    "Give the cache `{name}` a path that does not contain `{destination}`, or change DESTINATION."
                );
                Advice::new(Exit::BadInput, "a-cache-takes-the-keys", after_script(&first, destination))
                    .cause("Every pipeline of the repository gets the cache, on any branch, for a week or longer.")
            }
        }
    }
}

impl Error {
    /// The remedy in one line, for a warning.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Artifacts { destination, .. } => {
                format!("exclude it with ignore-paths: [{}]", quoted(&format!("{destination}/**")))
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
