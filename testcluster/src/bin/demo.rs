//! `make demo`: the two lines of a step, against a cluster on this machine.
//!
//! The product's binary is the argument, or `TELEPORT_PIPE`. It runs as a pipe: without arguments, with the variables
//! of the pipe and the step in the environment, and with the clone directory as working directory. Then the system's
//! `ssh` connects through it to the system's `sshd`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use testcluster::Testcluster;

const GREETING: &str = "hello world";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("demo: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    if let Some(remedy) = testcluster::missing_openssh() {
        return Err(format!("OpenSSH is missing: {remedy}"));
    }
    let binary = binary()?;
    let step = tempfile::TempDir::with_prefix("demo-").map_err(|error| format!("no temporary directory: {error}"))?;
    let clone_dir = step.path().join("build");
    std::fs::create_dir(&clone_dir).map_err(|error| format!("cannot make {}: {error}", clone_dir.display()))?;
    let cluster = Testcluster::start();

    println!("# A Teleport cluster, {}, listens on {}.", cluster.name(), cluster.proxy_addr());
    println!("# This step has `oidc: true`; Bitbucket has put its ID token into the environment.\n");
    join(&cluster, &binary, &clone_dir)?;
    println!();
    greet(&cluster, &clone_dir)
}

/// The first line of the step's script: the pipe.
fn join(cluster: &Testcluster, binary: &Path, clone_dir: &Path) -> Result<(), String> {
    let web_ca = cluster.web_ca_file().display().to_string();
    let variables =
        [("PROXY_SERVER", cluster.proxy_addr()), ("TOKEN", cluster.token_name().to_owned()), ("SSL_CERT_FILE", web_ca)];
    let shown: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    println!("$ {} {}", shown.join(" "), binary.display());
    let status = command(binary.as_os_str().to_owned(), clone_dir)
        .envs(cluster.step_env(clone_dir))
        .envs(variables)
        .status()
        .map_err(|error| format!("cannot run {}: {error}", binary.display()))?;
    if status.success() { Ok(()) } else { Err(format!("the pipe failed ({status})")) }
}

/// The second line: ssh, as in the README.
fn greet(cluster: &Testcluster, clone_dir: &Path) -> Result<(), String> {
    let target = format!("{}@{}", cluster.node_login(), cluster.node_host());
    println!("$ ssh -F ./tbot-user/ssh_config {target} echo \"{GREETING}\"");
    let output = command("ssh".into(), clone_dir)
        .args(["-F", "./tbot-user/ssh_config", &target, "echo", GREETING])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run ssh: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    print!("{stdout}");
    if output.status.success() && stdout.trim_end() == GREETING {
        Ok(())
    } else {
        Err(format!("ssh failed ({}); the node's log says:\n{}", output.status, cluster.node_log()))
    }
}

/// A command without our environment, because a step has its own.
fn command(program: OsString, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir(directory).stdin(Stdio::null());
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn binary() -> Result<PathBuf, String> {
    let given = std::env::args_os().nth(1).or_else(|| std::env::var_os("TELEPORT_PIPE"));
    let path = PathBuf::from(given.ok_or("usage: demo PATH-TO-teleport-pipe (or TELEPORT_PIPE)")?);
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))
}
