//! The output of `doctor`: a line for each check, and a sentence at the end.

use std::time::{Duration, Instant};

use anstyle::AnsiColor;

use crate::error::{Exit, Failure};
use crate::host::{Host, HostError};
use crate::log::{colour_on_stdout, out};

/// A check of one step on the way to the cluster.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    /// Who can fix it.
    pub(super) who: &'static str,
}

/// The result of a check.
pub(super) enum Outcome {
    /// What was found.
    Good(String),
    /// Why it was not tried.
    Skipped(String),
    Bad(Failure),
}

impl<E> From<Result<String, E>> for Outcome
where
    Failure: From<E>,
{
    fn from(result: Result<String, E>) -> Self {
        match result {
            Ok(found) => Self::Good(found),
            Err(error) => Self::Bad(error.into()),
        }
    }
}

/// What has been printed so far. Each line is printed at once, so that a person sees which check hangs.
pub(super) struct Report {
    colour: bool,
    /// The first check that failed.
    failed: Option<(&'static Check, Exit)>,
    /// Explanations that were printed, so that none is repeated.
    explained: Vec<String>,
}

impl Report {
    pub(super) fn new(host: &Host) -> Self {
        Self { colour: colour_on_stdout(&host.env), failed: None, explained: Vec::new() }
    }

    /// Prints the result of a check that needs no network, or was not tried.
    ///
    /// # Errors
    /// stdout is closed.
    pub(super) fn add(&mut self, check: &'static Check, outcome: impl Into<Outcome>) -> Result<(), HostError> {
        self.line(check, outcome.into(), None)
    }

    /// The same with the time that the check took.
    pub(super) fn add_timed(
        &mut self,
        check: &'static Check,
        began: Instant,
        outcome: impl Into<Outcome>,
    ) -> Result<(), HostError> {
        self.line(check, outcome.into(), Some(began.elapsed()))
    }

    fn line(&mut self, check: &'static Check, outcome: Outcome, took: Option<Duration>) -> Result<(), HostError> {
        let took = took.map(|took| format!(" [{} ms]", took.as_millis())).unwrap_or_default();
        let (mark, colour, found, below) = match outcome {
            Outcome::Good(found) => ("  ok", AnsiColor::Green, found, String::new()),
            Outcome::Skipped(why) => ("   -", AnsiColor::BrightBlack, why, String::new()),
            Outcome::Bad(failure) => {
                self.failed.get_or_insert((check, failure.exit()));
                let text = failure.render();
                let (first, below) = text.split_once('\n').unwrap_or((&text, ""));
                let below: String = below.lines().map(|line| format!("      {line}\n")).collect();
                let is_new = !self.explained.contains(&below);
                let below = if is_new { below } else { String::new() };
                self.explained.push(below.clone());
                ("FAIL", AnsiColor::Red, first.trim_start_matches("error: ").to_owned(), below)
            }
        };
        let mark = self.painted(mark, colour);
        print(&format!("{mark}  {:<19}{found}{took}\n{below}", check.name))
    }

    /// Prints the last line. Returns the exit code if a check failed.
    pub(super) fn verdict(&self) -> Result<Option<Exit>, HostError> {
        let (text, colour) = match self.failed {
            None => (
                "Everything up to the join works. Whether the cluster admits this step, only a join can tell."
                    .to_owned(),
                AnsiColor::Green,
            ),
            Some((Check { name, who }, _)) => (format!("Fix \"{name}\" first. Who can: {who}."), AnsiColor::Red),
        };
        print(&format!("{}\n", self.painted(&text, colour)))?;
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
