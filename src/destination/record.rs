//! The record of what was written to a destination, with digests, so that a cleanup removes that and nothing else.
//!
//! It is a file in the destination, in the format of `sha256sum -c`. It is in place before the first file that it lists,
//! and it also lists the old files while they may still be there. So whenever a run is killed, the record has every file.
//!
//! A repository can have such a file, too. So it counts only if its second line has the [`Identity`] of the directory
//! that it lies in, and even then it costs no more than a [`Budget`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;

use ring::digest::{Context, Digest, SHA256, digest};

use super::budget::Budget;
use super::directory::{Directory, is_file_name};
use super::error::Error;
use super::file::File;
use super::identity::Identity;
use crate::limits::{OUTPUT_SIZE, PROGRAM_SIZE, RECORD_SIZE};
use crate::output_files::{BINARY, RECORD};

const TITLE: &str = "# What teleport-pipe wrote here and `teleport-pipe cleanup` removes.";

/// Precedes the identity of the directory that the record was made for.
const DIRECTORY: &str = "# This directory: ";

/// Precedes the identity of a directory that was created.
const MADE: &str = "# Made: ";

#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    /// The directories that were created: the destination, its parent, and so on.
    pub(super) made: Vec<Identity>,
    /// Names, each with its digests in hex: a file may be the one of the last run or the one before it.
    files: BTreeMap<String, BTreeSet<String>>,
}

impl Record {
    /// Reads the record in `dir`. Returns `None` if there is none that was made for this directory.
    pub(super) fn read(dir: &Directory) -> Option<Self> {
        let mut text = String::new();
        let file = dir.open_file(RECORD).ok()?;
        let length = file.take(RECORD_SIZE + 1).read_to_string(&mut text).ok()?;
        (length as u64 <= RECORD_SIZE).then(|| Self::parse(&text, &dir.identity))?
    }

