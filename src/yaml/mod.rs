//! YAML as a tree with line numbers. The file may be hostile.
//!
//! The events of `saphyr-parser` become nodes in one list; an alias is the number of the node it stands for, so that a
//! bomb of aliases stays as small as it is on disk. Two limits make the work bounded whatever the file holds: the
//! number of nodes, and the number of visits to nodes, where an alias counts each time that it is followed.
//!
//! `serde_yaml` and its successor `yaml_serde` are not used. They expand aliases into values and keep no lines. They
//! limit the number of repetitions and not their size, so that 5 kB of aliases become 1.3 GB (`yaml_serde` 0.10.7).
//! They are also larger: 144 kB in a binary that does nothing else, `saphyr-parser` 93 kB.

pub(crate) mod scalar;
pub(crate) mod section;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use crate::limits::{YAML_DEPTH, YAML_NODES, YAML_SEPARATORS, YAML_VISITS};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is not valid YAML: {what} in line {line}")]
    Syntax { what: String, line: usize },
    #[error("it has more than {YAML_NODES} entries")]
    TooMany,
    #[error("it has more than {YAML_SEPARATORS} of the characters `,:?[]{{}}`")]
    TooManySeparators,
    #[error("it is nested deeper than {YAML_DEPTH} levels")]
    TooDeep,
}

impl From<ScanError> for Error {
    fn from(error: ScanError) -> Self {
        Self::Syntax { what: crate::text::sanitize(error.info()), line: error.marker().line() }
    }
}

/// The documents of a file.
#[derive(Debug)]
pub(crate) struct Tree<'i> {
    nodes: Vec<NodeData<'i>>,
    /// The nodes that hold all others of their document.
    roots: Vec<usize>,
    visits: Cell<usize>,
    repeats_keys: Cell<bool>,
}

/// Which one of equal keys in a mapping counts. YAML forbids them, and parsers differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EqualKeys {
    First,
    #[default]
    Last,
}

#[derive(Debug)]
struct NodeData<'i> {
    value: Value<'i>,
    /// The items of a list, or the keys and values of a mapping in turn.
    children: Vec<usize>,
    line: usize,
    anchor: usize,
}

#[derive(Debug)]
enum Value<'i> {
    Text(Cow<'i, str>),
    Null,
    List,
    Map,
}

impl<'i> Tree<'i> {
    pub(crate) fn parse(text: &'i str) -> Result<Self, Error> {
        if text.bytes().filter(|byte| b",:?[]{}".contains(byte)).count() > YAML_SEPARATORS {
            return Err(Error::TooManySeparators);
        }
        let (visits, repeats_keys) = (Cell::new(0), Cell::new(false));
        let mut tree = Self { nodes: Vec::new(), roots: Vec::new(), visits, repeats_keys };
        let mut anchors = HashMap::new();
        // Collections that are not complete.
        let mut open: Vec<NodeData<'i>> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                // Only a program that stops behind the first document reads such a file at all.
                Err(_) if !tree.roots.is_empty() => break,
                Err(error) => return Err(error.into()),
            };
            let new = |value, anchor| NodeData { value, children: Vec::new(), line: span.start.line(), anchor };
            let mut complete = None;
            match event {
                Event::SequenceStart(anchor, _) => open.push(new(Value::List, anchor)),
                Event::MappingStart(anchor, _) => open.push(new(Value::Map, anchor)),
                Event::SequenceEnd | Event::MappingEnd => complete = open.pop(),
                Event::Scalar(text, style, anchor, _) => complete = Some(new(scalar(text, style), anchor)),
                // An alias within its own node is null, because that node is not complete.
                Event::Alias(anchor) => match (anchors.get(&anchor), open.last_mut()) {
                    (Some(&node), Some(parent)) => parent.children.push(node),
                    _ => complete = Some(new(Value::Null, 0)),
                },
                Event::DocumentEnd => tree.roots.extend(tree.nodes.len().checked_sub(1)),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            }
            if open.len() > YAML_DEPTH {
                return Err(Error::TooDeep);
            }
            let Some(complete) = complete else { continue };
            let node = tree.nodes.len();
            if node == YAML_NODES {
                return Err(Error::TooMany);
            }
            if complete.anchor != 0 {
                anchors.insert(complete.anchor, node);
            }
            tree.nodes.push(complete);
            if let Some(parent) = open.last_mut() {
                parent.children.push(node);
            }
        }
        Ok(tree)
    }

    /// The node that holds all others of the first document. Returns `None` if the file is empty.
    pub(crate) fn root(&self) -> Option<Node<'_>> {
        self.roots(EqualKeys::Last).next()
    }

    /// Like [`Self::root`], for all documents.
    pub(crate) fn roots(&self, equal_keys: EqualKeys) -> impl Iterator<Item = Node<'_>> {
        self.roots.iter().map(move |&id| Node { tree: self, id, equal_keys })
    }

    /// Whether a mapping that was read has equal keys.
    pub(crate) fn repeats_keys(&self) -> bool {
        self.repeats_keys.get()
    }

    /// The first key of a mapping that is there twice, wherever it is in the first document, with its line.
    pub(crate) fn repeated_key(&self) -> Option<(usize, &str)> {
        let last = *self.roots.first()?;
        let mappings = self.nodes[..=last].iter().filter(|node| matches!(node.value, Value::Map));
        let repeated = mappings.filter_map(|mapping| {
            let mut seen = HashSet::new();
            let mut keys = mapping.children.iter().step_by(2).map(|&id| &self.nodes[id]);
            keys.find_map(|key| match &key.value {
                Value::Text(text) if text != "<<" && !seen.insert(&**text) => Some((key.line, &**text)),
                _ => None,
            })
        });
        repeated.min()
    }

    /// Whether every visit was possible. If not, readers have missed something.
    pub(crate) fn is_within_limits(&self) -> bool {
        self.visits.get() < YAML_VISITS
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value<'_> {
    match style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        true => Value::Null,
        false => Value::Text(text),
    }
}

