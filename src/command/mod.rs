//! The commands, one module each. Only these modules print.

pub(crate) mod cleanup;
pub(crate) mod configure;
pub(crate) mod doctor;
pub(crate) mod inspect;
mod report;
pub(crate) mod ssh_proxy_command;
pub(crate) mod start;
mod summary;
pub(crate) mod version;

use crate::error::{Exit, Failure};
use crate::host::{Host, HostError};
use crate::settings::Command;

/// Runs a command. One that has done its work may still have found something wrong, which its exit status says.
pub(crate) fn run(command: &Command, host: &Host) -> Result<Option<Exit>, Failure> {
    match command {
        Command::Start(settings) => start::run(settings, host)?,
        Command::Inspect(settings) => inspect::run(settings, host)?,
        Command::Doctor(settings) => return doctor::run(settings, host),
        Command::Cleanup(directory) => cleanup::run(directory, host)?,
    }
    Ok(None)
}

/// Runs the asynchronous part of a command. Threads that are stuck in a resolver or in reading a terminal do not delay
/// the exit.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, HostError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(HostError::because("the system's way to wait for network connections"))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}
