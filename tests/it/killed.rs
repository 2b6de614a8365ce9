//! Runs that are killed, and runs at the same time. No file is ever incomplete, and there is the whole old set, the whole
//! new set, or no `ssh_config`, and never files of two runs.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use expect_test::expect_file;
use rustix::fs::{FlockOperation, flock};
use testcluster::Testcluster;

use crate::harness::stories;
use crate::machine::{STRACE, TIME, pipe_with};
use crate::step::Step;

stories! {
    at_every_opening_over_old_files needs STRACE TIME,
    at_every_write_over_old_files needs STRACE TIME,
    at_every_fsync_over_old_files needs STRACE TIME,
    at_every_rename_over_old_files needs STRACE,
    at_every_removal_over_old_files needs STRACE TIME,
    at_every_removal_of_files_of_a_killed_run needs STRACE TIME,
    at_every_rename_of_new_files needs STRACE TIME,
    at_every_change_of_a_mode_of_new_files needs STRACE TIME,
    at_the_creation_of_the_directory needs STRACE,
    a_cleanup_after_every_rename_of_new_files needs STRACE TIME,
    a_cleanup_after_every_rename_over_old_files needs STRACE TIME,
    a_cleanup_completes_one_that_was_killed needs STRACE,
    simultaneous_runs_leave_complete_files,
    a_run_waits_for_another_until_its_deadline needs TIME,
}

const RECORD: &str = ".teleport-pipe.sha256";

/// All files, in the order in which they are renamed.
const ORDER: [&str; 15] = [
    RECORD,
    ".gitignore",
    "teleport-pipe",
    "network.json",
    "teleport-host-ca.crt",
    "teleport-user-ca.crt",
    "known_hosts",
    "example.teleport.sh.known_hosts",
    "identity",
    "key.pub",
    "tlscert",
    "key",
    "key-cert.pub",
    "example.teleport.sh.ssh_config",
    "ssh_config",
];

type Files = BTreeMap<String, Vec<u8>>;

/// The files in the destination, except for temporary ones.
fn files(step: &Step) -> Files {
    let Ok(entries) = fs::read_dir(step.dir().join("tbot-user")) else { return Files::new() };
    let named = entries.map(|entry| entry.unwrap()).filter(|entry| !is_temporary(&entry.file_name()));
    named.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_str().unwrap().starts_with(".teleport-pipe.tmp.")
}

