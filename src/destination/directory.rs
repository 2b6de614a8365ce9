//! An open directory, and files in it that are replaced as a whole. Every call is relative to the open directory: what
//! happens to its path meanwhile does not matter.

use std::ffi::CStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{
    Access, AtFlags, Dir, FileType, FlockOperation, Mode as Bits, OFlags, Stat, StatVfsMountFlags, accessat, fchmod,
    flock, fstat, fstatvfs, fsync, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::File;
use super::error::{Error, us};
use super::known_files::TEMPORARY;
use super::owner::Ownership;
use crate::retry::{Deadline, SLOW};
use crate::text::sanitize;

/// The bits that say who may do what.
const PERMISSIONS: u32 = 0o7777;

/// How long a run sleeps before it tries again for the lock: flock cannot wait with a deadline.
const PAUSE: Duration = Duration::from_millis(50);

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

impl Directory {
    /// Opens the directory that `at` stands for, to read and to write in.
    pub(super) fn open(at: impl AsFd, path: PathBuf) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(at, ".", flags, Bits::empty()).map_err(|errno| Error::from_errno("read", &path, errno))?;
        Ok(Self { fd, path })
    }

    /// A directory that was opened only to pass through (`O_PATH`).
    pub(super) fn passing(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the system knows about it.
    pub(super) fn stat(&self) -> Result<Stat, Error> {
        fstat(&self.fd).map_err(|errno| self.failed("look at", errno))
    }

    /// Whether entries can be made in it.
    pub(super) fn expect_writable(&self) -> Result<(), Error> {
        let access = accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty());
        access.map_err(|errno| self.failed("write to", errno))
    }

    /// Whether nothing can be started from it.
    pub(super) fn is_noexec(&self) -> bool {
        fstatvfs(&self.fd).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Whether it is closed to others, or we could close it.
    pub(super) fn expect_closable(&self) -> Result<(), Error> {
        let stat = self.stat()?;
        let can = us() == 0 || us() == stat.st_uid || stat.st_mode & PERMISSIONS == Bits::RWXU.as_raw_mode();
        match can {
            true => Ok(()),
            false => Err(Error::SomeoneElses { path: self.path.clone(), owner: stat.st_uid, uid: us() }),
        }
    }

    /// Waits until no other run writes here; if that takes long, the log says so under this stage. The lock goes when the
    /// directory is closed.
    pub(super) fn lock(&self, deadline: Deadline, stage: &'static str) -> Result<(), Error> {
        let mut patience = Some(Deadline::after(SLOW));
        loop {
            match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if deadline.is_over() => return Err(Error::Busy { path: self.path.clone() }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    if patience.take_if(|patience| patience.is_over()).is_some() {
                        let path = sanitize(&self.path.display().to_string());
                        log::info!(target: stage, "waiting for another run, which writes to {path}");
                    }
                    thread::sleep(PAUSE.min(deadline.left()));
                }
                Err(errno) => return Err(self.failed("lock", errno)),
            }
        }
    }

    /// Mode 0700 and the right owner, whatever it was before and whatever the umask made of it.
    pub(super) fn close_to_others(&self, giving: Ownership) -> Result<(), Error> {
        if self.stat()?.st_mode & PERMISSIONS != Bits::RWXU.as_raw_mode() {
            fchmod(&self.fd, Bits::RWXU).map_err(|errno| self.failed("change the mode of", errno))?;
        }
        giving.give(&self.fd, &self.path)
    }

    /// Shows every name in it, in no particular order.
    pub(super) fn each_name(&self, mut show: impl FnMut(&CStr) -> Result<(), Error>) -> Result<(), Error> {
        let failed = |errno| self.failed("read", errno);
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                show(entry.file_name())?;
            }
        }
        Ok(())
    }

    /// Whether there is an entry of that name, of whatever kind.
    pub(super) fn has(&self, name: &str) -> Result<bool, Error> {
        Ok(self.kind(name)?.is_some())
    }

    /// Whether there is a regular file of that name.
    pub(super) fn has_file(&self, name: &str) -> Result<bool, Error> {
        Ok(self.kind(name)? == Some(FileType::RegularFile))
    }

    /// An error if `name` is something that must not be replaced, or could not be the name of a file.
    pub(super) fn expect_file_or_nothing(&self, name: &str) -> Result<(), Error> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(Error::BadName { shown: sanitize(name) });
        }
        let kind = match self.kind(name)? {
            None | Some(FileType::RegularFile) => return Ok(()),
            Some(FileType::Symlink) => "a symbolic link",
            Some(FileType::Directory) => "a directory",
            Some(_) => "something special",
        };
        Err(Error::NotAFile { path: self.path.join(name), kind })
    }

    /// Opens a regular file to read. A named pipe that takes its place in this moment does not make us wait.
    pub(super) fn open_file(&self, name: &str) -> io::Result<fs::File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::File::from(openat(&self.fd, name, flags, Bits::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Removes files.
    pub(super) fn remove(&self, names: &[String]) -> Result<(), Error> {
        names.iter().try_for_each(|name| {
            let removed = unlinkat(&self.fd, &**name, AtFlags::empty());
            removed.map_err(|errno| Error::from_errno("remove", &self.path.join(name), errno))
        })
    }

    /// Replaces files, in their order, once all of the new ones are complete. Those that are as wanted stay: the binary
    /// has 3 MB.
    pub(super) fn replace(&self, files: &[File], giving: Ownership) -> Result<(), Error> {
        let wanted = files.iter().filter(|file| !self.holds(file, giving));
        let complete = wanted
            .enumerate()
            .map(|(n, file)| Temporary::write(self, n, file, giving))
            .collect::<Result<Vec<_>, _>>()?;
        complete.iter().try_for_each(Temporary::take_its_place)
    }

    /// Brings the names to the disk. Some network file systems do that for files only, and say EINVAL.
    pub(super) fn sync(&self) -> Result<(), Error> {
        match fsync(&self.fd) {
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(self.failed("write to", errno)),
        }
    }

    fn kind(&self, name: &str) -> Result<Option<FileType>, Error> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::from_errno("look at", &self.path.join(name), errno)),
        }
    }

    /// Whether the file is there as it should be. One that has a second name is not: who knows what that is for.
    fn holds(&self, file: &File, giving: Ownership) -> bool {
        let Ok(open) = self.open_file(&file.name) else { return false };
        let Ok(stat) = fstat(&open) else { return false };
        giving.owner.owns(&stat)
            && stat.st_nlink == 1
            && stat.st_mode & PERMISSIONS == file.mode.bits().as_raw_mode()
            && holds_only(open, &file.contents)
    }

    fn failed(&self, doing: &'static str, errno: Errno) -> Error {
        Error::from_errno(doing, &self.path, errno)
    }
}

