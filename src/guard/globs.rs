//! Matches patterns and paths, by rules that are only partly documented.
//!
//! For the patterns of artifacts Bitbucket gives examples only, and emulators differ (docs/protocol.md, "Artifacts and
//! caches"), so there are several [`Rules`]. No pattern may be slow: the matcher follows all alternatives at once,
//! which takes at most the length of the pattern times that of the path, and it counts these steps.
//!
//! `globset` has such rules as options (`literal_separator`) and is linear, too. It is not used because of its size:
//! with its seven crates it adds 668 kB to the binary, 282 kB compressed.

use std::cell::Cell;

use crate::limits::{PATTERN_ALTERNATIVES, PATTERN_SIZE, PATTERN_WORK};

/// How to read a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// What every implementation matches: `*` is part of a name, `**` is any number of directories.
    Strict,
    /// What any implementation might match: `*`, `?` and classes match `/`, too, and wildcards match a dot at the
    /// beginning of a name. A pattern that matches a directory also matches its contents.
    Lenient,
    /// `.dockerignore`, which is lenient but for `/`.
    Docker,
}

/// Matches patterns as long as its work is within the limit.
#[derive(Debug)]
pub(super) struct Matcher {
    work_left: Cell<usize>,
}

impl Matcher {
    pub(super) fn new() -> Self {
        Self { work_left: Cell::new(PATTERN_WORK) }
    }

    /// Whether every pattern was matched. If not, some were treated as if they matched nothing.
    pub(super) fn is_complete(&self) -> bool {
        self.work_left.get() > 0
    }

    /// Whether `pattern` matches `path`, which does not begin with `/`.
    pub(super) fn matches(&self, pattern: &str, path: &str, rules: Rules) -> bool {
        self.alternatives(pattern).iter().any(|pattern| self.matches_one(pattern, path, rules))
    }

    /// Expands `a{b,c}` to `ab` and `ac`. Braces that are not closed or have no comma in them are ordinary characters.
    /// Returns nothing if that exceeds a limit.
    pub(super) fn alternatives(&self, pattern: &str) -> Vec<String> {
        if pattern.len() > PATTERN_SIZE || !self.spend(1 + pattern.len()) {
            self.work_left.set(0);
            return Vec::new();
        }
        let mut all = vec![pattern.to_owned()];
        let mut done = 0;
        while let Some(one) = all.get(done) {
            let Some((before, choices, after)) = braces(one) else {
                done += 1;
                continue;
            };
            let new: Vec<_> = choices.split(',').map(|choice| format!("{before}{choice}{after}")).collect();
            if !self.spend(new.iter().map(String::len).sum()) || all.len() + new.len() > PATTERN_ALTERNATIVES {
                self.work_left.set(0);
                return Vec::new();
            }
            all.splice(done..=done, new);
        }
        all
    }

    fn matches_one(&self, pattern: &str, path: &str, rules: Rules) -> bool {
        // A cheap check first: most patterns begin with the name of another directory.
        let name = pattern.split(['*', '?', '[', '\\']).next().unwrap_or_default();
        if !self.spend(1 + name.len()) || !path.starts_with(name) {
            return false;
        }
        let tokens = tokens(pattern);
        let end = tokens.len();
        if !self.spend((end + 1) * (path.chars().count() + 1)) {
            return false;
        }
        // The tokens that could be next.
        let mut at = vec![false; end + 1];
        mark(&mut at, &tokens, 0);
        let mut before = '/';
        for c in path.chars() {
            if rules != Rules::Strict && c == '/' && at[end] {
                return true;
            }
            let hidden = c == '.' && before == '/' && rules == Rules::Strict;
            let mut next = vec![false; end + 1];
            for (n, token) in tokens.iter().enumerate().filter(|(n, _)| at[*n]) {
                let wild = !hidden && (c != '/' || rules == Rules::Lenient);
                let to = match token {
                    Token::Char(this) => (*this == c).then_some(n + 1),
                    Token::One => wild.then_some(n + 1),
                    Token::Class(class) => (wild && class.has(c)).then_some(n + 1),
                    Token::Star => wild.then_some(n),
                    Token::Rest => (!hidden).then_some(n),
                    Token::Directories => (!hidden && c != '/').then_some(n + 1),
                    Token::InDirectory if c == '/' => Some(n - 1),
                    Token::InDirectory => Some(n),
                };
                if let Some(to) = to {
                    mark(&mut next, &tokens, to);
                }
            }
            at = next;
            before = c;
        }
        at[end]
    }

