//! What tells one directory from every other.

use std::fmt;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, fstat, statx};
use rustix::io::Errno;

/// The number of a directory's inode, and the nanosecond in which the directory was made.
///
/// It proves that a file was written by a run and did not come with the repository: a person who commits a file can know
/// neither number, because the directory is made by the clone or later. Both stay the same when the directory is moved,
/// and they are the same in every container that the directory is mounted into, so that a step can remove what its pipe
/// wrote. A copy of the directory has others. On a file system without times of birth, the inode alone has to do. The
/// number of the device is not a part: it says nothing about a clone, and differs between virtual machines that share a
/// directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity(String);

impl Identity {
    pub(super) fn from_fd(dir: impl AsFd) -> Result<Self, Errno> {
        let stat = statx(&dir, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::BTIME);
        Ok(match stat {
            Ok(stat) if stat.stx_mask & StatxFlags::BTIME.bits() != 0 => {
                Self::new(stat.stx_ino, stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
            }
            // An old kernel or a seccomp profile may refuse statx.
            _ => Self::new(fstat(&dir)?.st_ino, 0, 0),
        })
    }

    /// An identity from a record. It need not be one.
    pub(super) fn from_record(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn new(inode: u64, seconds: i64, nanoseconds: u32) -> Self {
        Self(format!("{inode}-{seconds}.{nanoseconds:09}"))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn identity(path: &std::path::Path) -> Identity {
        Identity::from_fd(fs::File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn a_directory_keeps_its_identity_when_it_is_moved() {
        let temp = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| temp.path().join(name));
        fs::create_dir(&one).unwrap();
        let before = identity(&one);
        fs::write(one.join("file"), "").unwrap();
        fs::rename(&one, &other).unwrap();
        assert_eq!(identity(&other), before);
        fs::create_dir(&one).unwrap();
        assert_ne!(identity(&one), before);
    }
}
