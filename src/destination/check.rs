//! The check of a destination before the network is used.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::contents::Contents;
use super::directory::Directory;
use super::error::Error;
use super::owner::{Owner, effective_uid};
use super::ownership::Ownership;
use super::path::DestinationPath;
use super::purpose::Purpose;
use super::record::Record;
use super::user_namespace::UserNamespace;
use crate::output_files::{KEY, is_resource};

/// A directory for our files that was checked. It need not exist yet.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(super) path: DestinationPath,
    pub(super) unknown_files: UnknownFiles,
    pub(super) purpose: Purpose,
    pub(super) owner: Option<Owner>,
    namespace: UserNamespace,
    noexec: bool,
}

/// What a run would find in a destination, and make of it.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) exists: bool,
    /// The user whom the files would belong to.
    pub(crate) uid: u32,
    /// That user's number in the step, if it has other users than this container.
    pub(crate) user_of_step: Option<u32>,
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
        let this = Self::new(working_dir, path, unknown_files, Purpose::Credentials, owner)?;
        if this.noexec && unknown_files == UnknownFiles::Refuse {
            return Err(Error::NoExec { path: this.absolute().into() });
        }
        owner.map_or(Ok(()), |owner| this.check_owner(owner))?;
        Ok(this)
    }

    /// Checks whether resources of a cluster can be written to `path`, which may be relative to `working_dir`. Changes
    /// nothing. Files of others are an error, and so are files that have the names of ours and are not ours.
    pub(crate) fn check_for_resources(working_dir: &Path, path: &Path) -> Result<Self, Error> {
        Self::new(working_dir, path, UnknownFiles::Refuse, Purpose::Resources, None)
    }

    fn new(
        working_dir: &Path,
        path: &Path,
        unknown_files: UnknownFiles,
        purpose: Purpose,
        owner: Option<Owner>,
    ) -> Result<Self, Error> {
        let path = DestinationPath::new(working_dir, path)?;
        let namespace = UserNamespace::from_process();
        let mut this = Self { path, unknown_files, purpose, owner, namespace, noexec: false };
        this.noexec = this.check_path().map_err(|error| this.with_true_cause(error))?;
        Ok(this)
    }

    /// Returns whether the file system is mounted noexec.
    fn check_path(&self) -> Result<bool, Error> {
        let (dir, exists) = self.path.find()?;
        if exists {
            self.check_directory(&dir)?;
        } else {
            dir.expect_writable()?;
        }
        Ok(dir.is_noexec())
    }

    /// Fails if files cannot be given to `owner`, or if `owner` is another user for the step.
    fn check_owner(&self, owner: Owner) -> Result<(), Error> {
        let (path, uid) = (|| self.absolute().into(), effective_uid());
        let outside = self.namespace.outside(owner);
        if outside.is_none() || (outside != Some(owner) && self.is_remapped()) {
            return Err(Error::OwnerOutside { path: path(), owner, outside });
        }
        match uid == 0 || uid == owner.uid {
            true => Ok(()),
            false => Err(Error::CannotChown { path: path(), owner, uid }),
        }
    }

    /// Whether the step's users have no numbers here, as far as the owner of the working directory shows. Containers of
    /// an engine without root all have the same users, so that other numbers than the machine's say nothing.
    fn is_remapped(&self) -> bool {
        self.path.working_dir_owner().is_ok_and(|owner| self.namespace.is_unknown(owner.uid))
    }

    /// An error about a directory of a user who has no number here says so.
    fn with_true_cause(&self, error: Error) -> Error {
        match error {
            Error::NotPermitted { path, .. } | Error::OtherOwner { path, .. }
                if path.symlink_metadata().is_ok_and(|meta| self.namespace.is_unknown(meta.uid())) =>
            {
                Error::OtherUsers { path, destination: self.absolute().into(), root: self.namespace.ourselves() }
            }
            error => error,
        }
    }

    /// Who the owner of the files is for the step, if its users are not those of this container.
    pub(super) fn user_of_step(&self, uid: u32) -> Option<u32> {
        self.namespace.outside(Owner { uid, gid: None }).filter(|_| self.is_remapped()).map(|owner| owner.uid)
    }

    /// The path from the root, without `.` and `..`.
    pub(crate) fn absolute(&self) -> &Path {
        self.path.absolute()
    }

    /// What a run would find there, for a person. Changes nothing.
    pub(crate) fn expected(&self) -> Result<Expected, Error> {
        let (dir, exists) = self.path.find()?;
        let default = if exists { Owner::from_stat(&dir.stat()?) } else { self.path.working_dir_owner()? };
        let Ownership { owner, required } = self.ownership(default);
        // Only root can give files to another user.
        let uid = if required || effective_uid() == 0 { owner.uid } else { effective_uid() };
        Ok(Expected { exists, uid, user_of_step: self.user_of_step(uid) })
    }

    /// Whether ssh cannot start a ProxyCommand from there. As a pipe that is an error; users of tbot may want only the
    /// keys.
    pub(crate) fn is_noexec(&self) -> bool {
        self.noexec
    }

    pub(super) fn check_directory(&self, dir: &Directory) -> Result<Contents, Error> {
        let contents = Contents::read(dir, self.purpose)?;
        if !contents.unknown_files.is_empty() {
            self.expect_one_purpose(dir)?;
        }
        if self.unknown_files == UnknownFiles::Refuse && !contents.unknown_files.is_empty() {
            return Err(Error::UnknownFiles { path: dir.path.clone(), entries: contents.unknown_files });
        }
        // A directory of our own gets its mode before anything is written.
        match dir.expect_writable() {
            Err(Error::NotPermitted { .. }) if dir.stat()?.st_uid == effective_uid() => {}
            other => other?,
        }
        if contents.unknown_files.is_empty() {
            let is_root = effective_uid() == 0 && !self.namespace.is_unknown(dir.stat()?.st_uid);
            dir.expect_can_be_private(is_root)?;
        }
        Ok(contents)
    }

    /// Fails if we wrote files of the other purpose there.
    fn expect_one_purpose(&self, dir: &Directory) -> Result<(), Error> {
        let record = Record::read(dir).unwrap_or_default();
        let (is_other, holds, wanted): (fn(&str) -> bool, _, _) = match self.purpose {
            Purpose::Credentials => (is_resource, "files that inspect wrote", "credentials"),
            Purpose::Resources => (|name| name == KEY, "credentials", "files of inspect"),
        };
        match record.names().any(is_other) {
            true => Err(Error::OtherPurpose { path: dir.path.clone(), holds, wanted }),
            false => Ok(()),
        }
    }

    /// The owner that was asked for, or else `default`.
    pub(super) fn ownership(&self, default: Owner) -> Ownership {
        Ownership { owner: self.owner.unwrap_or_else(|| self.namespace.known(default)), required: self.owner.is_some() }
    }
}
