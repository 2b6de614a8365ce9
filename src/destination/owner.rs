//! Users and groups by number.

use std::fmt;
use std::str::FromStr;

use rustix::fs::Stat;

use crate::invalid::Invalid;

/// A user, and a group if it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    /// If it is `None`, a file keeps the group that it was created with.
    pub(crate) gid: Option<u32>,
}

/// The user that this process acts as.
pub(super) fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl FromStr for Owner {
    type Err = Invalid;

    /// Parses `1000` or `1000:1000`. Names cannot be looked up: a scratch image has no /etc/passwd, and the one in the
    /// step's image is not visible from here.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
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
    pub(super) fn from_stat(stat: &Stat) -> Self {
        Self { uid: stat.st_uid, gid: Some(stat.st_gid) }
    }

    pub(super) fn owns(self, stat: &Stat) -> bool {
        self.uid == stat.st_uid && self.gid.is_none_or(|gid| gid == stat.st_gid)
    }
}

/// Parses a user or a group. The largest number means "leave unchanged" to chown, so no user has it.
fn number(text: &str) -> Result<u32, Invalid> {
    const FORM: &str =
        "Write numbers, user or user:group, for example 1000 or 1000:1000; `id -u` and `id -g` in the step print them.";
    if text.is_empty() {
        return Err(Invalid::new("lacks a number", FORM));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Invalid::new("is not made of numbers, and names cannot be looked up here", FORM));
    }
    let number = text.parse().ok().filter(|number| *number != u32::MAX);
    number.ok_or_else(|| Invalid::new("has a number that is too large", FORM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Owner, String> {
        text.parse().map_err(|error: Invalid| error.to_string())
    }

    #[test]
    fn numbers_are_parsed() {
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
    fn half_an_owner_is_refused() {
        for text in ["", ":", "1000:", ":1000"] {
            assert_eq!(parse(text), Err("lacks a number".into()), "{text}");
        }
    }

    #[test]
    fn numbers_that_chown_cannot_use_are_refused() {
        for text in ["4294967295", "4294967296", "1:4294967295"] {
            assert_eq!(parse(text), Err("has a number that is too large".into()), "{text}");
        }
    }
}
