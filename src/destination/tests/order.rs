//! The order of changes, and runs at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use std::{fs, thread};

use rustix::fs::{FlockOperation, flock};

use super::*;

#[test]
fn all_files_are_complete_before_the_first_is_renamed_and_the_order_is_kept() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o700);
    let watch = Watch::new(&[&path]);
    let changes =
        || watch.changes().into_iter().map(|(_, action, name)| format!("{action} {name}")).collect::<Vec<_>>();
    work.run("1").unwrap();
    let first = "create #0, create #1, rename .teleport-pipe.sha256, rename .gitignore, create #0, create #1, create #2, \
                 create #3, create #4, create #5, rename .teleport-pipe.sha256, rename known_hosts, \
                 rename key-cert.pub, rename key, rename teleport-pipe, rename ssh_config";
    assert_eq!(changes().join(", "), first);
    // F10: no file of the first run is beside one of the second, and no ssh_config beside half of a set.
    work.run("2").unwrap();
    let second = "create #0, create #1, create #2, create #3, create #4, rename .teleport-pipe.sha256, \
                  remove ssh_config, remove known_hosts, remove key-cert.pub, remove key, \
                  rename known_hosts, rename key-cert.pub, rename key, rename ssh_config";
    assert_eq!(changes().join(", "), second);
}

/// F1 and F2: what takes long after the last answer of the cluster ends at the deadline, too.
#[test]
fn a_run_after_its_deadline_writes_nothing() {
    let work = Work::new();
    let late = |work: &Work, name: &str| {
        let error = write(&work.check_at(name), set("2"), Deadline::after(Duration::ZERO)).unwrap_err();
        assert!(matches!(error, Error::Late { .. }), "{error}");
    };
    late(&work, "a/b/tbot-user");
    assert!(!work.path("a").exists());
    work.run("1").unwrap();
    let before = work.files("tbot-user");
    late(&work, "tbot-user");
    assert_eq!(work.files("tbot-user"), before);
    let cleanup = block_on(cleanup(work.0.path(), Path::new("tbot-user"), Deadline::after(Duration::ZERO)));
    assert!(matches!(cleanup, Err(Error::Late { .. })));
}

/// F1: twenty thousand files would go on for a minute.
#[test]
fn the_deadline_passes_among_very_many_files() {
    let work = Work::new();
    let files = (0..20_000).map(|n| File::private(format!("{n}.known_hosts"), "")).collect();
    let start = Instant::now();
    let error = write(&work.check().unwrap(), files, Deadline::after(Duration::from_millis(300))).unwrap_err();
    assert!(matches!(error, Error::Late { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert!(!work.path("tbot-user").exists());
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
