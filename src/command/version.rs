//! `version`.

use crate::error::Failure;
use crate::host::HostError;
use crate::log;

pub(crate) fn run() -> Result<(), Failure> {
    let printed = log::out(&format!("teleport-pipe v{}\n", env!("CARGO_PKG_VERSION")));
    Ok(printed.map_err(HostError::because("stdout"))?)
}
