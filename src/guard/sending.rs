//! Commands of a step that send the whole clone directory elsewhere, with the keys in it: copies to a server, archives,
//! images, and other pipes.
//!
//! A command counts only after the one that writes the keys, and if nothing removes them in between.

use std::path::PathBuf;

use super::actions::{Action, actions};
use super::clone_dir::CloneDir;
use super::docker;
use super::globs::Matcher;
use super::pipelines_yaml::Step;
use super::removal::{Removal, has_name};
use super::shell_words::plain;
use super::working_directory::WorkingDirectory;
use crate::shell;

/// A command that sends the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    /// The line where its entry begins, and its first word.
    pub(super) line: usize,
    pub(super) program: String,
    pub(super) remedy: String,
}

impl Step<'_> {
    pub(super) fn sendings(&self, clone_dir: &CloneDir, matcher: &Matcher) -> Vec<Sending> {
        let mut sendings = Vec::new();
        let script = actions(&self.script, matcher);
        // If a script runs us, it may be any of them.
        let first = script.iter().position(Action::writes_keys).map_or(0, |ours| ours + 1);
        let after_script = actions(&self.after_script, matcher);
        let is_removed = collect(&script, first, clone_dir, matcher, &mut sendings);
        if !is_removed {
            collect(&after_script, 0, clone_dir, matcher, &mut sendings);
        }
        sendings
    }
}

/// Adds what the actions from `first` on send. Returns whether one of them removes the keys.
fn collect(
    script: &[Action<'_>],
    first: usize,
    clone_dir: &CloneDir,
    matcher: &Matcher,
    sendings: &mut Vec<Sending>,
) -> bool {
    let mut directory = WorkingDirectory::new(clone_dir, matcher);
    for (number, action) in script.iter().enumerate() {
        if let Action::Shell { command, .. } = action {
            directory.follow(command);
        }
        if number < first {
            continue;
        }
        if action.removal(action.is_unconditional(), clone_dir, matcher) == Removal::Sure {
            return true;
        }
        let scope = Scope { clone_dir, matcher, directory: &directory };
        let found = match action {
            Action::Pipe { variables, .. } if !action.is_ours() => scope.pipe(variables),
            Action::Pipe { .. } => None,
            Action::Shell { command, .. } => {
                command.program().and_then(|(program, words)| scope.command(program, words))
            }
        };
        sendings.extend(found.map(|(program, remedy)| Sending { line: action.line(), program, remedy }));
    }
    false
}

struct Scope<'c> {
    clone_dir: &'c CloneDir,
    matcher: &'c Matcher,
    directory: &'c WorkingDirectory<'c>,
}

/// The program, and what to do.
type Found = Option<(String, String)>;

impl Scope<'_> {
    fn command(&self, program: &str, words: &[String]) -> Found {
        if matches!(program, "docker" | "podman" | "buildah" | "nerdctl") && !words.iter().any(|word| word == "cp") {
            return self.build(program, words);
        }
        let sources = sources(program, words)?;
        let base = directory_option(program, words);
        let is_covered = sources.iter().any(|word| match base {
            Some(base) if !word.starts_with(['/', '$', '~']) => self.covers(&format!("{base}/{word}")),
            _ => self.covers(word),
        });
        if !is_covered || self.excludes(words) {
            return None;
        }
        let name = self.clone_dir.displayed_destination();
        let remedy = match program {
            "rsync" => format!("add {} to it", shell::word(&format!("--exclude=/{name}"))),
            "tar" => format!("add {} to it", shell::word(&format!("--exclude={name}"))),
            "zip" => format!("add -x {} to it", shell::quoted(&format!("{name}/*"))),
            "aws" => format!("add --exclude {} to it", shell::quoted(&format!("{name}/*"))),
            _ => "name the files that are needed".to_owned(),
        };
        Some((program.to_owned(), remedy))
    }

    /// A pipe that gets the clone directory as what it sends.
    fn pipe(&self, variables: &[(&str, &str)]) -> Found {
        let is_source = |name: &str| {
            let parts = ["LOCAL", "SOURCE", "SRC", "UPLOAD"];
            parts.iter().any(|part| name.contains(part)) || ["FOLDER", "FILES", "FILENAME"].contains(&name)
        };
        let (name, _) = variables.iter().find(|(name, value)| is_source(name) && self.covers(value.trim()))?;
        let excludes = |value: &str| value.contains(".gitignore") || self.is_named(value);
        let excluded =
            variables.iter().any(|(name, value)| !is_source(name) && value.contains("--") && excludes(value));
        (!excluded).then(|| ("pipe".to_owned(), format!("give it a {name} without the keys")))
    }

    /// An image: the context goes to the daemon.
    fn build(&self, program: &str, words: &[String]) -> Found {
        let at = words.iter().position(|word| ["build", "bud", "b"].contains(&word.as_str()))?;
        let words = &words[at + 1..];
        let is_file = |word: &String| word == "-f" || word == "--file";
        let file = words.iter().enumerate().find_map(|(n, word)| match is_file(word) {
            true => words.get(n + 1).map(String::as_str),
            false => word.strip_prefix("--file=").or_else(|| word.strip_prefix("-f").filter(|file| !file.is_empty())),
        });
        let is_value = |n: usize| n > 0 && (is_file(&words[n - 1]) || ["-o", "--output"].contains(&&*words[n - 1]));
        let contexts = words.iter().enumerate().filter(|(n, word)| !word.starts_with('-') && !is_value(*n));
        let context = contexts.flat_map(|(_, word)| self.covering(word)).next()?;
        let exact =
            |word: &str| self.directory.paths(word).into_iter().find(|path| path.is_exact).map(|path| path.path);
        let file = file.map_or_else(|| Some(context.join("Dockerfile")), exact);
        let ignore = docker::missing_ignore_rule(self.clone_dir, &context, file.as_deref(), self.matcher)?;
        Some((program.to_owned(), ignore.remedy()))
    }

    fn covers(&self, word: &str) -> bool {
        !self.covering(word).is_empty()
    }

    /// The directories that a word stands for and that contain the keys. `*` stands for what is in its directory, and
    /// has no dot at the beginning.
    fn covering(&self, word: &str) -> Vec<PathBuf> {
        let directory = word.trim_end_matches('*');
        let is_pattern = directory.len() < word.len() && (directory.is_empty() || directory.ends_with('/'));
        let word = match directory {
            _ if !is_pattern => word,
            "" => ".",
            directory => directory,
        };
        let paths = self.directory.paths(word).into_iter().filter(|path| path.is_exact).map(|path| path.path);
        paths
            .filter(|path| match self.clone_dir.destination.strip_prefix(path) {
                Ok(rest) => !is_pattern || !rest.to_string_lossy().starts_with('.'),
                Err(_) => false,
            })
            .collect()
    }

    /// Whether an option leaves the directory out: one that names it, that names everything, or that reads our
    /// `.gitignore`.
    fn excludes(&self, words: &[String]) -> bool {
        let mut is_excluding = false;
        words.iter().any(|word| {
            if word.starts_with('-') {
                let options = ["-x", "--exclude", "--filter", "--ignore", "-X"];
                is_excluding = options.iter().any(|option| word.starts_with(option));
            }
            let value = plain(word.split_once('=').map_or(word, |(_, value)| value));
            let is_everything = is_excluding && matches!(&*value, "*" | "**" | "./*");
            let reads_gitignore = word.contains(".gitignore") || word == "--exclude-vcs-ignores";
            let is_list = || is_excluding && word.contains("from=") && self.is_in_list(&value);
            reads_gitignore || is_everything || (is_excluding && self.is_named(word)) || is_list()
        })
    }

    /// Whether a file with patterns names the directory.
    fn is_in_list(&self, file: &str) -> bool {
        docker::read_list(file, self.clone_dir, self.matcher).lines().any(|line| self.is_named(line))
    }

    fn is_named(&self, text: &str) -> bool {
        has_name(text, &self.clone_dir.destination)
    }
}

