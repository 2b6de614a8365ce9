//! Which artifacts and caches of a step take the credentials.

use std::path::{Path, PathBuf};

use super::clone_dir::CloneDir;
use super::globs::{Matcher, Rules};
use super::pipelines_yaml::{Cache, Command, Step, Upload};
use super::steps::PROGRAM;
use crate::output_files::{Class, of_class};
use crate::values::DEFAULT_DESTINATION;

/// A pattern of artifacts or a cache that takes credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capture<'t> {
    pub(super) source: Source<'t>,
    pub(super) line: usize,
    /// The documentation leaves no doubt that it takes keys.
    pub(super) sure: bool,
}

/// The pattern of artifacts, or the name of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<'t> {
    Artifacts(&'t str),
    Cache(&'t str),
}

impl<'t> Step<'t> {
    pub(super) fn captures(&self, clone_dir: &CloneDir, home: Option<&str>, matcher: &Matcher) -> Vec<Capture<'t>> {
        let patterns = self.artifacts.iter().flat_map(|upload| upload.paths.iter().map(move |path| (upload, *path)));
        let artifacts = patterns.filter_map(|(upload, (pattern, line))| {
            let sure = upload.captures(pattern, clone_dir, matcher)?;
            Some(Capture { source: Source::Artifacts(pattern), line, sure })
        });
        let caches = self.caches.iter().filter_map(|cache| {
            let sure = cache.captures(clone_dir, home)?;
            Some(Capture { source: Source::Cache(cache.name), line: cache.line, sure })
        });
        artifacts.chain(caches).collect()
    }

    /// Whether the destination is removed before Bitbucket collects artifacts and caches, which is after the
    /// after-script.
    pub(super) fn removal(&self, clone_dir: &CloneDir) -> Removal {
        let by_after_script = self.after_script.iter().map(|command| command.removal(clone_dir)).max();
        // Commands after the pipe may remove it, too, but do not run if the script fails before.
        let last = self.script.iter().rposition(Command::writes_keys);
        let rest = last.map_or(&self.script[..], |last| &self.script[last + 1..]);
        let by_script = rest.iter().map(|command| command.removal(clone_dir).min(Removal::Possible)).max();
        by_after_script.max(by_script).unwrap_or_default()
    }
}

/// Whether the destination is removed. The order is that of certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Removal {
    #[default]
    No,
    Possible,
    /// The after-script removes it.
    Sure,
}

impl Upload<'_> {
    /// Returns `None` if a pattern takes no credentials, otherwise whether it surely takes keys.
    fn captures(&self, pattern: &str, clone_dir: &CloneDir, matcher: &Matcher) -> Option<bool> {
        // As far as is known, Bitbucket replaces no variables here.
        let whole = pattern.replace("${BITBUCKET_CLONE_DIR}", "$BITBUCKET_CLONE_DIR");
        let absolute = clone_dir.path.to_str().unwrap_or("$");
        let inside =
            ["$BITBUCKET_CLONE_DIR", absolute].iter().find_map(|dir| whole.strip_prefix(dir)?.strip_prefix('/'));
        let plain = inside.is_none() && !pattern.contains('{');
        let pattern = inside.unwrap_or(pattern);
        let pattern = pattern.strip_suffix('/').unwrap_or(pattern);

        let ignores = |file: &str, rules| self.ignored.iter().any(|ignored| matcher.matches(ignored, file, rules));
        let could = |file: String| matcher.matches(pattern, &file, Rules::Lenient) && !ignores(&file, Rules::Strict);
        let surely = |file: String| {
            let deep_enough = self.depth.is_none_or(|depth| depth > file.matches('/').count() as u64);
            deep_enough && matcher.matches(pattern, &file, Rules::Strict) && !ignores(&file, Rules::Lenient)
        };
        let files = |class| of_class(class).filter_map(|name| clone_dir.path_of(name));
        files(Class::PrivateKey)
            .chain(files(Class::Certificate))
            .any(could)
            .then(|| plain && !self.on_failure_only && files(Class::PrivateKey).any(surely))
    }
}

