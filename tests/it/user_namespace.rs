//! The pipe with other users than the step has, as under `dockerd --userns-remap`: root of the pipe is an ordinary user of
//! the step, and the step's users have no number in the pipe's container (field 1).

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use expect_test::{ExpectFile, expect_file};
use testcluster::Testcluster;

use crate::harness::stories;
use crate::machine::{USER_NAMESPACE, Unprivileged};
use crate::remapped::{FIRST, run};
use crate::step::{Output, Step};

stories! {
    the_files_belong_to_the_pipes_root_and_the_steps_root_can_use_them needs USER_NAMESPACE,
    the_log_does_not_advise_what_cannot_work needs USER_NAMESPACE,
    a_directory_of_the_step_is_refused_with_the_true_cause needs USER_NAMESPACE,
    a_directory_that_the_step_gave_to_the_pipes_root_is_used needs USER_NAMESPACE,
    a_closed_clone_directory_is_refused_with_the_true_cause needs USER_NAMESPACE,
    an_owner_who_is_another_user_for_the_step_is_refused needs USER_NAMESPACE,
    a_step_with_the_same_users_has_its_owners needs USER_NAMESPACE,
    a_step_that_is_not_root_can_run_the_program_itself needs USER_NAMESPACE,
}

/// A step whose pipe has other users.
struct Remapped(Unprivileged);

impl Remapped {
    fn new(cluster: &Testcluster) -> Self {
        Self(Unprivileged::new(cluster))
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.0.step = self.0.step.env(name, value);
        self
    }

    fn step(&self) -> &Step {
        &self.0.step
    }

    fn pipe(&self) -> Output {
        run(|program, args| self.step().command(program, args), &[self.step().dir().join("product").to_str().unwrap()])
    }

    #[track_caller]
    fn expect_refusal(&self, cluster: &Testcluster, golden: &ExpectFile) {
        let output = self.pipe();
        assert_eq!(output.status, Some(6), "{}", output.stderr);
        golden.assert_eq(&self.step().scrubbed(&output.stderr));
        assert!(cluster.record().is_empty(), "{:?}", cluster.record());
    }

    /// Expects this owner, by the numbers of the step, of the directory and of all files in it.
    #[track_caller]
    fn expect_owner(&self, uid: u32, gid: u32) {
        let directory = self.step().dir().join("tbot-user");
        let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        for path in files.chain([directory.clone()]) {
            let meta = fs::metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (uid, gid), "{path:?}");
        }
    }
}

#[track_caller]
fn hello(step: &Step, cluster: &Testcluster) {
    assert_eq!(step.ssh(&[&Step::node(cluster), "echo", "hello"]).ok().stdout, "hello\n");
}

fn the_files_belong_to_the_pipes_root_and_the_steps_root_can_use_them() {
    let cluster = Testcluster::start();
    let remapped = Remapped::new(&cluster);
    for _ in 0..2 {
        remapped.pipe().ok();
        remapped.expect_owner(FIRST, FIRST);
        hello(remapped.step(), &cluster);
    }
    // The record of the pipe counts in the step, too.
    remapped.step().product(&["cleanup"]).ok();
    assert!(!remapped.step().dir().join("tbot-user").exists());
}

fn the_log_does_not_advise_what_cannot_work() {
    let cluster = Testcluster::start();
    let remapped = Remapped::new(&cluster);
    let log = remapped.pipe().ok().stderr;
    assert!(!log.contains("mkdir") && !log.contains("FILE_OWNER") && !log.contains("warning"), "{log}");
    // A directory of the run before is not of another user.
    let yaml = "{image: {name: x, run-as-user: 1000}, pipelines: {default: [{step: {oidc: true, script: [make]}}]}}";
    fs::write(remapped.step().dir().join("bitbucket-pipelines.yml"), yaml).unwrap();
    let log = remapped.pipe().ok().stderr;
    assert!(!log.contains("mkdir") && !log.contains("FILE_OWNER"), "{log}");
    assert!(
        log.contains("warning: only root and user 165536 of the step can read the files, but the step has "),
        "{log}"
    );
}

fn a_directory_of_the_step_is_refused_with_the_true_cause() {
    let cluster = Testcluster::start();
    let remapped = Remapped::new(&cluster);
    let directory = remapped.step().dir().join("tbot-user");
    fs::create_dir(&directory).unwrap();
    for mode in [0o700, 0o755, 0o777] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        remapped.expect_refusal(&cluster, &expect_file!["golden/destination/user-namespace.log"]);
    }
}

fn a_directory_that_the_step_gave_to_the_pipes_root_is_used() {
    let cluster = Testcluster::start();
    let remapped = Remapped::new(&cluster);
    let directory = remapped.step().dir().join("tbot-user");
    fs::create_dir(&directory).unwrap();
    // Without a group, the group has no number there, and is kept.
    chown(&directory, Some(FIRST), None).unwrap();
    remapped.pipe().ok();
    assert_eq!(fs::metadata(remapped.step().file("key")).unwrap().gid(), FIRST);
    chown(&directory, Some(FIRST), Some(FIRST)).unwrap();
    remapped.pipe().ok();
    remapped.expect_owner(FIRST, FIRST);
    hello(remapped.step(), &cluster);
}

fn a_closed_clone_directory_is_refused_with_the_true_cause() {
    let cluster = Testcluster::start();
    let remapped = Remapped::new(&cluster);
    fs::set_permissions(remapped.step().dir(), fs::Permissions::from_mode(0o755)).unwrap();
    remapped.expect_refusal(&cluster, &expect_file!["golden/destination/user-namespace-clone.log"]);
}

fn an_owner_who_is_another_user_for_the_step_is_refused() {
    let cluster = Testcluster::start();
    let remapped = Remapped::new(&cluster).env("FILE_OWNER", "1000:1000");
    remapped.expect_refusal(&cluster, &expect_file!["golden/destination/user-namespace-owner.log"]);
    // A user without a number in the container.
    let remapped = remapped.env("FILE_OWNER", "200000");
    remapped.expect_refusal(&cluster, &expect_file!["golden/destination/user-namespace-no-owner.log"]);
}

/// The engine of a self-hosted runner may run without root, and then all containers have the same other users.
fn a_step_with_the_same_users_has_its_owners() {
    let cluster = Testcluster::start();
    let remapped = Remapped::new(&cluster).env("FILE_OWNER", "1000:1001");
    chown(remapped.step().dir(), Some(FIRST), Some(FIRST)).unwrap();
    remapped.pipe().ok();
    remapped.expect_owner(FIRST + 1000, FIRST + 1001);
}

/// docs/troubleshooting.md, "The pipe has other users than the step".
fn a_step_that_is_not_root_can_run_the_program_itself() {
    let cluster = Testcluster::start();
    let Remapped(user) = Remapped::new(&cluster);
    user.pipe().ok();
    user.hello(&cluster);
}
