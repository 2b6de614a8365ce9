//! Joins a Teleport cluster from a step of a CI system and writes short-lived SSH credentials.
//!
//! Values flow down and never back:
//!
//! ```text
//! command line | pipe variables | tbot.yaml  ->  Settings  ->  Session  ->  Issued  ->  files  ->  Destination
//! ```
//!
//! * `cli`, `pipe`, `tbot_yaml`: the front doors; each ends in `settings`. `tbot`: what only tbot's command line has.
//!   `join_uri`: proxy, join method and join token in one.
//! * `command`: one module per command; only these print.
//! * `session`: opened by a join, it issues certificates; `bot_identity` and `auth` make the calls, `credentials` checks
//!   the answers.
//! * `join`: the two services that a bot joins by, and the join methods.
//! * `platform`: a CI system or a cloud as data, and its ID token; `guard`: would artifacts or caches of the step capture the keys?
//! * `output`: what an output requests, and the files that it renders; `destination`: all files are written, or none.
//! * `net`: discovery, TCP, forward proxies, TLS, HTTP and gRPC.
//! * The ground floor, which knows none of these: `address`, `values`, `choice`, `format`, `invalid`, `node_labels`, `text`,
//!   `error`, `documents`, `log`, `secret_pieces`, `limits`, `retry`, `watchdog`, `process`, `clock`, `host`,
//!   `environment`, `hcl`, `keys`, `x509`, `ssh_agent`, `shell`, `yaml`, `output_files`, `regular_file`.
//! * `benchmarks`: what bench/ measures of the library.
//!
//! `tests/architecture` refuses a circle of imports.

mod address;
mod auth;
#[doc(hidden)]
pub mod benchmarks;
mod bot_identity;
mod choice;
mod cli;
mod clock;
mod command;
mod credentials;
mod destination;
mod documents;
mod environment;
mod error;
mod format;
mod guard;
mod hcl;
mod host;
mod invalid;
mod join;
mod join_uri;
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
mod tbot;
mod tbot_yaml;
mod text;
mod values;
mod watchdog;
mod x509;
mod yaml;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Flags};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::format::Format;
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
    platform::secrets(&env).for_each(log::hide);
    let args: Vec<_> = std::env::args_os().collect();
    let cli = Cli::try_parse_from(&args);
    // A session of ssh takes as long as it likes.
    let is_session = matches!(&cli, Ok(Cli { command: Some(Flags::SshProxyCommand(_)), .. }));
    let watchdog = (!is_session).then(Watchdog::start);
    let cli = match cli {
        Ok(cli) => cli,
        Err(usage) => {
            let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
            return refuse(&usage, &args);
        }
    };
    let format = cli.format(&env);
    match run(&cli, env, watchdog) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(exit)) => ExitCode::from(exit as u8),
        // ssh prints what its ProxyCommand says among its own lines.
        Err(failure) if is_session => {
            log::print(&failure.for_ssh());
            ExitCode::from(failure.exit() as u8)
        }
        Err(failure) => end(&failure, format),
    }
}

/// Whether the program is called by the name of tbot, which a link or a copy of it may have.
fn is_called_tbot() -> bool {
    std::env::args_os().next().is_some_and(|name| Path::new(&name).file_stem() == Some("tbot".as_ref()))
}

/// Prints the error that ends the process.
fn end(failure: &Failure, format: Format) -> ExitCode {
    log::failure(failure);
    if format == Format::Json {
        // What cannot be printed there is on stderr.
        let _ = log::json(&failure.document());
    }
    ExitCode::from(failure.exit() as u8)
}

/// Prints the help if it was asked for, or else what is wrong with the command line: what only tbot has by name, other
/// mistakes in clap's words.
fn refuse(usage: &clap::Error, args: &[String]) -> ExitCode {
    if !usage.use_stderr() {
        let _ = usage.print();
        return ExitCode::SUCCESS;
    }
    let format = cli::format_of(args);
    if cli::is_unknown(usage)
        && let Some(error) = tbot::unsupported(args)
    {
        return end(&error.into(), format);
    }
    let text = usage.render().to_string();
    log::print(&format!("{text}{}", error::more_line(tbot::WRONG)));
    if format == Format::Json {
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let _ = log::json(&Failure::from(tbot::Error::Usage(message.to_owned())).document());
    }
    ExitCode::from(Exit::BadInput as u8)
}

/// Runs the command. A command that has done its work may still have found something that is not a success.
fn run(cli: &Cli, env: Environment, watchdog: Option<Result<Watchdog, HostError>>) -> Result<Option<Exit>, Failure> {
    let watchdog = watchdog.transpose()?;
    let command = match &cli.command {
        // These have no log.
        Some(Flags::SshProxyCommand(flags)) => {
            return command::ssh_proxy_command::run(flags, &env).map(|()| None);
        }
        Some(Flags::Version) => return command::version::run(is_called_tbot()).map(|()| None),
        Some(Flags::Configure(flags)) => return command::configure::run(flags, &env).map(|()| None),
        command => command,
    };
    let host = Host::from_process(env)?;
    let env = &host.env;
    let is_pipe = matches!(command, None | Some(Flags::Join(_)));
    let is_tbot = matches!(command, Some(Flags::Start(_)));
    if !is_tbot && let Some(flag) = cli.global.of_start() {
        return Err(tbot::Error::OfStart { flag }.into());
    }
    let debug = cli.debug || (is_pipe && pipe::debug(env)?) || (is_tbot && cli.global.debug(env)?);
    log::start(debug, env);
    if command.is_none() && pipe::is_unused(env) {
        log::print(&format!("{}\n", Cli::command().render_help()));
        return Err(tbot::Error::Nothing.into());
    }
    let command = match command {
        Some(Flags::Start(flags)) => Command::Start(flags.settings(&cli.global, env, debug)?),
        Some(Flags::Join(flags)) => Command::Start(flags.settings(env, debug)?),
        Some(Flags::Inspect(flags)) => Command::Inspect(flags.settings(env, debug)?),
        Some(Flags::Doctor(flags)) => Command::Doctor(flags.settings(env, debug)?),
        Some(Flags::Cleanup(flags)) => Command::Cleanup(flags.directory(env, host.own_destination())?),
        Some(Flags::SshProxyCommand(_) | Flags::Configure(_) | Flags::Version) | None => pipe::command(env)?,
    };
    if let Some(watchdog) = &watchdog {
        watchdog.set_timeout(command.timeout());
    }
    command::run(&command, &host)
}
