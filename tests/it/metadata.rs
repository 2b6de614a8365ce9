//! `pipe.yml`, the README, `--help` and the code agree, and have the form that Bitbucket's catalogue requires.

use std::path::Path;

use teleport_pipe::VARIABLES;

use crate::harness::stories;
use crate::step::Step;

stories! {
    variables_are_the_same_everywhere,
    versions_are_the_same_everywhere,
    one_home_is_named_everywhere,
    the_catalogue_has_all_metadata,
    the_log_is_documented,
}

/// A variable in a document: its name, whether it is required, and its default.
type Variable = (String, bool, Option<String>);

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn variables_in_code() -> Vec<Variable> {
    VARIABLES.iter().map(|v| (v.name.to_owned(), v.required, v.default.map(str::to_owned))).collect()
}

/// The value of a top-level key of `pipe.yml`, which has one line for each value.
fn metadata(key: &str) -> String {
    let text = read("pipe.yml");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}: ")));
    line.unwrap_or_else(|| panic!("pipe.yml has no {key}")).to_owned()
}

fn variables_in_pipe_yml() -> Vec<Variable> {
    let text = read("pipe.yml");
    let (_, variables) = text.split_once("\nvariables:\n").unwrap();
    let variables = variables.split("  - name: ").skip(1).map(|variable| {
        let mut lines = variable.lines();
        let name = lines.next().unwrap().to_owned();
        let value = |key: &str| variable.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
        assert!(value("description:").is_some_and(|text| text.ends_with('.')), "{name} has no description");
        let default = value("default:").map(|default| default.trim_matches('\'').to_owned());
        (name, value("required:").unwrap().parse().unwrap(), default)
    });
    variables.collect()
}

/// The text of a `##` section of the README.
fn section(heading: &str) -> String {
    let readme = read("README.md");
    let text = readme.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}")).1;
    text.split_once("\n## ").map_or(text, |(text, _)| text).to_owned()
}

/// The rows of the table: name, type, default and usage.
fn variables_in_table() -> Vec<Variable> {
    let section = section("Variables");
    let (table, _) = section.split_once("\n### ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1).map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, kind, default, usage, _] = cells[..] else { panic!("{row}") };
        assert!(!kind.is_empty() && usage.ends_with('.'), "{row}");
        let required = name.strip_suffix(" (*)");
        let default = default.strip_prefix('`').map(|default| default.strip_suffix('`').unwrap().to_owned());
        (required.unwrap_or(name).to_owned(), required.is_some(), default)
    });
    rows.collect()
}

/// The snippet has optional variables as comments, and no defaults.
fn variables_in_snippet() -> Vec<(String, bool)> {
    let definition = section("YAML Definition");
    let (_, variables) = definition.split_once("  variables:\n").unwrap();
    let (variables, _) = variables.split_once("```").unwrap();
    let lines = variables.lines().map(|line| {
        let optional = line.trim().strip_prefix("# ");
        assert_eq!(optional.is_some(), line.ends_with(" # Optional"), "{line}");
        (optional.unwrap_or(line.trim()).split_once(':').unwrap().0.to_owned(), optional.is_none())
    });
    lines.collect()
}

fn variables_in_help() -> Vec<Variable> {
    let help = Step::empty().product(&["--help"]).ok().stdout;
    let (_, variables) = help.split_once("Variables of the pipe").unwrap();
    let lines = variables.lines().skip(1).take_while(|line| line.starts_with("  ")).map(|line| {
        let (name, rest) = line.trim().split_once(' ').unwrap();
        let default = rest.split_once("[default: ").map(|(_, default)| default.trim_end_matches(']').to_owned());
        (name.to_owned(), rest.starts_with("(*)"), default)
    });
    lines.collect()
}

fn variables_are_the_same_everywhere() {
    let code = variables_in_code();
    assert!(code.len() > 8, "{code:?}");
    assert_eq!(variables_in_pipe_yml(), code, "pipe.yml");
    assert_eq!(variables_in_table(), code, "the README's table");
    assert_eq!(variables_in_help(), code, "--help");
    let names: Vec<_> = code.into_iter().map(|(name, required, _)| (name, required)).collect();
    assert_eq!(variables_in_snippet(), names, "the README's snippet");
}

/// The versions after each `before` in a text.
fn versions<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let end = |rest: &'a str| rest.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap();
    text.split(before).skip(1).map(|rest| end(rest).trim_end_matches('.')).collect()
}

