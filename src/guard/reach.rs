//! Does the step see the destination, and only the step?
//!
//! A pipe has the clone directory in common with its step and nothing else; what it writes elsewhere goes with its
//! container. Of the clone directory, Bitbucket carries one part on to later steps (bitbucket-pipes.md 2.2, 2.4).

use std::fs;
use std::path::{Path, PathBuf};

use super::clone_dir::CloneDir;
use crate::environment::Environment;
use crate::error::{Advice, Exit, Explain};
use crate::text::sanitize;

/// The storage directories of pipes. Only a pipe has them.
const STORAGE: [&str; 2] = ["BITBUCKET_PIPE_SHARED_STORAGE_DIR", "BITBUCKET_PIPE_STORAGE_DIR"];

/// Where they are in the clone directory, for a step's own commands.
const GENERATED: &str = ".bitbucket/pipelines/generated";

/// Why credentials must not be written there, whatever `LEAK_CHECK` says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideOfStep {
    /// The step would not see them.
    #[error("the destination `{0}` is outside of the clone directory, and would go with the pipe's container")]
    OutOfSight(String),
    /// Later steps would.
    #[error("the destination is in the storage directories of pipes, which Bitbucket carries to later steps")]
    CarriedOn,
}

/// An error unless the step sees `destination` (absolute, without `.`, `..` and links), and no other step does. Outside of
/// Bitbucket it looks at nothing.
///
/// # Errors
/// A pipe would write to where only its own container is, or anybody to where later steps read.
pub(crate) fn expect_in_step(env: &Environment, destination: &Path) -> Result<(), OutsideOfStep> {
    let Some(place) = CloneDir::of(env, destination) else { return Ok(()) };
    let storage = STORAGE.iter().filter_map(|name| env.get(name)).map(PathBuf::from);
    let is_pipe = storage.clone().next().is_some();
    let real = storage.clone().filter_map(|path| fs::canonicalize(path).ok());
    let generated = place.relative.as_deref().is_some_and(|relative| Path::new(relative).starts_with(GENERATED));
    if generated || storage.chain(real).any(|path| path.is_absolute() && destination.starts_with(path)) {
        return Err(OutsideOfStep::CarriedOn);
    }
    match is_pipe && place.relative.is_none() {
        true => Err(OutsideOfStep::OutOfSight(sanitize(&destination.to_string_lossy()))),
        false => Ok(()),
    }
}

impl Explain for OutsideOfStep {
    fn advice(&self) -> Advice {
        let (anchor, cause) = match self {
            Self::OutOfSight(_) => (
                "the-destination-is-outside-of-the-clone-directory",
                "A pipe runs in a container of its own, which has no other directory of the step.",
            ),
            Self::CarriedOn => (
                "the-destination-goes-on-to-later-steps",
                "Those directories are for what pipes of several steps share; keys are for one step.",
            ),
        };
        const REMEDY: &str =
            "Leave DESTINATION out, or name a directory of its own in the clone directory, such as ./tbot-user.";
        Advice::new(Exit::BadInput, anchor, REMEDY).cause(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(storage: Option<&str>, destination: &str) -> &'static str {
        let variables = [("BITBUCKET_CLONE_DIR", "/c")].into_iter().chain(storage.map(|path| (STORAGE[1], path)));
        match expect_in_step(&variables.collect(), Path::new(destination)) {
            Ok(()) => "good",
            Err(OutsideOfStep::OutOfSight(_)) => "out of sight",
            Err(OutsideOfStep::CarriedOn) => "carried on",
        }
    }

    #[test]
    fn a_pipe_and_other_commands() {
        let storage = "/c/.bitbucket/pipelines/generated/pipeline/pipes/acme/teleport-pipe";
        let below = format!("{storage}/keys");
        for (storage, destination, expected) in [
            (Some(storage), "/c/tbot-user", "good"),
            (Some(storage), "/c/.bitbucket/keys", "good"),
            (Some(storage), "/tmp/keys", "out of sight"),
            (Some(storage), "/cc/keys", "out of sight"),
            (Some(storage), storage, "carried on"),
            (Some(storage), &below, "carried on"),
            (Some("/s"), "/s/keys", "carried on"),
            (None, "/tmp/keys", "good"),
            (None, &below, "carried on"),
        ] {
            assert_eq!(look(storage, destination), expected, "{storage:?} {destination}");
        }
        assert!(expect_in_step(&Environment::default(), Path::new(&below)).is_ok());
    }
}
