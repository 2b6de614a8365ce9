//! Who owns what is written.

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{Gid, Stat, Uid, fchown, fstat};
use rustix::io::Errno;

use super::error::{Error, us};

/// A user, and a group if it matters, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The user.
    pub(crate) uid: u32,
    /// The group; without it a file keeps the group it was made with.
    pub(crate) gid: Option<u32>,
}

/// Why a text is no [`Owner`]; `Display` completes «X is `…`, which …».
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct NotAnOwner(&'static str);

impl NotAnOwner {
    /// What to write instead.
    pub(crate) const WHAT_TO_DO: &str =
        "Write numbers, user or user:group, for example 1000 or 1000:1000; `id -u` and `id -g` in the step print them.";
}

impl FromStr for Owner {
    type Err = NotAnOwner;

    /// `1000` or `1000:1000`. Names cannot be looked up: a scratch image has no /etc/passwd, and that of the step's
    /// image is out of sight.
    fn from_str(text: &str) -> Result<Self, NotAnOwner> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        Ok(Self { uid: number(user)?, gid: group.map(number).transpose()? })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gid {
            Some(gid) => write!(f, "user {} and group {gid}", self.uid),
            None => write!(f, "user {}", self.uid),
        }
    }
}

impl Owner {
    /// The owner of what `stat` is about.
    pub(super) fn of(stat: &Stat) -> Self {
        Self { uid: stat.st_uid, gid: Some(stat.st_gid) }
    }

    /// Whether that is the owner already.
    pub(super) fn owns(self, stat: &Stat) -> bool {
        self.uid == stat.st_uid && self.gid.is_none_or(|gid| gid == stat.st_gid)
    }
}

/// The owner that files are to get, and how much that matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    /// Who is to own them.
    pub(super) owner: Owner,
    /// Somebody asked for it. Otherwise it is only our guess at what is practical.
    pub(super) demanded: bool,
}

impl Ownership {
    /// Makes it the owner of the open `file`. A guess that cannot be carried out is dropped: Bitbucket's clone
    /// directory is root's with mode 0777 (bitbucket-pipes.md 2.5), and a process of another user must do there.
    pub(super) fn give(self, file: impl AsFd, path: &Path) -> Result<(), Error> {
        let failed = |errno| Error::from_errno("change the owner of", path, errno);
        if self.owner.owns(&fstat(&file).map_err(failed)?) {
            return Ok(());
        }
        match fchown(&file, Some(Uid::from_raw(self.owner.uid)), self.owner.gid.map(Gid::from_raw)) {
            Ok(()) => Ok(()),
            Err(errno) if !impossible(errno) => Err(failed(errno)),
            Err(_) if self.demanded => Err(Error::CannotChown { path: path.into(), owner: self.owner, uid: us() }),
            Err(_) => Ok(()),
        }
    }
}

/// EINVAL is what a user namespace says that has no such user.
fn impossible(errno: Errno) -> bool {
    matches!(errno, Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

/// The largest number means "nobody in particular" to chown, and is no user.
fn number(text: &str) -> Result<u32, NotAnOwner> {
    if text.is_empty() {
        return Err(NotAnOwner("lacks a number"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotAnOwner("is not made of numbers, and names cannot be looked up here"));
    }
    text.parse().ok().filter(|number| *number != u32::MAX).ok_or(NotAnOwner("has a number that is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Owner, String> {
        text.parse().map_err(|error: NotAnOwner| error.to_string())
    }

    #[test]
    fn numbers_are_owners() {
        assert_eq!(parse("1000"), Ok(Owner { uid: 1000, gid: None }));
        assert_eq!(parse("0:0"), Ok(Owner { uid: 0, gid: Some(0) }));
        assert_eq!(parse("4294967294:1"), Ok(Owner { uid: 4294967294, gid: Some(1) }));
    }

    #[test]
    fn names_are_refused_with_the_reason() {
        for text in ["node", "node:node", "1000:node", "-1", "+1", "1000 ", "1:2:3"] {
            assert!(parse(text).is_err_and(|reason| reason.contains("names cannot be looked up")), "{text}");
        }
    }

    #[test]
    fn half_an_owner_is_none() {
        for text in ["", ":", "1000:", ":1000"] {
            assert_eq!(parse(text), Err("lacks a number".into()), "{text}");
        }
    }

    #[test]
    fn what_chown_would_not_understand_is_refused() {
        for text in ["4294967295", "4294967296", "1:4294967295"] {
            assert_eq!(parse(text), Err("has a number that is too large".into()), "{text}");
        }
    }
}
