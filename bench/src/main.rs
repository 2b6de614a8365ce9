//! `make bench`: measures teleport-pipe beside Teleport's own client library, plain ssh and bare relays, on one machine
//! and in turns. It prints tables and writes them into docs/performance.md.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output")]

mod chart;
mod cli;
mod client;
mod cluster;
mod delay_relay;
mod diagram;
mod document;
mod forward_proxy;
mod measurement;
mod page;
mod parts;
mod peer;
mod relay;
mod report;
mod route;
mod statistics;
mod summary;
mod system_calls;
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.helper {
        Some(helper) => help(helper),
        None => measure(&cli).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        ExitCode::FAILURE
    })
}

fn help(helper: &Helper) -> io::Result<ExitCode> {
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
    let measurement = Measurement::new(binary, peer, cli)?;
    let parts = if cli.parts.is_empty() { Part::value_variants() } else { &cli.parts };
    for part in parts {
        let report = parts::measure(*part, &measurement)?;
        for (name, text) in &report.texts {
            println!("{name}:\n\n{text}");
        }
        if !cli.quick && cli.routes.is_empty() {
            page::write(&report, cli.runs)?;
        }
    }
    Ok(())
}

/// The binaries of teleport-pipe and of teleport-peer, or what is missing.
fn programs(binary: &Path) -> Result<(PathBuf, PathBuf), String> {
    let missing = |error| format!("no {} ({error}); `make static` makes it", binary.display());
    let binary = binary.canonicalize().map_err(missing)?;
    for program in ["ssh", "/usr/sbin/sshd"] {
        // Both print their usage and fail.
        Command::new(program)
            .arg("-?")
            .output()
            .map_err(|error| format!("no {program} ({error}); apt-get install openssh-client openssh-server"))?;
    }
    let output = Command::new("tests/peer")
        .output()
        .map_err(|error| format!("tests/peer: {error}; start it in the directory of the project"))?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok((binary, line.into())) } else { Err(line) }
}
