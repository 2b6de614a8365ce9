//! Destinations: which are refused and stay unchanged, and who owns the files in the others.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use expect_test::{ExpectFile, expect_file};
use testcluster::Testcluster;

use crate::harness::stories;
use crate::machine::{MOUNT, OTHER_USER, ROOT, STRACE, TIME, Tmpfs, UNPRIVILEGED, Unprivileged, pipe_with};
use crate::step::{Output, Step};

stories! {
    a_symbolic_link_is_refused,
    a_symbolic_link_above_the_destination_is_refused,
    a_file_is_refused,
    a_link_with_the_name_of_an_output_file_is_refused,
    as_a_pipe_unknown_files_are_refused,
    as_tbot_unknown_files_stay,
    a_network_json_of_another_program_stays,
    the_files_of_tbot_are_replaced,
    a_planted_record_does_not_keep_a_run_busy needs TIME,
    a_directory_with_very_many_files_is_refused needs TIME,
    a_run_does_not_write_after_its_deadline needs STRACE TIME,
    a_limit_of_the_size_of_files_leaves_the_old_files,
    a_directory_without_write_permission_is_refused needs UNPRIVILEGED,
    an_owner_that_only_root_can_set_is_refused needs UNPRIVILEGED,
    another_user_can_write_into_the_clone_directory_of_root needs ROOT,
    the_user_who_created_the_destination_owns_what_root_writes_there needs ROOT,
    file_owner_owns_what_root_writes needs ROOT,
    a_mount_point_can_be_the_destination needs MOUNT,
    noexec_is_an_error_for_the_pipe_and_a_warning_for_the_command_line_of_tbot needs MOUNT,
    the_log_says_who_can_read_the_files_if_another_user_comes needs ROOT,
    a_directory_of_another_user_is_refused needs ROOT,
    the_mode_of_an_own_directory_is_corrected needs UNPRIVILEGED,
    the_owner_of_the_clone_directory_owns_new_directories needs ROOT,
    a_read_only_file_system_is_refused needs MOUNT,
    a_full_disk_leaves_the_old_files needs MOUNT TIME,
    a_disk_that_is_full_only_at_the_end_leaves_the_old_files needs STRACE,
}

/// All entries below a directory, with mode, owner, and a hash of the contents or of the link's target.
fn snapshot(directory: &Path) -> BTreeMap<String, (u32, u32, u64)> {
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut hasher = DefaultHasher::new();
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().hash(&mut hasher);
        } else {
            fs::read(&path).unwrap().hash(&mut hasher);
        }
        all.insert(path.to_str().unwrap().to_owned(), (meta.mode(), meta.uid(), hasher.finish()));
    }
    all
}

/// Expects that the run fails and changes nothing.
#[track_caller]
fn expect_refusal(step: &Step, golden: &ExpectFile, run: impl FnOnce() -> Output) {
    let before = snapshot(step.dir());
    let output = run();
    assert_eq!((output.status, output.stdout.as_str()), (Some(6), ""), "{}", output.stderr);
    golden.assert_eq(&step.scrubbed(&output.stderr));
    assert_eq!(snapshot(step.dir()), before);
}

/// Like [`expect_refusal`], before the first request to the cluster.
#[track_caller]
fn expect_early_refusal(step: &Step, cluster: &Testcluster, golden: &ExpectFile) {
    expect_refusal(step, golden, || step.pipe());
    assert!(cluster.record().is_empty(), "{:?}", cluster.record());
}

#[track_caller]
fn hello(step: &Step, cluster: &Testcluster) {
    assert_eq!(step.ssh(&[&Step::node(cluster), "echo", "hello"]).ok().stdout, "hello\n");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn a_symbolic_link_is_refused() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join("published")).unwrap();
    symlink("published", step.dir().join("tbot-user")).unwrap();
    expect_early_refusal(&step, &cluster, &expect_file!["golden/destination/symlink.log"]);
}

fn a_symbolic_link_above_the_destination_is_refused() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("DESTINATION", "link/tbot-user");
    fs::create_dir(step.dir().join("published")).unwrap();
    symlink("published", step.dir().join("link")).unwrap();
    expect_early_refusal(&step, &cluster, &expect_file!["golden/destination/symlink-above.log"]);
}

fn a_file_is_refused() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::write(step.dir().join("tbot-user"), "a file").unwrap();
    expect_early_refusal(&step, &cluster, &expect_file!["golden/destination/file.log"]);
}

fn a_link_with_the_name_of_an_output_file_is_refused() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    cluster.clear_record();
    fs::remove_file(step.file("key")).unwrap();
    symlink("../README.md", step.file("key")).unwrap();
    expect_early_refusal(&step, &cluster, &expect_file!["golden/destination/output-file-symlink.log"]);
}

