//! The system calls of the ProxyCommand for each MiB.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::client::{Client, Route};
use crate::cluster::{Cluster, succeed};
use crate::measurement::Measurement;
use crate::report::{Report, Text};
use crate::table::Table;
use crate::transfer::{Direction, connect};
use crate::usage::Usage;

/// Calls by name.
type Calls = BTreeMap<String, u64>;

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    let megabytes = measurement.full_or_quick(100, 10);
    let file = measurement.random_file(megabytes)?;
    let cluster = Cluster::start(measurement, Route::Direct, &[])?.join()?;
    let mut table = Table::new(["direction", "client", "system calls per MiB", "of them"]);
    for direction in Direction::BOTH {
        for client in [Client::TeleportPipe, Client::Go, Client::TlsRelay, Client::TcpRelay] {
            measurement.progress(&format!("system calls: {megabytes} MB {}, {}", direction.name(), client.name()));
            let calls = trace(measurement, &cluster, client, direction, &file)?;
            let mebibytes = f64::from(megabytes) * 1e6 / f64::from(1 << 20);
            let (all, most) = describe(&calls, mebibytes);
            table.row([direction.name(), client.name(), &all, &most]);
        }
    }
    report.text(Text::SystemCalls, table);
    Ok(())
}

fn trace(
    measurement: &Measurement,
    cluster: &Cluster<'_>,
    client: Client,
    direction: Direction,
    file: &Path,
) -> io::Result<Calls> {
    let directory = measurement.new_directory()?;
    let (summary, usage) = (directory.join("summary"), directory.join("usage"));
    // With -o, strace blocks the signal that ssh sends to its ProxyCommand.
    let wrapper = format!(
        "'{}' measure '{}' -- strace -f -c -o '{}' -- ",
        measurement.program.display(),
        usage.display(),
        summary.display()
    );
    let mut ssh = cluster.ssh_wrapped(client, Some(&wrapper))?;
    connect(&mut ssh, direction, file, Path::new("/dev/null"))?;
    succeed(&mut ssh)?;
    Usage::wait_for(&usage)?;
    let calls = parse(&fs::read_to_string(&summary)?);
    fs::remove_dir_all(directory)?;
    Ok(calls)
}

/// Reads the table that `strace -c` writes.
fn parse(summary: &str) -> Calls {
    let row = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, calls, .., name] = cells[..] else { return None };
        (name != "total").then_some(())?;
        Some((name.to_owned(), calls.parse().ok()?))
    };
    summary.lines().filter_map(row).collect()
}

/// All calls per MiB, and those of which there are the most.
fn describe(calls: &Calls, mebibytes: f64) -> (String, String) {
    let rate = |count: u64| format!("{:.1}", f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / mebibytes);
    let mut sorted: Vec<_> = calls.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let most: Vec<_> = sorted.iter().take(6).map(|(name, count)| format!("{name} {}", rate(**count))).collect();
    (rate(calls.values().sum()), most.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 52.92    0.000172          86        20           write
 37.85    0.000123          30         4         1 futex
  0.00    0.000000           0         6         6 read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000325          13        30         7 total
";

    #[test]
    fn calls_are_counted_by_name() {
        let calls = parse(SUMMARY);
        assert_eq!(calls, Calls::from([("write".into(), 20), ("futex".into(), 4), ("read".into(), 6)]));
        assert_eq!(describe(&calls, 2.0), ("15.0".to_owned(), "write 10.0, read 3.0, futex 2.0".to_owned()));
    }
}
