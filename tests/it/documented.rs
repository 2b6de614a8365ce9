//! Each error names a section of `docs/troubleshooting.md`. It is there, and it quotes the error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The text of a file of the project.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All files below a directory whose names end like this.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_str().unwrap().ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// The anchors in the sources: what stands in quotes inside of each `fn anchor`.
fn anchors() -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for path in files(&project("src"), ".rs") {
        let source = read(&path);
        for function in source.split("fn anchor(&self) -> &'static str {").skip(1) {
            let body = function.split_once("\n    }").unwrap_or_else(|| panic!("{}", path.display())).0;
            anchors.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    anchors
}

/// What GitHub and Bitbucket make of a heading.
fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The sections by their anchors.
fn sections() -> BTreeMap<String, String> {
    let page = read(&project("docs/troubleshooting.md"));
    let mut sections = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap();
        let twice = sections.insert(slug(heading), text.to_owned());
        assert!(twice.is_none(), "{heading} is there twice");
    }
    sections
}

/// The errors that a section quotes; `…` stands for anything, or nothing.
fn quotes(section: &str) -> Vec<&str> {
    section.lines().filter_map(|line| line.strip_prefix("    error: ")).collect()
}

fn fits(quote: &str, message: &str) -> bool {
    let Some((first, others)) = quote.split_once('…') else { return quote == message };
    let (middle, last) = others.rsplit_once('…').unwrap_or(("", others));
    let inside = message.strip_prefix(first.trim()).and_then(|rest| rest.strip_suffix(last.trim()));
    let left = inside.and_then(|rest| {
        middle.split('…').try_fold(rest, |rest, piece| rest.split_once(piece.trim()).map(|(_, after)| after))
    });
    left.is_some()
}

#[test]
fn each_error_has_its_section_and_each_section_its_error() {
    let sections = sections();
    let documented: BTreeSet<_> = sections.keys().cloned().collect();
    assert!(anchors().len() > 50, "{:?}", anchors());
    assert_eq!(anchors(), documented);
    for (anchor, text) in &sections {
        assert!(!quotes(text).is_empty(), "{anchor} quotes no error");
        assert!(text.contains("\n    "), "{anchor}");
    }
}

#[test]
fn each_error_is_quoted_in_its_section() {
    let sections = sections();
    let mut checked = 0;
    for path in files(&project("tests/it/golden/errors"), ".txt") {
        let report = read(&path);
        // What clap says has no section.
        let Some((_, anchor)) = report.split_once("more: docs/troubleshooting.md#") else { continue };
        let message = report.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
        let section = sections.get(anchor.trim()).unwrap_or_else(|| panic!("{}: {anchor}", path.display()));
        let quotes = quotes(section);
        assert!(quotes.iter().any(|quote| fits(quote, message)), "{}: {message}\n{quotes:#?}", path.display());
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn quotes_fit_and_do_not_fit() {
    assert!(fits("a … b", "a long b"));
    assert!(fits("a …", "a long b"));
    assert!(fits("… is not set", "TOKEN is not set"));
    assert!(!fits("… is not set", "TOKEN is not set up"));
    assert!(fits("… b … d", "a b c d"));
    assert!(!fits("… b … d", "a c d"));
    assert!(!fits("a b", "a b c"));
    assert!(!fits("a … b", "x long b"));
}
