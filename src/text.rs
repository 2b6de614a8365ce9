//! Text from servers, tokens and variables, made safe for the log.

/// Makes text from outside safe for the log. Control characters, line breaks, terminal escapes and characters that change
/// the direction of writing become spaces, what looks like an ID token is hidden, and the text is cut after 300 characters.
///
/// An error message of a server is input like any other (docs/decisions.md, 9).
pub(crate) fn sanitize(text: &str) -> String {
    let clean = sanitize_whole(text);
    match clean.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// [`sanitize`] without the length limit.
pub(crate) fn sanitize_whole(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty());
    hide_tokens(&words.collect::<Vec<_>>().join(" "))
}

/// [`sanitize`] for a message of Teleport. Each line of it is the reason of the line before, one tab deeper
/// (docs/protocol.md, "Error answers").
pub(crate) fn sanitize_nested(text: &str) -> String {
    let reasons = text.lines().map(|line| line.trim_matches(|c: char| c.is_whitespace() || is_invisible(c)));
    let reasons = reasons.filter(|line| !line.is_empty());
    sanitize(&reasons.collect::<Vec<_>>().join(": "))
}

/// Control characters, characters that hide text or change its direction in a terminal or a browser, and code points that
/// are not characters.
pub(crate) fn is_invisible(c: char) -> bool {
    let format = ['\u{ad}', '\u{61c}', '\u{feff}', '\u{fffe}', '\u{ffff}'].contains(&c);
    c.is_control() || format || ('\u{200b}'..='\u{200f}').contains(&c) || ('\u{2028}'..='\u{206f}').contains(&c)
}

/// The text without anything that looks like a JWT: `eyJ` is the base64 of `{"`. A token may have been given in the wrong
/// variable, and a server may quote what it received.
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
    fn tokens_and_changes_of_direction_are_removed() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln-_";
        assert_eq!(sanitize(&format!("bad token={jwt}, sorry")), "bad token=(a token, not shown), sorry");
        assert_eq!(sanitize("keyJ and eyJ"), "keyJ and eyJ");
        assert_eq!(sanitize("a\u{202e}b\u{200b}c\u{9b}d"), "a b c d");
    }

    #[test]
    fn nested_reasons_are_separated() {
        assert_eq!(
            sanitize_nested("verifying OIDC token\n\tverifying token: expired\n"),
            "verifying OIDC token: verifying token: expired"
        );
    }

    #[test]
    fn escapes_and_line_breaks_are_removed() {
        assert_eq!(sanitize("verifying\n\ttoken: \u{1b}[31mred\u{7}"), "verifying token: [31mred");
    }

    #[test]
    fn long_text_is_cut() {
        let cut = sanitize(&"ä".repeat(1000));
        assert_eq!(cut.chars().count(), 301);
        assert!(cut.ends_with('…'));
    }
}
