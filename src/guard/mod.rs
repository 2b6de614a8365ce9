//! Checks whether artifacts or caches of the running step would take the credentials out of it.
//!
//! Bitbucket may keep what is in the clone directory when a step ends: artifacts for everyone who can see the pipeline,
//! caches for every pipeline of the repository. So before the cluster is asked for anything, `bitbucket-pipelines.yml`
//! is read. The guard knows only what that file says, and it ends a run only if there is no other way to read it. All
//! work is bounded. A file that cannot be read does not end a run: who can break the file could as well remove it.
//!
//! Facts: docs/protocol.md, "Artifacts and caches". `docs/leak-check.md` is the description for users.

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

pub(crate) use self::error::Error;
pub(crate) use self::leak_check::LeakCheck;
pub(crate) use self::reach::expect_in_step;

use self::captures::{Capture, Removal, Source};
use self::clone_dir::CloneDir;
use self::globs::Matcher;
use self::pipelines_yaml::{Pipelines, Step};
use crate::environment::Environment;
use crate::text::sanitize;
use crate::values::Ttl;
use crate::yaml::Tree;

const FILE: &str = "bitbucket-pipelines.yml";

/// Directories that Bitbucket searches for test reports by itself, and how deep (docs/protocol.md, "Artifacts and
/// caches").
const TEST_REPORTS: [&str; 5] = ["test-reports", "TestResults", "test-results", "surefire-reports", "failsafe-reports"];
const TEST_REPORTS_DEPTH: usize = 4;

/// The limit for warnings about artifacts and caches. A file can lead to thousands.
const MAX_WARNINGS: usize = 5;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RunningStep {
    /// The user of the step's image, if the file names one and it is the same in all steps that could be the running
    /// one.
    pub(crate) run_as_user: Option<u32>,
}

/// Checks whether the step's artifacts or caches would take what will be written to `destination`, and warns about it.
/// Fails if they would and `leak_check` demands an error. The path is absolute, without `.`, `..` and symbolic links.
/// `has_token` says whether the step has an ID token. Outside of Bitbucket nothing is checked.
pub(crate) fn check(
    env: &Environment,
    has_token: bool,
    destination: &Path,
    ttl: Ttl,
    leak_check: LeakCheck,
) -> Result<RunningStep, Error> {
    let Some(clone_dir) = CloneDir::new(env, destination).filter(|_| leak_check != LeakCheck::Off) else {
        log::debug!(target: "guard", "nothing is checked: LEAK_CHECK is off, or BITBUCKET_CLONE_DIR is not set");
        return Ok(RunningStep::default());
    };
    let (matcher, warnings) = (Matcher::new(), Vec::new());
    let mut guard = Guard { env, has_token, clone_dir, ttl, leak_check, matcher, warnings };
    let result = guard.check();
    for warning in &guard.warnings {
        log::warn!(target: "guard", "{warning}");
    }
    result
}

struct Guard<'a> {
    env: &'a Environment,
    has_token: bool,
    clone_dir: CloneDir,
    ttl: Ttl,
    leak_check: LeakCheck,
    matcher: Matcher,
    warnings: Vec<String>,
}

