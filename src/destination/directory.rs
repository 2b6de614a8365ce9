//! An open directory, and the replacing of whole files in it. Every call is relative to the open directory, so that a
//! change of its path does not matter.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{
    Access, AtFlags, Dir, FileType, FlockOperation, Mode as Bits, OFlags, Stat, StatVfsMountFlags, accessat, fchmod,
    flock, fstat, fstatvfs, fsync, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::budget::Budget;
use super::error::Error;
use super::file::File;
use super::identity::Identity;
use super::owner::effective_uid;
use super::ownership::Ownership;
use crate::limits::DIRECTORY_ENTRIES;
use crate::output_files::{SSH_CONFIG, TEMPORARY};
use crate::regular_file;
use crate::retry::{Deadline, log_if_slow};
use crate::text::sanitize;

const PERMISSIONS: u32 = 0o7777;

#[derive(Debug)]
pub(super) struct Directory {
    /// If it was opened with `O_PATH`, the entries cannot be read.
    pub(super) fd: OwnedFd,
    /// For messages only.
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
}

impl Directory {
    pub(super) fn new(fd: OwnedFd, path: PathBuf) -> Result<Self, Error> {
        let identity = Identity::from_fd(&fd).map_err(|errno| Error::from_errno("look at", &path, errno))?;
        Ok(Self { fd, path, identity })
    }

    /// Opens the directory that the descriptor `at` refers to, for reading and for writing in it.
    pub(super) fn open(at: impl AsFd, path: PathBuf) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(at, ".", flags, Bits::empty()).map_err(|errno| Error::from_errno("read", &path, errno))?;
        Self::new(fd, path)
    }

    pub(super) fn stat(&self) -> Result<Stat, Error> {
        fstat(&self.fd).map_err(|errno| self.failed("look at", errno))
    }

    /// Fails if no entries can be created in it.
    pub(super) fn expect_writable(&self) -> Result<(), Error> {
        let access = accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty());
        access.map_err(|errno| self.failed("write to", errno))
    }

    pub(super) fn is_noexec(&self) -> bool {
        fstatvfs(&self.fd).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Fails if the directory is open to others and [`make_private`](Self::make_private) could not change that. `is_root`
    /// says whether this process has root's rights over the directory.
    pub(super) fn expect_can_be_private(&self, is_root: bool) -> Result<(), Error> {
        let stat = self.stat()?;
        let uid = effective_uid();
        match is_root || uid == stat.st_uid || stat.st_mode & PERMISSIONS == Bits::RWXU.as_raw_mode() {
            true => Ok(()),
            false => Err(Error::OtherOwner { path: self.path.clone(), owner: stat.st_uid, uid }),
        }
    }

    /// Waits until no other run writes here. If that takes long, the log says so under `stage`. Closing the directory
    /// releases the lock.
    pub(super) async fn lock(&self, deadline: Deadline, stage: &'static str) -> Result<(), Error> {
        let path = sanitize(&self.path.display().to_string());
        let locking = async {
            while let Err(errno) = flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                match errno {
                    Errno::WOULDBLOCK if deadline.is_over() => return Err(Error::Busy { path: self.path.clone() }),
                    Errno::WOULDBLOCK | Errno::INTR => {}
                    errno => return Err(self.failed("lock", errno)),
                }
                // flock itself cannot wait with a deadline.
                tokio::time::sleep(Duration::from_millis(50).min(deadline.left())).await;
            }
            Ok(())
        };
        log_if_slow(stage, format_args!("waiting for another run, which writes to {path}"), locking).await
    }

    pub(super) fn try_lock(&self) -> bool {
        flock(&self.fd, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// Sets mode 0700 and the owner, whatever the mode was before and whatever the umask is.
    pub(super) fn make_private(&self, ownership: Ownership) -> Result<(), Error> {
        if self.stat()?.st_mode & PERMISSIONS != Bits::RWXU.as_raw_mode() {
            fchmod(&self.fd, Bits::RWXU).map_err(|errno| self.failed("change the mode of", errno))?;
        }
        ownership.apply(&self.fd, &self.path)
    }

    /// The names of all entries. Fails if there are too many.
    pub(super) fn names(&self) -> Result<BTreeSet<CString>, Error> {
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(&self.fd).map_err(|errno| self.failed("read", errno))? {
            let name = entry.map_err(|errno| self.failed("read", errno))?.file_name().to_owned();
            if *name != *c"." && *name != *c".." {
                names.insert(name);
            }
            if names.len() > DIRECTORY_ENTRIES {
                return Err(Error::TooManyEntries { path: self.path.clone() });
            }
        }
        Ok(names)
    }

    /// The name of the `n`th incomplete file. The number instead of the file's name lets that name be as long as names
    /// can be. The identity of the directory shows the next run that the file is ours, and did not come with the
    /// repository.
    pub(super) fn temporary_name(&self, n: usize) -> String {
        format!("{TEMPORARY}{}.{n}", self.identity)
    }

    /// Whether a file of this name is an incomplete one of a run.
    pub(super) fn is_temporary(&self, name: &str) -> bool {
        let Some((made_in, n)) = name.strip_prefix(TEMPORARY).and_then(|rest| rest.rsplit_once('.')) else {
            return false;
        };
        Identity::from_record(made_in) == self.identity && !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// Whether there is an entry of any type.
    pub(super) fn has(&self, name: &str) -> Result<bool, Error> {
        Ok(self.file_type(name)?.is_some())
    }

    pub(super) fn has_file(&self, name: &str) -> Result<bool, Error> {
        Ok(self.file_type(name)? == Some(FileType::RegularFile))
    }

    /// Fails if `name` is an entry that must not be replaced, or cannot be the name of a file.
    pub(super) fn expect_file_or_nothing(&self, name: &str) -> Result<(), Error> {
        if !is_file_name(name) {
            return Err(Error::BadName { shown: sanitize(name) });
        }
        let kind = match self.file_type(name)? {
            None | Some(FileType::RegularFile) => return Ok(()),
            Some(FileType::Symlink) => "a symbolic link",
            Some(FileType::Directory) => "a directory",
            Some(_) => "a special file",
        };
        Err(Error::NotAFile { path: self.path.join(name), kind })
    }

    pub(super) fn open_file(&self, name: &str) -> Result<fs::File, Errno> {
        regular_file::open(&self.fd, name)
    }

    /// Removes the file, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::from_errno("remove", &self.path.join(name), errno)),
        }
    }

    /// Writes complete temporary files, which [`Temporary::rename`] then puts in place. Leaves out files that are there
    /// already: the binary has 3 MB. The configurations of ssh are always written, because they are removed before any
    /// other file changes.
    pub(super) fn stage<'a>(
        &'a self,
        files: &'a [File],
        ownership: Ownership,
        budget: &Budget,
    ) -> Result<Vec<Temporary<'a>>, Error> {
        let mut staged = Vec::new();
        for file in files {
            budget.expect_time(&self.path)?;
            if is_ssh_config(&file.name) || !self.has_same(file, ownership) {
                staged.push(Temporary::write(self, staged.len(), file, ownership, budget)?);
            }
        }
        budget.expect_time(&self.path)?;
        Ok(staged)
    }

    /// Flushes the names to the disk. Some network file systems can do that for files only, and say EINVAL.
    pub(super) fn sync(&self) -> Result<(), Error> {
        match fsync(&self.fd) {
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(self.failed("write to", errno)),
        }
    }

    fn file_type(&self, name: &str) -> Result<Option<FileType>, Error> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::from_errno("look at", &self.path.join(name), errno)),
        }
    }

    /// Whether the file is there with its contents, mode and owner. A file that has a second name does not count,
    /// because others may change it by that name.
    fn has_same(&self, file: &File, ownership: Ownership) -> bool {
        let Ok(open) = self.open_file(&file.name) else { return false };
        let Ok(stat) = fstat(&open) else { return false };
        ownership.owner.owns(&stat)
            && stat.st_nlink == 1
            && stat.st_mode & PERMISSIONS == file.mode.as_raw_mode()
            && has_contents(open, &file.contents)
    }

    fn failed(&self, doing: &'static str, errno: Errno) -> Error {
        Error::from_errno(doing, &self.path, errno)
    }
}

