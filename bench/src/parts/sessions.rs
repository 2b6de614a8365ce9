//! Many sessions at the same time: do all succeed, and what does each cost?

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::client::{Client, Route};
use crate::cluster::Cluster;
use crate::measurement::{Measurement, in_turns};
use crate::report::{Report, Text};
use crate::table::{Summary, Table, cell, summary_cell};
use crate::usage::{Usage, children_cpu_seconds};

const CLIENTS: [Client; 4] = [Client::TeleportPipe, Client::Go, Client::TlsRelay, Client::PlainSsh];

/// What some sessions of one client at the same time took.
#[derive(Debug)]
struct Sample {
    succeeded: u32,
    wall: f64,
    /// CPU seconds of ssh and its ProxyCommand, per session.
    cpu: f64,
    /// CPU seconds of the ProxyCommand, per session.
    proxy_command: Option<f64>,
    /// Connections to the proxy, per session.
    connections: f64,
}

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    let cluster = Cluster::start(measurement, Route::Direct, &[])?.join()?;
    let mut table = Table::new([
        "sessions",
        "client",
        "succeeded",
        "seconds",
        "CPU ms per session: ssh and ProxyCommand",
        "CPU ms per session: ProxyCommand",
        "connections per session",
    ]);
    let mut ratios = Table::new(["sessions", "teleport-pipe to", "time", "CPU: ssh and ProxyCommand"]);
    // To warm up.
    in_turns(&CLIENTS, 1, |client| run(measurement, &cluster, client, 1))?;
    for count in measurement.full_or_quick(&[1, 10, 100, 200][..], &[1, 10]) {
        let runs = in_turns(&CLIENTS, measurement.runs(3), |client| {
            measurement.progress(&format!("sessions: {count} at the same time, {}", client.name()));
            run(measurement, &cluster, client, *count)
        })?;
        for (client, client_runs) in CLIENTS.into_iter().zip(&runs) {
            table.row(row(*count, client, client_runs));
            if client == Client::TeleportPipe {
                continue;
            }
            let wall = Summary::from_ratios(&runs[0], client_runs, |run| Some(run.wall));
            let cpu = Summary::from_ratios(&runs[0], client_runs, |run| Some(run.cpu));
            ratios.row([&count.to_string(), client.name(), &summary_cell(wall, 2), &summary_cell(cpu, 2)]);
            if *count == 200 && client == Client::PlainSsh {
                report.ratio("CPU of a session, 200 at once", client.name(), cpu);
            }
        }
    }
    let limit = cluster.peer.max_startups().unwrap_or_else(|| "not set".to_owned());
    report.text(Text::Sessions, format!("{table}\n`MaxStartups` of the node's `sshd`: {limit}"));
    report.text(Text::SessionsRatios, ratios);
    Ok(())
}

fn run(measurement: &Measurement, cluster: &Cluster<'_>, client: Client, count: u32) -> io::Result<Sample> {
    let directory = measurement.new_directory()?;
    let connections_before = connections(&cluster.peer.record()?);
    let cpu_before = children_cpu_seconds()?;
    let start = Instant::now();
    let succeeded = wait(start_all(cluster, client, count, &directory)?)?;
    let wall = start.elapsed().as_secs_f64();
    let ssh = children_cpu_seconds()? - cpu_before;
    let connections = connections(&cluster.peer.record()?) - connections_before;
    if succeeded < count {
        measurement.progress(&fs::read_to_string(directory.join("log"))?);
    }
    let mut proxy_commands = 0.0;
    if client != Client::PlainSsh {
        for number in 0..count {
            proxy_commands += Usage::wait_for(&directory.join(number.to_string()))?.cpu_seconds;
        }
    }
    fs::remove_dir_all(directory)?;
    let count = f64::from(count);
    Ok(Sample {
        succeeded,
        wall,
        cpu: (ssh + proxy_commands) / count,
        proxy_command: (client != Client::PlainSsh).then_some(proxy_commands / count),
        connections: f64::from(connections) / count,
    })
}

fn row(count: u32, client: Client, runs: &[Sample]) -> [String; 7] {
    let fewest = runs.iter().map(|run| run.succeeded).min().unwrap_or(0);
    [
        count.to_string(),
        client.name().to_owned(),
        format!("{fewest} of {count}"),
        cell(runs, 2, |run| Some(run.wall)),
        cell(runs, 1, |run| Some(run.cpu * 1000.0)),
        cell(runs, 1, |run| run.proxy_command.map(|seconds| seconds * 1000.0)),
        cell(runs, 1, |run| Some(run.connections)),
    ]
}

/// Starts sessions that do nothing. The usage of each ProxyCommand goes to a file in the directory.
fn start_all(cluster: &Cluster<'_>, client: Client, count: u32, directory: &Path) -> io::Result<Vec<Child>> {
    let log = File::create(directory.join("log"))?;
    let start = |number: u32| {
        let usage = directory.join(number.to_string());
        cluster.ssh(client, Some(&usage))?.arg("true").stdout(Stdio::null()).stderr(log.try_clone()?).spawn()
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
