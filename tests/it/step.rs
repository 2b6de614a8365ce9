//! A step of a pipeline: a clone directory, an environment, and the commands that run there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testcluster::Testcluster;

pub(crate) use crate::output::Output;

/// A step. Its commands inherit only the variables from the test's environment that every program needs.
pub(crate) struct Step {
    clone_dir: TempDir,
    env: BTreeMap<String, String>,
    scrub: Vec<(String, &'static str)>,
    kept: Vec<Box<dyn std::any::Any>>,
}

impl Step {
    /// An empty clone directory and no variables.
    pub(crate) fn empty() -> Self {
        let clone_dir = TempDir::with_prefix("clone-").unwrap();
        let path = clone_dir.path().to_str().unwrap().to_owned();
        Self { clone_dir, env: BTreeMap::new(), scrub: vec![(path, "CLONE_DIR")], kept: vec![] }
    }

    /// A step with `oidc: true` and the pipe's two variables.
    pub(crate) fn new(cluster: &Testcluster) -> Self {
        let mut step = Self::empty();
        step.env.extend(cluster.step_env(step.clone_dir.path()));
        step.scrub.push((format!(":{}", cluster.port()), ":PORT"));
        step.env("PROXY_SERVER", &cluster.proxy_addr())
            .env("TOKEN", cluster.token_name())
            .env("NO_COLOR", "1")
            .env("SSL_CERT_FILE", cluster.web_ca_file().to_str().unwrap())
    }

    /// The pipe's two variables, outside of a step of Bitbucket Pipelines.
    pub(crate) fn outside(cluster: &Testcluster) -> Self {
        let mut step = Self::new(cluster);
        step.env.retain(|name, _| !name.starts_with("BITBUCKET_"));
        step.without("CI")
    }

    /// With this variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Without this variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// The value of a variable.
    pub(crate) fn variable(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// Replaces `what` with `name` in [`scrubbed`](Self::scrubbed) texts.
    pub(crate) fn scrub(mut self, what: String, name: &'static str) -> Self {
        self.scrub.push((what, name));
        self
    }

    /// Keeps a value until the step is dropped.
    pub(crate) fn keep(mut self, what: impl std::any::Any) -> Self {
        self.kept.push(Box::new(what));
        self
    }

    /// The values of all variables.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.env.values().map(String::as_str)
    }

    /// The clone directory.
    pub(crate) fn dir(&self) -> &Path {
        self.clone_dir.path()
    }

    /// A file in the pipe's default destination.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir().join("tbot-user").join(name)
    }

    /// Runs the product as a pipe.
    pub(crate) fn pipe(&self) -> Output {
        self.product(&[])
    }

    /// Runs the product with arguments.
    pub(crate) fn product(&self, args: &[&str]) -> Output {
        self.run(Self::binary(), args)
    }

    /// The path of the product's binary.
    pub(crate) fn binary() -> &'static str {
        env!("CARGO_BIN_EXE_teleport-pipe")
    }

    /// The number of processes of the binary in the destination, by their command lines: the product does not let others look
    /// at more.
    pub(crate) fn processes(&self) -> usize {
        let binary = [self.file("teleport-pipe").to_str().unwrap().as_bytes(), b"\0"].concat();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        lines.filter(|line| line.starts_with(&binary)).count()
    }

    /// Runs a program in the clone directory, with the step's environment and without input.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Output {
        Output::run(&mut self.command(program, args))
    }

    /// A command in the clone directory, with the step's environment, for stories that start it themselves.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir()).env_clear().envs(&self.env);
        for name in ["PATH", "HOME", "USER", "LD_LIBRARY_PATH"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command
    }

    /// Runs `ssh -F ./tbot-user/ssh_config` with these arguments.
    pub(crate) fn ssh(&self, args: &[&str]) -> Output {
        self.run("ssh", &[&["-F", "./tbot-user/ssh_config"], args].concat())
    }

    /// `login@node` for ssh.
    pub(crate) fn node(cluster: &Testcluster) -> String {
        format!("{}@{}", cluster.node_login(), cluster.node_host())
    }

    /// Removes from a text what differs from run to run: the clone directory, the port, times, keys, the lines about
    /// waiting (a slow machine has more of them).
    pub(crate) fn scrubbed(&self, text: &str) -> String {
        // The URLs of documents have the version in them.
        let mut text = text.replace(concat!("/src/", env!("CARGO_PKG_VERSION"), "/"), "/src/VERSION/");
        for (what, name) in &self.scrub {
            text = text.replace(what, name);
        }
        let lines = text
            .lines()
            .map(without_time)
            .filter(|line| line.get(14..).is_none_or(|text| !text.starts_with("waiting for ")));
        lines.map(scrub_line).map(|line| line + "\n").collect()
    }
}

/// The line of a log without the time at its beginning.
fn without_time(line: &str) -> &str {
    let time = line.trim_start().split_once("s ").filter(|(time, _)| time.parse::<f32>().is_ok());
    time.map_or(line, |(_, rest)| rest)
}

/// Replaces times of day and base64 of keys, which differ in each run.
fn scrub_line(line: &str) -> String {
    let word = |word: &str| {
        let (word, stop) = word.split_at(word.trim_end_matches(['.', ')']).len());
        let is_time = word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
        let is_key = word.len() > 60 && word.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c));
        match (is_time, is_key) {
            (true, _) => format!("TIME{stop}"),
            (_, true) => format!("KEY{stop}"),
            _ => format!("{word}{stop}"),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
