//! `inspect` with a directory: the resources become files there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use expect_test::expect_file;
use testcluster::{ENVIRONMENT_UUID, Fault, Testcluster};

use crate::harness::stories;
use crate::inspect::{deploying, documents, without_ages};
use crate::machine::{MOUNT, Tmpfs};
use crate::step::{Output, Step};

stories! {
    the_files_are_what_would_have_been_printed,
    terraform_gets_one_file,
    a_later_run_replaces_the_files,
    the_files_need_no_cluster,
    the_default_of_the_credentials_is_not_a_directory_for_files,
    programs_need_not_start_from_the_directory needs MOUNT,
    files_of_the_repository_are_never_replaced,
    a_file_that_was_edited_is_never_replaced,
    resources_never_lie_beside_credentials,
    a_directory_that_cannot_be_used_is_refused_before_the_network,
    the_files_hold_what_a_public_log_hides,
    cleanup_removes_the_files,
}

/// A step that writes the resources into `./teleport`.
fn writing(cluster: &Testcluster) -> Step {
    deploying(cluster).env("ACTION", "inspect").env("DESTINATION", "./teleport")
}

fn read(step: &Step, name: &str) -> String {
    fs::read_to_string(step.dir().join("teleport").join(name)).unwrap()
}

/// The names of the entries of `./teleport`, sorted.
fn names(step: &Step) -> Vec<String> {
    let entries = fs::read_dir(step.dir().join("teleport")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const YAML: [&str; 5] = [".gitignore", ".teleport-pipe.sha256", "bot-token.yaml", "bot.yaml", "role.yaml"];

fn the_files_are_what_would_have_been_printed() {
    let cluster = Testcluster::start();
    let step = writing(&cluster);
    let output = step.pipe().ok();
    let text = without_ages(&step.scrubbed(&format!("{}{}", output.stderr, output.stdout)));
    expect_file!["golden/inspect/files.txt"].assert_eq(&text);
    assert_eq!(names(&step), YAML);
    let files = ["role.yaml", "bot.yaml", "bot-token.yaml"].map(|name| read(&step, name));
    let printed = deploying(&cluster).env("ACTION", "inspect").pipe().ok();
    assert!(printed.stdout.contains(&files.join("---\n")), "{}", printed.stdout);
    // The stream on stdout is YAML without a document.
    assert!(output.stdout.lines().all(|line| line.is_empty() || line.starts_with('#')), "{}", output.stdout);
    let mode = |name: &str| fs::metadata(step.dir().join("teleport").join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("role.yaml")), (0o700, 0o600));
    let by_flag = deploying(&cluster);
    by_flag.product(&["inspect", "--destination=./teleport"]).ok();
    assert_eq!(names(&by_flag), YAML);
}

fn terraform_gets_one_file() {
    let cluster = Testcluster::start();
    let step = writing(&cluster).env("FORMAT", "terraform").env("DESTINATION", "teleport");
    let output = step.pipe().ok();
    let text = without_ages(&step.scrubbed(&format!("{}{}", output.stderr, output.stdout)));
    expect_file!["golden/inspect/terraform-files.txt"].assert_eq(&text);
    assert_eq!(names(&step), [".gitignore", ".teleport-pipe.sha256", "teleport.tf"]);
    let printed = deploying(&cluster).env("ACTION", "inspect").env("FORMAT", "terraform").pipe().ok();
    assert!(printed.stdout.contains(&read(&step, "teleport.tf")), "{}", printed.stdout);
}

fn a_later_run_replaces_the_files() {
    let cluster = Testcluster::start();
    let step = writing(&cluster);
    step.pipe().ok();
    let step = step.env("NODE_LABELS", "env=prod");
    step.pipe().ok();
    assert!(read(&step, "role.yaml").contains("'env': 'prod'"));
    // Those of the other format would go on to be used.
    let step = step.env("FORMAT", "terraform");
    step.pipe().ok();
    assert_eq!(names(&step), [".gitignore", ".teleport-pipe.sha256", "teleport.tf"]);
}

fn the_files_need_no_cluster() {
    let without = writing(&Testcluster::start()).without("PROXY_SERVER");
    without.pipe().ok();
    assert_eq!(names(&without), YAML);
    // The cluster takes all the time that the run has.
    let cluster = Testcluster::builder().fault(Fault::Hang).start();
    let silent = writing(&cluster).env("TIMEOUT", "1s");
    let output = silent.pipe().ok();
    assert!(output.stderr.contains("warning: the cluster was not reached"), "{}", output.stderr);
    assert_eq!(names(&silent), YAML);
}

fn the_default_of_the_credentials_is_not_a_directory_for_files() {
    let cluster = Testcluster::start();
    let step = writing(&cluster).env("DESTINATION", "./tbot-user");
    documents(&step.pipe().ok());
    assert_eq!(fs::read_dir(step.dir()).unwrap().count(), 0);
}

fn programs_need_not_start_from_the_directory() {
    let step = writing(&Testcluster::start()).env("DESTINATION", "disk/teleport");
    let _tmpfs = Tmpfs::at(step.dir().join("disk"), "mode=0755");
    rustix::mount::mount_remount(step.dir().join("disk"), rustix::mount::MountFlags::NOEXEC, "").unwrap();
    step.pipe().ok();
    assert!(step.dir().join("disk/teleport/role.yaml").exists());
}

/// The run fails, says that these files are others', and changes nothing.
#[track_caller]
fn refused(step: &Step, files: &str) {
    let before: Vec<_> = names(step).iter().map(|name| (name.clone(), read(step, name))).collect();
    let output = step.pipe();
    assert_eq!((output.status, &*output.stdout), (Some(6), ""), "{}", output.stderr);
    let text = format!("holds files that teleport-pipe did not write: {files}\n");
    assert!(output.stderr.contains(&text), "{}", output.stderr);
    assert_eq!(names(step).iter().map(|name| (name.clone(), read(step, name))).collect::<Vec<_>>(), before);
}

fn files_of_the_repository_are_never_replaced() {
    let cluster = Testcluster::start();
    for (name, text) in [
        ("role.yaml", "kind: role\n"),
        ("teleport.tf", ""),
        ("README.md", "ours"),
        ("main.tf", ""),
        (".gitignore", "!keep\n"),
    ] {
        let step = writing(&cluster);
        fs::create_dir(step.dir().join("teleport")).unwrap();
        fs::write(step.dir().join("teleport").join(name), text).unwrap();
        refused(&step, name);
    }
    // A record that came with the repository does not count.
    let other = writing(&cluster);
    other.pipe().ok();
    let step = writing(&cluster);
    fs::create_dir(step.dir().join("teleport")).unwrap();
    for name in YAML {
        fs::copy(other.dir().join("teleport").join(name), step.dir().join("teleport").join(name)).unwrap();
    }
    refused(&step, ".gitignore, bot-token.yaml, bot.yaml, role.yaml");
    assert!(
        cluster.calls().iter().filter(|call| call.name == "GET /webapi/find").count() == 1,
        "{:?}",
        cluster.calls()
    );
}

fn a_file_that_was_edited_is_never_replaced() {
    let cluster = Testcluster::start();
    let step = writing(&cluster);
    step.pipe().ok();
    fs::write(step.dir().join("teleport/role.yaml"), "kind: role # edited\n").unwrap();
    refused(&step, "role.yaml");
}

fn resources_never_lie_beside_credentials() {
    let cluster = Testcluster::start();
    let step = writing(&cluster).env("ACTION", "join");
    assert_eq!(step.pipe().status, Some(0));
    let step = step.env("ACTION", "inspect");
    let output = step.pipe();
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(
        output.stderr.contains("holds credentials, and files of inspect never lie beside them"),
        "{}",
        output.stderr
    );
    assert!(!step.dir().join("teleport/role.yaml").exists());

    // Nor does tbot's command line write there, which keeps unknown files.
    let step = writing(&cluster);
    step.pipe().ok();
    let (proxy, token) =
        (format!("--proxy-server={}", cluster.proxy_addr()), format!("--token={}", cluster.token_name()));
    let output = step.product(&["start", "identity", "--oneshot", "--destination=teleport", &proxy, &token]);
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert_eq!(names(&step), YAML);

    let step = writing(&cluster);
    step.pipe().ok();
    let step = step.env("ACTION", "join");
    let output = step.pipe();
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(
        output.stderr.contains("holds files that inspect wrote, and credentials never lie beside them"),
        "{}",
        output.stderr
    );
    assert_eq!(names(&step), YAML);
}

fn a_directory_that_cannot_be_used_is_refused_before_the_network() {
    let cluster = Testcluster::start();
    let refused = |prepare: &dyn Fn(&Path), destination: &str, storage: bool, reason: &str| {
        let step = writing(&cluster).env("DESTINATION", destination);
        let step = if storage { step.env("BITBUCKET_PIPE_STORAGE_DIR", "/storage") } else { step };
        prepare(step.dir());
        let Output { status, stdout, stderr } = step.pipe();
        assert!(status != Some(0) && stdout.is_empty() && stderr.contains(reason), "{destination}: {stderr}");
    };
    let nothing = |_: &Path| {};
    refused(&|dir| symlink("/tmp", dir.join("link")).unwrap(), "link", false, "is a symbolic link");
    refused(&|dir| symlink("/tmp", dir.join("link")).unwrap(), "link/x", false, "is a symbolic link");
    refused(&|dir| fs::write(dir.join("file"), "").unwrap(), "file", false, "is not a directory");
    refused(&nothing, "~/teleport", false, "nothing expands here");
    refused(&nothing, "/tmp/nowhere/teleport", true, "is outside of the clone directory");
    refused(&|dir| fs::write(dir.join("Makefile"), "").unwrap(), ".", false, "did not write: Makefile");
    assert!(cluster.record().is_empty());
}

fn the_files_hold_what_a_public_log_hides() {
    let cluster = Testcluster::start();
    let step = writing(&cluster)
        .env("BITBUCKET_REPO_IS_PRIVATE", "false")
        .env("LOGINS", "backup")
        .env("NODE_LABELS", "env=hush");
    let output = step.pipe().ok();
    assert!(read(&step, "role.yaml").contains("'env': 'hush'") && read(&step, "role.yaml").contains("['backup']"));
    assert!(read(&step, "bot-token.yaml").contains(ENVIRONMENT_UUID));
    for hidden in ["hush", "backup", ENVIRONMENT_UUID] {
        assert!(
            !output.stdout.contains(hidden) && !output.stderr.contains(hidden),
            "{}{}",
            output.stdout,
            output.stderr
        );
    }
    assert!(
        output.stderr.contains("warning: this repository is public, and so are its artifacts"),
        "{}",
        output.stderr
    );
}

fn cleanup_removes_the_files() {
    let cluster = Testcluster::start();
    let step = writing(&cluster);
    documents(&deploying(&cluster).env("ACTION", "inspect").pipe().ok());
    step.pipe().ok();
    step.env("ACTION", "cleanup").pipe().ok();
    let step = writing(&cluster);
    step.pipe().ok();
    let step = step.env("ACTION", "cleanup");
    step.pipe().ok();
    assert!(!step.dir().join("teleport").exists());
}
