//! What a person can ask for; one module each.

pub(crate) mod cleanup;
pub(crate) mod doctor;
pub(crate) mod inspect;
mod report;
pub(crate) mod ssh_proxy_command;
pub(crate) mod start;
pub(crate) mod version;

use crate::error::{Exit, Failure};
use crate::host::{Host, HostError};
use crate::settings::Command;

/// Does what was asked for. What was done and found something wrong may have a status to exit with, though it is no
/// failure.
///
/// # Errors
/// Those of the command.
pub(crate) fn run(command: &Command, host: &Host) -> Result<Option<Exit>, Failure> {
    match command {
        Command::Start(settings) => start::run(settings, host)?,
        Command::Inspect(settings) => inspect::run(settings, host)?,
        Command::Doctor(settings) => return doctor::run(settings, host),
        Command::Cleanup(path) => cleanup::run(path.as_deref(), host)?,
    }
    Ok(None)
}

/// Runs the one asynchronous part of a command, and leaves without waiting for threads that are stuck in a resolver or
/// in reading a terminal.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, HostError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(HostError::because("the system's way to wait for network connections"))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}
