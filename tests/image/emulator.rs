//! `bitbucket-pipeline-runner`, an emulator that somebody else wrote: the line that it makes of our pipe's item.
//!
//! It pulls every image, so that only its line can be run here. What it has otherwise than Bitbucket
//! (bitbucket-pipes.md 6): a pipe gets neither the ID token, which is handed on as a variable, nor storage directories.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::docker::Said;
use crate::images;
use crate::step::{self, Step};

const PROGRAM: &str =
    "import json, sys; from pipeline_runner.models import Pipe; print(Pipe(**json.load(sys.stdin)).as_cmd())";

/// The line, if `tests/image/run` could install it.
fn line(variables: &[(String, String)]) -> Option<String> {
    let python = std::env::var_os("PIPELINE_RUNNER_PYTHON")?;
    let variables: serde_json::Map<_, _> =
        variables.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let item = serde_json::json!({ "pipe": *images::PIPE, "variables": variables });
    let mut command = Command::new(python);
    let mut child = command.args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(item.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
#[ignore = "make image-test"]
fn the_line_of_another_emulator() {
    let cluster = step::cluster();
    let step = Step::of(&cluster).with("BITBUCKET_STEP_OIDC_TOKEN", "$BITBUCKET_STEP_OIDC_TOKEN");
    let Some(line) = line(step.variables()) else {
        let _ = writeln!(std::io::stderr(), "not run: bitbucket-pipeline-runner is not installed");
        return;
    };
    let said: Said = step.emulated(&line).ok();
    assert!(said.stderr.contains("tbot-user/ssh_config"), "{}", said.stderr);
    step.hello(&cluster);
}
