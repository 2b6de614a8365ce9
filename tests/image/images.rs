//! The images in the engine: the pipe for two platforms, from the OCI layout, and the image of the step.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::docker::Output;
use crate::harness::Need;
use crate::step_image;

/// The image, and an engine to run it.
pub(crate) static IMAGE: Need =
    LazyLock::new(|| std::env::var_os(LAYOUT).map(drop).ok_or_else(|| "`make image-test` runs it".to_owned()));
/// The variable with the path of the OCI layout. `tests/image/run` sets it.
const LAYOUT: &str = "TELEPORT_PIPE_OCI";

/// The pipe for amd64.
pub(crate) static PIPE: LazyLock<&str> = LazyLock::new(|| load("amd64", "teleport-pipe:test-amd64"));
/// The pipe for arm64.
pub(crate) static PIPE_ARM64: LazyLock<&str> = LazyLock::new(|| load("arm64", "teleport-pipe:test-arm64"));
/// The image in which the rest of a step's script runs.
pub(crate) static STEP: LazyLock<&str> = LazyLock::new(|| step_image::import("teleport-pipe-step:test"));

/// The OCI layout that `make image` has written.
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
