//! Ends a run that is still there after its deadline.
//!
//! Everything that waits for the network, a lock or a file has the deadline of the run. Nothing of that helps against a
//! log that is not read, because a write to a full pipe does not return, or against a file system that hangs.

use std::time::Duration;

use crate::error::{Advice, Exit, Explain, Failure};
use crate::host::HostError;
use crate::log;

/// How long after its deadline a run may take to report it and to end.
const GRACE: Duration = Duration::from_millis(900);

/// Ends the process if it is still there when `timeout` and [`GRACE`] have passed. Files that are being written then stay
/// incomplete under their temporary names, as after a kill.
pub(crate) fn start(timeout: Duration) -> Result<(), HostError> {
    let watch = move || {
        std::thread::sleep(timeout.saturating_add(GRACE));
        let failure = Failure::from(Overdue { timeout });
        log::failure_without_waiting(&failure);
        #[expect(clippy::exit, reason = "the main thread may never return")]
        std::process::exit(i32::from(failure.exit() as u8));
    };
    let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
    thread.map(drop).map_err(HostError::because("the system's way to start a thread"))
}

#[derive(Debug, thiserror::Error)]
#[error("the run had not ended after {}, its deadline", humantime::format_duration(*timeout))]
pub(crate) struct Overdue {
    pub(crate) timeout: Duration,
}

impl Explain for Overdue {
    fn advice(&self) -> Advice {
        Advice::new(
            Exit::Network,
            "the-run-does-not-end",
            "Run it again. If this happens again, look at the machine: its load, its disks and file shares, and the \
             program that reads the log.",
        )
        .cause("Something outside of this program did not return in time: a file system, or the reader of the log.")
    }
}
