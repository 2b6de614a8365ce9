//! What went wrong, why it probably did, and what to do about it.
//!
//! Each module has its own error type, with one variant per thing that a person can fix. All of them implement
//! [`Explain`]; [`render`] is the only place that turns one into text for a person.

#[cfg(test)]
mod samples;

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use crate::documents;
use crate::text::{is_invisible, visible};

/// The exit status of the process. The numbers are part of the interface: scripts branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// A mistake of ours.
    Bug = 1,
    /// A variable, a flag or a file that was given to us is wrong.
    BadInput = 2,
    /// There is no usable ID token.
    NoIdToken = 3,
    /// The cluster was reached and said no.
    Refused = 4,
    /// The cluster was not reached, or not in time.
    Network = 5,
    /// The credentials could not be written.
    CannotWrite = 6,
}

/// The tests have samples of every error that implements [`Explain`].
#[cfg(not(test))]
pub(crate) trait Sampled {}

#[cfg(not(test))]
impl<T> Sampled for T {}

#[cfg(test)]
pub(crate) use self::samples::Sampled;

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The error is final.
    No,
    /// The error looks final, but one bad server of several shows it, too.
    Once,
    /// The next attempt, or the one after it, may succeed.
    Yes,
}

/// What an error means for the person and for the program.
#[derive(Debug)]
pub(crate) struct Advice {
    /// The likely cause in whole sentences; empty if there is nothing to add to the message.
    pub(crate) cause: Cow<'static, str>,
    /// What to do, in whole sentences. May have several lines, for example a rule to paste.
    pub(crate) remedy: Cow<'static, str>,
    pub(crate) exit: Exit,
    /// The heading in `docs/troubleshooting.md`.
    pub(crate) anchor: &'static str,
    pub(crate) retry: Retry,
}

impl Advice {
    /// Advice for an error that is final and whose message says the cause.
    pub(crate) fn new(exit: Exit, anchor: &'static str, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { cause: Cow::Borrowed(""), remedy: remedy.into(), exit, anchor, retry: Retry::No }
    }

    pub(crate) fn cause(self, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { cause: cause.into(), ..self }
    }

    pub(crate) fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}

/// An error that a person can act on. `Display` says what happened, in one sentence without a full stop.
pub(crate) trait Explain: std::error::Error + Sampled {
    fn advice(&self) -> Advice;
}

/// Any error of a run, on its way to the person.
#[derive(Debug)]
pub(crate) struct Failure(Box<dyn Explain + Send + Sync>);

impl<E: Explain + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl Failure {
    /// What to exit with.
    pub(crate) fn exit(&self) -> Exit {
        self.0.advice().exit
    }

    /// The text at the end of the log.
    pub(crate) fn render(&self) -> String {
        render(&*self.0)
    }

    /// The parts of the text, for a program that reads JSON.
    pub(crate) fn explanation(&self) -> Explanation {
        let Advice { cause, remedy, anchor, exit, .. } = self.0.advice();
        Explanation {
            message: visible(&self.0.to_string()),
            cause: visible(&cause),
            remedy: visible(&remedy),
            url: documents::troubleshooting(anchor),
            exit: exit as u8,
        }
    }

    /// The error as the only document on stdout.
    pub(crate) fn document(&self) -> Document {
        Document { error: self.explanation() }
    }

    /// Returns the text that a ProxyCommand prints, in two lines. They stand between those of ssh, so each says who speaks.
    /// The first may end with a command to copy.
    pub(crate) fn for_ssh(&self) -> String {
        let Advice { remedy, anchor, .. } = self.0.advice();
        for_ssh(&format!("{}. {remedy}", self.0), anchor)
    }
}

/// What a ProxyCommand says: the text, and the URL of the section of `docs/troubleshooting.md` that explains it.
pub(crate) fn for_ssh(text: &str, anchor: &str) -> String {
    // Blanks stay as they are, because a path in a command may have several.
    let text = text.replace(is_invisible, " ");
    format!("teleport-pipe: {text}\nteleport-pipe: more: {}\n", documents::troubleshooting(anchor))
}

/// An error as it stands in JSON (docs/json.md, "Errors").
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cause: String,
    remedy: String,
    url: String,
    exit: u8,
}

/// What a run in JSON prints if it fails.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    error: Explanation,
}

/// The error as a person reads it at the end of a step's log.
pub(crate) fn render(error: &dyn Explain) -> String {
    let mut text = format!("error: {error}\n");
    let Advice { cause, remedy, anchor, .. } = error.advice();
    if !cause.is_empty() {
        section(&mut text, "likely cause", &cause);
    }
    section(&mut text, "what to do", &remedy);
    section(&mut text, "more", &documents::troubleshooting(anchor));
    visible(&text)
}

/// The last line of an error, which says where there is more about it.
pub(crate) fn more_line(anchor: &str) -> String {
    let mut text = String::new();
    section(&mut text, "more", &documents::troubleshooting(anchor));
    text
}

/// `label: text`, further lines of the text below the first.
fn section(out: &mut String, label: &str, text: &str) {
    let mut lines = text.lines();
    let _ = writeln!(out, "{label:>12}: {}", lines.next().unwrap_or_default());
    for line in lines {
        let _ = writeln!(out, "{:14}{line}", "");
    }
}
