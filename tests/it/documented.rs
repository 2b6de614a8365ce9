//! The documents are consistent: each section of `docs/troubleshooting.md` quotes an error, of the product or of
//! another program, and has a remedy; every link has a target. A unit test of `src/error` checks that each error has a
//! section.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::harness::stories;
use crate::troubleshooting::{blocks, fits, parts, quotes, sections, slug};

stories! {
    each_section_quotes_an_error_and_says_what_to_do,
    each_message_of_other_programs_is_quoted_and_has_a_fix,
    each_error_is_quoted_in_its_section,
    every_section_of_troubleshooting_is_in_its_contents,
    every_link_has_a_target,
    every_address_of_a_document_is_one_of_this_version,
    every_named_link_is_defined_and_used,
    ids_are_those_of_bitbucket,
    every_test_that_security_md_names_exists,
    every_ignored_advisory_is_explained,
    no_private_operation_of_the_rsa_crate_is_used,
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
        let Some((_, anchor)) = report.split_once("/docs/troubleshooting.md#markdown-header-") else { continue };
        let message = report.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
        let section = sections.get(anchor.trim()).unwrap_or_else(|| panic!("{}: {anchor}", path.display()));
        let quotes = quotes(section);
        assert!(quotes.iter().any(|quote| fits(quote, message)), "{}: {message}\n{quotes:#?}", path.display());
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

fn every_section_of_troubleshooting_is_in_its_contents() {
    let page = read(&project("docs/troubleshooting.md"));
    let (_, contents) = page.split_once("\nAll sections by subject").unwrap();
    let (contents, _) = contents.split_once("\n## ").unwrap();
    let (errors, others) = parts();
    for anchor in sections(&errors).into_keys().chain(sections(&others).into_keys()) {
        assert!(
            contents.contains(&format!("](#markdown-header-{anchor})")),
            "add {anchor} to the list of all sections"
        );
    }
}

/// The documents of the project.
fn documents() -> Vec<PathBuf> {
    let mut documents = files(&project("docs"), ".md");
    documents.extend(files(&project("examples"), ".md"));
    let top_level = std::fs::read_dir(project(".")).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(top_level.filter(|path| path.extension().is_some_and(|end| end == "md")));
    documents
}

/// The headings of a page, outside of blocks, by the ids that Bitbucket gives them. The second heading of the same slug
/// gets `_1`, the third `_2`.
fn headings(page: &str) -> BTreeMap<String, String> {
    let text = page.split("\n```").step_by(2).flat_map(str::lines);
    let mut headings = BTreeMap::new();
    for line in text.filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim();
        let id = format!("markdown-header-{}", slug(heading));
        let number = (0..).find(|number| !headings.contains_key(&numbered(&id, *number))).unwrap();
        headings.insert(numbered(&id, number), heading.to_owned());
    }
    headings
}

fn numbered(id: &str, number: usize) -> String {
    if number == 0 { id.to_owned() } else { format!("{id}_{number}") }
}

/// Where the documents of this version are shown: the value of `repository` in `pipe.yml`, and the tag.
fn home() -> String {
    let metadata = read(&project("pipe.yml"));
    let repository = metadata.lines().find_map(|line| line.strip_prefix("repository: ")).unwrap();
    format!("{repository}/src/{}/", env!("CARGO_PKG_VERSION"))
}

/// Fails if there is no such file, or no such heading in it.
fn assert_target(document: &Path, file: &Path, anchor: &str) {
    let link = format!("{}: {}#{anchor}", document.display(), file.display());
    assert!(file.exists(), "{link}");
    if anchor.is_empty() {
        return;
    }
    let headings = headings(&read(file));
    let heading = headings.get(anchor).unwrap_or_else(|| panic!("{link}"));
    // Other renderers make other ids of other characters, and of hyphens beside blanks. All of them drop the apostrophe.
    let simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '\'');
    assert!(heading.chars().all(simple) && !heading.contains("- "), "{link}: the heading `{heading}`");
}

