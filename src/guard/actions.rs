//! What a step does, in order: its scripts as pipes and commands of a shell.

use super::globs::Matcher;
use super::pipelines_yaml::Command;
use super::shell_words::{Shell, SimpleCommand};

/// Part of the names of our pipe, its image and its binary.
pub(super) const PROGRAM: &str = "teleport-pipe";

/// Programs that only print their arguments.
const PRINT: [&str; 3] = ["echo", "printf", ":"];

#[derive(Clone, Debug)]
pub(super) enum Action<'p> {
    Shell { command: SimpleCommand, line: usize },
    Pipe { reference: &'p str, variables: &'p [(&'p str, &'p str)], line: usize, is_certain: bool },
}

/// Reads a script. If that exceeds the work that is left, the rest is missing, and the matcher is not complete.
pub(super) fn actions<'p>(entries: &'p [Command<'_>], matcher: &Matcher) -> Vec<Action<'p>> {
    let mut shell = Shell::new();
    let mut actions = Vec::new();
    for entry in entries {
        match entry {
            // A character of a script costs less than a step of the matcher.
            Command::Shell { text, line } if matcher.spend(1 + text.len() / 2) => {
                // The working directory is known, unlike the output of other commands.
                let text = text.replace("$(pwd)", "$PWD").replace("`pwd`", "$PWD");
                actions.extend(shell.read(&text).into_iter().map(|command| Action::Shell { command, line: *line }));
            }
            Command::Shell { .. } => break,
            Command::Pipe { reference, variables, line } => {
                actions.push(Action::Pipe { reference, variables, line: *line, is_certain: shell.is_certain() });
                shell.doubt();
            }
        }
    }
    actions
}

impl Action<'_> {
    pub(super) fn line(&self) -> usize {
        let (Self::Shell { line, .. } | Self::Pipe { line, .. }) = self;
        *line
    }

    /// Whether this runs our program, or may run it. A mirror can give the pipe another name, but not other variables.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Shell { command, .. } => !command.only_prints() && command.words.iter().any(|w| w.contains(PROGRAM)),
            Self::Pipe { reference, variables, .. } => {
                let has = |variable| variables.iter().any(|(name, _)| *name == variable);
                reference.contains(PROGRAM) || (has("PROXY_SERVER") && has("TOKEN"))
            }
        }
    }

    pub(super) fn is_cleanup(&self) -> bool {
        match self {
            Self::Shell { command, .. } => {
                command.words.iter().any(|word| word == "cleanup" || word == "ACTION=cleanup")
            }
            Self::Pipe { variables, .. } => variables.contains(&("ACTION", "cleanup")),
        }
    }

    /// Whether this runs in any case.
    pub(super) fn is_certain(&self) -> bool {
        match self {
            Self::Shell { command, .. } => command.is_certain,
            Self::Pipe { is_certain, .. } => *is_certain,
        }
    }

    /// Whether this runs unless something before it fails.
    pub(super) fn is_unconditional(&self) -> bool {
        match self {
            Self::Shell { command, .. } => command.is_unconditional,
            Self::Pipe { .. } => true,
        }
    }

    pub(super) fn writes_keys(&self) -> bool {
        self.is_ours() && !self.is_cleanup()
    }
}

impl SimpleCommand {
    /// Whether the arguments are text for the log or a file, and run nothing.
    pub(super) fn only_prints(&self) -> bool {
        !self.is_piped && self.program().is_none_or(|(program, _)| PRINT.contains(&program))
    }
}
