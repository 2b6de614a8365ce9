//! The directory in which the commands of a script run.

use std::path::{Path, PathBuf};

use super::clone_dir::CloneDir;
use super::globs::Matcher;
use super::removal::{ShellPath, paths};
use super::shell_words::SimpleCommand;

/// Follows `cd`, which ends with its subshell.
pub(super) struct WorkingDirectory<'c> {
    clone_dir: &'c CloneDir,
    matcher: &'c Matcher,
    /// For each subshell its directory, or `None` if that is not known.
    directories: Vec<Option<PathBuf>>,
}

impl<'c> WorkingDirectory<'c> {
    pub(super) fn new(clone_dir: &'c CloneDir, matcher: &'c Matcher) -> Self {
        Self { clone_dir, matcher, directories: vec![Some(clone_dir.path.clone())] }
    }

    /// Goes on to this command, and to where it goes.
    pub(super) fn follow(&mut self, command: &SimpleCommand) {
        let last = self.current().map(Path::to_owned);
        self.directories.resize(command.depth.min(MAX_SUBSHELLS) + 1, last);
        let Some((program @ ("cd" | "pushd" | "popd"), arguments)) = command.program() else { return };
        let to = arguments.iter().find(|word| !word.starts_with('-')).filter(|_| program != "popd");
        let to = to.and_then(|word| self.paths(word).into_iter().find(|path| path.is_exact));
        if let Some(current) = self.directories.last_mut() {
            *current = to.map(|to| to.path);
        }
    }

    /// The paths that a word stands for. Empty if they are not known.
    pub(super) fn paths(&self, word: &str) -> Vec<ShellPath> {
        if word.starts_with(['/', '$', '~']) {
            return paths(word, self.clone_dir, self.matcher);
        }
        match self.current() {
            Some(directory) if directory == self.clone_dir.path => paths(word, self.clone_dir, self.matcher),
            Some(directory) => paths(&format!("{}/{word}", directory.display()), self.clone_dir, self.matcher),
            None => Vec::new(),
        }
    }

    fn current(&self) -> Option<&Path> {
        self.directories.last()?.as_deref()
    }
}

/// Deeper subshells share a directory.
const MAX_SUBSHELLS: usize = 16;
