//! Reads the commands of a script as words: quotes, comments, here-documents and redirections, and which commands run in
//! any case. It is not a shell: it expands nothing, and what it does not understand it only makes less certain.
//!
//! The work is linear in the length of the script.

/// A program with its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SimpleCommand {
    /// A `\` stands before characters that quotes have made ordinary ones (see [`plain`]).
    pub(super) words: Vec<String>,
    /// The files that its output goes to.
    pub(super) outputs: Vec<String>,
    /// It reads a file, which may not be there.
    pub(super) has_input: bool,
    /// Its output is the input of the next command.
    pub(super) is_piped: bool,
    /// It runs unless a command before it fails or ends the script: there is no condition.
    pub(super) is_unconditional: bool,
    /// It runs in any case: no command before it may fail or end the script, either.
    pub(super) is_certain: bool,
    /// How many subshells it runs in. What `cd` does ends with its subshell.
    pub(super) depth: usize,
}

/// Scripts in scripts (`sh -c`) are read up to this depth.
const MAX_DEPTH: usize = 4;

/// Programs that run another one: `sudo rm`. With the letters of the options whose value is the next word, and the number
/// of words before the other program.
const PREFIXES: [(&str, &str, usize); 14] = [
    ("sudo", "ugCDhprtTU", 0),
    ("command", "", 0),
    ("env", "uCS", 0),
    ("exec", "a", 0),
    ("nice", "n", 0),
    ("ionice", "cn", 0),
    ("nohup", "", 0),
    ("time", "fo", 0),
    ("builtin", "", 0),
    ("busybox", "", 0),
    ("stdbuf", "ioe", 0),
    ("timeout", "ks", 1),
    ("retry", "", 1),
    ("sshpass", "pfd", 0),
];

const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "zsh", "ksh"];

/// Words that begin or end a compound command. Nothing after one of them is certain.
const RESERVED: [&str; 17] = [
    "if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "select", "function",
    "{", "}", "!",
];

/// Programs that always succeed, so that the next command is reached. `rm` is one of them with `-f`.
const SUCCEED: [&str; 9] = ["echo", "printf", "true", ":", "date", "pwd", "set", "export", "unset"];

impl SimpleCommand {
    /// The name of the program, and its arguments. Returns `None` if there are only assignments.
    pub(super) fn program(&self) -> Option<(&str, &[String])> {
        let mut words = &self.words[..];
        loop {
            let (word, rest) = words.split_first()?;
            let name = word.strip_prefix('\\').unwrap_or(word);
            let name = ["/bin/", "/usr/bin/"].iter().find_map(|dir| name.strip_prefix(dir)).unwrap_or(name);
            // `command -v rm` says where it is, `sudo -l rm` who may run it.
            let looks = |word: &String| matches!((name, word.as_str()), ("command", "-v" | "-V") | ("sudo", "-l"));
            let only_looks = rest.first().is_some_and(looks);
            let prefix =
                PREFIXES.iter().find(|(prefix, ..)| *prefix == name).filter(|_| !rest.is_empty() && !only_looks);
            match prefix {
                _ if is_assignment(word) => words = rest,
                Some((_, with_value, operands)) => words = after_options(rest, with_value).get(*operands..)?,
                None => return Some((name, rest)),
            }
        }
    }

    /// The script that a shell gets as an argument: `sh -c '…'`, `eval …`.
    fn script(&self) -> Option<String> {
        let (program, arguments) = self.program()?;
        if program == "eval" {
            return Some(plain(&arguments.join(" ")));
        }
        let option = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
        let at = arguments.iter().position(option).filter(|_| SHELLS.contains(&program))?;
        // `sh -n` reads a script and does not run it.
        let runs = !arguments[..=at].iter().any(|word| word.starts_with('-') && word.contains('n'));
        arguments.get(at + 1).filter(|_| runs).map(|script| plain(script))
    }

    /// Whether it does not run if a file cannot be opened.
    pub(super) fn has_files(&self) -> bool {
        self.has_input || self.outputs.iter().any(|output| output != "/dev/null")
    }

    /// Whether it cannot fail. An output may be impossible to open, and `${X?}` may be unset.
    fn succeeds(&self) -> bool {
        let may_fail = |word: &String| word.contains("${") && word.contains('?');
        if self.has_files() || self.words.iter().any(may_fail) {
            return false;
        }
        match self.program() {
            Some(("rm", arguments)) => arguments.iter().any(|word| word.starts_with('-') && word.contains('f')),
            Some((program, _)) => SUCCEED.contains(&program),
            // Without a PATH no program is found.
            None => {
                let is_harmless =
                    |word: &String| !word.contains("$(") && !word.contains('`') && !word.starts_with("PATH=");
                self.words.iter().all(is_harmless)
            }
        }
    }
}

