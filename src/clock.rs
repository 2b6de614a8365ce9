//! The clock of this machine, the offset of the cluster's clock from it, and durations as a person says them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A clock, so that a test can set the time. Clones show the same time.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    pub(crate) fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn system() -> Self {
        Self::new(SystemTime::now)
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// A smaller difference is ignored: answers take their time and show whole seconds, and certificates are valid from a
/// minute back (docs/protocol.md, "Issued certificates").
const NOTABLE: Duration = Duration::from_secs(30);

/// A larger difference is not a matter of clocks: a server may show the year 9999, which leaves no room for a lifetime
/// after it.
const BELIEVABLE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How far the cluster's clock is ahead of ours, in seconds; negative if it is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offset(i64);

impl Offset {
    /// From the cluster's time at some moment between `asked` and `answered`, which are times of our clock.
    pub(crate) fn measured(theirs: SystemTime, asked: SystemTime, answered: SystemTime) -> Self {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or_default();
        match (theirs.duration_since(answered), asked.duration_since(theirs)) {
            (Ok(ahead), _) if (NOTABLE..BELIEVABLE).contains(&ahead) => Self(seconds(ahead)),
            (_, Ok(behind)) if (NOTABLE..BELIEVABLE).contains(&behind) => Self(-seconds(behind)),
            _ => Self(0),
        }
    }

    /// The cluster's time when our clock shows `ours`.
    pub(crate) fn cluster_time(self, ours: SystemTime) -> SystemTime {
        let distance = Duration::from_secs(self.0.unsigned_abs());
        let theirs = if self.0 < 0 { ours.checked_sub(distance) } else { ours.checked_add(distance) };
        theirs.unwrap_or(ours)
    }

    pub(crate) fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    pub(crate) fn seconds(self) -> i64 {
        self.0
    }
}

/// Completes "the clock here is …".
impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let distance = approximate(Duration::from_secs(self.0.unsigned_abs()));
        match self.0 {
            0 => f.write_str("that of the cluster"),
            1.. => write!(f, "{distance} behind the cluster's"),
            _ => write!(f, "{distance} ahead of the cluster's"),
        }
    }
}

/// A duration as a person says it: to the minute from two minutes on.
pub(crate) fn approximate(duration: Duration) -> humantime::FormattedDuration {
    let seconds = duration.as_secs();
    let said = if seconds < 120 { seconds } else { (seconds + 30) / 60 * 60 };
    humantime::format_duration(Duration::from_secs(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_time_that_an_answer_takes_is_not_a_difference() {
        let measured = |theirs| Offset::measured(at(theirs), at(1000), at(1060)).to_string();
        for theirs in [971, 1000, 1030, 1060, 1089] {
            assert_eq!(measured(theirs), "that of the cluster", "{theirs}");
        }
        assert_eq!(measured(1090), "30s behind the cluster's");
        assert_eq!(measured(940), "1m ahead of the cluster's");
        // 9999-12-31T23:59:59Z, the last moment that a `Date` header can show.
        assert_eq!(measured(253_402_300_799), "that of the cluster");
    }

    #[test]
    fn the_clusters_time() {
        assert_eq!(Offset(60).cluster_time(at(100)), at(160));
        assert_eq!(Offset(-60).cluster_time(at(100)), at(40));
    }
}
