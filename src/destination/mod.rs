//! Writing sets of files safely, or none of them.
//!
//! A destination is a directory for our files alone. [`Destination::check`] looks at it before the network is used,
//! [`write_all`] fills it when everything is fetched. No file is ever incomplete: each is written under a temporary name,
//! and only when all of them are complete are they renamed, in the order given. A killed run leaves the old files and
//! some temporary ones, or a directory with a `.gitignore`; the next run repairs both. A lock keeps runs apart. Symbolic
//! links are never followed.

mod check;
mod cleanup;
mod contents;
mod directory;
mod error;
mod file;
mod listing;
mod owner;
mod ownership;
mod path;
mod record;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use self::check::{Destination, UnknownFiles};
pub(crate) use self::cleanup::{Cleaned, cleanup};
#[cfg(test)]
pub(crate) use self::error::Error;
pub(crate) use self::file::File;
pub(crate) use self::listing::Listing;
pub(crate) use self::owner::Owner;
pub(crate) use self::write::{Written, expect_distinct, write_all};
