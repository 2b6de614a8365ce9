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

use super::error::Error;
use super::file::File;
use super::owner::effective_uid;
use super::ownership::Ownership;
use crate::output_files::TEMPORARY;
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
}

impl Directory {
    /// Opens the directory that the descriptor `at` refers to, for reading and for writing in it.
    pub(super) fn open(at: impl AsFd, path: PathBuf) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(at, ".", flags, Bits::empty()).map_err(|errno| Error::from_errno("read", &path, errno))?;
        Ok(Self { fd, path })
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

    /// Fails if the directory is open to others and [`make_private`](Self::make_private) could not change that.
    pub(super) fn expect_can_be_private(&self) -> Result<(), Error> {
        let stat = self.stat()?;
        let uid = effective_uid();
        match uid == 0 || uid == stat.st_uid || stat.st_mode & PERMISSIONS == Bits::RWXU.as_raw_mode() {
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

    /// The names of all entries.
    pub(super) fn names(&self) -> Result<BTreeSet<CString>, Error> {
        let entries = Dir::read_from(&self.fd).and_then(|dir| dir.collect::<Result<Vec<_>, _>>());
        let entries = entries.map_err(|errno| self.failed("read", errno))?;
        let names = entries.iter().map(|entry| entry.file_name().to_owned());
        Ok(names.filter(|name| **name != *c"." && **name != *c"..").collect())
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

    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let removed = unlinkat(&self.fd, name, AtFlags::empty());
        removed.map_err(|errno| Error::from_errno("remove", &self.path.join(name), errno))
    }

    /// Writes complete temporary files, which [`Temporary::rename`] then puts in place. Leaves out files that are there
    /// already: the binary has 3 MB.
    pub(super) fn stage<'a>(&'a self, files: &'a [File], ownership: Ownership) -> Result<Vec<Temporary<'a>>, Error> {
        let changed = files.iter().filter(|file| !self.has_same(file, ownership));
        changed.enumerate().map(|(n, file)| Temporary::write(self, n, file, ownership)).collect()
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

/// Whether it names an entry of the directory itself, and not one elsewhere.
pub(super) fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// A complete file under a temporary name. Dropping it removes the file, unless it was renamed.
pub(super) struct Temporary<'a> {
    dir: &'a Directory,
    name: String,
    target: &'a str,
}

impl<'a> Temporary<'a> {
    /// Writes the `n`th file of a set. The number instead of the file's name lets that name be as long as names can be.
    fn write(dir: &'a Directory, n: usize, file: &'a File, ownership: Ownership) -> Result<Self, Error> {
        let name = format!("{TEMPORARY}{n}");
        let target = dir.path.join(&file.name);
        let failed = |errno| Error::from_errno("write", &target, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut open = fs::File::from(openat(&dir.fd, &*name, flags, Bits::RUSR | Bits::WUSR).map_err(failed)?);
        let temporary = Self { dir, name, target: &file.name };
        // The umask can only have taken permissions away.
        fchmod(&open, file.mode).map_err(failed)?;
        ownership.apply(&open, &target)?;
        open.write_all(&file.contents).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
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
