//! Would artifacts or caches of the running step take the credentials out of it?
//!
//! What is in the clone directory when a step ends may be kept by Bitbucket: artifacts for everybody who sees the
//! pipeline, caches for every pipeline of the repository. So before anything is asked for, `bitbucket-pipelines.yml` is
//! read. What the guard can tell is what that file says; it stops a run only where there is no other reading. All work
//! is bounded, and a file that cannot be read is no reason to stop: whoever breaks it could as well remove it.
//!
//! Facts: bitbucket-pipes.md 5. `docs/leak-check.md` says it to users.

mod captures;
mod clone_dir;
mod docker;
mod error;
mod globs;
mod leak_check;
mod pipelines_yaml;
pub(crate) mod reach;
mod steps;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

pub(crate) use self::error::Error;
pub(crate) use self::leak_check::LeakCheck;
pub(crate) use self::reach::expect_in_step;

use self::captures::{By, Capture, Removal};
use self::clone_dir::CloneDir;
use self::error::quote;
use self::globs::Matcher;
use self::pipelines_yaml::{Pipelines, Step};
use crate::environment::Environment;
use crate::text::sanitize;
use crate::values::Ttl;
use crate::yaml::Tree;

const FILE: &str = "bitbucket-pipelines.yml";

/// Directories that Bitbucket searches for test reports by itself, and how deep (bitbucket-pipes.md 5.1).
const TEST_REPORTS: [&str; 5] = ["test-reports", "TestResults", "test-results", "surefire-reports", "failsafe-reports"];
const TEST_REPORTS_DEPTH: usize = 4;

/// Warnings of one kind; a file can have thousands.
const MOST_WARNINGS: usize = 5;

/// What is known about the step that runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RunningStep {
    /// The user of the step's image, where the file names it and it is the same in all steps that this could be.
    pub(crate) run_as_user: Option<u32>,
}

/// Looks whether the step's artifacts or caches would take what will be written to `destination` (absolute, without
/// `.`, `..` and links), and warns about it. Outside of Bitbucket it looks at nothing.
///
/// # Errors
/// They would, and `leak_check` says that the run is to stop then.
pub(crate) fn check(
    env: &Environment,
    has_token: bool,
    destination: &Path,
    ttl: Ttl,
    leak_check: LeakCheck,
) -> Result<RunningStep, Error> {
    let Some(place) = CloneDir::of(env, destination).filter(|_| leak_check != LeakCheck::Off) else {
        log::debug!(target: "guard", "not looking: LEAK_CHECK is off, or there is no BITBUCKET_CLONE_DIR");
        return Ok(RunningStep::default());
    };
    let mut guard =
        Guard { env, has_token, place, ttl: ttl.0, leak_check, matcher: Matcher::new(), warnings: Vec::new() };
    let result = guard.look();
    for warning in &guard.warnings {
        log::warn!(target: "guard", "{warning}");
    }
    result
}

struct Guard<'a> {
    env: &'a Environment,
    has_token: bool,
    place: CloneDir,
    ttl: Duration,
    leak_check: LeakCheck,
    matcher: Matcher,
    warnings: Vec<String>,
}

