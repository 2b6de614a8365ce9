//! What is wrong with a value that was given to us.

use std::borrow::Cow;

use crate::error::{Advice, Exit, Explain};
use crate::text::{is_invisible, sanitize};

/// Why a text is not valid. [`Invalid::named`] adds the name of the variable or flag.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Invalid {
    reason: String,
    remedy: Cow<'static, str>,
    hidden: bool,
}

impl Invalid {
    /// `reason` completes "X is `...`, which ...".
    pub(crate) fn new(reason: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into(), hidden: false }
    }

    /// The text may be a secret and is not shown.
    pub(crate) fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The error of the variable or flag `name` with this text.
    pub(crate) fn named(self, name: &'static str, text: &str) -> Error {
        let is_hidden = self.hidden || may_be_secret(text);
        let value = if is_hidden { "(not shown)".to_owned() } else { format!("`{}`", sanitize(text)) };
        Error::Invalid { name, value, reason: self.reason, remedy: self.remedy }
    }
}

/// Checks what no value of a variable or a flag may have: characters that a person does not see, and the name of a variable
/// in the place of its value.
pub(crate) fn expect_plain(text: &str) -> Result<(), Invalid> {
    let is_hidden = |c: char| is_invisible(c) || (c.is_whitespace() && !c.is_ascii());
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_hidden(*c)) {
        let before: Vec<char> = text[..at].chars().collect();
        let before: String = before[before.len().saturating_sub(20)..].iter().collect();
        let position = match sanitize(&before) {
            _ if may_be_secret(text) => "in it".to_owned(),
            before if before.is_empty() => "at its beginning".to_owned(),
            before => format!("after `{before}`"),
        };
        let kind = if is_invisible(c) { "an invisible character" } else { "an unusual blank" };
        let reason = format!("has {kind} (U+{:04X}) {position}", u32::from(c));
        return Err(Invalid::new(reason, "Type the value by hand: the character was copied with it."));
    }
    match variable_name(text) {
        Some(name) => Err(Invalid::new(
            "is the name of a variable instead of its value",
            format!(
                "Define {name} where this runs, for example as a variable of the repository or of the step's deployment \
                 environment, or write the value itself."
            ),
        )),
        None => Ok(()),
    }
}

/// Whether an invalid value may be a secret that belongs into another variable, or into none: several lines, an ID token, a
/// URL with credentials, or a long word of letters and digits as machines make them.
pub(crate) fn may_be_secret(text: &str) -> bool {
    let is_random = |word: &str| {
        let has_both = word.contains(|c: char| c.is_ascii_digit()) && word.contains(|c: char| c.is_ascii_alphabetic());
        word.len() >= 16 && has_both
    };
    let has_credentials = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    text.contains(['\n', '\r']) || text.contains("eyJ") || has_credentials || words.any(is_random)
}

/// The name in `$NAME` or `${NAME}`, if the text is nothing else.
pub(crate) fn variable_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(name)
}

/// A variable, a flag or a value that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{name} is not set")]
    Missing {
        name: &'static str,
        /// A value that would be valid.
        example: &'static str,
    },
    /// Like [`Missing`](Self::Missing), outside of a CI system, where no `variables:` are.
    #[error("{name} is not set")]
    MissingOutside { name: &'static str, example: &'static str },
    #[error("{name} is {value}, which {reason}")]
    Invalid { name: &'static str, value: String, reason: String, remedy: Cow<'static, str> },
    /// tbot can do it and we cannot.
    #[error("{what} is not supported")]
    Unsupported { what: String, instead: Cow<'static, str> },
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        let new = |anchor, remedy| Advice::new(Exit::BadInput, anchor, remedy);
        match self {
            Self::Missing { name, example } => {
                let remedy = match name.starts_with('-') {
                    true => format!("Add {name}={example}."),
                    false => {
                        format!("Set it under `variables:` of the pipe, or in the environment:\n{name}: '{example}'")
                    }
                };
                new("a-variable-or-flag-is-missing", remedy.into())
            }
            Self::MissingOutside { name, example } => {
                let flag = name.to_lowercase().replace('_', "-");
                let remedy = format!(
                    "Set it in the environment, or add the flag to `teleport-pipe join` or `doctor`:\n\
                     export {name}='{example}'\n--{flag}={example}"
                );
                new("a-variable-or-flag-is-missing", remedy.into())
            }
            Self::Invalid { remedy, .. } => new("a-variable-or-flag-is-wrong", remedy.clone()),
            Self::Unsupported { instead, .. } => new("something-of-tbots-is-not-supported", instead.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_are_not_seen_are_named() {
        for (text, reason) in [
            ("localhost:43823\u{200b}", "has an invisible character (U+200B) after `localhost:43823`"),
            ("\u{feff}localhost", "has an invisible character (U+FEFF) at its beginning"),
            ("example\u{ad}-bot", "has an invisible character (U+00AD) after `example`"),
            ("\u{e0001}\u{200b}", "has an invisible character (U+E0001) at its beginning"),
            ("a\u{a0}b", "has an unusual blank (U+00A0) after `a`"),
            ("one line\nand another", "has an invisible character (U+000A) in it"),
            (
                &format!("{}\u{200b}", "x".repeat(300)),
                "has an invisible character (U+200B) after `xxxxxxxxxxxxxxxxxxxx`",
            ),
        ] {
            assert_eq!(expect_plain(text).unwrap_err().to_string(), reason, "{text:?}");
        }
    }

    #[test]
    fn a_variable_that_nothing_has_replaced_is_not_a_value() {
        for text in ["$PROXY_SERVER", "${TOKEN}", "$_x1"] {
            assert!(expect_plain(text).is_err(), "{text}");
        }
        for text in ["", "$", "$1", "${", "${A", "$A/b", "a$A", "$A$B", "example.teleport.sh:443", "naïve"] {
            assert!(expect_plain(text).is_ok(), "{text}");
        }
    }
}
