//! A path to a directory, without a symbolic link in it.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, stat, statat, unlinkat,
};
use rustix::io::Errno;

use super::directory::Directory;
use super::error::Error;
use super::identity::Identity;
use super::owner::Owner;
use super::ownership::Ownership;
use crate::text::sanitize;

/// Opens a component of the path if it is a directory.
const COMPONENT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The path of a destination. It is resolved anew by each call.
#[derive(Debug, Default)]
pub(super) struct DestinationPath {
    working_dir: PathBuf,
    /// Where the path starts. The path of the base itself may have links in it, because the user did not write it.
    base: PathBuf,
    /// The components of the path, without `.` and `..`. None of them may be a link.
    parts: Vec<OsString>,
    absolute: PathBuf,
}

/// The deepest directory of a path that exists.
struct Deepest {
    dir: OwnedFd,
    /// The number of parts that lead to it.
    depth: usize,
}

impl DestinationPath {
    /// Resolves `path`, which may be relative to `working_dir`.
    ///
    /// `..` means what it means to the kernel (tbot accepts it, too), so that dropping the part before it is not enough:
    /// that part must not be a link either, and above the working directory the real path counts.
    pub(super) fn new(working_dir: &Path, path: &Path) -> Result<Self, Error> {
        let base = if path.is_absolute() { Path::new("/") } else { working_dir };
        let mut this = Self { working_dir: working_dir.into(), base: base.into(), ..Self::default() };
        for component in path.components() {
            match component {
                Component::Normal(part) => this.parts.push(part.into()),
                Component::ParentDir => this.go_up()?,
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        this.absolute = this.prefix(this.parts.len());
        match reason_to_refuse(path, &this.absolute) {
            Some(reason) => Err(bad_path(path, reason)),
            None => Ok(this),
        }
    }

    pub(super) fn absolute(&self) -> &Path {
        &self.absolute
    }

    /// The path from the root without any link: each directory has one such path, bind mounts aside.
    pub(super) fn real(&self) -> Result<PathBuf, Error> {
        let mut path = self.real_base()?;
        path.extend(&self.parts);
        Ok(path)
    }

    pub(super) fn working_dir_owner(&self) -> Result<Owner, Error> {
        let stat = stat(&self.working_dir);
        stat.map(|stat| Owner::from_stat(&stat)).map_err(|errno| no_working_dir(&self.working_dir, errno))
    }

    /// Another user who owns something in the working directory. The clone directory belongs to root, whichever user
    /// runs the step, but what the step created before belongs to that user (docs/protocol.md, "Owners and modes").
    pub(super) fn other_user_in_working_dir(&self, uid: u32) -> Option<u32> {
        // The first thousand entries, to bound the time.
        let entries = fs::read_dir(&self.working_dir).ok()?.take(1000).filter_map(Result::ok);
        entries.filter_map(|entry| Some(entry.metadata().ok()?.uid())).find(|other| *other != uid)
    }

    /// Opens the deepest directory of the path that exists. Also returns whether that is the whole path.
    pub(super) fn find(&self) -> Result<(Directory, bool), Error> {
        let Deepest { dir, depth } = self.deepest()?;
        let (path, exists) = (self.prefix(depth), depth == self.parts.len());
        let dir = if exists { Directory::open(dir, path)? } else { Directory::new(dir, path)? };
        Ok((dir, exists))
    }

    /// Opens the directory after creating what is missing of it: mode 0700, parents too, as tbot does
    /// (docs/protocol.md, "Output files"). Also returns those that it made: the last one of the path, its parent, and so
    /// on.
    pub(super) fn create(&self, ownership: Ownership) -> Result<(Directory, Vec<Identity>), Error> {
        let Deepest { mut dir, depth } = self.deepest()?;
        let mut made = Vec::new();
        for next in depth..self.parts.len() {
            let (next_dir, identity) = self.create_one(&dir, next, ownership)?;
            dir = next_dir;
            match identity {
                Some(identity) => made.push(identity),
                // This one is another program's and stays, and so do those above it.
                None => made.clear(),
            }
        }
        made.reverse();
        Ok((Directory::open(dir, self.absolute.clone())?, made))
    }

    /// Removes the directories that were `made`, the last one of the path first, until one is another directory or cannot
    /// be removed: it is not empty, is a mount point, or is in a directory of another user. Returns the number of those
    /// that were removed.
    pub(super) fn remove(&self, made: &[Identity]) -> Result<usize, Error> {
        for (removed, identity) in made.iter().enumerate() {
            let Some(depth) = self.parts.len().checked_sub(removed + 1) else { return Ok(removed) };
            let parent = Self { parts: self.parts[..depth].to_vec(), base: self.base.clone(), ..Self::default() };
            let (parent, name) = (parent.deepest()?, &self.parts[depth]);
            let is_made = || {
                let dir = openat(&parent.dir, name, COMPONENT, Mode::empty()).and_then(Identity::from_fd);
                parent.depth == depth && dir.as_ref() == Ok(identity)
            };
            if !is_made() || unlinkat(&parent.dir, name, AtFlags::REMOVEDIR).is_err() {
                return Ok(removed);
            }
        }
        Ok(made.len())
    }

    /// Creates the directory `parts[next]` in `parent`. A directory that another run created meanwhile is as good, but has
    /// no identity here.
    fn create_one(
        &self,
        parent: &OwnedFd,
        next: usize,
        ownership: Ownership,
    ) -> Result<(OwnedFd, Option<Identity>), Error> {
        let (part, path) = (&self.parts[next], self.prefix(next + 1));
        let is_new = match mkdirat(parent, part, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(Error::from_errno("create the directory", &path, errno)),
        };
        let dir =
            openat(parent, part, COMPONENT, Mode::empty()).map_err(|errno| self.open_error(parent, next, errno))?;
        if !is_new {
            return Ok((dir, None));
        }
        let created = Directory::open(&dir, path)?;
        created.make_private(ownership)?;
        Ok((dir, Some(created.identity)))
    }

    fn deepest(&self) -> Result<Deepest, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = open(&self.base, flags, Mode::empty()).map_err(|errno| no_working_dir(&self.base, errno))?;
        let path = Path::new(".").join(self.parts.iter().collect::<PathBuf>());
        match openat2(&base, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Ok(dir) => Ok(Deepest { dir, depth: self.parts.len() }),
            // The kernel may lack openat2 (before 5.6), or a seccomp profile that does not know it may answer EPERM. The
            // walk is as strict, so it also serves to find the component that failed in all other cases.
            Err(_) => self.walk(base),
        }
    }

    /// Like [`deepest`](Self::deepest), one component at a time.
    fn walk(&self, base: OwnedFd) -> Result<Deepest, Error> {
        let mut dir = base;
        for (depth, part) in self.parts.iter().enumerate() {
            dir = match openat(&dir, part, COMPONENT, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(Deepest { dir, depth }),
                Err(errno) => return Err(self.open_error(&dir, depth, errno)),
            };
        }
        Ok(Deepest { dir, depth: self.parts.len() })
    }

    /// The error for `parts[depth]` in `dir`, which was not opened. With these flags the kernel says ENOTDIR of links, too.
    fn open_error(&self, dir: &OwnedFd, depth: usize, errno: Errno) -> Error {
        let (part, path) = (&self.parts[depth], self.prefix(depth + 1));
        match errno {
            Errno::NOTDIR | Errno::LOOP => match statat(dir, part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Error::Symlink { path },
                _ => Error::NotADirectory { path },
            },
            Errno::NAMETOOLONG => bad_path(Path::new(part), "is longer than a name may be"),
            errno => Error::from_errno("look into", &path, errno),
        }
    }

    /// Goes to the parent of the last part, or of the base if there is no part.
    fn go_up(&mut self) -> Result<(), Error> {
        // Fails if the last part is a link or a file.
        self.deepest()?;
        if self.parts.pop().is_none() {
            self.base = self.real_base()?;
            self.base.pop();
        }
        Ok(())
    }

    fn real_base(&self) -> Result<PathBuf, Error> {
        let error = |error| no_working_dir(&self.base, Errno::from_io_error(&error).unwrap_or(Errno::NOENT));
        fs::canonicalize(&self.base).map_err(error)
    }

    /// The absolute path of the first `depth` parts.
    fn prefix(&self, depth: usize) -> PathBuf {
        let mut path = self.base.clone();
        path.extend(&self.parts[..depth]);
        path
    }
}

/// Why a path cannot be a destination.
fn reason_to_refuse(given: &Path, absolute: &Path) -> Option<&'static str> {
    match absolute.to_str() {
        _ if given.as_os_str().is_empty() => Some("is empty"),
        Some("/") => Some("is the root of the file system"),
        None => Some("is not UTF-8, which ssh_config would need"),
        Some(text) => {
            text.contains(char::is_control).then_some("has a control character, which ssh_config cannot hold")
        }
    }
}

