//! Writing a set of files safely, or none of them.
//!
//! A destination is a directory that is ours alone. [`Destination::check`] looks at it before the network is touched,
//! [`Destination::write`] fills it when everything is fetched. Files are never half there: each is written under
//! another name, and only when all of them are complete are they renamed, in the order given. What a killed run leaves
//! is the old set and some temporaries, or a directory with a `.gitignore`; the next run heals both. A lock keeps runs
//! apart. Links are followed nowhere.

mod cleanup;
mod directory;
mod error;
mod known_files;
mod owner;
mod path;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use rustix::fs::Mode as Bits;
use zeroize::Zeroize as _;

pub(crate) use self::cleanup::{Cleaned, cleanup, was_written};
pub(crate) use self::error::Error;
pub(crate) use self::known_files::Listing;
pub(crate) use self::owner::{NotAnOwner, Owner};

use self::directory::Directory;
use self::error::us;
use self::known_files::{Contents, gitignore};
use self::owner::Ownership;
use self::path::{DestinationPath, Found};
use self::record::Record;
use crate::output_files::{GITIGNORE, OPTIONAL};
use crate::retry::Deadline;

/// A place for credentials that was looked at. Nothing of it is created yet.
#[derive(Debug)]
pub(crate) struct Destination {
    place: DestinationPath,
    unknown_files: UnknownFiles,
    owner: Option<Owner>,
    /// What lies on the file system that holds it cannot be started.
    noexec: bool,
}

/// What came of a [`write`](Destination::write).
#[derive(Debug)]
pub(crate) struct Written {
    /// Who owns the directory, and most likely all that is in it.
    pub(crate) uid: u32,
    /// Nobody said who should: neither by a wish nor by making the directory.
    pub(crate) guessed: bool,
    /// Somebody else who has something in the working directory, if it was guessed.
    pub(crate) someone_else: Option<u32>,
}

/// What to do about a destination that holds what is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownFiles {
    /// It is an error (as a pipe).
    Refuse,
    /// It stays, as does the mode of the directory, which is then not ours alone (as tbot).
    Keep,
}

/// A file to be written.
#[derive(Clone)]
pub(crate) struct File {
    name: String,
    contents: Vec<u8>,
    mode: Mode,
}

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// 0600
    Private,
    /// 0700
    Executable,
}

impl Destination {
    /// Looks whether credentials can be written to `path`, which may be relative to `working_dir`. Changes nothing.
    ///
    /// # Errors
    /// Whatever can be known to be in the way already.
    pub(crate) fn check(
        working_dir: &Path,
        path: &Path,
        unknown_files: UnknownFiles,
        owner: Option<Owner>,
    ) -> Result<Self, Error> {
        let mut this = Self { place: DestinationPath::new(working_dir, path)?, unknown_files, owner, noexec: false };
        match this.place.find()? {
            Found::Nothing(parent) => {
                parent.expect_writable()?;
                this.noexec = parent.is_noexec();
            }
            Found::Directory(dir) => {
                this.check_directory(&dir)?;
                this.noexec = dir.is_noexec();
            }
        }
        if this.noexec && unknown_files == UnknownFiles::Refuse {
            return Err(Error::NoExec { path: this.absolute().into() });
        }
        match owner {
            Some(owner) if us() != 0 && us() != owner.uid => {
                Err(Error::CannotChown { path: this.absolute().into(), owner, uid: us() })
            }
            _ => Ok(this),
        }
    }

    /// Its path from the root, without `.` and `..`.
    pub(crate) fn absolute(&self) -> &Path {
        self.place.absolute()
    }

    /// Whether ssh could not start a ProxyCommand from there. As a pipe that is an error; tbot's users may want only
    /// the keys.
    pub(crate) fn is_noexec(&self) -> bool {
        self.noexec
    }

    /// Writes these files, in this order, after whatever other run is writing there.
    ///
    /// Names of files should be those that [`check`](Self::check) knows as ours, or the next run will take them for
    /// somebody else's; files named after clusters begin with [`FIRST_LINE`].
    ///
    /// # Errors
    /// When it fails, the old files are still there and temporaries are not; only the last step, the renames, could in
    /// theory stop half-way, on a file system that breaks in this moment.
    pub(crate) fn write(&self, files: Vec<File>, deadline: Deadline) -> Result<Written, Error> {
        let (dir, made) = self.locked(deadline)?;
        let contents = self.look(&dir)?;
        files.iter().try_for_each(|file| dir.expect_file_or_nothing(&file.name))?;
        let mut record = Record::read(&dir);
        record.retain_unchanged(&dir);
        self.expect_no_others(&dir, &record, &files)?;
        // The directory has its owner by now, declared by who made it, or given by us.
        let giving = self.giving(Owner::of(&dir.stat()?));
        let ours_alone = contents.unknown_files.is_empty();
        if ours_alone {
            dir.close_to_others(giving)?;
        }
        dir.remove(&contents.temporaries)?;
        if ours_alone && (self.unknown_files == UnknownFiles::Refuse || !dir.has(GITIGNORE)?) {
            dir.replace(&[gitignore()], giving)?;
        }
        let stale = self.stale(&dir, &record, &files)?;
        record.made = record.made.max(made);
        record.add(&files);
        if ours_alone {
            record.add(&[gitignore()]);
        }
        let files: Vec<_> = [record.file()].into_iter().chain(files).collect();
        dir.replace(&files, giving)?;
        dir.remove(&stale)?;
        dir.sync()?;
        let uid = dir.stat()?.st_uid;
        let guessed = self.owner.is_none() && record.made > 0;
        let someone_else = if guessed { self.place.neighbour_other_than(uid) } else { None };
        Ok(Written { uid, guessed, someone_else })
    }

