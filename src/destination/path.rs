//! The way to a directory, without a symbolic link in it.

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
use super::owner::{Owner, Ownership};
use crate::text::sanitize;

/// How a component is opened: to pass through, and only if it is a directory.
const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A path as it was given, and where it starts. What it leads to is looked up anew each time.
#[derive(Debug, Default)]
pub(super) struct DestinationPath {
    working_dir: PathBuf,
    /// Where the path starts: its own path may have links in it, nobody gave it to us.
    base: PathBuf,
    /// The path, in which no component may be a link. Neither `.` nor `..` is left in it.
    parts: Vec<OsString>,
    absolute: PathBuf,
}

/// What a path leads to.
pub(super) enum Found {
    /// A directory.
    Directory(Directory),
    /// Nothing, and the directory in which the first missing one would be made.
    Nothing(Directory),
}

/// How far a path leads.
struct Reached {
    dir: OwnedFd,
    /// How many parts led there.
    depth: usize,
}

impl DestinationPath {
    /// The place that `path` names, seen from `working_dir`.
    ///
    /// `..` means what it means to the kernel (tbot accepts it, too): the part before it must not be a link either,
    /// and above the working directory its real path counts.
    pub(super) fn new(working_dir: &Path, path: &Path) -> Result<Self, Error> {
        let base = if path.is_absolute() { Path::new("/") } else { working_dir };
        let mut place =
            Self { working_dir: working_dir.into(), base: base.into(), parts: Vec::new(), absolute: PathBuf::new() };
        for component in path.components() {
            match component {
                Component::Normal(part) => place.parts.push(part.into()),
                Component::ParentDir => place.up()?,
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        place.absolute = place.up_to(place.parts.len());
        match nonsense(path, &place.absolute) {
            Some(reason) => Err(bad_path(path, reason)),
            None => Ok(place),
        }
    }

    /// The path from the root.
    pub(super) fn absolute(&self) -> &Path {
        &self.absolute
    }

    /// The owner of the working directory.
    pub(super) fn neighbour(&self) -> Result<Owner, Error> {
        let stat = stat(&self.working_dir);
        stat.map(|stat| Owner::of(&stat)).map_err(|errno| no_working_dir(&self.working_dir, errno))
    }

    /// Another user who owns something in the working directory; the clone directory is root's whoever runs the step,
    /// but what the step made before is the step's (bitbucket-pipes.md 2.5).
    pub(super) fn neighbour_other_than(&self, uid: u32) -> Option<u32> {
        /// Enough to find somebody, and not long.
        const MOST: usize = 1000;
        let entries = fs::read_dir(&self.working_dir).ok()?.take(MOST).filter_map(Result::ok);
        entries.filter_map(|entry| Some(entry.metadata().ok()?.uid())).find(|other| *other != uid)
    }

    /// What is there now. Changes nothing.
    pub(super) fn find(&self) -> Result<Found, Error> {
        let Reached { dir, depth } = self.reach()?;
        let path = self.up_to(depth);
        if depth < self.parts.len() {
            return Ok(Found::Nothing(Directory::passing(dir, path)));
        }
        Directory::open(dir, path).map(Found::Directory)
    }

    /// Opens the directory, after making what is missing of it: mode 0700, parents too, as tbot does
    /// (teleport-issue-and-outputs.md 5.1). Also tells how many that were.
    pub(super) fn make(&self, giving: Ownership) -> Result<(Directory, usize), Error> {
        let Reached { mut dir, depth } = self.reach()?;
        for next in depth..self.parts.len() {
            dir = self.make_one(&dir, next, giving)?;
        }
        Ok((Directory::open(dir, self.absolute.clone())?, self.parts.len() - depth))
    }

    /// Removes up to `most` directories, the last one of the path first, until one is not empty or may not go: a mount
    /// point, or something in a directory of somebody else. Tells how many went.
    pub(super) fn remove(&self, most: usize) -> Result<usize, Error> {
        for removed in 0..most.min(self.parts.len()) {
            let depth = self.parts.len() - removed - 1;
            let parent = Self { parts: self.parts[..depth].to_vec(), base: self.base.clone(), ..Self::default() };
            let dir = parent.reach()?.dir;
            if unlinkat(&dir, &self.parts[depth], AtFlags::REMOVEDIR).is_err() {
                return Ok(removed);
            }
        }
        Ok(most.min(self.parts.len()))
    }

    /// Makes the directory `parts[next]` in `parent`. If another run is faster, that one is as good.
    fn make_one(&self, parent: &OwnedFd, next: usize, giving: Ownership) -> Result<OwnedFd, Error> {
        let (part, path) = (&self.parts[next], self.up_to(next + 1));
        let made = match mkdirat(parent, part, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(Error::from_errno("create the directory", &path, errno)),
        };
        let dir = openat(parent, part, STEP, Mode::empty()).map_err(|errno| self.refusal(parent, next, errno))?;
        if made {
            Directory::open(&dir, path)?.close_to_others(giving)?;
        }
        Ok(dir)
    }

    /// Follows the path as far as it leads.
    fn reach(&self) -> Result<Reached, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = open(&self.base, flags, Mode::empty()).map_err(|errno| no_working_dir(&self.base, errno))?;
        let path = self.parts.iter().collect::<PathBuf>();
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        match openat2(&base, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Ok(dir) => Ok(Reached { dir, depth: self.parts.len() }),
            // The kernel may lack openat2 (before 5.6), or a seccomp profile that does not know it answers EPERM. The
            // walk is exactly as strict, so it may also find out which component it was in all other cases.
            Err(_) => self.walk(base),
        }
    }

    /// The same, one component at a time.
    fn walk(&self, base: OwnedFd) -> Result<Reached, Error> {
        let mut dir = base;
        for (depth, part) in self.parts.iter().enumerate() {
            dir = match openat(&dir, part, STEP, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(Reached { dir, depth }),
                Err(errno) => return Err(self.refusal(&dir, depth, errno)),
            };
        }
        Ok(Reached { dir, depth: self.parts.len() })
    }

    /// Why `parts[depth]` of `dir` was not opened. The kernel says ENOTDIR of links as well, given these flags.
    fn refusal(&self, dir: &OwnedFd, depth: usize, errno: Errno) -> Error {
        let (part, path) = (&self.parts[depth], self.up_to(depth + 1));
        match errno {
            Errno::NOTDIR | Errno::LOOP => match statat(dir, part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Error::Symlink { path },
                _ => Error::NotADirectory { path },
            },
            Errno::NAMETOOLONG => bad_path(Path::new(part), "is longer than a name may be"),
            errno => Error::from_errno("look into", &path, errno),
        }
    }

    /// Takes the last part away, if it could be passed through; without one, goes above the base.
    fn up(&mut self) -> Result<(), Error> {
        self.reach()?;
        if self.parts.pop().is_none() {
            self.base = fs::canonicalize(&self.base)
                .map_err(|error| no_working_dir(&self.base, Errno::from_io_error(&error).unwrap_or(Errno::NOENT)))?;
            self.base.pop();
        }
        Ok(())
    }

    /// The absolute path of the first `depth` parts.
    fn up_to(&self, depth: usize) -> PathBuf {
        let mut path = self.base.clone();
        path.extend(&self.parts[..depth]);
        path
    }
}

/// What makes a path useless as a destination.
fn nonsense(given: &Path, absolute: &Path) -> Option<&'static str> {
    if given.as_os_str().is_empty() {
        return Some("is empty");
    }
    if absolute == Path::new("/") {
        return Some("is the root of the file system");
    }
    match absolute.to_str() {
        None => Some("is not UTF-8, which ssh_config would need"),
        Some(text) if text.chars().any(char::is_control) => {
            Some("has a control character, which ssh_config cannot hold")
        }
        Some(_) => None,
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

    /// A directory with everything that can be in the way.
    fn maze() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        create_dir_all(temp.path().join("a/b")).unwrap();
        write(temp.path().join("file"), "").unwrap();
        symlink("a", temp.path().join("link")).unwrap();
        symlink("nowhere", temp.path().join("dangling")).unwrap();
        temp
    }

