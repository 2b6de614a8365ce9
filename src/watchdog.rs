//! Ends a run that is still there after its deadline.
//!
//! Everything that waits for the network, a lock or a file has the deadline of the run. Nothing of that helps against a
//! log that is not read, because a write to a full pipe does not return, or against a file system that hangs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::error::{Advice, Exit, Explain, Failure};
use crate::host::HostError;
use crate::log;

/// The time until the deadline of the run is known: variables and flags are read, and what is wrong with them is printed.
const BEGINNING: Duration = Duration::from_secs(10);

/// How long after its deadline a run may take to report it and to end.
const GRACE: Duration = Duration::from_millis(900);

/// A thread that ends the process if it is still there when its time and [`GRACE`] have passed. Files that are being
/// written then stay incomplete under their temporary names, as after a kill.
pub(crate) struct Watchdog(Sender<Duration>);

impl Watchdog {
    pub(crate) fn start() -> Result<Self, HostError> {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&receiver));
        thread.map(|_| Self(sender)).map_err(HostError::because("the system's way to start a thread"))
    }

    /// From now on the process has this much time.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        let _ = self.0.send(timeout);
    }
}

fn watch(timeouts: &Receiver<Duration>) {
    let (mut began, mut timeout) = (Instant::now(), BEGINNING);
    loop {
        let left = timeout.saturating_add(GRACE).saturating_sub(began.elapsed());
        match timeouts.recv_timeout(left) {
            Ok(new) => (began, timeout) = (Instant::now(), new),
            Err(RecvTimeoutError::Timeout) => break,
            // The main thread prints what is left to print, and ends the process.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(left);
                break;
            }
        }
    }
    let failure = Failure::from(Overdue { timeout });
    log::failure_without_waiting(&failure);
    #[expect(clippy::exit, reason = "the main thread may never return")]
    std::process::exit(i32::from(failure.exit() as u8));
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
        .cause("A file system or the reader of the log did not return in time, or the machine is overloaded.")
    }
}
