//! Why credentials cannot be written.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Owner;
use super::known_files::Listing;
use crate::error::{Exit, Explain};

/// What stands between us and the destination. No variant ever holds contents of a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The path cannot be a destination at all.
    #[error("the destination `{shown}` {reason}")]
    BadPath {
        /// The path, fit to be shown.
        shown: String,
        /// What is wrong with it; completes the sentence.
        reason: &'static str,
    },
    /// The directory that the destination is relative to cannot be opened.
    #[error("the working directory `{path}` cannot be opened: {errno}")]
    NoWorkingDirectory {
        /// The working directory.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// A component of the path is a symbolic link.
    #[error("`{path}` is a symbolic link, and credentials are never written through one")]
    Symlink {
        /// The path up to and with the link.
        path: PathBuf,
    },
    /// A component of the path is something else than a directory.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// The path up to and with that component.
        path: PathBuf,
    },
    /// An entry with the name of one of our files is no file.
    #[error("`{path}` is {kind} where one of our files belongs")]
    NotAFile {
        /// The entry.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The name of an output cannot be the name of a file.
    #[error("`{shown}` cannot be the name of a file")]
    BadName {
        /// The name, fit to be shown.
        shown: String,
    },
    /// The destination holds entries that are not ours.
    #[error("the destination `{path}` holds what teleport-pipe did not write: {entries}")]
    HoldsForeign {
        /// The destination.
        path: PathBuf,
        /// Some of their names.
        entries: Listing,
    },
    /// Permissions are in the way.
    #[error("user {uid} is not permitted to {doing} `{path}`")]
    NotPermitted {
        /// What was tried; completes the sentence.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Who we are.
        uid: u32,
    },
    /// The destination is another user's and open to others, and we cannot close it.
    #[error("the destination `{path}` belongs to user {owner} and is open to others, and user {uid} cannot close it")]
    SomeoneElses {
        /// The destination.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// The wanted owner cannot be had.
    #[error("user {uid} is not permitted to make {owner} the owner of `{path}`")]
    CannotChown {
        /// The file or directory.
        path: PathBuf,
        /// Who was to own it.
        owner: Owner,
        /// Who we are.
        uid: u32,
    },
    /// The file system is mounted read-only.
    #[error("`{path}` is on a read-only file system")]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// The file system is mounted noexec.
    #[error("programs cannot be started from `{path}`: its file system is mounted noexec")]
    NoExec {
        /// The destination.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space is left for `{path}`")]
    DiskFull {
        /// What was to be written.
        path: PathBuf,
    },
    /// The disk quota is used up.
    #[error("the disk quota is used up, there is no room for `{path}`")]
    Quota {
        /// What was to be written.
        path: PathBuf,
    },
    /// Another run held the lock until our deadline.
    #[error("another run was still writing to `{path}` when the time was up")]
    Busy {
        /// The destination.
        path: PathBuf,
    },
    /// Anything else that the system said.
    #[error("cannot {doing} `{path}`: {errno}")]
    Failed {
        /// What was tried; completes the sentence.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
}

impl Error {
    /// The error for what the system answered when we were `doing` something to `path`.
    pub(super) fn from_errno(doing: &'static str, path: &Path, errno: Errno) -> Self {
        let path = path.to_owned();
        match errno {
            Errno::ACCESS | Errno::PERM => Self::NotPermitted { doing, path, uid: us() },
            Errno::ROFS => Self::ReadOnly { path },
            Errno::NOSPC => Self::DiskFull { path },
            Errno::DQUOT => Self::Quota { path },
            errno => Self::Failed { doing, path, errno },
        }
    }
}

impl Explain for Error {
    fn likely_cause(&self) -> Option<String> {
        let cause = match self {
            Self::BadPath { .. } | Self::NotADirectory { .. } | Self::DiskFull { .. } | Self::Quota { .. } => {
                return None;
            }
            Self::NoWorkingDirectory { .. } => "The directory was removed, or is not mounted into this container.",
            Self::Symlink { .. } | Self::NotAFile { .. } => {
                "Something in this step or in the repository made it. A link could lead keys to where they are published."
            }
            Self::BadName { .. } => "File names are made from the clusters' names, and one of those is unusual.",
            Self::HoldsForeign { .. } => {
                "The destination is a directory that is used for something else, or a command of this step put files there."
            }
            Self::NotPermitted { uid: 0, .. } => {
                "Even root may not, so this container lacks a capability, or the file system is a network share that \
                 trusts no root."
            }
            Self::NotPermitted { .. } => "An earlier command made it as another user.",
            Self::SomeoneElses { .. } => {
                "An earlier command made it as another user, so its mode is not ours to change."
            }
            Self::CannotChown { .. } => "Only root gives files to another user, and only if the container lets it.",
            Self::ReadOnly { .. } => "The directory is mounted into this container as read-only.",
            Self::NoExec { .. } => {
                "The runner's own setup. ssh would have to start the ProxyCommand, which is put beside ssh_config."
            }
            Self::Busy { .. } => "Two steps or commands use the same destination, or a run before this one hangs.",
            Self::Failed { .. } => "The file system is unusual (a network share, for example) or damaged.",
        };
        Some(cause.to_owned())
    }

    fn what_to_do(&self) -> String {
        match self {
            Self::BadPath { .. } => "Name a directory of its own for the credentials, for example ./tbot-user.".into(),
            Self::NoWorkingDirectory { .. } => "Start it in a directory that exists.".into(),
            Self::Symlink { path } => without_symlink(path),
            Self::NotADirectory { .. } => "Remove it, or choose another destination.".into(),
            Self::NotAFile { .. } => "Find out what made it, remove it, and run this again.".into(),
            Self::BadName { .. } => {
                "Check that the proxy is the one you mean, and tell whoever runs its cluster.".into()
            }
            Self::HoldsForeign { .. } => {
                "Choose a destination that does not exist yet, or remove what is listed. Credentials get a directory \
                 of their own, so that it can be closed to others, ignored by git and removed afterwards."
                    .into()
            }
            Self::NotPermitted { uid, .. } => {
                format!("Let user {uid} write there, choose another destination, or run this as root, as a pipe is.")
            }
            Self::SomeoneElses { uid, .. } => format!(
                "Do not create the destination beforehand (it is made with the right mode), or create it as user {uid}."
            ),
            Self::CannotChown { .. } => "Run this as root, or do not ask for another owner.".into(),
            Self::ReadOnly { .. } => "Choose a destination that can be written, or mount it without `:ro`.".into(),
            Self::NoExec { .. } => "Choose a destination that is mounted without noexec, or have the runner mount the \
                                    clone directory without it. Where only the keys are wanted, `teleport-pipe start \
                                    identity` writes them all the same."
                .into(),
            Self::DiskFull { .. } => "Free some space, or choose a destination elsewhere; 10 MB are enough.".into(),
            Self::Quota { .. } => "Free some space, or choose a destination elsewhere that has another quota.".into(),
            Self::Busy { .. } => "Give each its own destination, or more time.".into(),
            Self::Failed { .. } => "Choose a destination on another file system.".into(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::BadPath { .. } | Self::NoWorkingDirectory { .. } => Exit::BadInput,
            _ => Exit::CannotWrite,
        }
    }

    fn anchor(&self) -> &'static str {
        match self {
            Self::BadPath { .. } => "the-destination-is-no-path",
            Self::NoWorkingDirectory { .. } => "the-working-directory-cannot-be-opened",
            Self::Symlink { .. } => "a-symbolic-link-in-the-destination",
            Self::NotADirectory { .. } => "the-destination-is-not-a-directory",
            Self::NotAFile { .. } => "one-of-our-names-is-taken",
            Self::BadName { .. } => "a-clusters-name-cannot-be-a-file-name",
            Self::HoldsForeign { .. } => "the-destination-holds-other-files",
            Self::NotPermitted { .. } | Self::SomeoneElses { .. } => "the-destination-belongs-to-someone-else",
            Self::CannotChown { .. } => "the-owner-cannot-be-changed",
            Self::ReadOnly { .. } => "the-destination-is-read-only",
            Self::NoExec { .. } => "programs-cannot-be-started-from-the-destination",
            Self::DiskFull { .. } | Self::Quota { .. } => "no-space-is-left",
            Self::Busy { .. } => "another-run-uses-the-destination",
            Self::Failed { .. } => "the-destination-cannot-be-written",
        }
    }
}

/// Who this process is to the file system.
pub(super) fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// How to name a destination without the link in it: links of the system (`/var/run`) are nobody's mistake.
fn without_symlink(link: &Path) -> String {
    match link.canonicalize() {
        Ok(real) => format!("Write `{}` instead of `{}`, or remove the link.", real.display(), link.display()),
        Err(_) => "Remove the link, or choose another destination.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::render;

    fn every() -> Vec<Error> {
        let path = || PathBuf::from("/clone/tbot-user");
        let errno = |errno| Error::from_errno("write to", &path(), errno);
        vec![
            Error::BadPath { shown: String::new(), reason: "is empty" },
            Error::NoWorkingDirectory { path: path(), errno: Errno::NOENT },
            Error::Symlink { path: path() },
            Error::NotADirectory { path: path() },
            Error::NotAFile { path: path(), kind: "a directory" },
            Error::BadName { shown: "a/b".into() },
            Error::HoldsForeign { path: path(), entries: Listing::default() },
            Error::NotPermitted { doing: "write to", path: path(), uid: 0 },
            Error::NotPermitted { doing: "write to", path: path(), uid: 1000 },
            Error::SomeoneElses { path: path(), owner: 0, uid: 1000 },
            Error::CannotChown { path: path(), owner: Owner { uid: 1, gid: None }, uid: 1000 },
            errno(Errno::ROFS),
            Error::NoExec { path: path() },
            errno(Errno::NOSPC),
            errno(Errno::DQUOT),
            Error::Busy { path: path() },
            errno(Errno::IO),
        ]
    }

    #[test]
    fn every_error_says_in_whole_sentences_what_to_do() {
        for error in every() {
            assert!(!error.to_string().ends_with('.'), "{error}");
            assert!(error.what_to_do().ends_with('.'), "{error}");
            assert!(error.advice().cause.is_empty() || error.advice().cause.ends_with('.'), "{error}");
            assert!(error.anchor().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{error}");
            assert!(!render(&error).contains("  \n"), "{error}");
        }
    }

    #[test]
    fn what_the_system_says_becomes_errors_of_their_own() {
        let of = |errno| Error::from_errno("write to", Path::new("/x"), errno);
        assert!(matches!(of(Errno::NOSPC), Error::DiskFull { .. }));
        assert!(matches!(of(Errno::DQUOT), Error::Quota { .. }));
        assert!(matches!(of(Errno::ROFS), Error::ReadOnly { .. }));
        assert!(matches!(of(Errno::ACCESS), Error::NotPermitted { .. }));
        assert!(matches!(of(Errno::PERM), Error::NotPermitted { .. }));
        assert!(matches!(of(Errno::IO), Error::Failed { errno: Errno::IO, .. }));
    }

    #[test]
    fn only_a_nonsensical_place_is_bad_input() {
        let bad_input = every().iter().filter(|error| error.exit() == Exit::BadInput).count();
        assert_eq!(bad_input, 2);
        assert!(every().iter().all(|error| matches!(error.exit(), Exit::BadInput | Exit::CannotWrite)));
    }
}