    fn place(temp: &tempfile::TempDir, path: &str) -> DestinationPath {
        let parts = Path::new(path).iter().map(Into::into).collect();
        DestinationPath {
            working_dir: temp.path().into(),
            base: temp.path().into(),
            parts,
            absolute: temp.path().join(path),
        }
    }

    fn walk(place: &DestinationPath) -> Result<usize, Error> {
        place.walk(fs::File::open(&place.base).unwrap().into()).map(|reached| reached.depth)
    }

    fn absolute(temp: &tempfile::TempDir, path: &str) -> Result<PathBuf, Error> {
        DestinationPath::new(temp.path(), Path::new(path)).map(|place| place.absolute().into())
    }

    #[test]
    fn the_walk_leads_where_openat2_leads() {
        let temp = maze();
        for (path, depth) in [("", 0), ("a", 1), ("a/b", 2), ("a/b/c", 2), ("new", 0), ("a/new/er", 1)] {
            let place = place(&temp, path);
            assert_eq!(walk(&place).unwrap(), depth, "walk {path}");
            assert_eq!(place.reach().unwrap().depth, depth, "reach {path}");
        }
    }

    #[test]
    fn both_ways_stop_at_a_link_and_name_it() {
        let temp = maze();
        for (path, link) in [("link", "link"), ("link/b", "link"), ("dangling", "dangling"), ("dangling/x", "dangling")]
        {
            let link = temp.path().join(link);
            let place = place(&temp, path);
            for error in [walk(&place).err(), place.reach().err()] {
                assert!(matches!(&error, Some(Error::Symlink { path }) if *path == link), "{path}: {error:?}");
            }
        }
    }

