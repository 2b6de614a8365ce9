//! teleport-peer: a cluster and clients of Teleport's own published Go code (CONTRIBUTING.md, "Tests").

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cluster::succeed;

/// A cluster that runs until this value is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    program: PathBuf,
    state: PathBuf,
    process: Child,
    ready: Value,
}

impl Peer {
    /// Starts a cluster with its state in this directory, and waits until it is ready.
    pub(crate) fn start(program: &Path, state: &Path, flags: &[&str]) -> io::Result<Self> {
        fs::create_dir_all(state)?;
        let log = state.join("log");
        let file = File::create(&log)?;
        let mut process = Command::new(program)
            .args(["serve", "--for", "2h", "--state"])
            .arg(state)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        match wait_until_ready(&mut process, &state.join("ready.json")) {
            Some(ready) => Ok(Self { program: program.to_owned(), state: state.to_owned(), process, ready }),
            None => {
                let log = fs::read_to_string(&log).unwrap_or_default();
                Err(io::Error::other(format!("teleport-peer serve {} did not start: {log}", flags.join(" "))))
            }
        }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A text of what it says about itself, or the empty text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.ready.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn first(&self, name: &str) -> &str {
        self.ready.get(name).and_then(|list| list.get(0)).and_then(Value::as_str).unwrap_or_default()
    }

    /// `login@node` for ssh.
    pub(crate) fn target(&self) -> String {
        format!("{}@{}", self.first("logins"), self.node())
    }

    pub(crate) fn node(&self) -> &str {
        self.first("nodes")
    }

    /// The authority of its web certificate.
    pub(crate) fn web_ca(&self) -> PathBuf {
        self.state.join("web-ca.pem")
    }

    /// The address of the node's sshd.
    pub(crate) fn sshd_addr(&self) -> io::Result<String> {
        let config = fs::read_to_string(self.state.join("sshd-node/sshd_config"))?;
        let port = config.lines().find_map(|line| line.strip_prefix("Port "));
        port.map(|port| format!("127.0.0.1:{port}")).ok_or_else(|| io::Error::other("sshd_config has no Port"))
    }

    /// How many connections the node's sshd accepts before they log in, if its configuration says so.
    pub(crate) fn max_startups(&self) -> Option<String> {
        let config = fs::read_to_string(self.state.join("sshd-node/sshd_config")).ok()?;
        config.lines().find_map(|line| line.strip_prefix("MaxStartups ")).map(str::to_owned)
    }

    /// An ID token of a step.
    pub(crate) fn id_token(&self) -> io::Result<String> {
        let output = succeed(Command::new(&self.program).args(["mint", "--state"]).arg(&self.state))?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// What it has recorded until now, one JSON document a line.
    pub(crate) fn record(&self) -> io::Result<String> {
        fs::read_to_string(self.state.join("record.jsonl"))
    }
}

fn wait_until_ready(process: &mut Child, file: &Path) -> Option<Value> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) && matches!(process.try_wait(), Ok(None)) {
        // An incomplete file does not parse.
        if let Some(ready) = fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Some(ready);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    terminate(process);
    None
}

/// Ends it by SIGTERM, so that it ends its sshd.
fn terminate(process: &mut Child) {
    if let Ok(id) = i32::try_from(process.id()) {
        // It may have ended already.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    let _ = process.wait();
}

impl Drop for Peer {
    fn drop(&mut self) {
        terminate(&mut self.process);
    }
}
