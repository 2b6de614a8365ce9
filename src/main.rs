//! `teleport-pipe`: parse, start the log, run, print one error, exit.

use std::process::ExitCode;

use clap::Parser as _;
use teleport_pipe::cli::{Cli, Face};
use teleport_pipe::environment::Environment;
use teleport_pipe::error::{Exit, Failure};
use teleport_pipe::host::Host;
use teleport_pipe::{command, log, pipe};

fn main() -> ExitCode {
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
