//! The entries of a destination: ours and others.

use std::io::Read;

use super::directory::Directory;
use super::error::Error;
use super::listing::Listing;
use super::purpose::Purpose;
use super::record::Record;
use crate::output_files::{self, GITIGNORE, RECORD, is_resource};

#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) unknown_files: Listing,
    /// Incomplete files of a run that was killed.
    pub(super) temporaries: Vec<String>,
}

impl Contents {
    /// Reads `dir`. An entry that has one of our names and is not a regular file is an error: a rename would replace a
    /// planted symbolic link safely, but a planted link has a purpose.
    pub(super) fn read(dir: &Directory, purpose: Purpose) -> Result<Self, Error> {
        let mut contents = Self::default();
        let record = Record::read(dir).filter(|_| purpose == Purpose::Resources).unwrap_or_default();
        let is_of_purpose = |name: &str| match purpose {
            Purpose::Credentials => output_files::is_known(name) || is_of_cluster(dir, name),
            // A repository may have files of these names, which people write by hand, too.
            Purpose::Resources => name == RECORD || ((is_resource(name) || name == GITIGNORE) && record.has(name)),
        };
        let is_known = |name: &&str| dir.is_temporary(name) || is_of_purpose(name);
        for name in dir.names()? {
            let Some(known) = name.to_str().ok().filter(is_known) else {
                contents.unknown_files.push(&name.to_string_lossy());
                continue;
            };
            if dir.is_temporary(known) {
                contents.temporaries.push(known.to_owned());
            }
            dir.expect_file_or_nothing(known)?;
        }
        Ok(contents)
    }
}

/// Whether a file is one of a single cluster, by its name and its first line.
pub(super) fn is_of_cluster(dir: &Directory, name: &str) -> bool {
    output_files::is_of_cluster(name, || first_line(dir, name))
}

/// The first line of a file, cut after half a kilobyte: a cluster's name has at most 255 bytes.
fn first_line(dir: &Directory, name: &str) -> Option<String> {
    let mut head = Vec::new();
    dir.open_file(name).ok()?.take(512).read_to_end(&mut head).ok()?;
    String::from_utf8_lossy(&head).lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::output_files::FIRST_LINE;

    fn contents(files: &[(&str, &str)]) -> (Directory, Contents) {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(temp.path().join(name), text).unwrap();
        }
        let dir = Directory::open(fs::File::open(temp.path()).unwrap(), temp.path().into()).unwrap();
        fs::write(temp.path().join(dir.temporary_name(3)), "").unwrap();
        let contents = Contents::read(&dir, Purpose::Credentials).unwrap();
        (dir, contents)
    }

    #[test]
    fn unknown_files_are_listed() {
        let (_, contents) = contents(&[
            ("a.ssh_config", "Host *\n# Written by teleport-pipe"),
            ("b.known_hosts", ""),
            ("c.ssh_config", "# mine\n"),
            ("d.ssh_config", "Host d\n"),
            (".ssh_config", FIRST_LINE),
            ("leaf.ssh_config", FIRST_LINE),
            ("key", ""),
            // F9: a repository can have files of these names, but cannot know the directory's own number.
            (".teleport-pipe.tmp.3", ""),
            (".teleport-pipe.tmp.7-0.3", ""),
        ]);
        let unknown = contents.unknown_files.to_string();
        assert_eq!(
            unknown,
            ".ssh_config, .teleport-pipe.tmp.3, .teleport-pipe.tmp.7-0.3, a.ssh_config, b.known_hosts, c.ssh_config, d.ssh_config"
        );
    }

    #[test]
    fn the_files_of_a_killed_run_are_found() {
        let (dir, contents) = contents(&[]);
        assert_eq!(contents.temporaries, [dir.temporary_name(3)]);
        assert!(!dir.is_temporary(&format!("{}x", dir.temporary_name(3))));
    }
}
