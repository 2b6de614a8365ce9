//! Many sessions at the same time: do all succeed, and what does each cost?

use std::fs::{self, File};
use std::io;
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;
use crate::statistics::{Summary, cell};
use crate::table::Table;
use crate::usage::{Usage, children_cpu_seconds};

/// What some parallel sessions of one client took.
#[derive(Debug, Default)]
struct Series {
    succeeded: Vec<f64>,
    wall: Vec<f64>,
    /// CPU seconds of ssh and its ProxyCommand, a session.
    cpu: Vec<f64>,
    /// CPU seconds of the ProxyCommand, a session.
    proxy_command: Vec<f64>,
    /// Connections to the proxy, a session.
    connections: Vec<f64>,
}

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let cluster = Cluster::start(measurement, Route::Direct, &[])?.join()?;
    let mut table = Table::new([
        "sessions",
        "client",
        "succeeded",
        "seconds",
        "CPU ms a session: ssh and ProxyCommand",
        "CPU ms a session: ProxyCommand",
        "connections a session",
    ]);
    let mut ratios = Table::new(["sessions", "time to plain ssh", "CPU to plain ssh"]);
    let mut report = Report::default();
    for count in measurement.full_or_quick(&[1, 10, 100, 200][..], &[1, 10]) {
        let (mut pipe, mut plain) = (Series::default(), Series::default());
        for run in 1..=measurement.runs(5) {
            measurement.progress(&format!("sessions: {count} at the same time, run {run}"));
            pipe.measure(measurement, &cluster, Client::TeleportPipe, *count)?;
            plain.measure(measurement, &cluster, Client::PlainSsh, *count)?;
        }
        table.row(pipe.row(*count, Client::TeleportPipe));
        table.row(plain.row(*count, Client::PlainSsh));
        let cpu = Summary::from_ratios(&pipe.cpu, &plain.cpu);
        ratios.row([count.to_string(), cell(Summary::from_ratios(&pipe.wall, &plain.wall), 2), cell(cpu, 2)]);
        if *count == 200 {
            report.ratio("CPU of a session, 200 at once / plain ssh", cpu);
        }
    }
    report.text("sessions", table);
    report.text("sessions ratios", ratios);
    Ok(report)
}

impl Series {
    /// Measures the time without the wrapper of the ProxyCommand, and then the CPU with it.
    fn measure(
        &mut self,
        measurement: &Measurement,
        cluster: &Cluster<'_>,
        client: Client,
        count: u32,
    ) -> io::Result<()> {
        let directory = measurement.new_directory()?;
        let before = connections(&cluster.peer.record()?);
        let start = Instant::now();
        let succeeded = wait(start_all(cluster, client, count, None, &directory.join("log"))?)?;
        self.wall.push(start.elapsed().as_secs_f64());
        let connections = connections(&cluster.peer.record()?) - before;
        self.connections.push(f64::from(connections) / f64::from(count));

        let before = children_cpu_seconds()?;
        let also = wait(start_all(cluster, client, count, Some(&directory), &directory.join("log"))?)?;
        let ssh = children_cpu_seconds()? - before;
        let mut proxy_commands = 0.0;
        if client != Client::PlainSsh {
            for number in 0..count {
                proxy_commands += Usage::wait_for(&directory.join(number.to_string()))?.cpu_seconds;
            }
        }
        self.cpu.push((ssh + proxy_commands) / f64::from(count));
        self.proxy_command.push(proxy_commands / f64::from(count));
        self.succeeded.push(f64::from(succeeded.min(also)));
        if succeeded.min(also) < count {
            measurement.progress(&fs::read_to_string(directory.join("log"))?);
        }
        fs::remove_dir_all(directory)
    }

    fn row(&self, count: u32, client: Client) -> [String; 7] {
        let milliseconds = |seconds: &[f64]| cell(Summary::new(seconds.iter().map(|seconds| seconds * 1000.0)), 1);
        let fewest = Summary::new(self.succeeded.iter().copied()).map_or(0.0, |summary| summary.min);
        [
            count.to_string(),
            client.name().to_owned(),
            if fewest < f64::from(count) { format!("{fewest} of {count}") } else { "all".to_owned() },
            cell(Summary::new(self.wall.iter().copied()), 2),
            milliseconds(&self.cpu),
            if client == Client::PlainSsh { "–".to_owned() } else { milliseconds(&self.proxy_command) },
            cell(Summary::new(self.connections.iter().copied()), 1),
        ]
    }
}

/// Starts sessions that do nothing. If there is a directory, the usage of each ProxyCommand goes to a file there.
fn start_all(
    cluster: &Cluster<'_>,
    client: Client,
    count: u32,
    usages: Option<&std::path::Path>,
    log: &std::path::Path,
) -> io::Result<Vec<Child>> {
    let log = File::options().create(true).append(true).open(log)?;
    let start = |number: u32| {
        let usage = usages.map(|directory| directory.join(number.to_string()));
        cluster.ssh(client, usage.as_deref())?.arg("true").stdout(Stdio::null()).stderr(log.try_clone()?).spawn()
    };
    (0..count).map(start).collect()
}

/// Waits for all of them, and counts those that succeeded.
fn wait(sessions: Vec<Child>) -> io::Result<u32> {
    let mut succeeded = 0;
    for mut session in sessions {
        succeeded += u32::from(session.wait()?.success());
    }
    Ok(succeeded)
}

/// The connections that clients have opened to the proxy, by the record.
fn connections(record: &str) -> u32 {
    let is_opened = |line: &&str| {
        serde_json::from_str::<Value>(line).is_ok_and(|event| {
            event.get("ev").and_then(Value::as_str) == Some("conn-open")
                && event.get("parent").and_then(Value::as_u64) == Some(0)
        })
    };
    u32::try_from(record.lines().filter(is_opened).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_inside_of_others_are_not_counted() {
        let record = r#"{"ev":"conn-open","conn":1,"parent":0}
{"ev":"conn-open","conn":2,"parent":1}
{"ev":"tls","conn":1,"parent":0}
{"ev":"conn-open","conn":3,"parent":0}"#;
        assert_eq!(connections(record), 2);
    }
}
