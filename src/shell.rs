//! Quoting for a shell.

/// The text as one word of a command line, quoted if it has to be.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./_-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

/// The text in quotes. No backslash is added: in an `ssh_config` ssh would read it before the shell does.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r#"'"'"'"#))
}

/// A path as one word. It is never taken for an option.
pub(crate) fn path(path: &str) -> String {
    if path.starts_with('/') { word(path) } else { word(&format!("./{path}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_paths() {
        assert_eq!(word("./tbot-user/ssh_config"), "./tbot-user/ssh_config");
        assert_eq!(word("it's mine"), r#"'it'"'"'s mine'"#);
        assert_eq!(word(""), "''");
        assert_eq!(path("tbot-user"), "./tbot-user");
        assert_eq!(path("-rf x"), "'./-rf x'");
        assert_eq!(path("/a/$b"), "'/a/$b'");
    }
}
