//! The machine: environment, working directory, the program's file, clock. It is one value, so that tests can replace
//! it.

use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::{Advice, Exit, Explain};
use crate::output_files::RECORD;
use crate::{limits, regular_file};

pub(crate) const WORKING_DIRECTORY: &str = "the working directory";
pub(crate) const BINARY: &str = "this program's own file";

#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) env: Environment,
    /// Absolute.
    pub(crate) working_dir: PathBuf,
    /// The file of this program, which is copied into the destination.
    pub(crate) executable: PathBuf,
    pub(crate) clock: Clock,
}

impl Host {
    /// The machine as this process sees it. Fails if the working directory or the program's own file was removed.
    pub(crate) fn from_process(env: Environment) -> Result<Self, HostError> {
        Ok(Self {
            env,
            working_dir: std::env::current_dir().map_err(HostError::because(WORKING_DIRECTORY))?,
            executable: std::env::current_exe().map_err(HostError::because(BINARY))?,
            clock: Clock::system(),
        })
    }

    /// The directory of this program, if a run wrote it there: `./creds/teleport-pipe`.
    pub(crate) fn own_destination(&self) -> Option<&Path> {
        self.executable.parent().filter(|directory| directory.join(RECORD).is_file())
    }

    pub(crate) fn own_binary(&self) -> Result<Vec<u8>, HostError> {
        let bytes = regular_file::read(&self.executable, limits::PROGRAM_SIZE).map_err(HostError::because(BINARY));
        // It is not secret, and wiping megabytes takes time.
        bytes.map(|mut bytes| std::mem::take(&mut *bytes))
    }
}

/// Something that every program needs is missing or does not work.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be used ({source})")]
pub(crate) struct HostError {
    what: &'static str,
    source: std::io::Error,
}

impl HostError {
    /// The function for `map_err`.
    pub(crate) fn because(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self { what, source }
    }
}

impl Explain for HostError {
    fn advice(&self) -> Advice {
        let remedy = match self.what {
            WORKING_DIRECTORY => "Start it in a directory that exists.",
            BINARY => {
                "Make sure that the user who runs it can read the program's file, and that /proc is mounted, as container \
                 engines do."
            }
            _ => "Run it again. If it keeps failing, check the limits of the machine (open files, processes).",
        };
        Advice::new(Exit::BadInput, "the-machine-lacks-something", remedy)
    }
}