/// The pipelines of `examples/`.
fn examples() -> Vec<String> {
    let examples = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let directories = examples.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
    let names = directories.map(|entry| entry.file_name().into_string().unwrap());
    let files = names.map(|name| format!("examples/{name}/bitbucket-pipelines.yml"));
    files.filter(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file()).collect()
}

fn versions_are_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let numbers = version.split('.').map(|number| number.parse::<u32>().is_ok()).collect::<Vec<_>>();
    assert_eq!(numbers, [true; 3], "{version} is not x.y.z, the only form that tags of pipes can have");
    assert_eq!(metadata("image"), format!("ghcr.io/ORGANISATION/teleport-pipe:{version}"));
    let documents = [
        "README.md",
        "docs/forward-proxy.md",
        "docs/guide-bitbucket.md",
        "docs/other-tools.md",
        "docs/troubleshooting.md",
        "docs/without-a-pipe.md",
    ];
    let documents = documents.map(str::to_owned).into_iter().chain(examples());
    for document in documents {
        let text = read(&document);
        let named = versions(&text, "ORGANISATION/teleport-pipe:");
        assert!(!named.is_empty(), "{document}");
        assert!(named.iter().all(|named| *named == version), "{document}: {named:?}");
        for before in ["/teleport-pipe-", "=teleport-pipe-", "git checkout ", "/teleport-pipe/src/"] {
            assert!(versions(&text, before).iter().all(|named| *named == version), "{document}");
        }
    }
    let changes = read("CHANGELOG.md");
    assert_eq!(versions(&changes, "\n## [").into_iter().find(|named| !named.is_empty()), Some(version));
}

/// The repository on Bitbucket is where people find everything: `pipe.yml`, the image's labels, the README's tracker.
fn one_home_is_named_everywhere() {
    let home = metadata("repository");
    // The errors of the program have this one.
    assert_eq!(env!("CARGO_PKG_REPOSITORY"), home);
    let dockerfile = read("Dockerfile");
    for (label, path) in [("source", ""), ("url", "/src/$VERSION/"), ("documentation", "/src/$VERSION/README.md")] {
        let label = format!("org.opencontainers.image.{label}=\"{home}{path}\"");
        assert!(dockerfile.contains(&label), "no {label}");
    }
    let support = section("Support");
    assert!(support.contains(&format!("{home}/issues")));

    let address =
        |text: &str, before: &str| text.split_once(before).unwrap().1.split(['>', '\n']).next().unwrap().to_owned();
    let helps = address(&read("pipe.yml"), "  email: ");
    assert!(support.contains(&format!("<{helps}>")), "{helps}");
    let reporting = address(&read("SECURITY.md"), "Write to <");
    assert_ne!(helps, reporting, "requests for help must not arrive where vulnerabilities are reported");
    for document in ["README.md", "RELEASING.md", "SECURITY.md", "CONTRIBUTING.md", "pipe.yml", "Dockerfile"] {
        assert!(!read(document).contains("github.com/ORGANISATION"), "{document} names another home");
    }
}

fn the_catalogue_has_all_metadata() {
    for key in ["name", "image", "description", "category", "repository"] {
        assert!(!metadata(key).is_empty(), "{key}");
    }
    let text = read("pipe.yml");
    for key in ["vendor:\n  name: ", "maintainer:\n  name: ", "tags:\n  - "] {
        assert!(text.contains(&format!("\n{key}")), "{key:?}");
    }
    assert!(section("YAML Definition").contains("```yaml\n- pipe: ORGANISATION/teleport-pipe:"), "without docker://");

    let readme = read("README.md");
    assert!(readme.starts_with("# Bitbucket Pipelines Pipe: "));
    let headings: Vec<_> = readme.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let order = ["YAML Definition", "Variables", "Prerequisites", "Examples", "Support", "License"];
    let found: Vec<_> = headings.into_iter().filter(|heading| order.contains(heading)).collect();
    assert_eq!(found, order);
    assert!(section("Variables").contains("_(*) = required variable._"));
}

fn the_log_is_documented() {
    let page = read("docs/files-and-log.md");
    let (_, log) = page.split_once("a line for each stage").unwrap();
    let (log, _) = log.split_once("```text\n").unwrap().1.split_once("```").unwrap();
    let step = Step::empty()
        .scrub("example.teleport.sh:443".to_owned(), "localhost:PORT")
        .scrub("/opt/atlassian/pipelines/agent/build".to_owned(), "CLONE_DIR")
        // The testcluster has a private CA, so there is a `network.json`, too.
        .scrub("12 files".to_owned(), "13 files");
    assert_eq!(step.scrubbed(log), read("tests/it/golden/log/pipe.log"));
}
