//! The clone directory. Everyone who can commit may have put any file there.

use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;

use crate::environment::Environment;
use crate::limits::REPOSITORY_FILE_SIZE;
use crate::regular_file;
use crate::text::sanitize;

pub(super) struct CloneDir {
    pub(super) path: PathBuf,
    pub(super) destination: PathBuf,
    /// The path of the destination in the clone directory, without `/` at either end. Empty if they are the same.
    pub(super) relative: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// A symbolic link, a named pipe, a directory.
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is larger than {} KiB", REPOSITORY_FILE_SIZE >> 10)]
    TooLarge,
    #[error("it cannot be read: {0}")]
    Failed(std::io::Error),
}

impl CloneDir {
    /// Returns `None` outside of Bitbucket.
    pub(super) fn new(env: &Environment, destination: &Path) -> Option<Self> {
        let given = env.get("BITBUCKET_CLONE_DIR").map(PathBuf::from).filter(|path| path.is_absolute())?;
        // The destination has no symbolic links in it, but the variable may have some.
        let mut paths = [without_dots(&given)].into_iter().chain(fs::canonicalize(&given));
        let path = paths.find(|path| destination.starts_with(path)).unwrap_or(given);
        let relative = destination.strip_prefix(&path).ok().map(|relative| relative.to_string_lossy().into_owned());
        Some(Self { path, destination: destination.to_owned(), relative })
    }

    /// The destination for messages: relative to the clone directory, as patterns have it, or else absolute.
    pub(super) fn displayed_destination(&self) -> String {
        match self.relative.as_deref() {
            Some("") => ".".to_owned(),
            Some(relative) => sanitize(relative),
            None => sanitize(&self.destination.to_string_lossy()),
        }
    }

    /// The path of a file of the destination as patterns are compared with it.
    pub(super) fn path_of(&self, name: &str) -> Option<String> {
        match self.relative.as_deref()? {
            "" => Some(name.to_owned()),
            relative => Some(format!("{relative}/{name}")),
        }
    }

    /// Resolves a path as it is written for Bitbucket and shells: relative to the clone directory, or with variables.
    pub(super) fn resolve(&self, text: &str, home: &Path) -> PathBuf {
        let text = text.replace("${", "$").replace('}', "");
        for (name, value) in [("$BITBUCKET_CLONE_DIR", self.path.as_path()), ("$HOME", home), ("~", home)] {
            match text.strip_prefix(name) {
                Some("") => return value.to_owned(),
                Some(rest) if rest.starts_with('/') => return without_dots(&value.join(rest.trim_start_matches('/'))),
                _ => {}
            }
        }
        without_dots(&self.path.join(text))
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        statat(CWD, self.path.join(name), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Reads a file at the top of the clone directory. Only a regular file is read, so that reading never blocks.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, ReadError> {
        let file = match regular_file::open(CWD, self.path.join(name)) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            // A symbolic link or a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Err(ReadError::NotAFile),
            Err(errno) => return Err(ReadError::Failed(errno.into())),
        };
        let mut bytes = Vec::new();
        file.take(REPOSITORY_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(ReadError::Failed)?;
        match bytes.len() as u64 > REPOSITORY_FILE_SIZE {
            true => Err(ReadError::TooLarge),
            false => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        }
    }
}

/// The path without `.` and `..`. It need not exist.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn clone_dir(variable: &str, destination: &str) -> CloneDir {
        let env = Environment::from_iter([("BITBUCKET_CLONE_DIR", variable)]);
        CloneDir::new(&env, Path::new(destination)).unwrap()
    }

    #[test]
    fn the_destination_in_the_clone_directory() {
        assert_eq!(clone_dir("/c/./d/", "/c/d/a/b").relative.as_deref(), Some("a/b"));
        assert_eq!(clone_dir("/c", "/c").path_of("key").as_deref(), Some("key"));
        assert_eq!(clone_dir("/c", "/cc/a").relative, None);
        assert!(CloneDir::new(&Environment::default(), Path::new("/c")).is_none());
        assert!(CloneDir::new(&Environment::from_iter([("BITBUCKET_CLONE_DIR", "c")]), Path::new("/c")).is_none());
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().canonicalize().unwrap();
        symlink(&real, temp.path().join("link")).unwrap();
        let destination = real.join("d");
        let through_link = clone_dir(real.join("link").to_str().unwrap(), destination.to_str().unwrap());
        assert_eq!(through_link.relative.as_deref(), Some("d"));
    }

    #[test]
    fn paths_are_resolved_as_bitbucket_does() {
        let clone_dir = clone_dir("/c", "/c/d");
        for (text, path) in [
            ("x/../y", "/c/y"),
            (".", "/c"),
            ("/a/b", "/a/b"),
            ("$BITBUCKET_CLONE_DIR/x", "/c/x"),
            ("${BITBUCKET_CLONE_DIR}", "/c"),
            ("~/.m2", "/h/.m2"),
            ("$HOME", "/h"),
            ("$HOMEWORK", "/c/$HOMEWORK"),
        ] {
            assert_eq!(clone_dir.resolve(text, Path::new("/h")), Path::new(path), "{text}");
        }
    }

    #[test]
    fn only_regular_files_up_to_a_size_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::write(at("file"), "x").unwrap();
        fs::write(at("large"), vec![b' '; REPOSITORY_FILE_SIZE as usize + 1]).unwrap();
        symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let clone_dir = clone_dir(temp.path().to_str().unwrap(), "/elsewhere");
        assert_eq!(clone_dir.read("file").unwrap().as_deref(), Some("x"));
        assert!(clone_dir.read("nothing").unwrap().is_none());
        for name in ["link", "fifo", "."] {
            assert!(matches!(clone_dir.read(name), Err(ReadError::NotAFile)), "{name}");
        }
        assert!(matches!(clone_dir.read("large"), Err(ReadError::TooLarge)));
        assert!(clone_dir.exists("link") && !clone_dir.exists("nothing"));
    }
}
