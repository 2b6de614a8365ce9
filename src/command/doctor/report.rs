//! The output of `doctor`: a line for each check, and a sentence at the end; or all of it as one JSON document.

use std::collections::BTreeSet;
use std::time::Instant;

use anstyle::AnsiColor;
use serde::Serialize;

use crate::error::{Exit, Explanation, Failure};
use crate::format::Format;
use crate::host::{Host, HostError};
use crate::log::{colour_on_stdout, json, out};

/// A check of one step on the way to the cluster.
pub(super) struct Check {
    pub(super) name: &'static str,
    /// Who can fix it.
    pub(super) who: &'static str,
}

/// What a check found, or why it was not tried.
pub(super) enum Outcome {
    Good(String),
    /// A join succeeds, but a person should know of something.
    Remarked(String, Vec<String>),
    Skipped(String),
    Bad(Failure),
}

impl<E: Into<Failure>> From<Result<String, E>> for Outcome {
    fn from(result: Result<String, E>) -> Self {
        result.map_or_else(|error| Self::Bad(error.into()), Self::Good)
    }
}

/// What was found so far. As text, each line is printed at once, so that a person sees which check hangs.
pub(super) struct Report {
    format: Format,
    colour: bool,
    /// The first check that failed.
    failed: Option<(&'static Check, Exit)>,
    /// Explanations that were printed, so that none is repeated.
    explained: BTreeSet<String>,
    /// The checks, for a document of JSON.
    checks: Vec<CheckDocument>,
}

/// A check in JSON (docs/json.md, "doctor").
#[derive(Serialize)]
struct CheckDocument {
    name: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
    /// Why the check was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Explanation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<u64>,
}

/// All of it in JSON.
#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    checks: &'a [CheckDocument],
    verdict: Verdict,
}

#[derive(Serialize)]
struct Verdict {
    ok: bool,
    exit: u8,
    /// The name of the first check that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix_first: Option<&'static str>,
    /// Who can fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<&'static str>,
    text: String,
}

impl Report {
    pub(super) fn new(host: &Host, format: Format) -> Self {
        let colour = colour_on_stdout(&host.env);
        Self { format, colour, failed: None, explained: BTreeSet::new(), checks: Vec::new() }
    }

    pub(super) fn good(&mut self, check: &'static Check, found: impl Into<String>) -> Result<(), HostError> {
        self.add(check, Outcome::Good(found.into()), None)
    }

    pub(super) fn skipped(&mut self, check: &'static Check, why: impl Into<String>) -> Result<(), HostError> {
        self.add(check, Outcome::Skipped(why.into()), None)
    }

    /// Adds the result of a check, with the time that it took since `began`.
    pub(super) fn add(
        &mut self,
        check: &'static Check,
        outcome: impl Into<Outcome>,
        began: Option<Instant>,
    ) -> Result<(), HostError> {
        let (outcome, took) = (outcome.into(), began.map(|began| began.elapsed().as_millis()));
        if let Outcome::Bad(failure) = &outcome {
            self.failed.get_or_insert((check, failure.exit()));
        }
        match self.format {
            Format::Text => print(&self.line(check, outcome, took)),
            Format::Json => {
                self.checks.push(CheckDocument::new(check, outcome, took));
                Ok(())
            }
        }
    }

    /// The line of a check, and the lines that belong to it.
    fn line(&mut self, check: &Check, outcome: Outcome, took: Option<u128>) -> String {
        let took = took.map(|took| format!(" [{took} ms]")).unwrap_or_default();
        let (mark, colour, found, below) = match outcome {
            Outcome::Good(found) => ("  ok", AnsiColor::Green, found, String::new()),
            Outcome::Remarked(found, warnings) => {
                let below = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
                ("  ok", AnsiColor::Green, found, below)
            }
            Outcome::Skipped(why) => ("   -", AnsiColor::BrightBlack, why, String::new()),
            Outcome::Bad(failure) => {
                let text = failure.render();
                let (first, below) = text.split_once('\n').unwrap_or((&text, ""));
                let below = if self.explained.insert(below.to_owned()) { below } else { "" };
                ("FAIL", AnsiColor::Red, first.trim_start_matches("error: ").to_owned(), below.to_owned())
            }
        };
        let mark = self.painted(mark, colour);
        let below: String = below.lines().map(|line| format!("      {line}\n")).collect();
        format!("{mark}  {:<19}{found}{took}\n{below}", check.name)
    }

    /// Prints the end: the last line, or the whole document. Returns the exit code if a check failed.
    pub(super) fn verdict(&self) -> Result<Option<Exit>, HostError> {
        const GOOD: &str =
            "Everything up to the join works. Whether the cluster admits this step, only a join can tell.";
        let exit = self.failed.map(|(_, exit)| exit);
        let text = match self.failed {
            None => GOOD.to_owned(),
            Some((Check { name, who }, _)) => format!("Fix \"{name}\" first. Who can: {who}."),
        };
        match self.format {
            Format::Text => {
                let colour = if exit.is_none() { AnsiColor::Green } else { AnsiColor::Red };
                print(&format!("{}\n", self.painted(&text, colour)))?;
            }
            Format::Json => json(&Document {
                version: env!("CARGO_PKG_VERSION"),
                checks: &self.checks,
                verdict: Verdict {
                    ok: exit.is_none(),
                    exit: exit.map_or(0, |exit| exit as u8),
                    fix_first: self.failed.map(|(check, _)| check.name),
                    who: self.failed.map(|(check, _)| check.who),
                    text,
                },
            })
            .map_err(HostError::because("stdout"))?,
        }
        Ok(exit)
    }

    fn painted(&self, text: &str, colour: AnsiColor) -> String {
        let style = colour.on_default();
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

impl CheckDocument {
    fn new(check: &Check, outcome: Outcome, took: Option<u128>) -> Self {
        let milliseconds = took.map(|took| u64::try_from(took).unwrap_or(u64::MAX));
        let base = |status| Self {
            name: check.name,
            status,
            found: None,
            why: None,
            warnings: Vec::new(),
            error: None,
            milliseconds,
        };
        match outcome {
            Outcome::Good(found) => Self { found: Some(found), ..base("ok") },
            Outcome::Remarked(found, warnings) => Self { found: Some(found), warnings, ..base("ok") },
            Outcome::Skipped(why) => Self { why: Some(why), ..base("skipped") },
            Outcome::Bad(failure) => Self { error: Some(failure.explanation()), ..base("fail") },
        }
    }
}

fn print(text: &str) -> Result<(), HostError> {
    out(text).map_err(HostError::because("stdout"))
}