/// All files are there and belong together, and there is no other file.
#[track_caller]
fn expect_complete(step: &Step) {
    let names = fs::read_dir(step.dir().join("tbot-user")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    let mut expected = ORDER.map(str::to_owned);
    names.sort();
    expected.sort();
    assert_eq!(names, expected);

    let public = |args: &[&str]| step.run("ssh-keygen", args).ok().stdout;
    let key = fs::read_to_string(step.file("key.pub")).unwrap();
    assert_eq!(public(&["-y", "-f", "tbot-user/key"]).trim(), key.trim());
    assert_eq!(public(&["-y", "-f", "tbot-user/identity"]).trim(), key.trim());
    let print = public(&["-l", "-f", "tbot-user/key.pub"]);
    let fingerprint = print.split(' ').nth(1).unwrap();
    let certificate = public(&["-L", "-f", "tbot-user/key-cert.pub"]);
    assert!(certificate.contains(fingerprint), "{certificate}\n{print}");
    let files = files(step);
    for name in ["key", "key-cert.pub", "tlscert"] {
        assert!(contains(&files["identity"], &files[name]), "identity and {name} are not of one run");
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    String::from_utf8_lossy(text).contains(&*String::from_utf8_lossy(part))
}

/// After a run over the files `old` was killed (F10): the directory has the whole old set, or the whole new set, or no
/// `ssh_config` and never two changed files of different runs. Files that are the same in every run may stay.
#[track_caller]
fn expect_one_set(step: &Step, old: &Files) {
    let now = files(step);
    assert!(now.keys().all(|name| ORDER.contains(&name.as_str())), "{:?}", now.keys());
    let set = || ORDER.into_iter().filter(|name| ![".gitignore", RECORD].contains(name));
    let changes = |name: &&str| ["identity", "key.pub", "tlscert", "key", "key-cert.pub"].contains(name);
    let is_old = |name: &str| old.contains_key(name) && now.get(name) == old.get(name);
    if old.is_empty() || set().filter(changes).any(|name| !is_old(name)) {
        let still_old: Vec<_> = set().filter(changes).filter(|name| is_old(name)).collect();
        let written: Vec<_> = set().filter(|name| now.contains_key(*name) && !is_old(name)).collect();
        // The old files are removed before the first new one is there, and the files of ssh before all others.
        assert!(still_old.is_empty() || written.is_empty(), "old: {still_old:?}, new: {written:?}");
        let configs: Vec<_> = set().filter(|name| name.ends_with("ssh_config") && now.contains_key(*name)).collect();
        let is_whole = set().all(|name| now.contains_key(name));
        assert!(is_whole || !configs.contains(&"ssh_config"), "{:?}", now.keys());
        assert!(configs.is_empty() || set().filter(changes).all(|name| now.contains_key(name)), "{:?}", now.keys());
    } else {
        let is_kept = |name: &str| is_old(name) || name.ends_with("ssh_config");
        assert!(set().all(is_kept), "{:?}", now.keys());
    }
    expect_one_run(step, &now);
}

/// The files that are there are complete and of one run.
#[track_caller]
fn expect_one_run(step: &Step, now: &Files) {
    let Some(identity) = now.get("identity") else { return };
    // The identity ends with the CAs, so it is complete.
    assert!(identity.ends_with(&now["teleport-host-ca.crt"]), "incomplete identity");
    for name in ["tlscert", "key", "key-cert.pub"].into_iter().filter(|name| now.contains_key(*name)) {
        assert!(contains(identity, &now[name]), "identity and {name} are not of one run");
    }
    if let Some(key) = now.get("key.pub") {
        let public = step.run("ssh-keygen", &["-y", "-f", "tbot-user/identity"]).ok().stdout;
        assert_eq!(public.trim().as_bytes(), key.trim_ascii());
    }
}

/// The number of such calls that a run makes before it touches the destination.
fn calls_before_the_destination(step: &Step, call: &str) -> usize {
    let trace = step.dir().join("trace");
    let args = ["-fqqq", "--signal=none", "-o", trace.to_str().unwrap(), "-e"];
    step.run("strace", &[&args[..], &[&format!("trace=flock,mkdirat,{call}"), "--", Step::binary()]].concat()).ok();
    let trace = fs::read_to_string(trace).unwrap();
    // The main thread makes the first call and writes the files.
    let main = trace.split_once(' ').unwrap().0;
    let calls = trace.lines().filter(|line| line.starts_with(main));
    calls.take_while(|line| !line.contains(" flock(") && !line.contains(" mkdirat(")).count()
}

/// Kills runs at the first, second, ... call, until there are no more. `prepare` comes before each run. The next run
/// repairs what is left.
fn killed_at_every(call: &str, prepare: impl Fn(&Step)) {
    killed_and(call, prepare, |step| {
        step.pipe().ok();
        expect_complete(step);
    });
}

/// Like [`killed_at_every`], with another action after each run.
fn killed_and(call: &str, prepare: impl Fn(&Step), afterwards: impl Fn(&Step)) {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    prepare(&step);
    let first = calls_before_the_destination(&step, call) + 1;
    let mut kills = 0;
    loop {
        prepare(&step);
        let old = files(&step);
        let output = pipe_with(&step, call, &format!("signal=KILL:when={}", first + kills));
        if output.status == Some(0) {
            break;
        }
        kills += 1;
        // strace dies by the same signal as its child.
        assert_eq!(output.status, None, "{}", output.stderr);
        expect_one_set(&step, &old);
        afterwards(&step);
    }
    expect_complete(&step);
    hello(&step, &cluster);
    assert!(kills > 0, "{call}: strace killed nothing");
}

#[track_caller]
fn hello(step: &Step, cluster: &Testcluster) {
    assert_eq!(step.ssh(&[&Step::node(cluster), "echo", "hello"]).ok().stdout, "hello\n");
}

/// Kills runs over the files of an earlier run.
fn over_old_files(call: &str) {
    killed_at_every(call, |step| {
        if files(step).is_empty() {
            step.pipe().ok();
        }
    });
}

/// Kills runs without an existing destination.
fn without_destination(call: &str) {
    killed_at_every(call, |step| {
        let _absent = fs::remove_dir_all(step.dir().join("tbot-user"));
    });
}

fn at_every_opening_over_old_files() {
    over_old_files("openat");
}

fn at_every_write_over_old_files() {
    over_old_files("write");
}

fn at_every_fsync_over_old_files() {
    over_old_files("fsync");
}

fn at_every_rename_over_old_files() {
    over_old_files("/^rename");
}

fn at_every_removal_over_old_files() {
    over_old_files("unlinkat");
}

fn at_every_removal_of_files_of_a_killed_run() {
    killed_at_every("unlinkat", |step| {
        step.pipe().ok();
        let killed = pipe_with(step, "fsync", "signal=KILL:when=4");
        assert_eq!(killed.status, None, "{}", killed.stderr);
        let entries = fs::read_dir(step.dir().join("tbot-user")).unwrap();
        assert_eq!(entries.filter(|entry| is_temporary(&entry.as_ref().unwrap().file_name())).count(), 4);
    });
}

fn at_every_rename_of_new_files() {
    without_destination("/^rename");
}

fn at_every_change_of_a_mode_of_new_files() {
    without_destination("fchmod");
}

fn at_the_creation_of_the_directory() {
    without_destination("mkdirat");
}

/// A cleanup removes all files that a killed run left, old and new. The directory stays, empty, if the run was killed
/// before the record was there that says who made it.
#[track_caller]
fn cleanup_leaves_nothing(step: &Step) {
    let has_record = step.file(RECORD).exists();
    step.product(&["cleanup"]).ok();
    let left = fs::read_dir(step.dir().join("tbot-user")).map(|entries| entries.count()).ok();
    assert!(left.is_none() || !has_record && left == Some(0), "{:?}", files(step).keys());
}

fn a_cleanup_after_every_rename_of_new_files() {
    killed_and("/^rename", |_| {}, cleanup_leaves_nothing);
}

fn a_cleanup_after_every_rename_over_old_files() {
    let old = |step: &Step| drop(step.pipe().ok());
    killed_and("/^rename", old, cleanup_leaves_nothing);
}

fn a_cleanup_completes_one_that_was_killed() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    for kills in 1.. {
        step.pipe().ok();
        let inject = format!("--inject=unlinkat:signal=KILL:when={kills}");
        let args =
            ["-fqqq", "-o/dev/null", "--signal=none", "--trace=unlinkat", &inject, "--", Step::binary(), "cleanup"];
        let killed = step.run("strace", &args);
        // The keys are removed first.
        assert!(kills <= 2 || !step.file("identity").exists() && !step.file("key").exists());
        step.product(&["cleanup"]).ok();
        // A cleanup that is killed after the last file leaves the directory.
        assert!(files(&step).is_empty(), "{:?}", files(&step).keys());
        if killed.status == Some(0) {
            assert!(kills > ORDER.len());
            return;
        }
    }
}

fn simultaneous_runs_leave_complete_files() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    for _ in 0..3 {
        let run = || step.command(Step::binary(), &[]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let runs = [run(), run(), run()];
        for mut run in runs {
            assert!(run.wait().unwrap().success());
        }
        expect_complete(&step);
        hello(&step, &cluster);
    }
}

fn a_run_waits_for_another_until_its_deadline() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let old = files(&step);
    let other = fs::File::open(step.dir().join("tbot-user")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let step = step.env("TIMEOUT", "12s");
    let output = step.pipe();
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    expect_file!["golden/destination/busy.log"].assert_eq(&step.scrubbed(&output.stderr));
    let is_wait = |line: &str| line.contains("write") && line.contains("waiting for another run, which writes to ");
    assert_eq!(output.stderr.lines().filter(|line| is_wait(line)).count(), 1, "{}", output.stderr);
    assert!(old == files(&step), "something was written without the lock");
    drop(other);
    step.pipe().ok();
    expect_complete(&step);
}
