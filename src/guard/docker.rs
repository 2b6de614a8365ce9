//! Would `docker build .` send the credentials along, and `COPY . .` put them into an image?
//!
//! Only the `.dockerignore` at the top of the context counts, for BuildKit `Dockerfile.dockerignore` before it.
//! Contexts and Dockerfiles elsewhere are out of sight.

use super::clone_dir::CloneDir;
use super::globs::{Matcher, Rules};

/// Files that exclude something from the context, and the Dockerfile that makes the clone directory one.
const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";
const IGNORE_OF_DOCKERFILE: &str = "Dockerfile.dockerignore";

/// The file that lacks a line for the destination.
pub(super) fn lets_in(place: &CloneDir, matcher: &Matcher) -> Option<&'static str> {
    let key = place.file("key")?;
    if !place.has(DOCKERFILE) {
        return None;
    }
    // One that is there but cannot be read excludes nothing that we know of.
    let name = if place.has(IGNORE_OF_DOCKERFILE) { IGNORE_OF_DOCKERFILE } else { IGNORE };
    let rules = place.read(name).ok().flatten().unwrap_or_default();
    (!excludes(&rules, &key, matcher)).then_some(name)
}

/// Whether the rules exclude a file: the last that matches it, or a directory that it is in, counts.
fn excludes(rules: &str, file: &str, matcher: &Matcher) -> bool {
    let mut excluded = false;
    for line in rules.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let (pattern, excludes) = line.strip_prefix('!').map_or((line, true), |pattern| (pattern.trim(), false));
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern).trim_matches('/');
        if excluded != excludes && !pattern.is_empty() && matcher.matches(pattern, file, Rules::DOCKER) {
            excluded = excludes;
        }
    }
    excluded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_counts() {
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