impl Guard<'_> {
    fn check(&mut self) -> Result<RunningStep, Error> {
        self.check_directories();
        let text = match self.clone_dir.read(FILE) {
            Ok(Some(text)) => text,
            Ok(None) => {
                log::debug!(target: "guard", "there is no {FILE}, so no artifacts and caches are checked");
                return Ok(RunningStep::default());
            }
            Err(error) => return Ok(self.warn_unchecked(&error)),
        };
        let tree = match Tree::parse(&text) {
            Ok(tree) => tree,
            Err(error) => return Ok(self.warn_unchecked(&error)),
        };
        let pipelines = Pipelines::read(&tree);
        let steps = steps::candidates(&pipelines.steps, self.env, self.has_token, &self.matcher);
        log::debug!(
            target: "guard",
            "{} steps in {FILE}, {} of them could be this one", pipelines.steps.len(), steps.len()
        );
        if steps.is_empty() && pipelines.imports {
            self.warnings.push(format!(
                "this step is not in {FILE}, which imports other files: its artifacts and caches were not checked"
            ));
        }
        self.check_max_time(&steps, &text);
        // A step that was not read could be the running one.
        let result = self.check_captures(&steps, pipelines.complete && !pipelines.imports, &text);
        if !pipelines.complete || !self.matcher.is_complete() {
            self.warnings
                .push(format!("{FILE} has too many entries or patterns: not all artifacts and caches were checked"));
        }
        let user = steps.first().and_then(|step| step.run_as_user);
        let run_as_user = user.filter(|_| steps.iter().all(|step| step.run_as_user == user));
        result.map(|()| RunningStep { run_as_user })
    }

    fn warn_unchecked(&mut self, reason: &dyn std::fmt::Display) -> RunningStep {
        self.warnings.push(format!("{FILE}: {reason}; artifacts and caches of this step were not checked"));
        RunningStep::default()
    }

    /// Checks what does not depend on the file: the path of the destination, and images built from the clone directory.
    fn check_directories(&mut self) {
        let Some(relative) = self.clone_dir.relative.as_deref() else { return };
        let destination = self.clone_dir.displayed_destination();
        if let Some(name) = relative.split('/').take(TEST_REPORTS_DEPTH).find(|name| TEST_REPORTS.contains(name)) {
            self.warnings.push(format!(
                "the destination `{destination}` is in {name}, where Bitbucket looks for test reports, which everyone who \
                 can see the pipeline can download; choose another DESTINATION"
            ));
        }
        if let Some(file) = docker::missing_ignore_rule(&self.clone_dir, &self.matcher) {
            let line = if destination == "." { "*" } else { &destination };
            self.warnings.push(format!(
                "there is a Dockerfile, and `docker build .` would send the keys to the Docker daemon; add this line to \
                 {file}: {line}"
            ));
        }
    }

    /// Warns if a step may run for longer than the keys are valid.
    fn check_max_time(&mut self, steps: &[&Step<'_>], text: &str) {
        let Some((minutes, line)) = steps.iter().filter_map(|step| step.max_time).max() else { return };
        if minutes.saturating_mul(60) > self.ttl.0.as_secs() {
            let (ttl, at) = (humantime::format_duration(self.ttl.0), quote(text, line));
            self.warnings.push(format!(
                "the step may run for {minutes} minutes, but the keys are valid for {ttl} (TTL): {at}; if it does, set \
                 TTL: '{minutes}m'"
            ));
        }
    }

    /// Warns about artifacts and caches that take the keys, or returns the error that ends the run.
    fn check_captures(&mut self, steps: &[&Step<'_>], complete: bool, text: &str) -> Result<(), Error> {
        let home = self.env.get("HOME");
        let is_known_step = complete && steps.len() == 1;
        let mut worst = None;
        let mut all_sure = complete && !steps.is_empty();
        let mut warnings: Vec<(Capture<'_>, Removal)> = Vec::new();
        for step in steps {
            let captures = step.captures(&self.clone_dir, home, &self.matcher);
            let removal = step.removal(&self.clone_dir);
            let removed = removal == Removal::Sure;
            all_sure &= removal == Removal::No && captures.iter().any(|capture| capture.sure);
            for capture in captures {
                // The error names a sure one if there is one.
                if !removed && worst.is_none_or(|worst: Capture<'_>| capture.sure && !worst.sure) {
                    worst = Some(capture);
                }
                if warnings.len() <= MAX_WARNINGS && warnings.iter().all(|(seen, _)| *seen != capture) {
                    warnings.push((capture, removal));
                }
            }
        }
        let is_error = match self.leak_check {
            LeakCheck::Sure => all_sure,
            LeakCheck::Error => worst.is_some(),
            LeakCheck::Warn | LeakCheck::Off => false,
        };
        if let Some(worst) = worst.filter(|_| is_error) {
            return Err(self.error(worst, all_sure, text));
        }
        for (capture, removal) in warnings.iter().take(MAX_WARNINGS) {
            let error = self.error(*capture, capture.sure && is_known_step && *removal != Removal::Possible, text);
            let hint = match removal {
                Removal::Sure => "unless the after-script removes them".to_owned(),
                Removal::Possible | Removal::No => error.hint(),
            };
            self.warnings.push(format!("{error}; {hint}"));
        }
        if warnings.len() > MAX_WARNINGS {
            self.warnings.push(format!("{FILE} has more lines like these"));
        }
        Ok(())
    }

    fn error(&self, capture: Capture<'_>, sure: bool, text: &str) -> Error {
        let (destination, at) = (self.clone_dir.displayed_destination(), quote(text, capture.line));
        match capture.source {
            Source::Artifacts(pattern) => Error::Artifacts { sure, destination, at, pattern: sanitize(pattern) },
            Source::Cache(name) => Error::Cache { sure, destination, at, name: sanitize(name) },
        }
    }
}

/// A line of the file, with its number.
fn quote(text: &str, line: usize) -> String {
    format!("{FILE}:{line}: {}", sanitize(text.lines().nth(line.saturating_sub(1)).unwrap_or_default()))
}