impl Guard<'_> {
    fn look(&mut self) -> Result<RunningStep, Error> {
        self.directories();
        let text = match self.place.read(FILE) {
            Ok(Some(text)) => text,
            Ok(None) => {
                log::debug!(target: "guard", "there is no {FILE}: nothing to look at");
                return Ok(RunningStep::default());
            }
            Err(unread) => return Ok(self.unchecked(&unread)),
        };
        let tree = match Tree::parse(&text) {
            Ok(tree) => tree,
            Err(error) => return Ok(self.unchecked(&error)),
        };
        let pipelines = Pipelines::of(&tree);
        let steps = steps::candidates(&pipelines.steps, self.env, self.has_token, &self.matcher);
        log::debug!(
            target: "guard",
            "{} steps in {FILE}, {} of them could be this one", pipelines.steps.len(), steps.len()
        );
        if steps.is_empty() && pipelines.imports {
            self.warn(format!(
                "this step is not in {FILE}, which imports others: its artifacts and caches were not checked"
            ));
        }
        self.max_time(&steps, &text);
        // One that was not seen could be the one.
        let result = self.captures(&steps, pipelines.complete && !pipelines.imports, &text);
        if !pipelines.complete || !self.matcher.did_all() {
            self.warn(format!("{FILE} has too much in it: artifacts and caches were not all checked"));
        }
        result.map(|()| RunningStep { run_as_user: agreed(steps.iter().map(|step| step.run_as_user)) })
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    fn unchecked(&mut self, why: &dyn std::fmt::Display) -> RunningStep {
        self.warn(format!("{FILE}: {why}; artifacts and caches of this step were not checked"));
        RunningStep::default()
    }

    /// What does not depend on the file: where the destination is, and images that are made of the clone directory.
    fn directories(&mut self) {
        let Some(relative) = self.place.relative.as_deref() else { return };
        let reports = relative.split('/').take(TEST_REPORTS_DEPTH).find(|name| TEST_REPORTS.contains(name));
        if let Some(name) = reports {
            let shown = self.place.shown();
            self.warn(format!(
                "the destination `{shown}` is in {name}, where Bitbucket looks for test reports, which everybody who sees \
                 the pipeline can download; give DESTINATION another name"
            ));
        }
        if let Some(file) = docker::lets_in(&self.place, &self.matcher) {
            let line = match self.place.shown() {
                whole if whole == "." => "*".to_owned(),
                part => part,
            };
            self.warn(format!(
                "there is a Dockerfile, and `docker build .` would send the keys along; add this line to {file}: {line}"
            ));
        }
    }

    /// Whether a step may run longer than the keys live.
    fn max_time(&mut self, steps: &[&Step<'_>], text: &str) {
        let longest = steps.iter().filter_map(|step| step.max_time).max();
        let Some((minutes, line)) = longest.filter(|(minutes, _)| minutes.saturating_mul(60) > self.ttl.as_secs())
        else {
            return;
        };
        let ttl = humantime::format_duration(self.ttl);
        let at = quote(FILE, text, line);
        self.warn(format!(
            "the step may take {minutes} minutes, the keys live {ttl} (TTL): {at}; if it does, give TTL: '{minutes}m'"
        ));
    }

    /// What takes the keys: warnings, or the error that ends the run.
    fn captures(&mut self, steps: &[&Step<'_>], complete: bool, text: &str) -> Result<(), Error> {
        let home = self.env.get("HOME");
        let one = complete && steps.len() == 1;
        let mut worst = None;
        let mut all_sure = complete && !steps.is_empty();
        let mut seen: Vec<Capture<'_>> = Vec::new();
        let mut warnings = Vec::new();
        for step in steps {
            let captures = step.captures(&self.place, home, &self.matcher);
            let removal = step.removal(&self.place);
            let removed = removal == Removal::Sure;
            all_sure &= removal == Removal::No && captures.iter().any(|capture| capture.sure);
            for capture in captures {
                // Where there are two, the sure one ends the run.
                if !removed && worst.is_none_or(|worst: Capture<'_>| capture.sure && !worst.sure) {
                    worst = Some(capture);
                }
                if warnings.len() <= MOST_WARNINGS && !seen.contains(&capture) {
                    seen.push(capture);
                    warnings.push((capture, removal));
                }
            }
        }
        let stops = match self.leak_check {
            LeakCheck::Sure => all_sure,
            LeakCheck::Error => worst.is_some(),
            LeakCheck::Warn | LeakCheck::Off => false,
        };
        if let Some(worst) = worst.filter(|_| stops) {
            return Err(self.leak(worst, all_sure, text));
        }
        for (capture, removal) in warnings.iter().take(MOST_WARNINGS) {
            let leak = self.leak(*capture, capture.sure && one && *removal != Removal::Possible, text);
            let what = match removal {
                Removal::Sure => "unless the after-script removes them".to_owned(),
                Removal::Possible | Removal::No => leak.hint(),
            };
            self.warn(format!("{leak}; {what}"));
        }
        if warnings.len() > MOST_WARNINGS {
            self.warn(format!("there are more lines like these in {FILE}"));
        }
        Ok(())
    }

    fn leak(&self, capture: Capture<'_>, sure: bool, text: &str) -> Error {
        let (destination, at) = (self.place.shown(), quote(FILE, text, capture.line));
        match capture.by {
            By::Artifacts(pattern) => Error::Artifacts { sure, destination, at, pattern: sanitize(pattern) },
            By::Cache(name) => Error::Cache { sure, destination, at, name: sanitize(name) },
        }
    }
}

/// What all say, if they say the same.
fn agreed<T: PartialEq>(mut all: impl Iterator<Item = Option<T>>) -> Option<T> {
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}
