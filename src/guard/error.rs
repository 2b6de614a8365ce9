//! Leaks that end the run.

use super::captures::Taken;
use crate::error::{Advice, Exit, Explain};
use crate::output_files::NETWORK;
use crate::shell;
use crate::yaml::scalar::quoted;

/// `sure` means that there is no other way to read the file. The texts are sanitized; `at` is the line of the file with
/// its number.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "artifacts of the step {} {}: {at}",
        if *.sure { "take" } else { "may take" },
        .taken.named(.destination)
    )]
    Artifacts { sure: bool, taken: Taken, destination: String, at: String, pattern: String },
    #[error("a cache of the step {} the keys in `{destination}`: {at}", if *.sure { "takes" } else { "may take" })]
    Cache { sure: bool, destination: String, at: String, name: String },
    #[error("{program} sends the whole clone directory, and the keys in `{destination}` with it: {at}")]
    Sent { program: String, destination: String, at: String, remedy: String },
    #[error("artifacts and caches of this step cannot be checked: {reason}")]
    Unchecked { reason: String },
}

impl Taken {
    fn named(self, destination: &str) -> String {
        match self {
            Self::Keys => format!("the keys in `{destination}`"),
            Self::Network => {
                format!("`{destination}/{NETWORK}`, which has the password of a forward proxy if there is one")
            }
            Self::Temporaries => format!("the incomplete files that a killed run leaves in `{destination}`"),
            Self::CoreDumps => format!("core dumps of programs that have read the keys in `{destination}`"),
        }
    }
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        let (anchor, cause) = match self {
            Self::Artifacts { .. } => (
                "artifacts-take-the-keys",
                "Later steps get the artifacts, and everyone who can see the pipeline can download them for 14 days.",
            ),
            Self::Cache { .. } => (
                "a-cache-takes-the-keys",
                "Every pipeline of the repository gets the cache, on any branch, for a week or longer.",
            ),
            Self::Sent { .. } => (
                "a-command-sends-the-keys",
                "The keys are in the clone directory, and everyone who can read the copy can read them.",
            ),
            Self::Unchecked { .. } => (
                "the-leak-check-cannot-see-the-step",
                "LEAK_CHECK is 'error', so keys are made only if it is known that nothing takes them.",
            ),
        };
        let remedy = format!("{}\nOr set LEAK_CHECK: 'warn' to continue with a warning.", self.remedy());
        Advice::new(Exit::BadInput, anchor, remedy).cause(cause)
    }
}

impl Error {
    fn remedy(&self) -> String {
        let after_script = |first: String, destination: &str| {
            format!(
                "{first}\nOr remove the keys at the beginning of the after-script, which turns this error into a warning:\n\
                 after-script:\n  - rm -rf {}",
                shell::path(destination)
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
                after_script(first, destination)
            }
            Self::Cache { destination, name, .. } => after_script(
                format!("Give the cache `{name}` a path that does not contain `{destination}`, or change DESTINATION."),
                destination,
            ),
            Self::Sent { remedy, .. } if self.needs_keys() => format!("Leave the directory out: {remedy}."),
            Self::Sent { destination, remedy, .. } => format!(
                "Leave the directory out: {remedy}.\nOr remove the keys before that command:\n- rm -rf {}",
                shell::path(destination)
            ),
            Self::Unchecked { .. } => {
                "Run the pipe in a step with a clone of the repository (without `clone: enabled: \
                false`), whose bitbucket-pipelines.yml is valid and has the step in it."
                    .to_owned()
            }
        }
    }

    /// Whether the command that sends the directory also uses it, as `rsync -e 'ssh -F ./tbot-user/ssh_config' ./ …` does.
    fn needs_keys(&self) -> bool {
        matches!(self, Self::Sent { at, destination, .. } if at.contains(destination.as_str()))
    }

    /// The remedy in one line, for a warning.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Artifacts { destination, .. } => {
                format!("exclude it with ignore-paths: [{}]", quoted(&format!("{destination}/**")))
            }
            Self::Cache { name, .. } => format!("give the cache `{name}` another path"),
            Self::Sent { remedy, .. } if self.needs_keys() => remedy.clone(),
            Self::Sent { remedy, .. } => format!("{remedy}, or remove the directory before"),
            Self::Unchecked { .. } => String::new(),
        }
    }
}