fn bad_path(path: &Path, reason: &'static str) -> Error {
    Error::BadPath { shown: sanitize(&path.to_string_lossy()), reason }
}

fn no_working_dir(path: &Path, errno: Errno) -> Error {
    Error::NoWorkingDirectory { path: path.into(), errno }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory with directories, files and links.
    fn maze() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        create_dir_all(temp.path().join("a/b")).unwrap();
        write(temp.path().join("file"), "").unwrap();
        symlink("a", temp.path().join("link")).unwrap();
        symlink("nowhere", temp.path().join("dangling")).unwrap();
        temp
    }

    fn path(temp: &tempfile::TempDir, path: &str) -> DestinationPath {
        let parts = Path::new(path).iter().map(Into::into).collect();
        DestinationPath {
            working_dir: temp.path().into(),
            base: temp.path().into(),
            parts,
            absolute: temp.path().join(path),
        }
    }

    fn walk(path: &DestinationPath) -> Result<usize, Error> {
        path.walk(fs::File::open(&path.base).unwrap().into()).map(|deepest| deepest.depth)
    }

    fn absolute(temp: &tempfile::TempDir, path: &str) -> Result<PathBuf, Error> {
        DestinationPath::new(temp.path(), Path::new(path)).map(|path| path.absolute().into())
    }

    #[test]
    fn the_walk_leads_where_openat2_leads() {
        let temp = maze();
        for (path, depth) in [("", 0), ("a", 1), ("a/b", 2), ("a/b/c", 2), ("new", 0), ("a/new/er", 1)] {
            let destination = self::path(&temp, path);
            assert_eq!(walk(&destination).unwrap(), depth, "walk {path}");
            assert_eq!(destination.deepest().unwrap().depth, depth, "openat2 {path}");
        }
    }

    #[test]
    fn openat2_and_the_walk_stop_at_a_link_and_name_it() {
        let temp = maze();
        for (path, link) in [("link", "link"), ("link/b", "link"), ("dangling", "dangling"), ("dangling/x", "dangling")]
        {
            let link = temp.path().join(link);
            let destination = self::path(&temp, path);
            for error in [walk(&destination).err(), destination.deepest().err()] {
                assert!(matches!(&error, Some(Error::Symlink { path }) if *path == link), "{path}: {error:?}");
            }
        }
    }

    #[test]
    fn openat2_and_the_walk_stop_at_a_file() {
        let temp = maze();
        for path in ["file", "file/x"] {
            let destination = self::path(&temp, path);
            for error in [walk(&destination).err(), destination.deepest().err()] {
                assert!(matches!(&error, Some(Error::NotADirectory { path }) if path.ends_with("file")), "{error:?}");
            }
        }
    }

    #[test]
    fn the_working_directory_may_be_reached_through_a_link() {
        let temp = maze();
        let path = DestinationPath::new(&temp.path().join("link"), Path::new("b")).unwrap();
        assert_eq!(path.deepest().unwrap().depth, 1);
        assert!(path.absolute().ends_with("link/b"));
        assert_eq!(path.real().unwrap(), temp.path().canonicalize().unwrap().join("a/b"));
    }

    #[test]
    fn dots_are_resolved_as_the_kernel_would() {
        let temp = maze();
        let real = temp.path().canonicalize().unwrap();
        assert_eq!(absolute(&temp, "./a//./x").unwrap(), temp.path().join("a/x"));
        assert_eq!(absolute(&temp, "a/../x").unwrap(), temp.path().join("x"));
        assert_eq!(absolute(&temp, "../x").unwrap(), real.parent().unwrap().join("x"));
        assert_eq!(absolute(&temp, "/../../x/..//y").unwrap(), Path::new("/y"));
        // The parent of what the link leads to, not of the link.
        create_dir(temp.path().join("a/b/c")).unwrap();
        symlink("a/b/c", temp.path().join("deep")).unwrap();
        let path = DestinationPath::new(&temp.path().join("deep"), Path::new("../x")).unwrap();
        assert_eq!(path.absolute(), real.join("a/b/x"));
    }

    #[test]
    fn dots_do_not_hide_a_link() {
        let temp = maze();
        assert!(matches!(absolute(&temp, "link/../x"), Err(Error::Symlink { .. })));
        assert!(matches!(absolute(&temp, "file/../x"), Err(Error::NotADirectory { .. })));
    }

    #[test]
    fn invalid_paths_are_refused() {
        let temp = maze();
        let long = "x".repeat(256);
        for (path, reason) in [("", "empty"), ("/", "root"), ("/../.", "root"), ("a\nb", "control character")] {
            assert!(absolute(&temp, path).is_err_and(|error| error.to_string().contains(reason)), "{path:?}");
        }
        let error = path(&temp, &long).deepest().err().unwrap().to_string();
        assert!(error.contains("longer than a name may be"), "{error}");
    }

    #[test]
    fn a_directory_that_another_run_created_first_is_used() {
        let temp = maze();
        let base: OwnedFd = fs::File::open(temp.path()).unwrap().into();
        let owner = path(&temp, "a").working_dir_owner().unwrap();
        let ownership = Ownership { owner, required: true };
        assert!(path(&temp, "a").create_one(&base, 0, ownership).is_ok());
        assert!(matches!(path(&temp, "link").create_one(&base, 0, ownership), Err(Error::Symlink { .. })));
    }

    #[test]
    fn a_missing_working_directory_is_named() {
        let temp = maze();
        let path = DestinationPath::new(&temp.path().join("gone"), Path::new("x")).unwrap();
        assert!(matches!(path.find().err(), Some(Error::NoWorkingDirectory { path, .. }) if path.ends_with("gone")));
    }
}
