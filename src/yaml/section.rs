//! Reads a mapping of settings strictly: wrong values and unknown keys are errors with their line.

use std::str::FromStr;

use super::{Map, Node};
use crate::invalid::{self, Invalid};
use crate::text::sanitize;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("line {line}: {source}")]
    Invalid { line: usize, source: invalid::Error },
    #[error("line {line}: {key} is not {expected}")]
    Form { line: usize, key: String, expected: &'static str },
    #[error("line {line}: unknown key {key}{}", nearest.map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    Unknown { line: usize, key: String, nearest: Option<&'static str> },
    /// Reading it would exceed the limits of the tree.
    #[error("line {line}: {key} has too many entries")]
    TooMany { line: usize, key: String },
}

/// A mapping that knows its line and which keys it was asked for. A key without a value counts as absent.
#[derive(Debug)]
pub(crate) struct Section<'t> {
    pub(crate) line: usize,
    map: Map<'t>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The section that `node` holds; `key` is its name in errors.
    pub(crate) fn new(key: &str, node: Node<'t>) -> Result<Self, Error> {
        if !node.is_map() {
            return Err(Error::Form { line: node.line(), key: sanitize(key), expected: "a mapping" });
        }
        let section = Self { line: node.line(), map: node.map(), known: Vec::new() };
        check_limits(key, node)?;
        Ok(section)
    }

    /// The value of `key` as it is written.
    pub(crate) fn text(&mut self, key: &'static str) -> Result<Option<&'t str>, Error> {
        let Some(node) = self.get(key) else { return Ok(None) };
        let form = || Error::Form { line: node.line(), key: key.to_owned(), expected: "one value" };
        // An empty text counts as absent, as for tbot.
        node.text().map(|text| Some(text).filter(|text| !text.is_empty())).ok_or_else(form)
    }

    pub(crate) fn parsed<T: FromStr<Err = Invalid>>(&mut self, key: &'static str) -> Result<Option<T>, Error> {
        self.parsed_by(key, str::parse)
    }

    /// Like [`Self::parsed`], by a function such as [`crate::values::boolean`].
    pub(crate) fn parsed_by<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let line = self.map.get(key).map_or(self.line, Node::line);
        parse(text).map(Some).map_err(|invalid| Error::Invalid { line, source: invalid.named(key, text) })
    }

    /// The texts of the list `key`. A single text counts as a list of one.
    pub(crate) fn texts(&mut self, key: &'static str) -> Result<Vec<&'t str>, Error> {
        let form = |line| Error::Form { line, key: key.to_owned(), expected: "a list of values" };
        self.nodes(key)?.into_iter().map(|node| node.text().ok_or_else(|| form(node.line()))).collect()
    }

    /// The texts of the list `key`, which has to be one: a command line in one text would be the name of a program.
    pub(crate) fn list(&mut self, key: &'static str) -> Result<Vec<&'t str>, Error> {
        match self.get(key).filter(|node| node.text().is_some_and(|text| !text.is_empty())) {
            Some(node) => Err(Error::Form { line: node.line(), key: key.to_owned(), expected: "a list" }),
            None => self.texts(key),
        }
    }

    pub(crate) fn section(&mut self, key: &'static str) -> Result<Option<Self>, Error> {
        self.get(key).map(|node| Self::new(key, node)).transpose()
    }

    /// The mappings in the list `key`.
    pub(crate) fn sections(&mut self, key: &'static str) -> Result<Vec<Self>, Error> {
        if let Some(node) = self.get(key).filter(|node| node.is_map()) {
            return Err(Error::Form { line: node.line(), key: key.to_owned(), expected: "a list" });
        }
        self.nodes(key)?.into_iter().map(|node| Self::new(key, node)).collect()
    }

    /// Takes the key as known, whatever its value is.
    pub(crate) fn ignore(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Whether the key has a value that is not an empty list or mapping.
    pub(crate) fn is_set(&mut self, key: &'static str) -> bool {
        if self.known.contains(&key) {
            return false;
        }
        self.get(key).is_some_and(|node| !node.is_empty())
    }

    /// The line of a key that has a value.
    pub(crate) fn line_of(&self, key: &str) -> Option<usize> {
        self.map.entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(name, _)| name.line())
    }

    /// Fails if there is a key that the section was not asked for.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let keys = self.map.entries.iter().map(|(key, _)| (key.line(), key.text().unwrap_or_default()));
        let Some((line, key)) = keys.filter(|(_, key)| !self.known.contains(key)).min() else { return Ok(()) };
        let distance = |known: &str| strsim::osa_distance(&key.to_ascii_lowercase(), known);
        let nearest = self.known.iter().copied().min_by_key(|known| distance(known));
        let nearest = nearest.filter(|known| distance(known) <= if known.len() < 8 { 1 } else { 2 });
        Err(Error::Unknown { line, key: sanitize(key), nearest })
    }

    fn get(&mut self, key: &'static str) -> Option<Node<'t>> {
        self.known.push(key);
        self.map.get(key).filter(|node| !node.is_null())
    }

    fn nodes(&mut self, key: &'static str) -> Result<Vec<Node<'t>>, Error> {
        let Some(node) = self.get(key) else { return Ok(Vec::new()) };
        let nodes = node.one_or_more().collect();
        check_limits(key, node)?;
        Ok(nodes)
    }
}

fn check_limits(key: &str, node: Node<'_>) -> Result<(), Error> {
    match node.tree.is_within_limits() {
        true => Ok(()),
        false => Err(Error::TooMany { line: node.line(), key: sanitize(key) }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::values::{self, Ttl};
    use crate::yaml::Tree;

    fn with<T>(text: &str, read: impl FnOnce(&mut Section<'_>) -> Result<T, Error>) -> Result<T, String> {
        let tree = Tree::parse(text).unwrap();
        let section = Section::new("the file", tree.root().unwrap());
        section.and_then(|mut section| read(&mut section)).map_err(|error| error.to_string())
    }

    const FILE: &str = "
version: v2
oneshot: true
certificate_ttl: 90m
storage: ~
onboarding: {join_method: token}
roles: [a, b]
outputs:
  - type: identity
    destination: {type: directory}
  - type: application
";

    #[test]
    fn values_of_each_kind() {
        let read = with(FILE, |section| {
            assert_eq!((section.line, section.text("version")?), (2, Some("v2")));
            assert_eq!(section.parsed_by("oneshot", values::boolean)?, Some(true));
            assert_eq!(section.parsed::<Ttl>("certificate_ttl")?, Some(Ttl(Duration::from_secs(5400))));
            assert!(section.section("storage")?.is_none() && section.parsed::<Ttl>("renewal_interval")?.is_none());
            assert_eq!(section.section("onboarding")?.unwrap().text("join_method")?, Some("token"));
            assert_eq!((section.texts("roles")?, section.texts("version")?), (vec!["a", "b"], vec!["v2"]));
            let mut lines = Vec::new();
            for mut output in section.sections("outputs")? {
                lines.push((output.line, output.text("type")?.unwrap().to_owned()));
            }
            Ok(lines)
        });
        assert_eq!(read.unwrap(), [(9, "identity".to_owned()), (11, "application".to_owned())]);
    }

    #[test]
    fn values_of_a_wrong_form() {
        let error = |key: &'static str, read: fn(&mut Section<'_>, &'static str) -> Result<(), Error>| {
            with(FILE, |section| read(section, key)).unwrap_err()
        };
        assert_eq!(error("roles", |s, k| s.text(k).map(drop)), "line 7: roles is not one value");
        assert_eq!(error("version", |s, k| s.section(k).map(drop)), "line 2: version is not a mapping");
        assert_eq!(error("roles", |s, k| s.sections(k).map(drop)), "line 7: roles is not a mapping");
        assert_eq!(error("outputs", |s, k| s.texts(k).map(drop)), "line 9: outputs is not a list of values");
        let invalid = error("oneshot", |s, k| s.parsed::<Ttl>(k).map(drop));
        assert_eq!(invalid, "line 3: oneshot is `true`, which is not a duration");
        assert_eq!(with("- a", |_| Ok(())).unwrap_err(), "line 1: the file is not a mapping");
    }

    #[test]
    fn unknown_keys() {
        let finish = |text: &str| {
            let tree = Tree::parse(text).unwrap();
            let mut section = Section::new("the file", tree.root().unwrap()).unwrap();
            section.text("certificate_ttl").unwrap();
            section.text("roles").unwrap();
            section.finish().map_err(|error| error.to_string())
        };
        assert_eq!(finish("roles: a"), Ok(()));
        let unknown = |text| finish(text).unwrap_err();
        assert_eq!(
            unknown("roles: a\ncertificate_tls: 1h"),
            "line 2: unknown key certificate_tls; did you mean certificate_ttl?"
        );
        assert_eq!(unknown("a: &a {x: 1}\n<<: *a"), "line 1: unknown key a");
        assert_eq!(unknown("role:\n\n  - a"), "line 1: unknown key role; did you mean roles?");
        assert_eq!(unknown("\"a\\e[31m\": 1"), "line 1: unknown key a [31m");
    }

    #[test]
    fn a_section_beyond_the_limits_is_an_error() {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned() + "b: &b [";
        text += &"*a, ".repeat(10_000);
        text += "]\n";
        let tree = Tree::parse(&text).unwrap();
        let mut section = Section::new("the file", tree.root().unwrap()).unwrap();
        let errors =
            (0..100).find_map(|_| section.texts("b").err().filter(|error| matches!(error, Error::TooMany { .. })));
        assert_eq!(errors.unwrap().to_string(), "line 2: b has too many entries");
        assert!(matches!(Section::new("the file", tree.root().unwrap()), Err(Error::TooMany { .. })));
    }
}