/// Whether a file of ours is a configuration of ssh. Without one, the keys are not used.
pub(super) fn is_ssh_config(name: &str) -> bool {
    name.ends_with(SSH_CONFIG)
}

/// Whether it names an entry of the directory itself, and not one elsewhere.
pub(super) fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// A complete file under a temporary name. Dropping it removes the file, unless it was renamed.
pub(super) struct Temporary<'a> {
    dir: &'a Directory,
    name: String,
    pub(super) target: &'a str,
}

impl<'a> Temporary<'a> {
    /// Writes the `n`th file of a set.
    fn write(
        dir: &'a Directory,
        n: usize,
        file: &'a File,
        ownership: Ownership,
        budget: &Budget,
    ) -> Result<Self, Error> {
        let name = dir.temporary_name(n);
        let target = dir.path.join(&file.name);
        let failed = |errno| Error::from_errno("write", &target, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut open = fs::File::from(openat(&dir.fd, &*name, flags, Bits::RUSR | Bits::WUSR).map_err(failed)?);
        let temporary = Self { dir, name, target: &file.name };
        // The umask can only have taken permissions away.
        fchmod(&open, file.mode).map_err(failed)?;
        ownership.apply(&open, &target)?;
        for part in file.contents.chunks(1 << 20) {
            budget.expect_time(&dir.path)?;
            open.write_all(part).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        }
        fsync(&open).map_err(failed)?;
        Ok(temporary)
    }

    /// Replaces the old file, if there is one.
    pub(super) fn rename(&self) -> Result<(), Error> {
        renameat(&self.dir.fd, &*self.name, &self.dir.fd, self.target)
            .map_err(|errno| Error::from_errno("replace", &self.dir.path.join(self.target), errno))
    }
}

impl Drop for Temporary<'_> {
    /// After a rename there is no file of this name: other runs create theirs only when they have the lock.
    fn drop(&mut self) {
        let _ = unlinkat(&self.dir.fd, &*self.name, AtFlags::empty());
    }
}

/// Whether the file has these bytes and no others. They may be a key, so the buffer is zeroized. It is small because the
/// binary has 3 MB and is in memory once already.
fn has_contents(mut file: fs::File, mut contents: &[u8]) -> bool {
    let mut buffer = Zeroizing::new([0; 32 * 1024]);
    loop {
        match file.read(buffer.as_mut_slice()) {
            Ok(0) => return contents.is_empty(),
            Ok(length) => match contents.strip_prefix(&buffer[..length]) {
                Some(rest) => contents = rest,
                None => return false,
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
