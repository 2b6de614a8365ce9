//! Root runs the pipe, but another user may run the rest of the step.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::harness::stories;
use crate::images::IMAGE;
use crate::remapped::FIRST;
use crate::step::{self, Step};

stories! {
    root_runs_the_step needs IMAGE,
    the_user_who_created_the_destination_can_use_the_keys needs IMAGE,
    the_log_names_remedies_for_another_user needs IMAGE,
    file_owner_can_use_the_keys needs IMAGE,
    file_owner_can_replace_the_files_of_root needs IMAGE,
    a_user_without_a_name_has_the_keys_but_openssh_will_not_run needs IMAGE,
    root_of_the_step_can_use_the_files_of_a_pipe_with_other_users needs IMAGE,
    a_directory_of_the_step_is_refused_by_a_pipe_with_other_users needs IMAGE,
    a_step_that_is_not_root_can_run_the_program_itself needs IMAGE,
}

fn root_runs_the_step() {
    let cluster = step::cluster();
    let step = Step::new(&cluster);
    let before = step.other_files();
    step.pipe().ok();
    step.hello(&cluster);
    assert_eq!(step.git(&["status", "--porcelain"]).ok().stdout, "");
    // The storage directories are among them, whose files are handed to later steps.
    assert_eq!(step.other_files(), before);
}

fn the_user_who_created_the_destination_can_use_the_keys() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).user("1000:1000");
    step.script("umask 022; mkdir -p tbot-user").ok();
    let output = step.pipe().ok();
    assert!(!output.stderr.contains("FILE_OWNER"), "{}", output.stderr);
    step.hello(&cluster);
}

fn the_log_names_remedies_for_another_user() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).user("1000:1000");
    let yaml = "{image: {name: x, run-as-user: 1000}, pipelines: {default: [{step: {oidc: true, script: [make]}}]}}";
    fs::write(step.path("bitbucket-pipelines.yml"), yaml).unwrap();
    let output = step.pipe().ok();
    let ssh = step.script(&Step::ssh(&cluster));
    assert_eq!(ssh.status, Some(255));
    assert!(ssh.stderr.contains("ssh_config: Permission denied"), "{}", ssh.stderr);
    for remedy in ["FILE_OWNER", "mkdir -p"] {
        assert!(output.stderr.contains(remedy), "{remedy}: {}", output.stderr);
    }
}

fn file_owner_can_use_the_keys() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).user("1000:1000").with("FILE_OWNER", "1000");
    step.pipe().ok();
    step.hello(&cluster);
}

fn file_owner_can_replace_the_files_of_root() {
    let cluster = step::cluster();
    let step = Step::new(&cluster);
    step.pipe().ok();
    step.hello(&cluster);
    let step = step.user("1000:1000").with("FILE_OWNER", "1000:1000");
    step.pipe().ok();
    step.hello(&cluster);
    // Root can replace the files of that user.
    let step = step.user("0:0").with("FILE_OWNER", "0:0");
    step.pipe().ok();
    step.hello(&cluster);
}

fn a_user_without_a_name_has_the_keys_but_openssh_will_not_run() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).user("4242:4242").with("FILE_OWNER", "4242:4242");
    step.pipe().ok();
    let ssh = step.script(&Step::ssh(&cluster));
    assert_eq!((ssh.status, ssh.stderr.as_str()), (Some(255), "No user exists for uid 4242\r\n"));
    step.script("cat tbot-user/key >/dev/null; ./tbot-user/teleport-pipe version").ok();
    // The remedy is a line in the image's passwd, which the user may write to in images for such users.
    let passwd = step.path("passwd");
    std::fs::write(&passwd, "step:x:4242:4242::/tmp:/bin/sh\n").unwrap();
    let volume = format!("--volume={}:/etc/passwd:ro", passwd.display());
    let ssh = step.script_with(&[&volume], &Step::ssh(&cluster)).ok();
    assert_eq!(ssh.stdout, "hello world\n");
}

fn root_of_the_step_can_use_the_files_of_a_pipe_with_other_users() {
    let cluster = step::cluster();
    let step = Step::new(&cluster);
    step.remapped_pipe().ok();
    let key = std::fs::metadata(step.path("tbot-user/key")).unwrap();
    assert_eq!((key.uid(), key.gid()), (FIRST, FIRST));
    step.hello(&cluster);
    step.script("./tbot-user/teleport-pipe cleanup; ! test -e tbot-user").ok();
}

fn a_directory_of_the_step_is_refused_by_a_pipe_with_other_users() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).user("1000:1000");
    step.script("mkdir -p tbot-user").ok();
    let output = step.remapped_pipe();
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(
        output.stderr.contains("`mkdir -p ") && output.stderr.contains(" chown 165536:165536 "),
        "{}",
        output.stderr
    );
}

/// docs/troubleshooting.md, "The pipe has other users than the step".
fn a_step_that_is_not_root_can_run_the_program_itself() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).user("1000:1000");
    step.program_in_the_step().ok();
    step.hello(&cluster);
}
