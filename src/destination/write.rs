//! Writing sets of files to several destinations: all of them, or none.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::iter;
use std::path::Path;

use super::budget::Budget;
use super::check::{Destination, UnknownFiles};
use super::contents::is_of_cluster;
use super::directory::{Directory, Temporary, is_ssh_config};
use super::error::Error;
use super::file::File;
use super::identity::Identity;
use super::owner::Owner;
use super::ownership::Ownership;
use super::purpose::Purpose;
use super::record::Record;
use crate::output_files::{GITIGNORE, NETWORK, RECORD, is_resource};
use crate::retry::Deadline;
use crate::text::sanitize;

/// Whom the files belong to after a [`write_all`].
#[derive(Debug)]
pub(crate) struct Written {
    /// The owner of the directory, and most likely of everything in it.
    pub(crate) uid: u32,
    /// The number of the owner in the step, if that has other users than this container.
    pub(crate) user_of_step: Option<u32>,
    /// The owner was neither asked for nor declared by creating the directory.
    pub(crate) is_default_owner: bool,
    /// Another user who has files in the working directory, if the owner is the default one.
    pub(crate) other_user: Option<u32>,
}

/// Writes each set of files, in its order, to its destination: all sets, or none.
///
/// Locks all destinations, checks them, writes all files under temporary names, and only then [replaces](replace) the old
/// sets. If anything before that fails, or the deadline passes, the old files are there, the temporary files are not, and
/// directories that were created are gone again. The replacement itself fails only if the file system breaks at this
/// moment.
///
/// It waits for the locks, which other runs can hold for long, and for nothing else, so that dropping the future never
/// leaves half of the files behind.
///
/// The names of the files should be in [`output_files`](crate::output_files), or the next run takes the files for those
/// of others.
pub(crate) async fn write_all(sets: Vec<(&Destination, Vec<File>)>, deadline: Deadline) -> Result<Vec<Written>, Error> {
    let (destinations, files): (Vec<_>, Vec<_>) = sets.into_iter().unzip();
    let mut locked = lock_all(&destinations, deadline).await?;
    let directories = &mut locked.0;
    let plans = iter::zip(&*directories, files).map(|(dir, files)| dir.plan(files)).collect::<Result<Vec<_>, _>>()?;
    iter::zip(&mut *directories, &plans).try_for_each(|(dir, plan)| dir.prepare(plan))?;
    let staged = iter::zip(&*directories, &plans)
        .map(|(locked, plan)| locked.dir.stage(&plan.files, plan.ownership, &locked.budget))
        .collect::<Result<Vec<_>, _>>()?;
    directories.iter().for_each(|locked| locked.committed.set(true));
    replace(directories, &plans, &staged)?;
    iter::zip(&*directories, &plans).map(|(locked, plan)| locked.finish(plan)).collect()
}

/// Puts the new files in place of the old ones, so that files of two runs never lie beside each other, and there is no
/// `ssh_config` beside half of a set, wherever this is killed: the configurations of ssh are removed from all
/// destinations, then the other files that will change, and only then come the new files, `ssh_config` last. The record
/// is replaced before all of them; it lists the old files and the new ones.
fn replace(directories: &[Locked<'_>], plans: &[Plan], staged: &[Vec<Temporary<'_>>]) -> Result<(), Error> {
    let is_record = |temporary: &&Temporary<'_>| temporary.target == RECORD;
    staged.iter().flatten().filter(is_record).try_for_each(Temporary::rename)?;
    for configurations in [true, false] {
        for (locked, (plan, staged)) in iter::zip(directories, iter::zip(plans, staged)) {
            let changed = staged.iter().filter(|temporary| !is_record(temporary)).map(|temporary| temporary.target);
            let old = changed.chain(plan.stale.iter().map(String::as_str));
            old.filter(|name| is_ssh_config(name) == configurations).try_for_each(|name| locked.dir.remove(name))?;
        }
    }
    staged.iter().flatten().filter(|temporary| !is_record(temporary)).try_for_each(Temporary::rename)
}

/// Fails if two destinations are one directory, as far as their paths say. `write_all` also knows links.
pub(crate) fn expect_distinct<'a>(destinations: impl Iterator<Item = &'a Destination>) -> Result<(), Error> {
    let mut paths = BTreeSet::new();
    for path in destinations.map(Destination::absolute) {
        if !paths.insert(path) {
            return Err(same_directory(path));
        }
    }
    Ok(())
}

