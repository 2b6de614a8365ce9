//! Labels of nodes, as a person gives them for a role.

use crate::invalid::{Invalid, variable_name};
use crate::text::{is_invisible, sanitize};

const FORM: &str = "Write key=value, such as 'env=prod,role=web', or a list of such labels. Quote a value that has a comma: \
                    'env=\"a,b\"'.";

/// In a role this key goes with this value only, and matches every node.
const WILDCARD: &str = "*";

/// The labels that a node must have: each of the keys, with one of its values. They are in the order given.
///
/// The values may be patterns of Teleport: `*` in a value stands for any text, and a value between `^` and `$` is a regular
/// expression (docs/protocol.md, "Role").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeLabels(Vec<(String, Vec<String>)>);

impl NodeLabels {
    /// Parses texts such as `env=prod,role=web`. Quotes keep commas and spaces.
    ///
    /// # Errors
    /// A label lacks its key or its value, or Teleport would not take it.
    pub(crate) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut labels = Self::default();
        for text in texts {
            let mut rest = Rest(text);
            while let Some((key, value)) = rest.label()? {
                labels.add(key, value);
            }
        }
        Ok(labels)
    }

    fn add(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) if values.iter().any(|known| known == value) => {}
            Some((_, values)) => values.push(value.to_owned()),
            None => self.0.push((key.to_owned(), vec![value.to_owned()])),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(key, values)| (key.as_str(), values.as_slice()))
    }

    /// Whether they match every node. Teleport then looks at no other label.
    pub(crate) fn match_every_node(&self) -> bool {
        self.iter().any(|(key, _)| key == WILDCARD)
    }

    /// The keys with a value that matches every value.
    pub(crate) fn keys_of_any_value(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(_, values)| values.iter().any(|value| matches_everything(value))).map(|(key, _)| key)
    }
}

/// What was not parsed yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// The next label. Returns `None` at the end.
    fn label(&mut self) -> Result<Option<(&'a str, &'a str)>, Invalid> {
        self.0 = self.0.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.part(&['=', ','])?;
        let Some(rest) = self.0.strip_prefix('=') else { return Err(lacks_value(key)) };
        self.0 = rest;
        let value = self.part(&[','])?;
        check(key, value)?;
        Ok(Some((key, value)))
    }

    /// A key or a value: the text in quotes, or else the text before one of the characters that end it.
    fn part(&mut self, ends: &[char]) -> Result<&'a str, Invalid> {
        self.0 = self.0.trim_start();
        let Some(quote) = self.0.chars().next().filter(|c| ['"', '\''].contains(c)) else {
            let (text, rest) = self.0.split_at(self.0.find(ends).unwrap_or(self.0.len()));
            self.0 = rest;
            return Ok(text.trim_end());
        };
        let (text, rest) =
            self.0[1..].split_once(quote).ok_or_else(|| Invalid::new("has a quote that is not closed", FORM))?;
        self.0 = rest.trim_start();
        match self.0.is_empty() || self.0.starts_with(ends) {
            true => Ok(text),
            false => Err(Invalid::new("goes on behind a quote that is closed", FORM)),
        }
    }
}

fn lacks_value(key: &str) -> Invalid {
    match key.split_once([':', '=']) {
        Some((before, after)) if !after.trim().is_empty() => {
            let remedy = format!("Write {}={}.", sanitize(before.trim()), sanitize(after.trim()));
            Invalid::new(format!("has `{}` without a value", sanitize(key)), remedy)
        }
        _ => Invalid::new(format!("has `{}` without a value", sanitize(key)), FORM),
    }
}

/// Fails if Teleport would not take the label, or no node can have it.
fn check(key: &str, value: &str) -> Result<(), Invalid> {
    if let Some(variable) = [key, value].into_iter().find(|text| variable_name(text).is_some()) {
        let remedy = "Define the variable in the repository or its deployment environment, or write the value itself.";
        return Err(Invalid::new(format!("has `{variable}`, a variable that is not defined"), remedy));
    }
    match (key, value) {
        ("", value) => Err(Invalid::new(format!("has the value `{}` without a key", sanitize(value)), FORM)),
        (key, "") => Err(lacks_value(key)),
        (key, value) => check_key(key, value).and_then(|()| check_value(key, value)),
    }
}

fn check_key(key: &str, value: &str) -> Result<(), Invalid> {
    // As in `IsValidLabelKey` of Teleport's API.
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || "/._:*-".contains(c);
    if !key.chars().all(is_of_key) {
        let reason = format!("has the key `{}`, which no label of Teleport can have", sanitize(key));
        return Err(Invalid::new(reason, "A key consists of letters, digits and the characters / . _ : * and -."));
    }
    match key == WILDCARD && value != WILDCARD {
        true => {
            let remedy = "Write the key that the nodes have, or '*=*' for every node of the cluster.";
            Err(Invalid::new("has the key `*` with a value, which Teleport knows only as `*=*`", remedy))
        }
        false => Ok(()),
    }
}

