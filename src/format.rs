//! `FORMAT` (`--format`): how a command prints its result on stdout. The log on stderr is the same in all formats.

use std::str::FromStr;

use crate::choice::choose;
use crate::invalid::Invalid;

/// The format of `join` and `doctor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document (docs/json.md).
    Json,
}

impl FromStr for Format {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        choose(text, &[("text", Self::Text), ("json", Self::Json)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!("JSON".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("text".parse::<Format>().unwrap(), Format::default());
        assert!("yaml".parse::<Format>().is_err());
    }
}
