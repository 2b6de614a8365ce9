//! Whether a step removes the keys before Bitbucket collects artifacts and caches, which is after the after-script.
//!
//! Certain is only what removes the whole directory, without a condition, at a place that the script reaches: the
//! commands of an after-script run until one fails (docs/protocol.md, "Artifacts and caches").

use std::path::{Path, PathBuf};

use super::actions::{Action, PROGRAM, actions};
use super::clone_dir::CloneDir;
use super::globs::Matcher;
use super::pipelines_yaml::Step;
use super::shell_words::{SimpleCommand, plain};
use crate::limits::PATTERN_SIZE;
use crate::values::DEFAULT_DESTINATION;

/// Whether the destination is removed. The order is that of certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Removal {
    #[default]
    No,
    Possible,
    /// The after-script removes it.
    Sure,
}

/// Words that say that something is removed.
const REMOVE: [&str; 8] = ["rm", "rmdir", "mv", "shred", "unlink", "rmtree", "delete", "cleanup"];

/// Programs that neither remove files of the clone directory nor run a program of the repository. What other programs
/// do is not known.
const HARMLESS: [&str; 56] = [
    ":", "exit", "return", "wait", "[", "[[", "apk", "apt", "apt-get", "aws", "awk", "az", "cat", "cd", "chmod",
    "chown", "cp", "curl", "date", "dnf", "echo", "env", "export", "false", "gcloud", "git", "grep", "gsutil", "gzip",
    "head", "helm", "jq", "kubectl", "ls", "mkdir", "printf", "pwd", "rsync", "scp", "sed", "set", "sleep", "sort",
    "ssh", "tail", "tar", "tee", "test", "touch", "true", "unset", "unzip", "wc", "wget", "yq", "zip",
];

impl Step<'_> {
    pub(super) fn removal(&self, clone_dir: &CloneDir, matcher: &Matcher) -> Removal {
        let after_script = actions(&self.after_script, matcher);
        let by_after_script = after_script.iter().map(|action| {
            let opaque = if action.is_opaque() { Removal::Possible } else { Removal::No };
            action.removal(action.is_certain(), clone_dir, matcher).max(opaque)
        });
        // Commands after the pipe may remove it, too, but do not run if the script fails before.
        let script = actions(&self.script, matcher);
        let last = script.iter().rposition(Action::writes_keys);
        let rest = last.map_or(&script[..], |last| &script[last + 1..]);
        let by_script = rest.iter().map(|action| action.removal(false, clone_dir, matcher));
        let found = by_after_script.chain(by_script).max().unwrap_or_default();
        // What was not read may remove it.
        if matcher.is_complete() { found } else { found.max(Removal::Possible) }
    }
}

impl Action<'_> {
    /// `is_reached` says whether it runs; if that is not known, it cannot be sure.
    pub(super) fn removal(&self, is_reached: bool, clone_dir: &CloneDir, matcher: &Matcher) -> Removal {
        let removal = match self {
            Self::Pipe { variables, .. } => {
                let given = variables.iter().find(|(name, _)| *name == "DESTINATION");
                let given = given.map_or(DEFAULT_DESTINATION, |(_, path)| path);
                let path = clone_dir.resolve(given, Path::new("/root"));
                match self.is_ours() && self.is_cleanup() {
                    true if path == clone_dir.destination => Removal::Sure,
                    true if given.contains('$') => Removal::Possible,
                    _ => Removal::No,
                }
            }
            Self::Shell { command, .. } => command.removal(clone_dir, matcher),
        };
        if is_reached { removal } else { removal.min(Removal::Possible) }
    }

    /// Whether it is not known what this does: a script, a build tool, another pipe.
    fn is_opaque(&self) -> bool {
        match self {
            Self::Pipe { .. } => !self.is_ours(),
            Self::Shell { command, .. } => command.program().is_some_and(|(program, _)| {
                !HARMLESS.contains(&program) && !REMOVE.contains(&program) && !program.contains(PROGRAM)
            }),
        }
    }
}

