//! Which artifacts and caches of a step take the credentials.

use std::path::{Path, PathBuf};

use super::clone_dir::CloneDir;
use super::globs::Matcher;
use super::patterns::{may_match, surely_matches};
use super::pipelines_yaml::{Cache, Step, Upload};
use crate::output_files::{Class, NETWORK, TEMPORARY, of_class};

/// A pattern of artifacts or a cache that takes credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capture<'t> {
    pub(super) source: Source<'t>,
    pub(super) line: usize,
    pub(super) taken: Taken,
    /// The documentation leaves no doubt that it takes keys.
    pub(super) sure: bool,
}

/// The pattern of artifacts, or the name of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<'t> {
    Artifacts(&'t str),
    Cache(&'t str),
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Private keys, or certificates that belong to them.
    Keys,
    /// `network.json`, and no keys.
    Network,
    /// Incomplete files of a run that was killed.
    Temporaries,
    /// Memory of a program that had read the keys.
    CoreDumps,
}

impl<'t> Step<'t> {
    pub(super) fn captures(&self, clone_dir: &CloneDir, home: Option<&str>, matcher: &Matcher) -> Vec<Capture<'t>> {
        let patterns = self.artifacts.iter().flat_map(|upload| upload.paths.iter().map(move |path| (upload, *path)));
        let artifacts = patterns.filter_map(|(upload, (pattern, line))| {
            let (taken, sure) = upload.captures(pattern, clone_dir, matcher)?;
            Some(Capture { source: Source::Artifacts(pattern), line, taken, sure })
        });
        let caches = self.caches.iter().filter_map(|cache| {
            let sure = cache.captures(clone_dir, home, matcher)?;
            Some(Capture { source: Source::Cache(cache.name), line: cache.line, taken: Taken::Keys, sure })
        });
        artifacts.chain(caches).collect()
    }
}

impl Upload<'_> {
    /// Returns `None` if a pattern takes no credentials, otherwise what it takes, and whether it surely takes keys.
    fn captures(&self, pattern: &str, clone_dir: &CloneDir, matcher: &Matcher) -> Option<(Taken, bool)> {
        let takes =
            |name: &str| clone_dir.path_of(name).is_some_and(|file| self.may_take(pattern, &file, clone_dir, matcher));
        let keys = || of_class(Class::PrivateKey);
        if keys().chain(of_class(Class::Certificate)).any(takes) {
            let files = || keys().filter_map(|name| clone_dir.path_of(name));
            let sure =
                !self.on_failure_only && files().any(|file| self.surely_takes(pattern, &file, clone_dir, matcher));
            return Some((Taken::Keys, sure));
        }
        let core_dumps = || takes("core.1") || self.may_take(pattern, "core.1", clone_dir, matcher);
        let taken = match pattern {
            _ if takes(NETWORK) => Taken::Network,
            _ if self.may_take_temporaries(pattern, clone_dir, matcher) => Taken::Temporaries,
            _ if names_core_dumps(pattern) && core_dumps() => Taken::CoreDumps,
            _ => return None,
        };
        Some((taken, false))
    }

    /// Whether some program might take this file of the clone directory.
    pub(super) fn may_take(&self, pattern: &str, file: &str, clone_dir: &CloneDir, matcher: &Matcher) -> bool {
        let absolute = clone_dir.path.to_str().unwrap_or("$");
        let ignores = |ignored: &&str| surely_matches(ignored, file, matcher);
        may_match(pattern, file, absolute, matcher) && !self.ignored.iter().any(ignores)
    }

    /// Their names begin with a dot. Still, what excludes the keys for some program excludes them, too.
    fn may_take_temporaries(&self, pattern: &str, clone_dir: &CloneDir, matcher: &Matcher) -> bool {
        let Some(file) = clone_dir.path_of(&format!("{TEMPORARY}0")) else { return false };
        let absolute = clone_dir.path.to_str().unwrap_or("$");
        let matches = |pattern: &str| may_match(pattern, &file, absolute, matcher);
        matches(pattern) && !self.ignored.iter().any(|ignored| matches(ignored))
    }

    fn surely_takes(&self, pattern: &str, file: &str, clone_dir: &CloneDir, matcher: &Matcher) -> bool {
        let absolute = clone_dir.path.to_str().unwrap_or("$");
        let deep_enough = self.depth.is_none_or(|depth| depth > file.matches('/').count() as u64);
        let ignores = |ignored: &&str| may_match(ignored, file, absolute, matcher);
        deep_enough && surely_matches(pattern, file, matcher) && !self.ignored.iter().any(ignores)
    }
}

