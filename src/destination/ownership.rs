//! Giving files to their owner.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown, fstat};
use rustix::io::Errno;

use super::error::Error;
use super::owner::{Owner, effective_uid};

/// The owner that files are to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    pub(super) owner: Owner,
    /// The user asked for this owner. Otherwise it is our guess at what is practical.
    pub(super) required: bool,
}

impl Ownership {
    /// Changes the owner of the open `file`. A guess that cannot be carried out is dropped: the clone directory may
    /// belong to root with mode 0777 (docs/protocol.md, "Owners and modes"), and a process of another user must work there.
    pub(super) fn apply(self, file: impl AsFd, path: &Path) -> Result<(), Error> {
        let failed = |errno| Error::from_errno("change the owner of", path, errno);
        if self.owner.owns(&fstat(&file).map_err(failed)?) {
            return Ok(());
        }
        match fchown(&file, Some(Uid::from_raw(self.owner.uid)), self.owner.gid.map(Gid::from_raw)) {
            // A user namespace that does not have the user says EINVAL.
            Err(Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match self.required {
                true => Err(Error::CannotChown { path: path.into(), owner: self.owner, uid: effective_uid() }),
                false => Ok(()),
            },
            other => other.map_err(failed),
        }
    }
}
