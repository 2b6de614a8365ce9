//! Taking away what a run wrote, and nothing else.

use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::error::Error;
use super::known_files::{Listing, gitignore};
use super::path::{DestinationPath, Found};
use super::record::Record;
use crate::output_files::{Class, GITIGNORE, RECORD, TEMPORARY, of_class};
use crate::retry::Deadline;

/// What came of a cleanup.
#[derive(Debug)]
pub(crate) struct Cleaned {
    /// The destination's path from the root.
    pub(crate) path: PathBuf,
    /// Whether there was a directory at all.
    pub(crate) found: bool,
    /// The files that were removed.
    pub(crate) removed: Vec<String>,
    /// Files that were written, and changed since: they stay.
    pub(crate) changed: Vec<String>,
    /// Whatever else stays.
    pub(crate) left: Listing,
    /// Directories that were removed.
    pub(crate) directories: usize,
}

/// Whether a directory has a record of what was written there.
pub(crate) fn was_written(path: &Path) -> bool {
    path.join(RECORD).is_file()
}

/// Removes what runs wrote to `path`, which may be relative to `working_dir`: files that are as they were written, what
/// a killed run left, and the directories that were made for them, if they are empty then. No link is followed.
///
/// # Errors
/// The path is none, another run is busy there until the deadline, or something may not be removed.
pub(crate) fn cleanup(working_dir: &Path, path: &Path, deadline: Deadline) -> Result<Cleaned, Error> {
    let place = DestinationPath::new(working_dir, path)?;
    let path = place.absolute().to_owned();
    let mut cleaned =
        Cleaned { path, found: false, removed: vec![], changed: vec![], left: Listing::default(), directories: 0 };
    let Found::Directory(dir) = place.find()? else { return Ok(cleaned) };
    cleaned.found = true;
    dir.lock(deadline, "cleanup")?;
    let record = Record::read(&dir);
    cleaned.empty(&dir, &record)?;
    if cleaned.changed.is_empty() && cleaned.left.is_empty() {
        // A run that was killed before it had a record had just made the directory, or been given an empty one.
        let killed = usize::from(record.made == 0 && record.names().is_empty() && !cleaned.removed.is_empty());
        cleaned.directories = place.remove(record.made.max(killed))?;
    }
    Ok(cleaned)
}

impl Cleaned {
    fn empty(&mut self, dir: &Directory, record: &Record) -> Result<(), Error> {
        // Private keys go first, because this may be killed at any point.
        let is_key = |name: &&str| of_class(Class::PrivateKey).any(|key| key == *name);
        let (secrets, others): (Vec<_>, Vec<_>) = record.names().into_iter().partition(is_key);
        for name in secrets.into_iter().chain(others).filter(|name| *name != GITIGNORE) {
            if record.knows(dir, name) {
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
        // While something stays that may be a key, git must go on to overlook it, and the next cleanup to know it.
        if self.changed.is_empty() {
            // What a run leaves that was killed before it had a record.
            let killed = Record::of(&[gitignore()]);
            if record.knows(dir, GITIGNORE) || (names(dir)? == [GITIGNORE] && killed.knows(dir, GITIGNORE)) {
                self.remove(dir, GITIGNORE)?;
            }
            if dir.has_file(RECORD)? {
                dir.remove(&[RECORD.to_owned()])?;
            }
        }
        let stays = |name: &String| !self.changed.contains(name) && ![GITIGNORE, RECORD].contains(&name.as_str());
        self.left = names(dir)?.into_iter().filter(|name| self.changed.is_empty() || stays(name)).collect();
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
    dir.each_name(|name| {
        names.push(name.to_string_lossy().into_owned());
        Ok(())
    })?;
    names.sort();
    Ok(names)
}
