//! `cleanup`, as an action of the pipe and as a command: it removes the files that runs wrote, and no other file.

use std::fs;

use expect_test::expect_file;
use testcluster::Testcluster;

use crate::harness::stories;
use crate::machine::{ROOT, Unprivileged};
use crate::step::{Output, Step};

stories! {
    everything_is_removed_and_a_second_time_there_is_nothing_to_do,
    the_action_of_the_pipe_uses_its_destination,
    the_command_finds_what_the_pipes_variable_or_a_file_url_names,
    the_binary_in_the_destination_removes_its_own_directory,
    a_directory_that_the_step_created_stays,
    unknown_and_changed_files_stay_and_are_named,
    a_checkout_as_destination_keeps_its_own_files,
    a_planted_record_removes_no_file_of_another_directory,
    a_planted_record_removes_no_directory,
    a_planted_record_removes_no_file_of_the_repository,
    a_planted_temporary_file_stays,
    a_destination_that_was_moved_is_removed,
    a_copy_of_a_destination_stays,
    directories_with_the_names_of_output_files_stay,
    the_files_of_tbot_stay,
    files_of_another_user_are_an_error_that_names_the_user needs ROOT,
}

fn cleanup(step: &Step) -> Output {
    step.product(&["cleanup"]).ok()
}

fn names(step: &Step) -> Vec<String> {
    let Ok(entries) = fs::read_dir(step.dir().join("tbot-user")) else { return vec!["(no directory)".to_owned()] };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Keys must not outlive a cleanup that says that there is nothing to do.
fn the_command_finds_what_the_pipes_variable_or_a_file_url_names() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("DESTINATION", "./creds");
    step.pipe().ok();
    assert!(cleanup(&step).stderr.contains(" files from ") && !step.dir().join("creds").exists());
    // The directory of the program comes first: another program may use the variable.
    for destination in ["/srv/app", "~/app"] {
        let step = Step::new(&cluster).env("DESTINATION", destination);
        step.product(&["join", "--destination=./own"]).ok();
        let program = step.dir().join("own/teleport-pipe").display().to_string();
        step.run(&program, &["cleanup"]).ok();
        assert!(!step.dir().join("own").exists(), "{destination}");
    }

    let step = Step::new(&cluster);
    let url = format!("--destination=file://{}", step.dir().join("creds").display());
    step.product(&["join", &url]).ok();
    let made = step.dir().join("creds/key");
    assert!(made.exists() && !step.dir().join("file:").exists());
    step.product(&["cleanup", &url]).ok();
    assert!(!made.exists());
    let output = step.product(&["join", "--destination=memory://"]);
    assert_eq!(output.status, Some(2), "{}", output.stderr);
}

fn everything_is_removed_and_a_second_time_there_is_nothing_to_do() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let first = cleanup(&step).stderr;
    assert_eq!(names(&step), ["(no directory)"]);
    let second = cleanup(&step).stderr;
    expect_file!["golden/log/cleanup.log"].assert_eq(&step.scrubbed(&(first + &second)));
}

fn the_action_of_the_pipe_uses_its_destination() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("DESTINATION", "deep/er/creds");
    step.pipe().ok();
    fs::write(step.dir().join("deep/mine"), "").unwrap();
    // The action needs neither a token nor a cluster, and works in an after-script.
    let step = step.env("ACTION", "cleanup").without("PROXY_SERVER").without("TOKEN");
    let step = step.without("BITBUCKET_STEP_OIDC_TOKEN").env("BITBUCKET_EXIT_CODE", "1");
    step.pipe().ok();
    // The directories that the run created are removed, up to a directory with another file.
    assert!(!step.dir().join("deep/er").exists() && step.dir().join("deep/mine").exists());
}

fn the_binary_in_the_destination_removes_its_own_directory() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    step.run("./tbot-user/teleport-pipe", &["cleanup"]).ok();
    assert_eq!(names(&step), ["(no directory)"]);
    let step = step.env("DESTINATION", "creds");
    step.pipe().ok();
    step.run("./creds/teleport-pipe", &["cleanup"]).ok();
    assert!(!step.dir().join("creds").exists());
}

fn a_directory_that_the_step_created_stays() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    step.pipe().ok();
    step.pipe().ok();
    cleanup(&step);
    assert!(names(&step).is_empty());
}

fn unknown_and_changed_files_stay_and_are_named() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    fs::write(step.file("notes"), "mine").unwrap();
    let first = cleanup(&step).stderr;
    assert_eq!(names(&step), ["notes"]);
    fs::remove_file(step.file("notes")).unwrap();

    step.pipe().ok();
    fs::write(step.file("ssh_config"), "Host mine\n").unwrap();
    let second = cleanup(&step).stderr;
    // The next cleanup must still have the record, and git must still ignore the file.
    assert_eq!(names(&step), [".gitignore", ".teleport-pipe.sha256", "ssh_config"]);
    expect_file!["golden/log/cleanup-unknown-files.log"].assert_eq(&step.scrubbed(&(first + &second)));
    step.pipe().ok();
    cleanup(&step);
    // The last cleanup has removed the record of the run that created the directory.
    assert!(names(&step).is_empty(), "{:?}", names(&step));
}

fn a_checkout_as_destination_keeps_its_own_files() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
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