/// A file that is complete, under a name that nobody reads. Removed unless it took its place.
struct Temporary<'a> {
    dir: &'a Directory,
    name: String,
    /// Its place.
    target: &'a str,
}

impl<'a> Temporary<'a> {
    /// Writes the `n`th file of a set. Numbers instead of names, so that a name may be as long as names may be.
    fn write(dir: &'a Directory, n: usize, file: &'a File, giving: Ownership) -> Result<Self, Error> {
        let name = format!("{TEMPORARY}{n}");
        let target = dir.path.join(&file.name);
        let failed = |errno| Error::from_errno("write", &target, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut open = fs::File::from(openat(&dir.fd, &*name, flags, Bits::RUSR | Bits::WUSR).map_err(failed)?);
        let temporary = Self { dir, name, target: &file.name };
        // The umask had its say at the opening, in the one direction that does no harm.
        fchmod(&open, file.mode.bits()).map_err(failed)?;
        giving.give(&open, &target)?;
        open.write_all(&file.contents).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        fsync(&open).map_err(failed)?;
        Ok(temporary)
    }

    fn take_its_place(&self) -> Result<(), Error> {
        renameat(&self.dir.fd, &*self.name, &self.dir.fd, self.target)
            .map_err(|errno| Error::from_errno("replace", &self.dir.path.join(self.target), errno))
    }
}

impl Drop for Temporary<'_> {
    /// Nothing has this name any more if it took its place, and nobody else makes it while we hold the lock.
    fn drop(&mut self) {
        let _ = unlinkat(&self.dir.fd, &*self.name, AtFlags::empty());
    }
}

/// Whether these bytes are all there is. What was read is wiped: it may be a key. It is read in pieces: the binary has
/// 3 MB, and is in memory once already.
fn holds_only(mut file: fs::File, mut contents: &[u8]) -> bool {
    let mut piece = Zeroizing::new([0; 32 * 1024]);
    loop {
        match file.read(piece.as_mut_slice()) {
            Ok(0) => return contents.is_empty(),
            Ok(length) => match contents.strip_prefix(&piece[..length]) {
                Some(rest) => contents = rest,
                None => return false,
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
