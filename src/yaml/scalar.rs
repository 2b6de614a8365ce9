//! Scalars for the YAML that we write, which people read and `tctl` applies. [`crate::yaml`] reads the YAML of others.

use crate::text::is_invisible;

/// A scalar in one line that YAML reads as exactly this text, even if it is a UUID in braces, `*`, `yes` or has `: ` in
/// it. Control characters are escaped, so that a terminal shows them.
pub(crate) fn quoted(text: &str) -> String {
    match text.chars().any(is_invisible) {
        false => format!("'{}'", text.replace('\'', "''")),
        true => format!("\"{}\"", text.chars().map(escaped).collect::<String>()),
    }
}

/// A list of quoted scalars in one line.
pub(crate) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A character between double quotes (YAML 1.2, 5.7).
fn escaped(c: char) -> String {
    match (c, u32::from(c)) {
        ('"' | '\\', _) => format!("\\{c}"),
        _ if !is_invisible(c) => c.to_string(),
        (_, code @ ..=0xff) => format!("\\x{code:02X}"),
        (_, code @ ..=0xffff) => format!("\\u{code:04X}"),
        (_, code) => format!("\\U{code:08X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_as_they_were_written() {
        for value in [
            "",
            "main",
            "{8a1fd0a3}",
            "it's: # not a 'comment'",
            "*",
            "yes",
            "- a",
            " x ",
            "größe/\u{1f600}",
            "a\nb: c\r\n\tk: v\u{85}\u{2028}",
            "\u{1b}[31m\"\\n\"\u{0}\u{7f}\u{9b}\u{feff}\u{ffff}\u{202e}\u{10fffe}",
            "\n---\nkind: role\n...",
        ] {
            let scalar = quoted(value);
            assert!(!scalar.contains(is_invisible), "{scalar}");
            assert_eq!(yaml_serde::from_str::<String>(&scalar).unwrap(), value, "{scalar}");
            let both = yaml_serde::from_str::<Vec<String>>(&list([value, "x"])).unwrap();
            assert_eq!(both, [value, "x"]);
        }
        assert_eq!(quoted("it's"), "'it''s'");
        assert_eq!(quoted("a\u{1b}\u{202e}\"b"), r#""a\x1B\u202E\"b""#);
    }
}
