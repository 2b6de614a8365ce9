//! Several destinations in one run.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::{FlockOperation, flock};

use super::*;

impl Work {
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

/// F10: a run that is killed among several destinations does not leave an old set beside a new one either.
#[test]
fn all_old_sets_are_removed_before_the_first_new_one_is_there() {
    let work = Work::new();
    let destinations = ["a", "b"].map(|name| work.check_at(name));
    let run = |tag| {
        let sets = destinations.iter().map(|destination| (destination, set(tag))).collect();
        write_both(sets, soon()).unwrap();
    };
    run("1");
    let watch = Watch::new(&[&work.path("a"), &work.path("b")]);
    run("2");
    let changes = watch.changes();
    let replaced = changes.iter().filter(|(_, action, name)| *action != "create" && name != RECORD);
    let replaced: Vec<_> = replaced.map(|(directory, action, name)| format!("{action} {directory}/{name}")).collect();
    assert_eq!(
        replaced.join(", "),
        "remove a/ssh_config, remove b/ssh_config, remove a/known_hosts, remove a/key-cert.pub, remove a/key, \
         remove b/known_hosts, remove b/key-cert.pub, remove b/key, rename a/known_hosts, rename a/key-cert.pub, \
         rename a/key, rename a/ssh_config, rename b/known_hosts, rename b/key-cert.pub, rename b/key, \
         rename b/ssh_config"
    );
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
