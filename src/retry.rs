//! The one deadline of a run, and the one policy for trying again.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};

/// No single attempt takes longer than this, however late the deadline is.
pub const ATTEMPT: Duration = Duration::from_secs(15);

/// Whoever waits for longer than this without a word thinks that it hangs.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The moment at which a run, or one attempt of it, gives up. Every call that can wait receives it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    /// The stage of the log in which a long wait is told; without one it is not.
    stage: Option<&'static str>,
}

/// Something that somebody else has to do before we can go on.
#[derive(Clone, Debug)]
pub struct Awaited {
    /// Whose turn it is: `host:port`, or the name of a server.
    pub addr: String,
    /// What is expected; completes «waiting for …».
    pub what: &'static str,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {} ({})", self.addr, self.what)
    }
}

impl Deadline {
    /// This much time from now.
    pub fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, stage: None }
    }

    /// What is left of it; zero when it has passed.
    pub fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// The deadline of an attempt of this stage that begins now.
    fn attempt(self, stage: &'static str) -> Self {
        Self { at: self.at.min(Instant::now() + ATTEMPT), stage: Some(stage) }
    }

    /// The result of `future`, or what was awaited if that has not come by the deadline. The log says so before.
    ///
    /// # Errors
    /// Those of `future`, and the one that is made of `awaited`.
    pub async fn bound<T, E: From<Awaited>>(
        self,
        awaited: Awaited,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let told = async {
            match self.stage {
                Some(stage) => told(stage, &awaited, future).await,
                None => future.await,
            }
        };
        let result = tokio::time::timeout(self.left(), told).await;
        result.unwrap_or_else(|_| Err(awaited.into()))
    }
}

/// The result of `future`. If it takes long, the log says what for.
pub async fn told<T>(stage: &'static str, what: impl fmt::Display, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match tokio::time::timeout(PATIENCE, &mut future).await {
        Ok(done) => done,
        Err(_) => {
            log::info!(target: stage, "{what}");
            future.await
        }
    }
}

/// Errors that may be gone the next time.
pub trait Transient: std::error::Error {
    /// Whether trying again can help.
    fn is_transient(&self) -> bool;
}

/// Tries up to seven times, with exponentially growing and jittered pauses, as long as the error is transient and the
/// deadline leaves time for the pause. Each attempt is handed a deadline of its own. `stage` names the line of the log.
///
/// # Errors
/// The error of the last attempt.
pub async fn retry<T, E: Transient, F: Future<Output = Result<T, E>>>(
    stage: &'static str,
    deadline: Deadline,
    mut attempt: impl FnMut(Deadline) -> F,
) -> Result<T, E> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(300))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(6)
        .with_jitter();
    (|| attempt(deadline.attempt(stage)))
        .retry(pauses)
        .when(Transient::is_transient)
        // An attempt without time would only replace the error that says something by one that does not.
        .adjust(|_, pause| pause.filter(|pause| *pause < deadline.left()))
        .notify(|error, pause| log::info!(target: stage, "{error}; trying again in {} ms", pause.as_millis()))
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No {
        transient: bool,
    }

    impl Transient for No {
        fn is_transient(&self) -> bool {
            self.transient
        }
    }

    fn tries(transient: bool, timeout: Duration) -> u32 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let count = Cell::new(0);
        let result: Result<(), No> = runtime.block_on(retry("test", Deadline::after(timeout), |_| async {
            count.set(count.get() + 1);
            Err(No { transient })
        }));
        assert!(result.is_err());
        count.get()
    }

    #[test]
    fn only_what_can_pass_is_tried_again_and_not_for_ever() {
        assert_eq!(tries(false, Duration::from_secs(3600)), 1);
        assert_eq!(tries(true, Duration::from_secs(3600)), 7);
        assert_eq!(tries(true, Duration::ZERO), 1);
    }
}