/// The words that name what a program sends, or `None` if it sends nothing. Values of options may be among them.
fn sources<'w>(program: &str, words: &'w [String]) -> Option<&'w [String]> {
    let has = |all: &[&str]| words.iter().any(|word| all.contains(&word.as_str()));
    let short = |c: char| words.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(c));
    let recurses = short('r') || short('R') || has(&["--recursive"]);
    // The sources stand before what they are copied to.
    let to = |schemes: &[&str]| {
        let is_local =
            |word: &str| ["-", "$HOME", "$PWD", "$BITBUCKET_CLONE_DIR"].iter().any(|dir| word.starts_with(dir));
        let is_remote = |word: &String| word.starts_with('$') || schemes.iter().any(|scheme| word.contains(scheme));
        let at = words.iter().rposition(|word| !is_local(&word.replace("${", "$")) && is_remote(word));
        at.map(|at| &words[..at])
    };
    match program {
        "rsync" => to(&[":"]),
        "scp" if recurses => to(&[":"]),
        "zip" if recurses => words.get(1..),
        "7z" | "7za" if has(&["a"]) => words.get(1..),
        "tar" | "gtar" | "bsdtar" => {
            let creates = |word: &String| !word.starts_with("--") && word.contains('c');
            (words.first().is_some_and(creates) || short('c') || has(&["--create"])).then_some(words)
        }
        "aws" if has(&["s3"]) && (has(&["sync"]) || (has(&["cp", "mv"]) && recurses)) => to(&["s3://"]),
        "s3cmd" if has(&["sync", "put"]) => to(&["s3://"]),
        "gsutil" if has(&["rsync"]) || (has(&["cp"]) && recurses) => to(&["gs://"]),
        "gcloud" if has(&["storage"]) && (has(&["rsync"]) || (has(&["cp"]) && recurses)) => to(&["gs://"]),
        "rclone" if has(&["copy", "sync"]) => to(&[":"]),
        "azcopy" if has(&["copy", "cp", "sync"]) => to(&["https://"]),
        "az" if has(&["upload-batch"]) => Some(words),
        "docker" | "podman" | "nerdctl" | "kubectl" | "oc" if has(&["cp"]) => to(&[":"]),
        // Our own `.gitignore` does not keep it from that.
        "git" if has(&["add"]) && (has(&["--force"]) || short('f')) => Some(words),
        _ => None,
    }
}

/// `tar -C DIRECTORY`
fn directory_option<'w>(program: &str, words: &'w [String]) -> Option<&'w str> {
    let at = words.iter().position(|word| word == "-C" || word == "--directory");
    let next = at.and_then(|at| words.get(at + 1)).map(String::as_str);
    let joined = || words.iter().find_map(|word| word.strip_prefix("--directory="));
    next.or_else(joined).filter(|_| program == "tar")
}
