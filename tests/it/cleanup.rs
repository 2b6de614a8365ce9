//! `cleanup`, as the pipe and as a command: what was written goes, everything else stays.

use std::fs;

use expect_test::expect_file;
use testcluster::Testcluster;

use crate::harness::stories;
use crate::machine::{ROOT, Unprivileged};
use crate::step::{Said, Step};

stories! {
    everything_goes_and_a_second_time_there_is_nothing_to_do,
    as_an_action_of_the_pipe_with_its_destination,
    by_the_binary_that_lies_there,
    a_directory_that_the_step_made_stays,
    what_is_not_ours_or_was_changed_stays_and_is_named,
    a_checkout_as_destination_keeps_what_has_our_names,
    a_planted_record_removes_nothing_elsewhere,
    directories_with_our_names_stay,
    what_tbot_wrote_is_left_to_tbot,
    what_another_user_wrote_is_said_to_be_his needs ROOT,
}

fn cleanup(step: &Step) -> Said {
    step.product(&["cleanup"]).ok()
}

fn names(step: &Step) -> Vec<String> {
    let Ok(entries) = fs::read_dir(step.dir().join("tbot-user")) else { return vec!["(no directory)".to_owned()] };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn everything_goes_and_a_second_time_there_is_nothing_to_do() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    step.pipe().ok();
    let first = cleanup(&step).stderr;
    assert_eq!(names(&step), ["(no directory)"]);
    let second = cleanup(&step).stderr;
    expect_file!["golden/log/cleanup.log"].assert_eq(&step.scrubbed(&(first + &second)));
}

fn as_an_action_of_the_pipe_with_its_destination() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster).env("DESTINATION", "deep/er/creds");
    step.pipe().ok();
    fs::write(step.dir().join("deep/mine"), "").unwrap();
    // The action needs no token, no cluster, and works in an after-script.
    let step = step.env("ACTION", "cleanup").without("PROXY_SERVER").without("TOKEN");
    let step = step.without("BITBUCKET_STEP_OIDC_TOKEN").env("BITBUCKET_EXIT_CODE", "1");
    step.pipe().ok();
    // What was made for it goes, up to where somebody else has something.
    assert!(!step.dir().join("deep/er").exists() && step.dir().join("deep/mine").exists());
}

fn by_the_binary_that_lies_there() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    step.pipe().ok();
    step.run("./tbot-user/teleport-pipe", &["cleanup"]).ok();
    assert_eq!(names(&step), ["(no directory)"]);
    let step = step.env("DESTINATION", "creds");
    step.pipe().ok();
    step.run("./creds/teleport-pipe", &["cleanup"]).ok();
    assert!(!step.dir().join("creds").exists());
}

fn a_directory_that_the_step_made_stays() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    step.pipe().ok();
    step.pipe().ok();
    cleanup(&step);
    assert!(names(&step).is_empty());
}

fn what_is_not_ours_or_was_changed_stays_and_is_named() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    step.pipe().ok();
    fs::write(step.output("notes"), "mine").unwrap();
    let first = cleanup(&step).stderr;
    assert_eq!(names(&step), ["notes"]);
    fs::remove_file(step.output("notes")).unwrap();

    step.pipe().ok();
    fs::write(step.output("ssh_config"), "Host mine\n").unwrap();
    let second = cleanup(&step).stderr;
    // The next cleanup must still know it, and git must not see it.
    assert_eq!(names(&step), [".gitignore", ".teleport-pipe.sha256", "ssh_config"]);
    expect_file!["golden/log/cleanup-not-ours.log"].assert_eq(&step.scrubbed(&(first + &second)));
    step.pipe().ok();
    cleanup(&step);
    // The directory was made by a run whose record is gone.
    assert!(names(&step).is_empty(), "{:?}", names(&step));
}

fn a_checkout_as_destination_keeps_what_has_our_names() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    for name in [".gitignore", "src.c", "teleport-database-ca.crt"] {
        fs::write(step.dir().join(name), "mine\n").unwrap();
    }
    let proxy = format!("--proxy-server={}", cluster.proxy_addr());
    step.product(&["start", "identity", "--oneshot", "--destination=.", "--token=example-bot", &proxy]).ok();
    assert!(step.dir().join("key").exists());
    step.product(&["cleanup", "--destination=."]).ok();
    let mut left: Vec<_> =
        fs::read_dir(step.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".gitignore", "src.c", "teleport-database-ca.crt"]);
}

fn a_planted_record_removes_nothing_elsewhere() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    fs::write(step.dir().join("deploy.sh"), "").unwrap();
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    // printf '' | sha256sum
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let names = ["../deploy.sh".to_owned(), step.dir().join("deploy.sh").display().to_string()];
    let record: String = names.iter().map(|name| format!("{empty}  {name}\n")).collect();
    fs::write(step.output(".teleport-pipe.sha256"), record).unwrap();
    // Neither at once, nor after a run that goes on with what it finds.
    step.pipe().ok();
    cleanup(&step);
    assert!(step.dir().join("deploy.sh").exists());
}

fn directories_with_our_names_stay() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    step.pipe().ok();
    fs::create_dir(step.output(".teleport-pipe.tmp.7")).unwrap();
    cleanup(&step);
    assert_eq!(names(&step), [".teleport-pipe.tmp.7"]);
    fs::rename(step.output(".teleport-pipe.tmp.7"), step.output(".teleport-pipe.sha256")).unwrap();
    let log = cleanup(&step).stderr;
    assert!(names(&step) == [".teleport-pipe.sha256"] && log.contains("left: .teleport-pipe.sha256"), "{log}");
}

fn what_tbot_wrote_is_left_to_tbot() {
    let step = Step::empty();
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    fs::write(step.output("key"), "a key").unwrap();
    let log = cleanup(&step).stderr;
    assert_eq!(names(&step), ["key"]);
    assert!(log.contains("nothing in ") && log.contains("left: key"), "{log}");
}

fn what_another_user_wrote_is_said_to_be_his() {
    let cluster = Testcluster::start();
    let user = Unprivileged::step_of(&cluster);
    user.step.pipe().ok();
    fs::set_permissions(user.step.dir().join("tbot-user"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    std::os::unix::fs::chown(user.step.dir().join("tbot-user"), Some(0), Some(0)).unwrap();
    let said = user.run(user.step.dir().join("product").to_str().unwrap(), &["cleanup"]);
    assert_eq!(said.status, Some(6), "{}", said.stderr);
    expect_file!["golden/place/cleanup-not-permitted.log"].assert_eq(&user.step.scrubbed(&said.stderr));
}
