//! What is wrong with a tbot.yaml, by its line.

use std::{fmt, io};

use crate::error::{Advice, Exit, Explain};
use crate::settings::default;
use crate::yaml;
use crate::yaml::section::{self, Section};

/// What is wrong with a tbot.yaml.
#[derive(Debug)]
pub(crate) struct Error {
    pub(super) file: String,
    pub(super) problem: Problem,
}

#[derive(Debug)]
pub(super) enum Problem {
    Unreadable(io::Error),
    NotText,
    Empty,
    Yaml(yaml::Error),
    Section(section::Error),
    Repeated { line: usize, key: String },
    Version { line: usize, found: Option<String> },
    Unsupported { line: usize, what: String, instead: &'static str },
    NoSuchType { line: usize, kind: Option<String> },
    NoDestination { line: usize },
    NoPath { line: usize },
    HalfALifetime { line: usize },
}

impl Problem {
    pub(super) fn unsupported(section: &Section<'_>, key: &'static str, instead: &'static str) -> Self {
        Self::Unsupported { line: section.line_of(key).unwrap_or(section.line), what: key.to_owned(), instead }
    }
}

impl From<yaml::Error> for Problem {
    fn from(error: yaml::Error) -> Self {
        Self::Yaml(error)
    }
}

impl From<section::Error> for Problem {
    fn from(error: section::Error) -> Self {
        Self::Section(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, problem } = self;
        match problem {
            Problem::Unreadable(source) => write!(f, "{file} cannot be read ({source})"),
            Problem::NotText => write!(f, "{file} is not text in UTF-8"),
            Problem::Empty => write!(f, "{file} is empty"),
            Problem::Yaml(source) => write!(f, "{file}: {source}"),
            Problem::Section(source) => write!(f, "{file}, {source}"),
            Problem::Repeated { line, key } => write!(f, "{file}, line {line}: {key} is there twice"),
            Problem::Version { line, found: Some(found) } => {
                write!(f, "{file}, line {line}: version is `{found}`, which is not v2")
            }
            Problem::Version { found: None, .. } => write!(f, "{file} has no version, so that it is of version v1"),
            Problem::Unsupported { line, what, .. } => write!(f, "{file}, line {line}: {what} is not supported"),
            Problem::NoSuchType { line, kind: Some(kind) } => {
                write!(f, "{file}, line {line}: type is `{kind}`, which does not exist")
            }
            Problem::NoSuchType { line, kind: None } => write!(f, "{file}, line {line}: type is not set"),
            Problem::NoDestination { line } => write!(f, "{file}, line {line}: the output has no destination"),
            Problem::NoPath { line } => write!(f, "{file}, line {line}: the directory has no path"),
            Problem::HalfALifetime { line } => {
                write!(
                    f,
                    "{file}, line {line}: the output has one of credential_ttl and renewal_interval, but not both"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl Explain for Error {
    fn advice(&self) -> Advice {
        const WRONG: &str = "a-configuration-file-cannot-be-used";
        let new = |remedy: &str| Advice::new(Exit::BadInput, WRONG, remedy.to_owned());
        match &self.problem {
            Problem::Unreadable(_) => new("Name a file that exists and that this user can read: -c tbot.yaml."),
            Problem::NotText | Problem::Yaml(_) => new("Correct the file; an editor that knows YAML shows where."),
            Problem::Empty => new("Write what `teleport-pipe configure identity --help` describes into it, or leave -c out."),
            Problem::Section(section::Error::Invalid { source, .. }) => source.advice(),
            Problem::Section(section::Error::Unknown { .. }) => new("Correct the key, or remove it.")
                .cause("Neither tbot nor teleport-pipe has such a key. tbot ignores it without a word."),
            Problem::Section(_) => new("Correct the line; docs/tbot-yaml.md has an example of each key."),
            Problem::Repeated { .. } => new("Remove one of them."),
            Problem::Version { .. } => new(
                "Write `version: v2`, and the keys of that version; `tbot migrate -c tbot.yaml` rewrites a file of version v1.",
            )
            .cause("teleport-pipe reads version v2, which Teleport has since version 14."),
            Problem::Unsupported { instead, .. } => {
                Advice::new(Exit::BadInput, "something-of-tbots-is-not-supported", *instead)
            }
            Problem::NoSuchType { .. } => new("Write `type: identity` for an output, `type: directory` for its destination."),
            Problem::NoDestination { .. } | Problem::NoPath { .. } => {
                new("Add `destination: {type: directory, path: ./tbot-user}` to the output.")
            }
            Problem::HalfALifetime { .. } => new(&format!(
                "Write both, such as `credential_ttl: {}` and `renewal_interval: 20m`, or leave both out.",
                default::TTL
            )),
        }
    }
}
