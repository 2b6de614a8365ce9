//! What a destination guarantees, on real file systems.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::fs::{CWD, FileType, FlockOperation, flock, mknodat};

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

    fn names(&self) -> Vec<String> {
        self.listing().into_iter().map(|(name, _)| name).collect()
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

// Destinations that are missing, or hold only our files.

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
        fs::write(path.join(format!(".teleport-pipe.tmp.{n}")), "half a ke").unwrap();
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

// The order of changes.

#[test]
fn all_files_are_complete_before_the_first_is_renamed_and_the_order_is_kept() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o700);
    let watch = init(CreateFlags::NONBLOCK).unwrap();
    add_watch(&watch, &path, WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
    work.run("1").unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(&watch, &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = reader.next() {
        let what = if event.events().contains(ReadFlags::CREATE) { "create" } else { "rename" };
        seen.push(format!("{what} {}", event.file_name().unwrap().to_str().unwrap()));
    }
    let created = (0..6).map(|n| format!("create .teleport-pipe.tmp.{n}"));
    let set = set("1");
    let renamed = [RECORD].into_iter().chain(set.iter().map(File::name)).map(|name| format!("rename {name}"));
    let gitignore = ["create .teleport-pipe.tmp.0".to_owned(), "rename .gitignore".to_owned()];
    assert_eq!(seen, gitignore.into_iter().chain(created).chain(renamed).collect::<Vec<_>>());
}

#[test]
fn two_runs_at_once_do_not_mix_their_files() {
    let work = Work::new();
    let done = AtomicBool::new(false);
    let writer = |tag: &'static str| {
        let work = &work;
        move || {
            (0..20).for_each(|n| {
                write(&work.check().unwrap(), set(&format!("{tag}{n}")), soon()).unwrap();
            })
        }
    };
    let key = work.path("tbot-user/key");
    let check = |text: String| assert!(text.starts_with("key ") && text.ends_with('\n'), "half a key: {text:?}");
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::read_to_string(&key).into_iter().for_each(check);
            }
        });
        let writers = [scope.spawn(writer("a")), scope.spawn(writer("b"))];
        let results = writers.map(|writer| writer.join());
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        assert!(results.iter().all(Result::is_ok));
    });
    let tag = work.read("key").replace("key ", "");
    for name in ["known_hosts", "key-cert.pub", "ssh_config"] {
        assert_eq!(work.read(name), format!("{name} {tag}"));
    }
    assert_eq!(work.listing(), complete());
}

#[test]
fn a_run_waits_for_another_until_the_deadline() {
    let work = Work::new();
    work.run("1").unwrap();
    let other = fs::File::open(work.path("tbot-user")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let start = Instant::now();
    let error = write(&work.check().unwrap(), set("2"), Deadline::after(Duration::from_millis(200))).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(work.read("key"), "key 1\n");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| work.run("3"));
        thread::sleep(Duration::from_millis(150));
        assert_eq!(work.read("key"), "key 1\n");
        drop(other);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(work.read("key"), "key 3\n");
}

#[test]
fn a_directory_that_was_removed_during_the_wait_is_created_again() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o700);
    let cleanup = fs::File::open(&path).unwrap();
    flock(&cleanup, FlockOperation::LockExclusive).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| work.run("1"));
        thread::sleep(Duration::from_millis(150));
        fs::remove_dir(&path).unwrap();
        drop(cleanup);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(work.listing(), complete());
}

// Destinations that are refused.

#[test]
fn a_link_anywhere_in_the_path_is_refused() {
    let work = Work::new();
    let target = work.mkdir("published", 0o755);
    symlink("published", work.path("tbot-user")).unwrap();
    assert!(matches!(work.check(), Err(Error::Symlink { path }) if path == work.path("tbot-user")));
    for path in [PathBuf::from("tbot-user/x"), work.path("tbot-user/x")] {
        let error = Destination::check(work.0.path(), &path, UnknownFiles::Keep, None).unwrap_err();
        assert!(matches!(&error, Error::Symlink { path } if *path == work.path("tbot-user")), "{error}");
    }
    assert_eq!(fs::read_dir(target).unwrap().count(), 0);
}

#[test]
fn a_link_that_appears_after_the_check_is_refused_too() {
    let work = Work::new();
    let target = work.mkdir("published", 0o755);
    let destination = work.check().unwrap();
    symlink("published", work.path("tbot-user")).unwrap();
    assert!(matches!(write(&destination, set("1"), soon()), Err(Error::Symlink { .. })));
    assert_eq!(fs::read_dir(target).unwrap().count(), 0);
}

#[test]
fn a_file_is_not_a_destination() {
    let work = Work::new();
    fs::write(work.path("tbot-user"), "").unwrap();
    assert!(matches!(work.check(), Err(Error::NotADirectory { .. })));
}