impl Cache<'_> {
    /// Returns `None` if the cache takes no credentials, otherwise whether it surely takes keys. A path below the
    /// destination may be one of the files.
    fn captures(&self, clone_dir: &CloneDir, home: Option<&str>) -> Option<bool> {
        let is_in_home = self.path.starts_with(['~', '$']) && !self.path.contains("BITBUCKET_CLONE_DIR");
        // The home directory of the step's image is not known here.
        let homes = [home.unwrap_or("/root"), "/root"].into_iter().filter(|home| *home != "/");
        let paths: Vec<_> = homes.map(|home| clone_dir.resolve(self.path, Path::new(home))).collect();
        match paths.iter().any(|path| clone_dir.destination.starts_with(path)) {
            true => Some(!is_in_home),
            false => paths.iter().any(|path| path.starts_with(&clone_dir.destination)).then_some(false),
        }
    }
}

impl Command<'_> {
    fn removal(&self, clone_dir: &CloneDir) -> Removal {
        match self {
            Self::Pipe { variables, .. } => {
                let destination = variables.iter().find(|(name, _)| *name == "DESTINATION");
                let destination = resolved(destination.map_or(DEFAULT_DESTINATION, |(_, path)| path), clone_dir);
                let is_ours = self.is_teleport_pipe() && self.is_cleanup();
                if is_ours && destination == clone_dir.destination { Removal::Sure } else { Removal::No }
            }
            Self::Shell(lines) => {
                let commands = lines.split(['\n', ';', '&', '|']);
                commands.map(|command| shell_removal(command, clone_dir)).max().unwrap_or_default()
            }
        }
    }
}

/// Whether one command of a shell removes the destination.
fn shell_removal(command: &str, clone_dir: &CloneDir) -> Removal {
    let mut words = command.split_whitespace().map(|word| word.strip_prefix("--destination=").unwrap_or(word));
    let program = words.find(|word| *word == "rm" || word.contains(PROGRAM));
    let words: Vec<_> = words.collect();
    let options = |word: &&str| word.starts_with('-');
    let paths: Vec<_> = words.iter().filter(|word| !options(word)).map(|word| resolved(word, clone_dir)).collect();
    // A variable, a pattern, or a path from another directory.
    let could_be = |path: &PathBuf| {
        path.to_string_lossy().contains(['$', '*', '?', '`']) || path.file_name() == clone_dir.destination.file_name()
    };
    match program {
        Some("rm") if !words.iter().any(|word| options(word) && word.contains(['r', 'R'])) => Removal::No,
        Some("rm") if paths.iter().any(|path| clone_dir.destination.starts_with(path)) => Removal::Sure,
        Some("rm") if paths.iter().any(could_be) => Removal::Possible,
        Some("rm") => Removal::No,
        Some(_) if words.contains(&"cleanup") => {
            let default =
                words.last() == Some(&"cleanup") && resolved(DEFAULT_DESTINATION, clone_dir) == clone_dir.destination;
            if default || paths.contains(&clone_dir.destination) { Removal::Sure } else { Removal::No }
        }
        // Files may be removed without being named: `git clean`, `./cleanup.sh`, `find -delete`.
        _ if ["clean", "delete", "remove"].iter().any(|part| command.contains(part)) => Removal::Possible,
        _ => Removal::No,
    }
}

