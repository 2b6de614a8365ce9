//! Checks whether artifacts or caches of the running step would take the credentials out of it.
//!
//! Bitbucket may keep what is in the clone directory when a step ends: artifacts for everyone who can see the pipeline,
//! caches for every pipeline of the repository. So before the cluster is asked for anything, `bitbucket-pipelines.yml`
//! is read. The guard knows only what that file says, and it ends a run only if there is no other way to read it. All
//! work is bounded. A file that cannot be read ends a run only if `LEAK_CHECK` is `error`.
//!
//! Facts: docs/protocol.md, "Artifacts and caches". `docs/leak-check.md` is the description for users.

mod actions;
mod captures;
mod clone_dir;
#[cfg(test)]
mod corpus;
mod docker;
mod error;
mod globs;
mod leak_check;
mod patterns;
mod pipelines_yaml;
pub(crate) mod reach;
mod removal;
mod sending;
mod shell_words;
mod steps;
#[cfg(test)]
mod tests;
mod token_file;
mod working_directory;

use std::path::Path;

pub(crate) use self::error::Error;
pub(crate) use self::leak_check::LeakCheck;
pub(crate) use self::reach::expect_in_step;

#[cfg(test)]
pub(crate) use self::captures::Taken;

use self::captures::{Capture, Source};
use self::clone_dir::CloneDir;
use self::globs::Matcher;
use self::pipelines_yaml::{Pipelines, Step};
use self::removal::Removal;
use self::sending::Sending;
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
    /// Why artifacts and caches were not checked, if they were not.
    pub(crate) unchecked: Option<Unchecked>,
    /// The user of the step's image, if the file names one and it is the same in all steps that could be the running
    /// one.
    pub(crate) run_as_user: Option<u32>,
}

/// Why artifacts and caches were not checked. The texts complete "not checked: ...".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unchecked {
    /// That is how it was asked for.
    Intended(String),
    Impossible(String),
}

const ELSEWHERE: &str = "only steps of Bitbucket Pipelines are";

impl RunningStep {
    /// A job of another CI system.
    pub(crate) fn elsewhere() -> Self {
        Unchecked::Intended(ELSEWHERE.to_owned()).into()
    }

    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(&self.unchecked, Some(Unchecked::Intended(reason)) if reason == ELSEWHERE)
    }
}

impl From<Unchecked> for RunningStep {
    fn from(unchecked: Unchecked) -> Self {
        Self { unchecked: Some(unchecked), ..Self::default() }
    }
}

