//! `teleport-pipe`: parse, start the log, run, print one error, exit.

use std::process::ExitCode;

use clap::Parser as _;
use teleport_pipe::cli::{Cli, Face};
use teleport_pipe::error::{Exit, Failure};
use teleport_pipe::surroundings::Surroundings;
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
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whatever a ProxyCommand says stands between the lines of ssh.
            let text = if one_line { failure.one_line() } else { failure.render() };
            log::print(&text);
            ExitCode::from(failure.exit() as u8)
        }
    }
}

fn run(face: Face, debug: bool) -> Result<(), Failure> {
    match face {
        Face::Pipe => {
            let surroundings = Surroundings::of_process()?;
            let debug = debug || pipe::debug(&surroundings.env)?;
            log::start(debug);
            command::join::run(&pipe::settings(&surroundings.env)?, &surroundings)
        }
        Face::Identity(flags) => {
            let surroundings = Surroundings::of_process()?;
            log::start(debug);
            command::join::run(&flags.settings(&surroundings.env, debug)?, &surroundings)
        }
        Face::SshProxy(flags) => command::ssh_proxy::run(&flags),
        Face::Version => command::version::run(),
    }
}
