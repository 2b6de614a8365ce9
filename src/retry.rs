//! The one deadline of a run, and the one policy for trying again.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use rand_core::{OsRng, RngCore as _};
// The standard one, but for tests that turn the clock.
use tokio::time::Instant;

use crate::error::Retry;

/// No attempt takes longer than this, however late the deadline is.
pub const LONGEST_ATTEMPT: Duration = Duration::from_secs(15);

/// An attempt gets at least this much time, if that much is left: enough for a lost packet, which TCP sends again after
/// a second, and for the round trips of a handshake on a slow line.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(2);

/// Whoever waits for longer than this without a word thinks that it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The moment at which a run, or one attempt of it, gives up. Every call that can wait receives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    /// The stage of the log in which a long wait is told; without one it is not.
    stage: Option<&'static str>,
}

/// Something that somebody else has to do before we can go on.
#[derive(Clone, Debug)]
pub(crate) struct Awaited {
    /// Whose turn it is: `host:port`, or the name of a server.
    pub(crate) addr: String,
    /// What is expected; completes «waiting for …».
    pub(crate) what: &'static str,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {} ({})", self.addr, self.what)
    }
}

impl Deadline {
    /// This much time from now.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, stage: None }
    }

    /// What is left of it; zero when it has passed.
    pub(crate) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// The deadline of an attempt of this stage that begins now. An attempt takes at most half of what is left, so that
    /// one which stalls leaves time for another one.
    pub(crate) fn attempt(self, stage: &'static str) -> Self {
        let share = (self.left() / 2).clamp(SHORTEST_ATTEMPT, LONGEST_ATTEMPT);
        Self { at: self.at.min(Instant::now() + share), stage: Some(stage) }
    }

    /// The result of `future`, or what was awaited if that has not come by the deadline. The log says so before.
    ///
    /// # Errors
    /// Those of `future`, and the one that is made of `awaited`.
    pub(crate) async fn bound<T, E: From<Awaited>>(
        self,
        awaited: Awaited,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let told = async {
            match self.stage {
                Some(stage) => log_if_slow(stage, &awaited, future).await,
                None => future.await,
            }
        };
        let result = tokio::time::timeout(self.left(), told).await;
        result.unwrap_or_else(|_| Err(awaited.into()))
    }
}

/// The result of `future`. If it takes long, the log says what for.
pub(crate) async fn log_if_slow<T>(stage: &'static str, what: impl fmt::Display, future: impl Future<Output = T>) -> T {
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
pub(crate) trait Transient: std::error::Error {
    /// Whether trying again can help.
    fn retry(&self) -> Retry;

    /// Whether it is a matter of time.
    fn is_transient(&self) -> bool {
        self.retry() == Retry::Yes
    }

    /// Where the error keeps what the server said about when to come back.
    fn retry_after(&mut self) -> Option<&mut RetryAfter> {
        None
    }
}

/// When a server wants to be asked again, if it said so: `Retry-After` (RFC 9110, section 10.2.3), or what gRPC's
/// servers send for it. As text it completes what the server said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryAfter {
    asked: Option<Duration>,
    pub(crate) too_late: bool,
}

impl RetryAfter {
    /// What to do where it is [too late](Self::is_too_late).
    pub(crate) const TOO_LATE: &str =
        "Run the step again later, or raise TIMEOUT (--timeout) so that there is time to wait.";

    /// It said this long.
    pub(crate) fn asked(wait: Duration) -> Self {
        Self { asked: Some(wait), too_late: false }
    }

    /// What to do if that is too late; `None` if it is not.
    pub(crate) fn remedy(self) -> Option<&'static str> {
        self.too_late.then_some(Self::TOO_LATE)
    }

    /// It said to come back when there is no time left.
    pub(crate) fn is_too_late(self) -> bool {
        self.too_late
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(asked) = self.asked else { return Ok(()) };
        write!(f, "; asked to wait {} s", asked.as_millis().div_ceil(1000))?;
        f.write_str(if self.too_late { ", more than is left of TIMEOUT" } else { "" })
    }
}

/// How often something is tried, and how long the pauses are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Tries, the first one included.
    attempts: u32,
    /// The first pause is no longer than this, each further one no longer than twice the one before.
    first: Duration,
    /// No pause is longer than this.
    longest: Duration,
}

/// Of every call to the cluster.
const POLICY: Policy = Policy { attempts: 7, first: Duration::from_millis(600), longest: Duration::from_secs(10) };

impl Policy {
    /// The pause after so many failures, the first being 1, or none when it is enough. Full jitter: anything between
    /// nothing and the cap, so that a hundred steps that failed together do not come back together. A server's own wish
    /// is kept and the jitter comes on top of it.
    fn pause(self, failures: u32, asked: Duration, random: u32) -> Option<Duration> {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let cap = self.first.saturating_mul(doubled).min(self.longest);
        let jitter = cap.mul_f64(f64::from(random) / f64::from(u32::MAX));
        (failures < self.attempts).then(|| asked.saturating_add(jitter))
    }
}