    /// Subtracts work from what is left. Returns whether there was enough.
    pub(super) fn spend(&self, work: usize) -> bool {
        self.work_left.set(self.work_left.get().saturating_sub(work));
        self.is_complete()
    }
}

/// The text before, in and after the first innermost braces that have a comma in them.
fn braces(pattern: &str) -> Option<(&str, &str, &str)> {
    let mut open = None;
    let mut is_escaped = false;
    for (at, c) in pattern.char_indices() {
        if is_escaped || c == '\\' {
            is_escaped = !is_escaped;
            continue;
        }
        match (c, open) {
            ('{', _) => open = Some(at),
            ('}', Some(from)) => match &pattern[from + 1..at] {
                choices if choices.contains(',') => return Some((&pattern[..from], choices, &pattern[at + 1..])),
                _ => open = None,
            },
            _ => {}
        }
    }
    None
}

#[derive(Debug)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `[…]`
    Class(Class),
    /// `*`, or `**` as part of a name.
    Star,
    /// `**` at the end: everything.
    Rest,
    /// `**/` becomes two tokens. This one is where the name of a directory may begin.
    Directories,
    /// The second token of `**/`, which is within the name of a directory.
    InDirectory,
}

/// Marks a token as one that could be next, and also those after it if it may match nothing.
fn mark(at: &mut [bool], tokens: &[Token], mut n: usize) {
    while !at[n] {
        at[n] = true;
        n += match tokens.get(n) {
            Some(Token::Star | Token::Rest) => 1,
            Some(Token::Directories) => 2,
            _ => return,
        };
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let stars = rest.iter().take_while(|c| **c == '*').count();
        let whole_name = stars > 1 && (at == 0 || chars[at - 1] == '/');
        let (token, length) = match rest {
            ['*', ..] if whole_name && stars == rest.len() => (Token::Rest, stars),
            ['*', ..] if whole_name && rest[stars] == '/' => (Token::Directories, stars + 1),
            ['*', ..] => (Token::Star, stars),
            ['?', ..] => (Token::One, 1),
            ['[', after @ ..] => match Class::parse(after) {
                Some((class, length)) => (Token::Class(class), length + 1),
                None => (Token::Char('['), 1),
            },
            ['\\', escaped, ..] => (Token::Char(*escaped), 2),
            _ => (Token::Char(rest[0]), 1),
        };
        at += length;
        let within = matches!(token, Token::Directories).then_some(Token::InDirectory);
        tokens.push(token);
        tokens.extend(within);
    }
    tokens
}

