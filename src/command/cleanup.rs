//! `cleanup`: removes what runs wrote.

use std::path::Path;
use std::time::Duration;

use super::block_on;
use crate::destination::{self, Cleaned};
use crate::error::Failure;
use crate::host::Host;
use crate::retry::Deadline;
use crate::settings::default;
use crate::text::sanitize;

/// A run that writes there right now is waited for this long.
const LOCK: Duration = Duration::from_secs(30);

/// Removes what was written to `path`, and says what that was. That there is nothing is no error. Without a path it is
/// the directory that this program was written to: `./creds/teleport-pipe cleanup`.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn run(path: Option<&Path>, host: &Host) -> Result<(), Failure> {
    let own = host.executable.parent().filter(|directory| destination::has_record(directory));
    let path = path.or(own).unwrap_or(Path::new(default::DESTINATION));
    let Cleaned { path, existed, removed, changed, unknown, directories } =
        block_on(destination::cleanup(&host.working_dir, path, Deadline::after(LOCK)))??;
    let shown = path.display();
    let emptied = match directories {
        0 => "",
        1 => ", and the directory itself",
        _ => ", the directory itself, and parents that were made for it",
    };
    match removed.len() {
        0 if !existed => log::info!(target: "cleanup", "nothing to do: {shown} is not there"),
        0 => log::info!(target: "cleanup", "nothing to do: nothing in {shown} is recorded as written by teleport-pipe"),
        count => log::info!(target: "cleanup", "removed {count} files from {shown}{emptied}"),
    }
    log::debug!(target: "cleanup", "{}", sanitize(&removed.join(", ")));
    if !changed.is_empty() {
        let changed = sanitize(&changed.join(", "));
        log::warn!(target: "cleanup", "changed since they were written, and left: {changed}; `rm -rf` removes them");
    }
    if !unknown.is_empty() {
        log::warn!(target: "cleanup", "not written by teleport-pipe, and left: {unknown}; `rm -rf` removes them");
    }
    Ok(())
}