/// Tries up to seven times, with growing pauses, as long as the error allows it and the deadline leaves time for the
/// pause. Each attempt is handed a deadline of its own. `stage` names the line of the log.
///
/// # Errors
/// The error of the last attempt.
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
        // What looks final is not worth a line while there is hope.
        let level = match error.retry() {
            Retry::Yes => log::Level::Info,
            Retry::Once if std::mem::take(&mut once_more) => log::Level::Debug,
            Retry::Once | Retry::No => return Err(error),
        };
        failures += 1;
        let wish = error.retry_after();
        let asked = wish.as_ref().and_then(|wish| wish.asked).unwrap_or_default();
        if let Some(wish) = wish {
            wish.too_late = wish.asked.is_some_and(|asked| asked >= deadline.left());
        }
        // An attempt without time would only replace the error that says something by one that does not.
        match POLICY.pause(failures, asked, random()).filter(|pause| *pause < deadline.left()) {
            Some(pause) => {
                log::log!(target: stage, level, "{error}; trying again in {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
            }
            None => return Err(error),
        }
    }
}

/// A random number. Without one the pause is the longest.
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
    #[error("no{wait}")]
    struct No {
        again: Retry,
        wait: RetryAfter,
    }

    impl Transient for No {
        fn retry(&self) -> Retry {
            self.again
        }

        fn retry_after(&mut self) -> Option<&mut RetryAfter> {
            Some(&mut self.wait)
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    /// When each attempt began, by a clock that only pauses move, and what the last one said.
    fn tries(again: Retry, wait: RetryAfter, timeout: Duration) -> (Vec<Duration>, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (began, times) = (Instant::now(), RefCell::new(Vec::new()));
            let result: Result<(), No> = retry("test", Deadline::after(timeout), |_| async {
                times.borrow_mut().push(began.elapsed());
                Err(No { again, wait })
            })
            .await;
            (times.into_inner(), result.unwrap_err().to_string())
        })
    }

    fn seconds(seconds: u64) -> RetryAfter {
        RetryAfter::asked(Duration::from_secs(seconds))
    }

    #[test]
    fn only_what_can_pass_is_tried_again_and_not_for_ever() {
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
                    done.map_err(|_| No { again: Retry::Yes, wait: RetryAfter::default() })
                }
            });
            assert!(result.await.is_ok(), "{timeout}");
        }
    }

    #[test]
    fn pauses_are_anything_below_a_growing_cap() {
        let caps = [600, 1200, 2400, 4800, 9600, 10_000];
        for (failures, cap) in (1..).zip(caps) {
            let pause = |random| POLICY.pause(failures, Duration::ZERO, random).unwrap().as_millis();
            assert_eq!((pause(0), pause(u32::MAX)), (0, cap));
            assert!(pause(u32::MAX / 2).abs_diff(cap / 2) <= 1);
        }
        assert_eq!(POLICY.pause(7, Duration::ZERO, 0), None);
        // Among 300 runs some come back in the first tenth of the time and some in the last.
        let first: Vec<_> = (0..300).map(|_| tries(Retry::Yes, RetryAfter::default(), HOUR).0[1].as_millis()).collect();
        assert!(first.iter().any(|pause| *pause < 60) && first.iter().any(|pause| *pause > 540), "{first:?}");
        assert!(first.iter().all(|pause| *pause <= 601), "{first:?}");
    }

    #[test]
    fn the_servers_wish_is_kept() {
        let (times, said) = tries(Retry::Yes, seconds(20), HOUR);
        assert_eq!((times.len(), said.as_str()), (7, "no; asked to wait 20 s"));
        for pair in times.windows(2) {
            let pause = pair[1] - pair[0];
            assert!(pause >= Duration::from_secs(20) && pause <= Duration::from_secs(31), "{pause:?}");
        }
    }

    #[test]
    fn a_wish_beyond_the_deadline_ends_it_at_once_and_is_said() {
        let (times, said) = tries(Retry::Yes, seconds(61), Duration::from_secs(60));
        assert_eq!((times.len(), said.as_str()), (1, "no; asked to wait 61 s, more than is left of TIMEOUT"));
        let (times, said) = tries(Retry::Yes, seconds(u64::MAX), HOUR);
        assert!(times.len() == 1 && said.ends_with(" left of TIMEOUT"), "{said}");
        // It fits twice: then it is the time that has run out.
        let (times, said) = tries(Retry::Yes, seconds(20), Duration::from_secs(45));
        assert!(times.len() <= 3 && said.ends_with(" left of TIMEOUT"), "{times:?} {said}");
        // Nobody waits for what is final.
        assert_eq!(tries(Retry::No, seconds(20), HOUR).0.len(), 1);
    }
}
