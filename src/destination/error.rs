//! Why credentials cannot be written.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::listing::Listing;
use super::owner::{Owner, effective_uid};
use crate::error::{Advice, Exit, Explain};

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
            Errno::ACCESS | Errno::PERM => Self::NotPermitted { doing, path, uid: effective_uid() },
            Errno::ROFS => Self::ReadOnly { path },
            Errno::NOSPC => Self::DiskFull { path },
            Errno::DQUOT => Self::Quota { path },
            errno => Self::Failed { doing, path, errno },
        }
    }
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        match self {
            Self::BadPath { .. } => Advice::new(
                Exit::BadInput,
                "the-destination-is-no-path",
                "Name a directory of its own for the credentials, for example ./tbot-user.",
            ),
            Self::NoWorkingDirectory { .. } => Advice::new(
                Exit::BadInput,
                "the-working-directory-cannot-be-opened",
                "Start it in a directory that exists.",
            )
            .cause("The directory was removed, or is not mounted into this container."),
            Self::Symlink { path } => {
                cannot_write("a-symbolic-link-in-the-destination", without_symlink(path)).cause(PLANTED)
            }
            Self::NotADirectory { .. } => {
                cannot_write("the-destination-is-not-a-directory", "Remove it, or choose another destination.")
            }
            Self::NotAFile { .. } => {
                cannot_write("one-of-our-names-is-taken", "Find out what made it, remove it, and run this again.")
                    .cause(PLANTED)
            }
            Self::BadName { .. } => cannot_write(
                "a-clusters-name-cannot-be-a-file-name",
                "Check that the proxy is the one you mean, and tell whoever runs its cluster.",
            )
            .cause("File names are made from the clusters' names, and one of those is unusual."),
            Self::HoldsForeign { .. } => cannot_write(
                "the-destination-holds-other-files",
                "Choose a destination that does not exist yet, or remove what is listed. Credentials get a directory \
                 of their own, so that it can be closed to others, ignored by git and removed afterwards.",
            )
            .cause(
                "The destination is a directory that is used for something else, or a command of this step put files \
                 there.",
            ),
            Self::NotPermitted { uid, .. } => cannot_write(
                BELONGS_TO_ANOTHER,
                format!("Let user {uid} write there, choose another destination, or run this as root, as a pipe is."),
            )
            .cause(match uid {
                0 => {
                    "Even root may not, so this container lacks a capability, or the file system is a network share \
                     that trusts no root."
                }
                _ => "An earlier command made it as another user.",
            }),
            Self::SomeoneElses { uid, .. } => cannot_write(
                BELONGS_TO_ANOTHER,
                format!(
                    "Do not create the destination beforehand (it is made with the right mode), or create it as user \
                     {uid}."
                ),
            )
            .cause("An earlier command made it as another user, so its mode is not ours to change."),
            Self::CannotChown { .. } => {
                cannot_write("the-owner-cannot-be-changed", "Run this as root, or do not ask for another owner.")
                    .cause("Only root gives files to another user, and only if the container lets it.")
            }
            Self::ReadOnly { .. } => cannot_write(
                "the-destination-is-read-only",
                "Choose a destination that can be written, or mount it without `:ro`.",
            )
            .cause("The directory is mounted into this container as read-only."),
            Self::NoExec { .. } => cannot_write(
                "programs-cannot-be-started-from-the-destination",
                "Choose a destination that is mounted without noexec, or have the runner mount the clone directory \
                 without it. Where only the keys are wanted, `teleport-pipe start identity` writes them all the same.",
            )
            .cause("The runner's own setup. ssh would have to start the ProxyCommand, which is put beside ssh_config."),
            Self::DiskFull { .. } => {
                cannot_write(NO_SPACE, "Free some space, or choose a destination elsewhere; 10 MB are enough.")
            }
            Self::Quota { .. } => {
                cannot_write(NO_SPACE, "Free some space, or choose a destination elsewhere that has another quota.")
            }
            Self::Busy { .. } => {
                cannot_write("another-run-uses-the-destination", "Give each its own destination, or more time.")
                    .cause("Two steps or commands use the same destination, or a run before this one hangs.")
            }
            Self::Failed { .. } => {
                cannot_write("the-destination-cannot-be-written", "Choose a destination on another file system.")
                    .cause("The file system is unusual (a network share, for example) or damaged.")
            }
        }
    }
}

const PLANTED: &str =
    "Something in this step or in the repository made it. A link could lead keys to where they are published.";
const BELONGS_TO_ANOTHER: &str = "the-destination-belongs-to-someone-else";
const NO_SPACE: &str = "no-space-is-left";

fn cannot_write(anchor: &'static str, remedy: impl Into<Cow<'static, str>>) -> Advice {
    Advice::new(Exit::CannotWrite, anchor, remedy)
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
}
