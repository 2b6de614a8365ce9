//! A parser of `docs/troubleshooting.md`. The unit tests of `src/error` include this file, too.

use std::collections::BTreeMap;

/// What Bitbucket's renderer makes of a heading: characters other than letters, digits, `_`, `-` and blanks are removed,
/// and runs of blanks and hyphens become one hyphen.
pub(crate) fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let kept: String = heading.trim().chars().filter(kept).collect();
    let words = kept.split([' ', '-']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// The page's two parts: errors of the product, and messages of other programs.
pub(crate) fn parts() -> (String, String) {
    const PAGE: &str = include_str!("../../docs/troubleshooting.md");
    let (errors, others) = PAGE.split_once("\n# Not an error of the pipe\n").unwrap();
    (errors.to_owned(), others.to_owned())
}

/// The sections of a part by their anchors.
pub(crate) fn sections(part: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    for section in part.split("\n## ").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap();
        let twice = sections.insert(slug(heading), text.to_owned());
        assert!(twice.is_none(), "{heading} exists twice");
    }
    sections
}

/// The blocks of a section, by their language.
pub(crate) fn blocks<'a>(section: &'a str, languages: &[&str]) -> Vec<&'a str> {
    let blocks = section.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
    blocks.filter(|(language, _)| languages.contains(language)).map(|(_, text)| text).collect()
}

/// The errors that a section quotes; `…` stands for any text, or none.
pub(crate) fn quotes(section: &str) -> Vec<&str> {
    let lines = blocks(section, &["text"]).into_iter().flat_map(str::lines);
    lines.filter_map(|line| line.strip_prefix("error: ")).collect()
}

pub(crate) fn fits(quote: &str, message: &str) -> bool {
    let Some((first, others)) = quote.split_once('…') else { return quote == message };
    let (middle, last) = others.rsplit_once('…').unwrap_or(("", others));
    let inside = message.strip_prefix(first.trim()).and_then(|rest| rest.strip_suffix(last.trim()));
    let left = inside.and_then(|rest| {
        middle.split('…').try_fold(rest, |rest, piece| rest.split_once(piece.trim()).map(|(_, after)| after))
    });
    left.is_some()
}
