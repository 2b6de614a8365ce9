//! What a destination guarantees, on real file systems.

mod order;
mod refused;
mod several;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};

use super::directory::Directory;
use super::*;
use crate::output_files::RECORD;
use crate::retry::Deadline;

/// A working directory that other users may enter.
struct Work(tempfile::TempDir);

impl Work {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        set_mode(temp.path(), 0o755);
        Self(temp)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mkdir(&self, name: &str, mode: u32) -> PathBuf {
        fs::create_dir(self.path(name)).unwrap();
        set_mode(&self.path(name), mode);
        self.path(name)
    }

    fn check_as(&self, unknown_files: UnknownFiles, owner: Option<&str>) -> Result<Destination, Error> {
        let owner = owner.map(|owner| owner.parse().unwrap());
        Destination::check(self.0.path(), Path::new("tbot-user"), unknown_files, owner)
    }

    fn check(&self) -> Result<Destination, Error> {
        self.check_as(UnknownFiles::Refuse, None)
    }

    /// A whole run.
    fn run(&self, tag: &str) -> Result<(), Error> {
        write(&self.check()?, set(tag), soon()).map(drop)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("tbot-user").join(name)).unwrap()
    }

    fn meta(&self, name: &str) -> fs::Metadata {
        fs::symlink_metadata(self.path("tbot-user").join(name)).unwrap()
    }

    /// Names and modes of all entries of the destination.
    fn listing(&self) -> BTreeSet<(String, u32)> {
        let entries = fs::read_dir(self.path("tbot-user")).unwrap().map(Result::unwrap);
        entries.map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().mode() & 0o7777)).collect()
    }

    /// The destination, which is there.
    fn directory(&self) -> Directory {
        let path = self.path("tbot-user");
        Directory::open(fs::File::open(&path).unwrap(), path).unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.listing().into_iter().map(|(name, _)| name).collect()
    }
}

/// Records what is created, removed and renamed in directories.
struct Watch {
    inotify: OwnedFd,
    names: BTreeMap<i32, String>,
    /// The beginning of the names of temporary files, each with its directory.
    temporaries: Vec<String>,
}

impl Watch {
    fn new(directories: &[&Path]) -> Self {
        let inotify = init(CreateFlags::NONBLOCK).unwrap();
        let (mut names, mut temporaries) = (BTreeMap::new(), Vec::new());
        for path in directories {
            let events = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
            let watch = add_watch(&inotify, *path, events).unwrap();
            names.insert(watch, path.file_name().unwrap().to_str().unwrap().to_owned());
            let dir = Directory::open(fs::File::open(path).unwrap(), (*path).into()).unwrap();
            temporaries.push(dir.temporary_name(0).trim_end_matches('0').to_owned());
        }
        Self { inotify, names, temporaries }
    }

    /// What happened since the last call: directory, action and name. A temporary file has a short name.
    fn changes(&self) -> Vec<(String, &'static str, String)> {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut seen = Vec::new();
        while let Ok(event) = reader.next() {
            let action = match event.events() {
                events if events.contains(ReadFlags::CREATE) => "create",
                events if events.contains(ReadFlags::DELETE) => "remove",
                _ => "rename",
            };
            let name = event.file_name().unwrap().to_str().unwrap();
            let name = self.temporaries.iter().fold(name.to_owned(), |name, temporary| name.replace(temporary, "#"));
            seen.push((self.names[&event.wd()].clone(), action, name));
        }
        seen
    }
}

/// Name, inode, mode and contents.
type FileState = (String, u64, u32, Vec<u8>);

impl Work {
    fn check_at(&self, name: &str) -> Destination {
        Destination::check(self.0.path(), Path::new(name), UnknownFiles::Refuse, None).unwrap()
    }

    /// The files in a directory, or `None` if there is no such directory.
    fn files(&self, name: &str) -> Option<BTreeSet<FileState>> {
        let entries = fs::read_dir(self.path(name)).ok()?.map(Result::unwrap);
        let files = entries.map(|entry| {
            let (meta, name) = (entry.metadata().unwrap(), entry.file_name().into_string().unwrap());
            (name, meta.ino(), meta.mode(), fs::read(entry.path()).unwrap())
        });
        Some(files.collect())
    }
}

/// Writes to one destination.
fn write(destination: &Destination, files: Vec<File>, deadline: Deadline) -> Result<Written, Error> {
    Ok(write_both(vec![(destination, files)], deadline)?.remove(0))
}

