//! The documents are consistent: each section of `docs/troubleshooting.md` quotes an error, of the product or of
//! another program, and has a remedy; every link has a target. A unit test of `src/error` checks that each error has a
//! section.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::harness::stories;
use crate::troubleshooting::{blocks, fits, parts, quotes, sections, slug};

stories! {
    each_section_quotes_an_error_and_says_what_to_do,
    each_message_of_other_programs_is_quoted_and_has_a_fix,
    each_error_is_quoted_in_its_section,
    every_link_has_a_target,
    every_test_that_security_md_names_exists,
    quotes_match_messages,
}

/// The text of a file of the project.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All files below a directory whose names have this end.
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

fn each_section_quotes_an_error_and_says_what_to_do() {
    for (anchor, text) in &sections(&parts().0) {
        assert!(!quotes(text).is_empty(), "{anchor} quotes no error");
        assert!(!blocks(text, &["sh", "yaml"]).is_empty(), "{anchor} has no remedy");
    }
}

fn each_message_of_other_programs_is_quoted_and_has_a_fix() {
    let (errors, others) = parts();
    let (errors, others) = (sections(&errors), sections(&others));
    assert!(others.len() > 5, "{:?}", others.keys());
    for (anchor, text) in &others {
        assert!(!errors.contains_key(anchor), "{anchor} exists twice");
        assert!(!blocks(text, &["text"]).is_empty(), "{anchor} quotes nothing");
        assert!(quotes(text).is_empty(), "{anchor} quotes an error of the product");
        assert!(!blocks(text, &["sh", "yaml"]).is_empty(), "{anchor} has no remedy");
    }
}

fn each_error_is_quoted_in_its_section() {
    let sections = sections(&parts().0);
    let mut checked = 0;
    for path in files(&project("tests/it/golden/errors"), ".txt") {
        let report = read(&path);
        // Errors of clap have no section.
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
    documents.extend(files(&project("examples"), ".md"));
    let top_level = std::fs::read_dir(project(".")).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(top_level.filter(|path| path.extension().is_some_and(|end| end == "md")));
    documents
}

/// The anchors of a page: its headings, outside of blocks.
fn headings(page: &str) -> BTreeSet<String> {
    let text = page.split("\n```").step_by(2).flat_map(str::lines);
    text.filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

fn every_link_has_a_target() {
    let mut checked = 0;
    for document in documents() {
        let page = read(&document);
        let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let target_file = if path.is_empty() { document.clone() } else { document.with_file_name(path) };
            assert!(target_file.is_file(), "{}: {target}", document.display());
            let found = anchor.is_empty() || headings(&read(&target_file)).contains(anchor);
            assert!(found, "{}: {target}", document.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

fn every_test_that_security_md_names_exists() {
    let mut checked = 0;
    let page = read(&project("SECURITY.md"));
    let stories = crate::stories();
    for row in page.lines().filter(|line| line.contains("| `tests/") || line.contains("| `src/")) {
        // Files, each with its stories.
        let mut file = "";
        for name in row.rsplit_once(" | ").unwrap().1.split('`').skip(1).step_by(2) {
            if name.ends_with(".rs") {
                file = name;
                continue;
            }
            let exists = match file.strip_prefix("tests/it/") {
                Some(path) => {
                    let story = format!("{}::{name}", path.strip_suffix(".rs").unwrap());
                    stories.iter().any(|trial| trial.name() == story)
                }
                None => read(&project(file)).contains(&format!("fn {name}(")),
            };
            assert!(exists, "{row}: {name}");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

fn quotes_match_messages() {
    assert!(fits("a … b", "a long b"));
    assert!(fits("a …", "a long b"));
    assert!(fits("… is not set", "TOKEN is not set"));
    assert!(!fits("… is not set", "TOKEN is not set up"));
    assert!(fits("… b … d", "a b c d"));
    assert!(!fits("… b … d", "a c d"));
    assert!(!fits("a b", "a b c"));
    assert!(!fits("a … b", "x long b"));
}
