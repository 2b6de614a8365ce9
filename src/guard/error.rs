//! Leaks that end the run.

use crate::error::{Advice, Exit, Explain};
use crate::shell;
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
        let (Self::Artifacts { destination, .. } | Self::Cache { destination, .. }) = self;
        let (anchor, cause, first) = match self {
            Self::Artifacts { pattern, .. } => (
                "artifacts-take-the-keys",
                "Later steps get the artifacts, and everyone who can see the pipeline can download them for 14 days.",
                match pattern.starts_with(destination.as_str()) {
                    true => format!("Remove {} from the artifacts.", quoted(pattern)),
                    false => format!(
                        "Replace the pattern with the files that later steps need, or exclude the directory from it:\n\
                         artifacts:\n  upload:\n    - name: files\n      paths: [{}]\n      ignore-paths: [{}]",
                        quoted(pattern),
                        quoted(&format!("{destination}/**")),
                    ),
                },
            ),
            Self::Cache { name, .. } => (
                "a-cache-takes-the-keys",
                "Every pipeline of the repository gets the cache, on any branch, for a week or longer.",
                format!("Give the cache `{name}` a path that does not contain `{destination}`, or change DESTINATION."),
            ),
        };
        let remedy = format!(
            "{first}\nOr remove the keys at the end of the step, which turns this error into a warning:\n\
             after-script:\n  - rm -rf {}\n\
             Or set LEAK_CHECK: 'warn' to continue with a warning.",
            shell::path(destination),
        );
        Advice::new(Exit::BadInput, anchor, remedy).cause(cause)
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