fn a_planted_record_removes_no_file_of_another_directory() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::write(step.dir().join("deploy.sh"), "").unwrap();
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    let names = ["../deploy.sh".to_owned(), step.dir().join("deploy.sh").display().to_string()];
    let record: String = names.iter().map(|name| format!("{EMPTY}  {name}\n")).collect();
    fs::write(step.file(".teleport-pipe.sha256"), record).unwrap();
    // The file also stays if a run has read the planted record before.
    step.pipe().ok();
    cleanup(&step);
    assert!(step.dir().join("deploy.sh").exists());
}

/// The digest of an empty file.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Records as a repository can have them, of this version and an earlier one.
fn planted_records() -> [String; 2] {
    let file = format!("{EMPTY}  lib.rs\n");
    let made = "# Made: 7-0\n".repeat(99);
    [format!("# Directories made: 99\n{file}"), format!("# This directory: 7-0\n{made}{file}")]
}

/// F9: directories above the destination were removed because a file in the repository said so.
fn a_planted_record_removes_no_directory() {
    let step = Step::empty();
    for record in planted_records() {
        fs::create_dir_all(step.dir().join("a/theirs/empty/tbot-user")).unwrap();
        fs::write(step.dir().join("a/theirs/empty/tbot-user/.teleport-pipe.sha256"), record).unwrap();
        step.product(&["cleanup", "--destination=a/theirs/empty/tbot-user"]).ok();
        assert!(step.dir().join("a/theirs/empty/tbot-user/.teleport-pipe.sha256").exists());
    }
}

/// F9: files of the repository were removed if it had a record with their digests.
fn a_planted_record_removes_no_file_of_the_repository() {
    let step = Step::empty();
    for record in planted_records() {
        fs::create_dir_all(step.dir().join("tbot-user")).unwrap();
        fs::write(step.file("lib.rs"), "").unwrap();
        fs::write(step.file(".gitignore"), "*\n").unwrap();
        fs::write(step.file(".teleport-pipe.sha256"), record).unwrap();
        let log = cleanup(&step).stderr;
        assert_eq!(names(&step), [".gitignore", ".teleport-pipe.sha256", "lib.rs"]);
        expect_file!["golden/log/cleanup-planted-record.log"].assert_eq(&step.scrubbed(&log));
    }
}

/// F9: files were removed by the beginning of their names.
fn a_planted_temporary_file_stays() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    let planted = [".teleport-pipe.tmp.7", ".teleport-pipe.tmp.7-0.7", ".teleport-pipe.tmp.note"];
    planted.iter().for_each(|name| fs::write(step.file(name), "theirs").unwrap());
    cleanup(&step);
    assert_eq!(names(&step), planted);
    let output = step.pipe();
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(output.stderr.contains("did not write: .teleport-pipe.tmp.7, "), "{}", output.stderr);
    assert_eq!(names(&step), planted);
}

fn a_destination_that_was_moved_is_removed() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("DESTINATION", "ours/creds");
    step.pipe().ok();
    fs::create_dir(step.dir().join("theirs")).unwrap();
    fs::rename(step.dir().join("ours/creds"), step.dir().join("theirs/moved")).unwrap();
    step.run("./theirs/moved/teleport-pipe", &["cleanup"]).ok();
    assert!(!step.dir().join("theirs/moved").exists());
    // The parent that was made is not the one that it has now.
    assert!(step.dir().join("theirs").exists() && step.dir().join("ours").exists());
}

fn a_copy_of_a_destination_stays() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    step.run("cp", &["-a", "tbot-user", "copy"]).ok();
    let log = step.run("./copy/teleport-pipe", &["cleanup"]).ok().stderr;
    assert!(log.contains("was not made for this directory"), "{log}");
    assert!(step.dir().join("copy/key").exists());
    cleanup(&step);
    assert_eq!(names(&step), ["(no directory)"]);
}

fn directories_with_the_names_of_output_files_stay() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    fs::create_dir(step.file(".teleport-pipe.tmp.7")).unwrap();
    cleanup(&step);
    assert_eq!(names(&step), [".teleport-pipe.tmp.7"]);
    fs::rename(step.file(".teleport-pipe.tmp.7"), step.file(".teleport-pipe.sha256")).unwrap();
    let log = cleanup(&step).stderr;
    assert!(
        names(&step) == [".teleport-pipe.sha256"] && log.contains("did not write them: .teleport-pipe.sha256"),
        "{log}"
    );
}

fn the_files_of_tbot_stay() {
    let step = Step::empty();
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    fs::write(step.file("key"), "a key").unwrap();
    let log = cleanup(&step).stderr;
    assert_eq!(names(&step), ["key"]);
    assert!(log.contains("nothing in ") && log.contains("did not write them: key"), "{log}");
}

fn files_of_another_user_are_an_error_that_names_the_user() {
    let cluster = Testcluster::start();
    let user = Unprivileged::new(&cluster);
    user.step.pipe().ok();
    fs::set_permissions(user.step.dir().join("tbot-user"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    std::os::unix::fs::chown(user.step.dir().join("tbot-user"), Some(0), Some(0)).unwrap();
    let output = user.run(user.step.dir().join("product").to_str().unwrap(), &["cleanup"]);
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    expect_file!["golden/destination/cleanup-not-permitted.log"].assert_eq(&user.step.scrubbed(&output.stderr));
}
