//! The ways to read a pattern of artifacts.
//!
//! Bitbucket documents some patterns by examples and no grammar. What every program reads in the same way is certain;
//! what some program might read as the keys is worth a warning.

use std::borrow::Cow;

use super::globs::{Matcher, Rules};
use crate::limits::PATTERN_SIZE;

/// Variables that stand for the clone directory, and the home directory, which may contain it.
const DIRECTORIES: [&str; 5] = ["$BITBUCKET_CLONE_DIR", "${BITBUCKET_CLONE_DIR}", "$PWD", "${PWD}", "~"];

/// Whether every program matches `file` by this pattern.
pub(super) fn surely_matches(pattern: &str, file: &str, matcher: &Matcher) -> bool {
    let pattern = without_slash(pattern);
    // Not every program knows braces.
    matcher.spend(1 + pattern.len()) && !pattern.contains('{') && matcher.matches(pattern, file, Rules::Strict)
}

/// Whether some program might match `file` by this pattern. `clone_dir` is its absolute path.
pub(super) fn may_match(pattern: &str, file: &str, clone_dir: &str, matcher: &Matcher) -> bool {
    if pattern.len() > PATTERN_SIZE {
        // It is not read, so that the check is not complete.
        matcher.spend(usize::MAX);
        return true;
    }
    // Each reading below goes over the pattern several times.
    if !matcher.spend(1 + 8 * pattern.len()) {
        return false;
    }
    if matcher.matches(without_slash(pattern), file, Rules::Lenient) {
        return true;
    }
    let pattern = pattern.trim();
    match pattern.strip_prefix('!').filter(|rest| !rest.starts_with('(')) {
        // Everything else.
        Some(excluded) => {
            let excluded = excluded.trim_start_matches('!');
            !excluded.is_empty() && !matches_normalized(excluded, file, clone_dir, matcher)
        }
        None => matches_normalized(pattern, file, clone_dir, matcher),
    }
}

fn matches_normalized(pattern: &str, file: &str, clone_dir: &str, matcher: &Matcher) -> bool {
    let (included, excluded) = without_groups(&relative(pattern, clone_dir));
    let matches = |pattern: &str| matcher.matches(pattern, file, Rules::Lenient);
    matches(&included) && !excluded.is_some_and(|excluded| matches(&excluded))
}

fn without_slash(pattern: &str) -> &str {
    pattern.strip_suffix('/').unwrap_or(pattern)
}

/// The pattern as a path in the clone directory, without `.` and without slashes that change nothing.
fn relative(pattern: &str, clone_dir: &str) -> String {
    let below = |dir: &&str| pattern.strip_prefix(*dir).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let inside = DIRECTORIES.iter().chain([&clone_dir]).find_map(below).unwrap_or(pattern);
    let path = inside.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/");
    if path.is_empty() && !pattern.is_empty() { "**".to_owned() } else { path }
}

/// Replaces groups as bash has them: `@(a|b)` becomes `{a,b}`. For `!(a)` the second pattern is that of the excluded
/// paths.
fn without_groups(pattern: &str) -> (String, Option<String>) {
    let pattern = without_classes(pattern);
    let (mut included, mut excluded, mut negates) = (String::new(), String::new(), false);
    let mut rest = &*pattern;
    while let Some(open) = rest.find('(') {
        let (before, group) = (&rest[..open], &rest[open + 1..]);
        let kind = before.chars().last().filter(|c| "!@+*?".contains(*c));
        let Some((kind, close)) = kind.zip(group.find([')', '(']).filter(|at| group[*at..].starts_with(')'))) else {
            included += &rest[..=open];
            excluded += &rest[..=open];
            rest = group;
            continue;
        };
        let before = &before[..before.len() - 1];
        let braces = match (kind, group[..close].replace('|', ",")) {
            // Several names, each of which matches.
            ('+' | '*' | '?', names) if names.contains(['*', '?', '[']) => "*".to_owned(),
            ('!' | '@' | '+', one) if !one.contains(',') => one,
            ('!' | '@' | '+', several) => format!("{{{several}}}"),
            (_, several) => format!("{{{several},}}"),
        };
        included += &format!("{before}{}", if kind == '!' { "*" } else { &braces });
        excluded += &format!("{before}{braces}");
        negates |= kind == '!';
        rest = &group[close + 1..];
    }
    let plain = |pattern: String| if pattern.contains(',') { pattern } else { pattern.replace(['{', '}'], "") };
    (plain(included + rest), negates.then(|| plain(excluded + rest)))
}

/// Replaces `[[:alpha:]]` by any character.
fn without_classes(pattern: &str) -> Cow<'_, str> {
    let (mut plain, mut rest) = (String::new(), pattern);
    while let Some((open, class)) = rest.find("[:").and_then(|at| Some((rest[..at].rfind('[')?, &rest[at + 2..]))) {
        let Some(end) = class.find(":]").and_then(|at| Some(at + 2 + class[at + 2..].find(']')?)) else { break };
        plain = plain + &rest[..open] + "?";
        rest = &class[end + 1..];
    }
    if plain.is_empty() { Cow::Borrowed(pattern) } else { Cow::Owned(plain + rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_take_the_key(pattern: &str) -> bool {
        may_match(pattern, "tbot-user/key", "/c", &Matcher::new())
    }

    // F8.5: each of these takes the keys if a program reads it in its own way.
    #[test]
    fn patterns_that_some_program_reads_as_the_keys() {
        for pattern in [
            "/tbot-user/**",
            "./tbot-user/**",
            "tbot-user//**",
            "tbot-user/./**",
            " tbot-user/** ",
            "./**",
            "/**",
            "!dist/**",
            "!(dist)/**",
            "!(dist|build)/**",
            "@(tbot-user)/**",
            "@(dist|tbot-user)/**",
            "+(tbot-user)/**",
            "*(tbot-user)/**",
            "?(x)tbot-user/*",
            "+([a-z-])/**",
            "tbot-use[[:alpha:]]/**",
            "tbot-use[^[:digit:]_]/**",
            "{tbot-user/**}",
            "{tbot-user}/**",
            "$PWD/**",
            "${PWD}/tbot-user/*",
            "$BITBUCKET_CLONE_DIR/**",
            "${BITBUCKET_CLONE_DIR}",
            "/c/**",
            "~/**",
        ] {
            assert!(may_take_the_key(pattern), "{pattern}");
            assert!(!surely_matches(pattern, "tbot-user/key", &Matcher::new()), "{pattern}");
        }
    }

    #[test]
    fn patterns_that_no_program_reads_as_the_keys() {
        for pattern in [
            "",
            "!",
            "!tbot-user/**",
            "!**",
            "!(tbot-user)/**",
            "@(dist)/**",
            "../**",
            "~/.m2/**",
            "/other/**",
            "$DIST/**",
            "dist(1)/**",
            "(tbot-user",
            "[[:alpha:]",
            "dist/**",
        ] {
            assert!(!may_take_the_key(pattern), "{pattern}");
        }
    }

    #[test]
    fn hostile_patterns_take_linear_time() {
        for pattern in ["@(", "!(a", "@(a)", "[[:a:]]", "[:", "[[:", "{a,{b,", "!"] {
            may_take_the_key(&pattern.repeat(PATTERN_SIZE / pattern.len()));
        }
    }
}