#[test]
fn an_entry_with_one_of_our_names_must_be_a_file() {
    for unknown_files in [UnknownFiles::Refuse, UnknownFiles::Keep] {
        for name in ["key", ".gitignore", ".teleport-pipe.tmp.0"] {
            let work = Work::new();
            fs::write(work.path("other"), "other").unwrap();
            let entry = work.mkdir("tbot-user", 0o700).join(name);
            for (kind, create) in entries() {
                create(&entry);
                let error = work.check_as(unknown_files, None).unwrap_err();
                assert!(error.to_string().contains(kind), "{error}");
                fs::remove_file(&entry).or_else(|_| fs::remove_dir(&entry)).unwrap();
            }
            assert_eq!(fs::read_to_string(work.path("other")).unwrap(), "other");
        }
    }
}

/// What an entry is, and how to create it.
type Entry = (&'static str, fn(&Path));

fn entries() -> [Entry; 3] {
    [
        ("a symbolic link", |at| symlink("../other", at).unwrap()),
        ("a directory", |at| fs::create_dir(at).unwrap()),
        ("a special file", |at| mknodat(CWD, at, FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap()),
    ]
}

#[test]
fn nothing_is_written_through_a_link_with_any_name() {
    let work = Work::new();
    fs::write(work.path("other"), "other").unwrap();
    let path = work.mkdir("tbot-user", 0o700);
    symlink("../other", path.join("bundle.pem")).unwrap();
    let files = vec![File::private("key", "new"), File::private("bundle.pem", "new")];
    let error = write(&work.check_as(UnknownFiles::Keep, None).unwrap(), files, soon()).unwrap_err();
    assert!(matches!(error, Error::NotAFile { kind: "a symbolic link", .. }), "{error}");
    assert_eq!(fs::read_to_string(work.path("other")).unwrap(), "other");
    assert_eq!(work.names(), ["bundle.pem"]);
}

#[test]
fn a_name_cannot_leave_the_directory() {
    let work = Work::new();
    for name in ["../key", "/key", "", ".", "..", "a/b", "nul\0"] {
        let error = write(&work.check().unwrap(), vec![File::private(name, "")], soon()).unwrap_err();
        assert!(matches!(error, Error::BadName { .. }), "{name:?}: {error}");
    }
    let long = vec![File::private("x".repeat(256), "")];
    assert!(write(&work.check().unwrap(), long, soon()).is_err());
    assert!(!work.path("tbot-user").exists());
    let fits = "x".repeat(255);
    write(&work.check().unwrap(), vec![File::private(&fits, "")], soon()).unwrap();
    assert_eq!(work.names(), [".gitignore", RECORD, &fits]);
}

#[test]
fn as_a_pipe_unknown_files_are_refused_and_named() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    fs::write(path.join("README.md"), "").unwrap();
    fs::write(path.join("key"), "").unwrap();
    let error = work.check().unwrap_err();
    assert!(error.to_string().ends_with(": README.md"), "{error}");
    assert_eq!(mode(&path), 0o755);
}

#[test]
fn as_a_pipe_unknown_files_that_appear_after_the_check_are_refused_too() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    let destination = work.check().unwrap();
    fs::write(path.join("README.md"), "").unwrap();
    assert!(matches!(write(&destination, set("1"), soon()), Err(Error::UnknownFiles { .. })));
    assert_eq!(work.names(), ["README.md"]);
}

#[test]
fn as_tbot_unknown_files_stay_and_so_does_the_mode_of_their_directory() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    fs::write(path.join("README.md"), "mine").unwrap();
    write(&work.check_as(UnknownFiles::Keep, None).unwrap(), set("1"), soon()).unwrap();
    assert_eq!(work.read("README.md"), "mine");
    assert_eq!(mode(&path), 0o755);
    assert_eq!(mode(&path.join("key")), 0o600);
    assert!(!path.join(".gitignore").exists(), "would hide README.md from git");
}

#[test]
fn as_tbot_a_directory_with_our_files_becomes_private_and_its_gitignore_stays() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    fs::write(path.join(".gitignore"), "key\n").unwrap();
    write(&work.check_as(UnknownFiles::Keep, None).unwrap(), set("1"), soon()).unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(work.read(".gitignore"), "key\n");
}

// Several destinations.

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

    /// Writes to another destination and to `second`, in both orders, which fails. The other one stays as it was: with
    /// the files of an earlier run, empty, or not there.
    #[track_caller]
    fn second_fails(&self, second: &Destination, files: &[File], timeout: Duration, expected: fn(&Error) -> bool) {
        write(&self.check_at("old"), set("old"), soon()).unwrap();
        fs::create_dir_all(self.path("empty")).unwrap();
        for name in ["old", "empty", "absent"] {
            let (first, before) = (self.check_at(name), self.files(name));
            let sets = [(&first, set("new")), (second, files.to_vec())];
            for sets in [sets.to_vec(), sets.iter().rev().cloned().collect()] {
                let error = write_both(sets, Deadline::after(timeout)).unwrap_err();
                assert!(expected(&error), "{name}: {error}");
                assert_eq!(self.files(name), before, "{name}");
            }
        }
    }
}

