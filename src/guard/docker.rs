//! Checks whether `docker build .` would send the credentials to the Docker daemon, so that `COPY . .` puts them into
//! an image.
//!
//! Docker reads the `.dockerignore` at the top of the context. BuildKit reads `Dockerfile.dockerignore` instead if it
//! exists. Contexts and Dockerfiles in other directories are not checked.

use super::clone_dir::CloneDir;
use super::globs::{Matcher, Rules};

/// Returns the ignore file that lacks a line for the destination.
pub(super) fn missing_ignore_rule(clone_dir: &CloneDir, matcher: &Matcher) -> Option<&'static str> {
    let key = clone_dir.path_of("key")?;
    if !clone_dir.exists("Dockerfile") {
        return None;
    }
    let of_buildkit = "Dockerfile.dockerignore";
    let name = if clone_dir.exists(of_buildkit) { of_buildkit } else { ".dockerignore" };
    // A file that cannot be read excludes nothing.
    let rules = clone_dir.read(name).ok().flatten().unwrap_or_default();
    (!excludes(&rules, &key, matcher)).then_some(name)
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
