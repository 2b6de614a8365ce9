//! `version`.

use crate::error::Failure;
use crate::host::HostError;
use crate::log;

/// Prints the version. Programs that set tbot up read the word after `Teleport` (docs/protocol.md, "Command line"), so that it
/// is there if the program is called by that name.
pub(crate) fn run(is_called_tbot: bool) -> Result<(), Failure> {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let line = if is_called_tbot {
        format!("Teleport {version} (teleport-pipe)\n")
    } else {
        format!("teleport-pipe {version}\n")
    };
    let printed = log::out(&line);
    Ok(printed.map_err(HostError::because("stdout"))?)
}