/// `[a-z_]`, `[!0-9]`
#[derive(Debug)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    /// The longest class. Every character is compared with all of it.
    const PATTERN_SIZE: usize = 128;

    /// Parses what follows `[`. Returns the length, too, including `]`.
    fn parse(chars: &[char]) -> Option<(Self, usize)> {
        let negated = matches!(chars.first(), Some('!' | '^'));
        let from = usize::from(negated);
        // A `]` in the first position is a member.
        let length = chars.iter().take(Self::PATTERN_SIZE).skip(from + 1).position(|c| *c == ']')? + from + 1;
        let mut members = &chars[from..length];
        let mut ranges = Vec::new();
        while let [first, rest @ ..] = members {
            let (last, rest) = if let ['-', last, rest @ ..] = rest { (last, rest) } else { (first, rest) };
            ranges.push((*first, *last));
            members = rest;
        }
        Some((Self { negated, ranges }, length + 1))
    }

    fn has(&self, c: char) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str, rules: Rules) -> bool {
        Matcher::new().matches(pattern, path, rules)
    }

    #[test]
    fn patterns_that_all_rules_match() {
        for (pattern, path) in [
            ("**", "d/key"),
            ("**", "key"),
            ("**/*", "d/key"),
            ("**/*", "key"),
            ("*/**", "d/key"),
            ("d/**", "d/key"),
            ("d/*", "d/key"),
            ("**/key", "a/b/key"),
            ("**/key", "key"),
            ("a/**/key", "a/key"),
            ("d/ke?", "d/key"),
            ("d/[j-l]ey", "d/key"),
            ("d/[!a]ey", "d/key"),
            ("d/{key,x}", "d/key"),
            ("{a,d}/**", "d/key"),
            (r"d/\key", "d/key"),
            (".d/**", ".d/key"),
            ("d/k**y", "d/key"),
        ] {
            assert!(matches(pattern, path, Rules::Strict), "{pattern} {path}");
            assert!(matches(pattern, path, Rules::Lenient), "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_that_only_lenient_rules_match() {
        for (pattern, path) in [
            ("*", "d/key"),
            ("d", "d/key"),
            ("*.pub", "d/key.pub"),
            ("d*", "d/key"),
            ("**", ".d/key"),
            ("**/*", ".d/key"),
            ("*/key", "a/b/key"),
            ("d?key", "d/key"),
            ("?d/**", ".d/key"),
        ] {
            assert!(!matches(pattern, path, Rules::Strict), "{pattern} {path}");
            assert!(matches(pattern, path, Rules::Lenient), "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_that_do_not_match() {
        for (pattern, path) in [
            ("", "d/key"),
            ("build/**", "d/key"),
            ("d/*.txt", "d/key"),
            ("./**", "d/key"),
            ("/**/x", "d/key"),
            ("dd/**", "d/key"),
            ("d/key/", "d/key"),
            ("[", "d/key"),
            ("d/[a", "d/key"),
            ("{", "d/key"),
            ("{a,b", "d/key"),
            ("**/.*", "d/key"),
            ("d/[]]ey", "d/key"),
        ] {
            assert!(!matches(pattern, path, Rules::Lenient), "{pattern} {path}");
        }
    }

    #[test]
    fn a_dockerignore_excludes_the_contents_of_a_directory() {
        for pattern in ["d", "*", "**", "**/key", "d/k*"] {
            assert!(matches(pattern, "d/key", Rules::Docker), "{pattern}");
        }
        assert!(matches("*", ".d/key", Rules::Docker));
        assert!(!matches("key", "d/key", Rules::Docker) && !matches("*.d", "d/key", Rules::Docker));
    }

    #[test]
    fn no_pattern_is_slow() {
        let path = "a".repeat(4000);
        for pattern in [
            "*a".repeat(2000),
            "**/".repeat(1300),
            "{a,b}".repeat(50),
            "[!b]*".repeat(800),
            "*".repeat(PATTERN_SIZE + 1),
        ] {
            let matcher = Matcher::new();
            assert!(!matcher.matches(&pattern, &path, Rules::Lenient));
            assert!(!matcher.is_complete());
        }
        let matcher = Matcher::new();
        assert!(!matcher.matches(&format!("{}b", "*a".repeat(400)), &path, Rules::Lenient));
        assert!(matcher.is_complete());
    }

    #[test]
    fn lenient_rules_match_whatever_strict_rules_match() {
        // A generator with the same numbers in each run.
        let mut state = 7_u32;
        let mut random = |limit: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % limit
        };
        let parts = ["a", "b", ".", "/", "*", "**", "**/", "?", "[ab]", "{a,b}", "[", "}", "\\"];
        let names = ["a", "b", ".", "/a", "a/b"];
        let mut matched = 0;
        for _ in 0..50_000 {
            let pattern: String = (0..random(7)).map(|_| parts[random(parts.len())]).collect();
            let path: String = (0..=random(4)).map(|_| names[random(names.len())]).collect();
            if matches(&pattern, &path, Rules::Strict) {
                matched += 1;
                assert!(matches(&pattern, &path, Rules::Lenient), "{pattern} {path}");
            }
        }
        assert!(matched > 1000, "{matched}");
    }
}
