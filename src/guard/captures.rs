//! Would a step's artifacts or caches take the credentials?

use std::path::{Path, PathBuf};

use super::clone_dir::CloneDir;
use super::globs::{Matcher, Rules};
use super::pipelines_yaml::{Cache, Command, Step, Upload};
use super::steps::OUR_NAME;
use crate::output_files::{Class, of_class};
use crate::settings::default;

/// Something that takes credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capture<'t> {
    pub(super) by: By<'t>,
    /// Of `bitbucket-pipelines.yml`, from 1.
    pub(super) line: usize,
    /// It takes keys by any reading of the documentation.
    pub(super) sure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By<'t> {
    /// A pattern of artifacts.
    Artifacts(&'t str),
    /// The name of a cache.
    Cache(&'t str),
}

impl<'t> Step<'t> {
    /// What of the step takes credentials.
    pub(super) fn captures(&self, place: &CloneDir, home: Option<&str>, matcher: &Matcher) -> Vec<Capture<'t>> {
        let mut captures = Vec::new();
        for upload in &self.artifacts {
            for &(pattern, line) in &upload.paths {
                if let Some(sure) = upload.takes(pattern, place, matcher) {
                    captures.push(Capture { by: By::Artifacts(pattern), line, sure });
                }
            }
        }
        for cache in &self.caches {
            if let Some(sure) = cache.takes(place, home) {
                captures.push(Capture { by: By::Cache(cache.name), line: cache.line, sure });
            }
        }
        captures
    }

    /// Whether the destination is removed before artifacts and caches are collected, which is after the after-script.
    pub(super) fn removal(&self, place: &CloneDir) -> Removal {
        let by_after_script = self.after_script.iter().map(|command| command.removal(place)).max();
        // What follows the pipe may remove it, too, but not if the script fails before.
        let last = self.script.iter().rposition(|command| command.is_ours() && !command.is_cleanup());
        let rest = last.map_or(&self.script[..], |last| &self.script[last + 1..]);
        let by_script = rest.iter().map(|command| command.removal(place).min(Removal::Possible)).max();
        by_after_script.max(by_script).unwrap_or_default()
    }
}

/// Whether something removes the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Removal {
    /// Nothing does.
    #[default]
    No,
    /// There are commands that could.
    Possible,
    /// The after-script does.
    Sure,
}

/// In commands that may remove what they do not name: `git clean`, `./cleanup.sh`, `find -delete`.
const CLEANERS: [&str; 3] = ["clean", "delete", "remove"];

impl Upload<'_> {
    /// Whether a pattern takes files of the destination, and if so, whether that is sure.
    fn takes(&self, pattern: &str, place: &CloneDir, matcher: &Matcher) -> Option<bool> {
        // Bitbucket replaces no variables here, as far as is known.
        let whole = pattern.replace("${BITBUCKET_CLONE_DIR}", "$BITBUCKET_CLONE_DIR");
        let clone_dir = place.path.to_str().unwrap_or("$");
        let inside =
            ["$BITBUCKET_CLONE_DIR", clone_dir].iter().find_map(|dir| whole.strip_prefix(dir)?.strip_prefix('/'));
        let plain = inside.is_none() && !pattern.contains('{');
        let pattern = inside.unwrap_or(pattern);
        let pattern = pattern.strip_suffix('/').unwrap_or(pattern);

        let ignores = |file: &str, rules| self.ignored.iter().any(|ignored| matcher.matches(ignored, file, rules));
        let could = |name: &str| {
            let file = place.file(name);
            file.is_some_and(|file| matcher.matches(pattern, &file, Rules::ANY) && !ignores(&file, Rules::PLAIN))
        };
        let surely = |name: &str| {
            let file = place.file(name);
            file.is_some_and(|file| {
                let deep_enough = self.depth.is_none_or(|depth| depth > file.matches('/').count() as u64);
                deep_enough && matcher.matches(pattern, &file, Rules::PLAIN) && !ignores(&file, Rules::ANY)
            })
        };
        if !of_class(Class::PrivateKey).chain(of_class(Class::Certificate)).any(could) {
            return None;
        }
        Some(plain && !self.on_failure_only && of_class(Class::PrivateKey).any(surely))
    }
}

impl Cache<'_> {
    /// The same for a cache. What is below the destination may be a file of ours.
    fn takes(&self, place: &CloneDir, home: Option<&str>) -> Option<bool> {
        let at_home = self.path.starts_with(['~', '$']) && !self.path.contains("BITBUCKET_CLONE_DIR");
        // Where the home directory of the step's image is, is not known here.
        let homes = [home.unwrap_or("/root"), "/root"].into_iter().filter(|home| *home != "/");
        let paths: Vec<_> = homes.map(|home| place.resolve(self.path, Path::new(home))).collect();
        match paths.iter().any(|path| place.destination.starts_with(path)) {
            true => Some(!at_home),
            false => paths.iter().any(|path| path.starts_with(&place.destination)).then_some(false),
        }
    }
}

