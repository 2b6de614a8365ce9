//! YAML as a tree with line numbers, from a file that anybody may have written.
//!
//! The events of `saphyr-parser` become nodes in one list; an alias is the number of the node it stands for, so that a
//! bomb of aliases stays as small as it is on disk. Two limits make the work bounded whatever the file holds: the number
//! of nodes that are kept, and the number of them that readers look at, where aliases count as often as they are followed.
//!
//! `serde_yaml` and its successor `yaml_serde` expand aliases into values and keep no lines; their limit is on how often
//! something is repeated and not on how much, so that 5 kB of aliases become 1.3 GB (`yaml_serde` 0.10.7). They are also
//! larger: in a binary that does nothing else 144 kB, `saphyr-parser` 93 kB.

pub(crate) mod scalar;
#[cfg_attr(not(test), expect(dead_code, reason = "tbot.yaml will be read through it"))]
pub(crate) mod section;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

/// Nodes of a file. A pipeline of 500 steps has some ten thousand.
const MOST_NODES: usize = 100_000;

/// How deep nodes may be in others.
const DEEPEST: usize = 64;

/// How many nodes readers may look at.
const MOST_LOOKS: usize = 300_000;

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is no YAML.
    #[error("it is no YAML: {what} in line {line}")]
    Syntax {
        /// In the parser's words.
        what: String,
        /// From 1.
        line: usize,
    },
    /// It has more in it than anybody needs.
    #[error("it has more than {MOST_NODES} entries")]
    TooMany,
    /// It is nested deeper than anybody can read.
    #[error("it is nested deeper than {DEEPEST} levels")]
    TooDeep,
}

impl From<ScanError> for Error {
    fn from(error: ScanError) -> Self {
        Self::Syntax { what: crate::text::sanitize(error.info()), line: error.marker().line() }
    }
}

/// The first document of a file.
#[derive(Debug)]
pub(crate) struct Tree<'i> {
    nodes: Vec<Stored<'i>>,
    looks: Cell<usize>,
}

#[derive(Debug)]
struct Stored<'i> {
    value: Value<'i>,
    line: usize,
}

#[derive(Debug)]
enum Value<'i> {
    Text(Cow<'i, str>),
    Null,
    List(Vec<usize>),
    /// Keys and values in turn.
    Map(Vec<usize>),
}

/// A collection that is not complete, and the anchor it will have.
struct Open<'i> {
    stored: Stored<'i>,
    anchor: usize,
}

impl<'i> Tree<'i> {
    /// Reads a text.
    ///
    /// # Errors
    /// It is no YAML, or beyond the limits.
    pub(crate) fn parse(text: &'i str) -> Result<Self, Error> {
        let mut tree = Self { nodes: Vec::new(), looks: Cell::new(0) };
        let mut anchors = HashMap::new();
        let mut open: Vec<Open<'i>> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event?;
            let line = span.start.line();
            let begun = |value, anchor| Open { stored: Stored { value, line }, anchor };
            let complete = match event {
                Event::SequenceStart(anchor, _) => {
                    open.push(begun(Value::List(Vec::new()), anchor));
                    None
                }
                Event::MappingStart(anchor, _) => {
                    open.push(begun(Value::Map(Vec::new()), anchor));
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => open.pop(),
                Event::Scalar(text, style, anchor, _) => Some(begun(scalar(text, style), anchor)),
                // Inside of what it stands for, an alias is nothing: that node is not complete.
                Event::Alias(anchor) => match (anchors.get(&anchor), open.last_mut()) {
                    (Some(&node), Some(parent)) => {
                        parent.stored.add(node);
                        None
                    }
                    _ => Some(begun(Value::Null, 0)),
                },
                Event::DocumentEnd => break,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => None,
            };
            if open.len() > DEEPEST {
                return Err(Error::TooDeep);
            }
            let Some(complete) = complete else { continue };
            let node = tree.nodes.len();
            if node == MOST_NODES {
                return Err(Error::TooMany);
            }
            tree.nodes.push(complete.stored);
            if complete.anchor != 0 {
                anchors.insert(complete.anchor, node);
            }
            if let Some(parent) = open.last_mut() {
                parent.stored.add(node);
            }
        }
        Ok(tree)
    }

