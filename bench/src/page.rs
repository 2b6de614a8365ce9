//! docs/performance.md and its chart. A generated text stands between two comments, of which the first names it;
//! everything else is prose that the authors write, and stays.

use std::path::Path;
use std::process::Command;
use std::{fs, io, thread};

use clap::ValueEnum as _;

use crate::chart;
use crate::cluster::succeed;
use crate::report::{Report, Text};

const DOCUMENT: &str = "docs/performance.md";
const CHART: &str = "docs/performance.svg";
const END: &str = "[//]: # (end)";

/// Writes a complete run into the document, and draws the chart.
pub(crate) fn write(report: &Report) -> io::Result<()> {
    let mut document = fs::read_to_string(DOCUMENT)?;
    for name in Text::value_variants() {
        let text = report.texts.iter().find_map(|(found, text)| (found == name).then_some(text));
        document = text
            .and_then(|text| replace(&document, &name.name(), text))
            .ok_or_else(|| io::Error::other(format!("no text, or no place in {DOCUMENT}: {}", name.name())))?;
    }
    fs::write(DOCUMENT, document)?;
    fs::write(CHART, chart::draw(&report.ratios))
}

fn begin(name: &str) -> String {
    format!("[//]: # (begin {name})\n")
}

/// Replaces the text of this name. Returns `None` if the document has no such text.
fn replace(document: &str, name: &str, text: &str) -> Option<String> {
    let begin = begin(name);
    let start = document.find(&begin)? + begin.len();
    let end = start + document[start..].find(END)?;
    Some(format!("{}\n{}\n\n{}", &document[..start], text.trim_end(), &document[end..]))
}

/// What was measured, when, and on what machine.
pub(crate) fn machine(binary: &Path, peer: &Path) -> io::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let (model, cores) = (model.map_or("unknown", |(_, model)| model), thread::available_parallelism()?);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // The suffix says who built it.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let ssh = Command::new("ssh").arg("-V").output()?.stderr;
    let output =
        |command: &mut Command| Ok::<_, io::Error>(String::from_utf8_lossy(&succeed(command)?).trim().to_owned());
    let mut text = format!(
        "* Date: {}\n* {}, SHA-256 {:.12}…\n* Machine: {cores} cores ({model}), Linux {kernel}\n* ssh: {}\n",
        output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?,
        output(Command::new(binary).arg("version"))?,
        output(Command::new("sha256sum").arg(binary))?,
        String::from_utf8_lossy(&ssh).trim(),
    );
    // Only Go itself reads this from a binary.
    let modules = output(Command::new("go").args(["version", "-m"]).arg(peer)).unwrap_or_default();
    if let Some(version) = api_version(&modules) {
        text += &format!("* teleport-peer: `github.com/gravitational/teleport/api` {version}\n");
    }
    text += "* A cell with three figures is of 5 runs for bytes on the direct route, of 9 for joins, and of 3 otherwise; in \
             \"Many joins\" of all joins\n";
    Ok(text)
}

/// The version of Teleport's API module, in the list of modules that Go prints.
fn api_version(modules: &str) -> Option<&str> {
    modules
        .lines()
        .find_map(|line| line.trim().strip_prefix("dep\tgithub.com/gravitational/teleport/api\t")?.split('\t').next())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn only_the_named_text_changes() {
        let document = "# A\n\nProse.\n\n[//]: # (begin one)\n\n| old |\n\n[//]: # (end)\n\nMore.\n\n[//]: # (begin two)\n[//]: # (end)\n";
        let once = replace(document, "one", "| new |\n").unwrap();
        assert_eq!(once, document.replace("old", "new"));
        let filled = replace(document, "two", "text").unwrap();
        assert!(filled.ends_with("More.\n\n[//]: # (begin two)\n\ntext\n\n[//]: # (end)\n"), "{filled}");
        assert_eq!(replace(document, "three", ""), None);
    }

    #[test]
    fn every_text_has_its_place_on_the_page() {
        let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DOCUMENT)).unwrap();
        let names = document.lines().filter_map(|line| line.strip_prefix("[//]: # (begin ")?.strip_suffix(')'));
        let known = Text::value_variants().iter().map(|name| name.name());
        assert_eq!(names.map(str::to_owned).collect::<BTreeSet<_>>(), known.collect());
    }

    #[test]
    fn the_version_of_the_module_is_found() {
        let modules =
            "peer: go1.24.1\n\tpath\tpeer\n\tdep\tgithub.com/gravitational/teleport/api\tv0.0.0-2025\th1:x=\n";
        assert_eq!(api_version(modules), Some("v0.0.0-2025"));
        assert_eq!(api_version("peer: go1.24.1\n"), None);
    }
}
