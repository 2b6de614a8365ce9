//! Each error names a section of `docs/troubleshooting.md`. It is there, and it quotes the error. What is no error of
//! ours has its sections after those, in a part of its own. Every link in the documents leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::harness::stories;

stories! {
    each_error_has_its_section_and_each_section_its_error,
    each_variant_of_each_error_is_quoted,
    what_is_no_error_of_ours_is_quoted_and_mended,
    each_error_is_quoted_in_its_section,
    every_link_leads_somewhere,
    the_tests_that_hold_the_promises_are_there,
    quotes_fit_and_do_not_fit,
}

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

/// The anchors in the sources.
fn anchors() -> BTreeSet<String> {
    files(&project("src"), ".rs").iter().flat_map(|path| anchors_in(&read(path))).collect()
}

/// The anchors in a source: what stands in quotes inside of each `fn anchor`.
fn anchors_in(source: &str) -> BTreeSet<String> {
    let functions = source.split("fn anchor(&self) -> &'static str {").skip(1);
    let bodies = functions.map(|function| function.split_once("\n    }").unwrap().0);
    bodies.flat_map(|body| body.split('"').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// What the explained errors of a source say, with `…` for what differs.
fn messages(source: &str) -> Vec<String> {
    let mut messages = Vec::new();
    for name in source.split("impl Explain for ").skip(1).filter_map(|rest| rest.split_once([' ', '<'])).map(|(n, _)| n)
    {
        // The attribute of a struct stands above it, those of an enum in it.
        let (of_enum, of_struct) = (format!("enum {name} {{"), format!("struct {name}"));
        let block = match source.split_once(&of_enum) {
            Some((_, rest)) => rest.split_once("\n}").unwrap().0,
            None => source.split_once(&of_struct).unwrap_or_else(|| panic!("{name}")).0.rsplit_once("\n\n").unwrap().1,
        };
        for attribute in block.split("#[error(").skip(1) {
            let attribute = attribute.trim_start();
            if let Some(literal) = attribute.strip_prefix('"') {
                messages.push(message(literal));
            } else {
                assert!(attribute.starts_with("transparent"), "{name}: {attribute}");
            }
        }
    }
    messages
}

/// The text of a literal, after its opening quote.
fn message(literal: &str) -> String {
    let (mut text, mut depth, mut chars) = (String::new(), 0, literal.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            // A line that goes on in the next one.
            '\\' if chars.peek() == Some(&'\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
            '\\' => text.extend(chars.next()),
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                text.push('…');
            }
            c if depth == 0 => text.push(c),
            _ => {}
        }
    }
    text
}

/// What GitHub and Bitbucket make of a heading.
fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The page's two parts: our errors, and what others say.
fn parts() -> (String, String) {
    let page = read(&project("docs/troubleshooting.md"));
    let (ours, others) = page.split_once("\n# Not an error of the pipe\n").unwrap();
    (ours.to_owned(), others.to_owned())
}

/// The sections of a part by their anchors.
fn sections(part: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    for section in part.split("\n## ").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap();
        let twice = sections.insert(slug(heading), text.to_owned());
        assert!(twice.is_none(), "{heading} is there twice");
    }
    sections
}

/// The blocks of a section, by their language.
fn blocks<'a>(section: &'a str, languages: &[&str]) -> Vec<&'a str> {
    let blocks = section.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
    blocks.filter(|(language, _)| languages.contains(language)).map(|(_, text)| text).collect()
}

/// The errors that a section quotes; `…` stands for anything, or nothing.
fn quotes(section: &str) -> Vec<&str> {
    let lines = blocks(section, &["text"]).into_iter().flat_map(str::lines);
    lines.filter_map(|line| line.strip_prefix("error: ")).collect()
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

fn each_error_has_its_section_and_each_section_its_error() {
    let sections = sections(&parts().0);
    let documented: BTreeSet<_> = sections.keys().cloned().collect();
    assert!(anchors().len() > 50, "{:?}", anchors());
    assert_eq!(anchors(), documented);
    for (anchor, text) in &sections {
        assert!(!quotes(text).is_empty(), "{anchor} quotes no error");
        assert!(!blocks(text, &["sh", "yaml"]).is_empty(), "{anchor} says nothing to do");
    }
}

/// Also those that no test provokes.
fn each_variant_of_each_error_is_quoted() {
    let sections = sections(&parts().0);
    let (mut checked, mut missing) = (0, Vec::new());
    for path in files(&project("src"), ".rs") {
        let source = read(&path);
        let anchors = anchors_in(&source);
        let quotes: Vec<_> = anchors.iter().flat_map(|anchor| quotes(&sections[anchor])).collect();
        // One that is nothing but its parts could be anything.
        for message in messages(&source).iter().filter(|message| message.as_str() != "…") {
            // The page may have the words for which the code has an expression.
            if !quotes.iter().any(|quote| fits(quote, message) || fits(message, quote)) {
                missing.push(format!("{}: {message}", path.display()));
            }
            checked += 1;
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(checked > 60, "{checked}");
}

fn what_is_no_error_of_ours_is_quoted_and_mended() {
    let (ours, others) = parts();
    let (ours, others) = (sections(&ours), sections(&others));
    assert!(others.len() > 5, "{:?}", others.keys());
    for (anchor, text) in &others {
        assert!(!ours.contains_key(anchor), "{anchor} is there twice");
        assert!(!blocks(text, &["text"]).is_empty(), "{anchor} quotes nothing");
        assert!(quotes(text).is_empty(), "{anchor} quotes an error of ours");
        assert!(!blocks(text, &["sh", "yaml"]).is_empty(), "{anchor} says nothing to do");
    }
}

fn each_error_is_quoted_in_its_section() {
    let sections = sections(&parts().0);
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

/// The documents of the project.
fn documents() -> Vec<PathBuf> {
    let mut documents = files(&project("docs"), ".md");
    let here = std::fs::read_dir(project(".")).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(here.filter(|path| path.extension().is_some_and(|end| end == "md")));
    documents
}

/// The anchors of a page: its headings, outside of blocks.
fn headings(page: &str) -> BTreeSet<String> {
    let text = page.split("\n```").step_by(2).flat_map(str::lines);
    text.filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

fn every_link_leads_somewhere() {
    let mut checked = 0;
    for document in documents() {
        let page = read(&document);
        let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = if path.is_empty() { document.clone() } else { document.with_file_name(path) };
            assert!(there.is_file(), "{}: {target}", document.display());
            let found = anchor.is_empty() || headings(&read(&there)).contains(anchor);
            assert!(found, "{}: {target}", document.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

fn the_tests_that_hold_the_promises_are_there() {
    let mut checked = 0;
    let page = read(&project("SECURITY.md"));
    let stories = crate::stories();
    for row in page.lines().filter(|line| line.contains("| `tests/")) {
        let mut names = row.rsplit_once(" | ").unwrap().1.split('`').skip(1).step_by(2);
        let file = names.next().unwrap().strip_prefix("tests/it/").unwrap().strip_suffix(".rs").unwrap();
        for name in names {
            let story = format!("{file}::{name}");
            assert!(stories.iter().any(|there| there.name() == story), "{row}: {name}");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

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