fn as_a_pipe_unknown_files_are_refused() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    cluster.clear_record();
    fs::write(step.file("notes.txt"), "mine").unwrap();
    fs::create_dir(step.file("more")).unwrap();
    expect_early_refusal(&step, &cluster, &expect_file!["golden/destination/unknown-files.log"]);
}

fn as_tbot_unknown_files_stay() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    fs::set_permissions(step.dir().join("tbot-user"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(step.file("notes.txt"), "mine").unwrap();
    let proxy = format!("--proxy-server={}", step.variable("PROXY_SERVER"));
    let flags = ["--destination=./tbot-user", "--token=example-bot", &proxy, "--oneshot"];
    step.product(&[&["start", "identity"], &flags[..]].concat()).ok();
    assert_eq!(fs::read_to_string(step.file("notes.txt")).unwrap(), "mine");
    assert_eq!(mode(&step.dir().join("tbot-user")), 0o755);
    hello(&step, &cluster);
}

/// tbot does not write a file of this name, so in a directory for tbot it may be another program's.
fn a_network_json_of_another_program_stays() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    let proxy = format!("--proxy-server={}", step.variable("PROXY_SERVER"));
    let flags = ["start", "identity", "--destination=./tbot-user", "--token=example-bot", &proxy, "--oneshot"];
    // A file of the product is replaced.
    step.product(&flags).ok();
    step.product(&flags).ok();
    fs::write(step.file("network.json"), "{\"vlan\": 7}\n").unwrap();
    expect_refusal(&step, &expect_file!["golden/destination/network-json-of-another-program.log"], || {
        step.product(&flags)
    });
}

fn the_files_of_tbot_are_replaced() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    for name in
        ["teleport-host-ca.crt", "teleport-user-ca.crt", "teleport-database-ca.crt", ".write-test", "ssh_config"]
    {
        fs::write(step.file(name), "old").unwrap();
    }
    for name in ["identity", "key", "key.pub", "key-cert.pub", "tlscert", "known_hosts"] {
        fs::write(step.file(name), "old").unwrap();
        fs::set_permissions(step.file(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::write(step.file("example.teleport.sh.ssh_config"), "# example.teleport.sh\nPort 3022\n").unwrap();
    step.pipe().ok();
    hello(&step, &cluster);
    assert_eq!(mode(&step.file("key")), 0o600);
    assert_eq!(fs::read_to_string(step.file("teleport-database-ca.crt")).unwrap(), "old");
}

fn a_directory_without_write_permission_is_refused() {
    let cluster = Testcluster::start();
    let user = Unprivileged::new(&cluster);
    fs::set_permissions(user.step.dir(), fs::Permissions::from_mode(0o555)).unwrap();
    expect_refusal(&user.step, &expect_file!["golden/destination/not-permitted.log"], || user.pipe());
    assert!(cluster.record().is_empty());
}

fn an_owner_that_only_root_can_set_is_refused() {
    let cluster = Testcluster::start();
    let mut user = Unprivileged::new(&cluster);
    user.step = user.step.env("FILE_OWNER", "0:0");
    expect_refusal(&user.step, &expect_file!["golden/destination/owner.log"], || user.pipe());
    assert!(cluster.record().is_empty());
}

fn another_user_can_write_into_the_clone_directory_of_root() {
    let cluster = Testcluster::start();
    let user = Unprivileged::new(&cluster);
    user.pipe().ok();
    expect_owner(OTHER_USER, &user.step);
    user.hello(&cluster);
    user.pipe().ok();
    user.hello(&cluster);
}

fn the_user_who_created_the_destination_owns_what_root_writes_there() {
    let cluster = Testcluster::start();
    let user = Unprivileged::new(&cluster);
    user.run("mkdir", &["-p", "tbot-user"]).ok();
    user.step.pipe().ok();
    expect_owner(OTHER_USER, &user.step);
    user.hello(&cluster);
}

fn file_owner_owns_what_root_writes() {
    let cluster = Testcluster::start();
    let mut user = Unprivileged::new(&cluster);
    user.step.pipe().ok();
    expect_owner(0, &user.step);
    user.step = user.step.env("FILE_OWNER", "65534:65534");
    user.step.pipe().ok();
    expect_owner(OTHER_USER, &user.step);
    user.hello(&cluster);
}

#[track_caller]
fn expect_owner(uid: u32, step: &Step) {
    let all = snapshot(&step.dir().join("tbot-user"));
    assert_eq!(all.len(), 16, "{all:?}");
    assert!(all.values().all(|(_, owner, _)| *owner == uid), "{all:?}");
}

fn a_mount_point_can_be_the_destination() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    let _tmpfs = Tmpfs::at(step.dir().join("tbot-user"), "mode=0755");
    let device = fs::metadata(step.dir().join("tbot-user")).unwrap().dev();
    assert_ne!(device, fs::metadata(step.dir()).unwrap().dev());
    for _ in 0..2 {
        step.pipe().ok();
        hello(&step, &cluster);
        assert_eq!(fs::metadata(step.file("key")).unwrap().dev(), device);
    }
    assert_eq!(mode(&step.dir().join("tbot-user")), 0o700);
}

fn noexec_is_an_error_for_the_pipe_and_a_warning_for_the_command_line_of_tbot() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("DESTINATION", "disk/tbot-user");
    let _tmpfs = Tmpfs::at(step.dir().join("disk"), "mode=0755");
    rustix::mount::mount_remount(step.dir().join("disk"), rustix::mount::MountFlags::NOEXEC, "").unwrap();
    let output = step.pipe();
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(!step.dir().join("disk/tbot-user").exists());
    expect_file!["golden/destination/noexec.log"].assert_eq(&step.scrubbed(&output.stderr));
    assert!(cluster.calls().is_empty());

    let proxy = format!("--proxy-server={}", cluster.proxy_addr());
    let flags = ["start", "identity", "--oneshot", "--destination=disk/creds", "--token=example-bot", &proxy];
    let log = step.product(&flags).ok().stderr;
    assert!(log.contains("warning: the file system of ") && log.contains(" is mounted noexec"), "{log}");
    assert!(step.dir().join("disk/creds/identity").exists());
}

