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
mod pipe;
mod platform;
mod retry;
mod settings;
mod shell;
mod ssh_agent;
mod text;
mod values;
mod x509;
mod yaml;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Face};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::host::Host;

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
    let debug = cli.debug;
    let face = cli.face();
    let one_line = matches!(face, Face::SshProxy(_));
    match run(face, debug) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(exit)) => ExitCode::from(exit as u8),
        Err(failure) => {
            // Whatever a ProxyCommand says stands between the lines of ssh.
            match one_line {
                true => log::print(&failure.one_line()),
                false => log::failure(&failure),
            }
            ExitCode::from(failure.exit() as u8)
        }
    }
}

fn run(face: Face, debug: bool) -> Result<Option<Exit>, Failure> {
    // Between the lines of ssh no log has a place, nor beside the version.
    let verb = match face {
        Face::SshProxy(flags) => {
            return command::ssh_proxy_command::run(&flags, &Environment::from_process()).map(|()| None);
        }
        Face::Version => return command::version::run().map(|()| None),
        Face::Pipe => None,
        Face::Verb(verb) => Some(verb),
    };
    let host = Host::from_process()?;
    let env = &host.env;
    let debug = debug | (verb.is_none() && pipe::debug(env)?);
    log::start(debug, env);
    let action = match verb {
        None => pipe::action(env)?,
        Some(verb) => verb.action(env, debug)?,
    };
    command::run(&action, &host)
}
