//! `cleanup`: removes what runs wrote.

use std::path::Path;

use super::block_on;
use crate::destination::{self, Cleaned, Listing};
use crate::error::Failure;
use crate::host::Host;
use crate::output_files::RECORD;
use crate::retry::Deadline;
use crate::settings::default;
use crate::text::sanitize;

/// Removes what was written to the directory, and logs it. A missing directory is not an error.
pub(crate) fn run(path: &Path, host: &Host) -> Result<(), Failure> {
    // Another run may be writing there.
    let deadline = Deadline::after(default::CLEANUP_TIMEOUT);
    let Cleaned { path, existed, is_copy, removed, changed, unknown, directories } =
        block_on(destination::cleanup(&host.working_dir, path, deadline))??;
    let shown = path.display();
    let emptied = match directories {
        0 => "",
        1 => ", and the directory itself",
        _ => ", the directory itself, and parents that were created for it",
    };
    match removed.len() {
        0 if !existed => log::info!(target: "cleanup", "nothing to do: {shown} does not exist"),
        0 => log::info!(target: "cleanup", "nothing to do: nothing in {shown} is recorded as written by teleport-pipe"),
        count => log::info!(target: "cleanup", "removed {count} files from {shown}{emptied}"),
    }
    log::debug!(target: "cleanup", "{}", sanitize(&removed.join(", ")));
    if is_copy {
        log::warn!(
            target: "cleanup",
            "the record {RECORD} was not made for this directory, so nothing is removed that only it lists: it came with \
             the repository, or the directory is a copy"
        );
    }
    if !changed.is_empty() {
        let changed: Listing = changed.into_iter().collect();
        log::warn!(target: "cleanup", "kept, because they were changed after teleport-pipe wrote them: {changed}; `rm -rf` removes them");
    }
    if !unknown.is_empty() {
        log::warn!(target: "cleanup", "kept, because teleport-pipe did not write them: {unknown}; `rm -rf` removes them");
    }
    Ok(())
}