fn the_log_says_who_can_read_the_files_if_another_user_comes() {
    let cluster = Testcluster::start();
    let has_remedies = |log: &str| log.contains("mkdir -p ./tbot-user") && log.contains("FILE_OWNER");
    // All files belong to root, and nothing tells of another user.
    let step = Step::new(&cluster);
    for _ in 0..2 {
        let log = step.pipe().ok().stderr;
        assert!(!has_remedies(&log) && !log.contains("can read"), "{log}");
        let log = step.product(&["--debug"]).ok().stderr;
        assert!(has_remedies(&log) && !log.contains("warning"), "{log}");
    }
    // Another user has files here.
    let step = Step::new(&cluster);
    fs::write(step.dir().join("notes"), "").unwrap();
    chown(step.dir().join("notes"), Some(1234), None).unwrap();
    let log = step.pipe().ok().stderr;
    assert!(has_remedies(&log) && log.contains("warning: only user 0 can read the files, but user 1234 "), "{log}");
    // The step names its user.
    let step = Step::new(&cluster);
    let yaml = "{image: {name: x, run-as-user: 1234}, pipelines: {default: [{step: {oidc: true, script: [make]}}]}}";
    fs::write(step.dir().join("bitbucket-pipelines.yml"), yaml).unwrap();
    let log = step.pipe().ok().stderr;
    assert!(has_remedies(&log) && log.contains("warning: ") && log.contains("`run-as-user: 1234`"), "{log}");
    // The owner was declared, by FILE_OWNER or by creating the directory.
    let step = Step::new(&cluster).env("FILE_OWNER", "1234");
    let log = step.pipe().ok().stderr;
    assert!(!has_remedies(&log), "{log}");
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    chown(step.dir().join("tbot-user"), Some(1234), None).unwrap();
    let log = step.pipe().ok().stderr;
    assert!(!has_remedies(&log), "{log}");
    expect_owner(1234, &step);
}

/// A directory that all users may write to is refused, too, if its mode cannot be changed.
fn a_directory_of_another_user_is_refused() {
    let cluster = Testcluster::start();
    let user = Unprivileged::new(&cluster);
    let destination = user.step.dir().join("tbot-user");
    fs::create_dir(&destination).unwrap();
    for (mode, error) in [(0o755, "is not permitted to write to "), (0o777, "belongs to user 0 and is open to others")]
    {
        fs::set_permissions(&destination, fs::Permissions::from_mode(mode)).unwrap();
        let output = user.pipe();
        assert_eq!(output.status, Some(6), "{}", output.stderr);
        assert!(output.stderr.contains(error), "{}", output.stderr);
    }
    assert!(cluster.record().is_empty());
}

fn the_mode_of_an_own_directory_is_corrected() {
    let cluster = Testcluster::start();
    let user = Unprivileged::new(&cluster);
    user.run("mkdir", &["-m", "0500", "tbot-user"]).ok();
    user.pipe().ok();
    assert_eq!(mode(&user.step.dir().join("tbot-user")), 0o700);
    user.hello(&cluster);
}