    fn parse(text: &str, directory: &Identity) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let mut record = Self::default();
        // One line, and not any of many, or a record could try all numbers.
        lines.next()?.strip_prefix(DIRECTORY).filter(|made_for| Identity::from_record(made_for) == *directory)?;
        for line in lines {
            if let Some(made) = line.strip_prefix(MADE) {
                record.made.push(Identity::from_record(made));
            } else if let Some((digest, name)) = line.split_once("  ").filter(|(digest, _)| digest.len() == 64)
                // Those who can write to the directory can write a record, too, and must not make root read or remove a
                // file elsewhere.
                && is_file_name(name)
            {
                record.insert(name, digest.to_owned());
            }
        }
        Some(record)
    }

    fn insert(&mut self, name: &str, digest: String) {
        self.files.entry(name.to_owned()).or_default().insert(digest);
    }

    /// Drops the files that were changed or removed since.
    pub(super) fn retain_unchanged(&mut self, dir: &Directory, budget: &Budget) -> Result<(), Error> {
        for (name, digests) in std::mem::take(&mut self.files) {
            if let Some(digest) = digest_of(dir, &name, budget)?.filter(|digest| digests.contains(digest)) {
                self.insert(&name, digest);
            }
        }
        Ok(())
    }

    /// Adds files that are about to be written.
    pub(super) fn with(mut self, files: &[File]) -> Self {
        files.iter().for_each(|file| self.insert(&file.name, hexadecimal(digest(&SHA256, &file.contents))));
        self
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Whether the entry of this name is a file in the record, with the same contents.
    pub(super) fn is_unchanged(&self, dir: &Directory, name: &str, budget: &Budget) -> Result<bool, Error> {
        let Some(digests) = self.files.get(name) else { return Ok(false) };
        Ok(digest_of(dir, name, budget)?.is_some_and(|digest| digests.contains(&digest)))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The file for the directory of this identity.
    pub(super) fn file(&self, directory: &Identity) -> File {
        let mut text = format!("{TITLE}\n{DIRECTORY}{directory}\n");
        for made in &self.made {
            let _ = writeln!(text, "{MADE}{made}");
        }
        for (name, digests) in &self.files {
            for digest in digests {
                let _ = writeln!(text, "{digest}  {name}");
            }
        }
        File::private(RECORD, text)
    }
}

/// As `sha256sum` writes it.
fn hexadecimal(digest: Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of a regular file. Returns `None` if it cannot be read, is larger than any file of ours of this name (a
/// sparse file of terabytes is created in no time, and reading it takes days), or is too large for what is left of the
/// budget.
fn digest_of(dir: &Directory, name: &str, budget: &Budget) -> Result<Option<String>, Error> {
    let limit = if name == BINARY { PROGRAM_SIZE } else { OUTPUT_SIZE };
    let Ok(mut file) = dir.open_file(name) else { return Ok(None) };
    let Some(length) = file.metadata().ok().map(|meta| meta.len()).filter(|length| *length <= limit) else {
        return Ok(None);
    };
    if !budget.spend(length) {
        return Ok(None);
    }
    let (mut digest, mut buffer, mut left) = (Context::new(&SHA256), vec![0; 1 << 16], length);
    loop {
        budget.expect_time(&dir.path)?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hexadecimal(digest.finish()))),
            // A file that grows while it is read is not ours.
            Ok(read) if read as u64 <= left => {
                digest.update(&buffer[..read]);
                left -= read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::DIGESTED_SIZE;
    use crate::retry::Deadline;

    fn budget() -> Budget {
        Budget::new(Deadline::after(Duration::from_secs(60)))
    }

    fn open(temp: &tempfile::TempDir) -> Directory {
        Directory::open(std::fs::File::open(temp.path()).unwrap(), temp.path().into()).unwrap()
    }

    /// Writes a file of this length, and `record` below the right first lines.
    fn planted(length: u64, record: &str) -> (tempfile::TempDir, Directory) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::File::create(temp.path().join("key")).unwrap().set_len(length).unwrap();
        let dir = open(&temp);
        let text = format!("{TITLE}\n{DIRECTORY}{}\n{record}", dir.identity);
        std::fs::write(temp.path().join(RECORD), text).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_record_is_parsed_as_it_was_written() {
        let files = [File::private("key", "k"), File::private("leaf.example.ssh_config", "")];
        let [here, parent] = ["7-1.5", "9-1.4"].map(Identity::from_record);
        let record = Record { made: vec![here.clone(), parent], ..Record::default().with(&files) };
        let text = String::from_utf8(record.file(&here).contents.clone()).unwrap();
        assert_eq!(Record::parse(&text, &here), Some(record));
        // printf k | sha256sum
        assert!(text.contains("8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a  key\n"), "{text}");
    }

    /// F9: it came with the repository, or was copied from another directory.
    #[test]
    fn a_record_that_was_not_made_for_the_directory_does_not_count() {
        let here = Identity::from_record("7-1.5");
        let all: String = (0..9).map(|n| format!("{DIRECTORY}{n}-1.5\n")).collect();
        for text in ["", "key\n", "# Directories made: 2\n", "\n# This directory: 8-1.5\n", &all] {
            assert_eq!(Record::parse(&format!("{TITLE}\n{text}"), &here), None, "{text}");
        }
    }

    #[test]
    fn a_record_has_no_file_in_another_directory() {
        let here = Identity::from_record("7-1.5");
        let text = |name: &str| format!("{TITLE}\n{DIRECTORY}{here}\n{:064}  {name}\n", 0);
        for name in ["", ".", "..", "../key", "/key", "a/key", "a\0"] {
            assert_eq!(Record::parse(&text(name), &here), Some(Record::default()), "{name:?}");
        }
        assert_eq!(Record::parse(&text("..key"), &here).unwrap().names().count(), 1);
    }

    /// F2: neither ten thousand lines of one file nor files that are larger than ours are read.
    #[test]
    fn what_is_digested_is_bounded() {
        let lines: String = (0..10_000).map(|n| format!("{n:064x}  key\n")).collect();
        let (_temp, dir) = planted(OUTPUT_SIZE, &lines);
        let (mut record, budget) = (Record::read(&dir).unwrap(), budget());
        record.retain_unchanged(&dir, &budget).unwrap();
        assert!(record == Record::default());
        // It was read once.
        assert!(budget.spend(DIGESTED_SIZE - OUTPUT_SIZE) && !budget.spend(1));
        // Nothing is left for a second time.
        assert_eq!(digest_of(&dir, "key", &budget).unwrap(), None);

        let (_temp, dir) = planted(1 << 40, "");
        assert_eq!(digest_of(&dir, "key", &self::budget()).unwrap(), None);
        let (_temp, dir) = planted(0, &lines.repeat(4));
        assert_eq!(Record::read(&dir), None, "2.8 MB");
    }

    /// F2: the deadline of the run holds while files are digested.
    #[test]
    fn nothing_is_digested_after_the_deadline() {
        let (_temp, dir) = planted(1, "");
        let budget = Budget::new(Deadline::after(Duration::ZERO));
        assert!(matches!(digest_of(&dir, "key", &budget), Err(Error::Late { .. })));
    }
}
