//! `LEAK_CHECK`: what to do about a leak.

use std::str::FromStr;

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
        match text.to_ascii_lowercase().as_str() {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "off" => Ok(Self::Off),
            _ => Err(Invalid::new("is not error, warn or off", "Write 'error', 'warn' or 'off', or leave it out.")),
        }
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