impl Command<'_> {
    fn removal(&self, place: &CloneDir) -> Removal {
        match self {
            Self::Pipe { variables, .. } => {
                let destination = variables.iter().find(|(name, _)| *name == "DESTINATION");
                let destination = destination.map_or(default::DESTINATION, |(_, path)| path);
                match self.is_ours() && self.is_cleanup() && resolved(destination, place) == place.destination {
                    true => Removal::Sure,
                    false => Removal::No,
                }
            }
            Self::Shell(lines) => {
                let commands = lines.split(['\n', ';', '&', '|']);
                commands.map(|command| shell_removal(command, place)).max().unwrap_or_default()
            }
        }
    }
}

/// The same of one command of a shell.
fn shell_removal(command: &str, place: &CloneDir) -> Removal {
    let mut words = command.split_whitespace().map(|word| word.strip_prefix("--destination=").unwrap_or(word));
    let program = words.find(|word| *word == "rm" || word.contains(OUR_NAME));
    let words: Vec<_> = words.collect();
    let options = |word: &&str| word.starts_with('-');
    let paths: Vec<_> = words.iter().filter(|word| !options(word)).map(|word| resolved(word, place)).collect();
    match program {
        Some("rm") if !words.iter().any(|word| options(word) && word.contains(['r', 'R'])) => Removal::No,
        Some("rm") if paths.iter().any(|path| place.destination.starts_with(path)) => Removal::Sure,
        // A variable, a pattern, or a path from another directory.
        Some("rm") if paths.iter().any(|path| could_be(path, &place.destination)) => Removal::Possible,
        Some("rm") => Removal::No,
        Some(_) if words.contains(&"cleanup") => {
            let default =
                words.last() == Some(&"cleanup") && resolved(default::DESTINATION, place) == place.destination;
            if default || paths.contains(&place.destination) { Removal::Sure } else { Removal::No }
        }
        _ if CLEANERS.iter().any(|cleaner| command.contains(cleaner)) => Removal::Possible,
        _ => Removal::No,
    }
}

/// What a word of a shell's line stands for.
fn resolved(word: &str, place: &CloneDir) -> PathBuf {
    let word = word.trim_matches(['"', '\'']).replace('"', "");
    place.resolve(word.strip_suffix("/*").unwrap_or(&word), Path::new("/root"))
}

/// Whether a path that the shell makes something of could be the destination.
fn could_be(path: &Path, destination: &Path) -> bool {
    path.to_string_lossy().contains(['$', '*', '?', '`']) || path.file_name() == destination.file_name()
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::environment::Environment;

    fn place(destination: &str) -> CloneDir {
        let env = Environment::from_iter([("BITBUCKET_CLONE_DIR", "/c")]);
        CloneDir::of(&env, Path::new(destination)).unwrap()
    }

    fn upload(pattern: &'static str) -> Upload<'static> {
        Upload { paths: vec![(pattern, 1)], ..Upload::default() }
    }

    fn artifacts(upload: &Upload<'_>, destination: &str) -> Option<bool> {
        upload.takes(upload.paths[0].0, &place(destination), &Matcher::new())
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
    fn artifacts_that_could() {
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
    fn artifacts_that_do_not() {
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
        let takes = |path, destination| Cache { name: "x", path, line: 1 }.takes(&place(destination), Some("/home/me"));
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
    fn what_removes_the_destination() {
        let shell = |line| Command::Shell(line).removal(&place("/c/tbot-user"));
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
            |variables| Command::Pipe { reference: "x/teleport-pipe:1", variables }.removal(&place("/c/tbot-user"));
        assert_eq!(pipe(vec![("ACTION", "cleanup")]), Removal::Sure);
        assert_eq!(pipe(vec![("ACTION", "cleanup"), ("DESTINATION", "/c/tbot-user")]), Removal::Sure);
        assert_eq!(pipe(vec![("ACTION", "cleanup"), ("DESTINATION", "x")]), Removal::No);
        assert_eq!(pipe(vec![]), Removal::No);
    }

    #[test]
    fn what_follows_the_pipe_may_remove_the_destination() {
        let pipe = || Command::Pipe { reference: "x/teleport-pipe:1", variables: vec![] };
        let remove = || Command::Shell("rm -rf tbot-user");
        let removal =
            |script, after_script| Step { script, after_script, ..Step::default() }.removal(&place("/c/tbot-user"));
        assert_eq!(removal(vec![pipe()], vec![remove()]), Removal::Sure);
        assert_eq!(removal(vec![pipe(), remove()], vec![]), Removal::Possible);
        assert_eq!(removal(vec![remove(), pipe()], vec![]), Removal::No);
    }

    #[test]
    fn a_step_has_all_of_them() {
        let step = Step {
            artifacts: vec![Rc::new(upload("x")), Rc::new(upload("**"))],
            caches: vec![Cache { name: "all", path: ".", line: 7 }],
            ..Step::default()
        };
        let captures = step.captures(&place("/c/d"), None, &Matcher::new());
        assert_eq!(captures.iter().map(|c| (c.line, c.sure)).collect::<Vec<_>>(), [(1, true), (7, true)]);
    }
}