/// The targets of the links of a page: `[text](target)`, and `[name]: target` for `[text][name]`.
fn targets(page: &str) -> Vec<&str> {
    let inline = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let named = page.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
    // The comments of docs/performance.md have this name.
    inline.chain(named.filter(|(name, _)| *name != "[//").map(|(_, target)| target)).collect()
}

fn every_link_has_a_target() {
    let mut checked = 0;
    for document in documents() {
        let page = read(&document);
        for target in targets(&page).into_iter().filter(|target| !target.starts_with("https://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            // Registries and the catalogue of pipes show the README alone.
            let alone = document.ends_with("README.md") && document.parent() == Some(&project(""));
            assert!(path.is_empty() || !alone, "README.md: {target} is not a full URL");
            let file = if path.is_empty() { document.clone() } else { document.with_file_name(path) };
            assert_target(&document, &file, anchor);
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

fn every_address_of_a_document_is_one_of_this_version() {
    let (mut checked, home) = (0, home());
    for document in documents() {
        let page = read(&document);
        // Pages, and pictures.
        for home in ["/src/", "/raw/"].map(|kind| home.replace("/src/", kind)) {
            let any_version = home.strip_suffix(&format!("{}/", env!("CARGO_PKG_VERSION"))).unwrap();
            for (at, _) in page.match_indices(any_version) {
                let url = page[at..].split([' ', '\n', ')', '>', '"', '\'', '`', ',']).next().unwrap();
                let target = url.strip_prefix(&home).unwrap_or_else(|| panic!("{}: {url}", document.display()));
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                assert_target(&document, &project(path), anchor);
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "{checked}");
}

fn every_named_link_is_defined_and_used() {
    for document in documents() {
        let page = read(&document);
        let text: String = page.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
        let end = |rest: &str| rest.split_once(']').map(|(name, _)| name.replace('\n', " "));
        let used: BTreeSet<_> = text.split("][").skip(1).filter_map(end).collect();
        let lines = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: https://"));
        let defined: BTreeSet<_> = lines.map(|(name, _)| name.to_owned()).collect();
        assert_eq!(used, defined, "{}", document.display());
    }
}

fn ids_are_those_of_bitbucket() {
    let ids: Vec<_> = headings("# A: `b` - c\n## No\n```sh\n# no\n```\n## No\n## It's_x\n").into_keys().collect();
    assert_eq!(ids, ["a-b-c", "its_x", "no", "no_1"].map(|id| format!("markdown-header-{id}")));
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

/// The ids of advisories in a text.
fn advisories(text: &str) -> BTreeSet<&str> {
    text.match_indices("RUSTSEC-").map(|(at, _)| &text[at..at + "RUSTSEC-2023-0071".len()]).collect()
}

fn every_ignored_advisory_is_explained() {
    let (config, page) = (read(&project("deny.toml")), read(&project("SECURITY.md")));
    let (_, section) = page.split_once("\n## Known advisories\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    assert_eq!(advisories(&config), advisories(section));
    let lock = read(&project("Cargo.lock"));
    let (_, version) = lock.split_once("name = \"rsa\"\nversion = \"").unwrap();
    let version = version.split('"').next().unwrap();
    assert!(section.contains(&format!("| `rsa` {version} |")), "rsa is {version}");
}

/// SECURITY.md, "Known advisories": the exception for `rsa` is right as long as nothing here decrypts or signs with it.
fn no_private_operation_of_the_rsa_crate_is_used() {
    for path in files(&project("src"), ".rs") {
        let source = read(&path);
        for name in ["pkcs1v15", "Pkcs1v15", "oaep", "Oaep", "rsa::pss", ".decrypt(", "rsa::signature::Signer"] {
            assert!(!source.contains(name), "{}: {name}", path.display());
        }
        let file = path.strip_prefix(project("src")).unwrap();
        let has_private_keys = source.contains("RsaPrivateKey");
        assert!(!has_private_keys || file == Path::new("keys.rs"), "{}: RsaPrivateKey", path.display());
    }
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
