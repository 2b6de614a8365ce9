//! What a run takes from the machine. Comes in as one value, so that a test can bring its own.

use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::{Exit, Explain};

pub(crate) const PLACE: &str = "the working directory";
pub(crate) const BINARY: &str = "this program's own file";

/// Environment, place and clock.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// The variables.
    pub(crate) env: Environment,
    /// Absolute; relative paths start here.
    pub(crate) working_dir: PathBuf,
    /// This program's file, which is copied into the destination.
    pub(crate) executable: PathBuf,
    pub(crate) clock: Clock,
}

impl Host {
    /// Those of this process.
    ///
    /// # Errors
    /// The working directory is gone, or the program's own file is.
    pub(crate) fn from_process() -> Result<Self, HostError> {
        Ok(Self {
            env: Environment::from_process(),
            working_dir: std::env::current_dir().map_err(HostError::because(PLACE))?,
            executable: std::env::current_exe().map_err(HostError::because(BINARY))?,
            clock: Clock::system(),
        })
    }

    /// A path that was given, from the root.
    pub(crate) fn path(&self, given: Option<&Path>) -> Option<PathBuf> {
        given.map(|path| self.working_dir.join(path))
    }

    /// This program's own file.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn own_binary(&self) -> Result<Vec<u8>, HostError> {
        std::fs::read(&self.executable).map_err(HostError::because(BINARY))
    }
}

/// The machine lacks something that every program has.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be used ({source})")]
pub(crate) struct HostError {
    what: &'static str,
    source: std::io::Error,
}

impl HostError {
    /// For `map_err`.
    pub(crate) fn because(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self { what, source }
    }
}

impl Explain for HostError {
    fn what_to_do(&self) -> String {
        match self.what {
            PLACE => "Start it in a directory that exists.",
            BINARY => "Let the user that runs it read the program's file, and mount /proc, as container engines do.",
            _ => "Run it again; if it keeps failing, look at the limits of the machine (open files, processes).",
        }
        .to_owned()
    }

    fn exit(&self) -> Exit {
        Exit::BadInput
    }

    fn anchor(&self) -> &'static str {
        "the-machine-lacks-something"
    }
}
