//! The `docker run` line of `bitbucket-pipeline-runner`, an emulator of Bitbucket Pipelines.
//!
//! The emulator pulls every image, so this test runs only its line. Unlike Bitbucket (docs/protocol.md, "Emulators"),
//! it gives a pipe neither the ID token, which has to be a variable of the pipe, nor storage directories.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::docker::Output;
use crate::harness::{Need, stories};
use crate::images;
use crate::images::IMAGE;
use crate::step::{self, Step};

stories! {
    the_line_of_the_emulator_works needs IMAGE EMULATOR,
}

const PROGRAM: &str =
    "import json, sys; from pipeline_runner.models import Pipe; print(Pipe(**json.load(sys.stdin)).as_cmd())";

/// Python with the emulator, if `tests/image/run` could install it.
static PYTHON: LazyLock<Option<OsString>> = LazyLock::new(|| std::env::var_os("PIPELINE_RUNNER_PYTHON"));
static EMULATOR: Need = LazyLock::new(|| {
    PYTHON.is_some().then_some(()).ok_or_else(|| "bitbucket-pipeline-runner is not installed".to_owned())
});

/// The line for a pipe with these variables.
fn line(variables: &[(String, String)]) -> String {
    let python = PYTHON.as_ref().unwrap();
    let variables: serde_json::Map<_, _> =
        variables.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let item = serde_json::json!({ "pipe": *images::PIPE, "variables": variables });
    let mut command = Command::new(python);
    let mut child = command.args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(item.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn the_line_of_the_emulator_works() {
    let cluster = step::cluster();
    let step = Step::new(&cluster).with("BITBUCKET_STEP_OIDC_TOKEN", "$BITBUCKET_STEP_OIDC_TOKEN");
    let output: Output = step.emulated(&line(step.variables())).ok();
    assert!(output.stderr.contains("tbot-user/ssh_config"), "{}", output.stderr);
    step.hello(&cluster);
}
