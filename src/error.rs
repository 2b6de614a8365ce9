//! What went wrong, why it probably did, and what to do about it.
//!
//! Each module has its own error type, with one variant per thing that a person can fix. All of them implement
//! [`Explain`]; [`render`] is the only place that turns one into text for a person.

use std::fmt::Write as _;

/// The exit status of the process. The numbers are part of the interface: scripts branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A mistake of ours.
    Bug = 1,
    /// A variable, a flag or a file that was given to us is wrong.
    BadInput = 2,
    /// There is no usable ID token.
    NoIdToken = 3,
    /// The cluster was reached and said no.
    Refused = 4,
    /// The cluster was not reached, or not in time.
    Network = 5,
    /// The credentials could not be written.
    CannotWrite = 6,
}

/// An error that a person can act on. `Display` says what happened, in one sentence without a full stop.
pub trait Explain: std::error::Error {
    /// The likely cause, if there is more to say than what happened; whole sentences.
    fn likely_cause(&self) -> Option<String> {
        None
    }

    /// What to do; whole sentences, may have several lines (a rule to paste, for example).
    fn what_to_do(&self) -> String;

    /// The exit status that tells scripts what kind of failure this is.
    fn exit(&self) -> Exit;

    /// The heading in `docs/troubleshooting.md` that says more.
    fn anchor(&self) -> &'static str;
}

/// Any error of a run, on its way to the person.
#[derive(Debug)]
pub struct Failure(Box<dyn Explain + Send + Sync>);

impl<E: Explain + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl Failure {
    /// What to exit with.
    pub fn exit(&self) -> Exit {
        self.0.exit()
    }

    /// The text at the end of the log.
    pub fn render(&self) -> String {
        render(&*self.0)
    }

    /// The same in one line, for a ProxyCommand: it stands between the lines of ssh, so it says who speaks.
    pub fn one_line(&self) -> String {
        format!("teleport-pipe: {}\n", flat(&format!("{}. {}", self.0, self.0.what_to_do())))
    }
}

/// The error as a person reads it at the end of a step's log.
pub fn render(error: &dyn Explain) -> String {
    let mut text = format!("error: {error}\n");
    if let Some(cause) = error.likely_cause() {
        section(&mut text, "likely cause", &cause);
    }
    section(&mut text, "what to do", &error.what_to_do());
    section(&mut text, "more", &format!("docs/troubleshooting.md#{}", error.anchor()));
    text
}

/// `label: text`, further lines of the text below the first.
fn section(out: &mut String, label: &str, text: &str) {
    let mut lines = text.lines();
    let _ = writeln!(out, "{label:>12}: {}", lines.next().unwrap_or_default());
    for line in lines {
        let _ = writeln!(out, "{:14}{line}", "");
    }
}

/// Text that somebody else wrote (a server, a token, a variable), made fit for a log: control characters, line breaks,
/// terminal escapes and characters that change the direction of writing become spaces, what looks like an ID token is
/// not shown, and it ends after 300 characters.
///
/// An error message of a server is input like any other (security-checklist.md D3).
pub fn foreign(text: &str) -> String {
    const MOST: usize = 300;
    let clean = flat(text);
    match clean.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// The same, whole.
fn flat(text: &str) -> String {
    let mut clean = String::new();
    for word in text.split(|c: char| c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty()) {
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.push_str(word);
    }
    without_tokens(&clean)
}

/// A message of Teleport's, fit for a log. Each line of it is the reason of the one before, one tab deeper
/// (teleport-join.md 2.3).
pub fn nested(text: &str) -> String {
    let reasons = text.lines().map(|line| line.trim_matches(|c: char| c.is_whitespace() || is_invisible(c)));
    let reasons = reasons.filter(|line| !line.is_empty());
    foreign(&reasons.collect::<Vec<_>>().join(": "))
}

/// Control characters, those that hide text or turn its direction (a terminal or a browser obeys both), and what is no
/// character at all.
pub fn is_invisible(c: char) -> bool {
    let format = ['\u{ad}', '\u{61c}', '\u{feff}', '\u{fffe}', '\u{ffff}'].contains(&c);
    c.is_control() || format || ('\u{200b}'..='\u{200f}').contains(&c) || ('\u{2028}'..='\u{206f}').contains(&c)
}

/// The text without anything that looks like a JWT: `eyJ` is how `{"` begins in base64. A token may have been given in
/// the wrong place, and a server may quote what it was sent.
pub fn without_tokens(text: &str) -> String {
    const SHORTEST: usize = 20;
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let (mut clean, mut rest) = (String::new(), text);
    while let Some((before, token)) = rest.find("eyJ").map(|at| rest.split_at(at)) {
        let (token, after) = token.split_at(token.find(|c| !is_part(c)).unwrap_or(token.len()));
        clean += before;
        clean += if token.len() < SHORTEST { token } else { "(a token, not shown)" };
        rest = after;
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_hides_tokens_and_turns_no_writing() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln-_";
        assert_eq!(foreign(&format!("bad token={jwt}, sorry")), "bad token=(a token, not shown), sorry");
        assert_eq!(foreign("keyJ and eyJ"), "keyJ and eyJ");
        assert_eq!(foreign("a\u{202e}b\u{200b}c\u{9b}d"), "a b c d");
    }

    #[test]
    fn nested_reasons_are_told_apart() {
        assert_eq!(
            nested("verifying OIDC token\n\tverifying token: expired\n"),
            "verifying OIDC token: verifying token: expired"
        );
    }

    #[test]
    fn foreign_text_loses_escapes_and_line_breaks() {
        assert_eq!(foreign("verifying\n\ttoken: \u{1b}[31mred\u{7}"), "verifying token: [31mred");
    }

    #[test]
    fn foreign_text_is_cut() {
        let cut = foreign(&"ä".repeat(1000));
        assert_eq!(cut.chars().count(), 301);
        assert!(cut.ends_with('…'));
    }
}
