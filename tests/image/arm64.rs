//! The image for arm64, in an emulator. The emulator is mounted and called explicitly, so that the kernel needs no
//! setup.

use crate::docker::{docker, program};
use crate::harness::stories;
use crate::images;
use crate::images::IMAGE;
use crate::step::{self, Step};

stories! {
    ssh_logs_in_after_the_pipe needs IMAGE,
}

fn ssh_logs_in_after_the_pipe() {
    let emulator = format!("--volume={}:/qemu:ro", program("qemu-aarch64-static"));
    let image = *images::PIPE_ARM64;
    let version = docker(&["run", "--rm", &emulator, "--entrypoint=/qemu", image, "/teleport-pipe", "version"]).ok();
    assert!(version.stdout.starts_with("teleport-pipe v"), "{version:?}");

    let cluster = step::cluster();
    let step = Step::new(&cluster);
    step.pipe_of(&format!("{emulator} --entrypoint=/qemu {image} /teleport-pipe")).ok();
    // The step's ssh is not emulated, so the emulator has to run its ProxyCommand.
    let directives = std::fs::read_to_string(step.path("tbot-user/ssh_config")).unwrap();
    let command = directives.lines().find_map(|line| line.trim().strip_prefix("ProxyCommand ")).unwrap();
    let ssh = Step::ssh(&cluster).replacen("ssh ", &format!("ssh -o 'ProxyCommand /qemu {command}' "), 1);
    let output = step.script_with(&[&emulator], &ssh).ok();
    assert_eq!(output.stdout, "hello world\n");
}
