//! `LEAK_CHECK`: what to do about a leak.

use std::str::FromStr;

use crate::choice::choose;
use crate::invalid::Invalid;

/// What to do if artifacts or caches of the step would take the credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LeakCheck {
    /// The default: stop if they certainly would, otherwise warn.
    #[default]
    Sure,
    /// Stop if they could, or if that cannot be checked.
    Error,
    Warn,
    Off,
}

impl FromStr for LeakCheck {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        choose(text, &[("error", Self::Error), ("warn", Self::Warn), ("off", Self::Off)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leak_checks() {
        assert_eq!("Warn".parse::<LeakCheck>().unwrap(), LeakCheck::Warn);
        assert!("false".parse::<LeakCheck>().is_err());
    }
}
