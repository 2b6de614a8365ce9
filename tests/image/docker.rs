//! The Docker client as a child process.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

pub(crate) use crate::output::Output;

/// Runs `docker` with these arguments.
pub(crate) fn docker(args: &[&str]) -> Output {
    Output::run(Command::new("docker").args(args))
}

/// Copies the program out of an image.
pub(crate) fn copy_program(image: &str, to: &Path) {
    let id = docker(&["create", image]).ok().stdout;
    docker(&["cp", &format!("{}:/teleport-pipe", id.trim_end()), to.to_str().unwrap()]).ok();
    docker(&["rm", id.trim_end()]).ok();
}

/// The address of this machine for containers, which is that of the bridge. An engine that has chosen the address
/// itself may not show it before its next start; then it is the first address of the network.
pub(crate) fn gateway() -> Ipv4Addr {
    let format = "--format={{with index .IPAM.Config 0}}{{.Gateway}} {{.Subnet}}{{end}}";
    let stdout = docker(&["network", "inspect", "bridge", format]).ok().stdout;
    let (gateway, subnet) = stdout.trim_end().split_once(' ').unwrap();
    let first = |(network, _): (&str, &str)| Ipv4Addr::from_bits(network.parse::<Ipv4Addr>().unwrap().to_bits() + 1);
    gateway.parse().unwrap_or_else(|_| first(subnet.split_once('/').unwrap()))
}

/// The absolute path of a program.
pub(crate) fn program(name: &str) -> String {
    let found = Output::run(Command::new("sh").args(["-c", "command -v \"$0\"", name]));
    assert!(found.status == Some(0), "there is no {name}; tests/prepare engine installs it");
    found.stdout.trim().to_owned()
}
