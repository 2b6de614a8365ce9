//! The cluster's clock, as far as ours differs from it; and how to speak of time.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Less than this is no difference: answers take their time, show whole seconds, and certificates are valid from a
/// minute back (teleport-issue-and-outputs.md 3).
const NOTABLE: Duration = Duration::from_secs(30);

/// More than this is no clock: the year 9999, which a server may show, leaves no room for a lifetime behind it.
const BELIEVABLE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How far the cluster's clock is ahead of ours, in seconds; negative if it is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offset(i64);

impl Offset {
    /// From a time that the cluster has shown, at some moment between `asked` and `answered` by our clock.
    pub(crate) fn measured(shown: SystemTime, asked: SystemTime, answered: SystemTime) -> Self {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or_default();
        match (shown.duration_since(answered), asked.duration_since(shown)) {
            (Ok(ahead), _) if (NOTABLE..BELIEVABLE).contains(&ahead) => Self(seconds(ahead)),
            (_, Ok(behind)) if (NOTABLE..BELIEVABLE).contains(&behind) => Self(-seconds(behind)),
            _ => Self(0),
        }
    }

    /// The time there, when our clock shows `here`.
    pub(crate) fn there(self, here: SystemTime) -> SystemTime {
        let distance = Duration::from_secs(self.0.unsigned_abs());
        let there = if self.0 < 0 { here.checked_sub(distance) } else { here.checked_add(distance) };
        there.unwrap_or(here)
    }

    /// As it was kept by [`seconds`](Self::seconds).
    pub(crate) fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds that the cluster is ahead.
    pub(crate) fn seconds(self) -> i64 {
        self.0
    }

    /// There is no difference.
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Completes «the clock here is …».
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

/// A duration as a person would say it: to the minute from two minutes on.
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
    fn what_was_on_the_way_for_long_is_no_difference() {
        let measured = |shown| Offset::measured(at(shown), at(1000), at(1060)).to_string();
        for shown in [971, 1000, 1030, 1060, 1089] {
            assert_eq!(measured(shown), "that of the cluster", "{shown}");
        }
        assert_eq!(measured(1090), "30s behind the cluster's");
        assert_eq!(measured(940), "1m ahead of the cluster's");
        // 9999-12-31T23:59:59Z, the last moment that a `Date` header can show.
        assert_eq!(measured(253_402_300_799), "that of the cluster");
    }

    #[test]
    fn times_there() {
        assert_eq!(Offset(60).there(at(100)), at(160));
        assert_eq!(Offset(-60).there(at(100)), at(40));
    }
}
