//! Removing what runs wrote, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::budget::Budget;
use super::directory::Directory;
use super::error::Error;
use super::listing::Listing;
use super::path::DestinationPath;
use super::record::Record;
use crate::output_files::{Class, GITIGNORE, RECORD, of_class};
use crate::retry::Deadline;

#[derive(Debug, Default)]
pub(crate) struct Cleaned {
    /// The path from the root.
    pub(crate) path: PathBuf,
    pub(crate) existed: bool,
    /// There is a record that was made for another directory, so that nothing in it counts.
    pub(crate) is_copy: bool,
    pub(crate) removed: Vec<String>,
    /// Files that a run wrote and that were changed since. They stay.
    pub(crate) changed: BTreeSet<String>,
    /// Everything else that stays.
    pub(crate) unknown: Listing,
    /// The number of directories that were removed.
    pub(crate) directories: usize,
}

/// Removes what runs wrote to `path`, which may be relative to `working_dir`: unchanged files, incomplete files of a
/// killed run, and the directories that were created for them, if they are empty then. Follows no link. Removes nothing
/// on the word of a record that was not made for this directory: it came with the repository, or is a copy.
pub(crate) async fn cleanup(working_dir: &Path, path: &Path, deadline: Deadline) -> Result<Cleaned, Error> {
    let destination = DestinationPath::new(working_dir, path)?;
    let mut cleaned = Cleaned { path: destination.absolute().to_owned(), ..Cleaned::default() };
    let (dir, true) = destination.find()? else { return Ok(cleaned) };
    cleaned.existed = true;
    dir.lock(deadline, "cleanup").await?;
    let record = Record::read(&dir);
    cleaned.is_copy = record.is_none() && dir.has_file(RECORD)?;
    cleaned.remove_files(&dir, record.as_ref(), &Budget::new(deadline))?;
    if cleaned.changed.is_empty() && cleaned.unknown.is_empty() {
        cleaned.directories = destination.remove(&record.unwrap_or_default().made)?;
    }
    Ok(cleaned)
}

impl Cleaned {
    fn remove_files(&mut self, dir: &Directory, record: Option<&Record>, budget: &Budget) -> Result<(), Error> {
        if let Some(record) = record {
            self.remove_recorded(dir, record, budget)?;
        }
        for name in names(dir)?.iter().filter(|name| dir.is_temporary(name)) {
            budget.expect_time(&dir.path)?;
            if dir.has_file(name)? {
                self.remove(dir, name)?;
            }
        }
        // A file that stays may be a key: git must still ignore it, and the next cleanup must still have the record.
        if let Some(record) = record.filter(|_| self.changed.is_empty()) {
            if record.is_unchanged(dir, GITIGNORE, budget)? {
                self.remove(dir, GITIGNORE)?;
            }
            dir.remove(RECORD)?;
        }
        let is_unknown = |name: &String| !self.changed.contains(name) && ![GITIGNORE, RECORD].contains(&name.as_str());
        self.unknown = names(dir)?.into_iter().filter(|name| self.changed.is_empty() || is_unknown(name)).collect();
        Ok(())
    }

    /// Removes the files in the record, except for those that were changed and the `.gitignore`.
    fn remove_recorded(&mut self, dir: &Directory, record: &Record, budget: &Budget) -> Result<(), Error> {
        // Private keys go first, because the cleanup may be killed at any point.
        let is_key = |name: &&str| of_class(Class::PrivateKey).any(|key| key == *name);
        let (keys, others): (Vec<_>, Vec<_>) = record.names().partition(is_key);
        for name in keys.into_iter().chain(others).filter(|name| *name != GITIGNORE) {
            budget.expect_time(&dir.path)?;
            if record.is_unchanged(dir, name, budget)? {
                self.remove(dir, name)?;
            } else if dir.has(name)? {
                self.changed.insert(name.to_owned());
            }
        }
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
