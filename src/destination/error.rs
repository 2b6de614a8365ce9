//! Why credentials cannot be written.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::listing::Listing;
use super::owner::{Owner, effective_uid};
use crate::error::{Advice, Exit, Explain};
use crate::limits::DIRECTORY_ENTRIES;
use crate::shell;
use crate::text::sanitize;

/// No variant has contents of a file. `doing`, `kind` (with its article) and `reason` complete the sentence; `shown` is
/// safe to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the destination `{shown}` {reason}")]
    BadPath { shown: String, reason: &'static str },
    /// The directory that the destination is relative to.
    #[error("the working directory `{path}` cannot be opened: {errno}")]
    NoWorkingDirectory { path: PathBuf, errno: Errno },
    #[error("`{path}` is a symbolic link, and credentials are never written through one")]
    Symlink { path: PathBuf },
    #[error("`{path}` is not a directory")]
    NotADirectory { path: PathBuf },
    #[error("`{path}` is {kind}, but teleport-pipe has to write a file with this name")]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("`{shown}` cannot be the name of a file")]
    BadName { shown: String },
    #[error("the destination `{path}` holds files that teleport-pipe did not write: {entries}")]
    UnknownFiles { path: PathBuf, entries: Listing },
    #[error("the destination `{path}` holds {holds}, and {wanted} never lie beside them")]
    OtherPurpose { path: PathBuf, holds: &'static str, wanted: &'static str },
    #[error("user {uid} is not permitted to {doing} `{path}`")]
    NotPermitted { doing: &'static str, path: PathBuf, uid: u32 },
    #[error(
        "the destination `{path}` belongs to user {owner} and is open to others, and user {uid} cannot change that"
    )]
    OtherOwner { path: PathBuf, owner: u32, uid: u32 },
    #[error("user {uid} is not permitted to make {owner} the owner of `{path}`")]
    CannotChown { path: PathBuf, owner: Owner, uid: u32 },
    /// `root` is our user, by the numbers of the step.
    #[error("`{path}` belongs to a user of the step, and this container has other users")]
    OtherUsers { path: PathBuf, destination: PathBuf, root: Owner },
    /// `outside` is the owner by the numbers of the step.
    #[error("{owner} of the step cannot own `{path}`, because this container has other users")]
    OwnerOutside { path: PathBuf, owner: Owner, outside: Option<Owner> },
    #[error("`{path}` is on a read-only file system")]
    ReadOnly { path: PathBuf },
    #[error("programs cannot be started from `{path}`: its file system is mounted noexec")]
    NoExec { path: PathBuf },
    #[error("no space is left for `{path}`")]
    DiskFull { path: PathBuf },
    #[error("the disk quota is used up, there is no room for `{path}`")]
    Quota { path: PathBuf },
    /// The limit of a process (`RLIMIT_FSIZE`), or of a file system.
    #[error("`{path}` would be larger than files may be here")]
    FileSize { path: PathBuf },
    #[error("`{path}` holds more than {DIRECTORY_ENTRIES} files")]
    TooManyEntries { path: PathBuf },
    #[error("another run was still writing to `{path}` at the deadline")]
    Busy { path: PathBuf },
    /// Nothing was replaced.
    #[error("the work on the files in `{path}` was not done at the deadline")]
    Late { path: PathBuf },
    #[error("cannot {doing} `{path}`: {errno}")]
    Failed { doing: &'static str, path: PathBuf, errno: Errno },
}

