//! The output of `doctor`: a line for each check, and a sentence at the end.

use std::collections::BTreeSet;
use std::time::Instant;

use anstyle::AnsiColor;

use crate::error::{Exit, Failure};
use crate::host::{Host, HostError};
use crate::log::{colour_on_stdout, out};

/// A check of one step on the way to the cluster.
pub(super) struct Check {
    pub(super) name: &'static str,
    /// Who can fix it.
    pub(super) who: &'static str,
}

/// What a check found, or why it was not tried.
pub(super) enum Outcome {
    Good(String),
    Skipped(String),
    Bad(Failure),
}

impl<E: Into<Failure>> From<Result<String, E>> for Outcome {
    fn from(result: Result<String, E>) -> Self {
        result.map_or_else(|error| Self::Bad(error.into()), Self::Good)
    }
}

/// What has been printed so far. Each line is printed at once, so that a person sees which check hangs.
pub(super) struct Report {
    colour: bool,
    /// The first check that failed.
    failed: Option<(&'static Check, Exit)>,
    /// Explanations that were printed, so that none is repeated.
    explained: BTreeSet<String>,
}

impl Report {
    pub(super) fn new(host: &Host) -> Self {
        Self { colour: colour_on_stdout(&host.env), failed: None, explained: BTreeSet::new() }
    }

    pub(super) fn good(&mut self, check: &'static Check, found: impl Into<String>) -> Result<(), HostError> {
        self.add(check, Outcome::Good(found.into()), None)
    }

    pub(super) fn skipped(&mut self, check: &'static Check, why: impl Into<String>) -> Result<(), HostError> {
        self.add(check, Outcome::Skipped(why.into()), None)
    }

    /// Prints the result of a check, with the time that it took since `began`.
    pub(super) fn add(
        &mut self,
        check: &'static Check,
        outcome: impl Into<Outcome>,
        began: Option<Instant>,
    ) -> Result<(), HostError> {
        let took = began.map(|began| format!(" [{} ms]", began.elapsed().as_millis())).unwrap_or_default();
        let (mark, colour, found, below) = match outcome.into() {
            Outcome::Good(found) => ("  ok", AnsiColor::Green, found, String::new()),
            Outcome::Skipped(why) => ("   -", AnsiColor::BrightBlack, why, String::new()),
            Outcome::Bad(failure) => {
                self.failed.get_or_insert((check, failure.exit()));
                let text = failure.render();
                let (first, below) = text.split_once('\n').unwrap_or((&text, ""));
                let below: String = below.lines().map(|line| format!("      {line}\n")).collect();
                let below = if self.explained.insert(below.clone()) { below } else { String::new() };
                ("FAIL", AnsiColor::Red, first.trim_start_matches("error: ").to_owned(), below)
            }
        };
        let mark = self.painted(mark, colour);
        print(&format!("{mark}  {:<19}{found}{took}\n{below}", check.name))
    }

    /// Prints the last line. Returns the exit code if a check failed.
    pub(super) fn verdict(&self) -> Result<Option<Exit>, HostError> {
        const GOOD: &str =
            "Everything up to the join works. Whether the cluster admits this step, only a join can tell.";
        let text = match self.failed {
            None => self.painted(GOOD, AnsiColor::Green),
            Some((Check { name, who }, _)) => {
                self.painted(&format!("Fix \"{name}\" first. Who can: {who}."), AnsiColor::Red)
            }
        };
        print(&format!("{text}\n"))?;
        Ok(self.failed.map(|(_, exit)| exit))
    }

    fn painted(&self, text: &str, colour: AnsiColor) -> String {
        let style = colour.on_default();
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

fn print(text: &str) -> Result<(), HostError> {
    out(text).map_err(HostError::because("stdout"))
}
