//! Unusual clone directories.

use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};

use crate::harness::stories;
use crate::images::IMAGE;
use crate::pipe_line::BUILD;
use crate::step::{self, Step};

stories! {
    the_script_has_changed_its_directory needs IMAGE,
    there_is_no_clone needs IMAGE,
    an_earlier_run_wrote_the_destination needs IMAGE,
    it_is_read_only needs IMAGE,
    it_is_mounted_noexec needs IMAGE,
}

fn the_script_has_changed_its_directory() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).cd("sub");
    step.pipe().ok();
    step.hello(&cluster);
    assert!(step.path("sub/tbot-user/ssh_config").exists() && !step.path("tbot-user").exists());
    assert_eq!(step.git(&["status", "--porcelain"]).ok().stdout, "");
}

fn there_is_no_clone() {
    let cluster = step::cluster();
    let step = Step::without_clone(&cluster);
    step.pipe().ok();
    step.hello(&cluster);
}

fn an_earlier_run_wrote_the_destination() {
    let cluster = step::cluster();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let first = fs::read(step.path("tbot-user/key")).unwrap();
    step.pipe().ok();
    assert_ne!(fs::read(step.path("tbot-user/key")).unwrap(), first);
    step.hello(&cluster);
    let cleanup = step.with("ACTION", "cleanup");
    cleanup.pipe().ok();
    assert!(!cleanup.path("tbot-user").exists());
    cleanup.pipe().ok();
}

fn it_is_read_only() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).mounted(":ro");
    let before = step.other_files();
    let output = step.pipe();
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(output.stderr.contains("read-only"), "{}", output.stderr);
    assert_eq!(step.other_files(), before);
    assert!(cluster.record().is_empty(), "{:?}", cluster.record());
}

fn it_is_mounted_noexec() {
    let cluster = step::cluster();
    let step = Step::new(&cluster);
    let _mount = NoExec::at(step.clone_dir());
    // The containers inherit the mount option.
    let mounts = step.script("cat /proc/self/mounts").ok().stdout;
    assert!(mounts.lines().any(|line| line.contains(BUILD) && line.contains("noexec")), "{mounts}");
    let output = step.pipe();
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(output.stderr.contains("noexec"), "{}", output.stderr);
}

/// A directory that is mounted `noexec`, until it is dropped.
struct NoExec(PathBuf);

impl NoExec {
    fn at(path: PathBuf) -> Self {
        mount_bind(&path, &path).unwrap();
        let mount = Self(path);
        mount_remount(&mount.0, MountFlags::BIND | MountFlags::NOEXEC, "").unwrap();
        mount
    }
}

impl Drop for NoExec {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}