impl Error {
    /// The error for what the system answers to `doing` something to `path`.
    pub(super) fn from_errno(doing: &'static str, path: &Path, errno: Errno) -> Self {
        let path = path.to_owned();
        match errno {
            Errno::ACCESS | Errno::PERM => Self::NotPermitted { doing, path, uid: effective_uid() },
            Errno::ROFS => Self::ReadOnly { path },
            Errno::NOSPC => Self::DiskFull { path },
            Errno::DQUOT => Self::Quota { path },
            Errno::FBIG => Self::FileSize { path },
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
                "Start teleport-pipe in a directory that exists.",
            )
            .cause("The directory was removed, or is not mounted into this container."),
            Self::Symlink { path } => {
                cannot_write("a-symbolic-link-in-the-destination", without_symlink(path)).cause(PLANTED)
            }
            Self::NotADirectory { .. } => {
                cannot_write("the-destination-is-not-a-directory", "Remove it, or choose another destination.")
            }
            Self::NotAFile { .. } => {
                cannot_write("one-of-our-names-is-taken", "Find out what created it, remove it, and run this again.")
                    .cause(PLANTED)
            }
            Self::BadName { .. } => cannot_write(
                "a-clusters-name-cannot-be-a-file-name",
                "Check that the proxy is the one you mean, and tell the administrator of its cluster.",
            )
            .cause("File names are made from the clusters' names, and one of those is unusual."),
            Self::UnknownFiles { .. } => cannot_write(
                "the-destination-holds-other-files",
                "Choose a destination that does not exist yet, or remove the listed files. Credentials get a \
                 directory of their own, so that it can be closed to others, ignored by git and removed afterwards.",
            )
            .cause(
                "The destination is a directory that is used for something else, or a command of this step put files \
                 there.",
            ),
            Self::OtherPurpose { .. } => cannot_write(
                "credentials-and-resources-in-one-destination",
                "Choose two destinations, for example ./tbot-user for the credentials and ./teleport for what inspect writes.",
            )
            .cause(
                "DESTINATION (--destination) is the same for credentials and for inspect. What inspect writes is made to be \
                 carried out of the step, and must not take keys along.",
            ),
            Self::NotPermitted { uid, .. } => cannot_write(
                BELONGS_TO_ANOTHER,
                format!("Let user {uid} write there, choose another destination, or run this as root, as pipes run."),
            )
            .cause(match uid {
                0 => {
                    "Even root is not permitted, so this container lacks a capability, or the file system is a network \
                     share that does not trust root."
                }
                _ => "An earlier command created it as another user.",
            }),
            Self::OtherOwner { uid, .. } => cannot_write(
                BELONGS_TO_ANOTHER,
                format!(
                    "Do not create the destination beforehand (teleport-pipe creates it with the right mode), or create it as user \
                     {uid}."
                ),
            )
            .cause("An earlier command created it as another user, and only that user can change its mode."),
            Self::CannotChown { .. } => {
                cannot_write("the-owner-cannot-be-changed", "Run this as root, or do not ask for another owner.")
                    .cause("Only root can give files to another user, and only if the container allows it.")
            }
            Self::OtherUsers { path, destination, root } => {
                cannot_write(OTHER_USERS, give_to(destination, *root, path == destination))
                    .cause(
                        "The engine runs the pipe in a user namespace, so that even root of the pipe is an ordinary user of \
                         the step.",
                    )
            }
            Self::OwnerOutside { owner, outside, .. } => cannot_write(
                OTHER_USERS,
                "Leave FILE_OWNER out if the step runs as root. If it runs as another user, run teleport-pipe in the step \
                 itself.",
            )
            .cause(match outside {
                Some(outside) => {
                    format!("The engine runs the pipe in a user namespace: what is {owner} here is {outside} of the step.")
                }
                None => format!("The engine runs the pipe in a user namespace that does not have {owner}."),
            }),
            Self::ReadOnly { .. } => cannot_write(
                "the-destination-is-read-only",
                "Choose a destination that can be written, or mount it without `:ro`.",
            )
            .cause("The directory is mounted into this container as read-only."),
            Self::NoExec { .. } => cannot_write(
                "programs-cannot-be-started-from-the-destination",
                "Choose a destination that is mounted without noexec, or have the runner mount the clone directory \
                 without it. If you need only the keys, `teleport-pipe start identity` writes them nevertheless.",
            )
            .cause("The runner is set up like this. ssh has to start the ProxyCommand, which is written beside ssh_config."),
            Self::DiskFull { .. } => {
                cannot_write(NO_SPACE, "Free some space, or choose a destination elsewhere; 10 MB are enough.")
            }
            Self::Quota { .. } => {
                cannot_write(NO_SPACE, "Free some space, or choose a destination elsewhere that has another quota.")
            }
            Self::FileSize { .. } => cannot_write(
                NO_SPACE,
                "Raise the limit of the size of files before this runs (`ulimit -f unlimited`), or choose a destination on \
                 another file system.",
            )
            .cause("A limit of the size of files (`ulimit -f`) is set for this process."),
            Self::TooManyEntries { .. } => cannot_write(
                "the-destination-holds-other-files",
                "Choose a destination that does not exist yet. Credentials get a directory of their own.",
            )
            .cause("The destination is a directory that is used for something else."),
            Self::Late { .. } => Advice::new(
                Exit::Network,
                "the-files-were-not-written-in-time",
                "Run the step again, or raise TIMEOUT (--timeout). If the destination holds large files, remove them.",
            )
            .cause("The disk is slow, most of TIMEOUT was spent on the network, or the destination holds large files."),
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
    "Something in this step or in the repository created it. A link could lead keys to a directory that is published.";
const BELONGS_TO_ANOTHER: &str = "the-destination-belongs-to-someone-else";
const OTHER_USERS: &str = "the-pipe-has-other-users-than-the-step";
const NO_SPACE: &str = "no-space-is-left";

fn cannot_write(anchor: &'static str, remedy: impl Into<Cow<'static, str>>) -> Advice {
    Advice::new(Exit::CannotWrite, anchor, remedy)
}

/// How a step gives a directory to our user, whose number in the step is `root`.
fn give_to(directory: &Path, root: Owner, exists: bool) -> String {
    let directory = shell::word(&sanitize(&directory.display().to_string()));
    let or = if exists { ", or do not create it beforehand" } else { "" };
    let (uid, gid) = (root.uid, root.gid.unwrap_or(root.uid));
    format!(
        "As root of the step, give the directory to root of the pipe before the pipe runs: \
         `mkdir -p {directory} && chown {uid}:{gid} {directory}`{or}."
    )
}

/// How to write the destination without the link in it: a link of the system (`/var/run`) is not a mistake of the user.
fn without_symlink(link: &Path) -> String {
    match link.canonicalize() {
        Ok(real) => {
            let [real, link] = [&real, link].map(|path| shell::word(&sanitize(&path.display().to_string())));
            format!("Write {real} instead of {link}, or remove the link.")
        }
        Err(_) => "Remove the link, or choose another destination.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_becomes_an_error() {
        let error = |errno| Error::from_errno("write to", Path::new("/x"), errno);
        assert!(matches!(error(Errno::NOSPC), Error::DiskFull { .. }));
        assert!(matches!(error(Errno::DQUOT), Error::Quota { .. }));
        assert!(matches!(error(Errno::FBIG), Error::FileSize { .. }));
        assert!(matches!(error(Errno::ROFS), Error::ReadOnly { .. }));
        assert!(matches!(error(Errno::ACCESS), Error::NotPermitted { .. }));
        assert!(matches!(error(Errno::PERM), Error::NotPermitted { .. }));
        assert!(matches!(error(Errno::IO), Error::Failed { errno: Errno::IO, .. }));
    }
}
