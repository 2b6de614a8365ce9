//! Removing what runs wrote, and nothing else.

use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::error::Error;
use super::file::File;
use super::listing::Listing;
use super::path::{DestinationPath, Found};
use super::record::Record;
use crate::output_files::{Class, GITIGNORE, RECORD, TEMPORARY, of_class};
use crate::retry::Deadline;

#[derive(Debug)]
pub(crate) struct Cleaned {
    /// The destination's path from the root.
    pub(crate) path: PathBuf,
    /// Whether there was a directory at all.
    pub(crate) existed: bool,
    /// The files that were removed.
    pub(crate) removed: Vec<String>,
    /// Files that a run wrote and that were changed since. They stay.
    pub(crate) changed: Vec<String>,
    /// Everything else that stays.
    pub(crate) unknown: Listing,
    /// The number of directories that were removed.
    pub(crate) directories: usize,
}

/// Whether a run wrote to this directory.
pub(crate) fn has_record(path: &Path) -> bool {
    path.join(RECORD).is_file()
}

/// Removes what runs wrote to `path`, which may be relative to `working_dir`: unchanged files, incomplete files of a
/// killed run, and the directories that were created for them, if they are empty then. Follows no link.
///
/// # Errors
/// The path is invalid, another run holds the lock past the deadline, or a file cannot be removed.
pub(crate) async fn cleanup(working_dir: &Path, path: &Path, deadline: Deadline) -> Result<Cleaned, Error> {
    let destination = DestinationPath::new(working_dir, path)?;
    let mut cleaned = Cleaned {
        path: destination.absolute().to_owned(),
        existed: false,
        removed: vec![],
        changed: vec![],
        unknown: Listing::default(),
        directories: 0,
    };
    let Found::Directory(dir) = destination.find()? else { return Ok(cleaned) };
    cleaned.existed = true;
    dir.lock(deadline, "cleanup").await?;
    let record = Record::read(&dir);
    cleaned.remove_files(&dir, &record)?;
    if cleaned.changed.is_empty() && cleaned.unknown.is_empty() {
        // A run that was killed before it wrote the record had created the directory, or had found it empty.
        let killed = usize::from(record.created == 0 && record.names().is_empty() && !cleaned.removed.is_empty());
        cleaned.directories = destination.remove(record.created.max(killed))?;
    }
    Ok(cleaned)
}

impl Cleaned {
    fn remove_files(&mut self, dir: &Directory, record: &Record) -> Result<(), Error> {
        // Private keys go first, because the cleanup may be killed at any point.
        let is_key = |name: &&str| of_class(Class::PrivateKey).any(|key| key == *name);
        let (keys, others): (Vec<_>, Vec<_>) = record.names().into_iter().partition(is_key);
        for name in keys.into_iter().chain(others).filter(|name| *name != GITIGNORE) {
            if record.is_unchanged(dir, name) {
                self.remove(dir, name)?;
            } else if dir.has(name)? {
                self.changed.push(name.to_owned());
            }
        }
        for name in names(dir)?.iter().filter(|name| name.starts_with(TEMPORARY)) {
            if dir.has_file(name)? {
                self.remove(dir, name)?;
            }
        }
        // A file that stays may be a key: git must still ignore it, and the next cleanup must still have the record.
        if self.changed.is_empty() {
            // A run that was killed before it wrote the record leaves this file alone.
            let killed = Record::from_files(&[File::gitignore()]);
            if record.is_unchanged(dir, GITIGNORE)
                || (names(dir)? == [GITIGNORE] && killed.is_unchanged(dir, GITIGNORE))
            {
                self.remove(dir, GITIGNORE)?;
            }
            if dir.has_file(RECORD)? {
                dir.remove(&[RECORD.to_owned()])?;
            }
        }
        let is_unknown = |name: &String| !self.changed.contains(name) && ![GITIGNORE, RECORD].contains(&name.as_str());
        self.unknown = names(dir)?.into_iter().filter(|name| self.changed.is_empty() || is_unknown(name)).collect();
        Ok(())
    }

    fn remove(&mut self, dir: &Directory, name: &str) -> Result<(), Error> {
        dir.remove(&[name.to_owned()])?;
        self.removed.push(name.to_owned());
        Ok(())
    }
}

fn names(dir: &Directory) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    dir.for_each_name(|name| {
        names.push(name.to_string_lossy().into_owned());
        Ok(())
    })?;
    names.sort();
    Ok(names)
}