fn the_owner_of_the_clone_directory_owns_new_directories() {
    let cluster = Testcluster::start();
    let mut step = Step::new(&cluster).env("DESTINATION", "a/tbot-user");
    chown(step.dir(), Some(1000), Some(1001)).unwrap();
    let owners = |step: &Step| {
        ["a", "a/tbot-user", "a/tbot-user/.gitignore", "a/tbot-user/key"].map(|path| {
            let meta = fs::metadata(step.dir().join(path)).unwrap();
            (meta.uid(), meta.gid())
        })
    };
    step.pipe().ok();
    assert_eq!(owners(&step), [(1000, 1001); 4]);
    // FILE_OWNER also changes the owner of existing files.
    step = step.env("FILE_OWNER", "1234:1235");
    step.pipe().ok();
    assert_eq!(owners(&step)[1..], [(1234, 1235); 3]);
}

fn a_read_only_file_system_is_refused() {
    let cluster = Testcluster::start();
    let mut step = Step::new(&cluster);
    let _tmpfs = Tmpfs::at(step.dir().join("disk"), "");
    fs::create_dir(step.dir().join("disk/there")).unwrap();
    rustix::mount::mount_remount(step.dir().join("disk"), rustix::mount::MountFlags::RDONLY, "").unwrap();
    for destination in ["disk/there", "disk/new"] {
        step = step.env("DESTINATION", destination);
        let output = step.pipe();
        assert_eq!(output.status, Some(6), "{}", output.stderr);
        assert!(output.stderr.contains("is on a read-only file system"), "{}", output.stderr);
    }
    assert!(cluster.record().is_empty());
}

fn a_full_disk_leaves_the_old_files() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("DESTINATION", "disk/tbot-user");
    let _tmpfs = Tmpfs::at(step.dir().join("disk"), "size=256m");
    step.pipe().ok();
    // Fill the disk up to the last page.
    let mut filler = fs::File::create(step.dir().join("disk/filler")).unwrap();
    let full = std::io::copy(&mut std::io::repeat(0), &mut filler).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    expect_refusal(&step, &expect_file!["golden/destination/full.log"], || step.pipe());
    let node = Step::node(&cluster);
    step.run("ssh", &["-F", "disk/tbot-user/ssh_config", &node, "true"]).ok();
}

fn a_disk_that_is_full_only_at_the_end_leaves_the_old_files() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let run = || pipe_with(&step, "fsync", "error=ENOSPC:when=4");
    expect_refusal(&step, &expect_file!["golden/destination/full-at-the-end.log"], run);
    hello(&step, &cluster);
}

/// F2: a record may name one large file again and again; each time the file was read.
fn a_planted_record_does_not_keep_a_run_busy() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("TIMEOUT", "20s");
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    fs::File::create(step.file("key")).unwrap().set_len(400 << 20).unwrap();
    let lines: String = (0..15_000).map(|n| format!("{n:064x}  key\n")).collect();
    fs::write(step.file(".teleport-pipe.sha256"), &lines).unwrap();
    let run = |args: &[&str]| {
        let output = step.run("timeout", &[&["20", Step::binary()], args].concat());
        assert_eq!(output.status, Some(0), "{}", output.stderr);
    };
    run(&[]);
    // The same lines in a record that counts, because the run has written it.
    let record = fs::read_to_string(step.file(".teleport-pipe.sha256")).unwrap();
    fs::write(step.file(".teleport-pipe.sha256"), record + &lines).unwrap();
    fs::File::options().append(true).open(step.file("key")).unwrap().set_len(400 << 20).unwrap();
    run(&[]);
    run(&["cleanup"]);
    assert!(!step.file("key").exists());
}

/// F2: the list of the entries has a limit.
fn a_directory_with_very_many_files_is_refused() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join("tbot-user")).unwrap();
    (0..66_000).for_each(|n| drop(fs::File::create(step.file(&n.to_string())).unwrap()));
    expect_early_refusal(&step, &cluster, &expect_file!["golden/destination/too-many-entries.log"]);
}

/// F1 and F2: what is slow after the last answer of the cluster ends at the deadline, too, and leaves nothing.
fn a_run_does_not_write_after_its_deadline() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("TIMEOUT", "4s");
    let output = pipe_with(&step, "fsync", "delay_enter=1500000");
    assert_eq!(output.status, Some(5), "{}", output.stderr);
    expect_file!["golden/destination/deadline.log"].assert_eq(&step.scrubbed(&output.stderr));
    assert!(!step.dir().join("tbot-user").exists());
}

/// F15: the limit is `ulimit -f`.
fn a_limit_of_the_size_of_files_leaves_the_old_files() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let limited = "trap '' XFSZ && ulimit -f 0 && exec \"$0\"";
    let run = || step.run("sh", &["-c", limited, Step::binary()]);
    expect_refusal(&step, &expect_file!["golden/destination/file-size.log"], run);
    hello(&step, &cluster);
}