fn check_value(key: &str, value: &str) -> Result<(), Invalid> {
    if value.chars().any(is_invisible) {
        return Err(Invalid::new(format!("has an invisible character in the value of `{key}`"), FORM));
    }
    match value.starts_with('^') && !value.ends_with('$') {
        true => {
            let remedy = "Teleport takes a value for a regular expression only if it ends with $, too. Quote a value that \
                          has a comma: 'env=\"^a{1,2}$\"'.";
            Err(Invalid::new(format!("has `{}`, a regular expression without its end", sanitize(value)), remedy))
        }
        false => Ok(()),
    }
}

/// Whether a value matches every value, in the usual spellings: `*`, and a regular expression that is, or that has as an
/// alternative, `.*` or `.+`.
fn matches_everything(value: &str) -> bool {
    let Some(expression) = value.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')) else {
        return value.chars().all(|c| c == '*');
    };
    let expression = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(expression);
    expression.trim_start_matches("?:").split('|').any(|part| [".*", ".+", ".*?", ".+?"].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<String, String> {
        let labels = NodeLabels::parse(texts.iter().copied()).map_err(|error| error.to_string())?;
        Ok(labels.iter().map(|(key, values)| format!("{key}={}", values.join("|"))).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn labels_are_read_from_one_text_or_from_a_list() {
        for (texts, labels) in [
            (&["env=prod,role=web"][..], "env=prod role=web"),
            (&["env=prod", "role=web"], "env=prod role=web"),
            (&["env=prod,env=stage", "env=prod"], "env=prod|stage"),
            (&[" env = prod , role=web ,"], "env=prod role=web"),
            (&["env=\"a, b\",role='it\"s'"], "env=a, b role=it\"s"),
            (&["\"env\"= \" x \" "], "env= x "),
            (&["aws/team:x=a=b"], "aws/team:x=a=b"),
            (&["env=it's"], "env=it's"),
            (&["env=^(prod|stage)$,host=web-*"], "env=^(prod|stage)$ host=web-*"),
            (&["env={{internal.env}}"], "env={{internal.env}}"),
            (&["*=*"], "*=*"),
            (&[" , "], ""),
        ] {
            assert_eq!(parse(texts).as_deref(), Ok(labels), "{texts:?}");
        }
    }

    #[test]
    fn what_is_not_a_label_is_refused_with_the_reason() {
        for (text, reason) in [
            ("env", "has `env` without a value"),
            ("env=prod,role", "has `role` without a value"),
            ("env: prod", "has `env: prod` without a value"),
            ("env=", "has `env` without a value"),
            ("env=\"\"", "has `env` without a value"),
            ("env=,role=web", "has `env` without a value"),
            ("=prod", "has the value `prod` without a key"),
            ("env=\"prod", "has a quote that is not closed"),
            ("env='a'b", "goes on behind a quote that is closed"),
            ("\"env=prod\"", "has `env=prod` without a value"),
            ("my env=prod", "has the key `my env`, which no label of Teleport can have"),
            ("größe=1", "has the key `größe`, which no label of Teleport can have"),
            ("*=prod", "has the key `*` with a value, which Teleport knows only as `*=*`"),
            ("env=$ENV", "has `$ENV`, a variable that is not defined"),
            ("env=\"${ENV}\"", "has `${ENV}`, a variable that is not defined"),
            ("$ENV", "has `$ENV` without a value"),
            ("env=^prod", "has `^prod`, a regular expression without its end"),
            ("env=\"a\u{1b}b\"", "has an invisible character in the value of `env`"),
            // Without quotes the comma of a quantifier ends the value.
            ("env=^a{1,2}$", "has `^a{1`, a regular expression without its end"),
        ] {
            assert_eq!(parse(&[text]), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_correction_is_spelled_out() {
        let remedy = |text: &str| {
            let error = NodeLabels::parse([text]).unwrap_err().named("NODE_LABELS", text);
            crate::error::Explain::advice(&error).remedy.into_owned()
        };
        assert_eq!(remedy("env: prod"), "Write env=prod.");
        assert_eq!(remedy("'env=prod'"), "Write env=prod.");
        assert_eq!(remedy("env"), FORM);
    }

    #[test]
    fn what_matches_everything_is_found() {
        for value in ["*", "**", "^.*$", "^.+$", "^(.*)$", "^(?:.*)$", "^prod|.*$", "^(prod|.*)$", "^.*?$"] {
            assert!(matches_everything(value), "{value}");
        }
        for value in [
            "prod",
            "web-*",
            "*-web",
            "^prod.*$",
            "^.$",
            "^(.*)-x$",
            "^(a)|(b)$",
            "^(a|b)(.*|c)$",
            r"^\.*$",
            "^.*-web$",
            ".*",
        ] {
            assert!(!matches_everything(value), "{value}");
        }
        let labels = NodeLabels::parse(["env=prod,env=*,role=web"]).unwrap();
        assert_eq!(labels.keys_of_any_value().collect::<Vec<_>>(), ["env"]);
        assert!(!labels.match_every_node() && NodeLabels::parse(["*=*"]).unwrap().match_every_node());
    }
}
