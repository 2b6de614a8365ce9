//! What a person can ask for; one module each.

pub mod cleanup;
pub mod inspect;
pub mod join;
pub mod ssh_proxy;
pub mod version;

use crate::error::Failure;
use crate::settings::Action;
use crate::surroundings::{Surroundings, Unusable};

/// Does what was asked for.
///
/// # Errors
/// Those of the command.
pub fn run(action: &Action, surroundings: &Surroundings) -> Result<(), Failure> {
    match action {
        Action::Join(settings) => join::run(settings, surroundings),
        Action::Inspect(inspection) => inspect::run(inspection, surroundings),
        Action::Cleanup(path) => cleanup::run(path.as_deref(), surroundings),
    }
}

/// Runs the one asynchronous part of a command, and leaves without waiting for threads that are stuck in a resolver or
/// in reading a terminal.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Unusable> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Unusable::because("the system's way to wait for network connections"))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}
