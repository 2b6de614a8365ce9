//! Text that others wrote, made fit for a log.

/// Text that somebody else wrote (a server, a token, a variable), made fit for a log: control characters, line breaks,
/// terminal escapes and characters that change the direction of writing become spaces, what looks like an ID token is
/// not shown, and it ends after 300 characters.
///
/// An error message of a server is input like any other (security-checklist.md D3).
pub(crate) fn sanitize(text: &str) -> String {
    const MOST: usize = 300;
    let clean = sanitize_whole(text);
    match clean.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// The same, whole.
pub(crate) fn sanitize_whole(text: &str) -> String {
    let mut clean = String::new();
    for word in text.split(|c: char| c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty()) {
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.push_str(word);
    }
    hide_tokens(&clean)
}

/// A message of Teleport's, fit for a log. Each line of it is the reason of the one before, one tab deeper
/// (teleport-join.md 2.3).
pub(crate) fn sanitize_nested(text: &str) -> String {
    let reasons = text.lines().map(|line| line.trim_matches(|c: char| c.is_whitespace() || is_invisible(c)));
    let reasons = reasons.filter(|line| !line.is_empty());
    sanitize(&reasons.collect::<Vec<_>>().join(": "))
}

/// Control characters, those that hide text or turn its direction (a terminal or a browser obeys both), and what is no
/// character at all.
pub(crate) fn is_invisible(c: char) -> bool {
    let format = ['\u{ad}', '\u{61c}', '\u{feff}', '\u{fffe}', '\u{ffff}'].contains(&c);
    c.is_control() || format || ('\u{200b}'..='\u{200f}').contains(&c) || ('\u{2028}'..='\u{206f}').contains(&c)
}

/// The text without anything that looks like a JWT: `eyJ` is how `{"` begins in base64. A token may have been given in
/// the wrong place, and a server may quote what it was sent.
pub(crate) fn hide_tokens(text: &str) -> String {
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
        assert_eq!(sanitize(&format!("bad token={jwt}, sorry")), "bad token=(a token, not shown), sorry");
        assert_eq!(sanitize("keyJ and eyJ"), "keyJ and eyJ");
        assert_eq!(sanitize("a\u{202e}b\u{200b}c\u{9b}d"), "a b c d");
    }

    #[test]
    fn nested_reasons_are_told_apart() {
        assert_eq!(
            sanitize_nested("verifying OIDC token\n\tverifying token: expired\n"),
            "verifying OIDC token: verifying token: expired"
        );
    }

    #[test]
    fn foreign_text_loses_escapes_and_line_breaks() {
        assert_eq!(sanitize("verifying\n\ttoken: \u{1b}[31mred\u{7}"), "verifying token: [31mred");
    }

    #[test]
    fn foreign_text_is_cut() {
        let cut = sanitize(&"ä".repeat(1000));
        assert_eq!(cut.chars().count(), 301);
        assert!(cut.ends_with('…'));
    }
}
