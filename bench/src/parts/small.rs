//! The benchmarks of bench/benches/small.rs, which `cargo bench` runs and criterion evaluates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::cluster::succeed;
use crate::measurement::Measurement;
use crate::report::{Report, Text};
use crate::table::Table;

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    measurement.progress("small: cargo bench");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let results = target.join("criterion");
    // Results of benchmarks that exist no longer.
    let _ = fs::remove_dir_all(&results);
    let mut cargo = Command::new("cargo");
    cargo.args(["bench", "--locked", "--quiet", "-p", "bench", "--bench", "small", "--"]);
    // Enough for medians of functions without input or output.
    cargo.args(measurement.full_or_quick(&["--warm-up-time", "1", "--measurement-time", "2"][..], &["--quick"]));
    succeed(&mut cargo)?;
    let mut rows = Vec::new();
    for group in directories(&results)? {
        for input in directories(&group)? {
            rows.extend(row(&input)?);
        }
    }
    rows.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    let mut table = Table::new(["what", "size", "median, microseconds"]);
    for (name, size, median) in rows {
        table.row([name, size.to_string(), format!("{:.1}", median / 1000.0)]);
    }
    report.text(Text::Small, table);
    Ok(())
}

fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    paths.filter(|path| path.as_ref().map_or(true, |path| path.is_dir())).collect()
}

/// What was measured, its size, and the median in nanoseconds. Returns `None` for other directories of criterion.
fn row(directory: &Path) -> io::Result<Option<(String, u64, f64)>> {
    let file = |name| fs::read(directory.join("new").join(name));
    let Ok(description) = file("benchmark.json") else { return Ok(None) };
    Ok(parse(&serde_json::from_slice(&description)?, &serde_json::from_slice(&file("estimates.json")?)?))
}

fn parse(description: &Value, estimates: &Value) -> Option<(String, u64, f64)> {
    let name = description.get("group_id")?.as_str()?.to_owned();
    let size = description.get("value_str")?.as_str()?.parse().ok()?;
    Some((name, size, estimates.pointer("/median/point_estimate")?.as_f64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_of_criterion_are_read() {
        let description = json!({"group_id": "known_hosts, clusters", "value_str": "10"});
        let estimates = json!({"median": {"point_estimate": 1500.0}});
        assert_eq!(parse(&description, &estimates), Some(("known_hosts, clusters".to_owned(), 10, 1500.0)));
        assert_eq!(parse(&json!({}), &estimates), None);
    }
}