/// The path that a word of a shell command stands for.
fn resolved(word: &str, clone_dir: &CloneDir) -> PathBuf {
    let word = word.trim_matches(['"', '\'']).replace('"', "");
    clone_dir.resolve(word.strip_suffix("/*").unwrap_or(&word), Path::new("/root"))
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

    fn artifacts(upload: &Upload<'_>, destination: &str) -> Option<bool> {
        upload.captures(upload.paths[0].0, &clone_dir(destination), &Matcher::new())
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
        ] {
            assert_eq!(artifacts(&upload(pattern), "/c/tbot-user"), Some(false), "{pattern}");
        }
        assert_eq!(artifacts(&upload("**"), "/c/.keys"), Some(false));
        assert_eq!(artifacts(&Upload { on_failure_only: true, ..upload("**") }, "/c/d"), Some(false));
        assert_eq!(artifacts(&Upload { depth: Some(1), ..upload("**") }, "/c/d"), Some(false));
        assert_eq!(artifacts(&Upload { depth: Some(2), ..upload("**") }, "/c/d"), Some(true));
        assert_eq!(artifacts(&Upload { ignored: vec!["*"], ..upload("**") }, "/c/d"), Some(false));
        assert_eq!(artifacts(&Upload { ignored: vec!["d/key"], ..upload("**") }, "/c/d"), Some(true));
    }

    #[test]
    fn artifacts_that_take_no_credentials() {
        for pattern in
            ["./**", "../**", "dist/**", "**/*.xml", "tbot-user/ssh_config", "/other/**", "**/known_hosts", ""]
        {
            assert_eq!(artifacts(&upload(pattern), "/c/tbot-user"), None, "{pattern}");
        }
        assert_eq!(artifacts(&upload("**"), "/outside"), None);
        assert_eq!(artifacts(&Upload { ignored: vec!["d/**"], ..upload("**") }, "/c/d"), None);
    }

    #[test]
    fn caches() {
        let takes =
            |path, destination| Cache { name: "x", path, line: 1 }.captures(&clone_dir(destination), Some("/home/me"));
        for path in [".", "./", "$BITBUCKET_CLONE_DIR", "/c", "d", "./d/", "/", "/c/x/.."] {
            assert_eq!(takes(path, "/c/d"), Some(true), "{path}");
        }
        for path in ["d/key", "node_modules/../d/x"] {
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
    fn commands_that_remove_the_destination() {
        let shell = |line| Command::Shell(line).removal(&clone_dir("/c/tbot-user"));
        for line in [
            "rm -rf ./tbot-user",
            "rm -rf tbot-user/",
            "rm -fr -- x tbot-user/*",
            "rm -r \"$BITBUCKET_CLONE_DIR\"/tbot-user",
            "rm -rf \"${BITBUCKET_CLONE_DIR}/tbot-user\"",
            "rm -rf /c/tbot-user || true",
            "rm -rf \"$BITBUCKET_CLONE_DIR\"",
            "echo bye\nsudo rm -R 'tbot-user'",
            "teleport-pipe cleanup",
            "./tbot-user/teleport-pipe cleanup",
            "teleport-pipe cleanup --destination=./tbot-user",
        ] {
            assert_eq!(shell(line), Removal::Sure, "{line}");
        }
        for line in [
            "rm -rf \"$PWD/tbot-user\"",
            "rm -rf \"$CREDENTIALS\"",
            "rm -rf tbot-*",
            "cd sub && rm -rf tbot-user/",
            "cd sub && rm -rf ../x/tbot-user",
            "git clean -fdx",
            "./ci/cleanup.sh",
            "find . -name key -delete",
            "docker run --rm -e ACTION=cleanup acme/teleport-pipe:1",
        ] {
            assert!(shell(line) >= Removal::Possible, "{line}");
        }
        for line in [
            "rm -f tbot-user",
            "rm -rf \"$BITBUCKET_CLONE_DIR/dist\" ~/x",
            "rm -rf tbot-users",
            "ls tbot-user",
            "echo rm",
            "teleport-pipe cleanup --destination=x",
            "teleport-pipe version",
            "rm -rf",
            "",
        ] {
            assert_eq!(shell(line), Removal::No, "{line}");
        }
        let pipe =
            |variables| Command::Pipe { reference: "x/teleport-pipe:1", variables }.removal(&clone_dir("/c/tbot-user"));
        assert_eq!(pipe(vec![("ACTION", "cleanup")]), Removal::Sure);
        assert_eq!(pipe(vec![("ACTION", "cleanup"), ("DESTINATION", "/c/tbot-user")]), Removal::Sure);
        assert_eq!(pipe(vec![("ACTION", "cleanup"), ("DESTINATION", "x")]), Removal::No);
        assert_eq!(pipe(vec![]), Removal::No);
    }

    #[test]
    fn commands_after_the_pipe_may_remove_the_destination() {
        let pipe = || Command::Pipe { reference: "x/teleport-pipe:1", variables: vec![] };
        let remove = || Command::Shell("rm -rf tbot-user");
        let removal =
            |script, after_script| Step { script, after_script, ..Step::default() }.removal(&clone_dir("/c/tbot-user"));
        assert_eq!(removal(vec![pipe()], vec![remove()]), Removal::Sure);
        assert_eq!(removal(vec![pipe(), remove()], vec![]), Removal::Possible);
        assert_eq!(removal(vec![remove(), pipe()], vec![]), Removal::No);
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
