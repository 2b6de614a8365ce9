//! The images, in the engine: the pipe's two platforms out of the OCI layout, and the step's.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::docker::Output;
use crate::harness::Need;
use crate::step_image;

/// The image, and an engine to run it.
pub(crate) static IMAGE: Need =
    LazyLock::new(|| std::env::var_os(LAYOUT).map(drop).ok_or_else(|| "`make image-test` runs it".to_owned()));
/// The variable by which `tests/image/run` says where `make image` has put the layout.
const LAYOUT: &str = "TELEPORT_PIPE_OCI";

/// The pipe for this machine.
pub(crate) static PIPE: LazyLock<&str> = LazyLock::new(|| load("amd64", "teleport-pipe:test-amd64"));
/// The pipe for the other platform.
pub(crate) static PIPE_ARM64: LazyLock<&str> = LazyLock::new(|| load("arm64", "teleport-pipe:test-arm64"));
/// Where the rest of a step's script runs.
pub(crate) static STEP: LazyLock<&str> = LazyLock::new(|| step_image::import("teleport-pipe-step:test"));

/// What `make image` has made.
pub(crate) fn layout() -> PathBuf {
    std::env::var_os(LAYOUT).unwrap().into()
}

fn load(architecture: &str, tag: &'static str) -> &'static str {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "--quiet", "--override-arch", architecture]);
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        skopeo.args(["--dest-daemon-host", &host]);
    }
    skopeo.arg(format!("oci:{}", layout().display())).arg(format!("docker-daemon:{tag}"));
    Output::run(&mut skopeo).ok();
    tag
}
