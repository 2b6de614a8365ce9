//! The generated parts of docs/performance.md. Each stands between two comments that name it; everything else is prose
//! that people write, and stays.

use std::io;

/// Replaces the part of this name.
///
/// # Errors
///
/// If the document has no such part.
pub(crate) fn replace(document: &str, name: &str, text: &str) -> io::Result<String> {
    let (before, _, after) = split(document, name)
        .ok_or_else(|| io::Error::other(format!("the document has no part between the comments for `{name}`")))?;
    Ok(format!("{before}\n{}\n\n{after}", text.trim_end()))
}

/// Returns the text of the part of this name.
pub(crate) fn part<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    split(document, name).map(|(_, text, _)| text.trim())
}

/// Splits the document into what ends with the first comment, the part, and what begins with the last comment.
fn split<'a>(document: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let begin = format!("<!-- begin {name}, written by make bench -->\n");
    let start = document.find(&begin)? + begin.len();
    let end = start + document[start..].find("<!-- end -->")?;
    Some((&document[..start], &document[start..end], &document[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# A\n\nProse.\n\n<!-- begin one, written by make bench -->\n\n| old |\n\n<!-- end -->\n\nMore.\n\n\
        <!-- begin two, written by make bench -->\n<!-- end -->\n";

    #[test]
    fn only_the_named_part_changes() {
        let once = replace(DOCUMENT, "one", "| new |\n").unwrap();
        assert_eq!(once, DOCUMENT.replace("old", "new"));
        assert_eq!(replace(&once, "one", "| old |").unwrap(), DOCUMENT);
        let filled = replace(DOCUMENT, "two", "text").unwrap();
        assert!(
            filled.ends_with("More.\n\n<!-- begin two, written by make bench -->\n\ntext\n\n<!-- end -->\n"),
            "{filled}"
        );
        assert_eq!(part(&filled, "one"), Some("| old |"));
        assert_eq!(part(&filled, "two"), Some("text"));
    }

    #[test]
    fn a_part_that_does_not_exist_is_an_error() {
        assert!(replace(DOCUMENT, "three", "").is_err());
        assert_eq!(part(DOCUMENT, "three"), None);
    }
}
