//! The clone directory, where anybody who can commit may have put anything.

use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;

use crate::environment::Environment;
use crate::regular_file;

/// More of a file is not read.
const MOST: u64 = 1 << 20;

/// The clone directory, and the destination as seen from there.
#[derive(Debug)]
pub(super) struct CloneDir {
    pub(super) path: PathBuf,
    /// The destination.
    pub(super) destination: PathBuf,
    /// The destination within the clone directory, without `/` in front and behind; empty if they are the same.
    pub(super) relative: Option<String>,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// A symbolic link, a named pipe, a directory.
    #[error("it is no regular file")]
    NotAFile,
    #[error("it has more than 1 MiB")]
    TooLarge,
    #[error("it cannot be read: {0}")]
    Failed(std::io::Error),
}

impl CloneDir {
    /// Bitbucket's clone directory, if this is Bitbucket.
    pub(super) fn of(env: &Environment, destination: &Path) -> Option<Self> {
        let given = env.get("BITBUCKET_CLONE_DIR").map(PathBuf::from).filter(|path| path.is_absolute())?;
        // The destination has no links in it, the variable may have.
        let real = fs::canonicalize(&given).ok();
        let path = [Some(without_dots(&given)), real].into_iter().flatten().find(|path| destination.starts_with(path));
        let path = path.unwrap_or(given);
        let relative = destination.strip_prefix(&path).ok().map(|relative| relative.to_string_lossy().into_owned());
        Some(Self { path, destination: destination.to_owned(), relative })
    }

    /// The destination in a few characters: within the clone directory as it is written in patterns, else whole.
    pub(super) fn shown(&self) -> String {
        match self.relative.as_deref() {
            Some("") => ".".to_owned(),
            Some(relative) => crate::text::sanitize(relative),
            None => crate::text::sanitize(&self.destination.to_string_lossy()),
        }
    }

    /// The path of a file of the destination, as patterns see it.
    pub(super) fn file(&self, name: &str) -> Option<String> {
        match self.relative.as_deref()? {
            "" => Some(name.to_owned()),
            relative => Some(format!("{relative}/{name}")),
        }
    }

    /// A path as Bitbucket and shells write it: relative to the clone directory, or with variables in it.
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

    /// Whether there is something of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        statat(CWD, self.path.join(name), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// A file at the top of the clone directory. Nothing but a regular file is read, and nothing makes us wait.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, Unread> {
        let file = match regular_file::open(CWD, self.path.join(name)) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => return Err(Unread::NotAFile),
            Err(errno) => return Err(Unread::Failed(errno.into())),
        };
        let mut bytes = Vec::new();
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(Unread::Failed)?;
        match bytes.len() as u64 > MOST {
            true => Err(Unread::TooLarge),
            false => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        }
    }
}

/// The path without `.` and `..`, whether it is there or not.
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
        CloneDir::of(&env, Path::new(destination)).unwrap()
    }

    #[test]
    fn where_the_destination_is() {
        assert_eq!(clone_dir("/c/./d/", "/c/d/a/b").relative.as_deref(), Some("a/b"));
        assert_eq!(clone_dir("/c", "/c").file("key").as_deref(), Some("key"));
        assert_eq!(clone_dir("/c", "/cc/a").relative, None);
        assert!(CloneDir::of(&Environment::default(), Path::new("/c")).is_none());
        assert!(CloneDir::of(&Environment::from_iter([("BITBUCKET_CLONE_DIR", "c")]), Path::new("/c")).is_none());
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().canonicalize().unwrap();
        symlink(&real, temp.path().join("link")).unwrap();
        let destination = real.join("d");
        let through_link = clone_dir(real.join("link").to_str().unwrap(), destination.to_str().unwrap());
        assert_eq!(through_link.relative.as_deref(), Some("d"));
    }

    #[test]
    fn paths_as_bitbucket_writes_them() {
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
    fn only_regular_files_of_some_size_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::write(at("file"), "x").unwrap();
        fs::write(at("large"), vec![b' '; MOST as usize + 1]).unwrap();
        symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let clone_dir = clone_dir(temp.path().to_str().unwrap(), "/elsewhere");
        assert_eq!(clone_dir.read("file").unwrap().as_deref(), Some("x"));
        assert!(clone_dir.read("nothing").unwrap().is_none());
        for name in ["link", "fifo", "."] {
            assert!(matches!(clone_dir.read(name), Err(Unread::NotAFile)), "{name}");
        }
        assert!(matches!(clone_dir.read("large"), Err(Unread::TooLarge)));
        assert!(clone_dir.has("link") && !clone_dir.has("nothing"));
    }
}
