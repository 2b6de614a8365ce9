//! Removing what runs wrote, and nothing else.

use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::error::Error;
use super::file::File;
use super::listing::Listing;
use super::path::DestinationPath;
use super::record::Record;
use crate::output_files::{Class, GITIGNORE, RECORD, TEMPORARY, of_class};
use crate::retry::Deadline;

#[derive(Debug, Default)]
pub(crate) struct Cleaned {
    /// The path from the root.
    pub(crate) path: PathBuf,
    pub(crate) existed: bool,
    pub(crate) removed: Vec<String>,
    /// Files that a run wrote and that were changed since. They stay.
    pub(crate) changed: Vec<String>,
    /// Everything else that stays.
    pub(crate) unknown: Listing,
    /// The number of directories that were removed.
    pub(crate) directories: usize,
}

/// Removes what runs wrote to `path`, which may be relative to `working_dir`: unchanged files, incomplete files of a
/// killed run, and the directories that were created for them, if they are empty then. Follows no link.
pub(crate) async fn cleanup(working_dir: &Path, path: &Path, deadline: Deadline) -> Result<Cleaned, Error> {
    let destination = DestinationPath::new(working_dir, path)?;
    let mut cleaned = Cleaned { path: destination.absolute().to_owned(), ..Cleaned::default() };
    let (dir, true) = destination.find()? else { return Ok(cleaned) };
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
            let killed = Record::default().with(&[File::gitignore()]);
            if record.is_unchanged(dir, GITIGNORE)
                || (names(dir)? == [GITIGNORE] && killed.is_unchanged(dir, GITIGNORE))
            {
                self.remove(dir, GITIGNORE)?;
            }
            if dir.has_file(RECORD)? {
                dir.remove(RECORD)?;
            }
        }
        let is_unknown = |name: &String| !self.changed.contains(name) && ![GITIGNORE, RECORD].contains(&name.as_str());
        self.unknown = names(dir)?.into_iter().filter(|name| self.changed.is_empty() || is_unknown(name)).collect();
        Ok(())
    }

    fn remove(&mut self, dir: &Directory, name: &str) -> Result<(), Error> {
        dir.remove(name)?;
        self.removed.push(name.to_owned());
        Ok(())
    }
}

fn names(dir: &Directory) -> Result<Vec<String>, Error> {
    Ok(dir.names()?.iter().map(|name| name.to_string_lossy().into_owned()).collect())
}
