//! The record of what was written to a destination, by content, so that a cleanup removes that and nothing else.
//!
//! It is a file beside the others, in the format of `sha256sum -c`. It is in place before the first file that it lists,
//! and as long as old files may still be there it lists those, too: whenever a run is killed, each file is one that the
//! record knows.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use super::File;
use super::directory::Directory;
use crate::output_files::RECORD;

/// Precedes the number of directories that were made.
const MADE: &str = "# Directories made: ";

/// What was written.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    /// How many directories were made for it: the destination, its parent, and so on.
    pub(super) made: usize,
    /// Digests in hex, and names.
    files: BTreeSet<(String, String)>,
}

impl Record {
    /// That of `dir`; an empty one where there is none, or none that can be understood.
    pub(super) fn read(dir: &Directory) -> Self {
        /// Far beyond any record of ours.
        const MOST: u64 = 1024 * 1024;
        let mut text = String::new();
        let file = dir.open_file(RECORD).ok();
        let read = file.and_then(|file| file.take(MOST).read_to_string(&mut text).ok());
        if read.is_some() { Self::parse(&text) } else { Self::default() }
    }

    fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for line in text.lines() {
            if let Some(made) = line.strip_prefix(MADE) {
                record.made = made.parse().unwrap_or(0);
            } else if let Some((digest, name)) = line.split_once("  ").filter(|(digest, _)| digest.len() == 64)
                && !leads_elsewhere(name)
            {
                record.files.insert((digest.to_owned(), name.to_owned()));
            }
        }
        record
    }

    /// Forgets what is no longer as it was written.
    pub(super) fn retain_unchanged(&mut self, dir: &Directory) {
        self.files.retain(|(digest, name)| digest_of(dir, name).as_ref() == Some(digest));
    }

    /// That of these files.
    pub(super) fn of(files: &[File]) -> Self {
        let mut record = Self::default();
        record.add(files);
        record
    }

    /// Adds files that are about to be written.
    pub(super) fn add(&mut self, files: &[File]) {
        self.files.extend(files.iter().map(|file| (hex(Sha256::digest(&file.contents)), file.name.clone())));
    }

    /// Whether the entry of that name is a file that was written, and as it was written.
    pub(super) fn knows(&self, dir: &Directory, name: &str) -> bool {
        digest_of(dir, name).is_some_and(|digest| self.files.contains(&(digest, name.to_owned())))
    }

    /// The names in it.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.files.iter().map(|(_, name)| name.as_str()).collect()
    }

    /// As a file.
    pub(super) fn file(&self) -> File {
        let mut text =
            format!("# What teleport-pipe wrote here and `teleport-pipe cleanup` removes.\n{MADE}{}\n", self.made);
        for (digest, name) in &self.files {
            let _ = writeln!(text, "{digest}  {name}");
        }
        File::private(RECORD, text)
    }
}

/// Whether a name is not that of an entry of the directory. Whoever can write there can write a record, too: it must
/// not make root look at, or remove, a file elsewhere.
fn leads_elsewhere(name: &str) -> bool {
    matches!(name, "" | "." | "..") || name.contains(['/', '\0'])
}

/// The digest of a regular file; `None` if it is none, cannot be read, or is larger than anything of ours: a sparse
/// file of terabytes is made in no time, and read in days.
fn digest_of(dir: &Directory, name: &str) -> Option<String> {
    const MOST: u64 = 1 << 29;
    let file = dir.open_file(name).ok()?;
    if file.metadata().ok()?.len() > MOST {
        return None;
    }
    let mut file = file.take(MOST);
    let mut digest = Sha256::new();
    std::io::copy(&mut file, &mut digest).ok()?;
    Some(hex(digest.finalize()))
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let files = [File::private("key", "k"), File::private("leaf.example.ssh_config", "")];
        let record = Record { made: 2, ..Record::of(&files) };
        let text = String::from_utf8(record.file().contents.clone()).unwrap();
        assert_eq!(Record::parse(&text), record);
        // printf k | sha256sum
        assert!(text.contains("8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a  key\n"), "{text}");
    }

    #[test]
    fn nonsense_is_no_record() {
        assert_eq!(Record::parse("key\n# Directories made: -1\nabc  key\n\u{0}"), Record::default());
    }

    #[test]
    fn a_record_knows_no_file_elsewhere() {
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