impl SimpleCommand {
    /// What this removes if it runs.
    fn removal(&self, clone_dir: &CloneDir, matcher: &Matcher) -> Removal {
        let Some((program, arguments)) = self.program().filter(|_| !self.only_prints()) else { return Removal::No };
        let is_option = |word: &&String| word.starts_with('-');
        let recurses = |word: &String| word == "--recursive" || (!word.starts_with("--") && word.contains(['r', 'R']));
        let is_recursive = arguments.iter().filter(is_option).any(recurses);
        let is_cleanup = arguments.iter().any(|word| word == "cleanup");
        // Others only print, or ask.
        let is_usual = |word: &String| match word.strip_prefix("--") {
            Some(long) => ["", "recursive", "force", "verbose", "one-file-system", "preserve-root"].contains(&long),
            None => word[1..].chars().all(|c| "rRfvd".contains(c)),
        };
        if program == "rm" && is_recursive && arguments.iter().filter(is_option).all(is_usual) && !self.has_files() {
            // `rm` refuses `.` and `..`.
            let is_dots = |word: &str| matches!(word.rsplit('/').find(|part| !part.is_empty()), Some("." | ".."));
            let given = arguments.iter().filter(|word| !is_option(word) && !is_dots(word));
            let mut paths = given.flat_map(|word| paths(word, clone_dir, matcher));
            if paths.any(|path| path.is_exact && clone_dir.destination.starts_with(path.path)) {
                return Removal::Sure;
            }
        } else if program.ends_with(PROGRAM) && is_cleanup {
            return match is_for(arguments, clone_dir, matcher) {
                true => Removal::Sure,
                false => Removal::No,
            };
        }
        match self.may_remove(program, arguments, clone_dir, matcher) {
            true => Removal::Possible,
            false => Removal::No,
        }
    }

    fn may_remove(&self, program: &str, arguments: &[String], clone_dir: &CloneDir, matcher: &Matcher) -> bool {
        let removes = |word: &str| word.split(|c: char| !c.is_alphanumeric()).any(|part| REMOVE.contains(&part));
        let names = |word: &String| has_name(word, &clone_dir.destination);
        // The names may come from another program.
        let is_xargs = program == "xargs" && arguments.iter().any(|word| REMOVE.contains(&word.as_str()));
        let could_be = |word: &String| paths(word, clone_dir, matcher).iter().any(|path| path.could_be(clone_dir));
        let is_named = self.words.iter().any(|word| removes(word)) && self.words.iter().any(names);
        let is_matched = REMOVE.contains(&program) && arguments.iter().any(could_be);
        // `git clean`, `./cleanup.sh`, `find -delete`, `docker run -e ACTION=cleanup`.
        let says_so = || self.words.iter().any(|w| ["clean", "delete", "remove"].iter().any(|part| w.contains(part)));
        is_xargs || is_named || is_matched || (says_so() && (program == "git" || !HARMLESS.contains(&program)))
    }
}

/// Whether `cleanup` with these arguments is for our destination.
fn is_for(arguments: &[String], clone_dir: &CloneDir, matcher: &Matcher) -> bool {
    let words = arguments.iter().map(|word| word.strip_prefix("--destination=").unwrap_or(word));
    let mut given = words.filter(|word| !word.starts_with('-') && *word != "cleanup").peekable();
    let is_default = given.peek().is_none() && arguments.last().is_some_and(|word| word == "cleanup");
    let is_ours =
        |word: &str| paths(word, clone_dir, matcher).iter().any(|p| p.is_exact && p.path == clone_dir.destination);
    if is_default { is_ours(DEFAULT_DESTINATION) } else { given.any(is_ours) }
}

/// Whether a word names the directory, in whatever path.
pub(super) fn has_name(word: &str, destination: &Path) -> bool {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    let is_part = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let word = plain(word);
    match name.chars().all(is_part) {
        true => word.split(|c| !is_part(c)).any(|part| part == name),
        false => word.contains(&*name),
    }
}

/// A path in a command, as far as it is known.
#[derive(Debug)]
pub(super) struct ShellPath {
    pub(super) path: PathBuf,
    /// Nothing in it is replaced by the shell.
    pub(super) is_exact: bool,
}

impl ShellPath {
    /// Whether a pattern or a variable could be the destination or something in it.
    fn could_be(&self, clone_dir: &CloneDir) -> bool {
        let (path, destination) = (self.path.to_string_lossy(), clone_dir.destination.to_string_lossy());
        !self.is_exact && (destination.starts_with(&*path) || self.path.starts_with(&clone_dir.destination))
    }
}

