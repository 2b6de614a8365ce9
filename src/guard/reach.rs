//! Checks that the step sees the destination, and that no other step does.
//!
//! A pipe shares only the clone directory with its step. What it writes elsewhere is lost when its container is
//! removed. Bitbucket passes one part of the clone directory on to later steps (docs/protocol.md, "How a pipe runs" and
//! "Storage directories").

use std::fs;
use std::path::{Path, PathBuf};

use super::clone_dir::CloneDir;
use crate::environment::Environment;
use crate::error::{Advice, Exit, Explain};
use crate::text::sanitize;

/// The variables with the storage directories of pipes. Only a pipe has them.
const STORAGE: [&str; 2] = ["BITBUCKET_PIPE_SHARED_STORAGE_DIR", "BITBUCKET_PIPE_STORAGE_DIR"];

/// A destination that credentials must not be written to, even if `LEAK_CHECK` is off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideOfStep {
    #[error(
        "the destination `{0}` is outside of the clone directory and would be lost when the pipe's container is removed"
    )]
    NotShared(String),
    #[error("the destination is in the storage directories of pipes, which Bitbucket passes on to later steps")]
    PassedOn,
}

/// Whether we run as a pipe, and not in a step's own commands.
pub(super) fn is_pipe(env: &Environment) -> bool {
    STORAGE.iter().any(|name| env.get(name).is_some())
}

/// Fails unless the step sees `destination`, and no other step does. The path is absolute, without `.`, `..` and
/// symbolic links. Outside of Bitbucket it always succeeds.
pub(crate) fn expect_in_step(env: &Environment, destination: &Path) -> Result<(), OutsideOfStep> {
    let Some(clone_dir) = CloneDir::new(env, destination) else { return Ok(()) };
    let storage: Vec<_> = STORAGE.iter().filter_map(|name| env.get(name)).map(PathBuf::from).collect();
    let real: Vec<_> = storage.iter().flat_map(fs::canonicalize).collect();
    // A step's own commands see the storage directories here.
    let in_clone_dir = clone_dir.path.join(".bitbucket/pipelines/generated");
    let mut passed_on = storage.iter().filter(|path| path.is_absolute()).chain(&real).chain([&in_clone_dir]);
    if passed_on.any(|path| destination.starts_with(path)) {
        return Err(OutsideOfStep::PassedOn);
    }
    match !storage.is_empty() && clone_dir.relative.is_none() {
        true => Err(OutsideOfStep::NotShared(sanitize(&destination.to_string_lossy()))),
        false => Ok(()),
    }
}

impl Explain for OutsideOfStep {
    fn advice(&self) -> Advice {
        let (anchor, cause) = match self {
            Self::NotShared(_) => (
                "the-destination-is-outside-of-the-clone-directory",
                "A pipe runs in its own container, which shares only the clone directory with the step.",
            ),
            Self::PassedOn => (
                "the-destination-goes-on-to-later-steps",
                "Those directories are for data that the pipes of several steps share; the keys are for one step.",
            ),
        };
        const REMEDY: &str =
            "Leave DESTINATION out, or name a separate directory in the clone directory, such as ./tbot-user.";
        Advice::new(Exit::BadInput, anchor, REMEDY).cause(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(storage: Option<&str>, destination: &str) -> &'static str {
        let variables = [("BITBUCKET_CLONE_DIR", "/c")].into_iter().chain(storage.map(|path| (STORAGE[1], path)));
        match expect_in_step(&variables.collect(), Path::new(destination)) {
            Ok(()) => "accepted",
            Err(OutsideOfStep::NotShared(_)) => "not shared",
            Err(OutsideOfStep::PassedOn) => "passed on",
        }
    }

    #[test]
    fn a_pipe_and_other_commands() {
        let storage = "/c/.bitbucket/pipelines/generated/pipeline/pipes/acme/teleport-pipe";
        let below = format!("{storage}/keys");
        for (storage, destination, expected) in [
            (Some(storage), "/c/tbot-user", "accepted"),
            (Some(storage), "/c/.bitbucket/keys", "accepted"),
            (Some(storage), "/tmp/keys", "not shared"),
            (Some(storage), "/cc/keys", "not shared"),
            (Some(storage), storage, "passed on"),
            (Some(storage), &below, "passed on"),
            (Some("/s"), "/s/keys", "passed on"),
            (None, "/tmp/keys", "accepted"),
            (None, &below, "passed on"),
        ] {
            assert_eq!(check(storage, destination), expected, "{storage:?} {destination}");
        }
        assert!(expect_in_step(&Environment::default(), Path::new(&below)).is_ok());
    }
}
