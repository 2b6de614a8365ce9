//! docs/performance.md and its chart.

use std::process::Command;
use std::{fs, io, thread};

use crate::report::Report;
use crate::{chart, document, summary};

const DOCUMENT: &str = "docs/performance.md";
const CHART: &str = "docs/performance.svg";

/// Writes what was measured into the document, and draws the chart.
///
/// # Errors
///
/// If the document has no such part, or a file cannot be written.
pub(crate) fn write(report: &Report, runs: Option<usize>) -> io::Result<()> {
    let mut document = fs::read_to_string(DOCUMENT)?;
    for (name, text) in &report.texts {
        document = document::replace(&document, name, text)?;
    }
    let known = summary::parse(document::part(&document, "summary").unwrap_or_default());
    let ratios = summary::merge(known, &report.ratios);
    document = document::replace(&document, "summary", &summary::render(&ratios))?;
    document = document::replace(&document, "machine", &machine(runs)?)?;
    fs::write(DOCUMENT, document)?;
    fs::write(CHART, chart::draw(&ratios))
}

/// The machine, the programs and the number of runs, for the document.
fn machine(runs: Option<usize>) -> io::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let (model, cores) = (model.map_or("unknown", |(_, model)| model), thread::available_parallelism()?);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // The suffix says who built it.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let ssh = Command::new("ssh").arg("-V").output()?.stderr;
    let ssh = String::from_utf8_lossy(&ssh);
    let runs = match runs {
        Some(1) => "1 run".to_owned(),
        Some(runs) => format!("{runs} runs"),
        None => "5 runs, or of 9 for joins and single sessions".to_owned(),
    };
    Ok(format!(
        "* Machine: {cores} cores ({model}), Linux {kernel}\n* ssh: {}\n* A cell with three figures is of {runs}; in \"Many joins\" of all joins",
        ssh.trim()
    ))
}