/// The paths that a word of a command stands for, in the clone directory.
pub(super) fn paths(word: &str, clone_dir: &CloneDir, matcher: &Matcher) -> Vec<ShellPath> {
    let (braces, commas) = (word.matches('{').count(), word.matches(',').count());
    let words = match word.len() {
        0 => Vec::new(),
        // More braces than anyone writes by hand: what is before them is known.
        _ if braces > 3 || word.len() > PATTERN_SIZE || commas > if braces < 2 { 60 } else { 6 } => {
            vec![format!("{}*", word.split('{').next().unwrap_or_default())]
        }
        _ => matcher.alternatives(word),
    };
    words.into_iter().filter(|word| !word.is_empty()).map(|word| path(&word, clone_dir)).collect()
}

fn path(word: &str, clone_dir: &CloneDir) -> ShellPath {
    const KNOWN: &str = "$BITBUCKET_CLONE_DIR";
    // A `$` or `~` in quotes is a part of the name.
    let word = if word.starts_with('\\') { format!("./{word}") } else { word.to_owned() };
    let word = word.replace("${", "$").replacen("$PWD", KNOWN, 1);
    let known = if word.starts_with(KNOWN) { KNOWN.len() } else { 0 };
    let mut is_escaped = false;
    let active = word[known..].find(|c| {
        let is_plain = is_escaped;
        is_escaped = !is_escaped && c == '\\';
        !is_plain && "$`*?[".contains(c)
    });
    let end = active.map_or(word.len(), |at| known + at);
    let path = clone_dir.resolve(&plain(&word[..end]), Path::new("/root"));
    ShellPath { path, is_exact: active.is_none() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::guard::pipelines_yaml::Command;

    fn clone_dir() -> CloneDir {
        let env = Environment::from_iter([("BITBUCKET_CLONE_DIR", "/c")]);
        CloneDir::new(&env, Path::new("/c/tbot-user")).unwrap()
    }

    fn shell(text: &'static str) -> Command<'static> {
        Command::Shell { text, line: 1 }
    }

    fn pipe(variables: &[(&'static str, &'static str)]) -> Command<'static> {
        Command::Pipe { reference: "x/teleport-pipe:1", variables: variables.to_vec(), line: 1 }
    }

    fn after(after_script: Vec<Command<'static>>) -> Removal {
        Step { after_script, ..Step::default() }.removal(&clone_dir(), &Matcher::new())
    }

    #[test]
    fn commands_that_surely_remove_the_directory() {
        for line in [
            "rm -rf ./tbot-user",
            "rm -rf tbot-user/",
            "rm -r --force -- x tbot-user",
            "rm -r \"$BITBUCKET_CLONE_DIR\"/tbot-user",
            "rm -rf \"${BITBUCKET_CLONE_DIR}/tbot-user\"",
            "rm -rf \"$PWD/tbot-user\"",
            "rm -rf /c/tbot-user || true",
            "rm -rf \"$BITBUCKET_CLONE_DIR\"",
            "echo bye\nsudo rm -R 'tbot-user'",
            "teleport-pipe cleanup",
            "./tbot-user/teleport-pipe cleanup",
            "teleport-pipe cleanup --destination=./tbot-user",
            // F8.7, field 9: the same in other words.
            "/bin/rm -rf tbot-user",
            "\\rm -rf tbot-user",
            "command rm -rf tbot-user",
            "sh -c \"rm -rf tbot-user\"",
            "bash -c 'set -e; rm -rf tbot-user'",
            "rm -rf {tbot-user,dist}",
            "rm -rf \\\n  ./tbot-user",
            "ls -la || true; rm -rf tbot-user # the keys",
        ] {
            assert_eq!(after(vec![shell(line)]), Removal::Sure, "{line}");
        }
        assert_eq!(after(vec![pipe(&[("ACTION", "cleanup")])]), Removal::Sure);
        assert_eq!(after(vec![pipe(&[("ACTION", "cleanup"), ("DESTINATION", "/c/tbot-user")])]), Removal::Sure);
    }

    // F8.7, field 3, field 9: what only may remove the directory, or does so in a way that is not read here.
    #[test]
    fn commands_that_may_remove_the_directory() {
        for line in [
            "rm -rf \"$CREDENTIALS\"",
            "rm -rf tbot-*",
            "rm -rf tbot-user/*",
            "rm tbot-user/key tbot-user/identity",
            "rm -f tbot-user",
            "cd sub && rm -rf tbot-user/",
            "cd sub && rm -rf ../x/tbot-user",
            "cd /tmp && rm -rf tbot-user",
            "cd /tmp\nrm -rf tbot-user",
            "false && rm -rf tbot-user",
            "[ -z \"$KEEP\" ] && rm -rf tbot-user",
            "test -n \"$KEEP\" || rm -rf tbot-user",
            "[ -n \"$KEEP\" ] && exit 0; rm -rf tbot-user",
            "if [ -d tbot-user ]; then rm -rf tbot-user; fi",
            "if true; then\n  exit 0\nfi\nrm -rf tbot-user",
            "cleanup() { rm -rf tbot-user; }",
            "(rm -rf tbot-user)",
            "for d in tbot-user dist; do rm -rf \"$d\"; done",
            "rm -rf tbot-user &",
            "./notify.sh\nrm -rf tbot-user",
            "echo rm -rf tbot-user | sh",
            "ls -d tbot-user | xargs rm -rf",
            "find tbot-user -type f -exec rm {} +",
            "find tbot-user -delete",
            "mv tbot-user /tmp/x",
            "shred -u tbot-user/key tbot-user/identity",
            "unlink tbot-user/key",
            "python3 -c \"import shutil; shutil.rmtree('tbot-user')\"",
            "bash <<EOF\nrm -rf tbot-user\nEOF",
            "git clean -fdx",
            "./ci/cleanup.sh",
            "./ci/after.sh",
            "make wipe",
            "source ci/end.sh",
            "npm run clean",
            "find . -name key -delete",
            "docker run --rm -e ACTION=cleanup acme/teleport-pipe:1",
        ] {
            assert_eq!(after(vec![shell(line)]), Removal::Possible, "{line}");
        }
        assert_eq!(
            after(vec![Command::Pipe { reference: "acme/wipe:1", variables: vec![], line: 1 }]),
            Removal::Possible
        );
        assert_eq!(after(vec![shell("./notify.sh"), pipe(&[("ACTION", "cleanup")])]), Removal::Possible);
        assert_eq!(after(vec![shell("cd x"), shell("rm -rf tbot-user")]), Removal::Possible);
        assert_eq!(after(vec![pipe(&[("ACTION", "cleanup"), ("DESTINATION", "$D")])]), Removal::Possible);
    }

    #[test]
    fn commands_that_do_not_remove_the_directory() {
        for line in [
            "# rm -rf ./tbot-user",
            "ls -la # rm -rf ./tbot-user",
            "echo rm -rf ./tbot-user",
            "echo \"rm -rf ./tbot-user\"",
            "exit 0; rm -rf tbot-user",
            "cat <<EOF\nrm -rf tbot-user\nEOF",
            "rm -rf \"$BITBUCKET_CLONE_DIR/dist\" ~/x",
            "rm -rf '$BITBUCKET_CLONE_DIR'",
            "rm -rf dist/* \"\"",
            "rm -rf tbot-users",
            "ls tbot-user",
            "curl -X DELETE https://acme.example/delete",
            "teleport-pipe cleanup --destination=x",
            "teleport-pipe version",
            "rm -rf",
            "",
        ] {
            assert_eq!(after(vec![shell(line)]), Removal::No, "{line}");
        }
        assert_eq!(after(vec![pipe(&[("ACTION", "cleanup"), ("DESTINATION", "x")])]), Removal::No);
        assert_eq!(after(vec![pipe(&[])]), Removal::No);
    }

    #[test]
    fn commands_after_the_pipe_may_remove_the_destination() {
        let script = |script| Step { script, ..Step::default() }.removal(&clone_dir(), &Matcher::new());
        assert_eq!(script(vec![pipe(&[]), shell("rm -rf tbot-user")]), Removal::Possible);
        assert_eq!(script(vec![shell("rm -rf tbot-user"), pipe(&[])]), Removal::No);
        // Most scripts go on with a script of the repository. That is not why.
        assert_eq!(script(vec![pipe(&[]), shell("./deploy.sh")]), Removal::No);
    }
}