/// Checks whether the step's artifacts or caches would take what will be written to `destination`, and calls `warn` about it.
/// Fails if they would and `leak_check` demands an error. The path is absolute, without `.`, `..` and symbolic links.
/// `has_token` says whether the step has an ID token. Outside of Bitbucket nothing is checked.
pub(crate) fn check(
    env: &Environment,
    has_token: bool,
    destination: &Path,
    ttl: Ttl,
    leak_check: LeakCheck,
    warn: &mut dyn FnMut(&str),
) -> Result<RunningStep, Error> {
    if leak_check == LeakCheck::Off {
        return Ok(Unchecked::Intended("LEAK_CHECK is off".to_owned()).into());
    }
    let Some(clone_dir) = CloneDir::new(env, destination) else {
        return Ok(Unchecked::Intended("BITBUCKET_CLONE_DIR is not set".to_owned()).into());
    };
    let (matcher, warnings) = (Matcher::new(), Vec::new());
    let mut guard = Guard { env, has_token, clone_dir, ttl, leak_check, matcher, warnings };
    let result = guard.check();
    guard.warnings.iter().for_each(|warning| warn(warning));
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
        let error = match self.clone_dir.read(FILE) {
            Ok(Some(text)) => match Tree::parse(&text) {
                Ok(tree) => return self.check_steps(&Pipelines::read(&tree), &text),
                Err(error) => error.to_string(),
            },
            Ok(None) => {
                let reason = format!("there is no {FILE} here (`clone: enabled: false`?)");
                self.cannot_check(&reason)?;
                // Nothing is known to be wrong.
                return Ok(Unchecked::Impossible(reason).into());
            }
            Err(error) => error.to_string(),
        };
        let reason = format!("{FILE}: {error}");
        self.cannot_check(&reason)?;
        self.warnings.push(format!("{reason}; artifacts and caches of this step were not checked"));
        Ok(RunningStep::default())
    }

    fn check_steps(&mut self, pipelines: &Pipelines<'_>, text: &str) -> Result<RunningStep, Error> {
        let steps = steps::candidates(&pipelines.steps, self.env, self.has_token, &self.matcher);
        let may_be_imported = steps::may_be_imported(pipelines, self.env, &self.matcher);
        log::debug!(
            target: "guard",
            "{} steps in {FILE}, {} of them could be this one", pipelines.steps.len(), steps.len()
        );
        self.check_max_time(&steps, text);
        self.check_token_files(&steps, text);
        // A step that was not read could be the running one.
        self.check_captures(&steps, pipelines.complete && !may_be_imported, text)?;
        self.check_sendings(&steps, text)?;
        self.check_completeness(pipelines, steps.is_empty(), may_be_imported)?;
        let user = steps.first().and_then(|step| step.run_as_user);
        let run_as_user = user.filter(|_| steps.iter().all(|step| step.run_as_user == user));
        Ok(RunningStep { run_as_user, unchecked: None })
    }

    /// Whether all of the step was seen.
    fn check_completeness(
        &mut self,
        pipelines: &Pipelines<'_>,
        is_missing: bool,
        may_be_imported: bool,
    ) -> Result<(), Error> {
        if !pipelines.complete || !self.matcher.is_complete() {
            let reason = format!("{FILE} has too many entries or patterns");
            self.cannot_check(&reason)?;
            self.warnings.push(format!("{reason}: not all artifacts and caches were checked"));
        }
        if is_missing {
            let imports = if may_be_imported { ", which imports other files" } else { "" };
            let reason = format!("this step is not in {FILE}{imports}");
            self.cannot_check(&reason)?;
            self.warnings.push(format!("{reason}: its artifacts and caches were not checked"));
        } else if may_be_imported {
            self.cannot_check(&format!("this step may be in a file that {FILE} imports"))?;
        }
        Ok(())
    }

    /// Ends the run if nothing may remain unchecked.
    fn cannot_check(&self, reason: &str) -> Result<(), Error> {
        match self.leak_check {
            LeakCheck::Error => Err(Error::Unchecked { reason: reason.to_owned() }),
            LeakCheck::Sure | LeakCheck::Warn | LeakCheck::Off => Ok(()),
        }
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
        if let Some(missing) = docker::missing_rule_at_top(&self.clone_dir, &self.matcher) {
            self.warnings.push(format!(
                "there is a Dockerfile, and `docker build .` would send the keys to the Docker daemon; {}",
                missing.remedy()
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
            let removal = step.removal(&self.clone_dir, &self.matcher);
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

    /// Warns about files with the ID token that the step leaves where they are taken.
    fn check_token_files(&mut self, steps: &[&Step<'_>], text: &str) {
        let home = self.env.get("HOME");
        let files = steps.iter().flat_map(|step| step.token_files(&self.clone_dir, home, &self.matcher));
        for file in files.take(MAX_WARNINGS) {
            let what = match file.source {
                Source::Artifacts(_) => "artifacts of the step may take",
                Source::Cache(_) => "a cache of the step may take",
            };
            let (at, written_at, path) = (quote(text, file.line), file.written_at, sanitize(&file.path));
            let warning = format!(
                "{what} the ID token in `{path}` (line {written_at}): {at}; remove the file in the script, or write it outside \
                 of the clone directory"
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// Warns about commands that send the keys elsewhere.
    fn check_sendings(&mut self, steps: &[&Step<'_>], text: &str) -> Result<(), Error> {
        let mut seen: Vec<Sending> = Vec::new();
        for sending in steps.iter().flat_map(|step| step.sendings(&self.clone_dir, &self.matcher)) {
            if seen.len() < MAX_WARNINGS && !seen.contains(&sending) {
                seen.push(sending);
            }
        }
        for Sending { line, program, remedy } in seen {
            let line = text.lines().enumerate().skip(line.saturating_sub(1)).find(|(_, text)| text.contains(&program));
            let at = quote(text, line.map_or(0, |(number, _)| number + 1));
            let destination = self.clone_dir.displayed_destination();
            let program = if program == "pipe" { "another pipe".to_owned() } else { format!("`{program}`") };
            let error = Error::Sent { program, destination, at, remedy };
            if self.leak_check == LeakCheck::Error {
                return Err(error);
            }
            // The Dockerfile at the top was seen before.
            if !matches!(&error, Error::Sent { remedy, .. } if self.warnings.iter().any(|line| line.ends_with(remedy)))
            {
                self.warnings.push(format!("{error}; {}", error.hint()));
            }
        }
        Ok(())
    }

    fn error(&self, capture: Capture<'_>, sure: bool, text: &str) -> Error {
        let (destination, at) = (self.clone_dir.displayed_destination(), quote(text, capture.line));
        match capture.source {
            Source::Artifacts(pattern) => {
                Error::Artifacts { sure, taken: capture.taken, destination, at, pattern: sanitize(pattern) }
            }
            Source::Cache(name) => Error::Cache { sure, destination, at, name: sanitize(name) },
        }
    }
}

/// A line of the file, with its number.
fn quote(text: &str, line: usize) -> String {
    format!("{FILE}:{line}: {}", sanitize(text.lines().nth(line.saturating_sub(1)).unwrap_or_default()))
}
