//! What a person reads of an settings: a line for each step, and a sentence at the end.

use std::time::{Duration, Instant};

use anstyle::AnsiColor;

use crate::error::{Exit, Failure};
use crate::host::{Host, HostError};
use crate::log::{colour_on_stdout, out};

/// A step on the way to the cluster.
#[derive(Debug)]
pub(super) struct Step {
    /// How it is called.
    pub(crate) name: &'static str,
    /// Who can mend it.
    pub(crate) turn: &'static str,
}

/// What came of a step.
pub(super) enum Outcome {
    /// It works; what was found.
    Good(String),
    /// It was not tried; why.
    Skipped(String),
    /// It does not work.
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

/// What has been told so far. Each line is printed at once: should a step hang, it is seen which one.
pub(super) struct Report {
    colour: bool,
    failed: Option<(&'static Step, Exit)>,
    /// What was said of failures. The same once more tells nothing.
    explained: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub(super) fn new(host: &Host) -> Self {
        Self { colour: colour_on_stdout(&host.env), failed: None, explained: Vec::new() }
    }

    /// Tells what came of a step that needs no network, or was not tried.
    ///
    /// # Errors
    /// Nobody reads it.
    pub(super) fn tell(&mut self, step: &'static Step, outcome: impl Into<Outcome>) -> Result<(), HostError> {
        self.line(step, outcome.into(), None)
    }

    /// The same, with the time that it took.
    ///
    /// # Errors
    /// Nobody reads it.
    pub(super) fn tell_timed(
        &mut self,
        step: &'static Step,
        began: Instant,
        outcome: impl Into<Outcome>,
    ) -> Result<(), HostError> {
        self.line(step, outcome.into(), Some(began.elapsed()))
    }

    fn line(&mut self, step: &'static Step, outcome: Outcome, took: Option<Duration>) -> Result<(), HostError> {
        let took = took.map(|took| format!(" [{} ms]", took.as_millis())).unwrap_or_default();
        let (mark, colour, found, below) = match outcome {
            Outcome::Good(found) => ("  ok", AnsiColor::Green, found, String::new()),
            Outcome::Skipped(why) => ("   -", AnsiColor::BrightBlack, why, String::new()),
            Outcome::Bad(failure) => {
                self.failed.get_or_insert((step, failure.exit()));
                let text = failure.render();
                let (first, below) = text.split_once('\n').unwrap_or((&text, ""));
                let below: String = below.lines().map(|line| format!("      {line}\n")).collect();
                let news = !self.explained.contains(&below);
                let below = if news { below } else { String::new() };
                self.explained.push(below.clone());
                ("FAIL", AnsiColor::Red, first.trim_start_matches("error: ").to_owned(), below)
            }
        };
        let mark = self.painted(mark, colour);
        say(&format!("{mark}  {:<15}{found}{took}\n{below}", step.name))
    }

    /// The last line, and what to exit with.
    ///
    /// # Errors
    /// Nobody reads it.
    pub(super) fn verdict(&self) -> Result<Option<Exit>, HostError> {
        let (text, colour) = match self.failed {
            None => (
                "Everything up to the join works. Whether the cluster admits this step, only a join can tell."
                    .to_owned(),
                AnsiColor::Green,
            ),
            Some((Step { name, turn }, _)) => {
                (format!("The first thing to mend is \"{name}\", and that is up to {turn}."), AnsiColor::Red)
            }
        };
        say(&format!("{}\n", self.painted(&text, colour)))?;
        Ok(self.failed.map(|(_, exit)| exit))
    }

    fn painted(&self, text: &str, colour: AnsiColor) -> String {
        let style = colour.on_default();
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

fn say(text: &str) -> Result<(), HostError> {
    out(text).map_err(HostError::because("stdout"))
}
