//! Text from servers, tokens and variables, made safe for the log.

use unicode_properties::{GeneralCategory as Category, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// Marks of one character that are kept. Vietnamese needs two, Hebrew three.
const MAX_MARKS: usize = 4;

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
    let text = words.collect::<Vec<_>>().join(" ");
    let mut marks = 0;
    let is_kept = |c: &char| {
        marks = if c.general_category_group() == GeneralCategoryGroup::Mark { marks + 1 } else { 0 };
        marks <= MAX_MARKS
    };
    hide_tokens(&text.chars().filter(is_kept).collect::<String>())
}

/// The text with blanks in the place of characters that are not seen. Nothing else changes, so that a path stays a path.
pub(crate) fn visible(text: &str) -> String {
    text.replace(|c| c != '\n' && is_invisible(c), " ")
}

/// [`sanitize`] for a message of Teleport. Each line of it is the reason of the line before, one tab deeper
/// (docs/protocol.md, "Error answers").
pub(crate) fn sanitize_nested(text: &str) -> String {
    let reasons = text.lines().map(|line| line.trim_matches(|c: char| c.is_whitespace() || is_invisible(c)));
    let reasons = reasons.filter(|line| !line.is_empty());
    sanitize(&reasons.collect::<Vec<_>>().join(": "))
}

/// Whether a character is not seen in a terminal or a browser, or changes the direction of what is seen: control and format
/// characters, separators of lines, code points for private use and those without a character, and fillers and selectors
/// that are letters and marks by their category (Unicode's Default_Ignorable_Code_Point).
pub(crate) fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let is_ignorable = matches!(
        c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}'
    );
    is_ignorable
        || matches!(
            c.general_category(),
            Category::Control
                | Category::Format
                | Category::LineSeparator
                | Category::ParagraphSeparator
                | Category::PrivateUse
                | Category::Surrogate
                | Category::Unassigned
        )
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
    fn invisible_characters_are_removed() {
        // F12: each between two letters that stay.
        for c in [
            '\u{0}',
            '\u{ad}',
            '\u{34f}',
            '\u{115f}',
            '\u{180e}',
            '\u{200d}',
            '\u{2028}',
            '\u{2066}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{ffff}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
            '\u{e0101}',
            '\u{f0000}',
            '\u{10ffff}',
        ] {
            assert_eq!(sanitize(&format!("a{c}b")), "a b", "{c:?}");
        }
        let seen = "naïve Ελλάδα привет עברית 日本語 한국어 e\u{301}\u{323} → – “x” €";
        assert_eq!(sanitize(seen), seen);
    }

    #[test]
    fn marks_do_not_pile_up() {
        assert_eq!(sanitize(&format!("e{}f", "\u{301}".repeat(200))), format!("e{}f", "\u{301}".repeat(4)));
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
