//! Checks whether an image would be built from a directory with the credentials: `docker build .` sends them to the
//! Docker daemon, and `COPY . .` puts them into the image.
//!
//! Docker reads the `.dockerignore` at the top of the context. BuildKit reads `Dockerfile.dockerignore` instead if it
//! exists beside the Dockerfile.

use std::path::Path;

use super::clone_dir::CloneDir;
use super::globs::{Matcher, Rules};

/// The ignore file of a context that lacks a line for the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingRule {
    file: String,
    line: String,
}

impl MissingRule {
    pub(super) fn remedy(&self) -> String {
        format!("add this line to {}: {}", self.file, self.line)
    }
}

/// The Dockerfile at the top of the clone directory, whatever builds it.
pub(super) fn missing_rule_at_top(clone_dir: &CloneDir, matcher: &Matcher) -> Option<MissingRule> {
    let file = clone_dir.path.join("Dockerfile");
    clone_dir.exists("Dockerfile").then(|| missing_ignore_rule(clone_dir, &clone_dir.path, Some(&file), matcher))?
}

/// Returns the ignore file that lacks a line for the destination, if the context contains the destination.
pub(super) fn missing_ignore_rule(
    clone_dir: &CloneDir,
    context: &Path,
    dockerfile: Option<&Path>,
    matcher: &Matcher,
) -> Option<MissingRule> {
    let line = clone_dir.destination.strip_prefix(context).ok()?.to_string_lossy().into_owned();
    let key = if line.is_empty() { "key".to_owned() } else { format!("{line}/key") };
    let name = |path: &Path| path.strip_prefix(&clone_dir.path).ok().map(|path| path.to_string_lossy().into_owned());
    let of_buildkit = dockerfile.and_then(name).map(|file| format!("{file}.dockerignore"));
    let file = match of_buildkit.filter(|file| clone_dir.exists(file)) {
        Some(file) => file,
        None => name(&context.join(".dockerignore")).unwrap_or_else(|| ".dockerignore".to_owned()),
    };
    let rules = read_list(&file, clone_dir, matcher);
    let line = if line.is_empty() { "*".to_owned() } else { crate::text::sanitize(&line) };
    (!excludes(&rules, &key, matcher)).then(|| MissingRule { file: crate::text::sanitize(&file), line })
}

/// Reads a file with patterns. A file that cannot be read excludes nothing. Every command may name a large one, so
/// reading counts as work.
pub(super) fn read_list(name: &str, clone_dir: &CloneDir, matcher: &Matcher) -> String {
    const COST: usize = 1000;
    let text = if matcher.spend(COST) { clone_dir.read(name).ok().flatten() } else { None };
    let text = text.unwrap_or_default();
    matcher.spend(text.len() / 8);
    text
}

/// Whether the rules exclude a file. The last rule that matches it or one of its directories decides.
fn excludes(rules: &str, file: &str, matcher: &Matcher) -> bool {
    let mut excluded = false;
    for line in rules.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let (pattern, excludes) = line.strip_prefix('!').map_or((line, true), |pattern| (pattern.trim(), false));
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern).trim_matches('/');
        if excluded != excludes && !pattern.is_empty() && matcher.matches(pattern, file, Rules::Docker) {
            excluded = excludes;
        }
    }
    excluded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_decides() {
        for (rules, excluded) in [
            ("", false),
            ("# tbot-user", false),
            ("node_modules\n", false),
            ("tbot-user", true),
            ("/tbot-user/", true),
            ("./tbot-user", true),
            ("*", true),
            ("**", true),
            ("**/key", true),
            ("*\n!src", true),
            ("*\n!tbot-user", false),
            ("*\n!tbot-user\ntbot-user/k*", true),
            ("tbot-user\n!**/*.pub", true),
            ("tbot-user/ssh_config", false),
            ("\u{feff}x\r\ntbot-user\r\n", true),
        ] {
            assert_eq!(excludes(rules, "tbot-user/key", &Matcher::new()), excluded, "{rules}");
        }
    }
}
