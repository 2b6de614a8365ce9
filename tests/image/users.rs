//! Who runs the pipe is root; who runs the rest of the step need not be.

use crate::harness::stories;
use crate::images::IMAGE;
use crate::step::{self, Step};

stories! {
    root_runs_the_step needs IMAGE,
    who_made_the_destination_can_use_the_keys needs IMAGE,
    who_did_not_is_told_how needs IMAGE,
    file_owner_can_use_the_keys needs IMAGE,
    what_root_left_does_not_stop_file_owner needs IMAGE,
    a_user_without_a_name_has_the_keys_but_openssh_will_not_run needs IMAGE,
}

fn root_runs_the_step() {
    let cluster = step::cluster();
    let step = Step::new(&cluster);
    let before = step.beside_the_destination();
    step.pipe().ok();
    step.hello(&cluster);
    assert_eq!(step.git(&["status", "--porcelain"]).ok().stdout, "");
    // The storage directories included: what is there goes on to later steps.
    assert_eq!(step.beside_the_destination(), before);
}

fn who_made_the_destination_can_use_the_keys() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).user("1000:1000");
    step.script("umask 022; mkdir -p tbot-user").ok();
    let output = step.pipe().ok();
    assert!(!output.stderr.contains("FILE_OWNER"), "{}", output.stderr);
    step.hello(&cluster);
}

fn who_did_not_is_told_how() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).user("1000:1000");
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

fn what_root_left_does_not_stop_file_owner() {
    let cluster = step::cluster();
    let step = Step::new(&cluster);
    step.pipe().ok();
    step.hello(&cluster);
    let step = step.user("1000:1000").with("FILE_OWNER", "1000:1000");
    step.pipe().ok();
    step.hello(&cluster);
    // Nor what that user left root.
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
    // The remedy: a line in the image's passwd, which is open to that in images made for such users.
    let passwd = step.path("passwd");
    std::fs::write(&passwd, "step:x:4242:4242::/tmp:/bin/sh\n").unwrap();
    let volume = format!("--volume={}:/etc/passwd:ro", passwd.display());
    let ssh = step.script_with(&[&volume], &Step::ssh(&cluster)).ok();
    assert_eq!(ssh.stdout, "hello world\n");
}