    /// What all the rest is in. An empty file has none.
    pub(crate) fn root(&self) -> Option<Node<'_>> {
        self.nodes.len().checked_sub(1).map(|id| Node { tree: self, id })
    }

    /// Whether readers were shown everything that they asked for.
    pub(crate) fn all_was_shown(&self) -> bool {
        self.looks.get() < MOST_LOOKS
    }

    /// Counts a look; whether there may be one more.
    fn may_look(&self) -> bool {
        let looks = self.looks.get();
        self.looks.set((looks + 1).min(MOST_LOOKS));
        looks < MOST_LOOKS
    }
}

impl Stored<'_> {
    fn add(&mut self, node: usize) {
        if let Value::List(nodes) | Value::Map(nodes) = &mut self.value {
            nodes.push(node);
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value<'_> {
    match style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        true => Value::Null,
        false => Value::Text(text),
    }
}

/// A node of a tree. What it is not it has none of: a text has no items, a list no keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'t> {
    tree: &'t Tree<'t>,
    id: usize,
}

impl<'t> Node<'t> {
    /// The line where it is written, from 1. Of an alias it is the line of what it stands for.
    pub(crate) fn line(self) -> usize {
        self.stored().line
    }

    /// Text, numbers and booleans, as they are written.
    pub(crate) fn text(self) -> Option<&'t str> {
        match &self.stored().value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(self) -> bool {
        matches!(self.stored().value, Value::Null)
    }

    pub(crate) fn is_map(self) -> bool {
        matches!(self.stored().value, Value::Map(_))
    }

    /// A boolean that is true.
    pub(crate) fn is_true(self) -> bool {
        self.text().is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// What is in a list.
    pub(crate) fn items(self) -> impl Iterator<Item = Node<'t>> {
        let items = match &self.stored().value {
            Value::List(items) => items.as_slice(),
            _ => &[],
        };
        items.iter().map_while(move |&id| self.look(id))
    }

    /// The items of a list, or the one that stands where a list could be.
    pub(crate) fn one_or_more(self) -> impl Iterator<Item = Node<'t>> {
        let one = (!matches!(self.stored().value, Value::List(_) | Value::Null)).then_some(self);
        one.into_iter().chain(self.items())
    }

    /// What a mapping holds, with what it merges by `<<`. Of keys that are there twice the last counts; a mapping's own
    /// keys go before merged ones, and those that are merged first before the others.
    pub(crate) fn map(self) -> Map<'t> {
        let mut map = Map::default();
        let mut merged = HashSet::new();
        let mut waiting = vec![self];
        while let Some(node) = waiting.pop() {
            if !merged.insert(node.id) {
                continue;
            }
            let mut others = Vec::new();
            for (key, value) in node.pairs() {
                match key.text() {
                    Some("<<") => others.extend(value.one_or_more()),
                    Some(name) => map.add(name, key, value),
                    None => {}
                }
            }
            waiting.extend(others.into_iter().rev());
        }
        map
    }

    /// Keys and values as they are written, from the last to the first.
    fn pairs(self) -> impl Iterator<Item = (Node<'t>, Node<'t>)> {
        let nodes = match &self.stored().value {
            Value::Map(nodes) => nodes.as_slice(),
            _ => &[],
        };
        nodes.chunks_exact(2).rev().map_while(move |pair| Some((self.look(pair[0])?, self.look(pair[1])?)))
    }

    fn look(self, id: usize) -> Option<Self> {
        self.tree.may_look().then_some(Self { id, ..self })
    }

    fn stored(self) -> &'t Stored<'t> {
        &self.tree.nodes[self.id]
    }
}

/// The entries of a mapping whose keys are texts.
#[derive(Debug, Default)]
pub(crate) struct Map<'t> {
    /// Keys and values. Every key is a text.
    entries: Vec<(Node<'t>, Node<'t>)>,
    places: HashMap<&'t str, usize>,
}