/// The words behind options. The value of an option may be the next word: `-n 10`.
fn after_options<'w>(mut words: &'w [String], with_value: &str) -> &'w [String] {
    while let Some((option, rest)) = words.split_first().filter(|(word, _)| word.starts_with('-')) {
        let has_value = option.len() == 2 && option[1..].contains(|c| with_value.contains(c));
        words = rest.get(usize::from(has_value)..).unwrap_or_default();
    }
    words
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The word without the `\` that protect characters.
pub(super) fn plain(word: &str) -> String {
    let mut chars = word.chars();
    let mut plain = String::with_capacity(word.len());
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}

/// What follows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// `;`, a line break, or the end of the script.
    Separator,
    Background,
    And,
    Or,
    Pipe,
    /// `(`: a subshell, a function or an array.
    Parenthesis,
}

/// A shell that reads one entry of a script after the other.
#[derive(Debug)]
pub(super) struct Shell {
    /// No command so far may have failed or ended the script.
    is_certain: bool,
    /// A compound command began, so that `exit` may be a part of one.
    is_compound: bool,
    /// The script ends before what is read next.
    has_ended: bool,
    /// A variable that is not set makes a command fail.
    is_nounset: bool,
    /// What the command before this one ended with, and whether all commands since the last separator succeed.
    before: End,
    all_succeed: bool,
}

impl Shell {
    pub(super) fn new() -> Self {
        let (is_certain, all_succeed) = (true, true);
        let (is_compound, has_ended, is_nounset) = (false, false, false);
        Self { is_certain, is_compound, has_ended, is_nounset, before: End::Separator, all_succeed }
    }

    pub(super) fn is_certain(&self) -> bool {
        self.is_certain && !self.has_ended
    }

    /// Something that is not read here may fail.
    pub(super) fn doubt(&mut self) {
        self.is_certain = false;
    }

    /// The commands of the next entry. `sh -c '…'` is followed by the commands in its argument.
    pub(super) fn read(&mut self, text: &str) -> Vec<SimpleCommand> {
        let mut commands = Vec::new();
        self.read_nested(text, 0, &mut commands);
        commands
    }

    fn read_nested(&mut self, text: &str, depth: usize, commands: &mut Vec<SimpleCommand>) {
        (self.before, self.all_succeed) = (End::Separator, true);
        let mut reader = Reader::new(text);
        while let Some((mut command, end)) = reader.next().filter(|_| !self.has_ended) {
            // An empty line, also between `&&` and the next command.
            if command.words.is_empty() && command.outputs.is_empty() && end == End::Separator {
                continue;
            }
            self.follow(&mut command, end);
            command.depth += depth;
            let script = command.script().filter(|_| depth < MAX_DEPTH);
            let (is_certain, is_compound) = (command.is_certain, !command.is_unconditional);
            let mut inner = Self { is_certain, is_compound, ..Self::new() };
            commands.push(command);
            if let Some(script) = script {
                inner.read_nested(&script, depth + 1, commands);
            }
        }
    }

    /// Follows `set -u`, and `set -n`, after which nothing runs.
    fn set_options(&mut self, command: &SimpleCommand) {
        let Some(("set", options)) = command.program() else { return };
        let has = |option: char| options.iter().any(|word| word.starts_with('-') && word.contains(option));
        self.is_nounset |= has('u') || options.iter().any(|word| word == "nounset");
        self.is_certain &= !has('n') && !options.iter().any(|word| word == "noexec");
    }

    /// Finds out whether a command is certain, and whether those after it are.
    fn follow(&mut self, command: &mut SimpleCommand, end: End) {
        let reserved = command.words.iter().take_while(|word| RESERVED.contains(&word.as_str())).count();
        command.words.drain(..reserved);
        self.is_compound |= reserved > 0 || command.depth > 0 || end == End::Parenthesis;
        self.is_certain &= !self.is_compound;
        let is_first = matches!(self.before, End::Separator | End::Background);
        command.is_piped = end == End::Pipe;
        command.is_unconditional = !self.is_compound && is_first && !matches!(end, End::Background | End::Pipe);
        command.is_certain = self.is_certain && command.is_unconditional;
        // It may leave the directory or the script, even if `|| true` follows.
        let changes_shell = matches!(command.program(), Some(("cd" | "pushd" | "popd" | "eval" | "source" | ".", _)));
        let is_exec = command.words.len() > 1 && command.words[0] == "exec";
        let exits = is_exec || matches!(command.program(), Some(("exit" | "return", _)));
        self.has_ended = exits && is_first && !matches!(end, End::Background | End::Pipe) && !self.is_compound;
        self.set_options(command);
        let succeeds = command.succeeds() && !(self.is_nounset && command.words.iter().any(|word| word.contains('$')));
        self.all_succeed &= succeeds;
        if end == End::Separator {
            // `a || true` succeeds, too.
            self.is_certain &= self.all_succeed || (succeeds && self.before == End::Or);
        }
        self.is_certain &= !changes_shell;
        if matches!(end, End::Separator | End::Background) {
            self.all_succeed = true;
        }
        self.before = end;
    }
}

/// What the word that is being read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Argument,
    Output,
    /// A file that is read, or the number of a descriptor.
    Nothing,
    /// The line that ends a here-document.
    HereDocument,
}

/// Divides a script into commands.
#[derive(Debug)]
struct Reader<'s> {
    rest: &'s str,
    command: SimpleCommand,
    word: Option<String>,
    used_for: Use,
    /// The lines that end the here-documents after this line.
    here_documents: Vec<String>,
    depth: usize,
}

impl<'s> Reader<'s> {
    fn new(rest: &'s str) -> Self {
        let command = SimpleCommand::default();
        Self { rest, command, word: None, used_for: Use::Argument, here_documents: Vec::new(), depth: 0 }
    }

    fn next(&mut self) -> Option<(SimpleCommand, End)> {
        if self.rest.is_empty() {
            return None;
        }
        self.command = SimpleCommand { depth: self.depth, ..SimpleCommand::default() };
        while let Some(c) = self.take() {
            if let Some(end) = self.character(c) {
                return Some((std::mem::take(&mut self.command), end));
            }
        }
        self.end_word();
        Some((std::mem::take(&mut self.command), End::Separator))
    }

    /// Reads a character outside of quotes. Returns what ends the command if it does.
    fn character(&mut self, c: char) -> Option<End> {
        match c {
            '\\' => match self.take() {
                Some('\n') | None => {}
                Some(escaped) => self.ordinary(escaped),
            },
            '\'' => self.until('\'', Self::ordinary),
            '"' => self.double_quotes(),
            '$' | '`' => self.substitution(c),
            '#' if self.word.is_none() => self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..],
            '<' | '>' => self.redirection(c),
            ' ' | '\t' | '\r' => self.end_word(),
            '\n' | ';' | '&' | '|' | '(' | ')' => return self.operator(c),
            _ => self.word.get_or_insert_default().push(c),
        }
        None
    }

    fn operator(&mut self, c: char) -> Option<End> {
        if c == '&' && self.rest.starts_with('>') {
            return None;
        }
        self.end_word();
        match c {
            '\n' => self.skip_here_documents(),
            '(' => self.depth += 1,
            ')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        Some(match c {
            '&' if self.takes('&') => End::And,
            '&' => End::Background,
            '|' if self.takes('|') => End::Or,
            '|' => {
                self.takes('&');
                End::Pipe
            }
            '(' => End::Parenthesis,
            _ => End::Separator,
        })
    }

    fn redirection(&mut self, c: char) {
        // `2>` has the number of a descriptor.
        let is_number = |word: &String| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        self.word = self.word.take().filter(|word| !is_number(word));
        self.end_word();
        if self.takes('(') {
            self.word = Some("<(".to_owned());
            return self.until_parenthesis();
        }
        self.used_for = match (c, self.takes(c)) {
            ('<', true) if self.takes('<') => Use::Nothing,
            ('<', true) => {
                self.takes('-');
                Use::HereDocument
            }
            ('<', false) => {
                self.command.has_input = true;
                Use::Nothing
            }
            _ if self.takes('&') => Use::Nothing,
            _ => {
                self.takes('|');
                Use::Output
            }
        };
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        match std::mem::replace(&mut self.used_for, Use::Argument) {
            Use::Argument => self.command.words.push(word),
            Use::Output => self.command.outputs.push(word),
            Use::HereDocument => self.here_documents.push(plain(&word)),
            Use::Nothing => {}
        }
    }

    fn skip_here_documents(&mut self) {
        for end in std::mem::take(&mut self.here_documents) {
            while !self.rest.is_empty() {
                let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
                self.rest = rest;
                if line.trim_start_matches('\t').trim_end_matches('\r') == end {
                    break;
                }
            }
        }
    }

    fn double_quotes(&mut self) {
        self.word.get_or_insert_default();
        while let Some(c) = self.take() {
            match c {
                '"' => return,
                '\\' if self.rest.starts_with(['$', '`', '"', '\\']) => {
                    let escaped = self.take().unwrap_or(c);
                    self.ordinary(escaped);
                }
                '\\' if self.takes('\n') => {}
                '$' | '`' => self.substitution(c),
                c => self.ordinary(c),
            }
        }
    }

    /// Reads `$(…)`, `${…}`, `` `…` ``, or a `$` before a name, as it is written.
    fn substitution(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
        match c {
            '`' => {
                self.until('`', Self::active);
                self.active('`');
            }
            _ if self.takes('(') => self.until_parenthesis(),
            _ if self.takes('{') => {
                self.active('{');
                self.until('}', Self::active);
                self.active('}');
            }
            _ => {}
        }
    }

    fn until_parenthesis(&mut self) {
        self.active('(');
        let mut open = 1;
        while open > 0
            && let Some(c) = self.take()
        {
            open = if c == '(' { open + 1 } else { open - usize::from(c == ')') };
            self.active(c);
        }
    }

    fn until(&mut self, end: char, push: fn(&mut Self, char)) {
        self.word.get_or_insert_default();
        while let Some(c) = self.take().filter(|c| *c != end) {
            push(self, c);
        }
    }

    /// Adds a character that a shell would replace.
    fn active(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    /// Adds a character that stands for itself.
    fn ordinary(&mut self, c: char) {
        let word = self.word.get_or_insert_default();
        if !(c.is_alphanumeric() || "/._-+=:@% ".contains(c)) {
            word.push('\\');
        }
        word.push(c);
    }

    fn take(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    fn takes(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands, with `!` before those that are certain.
    fn read(script: &str) -> Vec<String> {
        let show = |command: SimpleCommand| {
            let outputs: String = command.outputs.iter().map(|file| format!(" >{file}")).collect();
            format!("{}{}{outputs}", if command.is_certain { "!" } else { "" }, command.words.join(","))
        };
        Shell::new().read(script).into_iter().map(show).collect()
    }

    #[test]
    fn words() {
        for (script, words) in [
            ("rm  -rf\t./tbot-user # gone", "!rm,-rf,./tbot-user"),
            ("rm -rf \\\n  ./tbot-user", "!rm,-rf,./tbot-user"),
            ("a'b c'\"d $E `f`\"\\ g", "!ab cd $E `f` g"),
            ("'$A' \"\\$B\" \\*", r"!\$A,\$B,\*"),
            ("a#b '#' x$(y; z) ${A:-b c} $(a \"(\" b)", r"!a#b,\#,x$(y; z),${A:-b c},$(a "),
            ("echo {a,b} '{a,b}'", r"!echo,{a,b},\{a\,b\}"),
            ("a >b 2>/dev/null >>c <d 2>&1 &>e", "!a >b >/dev/null >c >e"),
            ("''", "!"),
            ("a 'open", "!a,open"),
        ] {
            assert!(read(script)[0].starts_with(words), "{script}: {:?}", read(script));
        }
        assert_eq!(plain(r"\$A\\ b"), r"$A\ b");
    }

    #[test]
    fn certain_commands() {
        for (script, commands) in [
            ("echo a; date && rm x\nrm -f y", "!echo,a !date rm,x rm,-f,y"),
            ("echo a\n\nrm -rf b; c; d", "!echo,a !rm,-rf,b !c d"),
            ("a || true; b || :; rm c", "!a true !b : !rm,c"),
            ("a || b; c", "!a b c"),
            ("a && b || true\nc", "!a b true !c"),
            ("a | b; c", "a b c"),
            ("a & b", "a !b"),
            ("cd a || true; b", "!cd,a true b"),
            ("a &&\nb", "!a b"),
            ("if x; then a; fi; b", "x a  b"),
            ("f() { a; }; b", "f a  b"),
            ("(a); b", " a b"),
            ("exit 0; a", "!exit,0"),
            ("x && exit 0; a", "!x exit,0 a"),
            ("exec a\nb", "!exec,a"),
            ("cat <<A <<-'B'\nrm x\nA\nrm y\n\tB\nc", "!cat c"),
            ("X=1 Y=$Z; X=$(y); a", "!X=1,Y=$Z !X=$(y) a"),
            ("sh -ec 'a; b'; c", "!sh,-ec,a\\; b !a b c"),
            ("bash -c \"exit; a\" || true; b", "!bash,-c,exit\\; a !exit true !b"),
            ("eval a b", "!eval,a,b !a,b"),
        ] {
            assert_eq!(read(script).join(" "), commands, "{script}");
        }
        let mut shell = Shell::new();
        shell.read("cd x");
        assert!(!shell.read("rm y")[0].is_certain && !shell.is_certain());
    }

    #[test]
    fn programs() {
        for (script, program) in [
            ("A=1 sudo -n /bin/rm x", Some("rm")),
            ("\\rm x", Some("rm")),
            ("command rm x", Some("rm")),
            ("env A=1 nice rm", Some("rm")),
            ("./rm", Some("./rm")),
            ("A=1", None),
        ] {
            assert_eq!(Shell::new().read(script)[0].program().map(|(program, _)| program), program, "{script}");
        }
    }

    #[test]
    fn scripts_in_scripts_have_a_limit() {
        let mut script = "rm x".to_owned();
        for _ in 0..12 {
            script = format!("sh -c '{}'", script.replace('\'', r"'\''"));
        }
        assert_eq!(Shell::new().read(&script).len(), MAX_DEPTH + 1);
    }
}
