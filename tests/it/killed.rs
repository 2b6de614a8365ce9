//! Runs that are killed, and runs that meet. At no point is a file half there: whoever reads finds the old one or the
//! new one, and in the order in which they are replaced.

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
    at_every_removal_of_what_another_left needs STRACE TIME,
    at_every_rename_of_new_files needs STRACE TIME,
    at_every_change_of_a_mode_of_new_files needs STRACE TIME,
    at_the_making_of_the_directory needs STRACE,
    a_cleanup_after_every_rename_of_new_files needs STRACE TIME,
    a_cleanup_after_every_rename_over_old_files needs STRACE TIME,
    a_cleanup_that_is_killed_is_done_by_the_next needs STRACE,
    two_runs_at_once,
    a_run_that_waits_for_another_gives_up_at_its_deadline needs TIME,
}

/// All files, in the order in which they take their places.
const ORDER: [&str; 15] = [
    ".gitignore",
    ".teleport-pipe.sha256",
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

/// What is in the destination, but for temporaries, which nobody reads.
fn files(step: &Step) -> Files {
    let Ok(entries) = fs::read_dir(step.dir().join("tbot-user")) else { return Files::new() };
    let named = entries.map(|entry| entry.unwrap()).filter(|entry| !is_temporary(&entry.file_name()));
    named.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_str().unwrap().starts_with(".teleport-pipe.tmp.")
}

/// Everything is there, belongs together, and is as it is after any run: nothing else is left.
#[track_caller]
fn complete(step: &Step) {
    let names = fs::read_dir(step.dir().join("tbot-user")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    let mut expected = ORDER.map(str::to_owned);
    names.sort();
    expected.sort();
    assert_eq!(names, expected);

    let public = |args: &[&str]| step.run("ssh-keygen", args).ok().stdout;
    let key = fs::read_to_string(step.output("key.pub")).unwrap();
    assert_eq!(public(&["-y", "-f", "tbot-user/key"]).trim(), key.trim());
    assert_eq!(public(&["-y", "-f", "tbot-user/identity"]).trim(), key.trim());
    let print = public(&["-l", "-f", "tbot-user/key.pub"]);
    let fingerprint = print.split(' ').nth(1).unwrap();
    let certificate = public(&["-L", "-f", "tbot-user/key-cert.pub"]);
    assert!(certificate.contains(fingerprint), "{certificate}\n{print}");
    let files = files(step);
    for name in ["key", "key-cert.pub", "tlscert"] {
        assert!(holds(&files["identity"], &files[name]), "identity and {name} are not of one run");
    }
}

fn holds(whole: &[u8], part: &[u8]) -> bool {
    String::from_utf8_lossy(whole).contains(&*String::from_utf8_lossy(part))
}

/// After a run over `old` was killed: some files are new and whole, up to one in their order; all others are old.
#[track_caller]
fn old_or_new(step: &Step, old: &Files) {
    let now = files(step);
    let changes =
        |name: &&str| [".teleport-pipe.sha256", "identity", "key.pub", "tlscert", "key", "key-cert.pub"].contains(name);
    let new = |name: &str| now.get(name) != old.get(name);
    // What is the same in every run is never touched once it is there.
    let order = ORDER.into_iter().filter(|name| old.is_empty() || changes(name));
    let taken: Vec<_> = order.clone().take_while(|name| new(name)).collect();
    assert_eq!(order.filter(|name| new(name)).collect::<Vec<_>>(), taken);
    assert!(now.keys().all(|name| ORDER.contains(&name.as_str())), "{:?}", now.keys());

    if !taken.contains(&"identity") {
        return;
    }
    // It is whole: ends with the authorities. And all that is new is of the same run.
    let identity = &now["identity"];
    assert!(identity.ends_with(&now["teleport-host-ca.crt"]), "half of an identity");
    for name in ["tlscert", "key", "key-cert.pub"].into_iter().filter(|name| taken.contains(name)) {
        assert!(holds(identity, &now[name]), "half of {name}");
    }
    if taken.contains(&"key.pub") {
        let public = step.run("ssh-keygen", &["-y", "-f", "tbot-user/identity"]).ok().stdout;
        assert_eq!(public.trim().as_bytes(), now["key.pub"].trim_ascii());
    }
}

/// How many such calls a run makes before it touches the destination: to be killed there is nothing special.
fn before_it_matters(step: &Step, call: &str) -> usize {
    let trace = step.dir().join("trace");
    let args = ["-fqqq", "--signal=none", "-o", trace.to_str().unwrap(), "-e"];
    step.run("strace", &[&args[..], &[&format!("trace=flock,mkdirat,{call}"), "--", Step::binary()]].concat()).ok();
    let trace = fs::read_to_string(trace).unwrap();
    // The thread that makes the first call, and that writes the files, is the main one.
    let main = trace.split_once(' ').unwrap().0;
    let calls = trace.lines().filter(|line| line.starts_with(main));
    calls.take_while(|line| !line.contains(" flock(") && !line.contains(" mkdirat(")).count()
}

/// Kills runs at the first, second, ... call, until there are no more. Each begins with what `prepare` makes. The next
/// run heals what is left.
fn killed_at_every(call: &str, prepare: impl Fn(&Step)) {
    killed_and(call, prepare, |step| {
        step.pipe().ok();
        complete(step);
    });
}

/// Kills runs at the first, second, ... call, until there are no more, with something else to do after each.
fn killed_and(call: &str, prepare: impl Fn(&Step), afterwards: impl Fn(&Step)) {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    prepare(&step);
    let first = before_it_matters(&step, call) + 1;
    let mut kills = 0;
    loop {
        prepare(&step);
        let old = files(&step);
        let said = pipe_with(&step, call, &format!("signal=KILL:when={}", first + kills));
        if said.status == Some(0) {
            break;
        }
        kills += 1;
        // strace dies as what it traces died.
        assert_eq!(said.status, None, "{}", said.stderr);
        old_or_new(&step, &old);
        afterwards(&step);
    }
    complete(&step);
    hello(&step, &cluster);
    assert!(kills > 0, "{call}: strace killed nothing");
}

#[track_caller]
fn hello(step: &Step, cluster: &Testcluster) {
    assert_eq!(step.ssh(&[&Step::node(cluster), "echo", "hello"]).ok().stdout, "hello\n");
}

/// Over the files of an earlier run.
fn over_old_files(call: &str) {
    killed_at_every(call, |step| {
        if files(step).is_empty() {
            step.pipe().ok();
        }
    });
}

/// Where nothing is yet.
fn from_nothing(call: &str) {
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

fn at_every_removal_of_what_another_left() {
    killed_at_every("unlinkat", |step| {
        step.pipe().ok();
        for n in [0, 1, 7] {
            fs::write(step.output(&format!(".teleport-pipe.tmp.{n}")), "half a key").unwrap();
        }
    });
}

fn at_every_rename_of_new_files() {
    from_nothing("/^rename");
}

fn at_every_change_of_a_mode_of_new_files() {
    from_nothing("fchmod");
}

fn at_the_making_of_the_directory() {
    from_nothing("mkdirat");
}

/// A cleanup removes whatever a killed run left of the old files and the new ones.
#[track_caller]
fn nothing_is_left_by_a_cleanup(step: &Step) {
    step.product(&["cleanup"]).ok();
    assert!(!step.dir().join("tbot-user").exists(), "{:?}", files(step).keys());
}

fn a_cleanup_after_every_rename_of_new_files() {
    killed_and("/^rename", |_| {}, nothing_is_left_by_a_cleanup);
}

fn a_cleanup_after_every_rename_over_old_files() {
    let old = |step: &Step| drop(step.pipe().ok());
    killed_and("/^rename", old, nothing_is_left_by_a_cleanup);
}

fn a_cleanup_that_is_killed_is_done_by_the_next() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    for kills in 1.. {
        step.pipe().ok();
        let inject = format!("--inject=unlinkat:signal=KILL:when={kills}");
        let args =
            ["-fqqq", "-o/dev/null", "--signal=none", "--trace=unlinkat", &inject, "--", Step::binary(), "cleanup"];
        let killed = step.run("strace", &args);
        // The keys go first.
        assert!(kills <= 2 || !step.output("identity").exists() && !step.output("key").exists());
        step.product(&["cleanup"]).ok();
        // Between the last file and the directory there is nothing left to know the directory by.
        assert!(files(&step).is_empty(), "{:?}", files(&step).keys());
        if killed.status == Some(0) {
            assert!(kills > ORDER.len());
            return;
        }
    }
}

fn two_runs_at_once() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    for _ in 0..3 {
        let run = || step.command(Step::binary(), &[]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let runs = [run(), run(), run()];
        for mut run in runs {
            assert!(run.wait().unwrap().success());
        }
        complete(&step);
        hello(&step, &cluster);
    }
}

fn a_run_that_waits_for_another_gives_up_at_its_deadline() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    step.pipe().ok();
    let old = files(&step);
    let other = fs::File::open(step.dir().join("tbot-user")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let step = step.env("TIMEOUT", "12s");
    let said = step.pipe();
    assert_eq!(said.status, Some(6), "{}", said.stderr);
    expect_file!["golden/place/busy.log"].assert_eq(&step.scrubbed(&said.stderr));
    let told = |line: &str| line.contains("write") && line.contains("waiting for another run, which writes to ");
    assert_eq!(said.stderr.lines().filter(|line| told(line)).count(), 1, "{}", said.stderr);
    assert!(old == files(&step), "something was written without the lock");
    drop(other);
    step.pipe().ok();
    complete(&step);
}
