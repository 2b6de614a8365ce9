//! What a run may still spend on the files of a destination.

use std::cell::Cell;
use std::path::Path;

use super::error::Error;
use crate::limits::DIGESTED_SIZE;
use crate::retry::Deadline;

/// The time, and the number of bytes to digest. The files of a destination may be the repository's, and the repository
/// may be hostile.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) deadline: Deadline,
    bytes: Cell<u64>,
}

impl Budget {
    pub(super) fn new(deadline: Deadline) -> Self {
        Self { deadline, bytes: Cell::new(DIGESTED_SIZE) }
    }

    /// Fails after the deadline.
    pub(super) fn expect_time(&self, path: &Path) -> Result<(), Error> {
        match self.deadline.is_over() {
            true => Err(Error::Late { path: path.into() }),
            false => Ok(()),
        }
    }

    /// Spends so many bytes. Returns whether there were as many.
    pub(super) fn spend(&self, bytes: u64) -> bool {
        let left = self.bytes.get().checked_sub(bytes);
        self.bytes.set(left.unwrap_or(self.bytes.get()));
        left.is_some()
    }
}