fn same_directory(path: &Path) -> Error {
    Error::BadPath { shown: sanitize(&path.to_string_lossy()), reason: "is the directory of two outputs" }
}

/// Destinations that no other run writes to. The last path is undone first, so that a directory which several of them
/// share is empty when it is removed.
struct LockedAll<'a>(Vec<Locked<'a>>);

impl Drop for LockedAll<'_> {
    fn drop(&mut self) {
        self.0.sort_by(|one, other| other.dir.path.cmp(&one.dir.path));
        self.0.clear();
    }
}

/// Locks the destinations in the order of their real paths, so that two runs with the same destinations never wait for
/// each other. Returns them in the order given.
async fn lock_all<'a>(destinations: &[&'a Destination], deadline: Deadline) -> Result<LockedAll<'a>, Error> {
    let mut order = Vec::new();
    for (n, destination) in destinations.iter().enumerate() {
        order.push((destination.path.real()?, n));
    }
    order.sort();
    if let Some([(path, _), _]) = order.array_windows().find(|[(one, _), (next, _)]| one == next) {
        return Err(same_directory(path));
    }
    let mut locked = LockedAll(Vec::new());
    for (_, n) in &order {
        locked.0.push(Locked::new(destinations[*n], deadline).await?);
    }
    let mut given: Vec<_> = iter::zip(order, locked.0.drain(..)).map(|((_, n), locked)| (n, locked)).collect();
    given.sort_by_key(|(n, _)| *n);
    locked.0.extend(given.into_iter().map(|(_, locked)| locked));
    Ok(locked)
}

/// A destination that no other run writes to. Dropping it undoes what it created, unless renames have begun.
struct Locked<'a> {
    destination: &'a Destination,
    dir: Directory,
    /// The directories that were created: the destination, its parent, and so on.
    made: Vec<Identity>,
    /// Files that are there before the others. They are removed in this order.
    early: Vec<&'static str>,
    budget: Budget,
    committed: Cell<bool>,
}

/// What will be written to a destination and removed from it.
struct Plan {
    files: Vec<File>,
    ownership: Ownership,
    /// Everything in the directory is ours.
    is_exclusive: bool,
    writes_gitignore: bool,
    /// The record while the new files are not there yet.
    record: File,
    temporaries: Vec<String>,
    stale: Vec<String>,
    is_default_owner: bool,
}

impl<'a> Locked<'a> {
    /// Creates the directory if necessary, and locks it.
    async fn new(destination: &'a Destination, deadline: Deadline) -> Result<Self, Error> {
        let ownership = destination.ownership(destination.path.working_dir_owner()?);
        loop {
            let (dir, made) = destination.path.create(ownership)?;
            let (budget, committed) = (Budget::new(deadline), Cell::new(false));
            let locked = Self { destination, dir, made, early: Vec::new(), budget, committed };
            locked.dir.lock(deadline, "write").await?;
            // While this waited, the other run may have removed the directory.
            if locked.dir.stat()?.st_nlink > 0 {
                return Ok(locked);
            }
            if deadline.is_over() {
                return Err(Error::Busy { path: locked.dir.path.clone() });
            }
        }
    }

    /// Checks the directory and decides what to do. Changes nothing.
    fn plan(&self, files: Vec<File>) -> Result<Plan, Error> {
        let dir = &self.dir;
        let contents = self.destination.check_directory(dir)?;
        self.expect_replaceable(&files)?;
        let is_exclusive = contents.unknown_files.is_empty();
        let writes_gitignore =
            is_exclusive && (self.destination.unknown_files == UnknownFiles::Refuse || !dir.has(GITIGNORE)?);
        let old = self.old_record()?;
        self.expect_unchanged(&old, &files)?;
        let stale = self.stale(&old, &files)?;
        let before = if writes_gitignore { old.with(&[File::gitignore()]) } else { old };
        Ok(Plan {
            is_default_owner: self.destination.owner.is_none() && !before.made.is_empty(),
            record: before.file(&dir.identity),
            files: iter::once(before.with(&files).file(&dir.identity)).chain(files).collect(),
            // The directory has its owner by now: the user who created it, or the one that we gave it to.
            ownership: self.destination.ownership(Owner::from_stat(&dir.stat()?)),
            is_exclusive,
            writes_gitignore,
            temporaries: contents.temporaries,
            stale,
        })
    }

    /// What earlier runs wrote and is unchanged, and the directories that they or this run created.
    fn old_record(&self) -> Result<Record, Error> {
        let mut record = Record::read(&self.dir).unwrap_or_default();
        record.retain_unchanged(&self.dir, &self.budget)?;
        if !self.made.is_empty() {
            record.made = self.made.clone();
        }
        Ok(record)
    }

