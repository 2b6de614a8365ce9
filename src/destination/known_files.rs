//! Which entries of a destination are ours.

use std::fmt;
use std::io::Read;

use super::File;
use super::directory::Directory;
use super::error::Error;
use crate::output_files::{self, GITIGNORE, TEMPORARY};
use crate::text::sanitize;

/// The file of that name: all that is in the destination is overlooked.
pub(super) fn gitignore() -> File {
    File::private(GITIGNORE, "*\n")
}

/// Some names of entries, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    shown: Vec<String>,
    total: usize,
}

impl Listing {
    /// As many names as fit on a line or two of a log.
    const MOST: usize = 8;

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn push(&mut self, name: &str) {
        if self.shown.len() < Self::MOST {
            self.shown.push(sanitize(name));
            self.shown.sort();
        }
        self.total += 1;
    }
}

impl FromIterator<String> for Listing {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        let mut listing = Self::default();
        names.into_iter().for_each(|name| listing.push(&name));
        listing
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown.join(", "))?;
        match self.total - self.shown.len() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// What a directory holds, by whose it is.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Entries that are not ours.
    pub(super) unknown_files: Listing,
    /// What a killed run left.
    pub(super) temporaries: Vec<String>,
}

impl Contents {
    /// Looks through `dir`. Something that has one of our names and is no regular file is an error: a rename would
    /// replace a planted symlink safely, but nobody plants one without a purpose.
    pub(super) fn of(dir: &Directory) -> Result<Self, Error> {
        let mut contents = Self::default();
        dir.each_name(|name| match name.to_str().ok().filter(|name| is_ours(dir, name)) {
            None => {
                contents.unknown_files.push(&name.to_string_lossy());
                Ok(())
            }
            Some(ours) => {
                if ours.starts_with(TEMPORARY) {
                    contents.temporaries.push(ours.to_owned());
                }
                dir.expect_file_or_nothing(ours)
            }
        })?;
        Ok(contents)
    }
}

fn is_ours(dir: &Directory, name: &str) -> bool {
    output_files::is_known(name) || is_of_a_cluster(dir, name)
}

pub(super) fn is_of_a_cluster(dir: &Directory, name: &str) -> bool {
    output_files::is_of_cluster(name, || first_line(dir, name))
}

/// The first line of a file, or what of it is in the first half kilobyte (a cluster's name has 255 bytes at most).
fn first_line(dir: &Directory, name: &str) -> Option<String> {
    let mut head = Vec::new();
    dir.open_file(name).ok()?.take(512).read_to_end(&mut head).ok()?;
    String::from_utf8_lossy(&head).lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::output_files::FIRST_LINE;

    fn contents(files: &[(&str, &str)]) -> Contents {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(temp.path().join(name), text).unwrap();
        }
        Contents::of(&opened(temp.path())).unwrap()
    }

    fn opened(path: &Path) -> Directory {
        Directory::open(fs::File::open(path).unwrap(), path.to_owned()).unwrap()
    }

    #[test]
    fn other_files_of_that_name_are_foreign() {
        let unknown = contents(&[
            ("a.ssh_config", "Host *\n# Written by teleport-pipe"),
            ("b.known_hosts", ""),
            ("c.ssh_config", "# mine\n"),
            ("d.ssh_config", "Host d\n"),
            (".ssh_config", FIRST_LINE),
            ("leaf.ssh_config", FIRST_LINE),
        ]);
        assert_eq!(
            unknown.unknown_files.to_string(),
            ".ssh_config, a.ssh_config, b.known_hosts, c.ssh_config, d.ssh_config"
        );
    }

    #[test]
    fn what_a_killed_run_left_is_found() {
        assert_eq!(contents(&[(".teleport-pipe.tmp.3", "")]).temporaries, [".teleport-pipe.tmp.3"]);
    }

    #[test]
    fn a_listing_is_bounded_and_fit_for_a_log() {
        let names = (0..11).map(|n| format!("{n}\u{1b}[31m")).collect::<Vec<_>>();
        let listing = contents(&names.iter().map(|name| (&**name, "")).collect::<Vec<_>>()).unknown_files.to_string();
        assert!(listing.ends_with(", and 3 more"), "{listing}");
        assert!(!listing.contains('\u{1b}'), "{listing}");
    }
}
