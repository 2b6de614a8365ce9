//! `version`.

use std::io::Write as _;

use crate::error::Failure;
use crate::surroundings::Unusable;

/// Prints the version.
///
/// # Errors
/// stdout is closed.
pub fn run() -> Result<(), Failure> {
    let printed = writeln!(std::io::stdout(), "teleport-pipe v{}", env!("CARGO_PKG_VERSION"));
    Ok(printed.map_err(Unusable::because("stdout"))?)
}
