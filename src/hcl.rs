//! Expressions of HCL, the language of Terraform's configuration, which people read and Terraform applies.

use crate::text::is_invisible;

/// A string in one line that Terraform reads as exactly this text: nothing in it is a template. Control characters are
/// escaped, so that a terminal shows them.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            // `${` and `%{` begin a template.
            ('$' | '%', Some('{')) => quoted.extend([c, c]),
            _ => quoted.push_str(&escaped(c)),
        }
    }
    quoted + "\""
}

/// A list of strings in one line.
pub(crate) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A name for a resource: letters, digits and `_`, not a digit first.
pub(crate) fn identifier(text: &str) -> String {
    let name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        true => format!("_{name}"),
        false => name,
    }
}

/// Arguments, each in its line, with their `=` below each other as `terraform fmt` has them.
pub(crate) fn arguments(indent: usize, arguments: &[(&str, String)]) -> String {
    let width = arguments.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    arguments.iter().map(|(name, value)| format!("{:indent$}{name:width$} = {value}\n", "")).collect()
}

fn escaped(c: char) -> String {
    match (c, u32::from(c)) {
        ('"' | '\\', _) => format!("\\{c}"),
        ('\n', _) => "\\n".to_owned(),
        ('\r', _) => "\\r".to_owned(),
        ('\t', _) => "\\t".to_owned(),
        _ if !is_invisible(c) => c.to_string(),
        (_, code @ ..=0xffff) => format!("\\u{code:04X}"),
        (_, code) => format!("\\U{code:08X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        for (text, hcl) in [
            ("", r#""""#),
            ("{8a1fd0a3}", r#""{8a1fd0a3}""#),
            ("it's \"quoted\" \\n", r#""it's \"quoted\" \\n""#),
            ("${file(\"/etc/passwd\")}", r#""$${file(\"/etc/passwd\")}""#),
            ("%{ if true }x", r#""%%{ if true }x""#),
            // What looks escaped is not: the first `$` is text, and so is the second.
            ("$${x}", r#""$$${x}""#),
            ("$ { 100% $$ %", r#""$ { 100% $$ %""#),
            ("a\nb\r\tc", r#""a\nb\r\tc""#),
            ("\u{1b}[2J\u{202e}\u{0}\u{10fffe}", r#""\u001B[2J\u202E\u0000\U0010FFFE""#),
            ("größe/\u{1f600} # // /*", "\"größe/\u{1f600} # // /*\""),
            ("EOT\n<<EOT", r#""EOT\n<<EOT""#),
        ] {
            assert_eq!(quoted(text), hcl, "{text:?}");
        }
        assert_eq!(list(["a", "${b}"]), r#"["a", "$${b}"]"#);
    }

    #[test]
    fn names_of_resources_are_identifiers() {
        for (text, name) in
            [("example-bot", "example_bot"), ("7.x", "_7_x"), ("", "_"), ("ü\"]", "___"), ("a/*", "a__")]
        {
            assert_eq!(identifier(text), name, "{text}");
        }
    }

    #[test]
    fn arguments_are_aligned() {
        assert_eq!(arguments(2, &[("a", "1".into()), ("long", "2".into())]), "  a    = 1\n  long = 2\n");
    }
}
