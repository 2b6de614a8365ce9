//! The system calls of the ProxyCommand for each MiB.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::client::Client;
use crate::cluster::{Cluster, succeed};
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;
use crate::system_calls::{Calls, describe, parse};
use crate::table::Table;
use crate::transfer::{Direction, connect};
use crate::usage::Usage;

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let mut report = Report::default();
    if let Err(error) = Command::new("strace").arg("-V").output() {
        measurement.progress(&format!("system calls: not run: no strace ({error}); apt-get install strace"));
        return Ok(report);
    }
    let megabytes = measurement.full_or_quick(100, 10);
    let file = measurement.random_file(megabytes)?;
    let cluster = Cluster::start(measurement, Route::Direct, &[])?.with_tls_server()?.join()?;
    let mut table = Table::new(["direction", "client", "system calls a MiB", "of them"]);
    for direction in Direction::BOTH {
        for client in [Client::TeleportPipe, Client::Go, Client::TlsRelay, Client::TcpRelay] {
            measurement.progress(&format!("system calls: {megabytes} MB {}, {}", direction.name(), client.name()));
            let calls = trace(measurement, &cluster, client, direction, &file)?;
            let mebibytes = f64::from(u32::try_from(megabytes).unwrap_or(u32::MAX)) * 1e6 / f64::from(1 << 20);
            let (all, most) = describe(&calls, mebibytes);
            table.row([direction.name(), client.name(), &all, &most]);
        }
    }
    report.text("system calls", table);
    Ok(report)
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
