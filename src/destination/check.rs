//! The check of a destination before the network is used.

use std::path::Path;

use super::contents::Contents;
use super::directory::Directory;
use super::error::Error;
use super::owner::{Owner, effective_uid};
use super::ownership::Ownership;
use super::path::DestinationPath;

/// A directory for credentials that was checked. It need not exist yet.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(super) path: DestinationPath,
    pub(super) unknown_files: UnknownFiles,
    pub(super) owner: Option<Owner>,
    noexec: bool,
}

/// What to do about a destination that holds files of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownFiles {
    /// They are an error, as a pipe.
    Refuse,
    /// They stay, and so does the mode of the directory, as tbot.
    Keep,
}

impl Destination {
    /// Checks whether credentials can be written to `path`, which may be relative to `working_dir`. Changes nothing.
    pub(crate) fn check(
        working_dir: &Path,
        path: &Path,
        unknown_files: UnknownFiles,
        owner: Option<Owner>,
    ) -> Result<Self, Error> {
        let path = DestinationPath::new(working_dir, path)?;
        let mut this = Self { path, unknown_files, owner, noexec: false };
        let (dir, exists) = this.path.find()?;
        if exists {
            this.check_directory(&dir)?;
        } else {
            dir.expect_writable()?;
        }
        this.noexec = dir.is_noexec();
        if this.noexec && unknown_files == UnknownFiles::Refuse {
            return Err(Error::NoExec { path: this.absolute().into() });
        }
        let uid = effective_uid();
        match owner.filter(|owner| uid != 0 && uid != owner.uid) {
            Some(owner) => Err(Error::CannotChown { path: this.absolute().into(), owner, uid }),
            None => Ok(this),
        }
    }

    /// The path from the root, without `.` and `..`.
    pub(crate) fn absolute(&self) -> &Path {
        self.path.absolute()
    }

    /// Whether ssh cannot start a ProxyCommand from there. As a pipe that is an error; users of tbot may want only the
    /// keys.
    pub(crate) fn is_noexec(&self) -> bool {
        self.noexec
    }

    pub(super) fn check_directory(&self, dir: &Directory) -> Result<Contents, Error> {
        let contents = Contents::read(dir)?;
        if self.unknown_files == UnknownFiles::Refuse && !contents.unknown_files.is_empty() {
            return Err(Error::UnknownFiles { path: dir.path.clone(), entries: contents.unknown_files });
        }
        // A directory of our own gets its mode before anything is written.
        match dir.expect_writable() {
            Err(Error::NotPermitted { .. }) if dir.stat()?.st_uid == effective_uid() => {}
            other => other?,
        }
        if contents.unknown_files.is_empty() {
            dir.expect_can_be_private()?;
        }
        Ok(contents)
    }

    /// The owner that was asked for, or else `default`.
    pub(super) fn ownership(&self, default: Owner) -> Ownership {
        Ownership { owner: self.owner.unwrap_or(default), required: self.owner.is_some() }
    }
}
