//! The resources as files in a directory.

use std::path::Path;

use super::resources::comment;
use crate::command::block_on;
use crate::destination::{Destination, File, write_all};
use crate::error::Failure;
use crate::host::Host;
use crate::platform::Platform;
use crate::retry::Deadline;
use crate::shell;
use crate::text::visible;

/// Files: their names, and what they hold.
pub(super) type Files = Vec<(&'static str, String)>;

/// A directory for the files, which was checked.
pub(super) struct Directory<'a> {
    /// As a person wrote it.
    path: &'a Path,
    destination: Destination,
    platform: &'static Platform,
}

impl<'a> Directory<'a> {
    /// Checks whether the files can be written to `path`. Changes nothing.
    pub(super) fn check(path: &'a Path, platform: &'static Platform, host: &Host) -> Result<Self, Failure> {
        let destination = Destination::check_for_resources(&host.working_dir, path)?;
        (platform.expect_in_step)(&host.env, destination.absolute())?;
        Ok(Self { path, destination, platform })
    }

    /// Writes the files, and removes those that an earlier run wrote in another format. They hold no secret, but they get the
    /// modes of credentials: the user who reads them is the same.
    pub(super) fn write(&self, files: Files, is_public: bool, deadline: Deadline) -> Result<(), Failure> {
        let line = format!("{} in {}", names(&files), self.shown());
        let files = files.into_iter().map(|(name, text)| File::private(name, text)).collect();
        block_on(write_all(vec![(&self.destination, files)], deadline))??;
        log::info!(target: "write", "{line}");
        if is_public {
            log::warn!(target: "write", "{}", self.platform.texts.carried_out_in_public);
        }
        Ok(())
    }

    /// The comment that says where the files are.
    pub(super) fn comment(&self, files: &Files) -> String {
        let carried_out = self.platform.texts.carried_out;
        comment("", &format!("Written into {}: {}.\n{carried_out}", self.shown(), names(files)))
    }

    /// The path of a file, as a word of a command line.
    pub(super) fn file(&self, name: &str) -> String {
        word(&self.path.join(name))
    }

    /// The path of the directory, as a word of a command line.
    pub(super) fn shown(&self) -> String {
        word(self.path)
    }
}

/// A path as a word of a command line.
fn word(path: &Path) -> String {
    shell::path(&visible(&path.strip_prefix(".").unwrap_or(path).to_string_lossy()))
}

fn names(files: &Files) -> String {
    files.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
