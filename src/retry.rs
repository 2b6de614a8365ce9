//! The deadline of a run, and the policy for trying again.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use rand_core::{OsRng, RngCore as _};
// The clock of tokio, so that a test can advance it.
use tokio::time::Instant;

use crate::error::Retry;

/// No attempt takes longer than this, however late the deadline is.
pub const LONGEST_ATTEMPT: Duration = Duration::from_secs(15);

/// An attempt gets at least this much time, if that much is left: enough for a lost packet, which TCP sends again after
/// a second, and for the round trips of a handshake on a slow line.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(2);

/// After this long without a line in the log, a person thinks that the program hangs.
pub(crate) const SLOW: Duration = Duration::from_secs(2);

/// The moment at which a run, or one attempt of it, gives up. Every call that can wait receives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    /// The stage under which the log mentions a long wait; `None` if it does not.
    stage: Option<&'static str>,
}

/// What has to happen elsewhere before we can go on.
#[derive(Clone, Debug)]
pub(crate) struct WaitingFor {
    /// The peer: `host:port`, or the name of a server.
    pub(crate) addr: String,
    /// What we expect of it, for example "an HTTP answer".
    pub(crate) what: &'static str,
}

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {} ({})", self.addr, self.what)
    }
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, stage: None }
    }

    /// The time that is left; zero if the deadline has passed.
    pub(crate) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// The deadline of an attempt of this stage that begins now. An attempt takes at most half of what is left, so that
    /// one which stalls leaves time for another one.
    pub(crate) fn attempt(self, stage: &'static str) -> Self {
        let share = (self.left() / 2).clamp(SHORTEST_ATTEMPT, LONGEST_ATTEMPT);
        Self { at: self.at.min(Instant::now() + share), stage: Some(stage) }
    }

    /// Waits for `future`, at most until the deadline. The error at the deadline is made of `waiting_for`; before that,
    /// the log mentions a long wait.
    pub(crate) async fn bound<T, E: From<WaitingFor>>(
        self,
        waiting_for: WaitingFor,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        // If the deadline comes soon, its error is the line that a person waits for.
        let stage = self.stage.filter(|_| self.left() > SLOW + Duration::from_secs(1));
        let logged = async {
            match stage {
                Some(stage) => log_if_slow(stage, &waiting_for, future).await,
                None => future.await,
            }
        };
        let result = tokio::time::timeout(self.left(), logged).await;
        result.unwrap_or_else(|_| Err(waiting_for.into()))
    }
}

/// Waits for `future`. If that takes long, the log says what for.
pub(crate) async fn log_if_slow<T>(stage: &'static str, what: impl fmt::Display, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    if let Ok(done) = tokio::time::timeout(SLOW, &mut future).await {
        return done;
    }
    log::info!(target: stage, "{what}");
    future.await
}

/// An error of a call that may be made again.
pub(crate) trait Transient: std::error::Error {
    fn retry(&self) -> Retry;

    fn is_transient(&self) -> bool {
        self.retry() == Retry::Yes
    }

    /// The server's own word about when to try again, if the error has room for one.
    fn retry_after(&mut self) -> Option<&mut RetryAfter>;
}

/// How long a server asks to be left alone, if it does: `Retry-After` (RFC 9110, section 10.2.3), or what gRPC servers
/// send for it. As text, it completes the server's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryAfter {
    asked: Option<Duration>,
    /// The deadline is before that.
    pub(crate) too_late: bool,
}

impl RetryAfter {
    pub(crate) const TOO_LATE: &str =
        "Run the step again later, or raise TIMEOUT (--timeout) so that there is time to wait.";

    pub(crate) fn asked(wait: Duration) -> Self {
        Self { asked: Some(wait), too_late: false }
    }

    pub(crate) fn remedy(self) -> Option<&'static str> {
        self.too_late.then_some(Self::TOO_LATE)
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(asked) = self.asked else { return Ok(()) };
        write!(f, "; asked to wait {} s", asked.as_millis().div_ceil(1000))?;
        f.write_str(if self.too_late { ", more than is left of TIMEOUT" } else { "" })
    }
}

/// The number of attempts of every call to the cluster, the first one included.
const ATTEMPTS: u32 = 7;

/// The limit of the first pause. It doubles with each pause.
const FIRST_PAUSE: Duration = Duration::from_millis(600);

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pause after so many failures, the first being 1; `None` if there were enough. Full jitter: the pause is anything
/// between zero and its limit, so that a hundred steps that failed together do not come back together. If the server asked
/// for a pause, the jitter comes on top of it.
fn pause(failures: u32, asked: Duration, random: u32) -> Option<Duration> {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let limit = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
    let jitter = limit.mul_f64(f64::from(random) / f64::from(u32::MAX));
    (failures < ATTEMPTS).then(|| asked.saturating_add(jitter))
}

/// Makes up to seven attempts with growing pauses, as long as the error allows it and the deadline leaves time for the
/// pause. Each attempt receives a deadline of its own. `stage` is the stage of the log. Returns the error of the last
/// attempt.
pub(crate) async fn retry<T, E: Transient, F: Future<Output = Result<T, E>>>(
    stage: &'static str,
    deadline: Deadline,
    mut attempt: impl FnMut(Deadline) -> F,
) -> Result<T, E> {
    let mut failures = 0;
    let mut once_more = true;
    loop {
        let mut error = match attempt(deadline.attempt(stage)).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        // An error that looks final is not worth a line while there is hope.
        let level = match error.retry() {
            Retry::Yes => log::Level::Info,
            Retry::Once if std::mem::take(&mut once_more) => log::Level::Debug,
            Retry::Once | Retry::No => return Err(error),
        };
        failures += 1;
        let mut asked = Duration::ZERO;
        if let Some(RetryAfter { asked: Some(wait), too_late }) = error.retry_after() {
            asked = *wait;
            *too_late = asked >= deadline.left();
        }
        // An attempt without time would only replace this error by one that says less.
        let Some(pause) = pause(failures, asked, random()).filter(|pause| *pause < deadline.left()) else {
            return Err(error);
        };
        log::log!(target: stage, level, "{error}; trying again in {} ms", pause.as_millis());
        tokio::time::sleep(pause).await;
    }
}

