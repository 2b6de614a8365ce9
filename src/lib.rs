//! Joins a Teleport cluster from a step of a CI system and writes short-lived SSH credentials.
//!
//! Values flow down and never back:
//!
//! ```text
//! command line | pipe variables  ->  Settings  ->  Session  ->  Issued  ->  files  ->  Destination
//! ```
//!
//! * `cli`, `pipe`: the front doors; each ends in `settings`.
//! * `command`: one module per command; only these print.
//! * `session`: opened by a join, it issues certificates; `bot_identity` and `auth` make the calls, `credentials` checks
//!   the answers.
//! * `join`: the two services that a bot joins by, and the join methods.
//! * `platform`: a CI system as data; `guard`: would artifacts or caches of the step capture the keys?
//! * `output`: what an output requests, and the files that it renders; `destination`: all files are written, or none.
//! * `net`: discovery, TCP, forward proxies, TLS, HTTP and gRPC.
//! * The ground floor, which knows none of these: `address`, `values`, `choice`, `format`, `invalid`, `node_labels`, `text`, `error`, `log`, `secret_pieces`,
//!   `limits`, `retry`, `watchdog`, `process`, `clock`, `host`, `environment`, `hcl`, `keys`, `x509`, `ssh_agent`, `shell`, `yaml`,
//!   `output_files`, `regular_file`.
//!
//! `tests/architecture` refuses a circle of imports.

mod address;
mod auth;
mod bot_identity;
mod choice;
mod cli;
mod clock;
mod command;
mod credentials;
mod destination;
mod environment;
mod error;
mod format;
mod guard;
mod hcl;
mod host;
mod invalid;
mod join;
mod keys;
mod limits;
mod log;
mod net;
mod node_labels;
mod output;
mod output_files;
mod pipe;
mod platform;
mod process;
mod regular_file;
mod retry;
mod secret_pieces;
mod session;
mod settings;
mod shell;
mod ssh_agent;
mod text;
mod values;
mod watchdog;
mod x509;
mod yaml;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Flags, StartFlags};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::host::{Host, HostError};
use crate::settings::Command;
use crate::watchdog::Watchdog;

// For the tests in tests/.
pub use crate::output::identity::identity_file::parse as parse_identity_file;
pub use crate::pipe::VARIABLES;
pub use crate::retry::LONGEST_ATTEMPT;

/// Parses the command line, starts the log, runs the command, prints one error and says what to exit with.
pub fn main() -> ExitCode {
    process::protect();
    log::on_panic();
    let env = Environment::from_process();
    platform::id_tokens(&env).for_each(log::hide);
    let cli = Cli::try_parse();
    // A session of ssh takes as long as it likes.
    let is_session = matches!(&cli, Ok(Cli { command: Some(Flags::SshProxyCommand(_)), .. }));
    let watchdog = (!is_session).then(Watchdog::start);
    let cli = match cli {
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
    match run(&cli, env, watchdog) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(exit)) => ExitCode::from(exit as u8),
        Err(failure) => {
            // ssh prints what its ProxyCommand says among its own lines.
            match is_session {
                true => log::print(&failure.one_line()),
                false => log::failure(&failure),
            }
            ExitCode::from(failure.exit() as u8)
        }
    }
}

/// Runs the command. A command that has done its work may still have found something that is not a success.
fn run(cli: &Cli, env: Environment, watchdog: Option<Result<Watchdog, HostError>>) -> Result<Option<Exit>, Failure> {
    let watchdog = watchdog.transpose()?;
    let command = match &cli.command {
        // These have no log.
        Some(Flags::SshProxyCommand(flags)) => {
            return command::ssh_proxy_command::run(flags, &env).map(|()| None);
        }
        Some(Flags::Version) => return command::version::run().map(|()| None),
        command => command,
    };
    let host = Host::from_process(env)?;
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
    if let Some(watchdog) = &watchdog {
        watchdog.set_timeout(command.timeout());
    }
    command::run(&command, &host)
}