fn write_both(sets: Vec<(&Destination, Vec<File>)>, deadline: Deadline) -> Result<Vec<Written>, Error> {
    block_on(write_all(sets, deadline))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn set(tag: &str) -> Vec<File> {
    let with_tag = |name: &str| File::private(name, format!("{name} {tag}\n"));
    let mut files = ["known_hosts", "key-cert.pub", "key"].map(with_tag).to_vec();
    files.push(File::executable("teleport-pipe", "binary"));
    files.push(with_tag("ssh_config"));
    files
}

/// The names of `set` with their modes.
fn complete() -> BTreeSet<(String, u32)> {
    let private = [".gitignore", RECORD, "key", "key-cert.pub", "known_hosts", "ssh_config"];
    private.map(|name| (name.into(), 0o600)).into_iter().chain([("teleport-pipe".into(), 0o700)]).collect()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_missing_destination_is_created_with_its_parents() {
    let work = Work::new();
    let destination =
        Destination::check(work.0.path(), Path::new("a/b/tbot-user"), UnknownFiles::Refuse, None).unwrap();
    assert!(!work.path("a").exists(), "check created something");
    write(&destination, set("1"), soon()).unwrap();
    for created in ["a", "a/b", "a/b/tbot-user"] {
        assert_eq!(mode(&work.path(created)), 0o700, "{created}");
    }
    assert_eq!(fs::read_to_string(work.path("a/b/tbot-user/key")).unwrap(), "key 1\n");
}

#[test]
fn files_get_their_modes_and_git_ignores_them() {
    let work = Work::new();
    work.run("1").unwrap();
    assert_eq!(work.listing(), complete());
    assert_eq!(work.read(".gitignore"), "*\n");
}

#[test]
fn an_absolute_path_does_not_depend_on_the_working_directory() {
    let work = Work::new();
    let path = work.path("tbot-user");
    let destination = Destination::check(Path::new("/"), &path, UnknownFiles::Refuse, None).unwrap();
    assert_eq!(destination.absolute(), path);
    assert_eq!(work.check().unwrap().absolute(), path);
    write(&destination, set("1"), soon()).unwrap();
    assert_eq!(work.listing(), complete());
}

#[test]
fn a_directory_that_was_open_to_others_becomes_private() {
    for mode_before in [0o755, 0o777, 0o2775] {
        let work = Work::new();
        let path = work.mkdir("tbot-user", mode_before);
        let before = fs::metadata(&path).unwrap().ino();
        work.run("1").unwrap();
        assert_eq!(mode(&path), 0o700, "{mode_before:o}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), before, "the directory was replaced");
    }
}

#[test]
fn the_working_directory_itself_can_be_the_destination() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    let destination = Destination::check(&path, Path::new("."), UnknownFiles::Refuse, None).unwrap();
    write(&destination, set("1"), soon()).unwrap();
    assert_eq!(work.listing(), complete());
}

#[test]
fn a_second_run_replaces_only_the_files_that_differ() {
    let work = Work::new();
    work.run("1").unwrap();
    let (key, binary) = (work.meta("key").ino(), work.meta("teleport-pipe").ino());
    work.run("2").unwrap();
    assert_eq!(work.read("key"), "key 2\n");
    assert_ne!(work.meta("key").ino(), key);
    assert_eq!(work.meta("teleport-pipe").ino(), binary);
    assert_eq!(work.listing(), complete());
}

#[test]
fn a_file_with_another_mode_or_a_second_name_is_replaced() {
    let work = Work::new();
    work.run("1").unwrap();
    set_mode(&work.path("tbot-user/key"), 0o644);
    fs::hard_link(work.path("tbot-user/ssh_config"), work.path("second")).unwrap();
    work.run("1").unwrap();
    assert_eq!(mode(&work.path("tbot-user/key")), 0o600);
    assert_eq!(work.meta("ssh_config").nlink(), 1);
    assert!(work.path("second").exists());
}

#[test]
fn a_longer_file_with_the_same_beginning_is_replaced() {
    let work = Work::new();
    work.run("1").unwrap();
    fs::write(work.path("tbot-user/key"), "key 1\nand more").unwrap();
    work.run("1").unwrap();
    assert_eq!(work.read("key"), "key 1\n");
}

#[test]
fn the_files_of_tbot_are_known() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    for name in [".write-test", "identity", "tlscert", "key", "key.pub", "teleport-host-ca.crt", "ssh_config"] {
        fs::write(path.join(name), "tbot's").unwrap();
    }
    fs::write(path.join("leaf.known_hosts"), "# Hosts of leaf\n@cert-authority *").unwrap();
    work.run("1").unwrap();
    assert_eq!(work.read("key"), "key 1\n");
    assert_eq!(work.read("tlscert"), "tbot's");
}

#[test]
fn a_run_repairs_what_a_killed_run_left() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o700);
    for n in [0, 1, 7] {
        fs::write(path.join(work.directory().temporary_name(n)), "half a ke").unwrap();
    }
    work.run("1").unwrap();
    assert_eq!(work.listing(), complete());
}

#[test]
fn the_umask_changes_nothing() {
    // The umask belongs to the whole process, so tests from above run in processes of their own.
    let tests = ["a_missing_destination_is_created_with_its_parents", "files_get_their_modes_and_git_ignores_them"];
    for umask in ["000", "077", "277"] {
        let mut child = Command::new("sh");
        child.args(["-c", r#"umask "$0" && exec "$@""#, umask]).arg(std::env::current_exe().unwrap());
        child.arg("--exact").args(tests.map(|test| format!("destination::tests::{test}")));
        let output = child.output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("2 passed"), "umask {umask}: {stdout}");
    }
}

#[test]
fn debug_output_has_no_contents() {
    let file = File::private("key", "canary");
    assert_eq!(format!("{file:?}"), r#"File { name: "key", .. }"#);
}

#[test]
fn an_optional_file_is_removed_by_a_run_that_does_not_write_it() {
    for unknown_files in [UnknownFiles::Refuse, UnknownFiles::Keep] {
        let work = Work::new();
        let file = work.path("tbot-user").join("network.json");
        let run = |kept: bool| {
            let mut files = set("a");
            files.extend(kept.then(|| File::private("network.json", "{}")));
            write(&work.check_as(unknown_files, None).unwrap(), files, soon()).unwrap();
            assert_eq!(file.exists(), kept);
        };
        run(true);
        run(false);
        run(true);
        fs::write(&file, "changed").unwrap();
        // It may be another program's, if other programs may have files there.
        write(&work.check_as(unknown_files, None).unwrap(), set("a"), soon()).unwrap();
        assert_eq!(file.exists(), unknown_files == UnknownFiles::Keep);
    }
}