/// A random number. If the system has none, the pause is the longest.
fn random() -> u32 {
    let mut bytes = [u8::MAX; 4];
    let _ = OsRng.try_fill_bytes(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no{retry_after}")]
    struct No {
        retry: Retry,
        retry_after: RetryAfter,
    }

    impl Transient for No {
        fn retry(&self) -> Retry {
            self.retry
        }

        fn retry_after(&mut self) -> Option<&mut RetryAfter> {
            Some(&mut self.retry_after)
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    /// When each attempt began, by a clock that only pauses advance, and the error of the last one.
    fn tries(retry: Retry, retry_after: RetryAfter, timeout: Duration) -> (Vec<Duration>, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (began, times) = (Instant::now(), RefCell::new(Vec::new()));
            let result: Result<(), No> = super::retry("test", Deadline::after(timeout), |_| async {
                times.borrow_mut().push(began.elapsed());
                Err(No { retry, retry_after })
            })
            .await;
            (times.into_inner(), result.unwrap_err().to_string())
        })
    }

    fn seconds(seconds: u64) -> RetryAfter {
        RetryAfter::asked(Duration::from_secs(seconds))
    }

    #[test]
    fn transient_errors_are_retried_up_to_seven_times() {
        let nothing = RetryAfter::default();
        assert_eq!(tries(Retry::No, nothing, HOUR).0.len(), 1);
        assert_eq!(tries(Retry::Once, nothing, HOUR).0.len(), 2);
        assert_eq!(tries(Retry::Yes, nothing, HOUR).0.len(), 7);
        assert_eq!(tries(Retry::Yes, nothing, Duration::ZERO).0.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_leaves_time_for_another_one() {
        for (left, attempt) in
            [(3600, 15), (60, 15), (30, 15), (20, 10), (6, 3), (4, 2), (3, 2), (2, 2), (1, 1), (0, 0)]
        {
            let deadline = Deadline::after(Duration::from_secs(left)).attempt("test");
            assert_eq!(deadline.left(), Duration::from_secs(attempt), "{left}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_survives_an_attempt_that_stalls() {
        for timeout in [3, 6, 12, 60] {
            let first = Cell::new(true);
            let result = retry("test", Deadline::after(Duration::from_secs(timeout)), |deadline| {
                let stalls = first.replace(false);
                async move {
                    let work = Duration::from_millis(if stalls { u64::MAX } else { 300 });
                    let done = tokio::time::timeout(deadline.left(), tokio::time::sleep(work)).await;
                    done.map_err(|_| No { retry: Retry::Yes, retry_after: RetryAfter::default() })
                }
            });
            assert!(result.await.is_ok(), "{timeout}");
        }
    }

    #[test]
    fn pauses_are_anything_below_a_growing_limit() {
        let limits = [600, 1200, 2400, 4800, 9600, 10_000];
        for (failures, limit) in (1..).zip(limits) {
            let pause = |random| pause(failures, Duration::ZERO, random).unwrap().as_millis();
            assert_eq!((pause(0), pause(u32::MAX)), (0, limit));
            assert!(pause(u32::MAX / 2).abs_diff(limit / 2) <= 1);
        }
        assert_eq!(pause(7, Duration::ZERO, 0), None);
        // Among 300 runs some come back in the first tenth of the time and some in the last.
        let first: Vec<_> = (0..300).map(|_| tries(Retry::Yes, RetryAfter::default(), HOUR).0[1].as_millis()).collect();
        assert!(first.iter().any(|pause| *pause < 60) && first.iter().any(|pause| *pause > 540), "{first:?}");
        assert!(first.iter().all(|pause| *pause <= 601), "{first:?}");
    }

    #[test]
    fn a_pause_is_as_long_as_the_server_asks_for() {
        let (times, said) = tries(Retry::Yes, seconds(20), HOUR);
        assert_eq!((times.len(), said.as_str()), (7, "no; asked to wait 20 s"));
        for pair in times.windows(2) {
            let pause = pair[1] - pair[0];
            assert!(pause >= Duration::from_secs(20) && pause <= Duration::from_secs(31), "{pause:?}");
        }
    }

    #[test]
    fn a_pause_beyond_the_deadline_ends_the_run_at_once() {
        let (times, said) = tries(Retry::Yes, seconds(61), Duration::from_secs(60));
        assert_eq!((times.len(), said.as_str()), (1, "no; asked to wait 61 s, more than is left of TIMEOUT"));
        let (times, said) = tries(Retry::Yes, seconds(u64::MAX), HOUR);
        assert!(times.len() == 1 && said.ends_with(" left of TIMEOUT"), "{said}");
        // There is time for it twice, then the time has run out.
        let (times, said) = tries(Retry::Yes, seconds(20), Duration::from_secs(45));
        assert!(times.len() <= 3 && said.ends_with(" left of TIMEOUT"), "{times:?} {said}");
        // A final error is not worth waiting for.
        assert_eq!(tries(Retry::No, seconds(20), HOUR).0.len(), 1);
    }
}
