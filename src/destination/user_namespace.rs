//! The users of this container, and who they are outside of it (`user_namespaces(7)`).
//!
//! An engine may give pipes other users than the step has: root of the pipe is then an ordinary user of the step, and the
//! users of the step have no number here (docs/protocol.md, "Owners and modes").

use std::fs;

use super::owner::{Owner, effective_uid};

/// The number of every user and group that has no number here.
const OVERFLOW: u32 = 65534;

#[derive(Debug)]
pub(crate) struct UserNamespace {
    users: Ids,
    groups: Ids,
    /// The number of users without a number here.
    overflow_user: u32,
    overflow_group: u32,
}

/// Ranges of numbers: the first here, the first outside, and how many there are.
#[derive(Debug, PartialEq)]
struct Ids(Vec<[u32; 3]>);

impl UserNamespace {
    pub(super) fn from_process() -> Self {
        let ids = |path: &str| Ids::parse(&fs::read_to_string(path).unwrap_or_default());
        let overflow = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        Self {
            users: ids("/proc/self/uid_map"),
            groups: ids("/proc/self/gid_map"),
            overflow_user: overflow("/proc/sys/kernel/overflowuid").unwrap_or(OVERFLOW),
            overflow_group: overflow("/proc/sys/kernel/overflowgid").unwrap_or(OVERFLOW),
        }
    }

    /// Whether files of this owner may belong to a user who has no number here.
    pub(super) fn is_unknown(&self, uid: u32) -> bool {
        uid == self.overflow_user && !self.users.are_all_the_same()
    }

    /// The owner of a file, if it has a number here; what has none is never a target of chown, because it would be given
    /// to the user who happens to have the number 65534. Instead this process keeps what it makes.
    pub(super) fn known(&self, owner: Owner) -> Owner {
        if self.is_unknown(owner.uid) {
            return Owner { uid: effective_uid(), gid: None };
        }
        let is_known = |gid: &u32| *gid != self.overflow_group || self.groups.are_all_the_same();
        Owner { gid: owner.gid.filter(is_known), ..owner }
    }

    /// Who `owner` is outside. Returns `None` if one of the numbers does not exist here.
    pub(super) fn outside(&self, owner: Owner) -> Option<Owner> {
        let gid = match owner.gid {
            Some(gid) => Some(self.groups.outside(gid)?),
            None => None,
        };
        Some(Owner { uid: self.users.outside(owner.uid)?, gid })
    }

    /// Who our own user and group are outside.
    pub(super) fn ourselves(&self) -> Owner {
        let (uid, gid) = (effective_uid(), rustix::process::getegid().as_raw());
        let outside = |ids: &Ids, id| ids.outside(id).unwrap_or(id);
        Owner { uid: outside(&self.users, uid), gid: Some(outside(&self.groups, gid)) }
    }
}

impl Ids {
    /// Parses `/proc/PID/uid_map`. Without a map that is understood, the numbers are those of the machine.
    fn parse(text: &str) -> Self {
        let number = |word: Option<&str>| word?.parse().ok();
        let range = |line: &str| {
            let mut words = line.split_whitespace();
            Some([number(words.next())?, number(words.next())?, number(words.next())?])
        };
        let ranges: Option<Vec<_>> = text.lines().map(range).collect();
        Self(ranges.filter(|ranges| !ranges.is_empty()).unwrap_or_else(|| vec![[0, 0, u32::MAX]]))
    }

    fn are_all_the_same(&self) -> bool {
        self.0 == [[0, 0, u32::MAX]]
    }

    fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|[here, outside, count]| {
            let offset = id.checked_sub(*here).filter(|offset| offset < count)?;
            outside.checked_add(offset)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(map: &str) -> UserNamespace {
        let ids = || Ids::parse(map);
        UserNamespace { users: ids(), groups: ids(), overflow_user: OVERFLOW, overflow_group: OVERFLOW }
    }

    const REMAPPED: &str = "         0     165536      65536\n";

    fn owner(uid: u32, gid: u32) -> Owner {
        Owner { uid, gid: Some(gid) }
    }

    #[test]
    fn the_users_of_a_machine_are_all_known() {
        for map in ["         0          0 4294967295\n", "", "nonsense\n"] {
            let machine = namespace(map);
            assert!(!machine.is_unknown(OVERFLOW), "{map}");
            assert_eq!(machine.known(owner(OVERFLOW, OVERFLOW)), owner(OVERFLOW, OVERFLOW));
            assert_eq!(machine.outside(owner(1000, 1001)), Some(owner(1000, 1001)));
        }
    }

    /// Field 1: what belongs to the step has the number 65534 here, and must not become the files of user 231070.
    #[test]
    fn an_owner_without_a_number_is_not_a_target() {
        let container = namespace(REMAPPED);
        assert!(container.is_unknown(OVERFLOW) && !container.is_unknown(0));
        assert_eq!(container.known(owner(OVERFLOW, 0)), Owner { uid: effective_uid(), gid: None });
        assert_eq!(container.known(owner(7, OVERFLOW)), Owner { uid: 7, gid: None });
        assert_eq!(container.known(owner(7, 8)), owner(7, 8));
    }

    #[test]
    fn the_numbers_outside_are_found() {
        let container = namespace(REMAPPED);
        assert_eq!(container.outside(owner(0, 1000)), Some(owner(165536, 166536)));
        assert_eq!(container.outside(Owner { uid: 65536, gid: None }), None);
        assert_eq!(container.outside(owner(0, 65536)), None);
        // A rootless engine.
        let rootless = namespace("0 1000 1\n1 100000 65536\n");
        assert_eq!(rootless.outside(owner(0, 1)), Some(owner(1000, 100000)));
    }
}