/// A node of a tree. The methods for other kinds of nodes return nothing: a text has no items, a list has no keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'t> {
    tree: &'t Tree<'t>,
    id: usize,
    equal_keys: EqualKeys,
}

impl<'t> Node<'t> {
    /// The line, from 1. An alias has the line of the node that it stands for.
    pub(crate) fn line(self) -> usize {
        self.data().line
    }

    /// A text, number or boolean as it is written.
    pub(crate) fn text(self) -> Option<&'t str> {
        if let Value::Text(text) = &self.data().value { Some(text) } else { None }
    }

    pub(crate) fn is_null(self) -> bool {
        matches!(self.data().value, Value::Null)
    }

    /// Whether it is a list or a mapping of nothing.
    pub(crate) fn is_empty(self) -> bool {
        matches!(self.data().value, Value::List | Value::Map) && self.data().children.is_empty()
    }

    pub(crate) fn is_map(self) -> bool {
        matches!(self.data().value, Value::Map)
    }

    pub(crate) fn items(self) -> impl Iterator<Item = Node<'t>> {
        let items = if matches!(self.data().value, Value::List) { self.data().children.as_slice() } else { &[] };
        items.iter().map_while(move |&id| self.visit(id))
    }

    /// The items of a list, or the node itself if it is neither a list nor null.
    pub(crate) fn one_or_more(self) -> impl Iterator<Item = Node<'t>> {
        let one = (!matches!(self.data().value, Value::List | Value::Null)).then_some(self);
        one.into_iter().chain(self.items())
    }

    /// The entries of a mapping, with those that it merges by `<<`. One of equal keys wins, as [`EqualKeys`] says. A
    /// mapping's own keys win over merged ones, and keys that are merged first win over later ones.
    pub(crate) fn map(self) -> Map<'t> {
        let mut map = Map::default();
        let mut merged = HashSet::new();
        let mut waiting = vec![self];
        while let Some(node) = waiting.pop() {
            if !merged.insert(node.id) {
                continue;
            }
            let mut others = Vec::new();
            let merged_before = map.entries.len();
            for (key, value) in node.pairs() {
                match key.text() {
                    Some("<<") => others.extend(value.one_or_more()),
                    Some(name) => {
                        let next = map.entries.len();
                        let position = *map.positions.entry(name).or_insert(next);
                        if position == next {
                            map.entries.push((key, value));
                        } else if position >= merged_before {
                            self.tree.repeats_keys.set(true);
                        }
                    }
                    None => {}
                }
            }
            waiting.extend(others.into_iter().rev());
        }
        map
    }

    /// Keys and values, from the ones that win to the ones that do not.
    fn pairs(self) -> impl Iterator<Item = (Node<'t>, Node<'t>)> {
        let nodes = if self.is_map() { self.data().children.as_slice() } else { &[] };
        let count = nodes.len() / 2;
        let number = move |n| if self.equal_keys == EqualKeys::First { n } else { count - 1 - n };
        (0..count).map(number).map_while(move |n| Some((self.visit(nodes[2 * n])?, self.visit(nodes[2 * n + 1])?)))
    }

    fn visit(self, id: usize) -> Option<Self> {
        let visits = self.tree.visits.get();
        self.tree.visits.set((visits + 1).min(YAML_VISITS));
        (visits < YAML_VISITS).then_some(Self { id, ..self })
    }

    fn data(self) -> &'t NodeData<'t> {
        &self.tree.nodes[self.id]
    }
}