    /// Fails if one of the files cannot be written.
    fn expect_replaceable(&self, files: &[File]) -> Result<(), Error> {
        files.iter().try_for_each(|file| {
            self.budget.expect_time(&self.dir.path)?;
            self.dir.expect_file_or_nothing(&file.name)
        })
    }

    /// Fails if resources would replace files that are not those of an earlier run. `record` has only files that are
    /// unchanged.
    fn expect_unchanged(&self, record: &Record, files: &[File]) -> Result<(), Error> {
        if self.destination.purpose == Purpose::Credentials {
            return Ok(());
        }
        let mut changed = Vec::new();
        for file in files {
            if self.dir.has(&file.name)? && !record.has(&file.name) {
                changed.push(file.name.clone());
            }
        }
        match changed.is_empty() {
            true => Ok(()),
            false => Err(Error::UnknownFiles { path: self.dir.path.clone(), entries: changed.into_iter().collect() }),
        }
    }

    /// Makes the directory private, cleans up after a run that was killed, and writes the record, by which a cleanup
    /// knows what this run made, and the `.gitignore`, which has to be there before a key is.
    fn prepare(&mut self, plan: &Plan) -> Result<(), Error> {
        let dir = &self.dir;
        if plan.is_exclusive {
            dir.make_private(plan.ownership)?;
        }
        plan.temporaries.iter().try_for_each(|name| dir.remove(name))?;
        let [has_record, has_gitignore] = [dir.has(RECORD)?, dir.has(GITIGNORE)?];
        let mut first = Vec::new();
        if !has_record {
            first.push(plan.record.clone());
        }
        if plan.writes_gitignore {
            first.push(File::gitignore());
        }
        let is_new = |name: &&str| if *name == RECORD { !has_record } else { plan.writes_gitignore && !has_gitignore };
        self.early = [GITIGNORE, RECORD].into_iter().filter(is_new).collect();
        dir.stage(&first, plan.ownership, &self.budget)?.iter().try_for_each(Temporary::rename)
    }

    fn finish(&self, plan: &Plan) -> Result<Written, Error> {
        self.dir.sync()?;
        let uid = self.dir.stat()?.st_uid;
        let user_of_step = self.destination.user_of_step(uid);
        // Who has files there is not known if the step has other users.
        let other_user = (plan.is_default_owner && user_of_step.is_none())
            .then(|| self.destination.path.other_user_in_working_dir(uid))
            .flatten();
        Ok(Written { uid, user_of_step, is_default_owner: plan.is_default_owner, other_user })
    }

    /// Files that an earlier run wrote and this one does not. They would go on to be used. `record` has only files that
    /// are unchanged.
    fn stale(&self, record: &Record, files: &[File]) -> Result<Vec<String>, Error> {
        let written: BTreeSet<_> = files.iter().map(|file| file.name.as_str()).collect();
        let is_written = |name: &str| written.contains(name);
        let is_outdated = |name: &&str| {
            !is_written(name)
                && match self.destination.purpose {
                    // The files of a cluster that is not trusted any more.
                    Purpose::Credentials => is_of_cluster(&self.dir, name),
                    // Resources in another format.
                    Purpose::Resources => is_resource(name),
                }
        };
        let mut stale: Vec<_> = record.names().filter(is_outdated).map(str::to_owned).collect();
        if self.dir.has(NETWORK)? {
            // tbot has no file of this name, so in a directory that is not ours alone it may be another program's.
            let is_exclusive = self.destination.unknown_files == UnknownFiles::Refuse;
            match (is_written(NETWORK), is_exclusive || record.has(NETWORK)) {
                (true, false) => {
                    let path = self.dir.path.join(NETWORK);
                    return Err(Error::NotAFile { path, kind: "a file of another program" });
                }
                (false, true) => stale.push(NETWORK.to_owned()),
                (true, true) | (false, false) => {}
            }
        }
        Ok(stale)
    }
}

impl Drop for Locked<'_> {
    /// Removes a directory only under its lock, or another run could write to a directory that was removed.
    fn drop(&mut self) {
        let is_there = || self.dir.stat().is_ok_and(|stat| stat.st_nlink > 0);
        if self.committed.get() || !self.dir.try_lock() || !is_there() {
            return;
        }
        for name in &self.early {
            let _ = self.dir.remove(name);
        }
        let _ = self.destination.path.remove(&self.made);
    }
}