/// Whether a pattern is meant for core dumps: `**/core*`, and neither `**` nor a directory `core/**`. We switch off our
/// own; other programs of the step may have read the keys.
fn names_core_dumps(pattern: &str) -> bool {
    let name = pattern.trim().rsplit('/').next().unwrap_or_default();
    let rest = name.strip_prefix("core").map(|rest| rest.trim_start_matches('.'));
    pattern.contains('*') && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['*', '?', '[']))
}

impl Cache<'_> {
    /// Returns `None` if the cache takes no credentials, otherwise whether it surely takes keys. A path below the
    /// destination may be one of the files.
    fn captures(&self, clone_dir: &CloneDir, home: Option<&str>, matcher: &Matcher) -> Option<bool> {
        let is_in_home = self.path.starts_with(['~', '$']) && !self.path.contains("BITBUCKET_CLONE_DIR");
        let paths = self.paths(clone_dir, home);
        match paths.iter().any(|path| clone_dir.destination.starts_with(path)) {
            true => Some(!is_in_home),
            false if paths.iter().any(|path| path.starts_with(&clone_dir.destination)) => Some(false),
            false => {
                let key = clone_dir.path_of("key").filter(|_| self.path.contains('*'))?;
                may_match(self.path, &key, clone_dir.path.to_str().unwrap_or("$"), matcher).then_some(false)
            }
        }
    }

    /// The home directory of the step's image is not known here.
    pub(super) fn paths(&self, clone_dir: &CloneDir, home: Option<&str>) -> Vec<PathBuf> {
        let path = self.path.trim().replacen("${PWD}", "$PWD", 1).replacen("$PWD", "$BITBUCKET_CLONE_DIR", 1);
        let homes = [home.unwrap_or("/root"), "/root"].into_iter().filter(|home| *home != "/");
        homes.map(|home| clone_dir.resolve(&path, Path::new(home))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn clone_dir(destination: &str) -> CloneDir {
        let env = Environment::from_iter([("BITBUCKET_CLONE_DIR", "/c")]);
        CloneDir::new(&env, Path::new(destination)).unwrap()
    }

    fn upload(pattern: &'static str) -> Upload<'static> {
        Upload { paths: vec![(pattern, 1)], ..Upload::default() }
    }

    fn taken(upload: &Upload<'_>, destination: &str) -> Option<(Taken, bool)> {
        upload.captures(upload.paths[0].0, &clone_dir(destination), &Matcher::new())
    }

    fn artifacts(upload: &Upload<'_>, destination: &str) -> Option<bool> {
        taken(upload, destination).map(|(taken, sure)| sure && taken == Taken::Keys)
    }

    #[test]
    fn artifacts_that_surely_take_keys() {
        for pattern in ["**", "**/*", "*/**", "tbot-user/**", "tbot-user/*", "tbot-user/key", "**/identity", "t*/**"] {
            assert_eq!(artifacts(&upload(pattern), "/c/tbot-user"), Some(true), "{pattern}");
        }
        assert_eq!(artifacts(&upload("build/**"), "/c/build/tbot-user"), Some(true));
        assert_eq!(artifacts(&upload(".keys/**"), "/c/.keys"), Some(true));
        assert_eq!(artifacts(&upload("**"), "/c"), Some(true));
    }

    #[test]
    fn artifacts_that_may_take_keys() {
        for pattern in [
            "*",
            "tbot-user",
            "tbot-user/",
            "**/*.pub",
            "*.pub",
            "{tbot-user,x}/**",
            "$BITBUCKET_CLONE_DIR/**",
            "${BITBUCKET_CLONE_DIR}/tbot-user/*",
            "/c/**",
            "./**",
        ] {
            assert_eq!(artifacts(&upload(pattern), "/c/tbot-user"), Some(false), "{pattern}");
        }
        assert_eq!(artifacts(&upload("**"), "/c/.keys"), Some(false));
        assert_eq!(artifacts(&Upload { on_failure_only: true, ..upload("**") }, "/c/d"), Some(false));
        assert_eq!(artifacts(&Upload { depth: Some(1), ..upload("**") }, "/c/d"), Some(false));
        assert_eq!(artifacts(&Upload { depth: Some(2), ..upload("**") }, "/c/d"), Some(true));
        assert_eq!(artifacts(&Upload { ignored: vec!["*"], ..upload("**") }, "/c/d"), Some(false));
        // Field 16: a slash at the end changes nothing, on both sides.
        for ignored in ["d", "d/", "./d/**"] {
            assert_eq!(artifacts(&Upload { ignored: vec![ignored], ..upload("**") }, "/c/d"), Some(false), "{ignored}");
        }
        assert_eq!(artifacts(&Upload { ignored: vec!["d/key"], ..upload("**") }, "/c/d"), Some(true));
    }

    #[test]
    fn artifacts_that_take_no_credentials() {
        for pattern in ["../**", "dist/**", "**/*.xml", "tbot-user/ssh_config", "/other/**", "**/known_hosts", ""] {
            assert_eq!(artifacts(&upload(pattern), "/c/tbot-user"), None, "{pattern}");
        }
        assert_eq!(artifacts(&upload("**"), "/outside"), None);
        assert_eq!(artifacts(&Upload { ignored: vec!["d/**"], ..upload("**") }, "/c/d"), None);
    }

    // F8.1, F8.2: other files that hold secrets, and files that a killed run leaves.
    #[test]
    fn artifacts_that_take_other_secrets() {
        for (pattern, expected) in [
            ("**/*.json", Some(Taken::Network)),
            ("**/network.json", Some(Taken::Network)),
            ("tbot-user/network.json", Some(Taken::Network)),
            ("tbot-user/.teleport-pipe.tmp.*", Some(Taken::Temporaries)),
            ("**/core*", Some(Taken::CoreDumps)),
            ("core.*", Some(Taken::CoreDumps)),
            ("tbot-user/core.[0-9]*", Some(Taken::CoreDumps)),
            ("**/core", None),
            ("core/**", None),
            ("core", None),
            ("**/core-*.jar", None),
            ("coverage/**", None),
            ("cor*.xml", None),
        ] {
            let expected = expected.map(|taken| (taken, false));
            assert_eq!(taken(&upload(pattern), "/c/tbot-user"), expected, "{pattern}");
        }
        let without = Upload { ignored: vec!["tbot-user/**"], ..upload("**") };
        assert_eq!(taken(&without, "/c/tbot-user"), None);
    }

    #[test]
    fn caches() {
        let takes = |path, destination| {
            let cache = Cache { name: "x", path, line: 1 };
            cache.captures(&clone_dir(destination), Some("/home/me"), &Matcher::new())
        };
        for path in
            [".", "./", " d ", "${BITBUCKET_CLONE_DIR}/d", "/c", "d", "./d/", "/", "/c/x/..", "$BITBUCKET_CLONE_DIR"]
        {
            assert_eq!(takes(path, "/c/d"), Some(true), "{path}");
        }
        for path in ["d/key", "node_modules/../d/x", "**", "./*"] {
            assert_eq!(takes(path, "/c/d"), Some(false), "{path}");
        }
        for path in ["dd", "node_modules", "~/.m2/repository", "/opt", "c"] {
            assert_eq!(takes(path, "/c/d"), None, "{path}");
        }
        assert_eq!(takes("node_modules", "/c/node_modules/d"), Some(true));
        assert_eq!(takes("/keys", "/keys/d"), Some(true));
        for path in ["~", "$HOME", "${HOME}/.config"] {
            assert_eq!(takes(path, "/home/me/.config/d"), Some(false), "{path}");
        }
        assert_eq!(takes("~", "/root/d"), Some(false));
    }

    #[test]
    fn a_step_has_artifacts_and_caches() {
        let step = Step {
            artifacts: vec![upload("x"), upload("**")],
            caches: vec![Cache { name: "all", path: ".", line: 7 }],
            ..Step::default()
        };
        let captures = step.captures(&clone_dir("/c/d"), None, &Matcher::new());
        assert_eq!(captures.iter().map(|c| (c.line, c.sure)).collect::<Vec<_>>(), [(1, true), (7, true)]);
    }
}