/// The entries of a mapping whose keys are texts.
#[derive(Debug, Default)]
pub(crate) struct Map<'t> {
    /// Keys and values. Every key is a text.
    entries: Vec<(Node<'t>, Node<'t>)>,
    positions: HashMap<&'t str, usize>,
}

impl<'t> Map<'t> {
    pub(crate) fn get(&self, key: &str) -> Option<Node<'t>> {
        self.positions.get(key).map(|&position| self.entries[position].1)
    }

    /// The mapping that is the value of a key. Empty if there is none.
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
    fn merged_keys() {
        let tree = Tree::parse(
            "one: &one {a: 1, b: 1, c: 1}\ntwo: &two\n  <<: *one\n  b: 2\nthree: &three {c: 3, d: 3}\n\
             all: {<<: [*two, *three], a: 0, a: 9}\n",
        )
        .unwrap();
        let all = |key| text(&tree, &["all", key]).map(|(text, _)| text);
        assert_eq!([all("a"), all("b"), all("c"), all("d")], [Some("9"), Some("2"), Some("1"), Some("3")]);
    }

    // F8.4, F8.6: what follows the first document, and the first of equal keys, are read, too.
    #[test]
    fn all_documents_and_all_equal_keys() {
        let tree = Tree::parse("a: 1\n---\na: 2\na: 3\n").unwrap();
        let values =
            |equal| tree.roots(equal).map(|root| root.map().get("a").unwrap().text().unwrap()).collect::<Vec<_>>();
        assert_eq!((values(EqualKeys::Last), values(EqualKeys::First)), (vec!["1", "3"], vec!["1", "2"]));
        assert!(tree.repeats_keys());
        let merged = Tree::parse("x: &x {a: 1}\ny: {<<: *x, a: 2}\n").unwrap();
        assert_eq!(text(&merged, &["y", "a"]), Some(("2", 2)));
        assert!(!merged.repeats_keys());
        assert_eq!(text(&Tree::parse("a: 1\n---\n[\n").unwrap(), &["a"]), Some(("1", 1)));
    }

    #[test]
    fn an_alias_within_its_own_node_is_null() {
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
        assert!(!tree.is_within_limits());
    }

    #[test]
    fn a_bomb_of_merges_ends() {
        let mut bomb = "m0: &m0 {x: 1}\n".to_owned();
        for n in 1..200 {
            bomb += &format!("m{n}: &m{n} {{<<: [*m{0}, *m{0}]}}\n", n - 1);
        }
        let tree = Tree::parse(&bomb).unwrap();
        assert_eq!(text(&tree, &["m199", "x"]), Some(("1", 1)));
        assert!(tree.is_within_limits());
    }

    #[test]
    fn limits() {
        let deep = "[".repeat(70);
        assert!(matches!(Tree::parse(&deep), Err(Error::TooDeep)));
        let many = "- a\n".repeat(YAML_NODES);
        assert!(matches!(Tree::parse(&many), Err(Error::TooMany)));
        let error = Tree::parse("a: b\nc: \"").unwrap_err();
        assert!(matches!(error, Error::Syntax { line: 2.., .. }), "{error}");
    }
}