impl<'t> Map<'t> {
    fn add(&mut self, name: &'t str, key: Node<'t>, value: Node<'t>) {
        let entries = &mut self.entries;
        self.places.entry(name).or_insert_with(|| {
            entries.push((key, value));
            entries.len() - 1
        });
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Node<'t>> {
        self.places.get(key).map(|&place| self.entries[place].1)
    }

    /// The mapping that is the value of a key; an empty one, if there is none.
    pub(crate) fn map(&self, key: &str) -> Self {
        self.get(key).map(Node::map).unwrap_or_default()
    }

    /// All keys and values, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'t str, Node<'t>)> {
        self.entries.iter().filter_map(|(key, value)| Some((key.text()?, *value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'t>(tree: &'t Tree<'_>, path: &[&str]) -> Option<(&'t str, usize)> {
        let node = path.iter().try_fold(tree.root()?, |node, key| node.map().get(key))?;
        Some((node.text()?, node.line()))
    }

    #[test]
    fn values_and_their_lines() {
        let tree = Tree::parse("a: 1\nb:\n  - x\n  - \"~\"\n  - ~\n").unwrap();
        assert_eq!(text(&tree, &["a"]), Some(("1", 1)));
        let b = tree.root().unwrap().map().get("b").unwrap();
        let items: Vec<_> = b.items().map(|item| (item.text(), item.line())).collect();
        assert_eq!(items, [(Some("x"), 3), (Some("~"), 4), (None, 5)]);
    }

    #[test]
    fn merges_and_who_wins() {
        let tree = Tree::parse(
            "one: &one {a: 1, b: 1, c: 1}\ntwo: &two\n  <<: *one\n  b: 2\nthree: &three {c: 3, d: 3}\n\
             all: {<<: [*two, *three], a: 0, a: 9}\n",
        )
        .unwrap();
        let all = |key| text(&tree, &["all", key]).map(|(text, _)| text);
        assert_eq!([all("a"), all("b"), all("c"), all("d")], [Some("9"), Some("2"), Some("1"), Some("3")]);
    }

    #[test]
    fn an_alias_inside_of_itself_is_nothing() {
        let tree = Tree::parse("a: &a\n  b: *a\n  c: 1\n").unwrap();
        assert_eq!(text(&tree, &["a", "b"]), None);
        assert_eq!(text(&tree, &["a", "c"]), Some(("1", 3)));
        assert!(Tree::parse("&a [*a]").unwrap().root().unwrap().items().next().unwrap().text().is_none());
        assert!(Tree::parse("").unwrap().root().is_none());
    }

    #[test]
    fn a_bomb_of_aliases_stays_small() {
        let mut bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..30 {
            let below = format!("*l{}, ", n - 1).repeat(10);
            bomb += &format!("l{n}: &l{n} [{below}]\n");
        }
        let tree = Tree::parse(&bomb).unwrap();
        assert!(tree.nodes.len() < 100);
        let mut all = vec![tree.root().unwrap().map().get("l29").unwrap()];
        while let Some(node) = all.pop() {
            all.extend(node.items());
        }
        assert!(!tree.all_was_shown());
    }

    #[test]
    fn a_bomb_of_merges_ends() {
        let mut bomb = "m0: &m0 {x: 1}\n".to_owned();
        for n in 1..200 {
            bomb += &format!("m{n}: &m{n} {{<<: [*m{0}, *m{0}]}}\n", n - 1);
        }
        let tree = Tree::parse(&bomb).unwrap();
        assert_eq!(text(&tree, &["m199", "x"]), Some(("1", 1)));
        assert!(tree.all_was_shown());
    }

    #[test]
    fn limits() {
        let deep = "[".repeat(70);
        assert!(matches!(Tree::parse(&deep), Err(Error::TooDeep)));
        let many = "- a\n".repeat(MOST_NODES);
        assert!(matches!(Tree::parse(&many), Err(Error::TooMany)));
        let error = Tree::parse("a: b\nc: \"").unwrap_err();
        assert!(matches!(error, Error::Syntax { line: 2.., .. }), "{error}");
    }
}