    #[test]
    fn both_ways_stop_at_a_file() {
        let temp = maze();
        for path in ["file", "file/x"] {
            let place = place(&temp, path);
            for error in [walk(&place).err(), place.reach().err()] {
                assert!(matches!(&error, Some(Error::NotADirectory { path }) if path.ends_with("file")), "{error:?}");
            }
        }
    }

    #[test]
    fn the_working_directory_may_be_reached_through_a_link() {
        let temp = maze();
        let place = DestinationPath::new(&temp.path().join("link"), Path::new("b")).unwrap();
        assert_eq!(place.reach().unwrap().depth, 1);
        assert!(place.absolute().ends_with("link/b"));
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
        let place = DestinationPath::new(&temp.path().join("deep"), Path::new("../x")).unwrap();
        assert_eq!(place.absolute(), real.join("a/b/x"));
    }

    #[test]
    fn dots_do_not_hide_a_link() {
        let temp = maze();
        assert!(matches!(absolute(&temp, "link/../x"), Err(Error::Symlink { .. })));
        assert!(matches!(absolute(&temp, "file/../x"), Err(Error::NotADirectory { .. })));
    }

    #[test]
    fn a_path_must_make_sense() {
        let temp = maze();
        let long = "x".repeat(256);
        for (path, reason) in [("", "empty"), ("/", "root"), ("/../.", "root"), ("a\nb", "control character")] {
            assert!(absolute(&temp, path).is_err_and(|error| error.to_string().contains(reason)), "{path:?}");
        }
        let error = place(&temp, &long).reach().err().unwrap().to_string();
        assert!(error.contains("longer than a name may be"), "{error}");
    }

    #[test]
    fn a_directory_that_another_run_made_first_is_as_good() {
        let temp = maze();
        let base: OwnedFd = fs::File::open(temp.path()).unwrap().into();
        let owner = place(&temp, "a").neighbour().unwrap();
        let giving = Ownership { owner, demanded: true };
        assert!(place(&temp, "a").make_one(&base, 0, giving).is_ok());
        assert!(matches!(place(&temp, "link").make_one(&base, 0, giving), Err(Error::Symlink { .. })));
    }

    #[test]
    fn a_working_directory_that_is_gone_is_named() {
        let temp = maze();
        let place = DestinationPath::new(&temp.path().join("gone"), Path::new("x")).unwrap();
        assert!(matches!(place.find().err(), Some(Error::NoWorkingDirectory { path, .. }) if path.ends_with("gone")));
    }
}
