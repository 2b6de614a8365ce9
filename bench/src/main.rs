//! `make bench`: measures teleport-pipe beside Teleport's own client library, plain ssh and bare relays, on one machine
//! and in turns. It prints tables. A complete run writes them into docs/performance.md.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output")]

mod chart;
mod cli;
mod client;
mod cluster;
mod delay_relay;
mod measurement;
mod page;
mod parts;
mod peer;
mod relay;
mod report;
mod table;
mod tls_client;
mod tls_server;
mod transfer;
mod usage;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser as _, ValueEnum as _};

use crate::cli::{Cli, Helper, Part};
use crate::measurement::Measurement;
use crate::report::{Report, Text};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.helper {
        Some(helper) => run_helper(helper),
        None => measure(&cli).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        ExitCode::FAILURE
    })
}

fn run_helper(helper: &Helper) -> io::Result<ExitCode> {
    match helper {
        Helper::Measure { file, words } => return usage::measure(file, words),
        Helper::RelayTcp { addr } => relay::tcp(addr)?,
        Helper::RelayTls { addr, certificate } => relay::tls(addr, certificate)?,
        Helper::Handshake { addr, ca_file } => tls_client::handshake(addr, ca_file)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(cli: &Cli) -> io::Result<()> {
    let (binary, peer) = match programs(&cli.binary) {
        Ok(programs) => programs,
        Err(missing) => {
            println!("bench: not run: {missing}");
            return Ok(());
        }
    };
    let parts = if cli.parts.is_empty() { Part::value_variants() } else { &cli.parts };
    if parts.contains(&Part::SystemCalls) {
        start("strace", "strace").map_err(io::Error::other)?;
    }
    let mut report = Report::default();
    report.text(Text::Machine, page::machine(&binary, &peer)?);
    let measurement = Measurement::new(binary, peer, cli.quick)?;
    for part in parts {
        parts::measure(*part, &measurement, &mut report)?;
    }
    report.summarize();
    // The tables of a page are all of one run, of the same machine and binary.
    if cli.parts.is_empty() && !cli.quick { page::write(&report) } else { Ok(()) }
}

/// The binaries of teleport-pipe and of teleport-peer, or what is missing.
fn programs(binary: &Path) -> Result<(PathBuf, PathBuf), String> {
    let missing = |error| format!("no {} ({error}); `make static` makes it", binary.display());
    let binary = binary.canonicalize().map_err(missing)?;
    start("ssh", "openssh-client")?;
    start("/usr/sbin/sshd", "openssh-server")?;
    let output = Command::new("tests/peer")
        .output()
        .map_err(|error| format!("tests/peer: {error}; start it in the directory of the project"))?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok((binary, line.into())) } else { Err(line) }
}

/// Fails if the program of a package cannot be started. It may print its usage and fail.
fn start(program: &str, package: &str) -> Result<(), String> {
    let started = Command::new(program).arg("-?").output();
    started.map(drop).map_err(|error| format!("no {program} ({error}); apt-get install {package}"))
}