    /// In a directory that is not ours alone, a file with a name that tbot does not have may be somebody else's.
    fn expect_no_others(&self, dir: &Directory, record: &Record, files: &[File]) -> Result<(), Error> {
        let mut wanted = OPTIONAL.into_iter().filter(|name| files.iter().any(|file| file.name == *name));
        let taken = |name: &&str| dir.has_file(name).is_ok_and(|has| has) && !record.knows(dir, name);
        match wanted.find(taken).filter(|_| self.unknown_files == UnknownFiles::Keep) {
            Some(name) => Err(Error::NotAFile { path: dir.path().join(name), kind: "a file of somebody else" }),
            None => Ok(()),
        }
    }

    /// What an earlier run wrote, and this one has nothing to say in: it would go on to be believed. In a directory that
    /// is not ours alone, a file of that name may be somebody else's. `record` holds what is as it was written.
    fn stale(&self, dir: &Directory, record: &Record, files: &[File]) -> Result<Vec<String>, Error> {
        let written = |name: &str| files.iter().any(|file| file.name == name);
        let is_ours = |name: &str| self.unknown_files == UnknownFiles::Refuse || record.knows(dir, name);
        let mut stale = Vec::new();
        for name in OPTIONAL.into_iter().filter(|name| !written(name) && is_ours(name)) {
            stale.extend(dir.has(name)?.then(|| name.to_owned()));
        }
        // Those of a cluster that is trusted no more; what somebody has changed since is in the record no more.
        let outdated = |name: &&str| known_files::is_of_a_cluster(dir, name) && !written(name);
        stale.extend(record.names().into_iter().filter(outdated).map(str::to_owned));
        Ok(stale)
    }

    /// A directory that is there already: is it fit?
    fn check_directory(&self, dir: &Directory) -> Result<(), Error> {
        let contents = self.look(dir)?;
        // A directory of ours is given the right mode anyway.
        match dir.expect_writable() {
            Err(Error::NotPermitted { .. }) if dir.stat()?.st_uid == us() => {}
            other => other?,
        }
        if contents.unknown_files.is_empty() { dir.expect_closable() } else { Ok(()) }
    }

    /// What is in it, unless that is reason enough to stop.
    fn look(&self, dir: &Directory) -> Result<Contents, Error> {
        let contents = Contents::of(dir)?;
        if self.unknown_files == UnknownFiles::Refuse && !contents.unknown_files.is_empty() {
            return Err(Error::HoldsForeign { path: dir.path().into(), entries: contents.unknown_files });
        }
        Ok(contents)
    }

    /// The directory, and how many had to be made for it; ours to write in until it is closed.
    fn locked(&self, deadline: Deadline) -> Result<(Directory, usize), Error> {
        let giving = self.giving(self.place.neighbour()?);
        let (dir, made) = self.place.make(giving)?;
        dir.lock(deadline, "write")?;
        if dir.stat()?.st_nlink > 0 {
            return Ok((dir, made));
        }
        // A cleanup removed it while we waited for the lock.
        let (dir, made) = self.place.make(giving)?;
        dir.lock(deadline, "write")?;
        Ok((dir, made))
    }

    /// The wanted owner, or else this one.
    fn giving(&self, otherwise: Owner) -> Ownership {
        Ownership { owner: self.owner.unwrap_or(otherwise), demanded: self.owner.is_some() }
    }
}

impl File {
    /// A file for its owner's eyes only. The contents are copied; this copy is wiped when dropped.
    pub(crate) fn private(name: impl Into<String>, contents: impl AsRef<[u8]>) -> Self {
        Self { name: name.into(), contents: contents.as_ref().to_vec(), mode: Mode::Private }
    }

    /// A program. The contents are taken, not copied: ours has 3 MB.
    pub(crate) fn executable(name: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), contents: contents.into(), mode: Mode::Executable }
    }

    /// Its name in the destination.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for File {
    /// A program is no secret, and long.
    fn drop(&mut self) {
        if self.mode == Mode::Private {
            self.contents.zeroize();
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("name", &self.name).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Mode {
    fn bits(self) -> Bits {
        match self {
            Self::Private => Bits::RUSR | Bits::WUSR,
            Self::Executable => Bits::RWXU,
        }
    }
}
