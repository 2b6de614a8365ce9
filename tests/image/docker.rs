//! The Docker client as a child process.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// It went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Says what a command says, with nothing on its stdin.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// `docker` with these arguments.
pub(crate) fn docker(args: &[&str]) -> Said {
    Said::of(Command::new("docker").args(args))
}

/// Our address as containers see it: the bridge's. An engine that chose it itself need not tell it before it is started
/// anew; it chooses the first of the network.
pub(crate) fn gateway() -> Ipv4Addr {
    let format = "--format={{with index .IPAM.Config 0}}{{.Gateway}} {{.Subnet}}{{end}}";
    let told = docker(&["network", "inspect", "bridge", format]).ok().stdout;
    let (gateway, subnet) = told.trim_end().split_once(' ').unwrap();
    let first = |(network, _): (&str, &str)| Ipv4Addr::from_bits(network.parse::<Ipv4Addr>().unwrap().to_bits() + 1);
    gateway.parse().unwrap_or_else(|_| first(subnet.split_once('/').unwrap()))
}

/// The absolute path of a program.
pub(crate) fn program(name: &str) -> String {
    let found = Said::of(Command::new("sh").args(["-c", "command -v \"$0\"", name]));
    assert!(found.status == Some(0), "there is no {name}; tests/prepare engine installs it");
    found.stdout.trim().to_owned()
}
