//! Files of the clone directory into which a step's own commands write its ID token.

use super::actions::{Action, actions};
use super::captures::Source;
use super::clone_dir::CloneDir;
use super::globs::Matcher;
use super::pipelines_yaml::Step;
use super::shell_words::SimpleCommand;
use super::working_directory::WorkingDirectory;
use crate::limits::TOKEN_FILES;

/// Programs that print their arguments or the environment.
const PRINT: [&str; 4] = ["echo", "printf", "jq", "cat"];
const PRINT_ENVIRONMENT: [&str; 2] = ["env", "printenv"];

/// A file with the ID token that artifacts or a cache may take.
#[derive(Debug)]
pub(super) struct TokenFile<'t> {
    /// The path in the clone directory, and the line with the command that writes it.
    pub(super) path: String,
    pub(super) written_at: usize,
    pub(super) source: Source<'t>,
    pub(super) line: usize,
}

impl<'t> Step<'t> {
    pub(super) fn token_files(
        &self,
        clone_dir: &CloneDir,
        home: Option<&str>,
        matcher: &Matcher,
    ) -> Vec<TokenFile<'t>> {
        let mut files = Vec::new();
        for script in [&self.script, &self.after_script] {
            written(&actions(script, matcher), clone_dir, matcher, &mut files);
        }
        let captured = files.into_iter().filter_map(|(path, written_at)| {
            let (source, line) = self.taking(&path, clone_dir, home, matcher)?;
            Some(TokenFile { path, written_at, source, line })
        });
        captured.collect()
    }

    /// The artifacts or the cache that may take a file.
    fn taking(
        &self,
        path: &str,
        clone_dir: &CloneDir,
        home: Option<&str>,
        matcher: &Matcher,
    ) -> Option<(Source<'t>, usize)> {
        let artifacts = self.artifacts.iter().find_map(|upload| {
            let takes = |(pattern, _): &&(&'t str, usize)| upload.may_take(pattern, path, clone_dir, matcher);
            upload.paths.iter().find(takes).map(|(pattern, line)| (Source::Artifacts(pattern), *line))
        });
        let file = clone_dir.path.join(path);
        artifacts.or_else(|| {
            let mut caches = self.caches.iter();
            let cache = caches.find(|cache| cache.paths(clone_dir, home).iter().any(|path| file.starts_with(path)))?;
            Some((Source::Cache(cache.name), cache.line))
        })
    }
}

/// Adds the files that a script writes, and takes away those that it names in a later removal.
fn written(script: &[Action<'_>], clone_dir: &CloneDir, matcher: &Matcher, files: &mut Vec<(String, usize)>) {
    let mut directory = WorkingDirectory::new(clone_dir, matcher);
    // Whether the token comes from the command before.
    let mut comes_in = false;
    for action in script {
        let Action::Shell { command, line } = action else { continue };
        directory.follow(command);
        if command.words.iter().any(|word| word == "rm" || word == "shred") {
            let removed: Vec<_> = command.words.iter().flat_map(|word| directory.paths(word)).collect();
            files.retain(|(path, _)| {
                let path = clone_dir.path.join(path);
                !removed.iter().any(|removed| path.starts_with(&removed.path))
            });
        }
        let has_token = comes_in || prints_token(command);
        comes_in = has_token && command.is_piped;
        if !has_token {
            continue;
        }
        let is_tee = matches!(command.program(), Some(("tee", _)));
        let operands = command.words.iter().skip(1).filter(|word| is_tee && !word.starts_with('-'));
        let paths = command.outputs.iter().chain(operands).flat_map(|word| directory.paths(word));
        let inside = paths.filter(|path| path.is_exact).filter_map(|path| {
            path.path.strip_prefix(&clone_dir.path).ok().map(|path| path.to_string_lossy().into_owned())
        });
        for path in inside {
            if files.len() < TOKEN_FILES && files.iter().all(|(file, _)| *file != path) {
                files.push((path, *line));
            }
        }
    }
}

fn prints_token(command: &SimpleCommand) -> bool {
    let has_token =
        |word: &String| word.contains("$BITBUCKET_STEP_OIDC_TOKEN") || word.contains("${BITBUCKET_STEP_OIDC_TOKEN");
    match command.program() {
        Some((program, [])) => PRINT_ENVIRONMENT.contains(&program),
        Some(("export" | "declare", [option])) => option == "-p",
        Some((program, words)) => PRINT.contains(&program) && words.iter().any(has_token),
        None => false,
    }
}
