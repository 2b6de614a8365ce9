//! The record of what was written to a destination, with digests, so that a cleanup removes that and nothing else.
//!
//! It is a file in the destination, in the format of `sha256sum -c`. It is in place before the first file that it lists,
//! and it also lists the old files while they may still be there. So whenever a run is killed, the record has every file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use super::directory::{Directory, is_file_name};
use super::file::File;
use crate::output_files::RECORD;

/// Precedes the number of directories that were created.
const CREATED: &str = "# Directories made: ";

#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    /// The number of directories that were created: the destination, its parent, and so on.
    pub(super) created: usize,
    /// Digests in hex, and names.
    files: BTreeSet<(String, String)>,
}

impl Record {
    /// Reads the record in `dir`. It is empty if there is none, or none that is valid.
    pub(super) fn read(dir: &Directory) -> Self {
        /// Far above the size of any record of ours.
        const MAX_SIZE: u64 = 1024 * 1024;
        let mut text = String::new();
        let file = dir.open_file(RECORD).ok();
        match file.and_then(|file| file.take(MAX_SIZE).read_to_string(&mut text).ok()) {
            Some(_) => Self::parse(&text),
            None => Self::default(),
        }
    }

    fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for line in text.lines() {
            if let Some(created) = line.strip_prefix(CREATED) {
                record.created = created.parse().unwrap_or(0);
            } else if let Some((digest, name)) = line.split_once("  ").filter(|(digest, _)| digest.len() == 64)
                // Those who can write to the directory can write a record, too, and must not make root read or remove a
                // file elsewhere.
                && is_file_name(name)
            {
                record.files.insert((digest.to_owned(), name.to_owned()));
            }
        }
        record
    }

    /// Drops the files that were changed or removed since.
    pub(super) fn retain_unchanged(&mut self, dir: &Directory) {
        self.files.retain(|(digest, name)| digest_of(dir, name).as_ref() == Some(digest));
    }

    /// Adds files that are about to be written.
    pub(super) fn with(mut self, files: &[File]) -> Self {
        let entry = |file: &File| (format!("{:x}", Sha256::digest(&file.contents)), file.name.clone());
        self.files.extend(files.iter().map(entry));
        self
    }

    /// Whether the entry of this name is a file in the record, with the same contents.
    pub(super) fn is_unchanged(&self, dir: &Directory, name: &str) -> bool {
        digest_of(dir, name).is_some_and(|digest| self.files.contains(&(digest, name.to_owned())))
    }

    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.files.iter().map(|(_, name)| name.as_str()).collect()
    }

    pub(super) fn file(&self) -> File {
        let mut text = format!(
            "# What teleport-pipe wrote here and `teleport-pipe cleanup` removes.\n{CREATED}{}\n",
            self.created
        );
        for (digest, name) in &self.files {
            let _ = writeln!(text, "{digest}  {name}");
        }
        File::private(RECORD, text)
    }
}

/// The digest of a regular file. Returns `None` if it cannot be read, or is larger than any file of ours: a sparse file
/// of terabytes is created in no time, and reading it takes days.
fn digest_of(dir: &Directory, name: &str) -> Option<String> {
    const MAX_SIZE: u64 = 1 << 29;
    let file = dir.open_file(name).ok()?;
    if file.metadata().ok()?.len() > MAX_SIZE {
        return None;
    }
    let mut digest = Sha256::new();
    std::io::copy(&mut file.take(MAX_SIZE), &mut digest).ok()?;
    Some(format!("{:x}", digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_parsed_as_it_was_written() {
        let files = [File::private("key", "k"), File::private("leaf.example.ssh_config", "")];
        let record = Record { created: 2, ..Record::default().with(&files) };
        let text = String::from_utf8(record.file().contents.clone()).unwrap();
        assert_eq!(Record::parse(&text), record);
        // printf k | sha256sum
        assert!(text.contains("8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a  key\n"), "{text}");
    }

    #[test]
    fn an_invalid_record_is_empty() {
        assert_eq!(Record::parse("key\n# Directories made: -1\nabc  key\n\u{0}"), Record::default());
    }

    #[test]
    fn a_record_has_no_file_in_another_directory() {
        let digest = "0".repeat(64);
        for name in ["", ".", "..", "../key", "/key", "a/key", "a\0"] {
            assert_eq!(Record::parse(&format!("{digest}  {name}\n")), Record::default(), "{name:?}");
        }
        assert_eq!(Record::parse(&format!("{digest}  ..key\n")).names().len(), 1);
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let temp = tempfile::tempdir().unwrap();
        let huge = std::fs::File::create(temp.path().join("key")).unwrap();
        huge.set_len(1 << 40).unwrap();
        let dir = Directory::open(std::fs::File::open(temp.path()).unwrap(), temp.path().into()).unwrap();
        assert_eq!(digest_of(&dir, "key"), None);
    }
}
