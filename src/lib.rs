//! Joins a Teleport cluster from a CI step and writes short-lived SSH credentials.
//!
//! The map; data walks from top to bottom, a module knows those below it:
//!
//! * [`cli`], [`pipe`]: the command line and the pipe's variables become [`settings`];
//! * [`command`]: one module per thing a person asks for; `command::join` reads like the README;
//! * `manifests`: what the cluster's side of a join looks like, in YAML with every `scalar` quoted;
//! * [`platform`]: which CI is this, and what is its ID token;
//! * [`guard`]: would artifacts or caches of the step take the credentials? It reads [`yaml`];
//! * [`join`]: an ID token becomes the [`bot_identity`]'s own identity; [`auth`]: that becomes certificates with roles;
//! * [`credentials`]: what came back, checked; [`output`]: rendered; [`destination`]: written, whole or not at all;
//! * [`output_files`]: the names of those files, and which are secret; [`regular_file`]: opening files safely;
//! * [`net`]: discovery, TCP, TLS, HTTP and gRPC; every call has a [`retry::Deadline`]; [`clock`]: what time it is there;
//! * [`keys`], [`x509`], [`ssh_agent`]: keys and certificates; [`error`], [`log`], [`shell`]: what a person reads and
//!   types.

mod address;
mod auth;
mod bot_identity;
mod cli;
mod clock;
mod command;
mod credentials;
mod destination;
mod environment;
mod error;
mod guard;
mod host;
mod invalid;
mod join;
mod keys;
mod log;
mod net;
mod output;
mod output_files;
mod pipe;
mod platform;
mod regular_file;
mod retry;
mod session;
mod settings;
mod shell;
mod ssh_agent;
mod text;
mod values;
mod x509;
mod yaml;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Flags, StartFlags};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::host::Host;
use crate::settings::Command;

// What the tests hold the program against.
pub use crate::output::identity::identity_file::parse as parse_identity_file;
pub use crate::pipe::VARIABLES;
pub use crate::retry::LONGEST_ATTEMPT;

/// Parses the command line, starts the log, runs the command, prints one error and says what to exit with.
pub fn main() -> ExitCode {
    log::on_panic();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and the version go to stdout with 0, mistakes to stderr with 2; clap knows.
            if usage.use_stderr() {
                log::print(&usage.render().to_string());
            } else {
                let _ = usage.print();
            }
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(Exit::BadInput as u8));
        }
    };
    // ssh prints what its ProxyCommand says among its own lines.
    let one_line = matches!(cli.command, Some(Flags::SshProxyCommand(_)));
    match run(&cli) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(exit)) => ExitCode::from(exit as u8),
        Err(failure) => {
            match one_line {
                true => log::print(&failure.one_line()),
                false => log::failure(&failure),
            }
            ExitCode::from(failure.exit() as u8)
        }
    }
}

/// Runs the command. A command that has done its work may still have found something that is not a success.
fn run(cli: &Cli) -> Result<Option<Exit>, Failure> {
    let command = match &cli.command {
        // These have no log.
        Some(Flags::SshProxyCommand(flags)) => {
            return command::ssh_proxy_command::run(flags, &Environment::from_process()).map(|()| None);
        }
        Some(Flags::Version) => return command::version::run().map(|()| None),
        command => command,
    };
    let host = Host::from_process()?;
    let env = &host.env;
    let debug = cli.debug || (command.is_none() && pipe::debug(env)?);
    log::start(debug, env);
    let command = match command {
        Some(Flags::Start(StartFlags::Identity(flags))) => Command::Start(flags.settings(env, debug)?),
        Some(Flags::Inspect(flags)) => Command::Inspect(flags.settings(env, debug)?),
        Some(Flags::Doctor(flags)) => Command::Doctor(flags.settings(env, debug)?),
        Some(Flags::Cleanup(flags)) => Command::Cleanup(flags.directory()?),
        Some(Flags::SshProxyCommand(_) | Flags::Version) | None => pipe::command(env)?,
    };
    command::run(&command, &host)
}