#[test]
fn several_destinations_are_written_and_reported_in_their_order() {
    let work = Work::new();
    let destinations = ["b", "a", "c"].map(|name| work.check_at(name));
    let sets = destinations.iter().zip(["1", "2", "3"]).map(|(destination, tag)| (destination, set(tag))).collect();
    assert_eq!(write_both(sets, soon()).unwrap().len(), 3);
    for (name, tag) in [("b", "1"), ("a", "2"), ("c", "3")] {
        assert_eq!(fs::read_to_string(work.path(name).join("key")).unwrap(), format!("key {tag}\n"));
        assert_eq!(fs::read_dir(work.path(name)).unwrap().count(), complete().len());
    }
}

#[test]
fn unknown_files_in_the_second_destination_leave_the_first_as_it_was() {
    let work = Work::new();
    let second = work.check_at("second");
    fs::write(work.mkdir("second", 0o755).join("README.md"), "").unwrap();
    let before = work.files("second");
    work.second_fails(&second, &set("new"), Duration::from_secs(20), |e| matches!(e, Error::UnknownFiles { .. }));
    assert_eq!(work.files("second"), before);
}

#[test]
fn a_lock_on_the_second_destination_leaves_the_first_as_it_was() {
    let work = Work::new();
    write(&work.check_at("second"), set("old"), soon()).unwrap();
    let before = work.files("second");
    let other = fs::File::open(work.path("second")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let second = work.check_at("second");
    work.second_fails(&second, &set("new"), Duration::from_millis(60), |e| matches!(e, Error::Busy { .. }));
    assert_eq!(work.files("second"), before);
}

#[test]
fn a_name_that_cannot_be_replaced_in_the_second_destination_leaves_the_first_as_it_was() {
    let work = Work::new();
    let second = work.check_at("second");
    let files = [File::private("../key", "")];
    work.second_fails(&second, &files, Duration::from_secs(20), |e| matches!(e, Error::BadName { .. }));
    assert!(!work.path("second").exists());
}

#[test]
fn a_parent_that_several_destinations_share_is_removed_again() {
    for names in [["a/x", "a/y"], ["a/y", "a/x"], ["p", "p/q"]] {
        let work = Work::new();
        let destinations = names.map(|name| work.check_at(name));
        let bad = vec![File::private("../key", "")];
        let sets = vec![(&destinations[0], set("new")), (&destinations[1], bad)];
        assert!(
            matches!(write_both(sets, soon()), Err(Error::BadName { .. } | Error::UnknownFiles { .. })),
            "{names:?}"
        );
        assert_eq!(fs::read_dir(work.path("")).unwrap().count(), 0, "{names:?}");
    }
}

#[test]
fn one_directory_cannot_be_two_destinations() {
    let work = Work::new();
    work.mkdir("real", 0o755);
    symlink("real", work.path("link")).unwrap();
    let through_link = Destination::check(&work.path("link"), Path::new("a"), UnknownFiles::Refuse, None).unwrap();
    let direct = work.check_at("real/a");
    let error = write_both(vec![(&direct, set("1")), (&through_link, set("2"))], soon()).unwrap_err();
    assert!(error.to_string().ends_with("real/a` is the directory of two outputs"), "{error}");
    assert!(!work.path("real/a").exists());
}

#[test]
fn locks_are_taken_in_one_order_so_that_runs_cannot_wait_for_each_other() {
    let work = Work::new();
    let locks = ["a", "b"].map(|name| fs::File::open(work.mkdir(name, 0o700)).unwrap());
    flock(&locks[0], FlockOperation::LockExclusive).unwrap();
    for names in [["a", "b"], ["b", "a"]] {
        let destinations = names.map(|name| work.check_at(name));
        let sets = destinations.iter().map(|destination| (destination, set("1"))).collect();
        block_on(async {
            let mut run = std::pin::pin!(write_all(sets, soon()));
            assert!(tokio::time::timeout(Duration::from_millis(100), &mut run).await.is_err());
            flock(&locks[1], FlockOperation::NonBlockingLockExclusive).unwrap();
        });
        flock(&locks[1], FlockOperation::Unlock).unwrap();
    }
}

#[test]
fn a_run_that_is_given_up_while_it_waits_leaves_nothing() {
    let work = Work::new();
    write(&work.check_at("second"), set("old"), soon()).unwrap();
    let other = fs::File::open(work.path("second")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let destinations = ["a/first", "second"].map(|name| work.check_at(name));
    let sets = destinations.iter().map(|destination| (destination, set("new"))).collect();
    let waiting = block_on(async { tokio::time::timeout(Duration::from_millis(100), write_all(sets, soon())).await });
    assert!(waiting.is_err());
    assert!(!work.path("a").exists());
    assert_eq!(fs::read_to_string(work.path("second/key")).unwrap(), "key old\n");
}

// Owners. Most of it needs root.

// File systems. All of it needs root.

// Secrets.

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
