//! Writing sets of files safely, or none of them.
//!
//! A destination is a directory for our files alone. [`Destination::check`] looks at it before the network is used,
//! [`write_all`] fills it when everything is fetched. No file is ever incomplete: each is written under a temporary name.
//! Only when all of them are complete are the old files removed that will change, those of ssh first, and then the new
//! ones are renamed, in the order given. So wherever a run is killed, it leaves the whole old set, or the whole new one,
//! or no `ssh_config` and never files of two runs. The next run and [`cleanup`] repair each of these states. A lock keeps
//! runs apart. Symbolic links are never followed.
//!
//! A record in the directory says what was written and what was made. It counts only if it names the directory that it
//! lies in, as nothing in a repository can ([`Identity`](identity::Identity)), so that a repository cannot have anything
//! removed.

mod budget;
mod check;
mod cleanup;
mod contents;
mod directory;
mod error;
mod file;
mod identity;
mod listing;
mod owner;
mod ownership;
mod path;
mod purpose;
mod record;
#[cfg(test)]
mod tests;
mod user_namespace;
mod write;

pub(crate) use self::check::{Destination, Expected, UnknownFiles};
pub(crate) use self::cleanup::{Cleaned, cleanup};
#[cfg(test)]
pub(crate) use self::error::Error;
pub(crate) use self::file::File;
pub(crate) use self::listing::Listing;
pub(crate) use self::owner::Owner;
pub(crate) use self::write::{Written, expect_distinct, write_all};
