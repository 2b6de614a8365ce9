//! `ssh node true` and the first byte of a command, without a delay and with one.

use std::io::{self, Read as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::client::{Client, Route};
use crate::cluster::{Cluster, succeed};
use crate::measurement::{Measurement, in_turns};
use crate::report::{Report, Text};
use crate::table::{Summary, Table, cell, summary_cell};

const ONE_WAY: Duration = Duration::from_millis(50);
/// Round trips are the difference between two delays, because a processor that has waited is slow when it goes on.
const FARTHER: Duration = Duration::from_millis(150);
const CLIENTS: [Client; 3] = [Client::TeleportPipe, Client::Go, Client::PlainSsh];

/// What the sessions of a run took, in seconds.
#[derive(Debug, Default)]
struct Sample {
    undelayed: f64,
    delayed: f64,
    farther: f64,
    undelayed_first_byte: f64,
    delayed_first_byte: f64,
    /// Of the ProxyCommand, without a delay.
    cpu: Option<f64>,
}

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    let undelayed = Cluster::start(measurement, Route::Direct, &[])?.join()?;
    let delayed =
        Cluster::start(measurement, Route::Direct, &["--delay", "50ms"])?.with_delay_to_node(ONE_WAY)?.join()?;
    let farther =
        Cluster::start(measurement, Route::Direct, &["--delay", "150ms"])?.with_delay_to_node(FARTHER)?.join()?;
    let run = |client: Client| {
        measurement.progress(&format!("latency: {}", client.name()));
        Ok(Sample {
            undelayed: session(&undelayed, client)?,
            delayed: session(&delayed, client)?,
            farther: session(&farther, client)?,
            undelayed_first_byte: first_byte(&undelayed, client)?,
            delayed_first_byte: first_byte(&delayed, client)?,
            cpu: proxy_command_cpu(measurement, &undelayed, client)?,
        })
    };
    // To warm up.
    in_turns(&CLIENTS, 1, run)?;
    add_tables(&in_turns(&CLIENTS, measurement.runs(3), run)?, report);
    Ok(())
}

/// The seconds of a session that does nothing.
pub(crate) fn session(cluster: &Cluster<'_>, client: Client) -> io::Result<f64> {
    let mut ssh = cluster.ssh(client, None)?;
    let start = Instant::now();
    succeed(ssh.arg("true"))?;
    Ok(start.elapsed().as_secs_f64())
}

/// The seconds until the first byte of a command arrives.
fn first_byte(cluster: &Cluster<'_>, client: Client) -> io::Result<f64> {
    let mut ssh = cluster.ssh(client, None)?;
    let start = Instant::now();
    let mut process = ssh.arg("echo x").stdout(Stdio::piped()).spawn()?;
    let mut output = process.stdout.take().ok_or_else(|| io::Error::other("ssh has no output"))?;
    output.read_exact(&mut [0])?;
    let seconds = start.elapsed().as_secs_f64();
    let status = process.wait()?;
    if status.success() { Ok(seconds) } else { Err(io::Error::other(format!("ssh: {status}"))) }
}

fn proxy_command_cpu(measurement: &Measurement, cluster: &Cluster<'_>, client: Client) -> io::Result<Option<f64>> {
    if client == Client::PlainSsh {
        return Ok(None);
    }
    let usage = measurement.usage(|directory| {
        let mut ssh = cluster.ssh(client, Some(&directory.join("usage")))?;
        ssh.arg("true");
        Ok(ssh)
    })?;
    Ok(Some(usage.cpu_seconds))
}

impl Sample {
    fn round_trips(&self) -> f64 {
        (self.farther - self.delayed) / (2.0 * (FARTHER - ONE_WAY).as_secs_f64())
    }
}

fn row(client: Client, runs: &[Sample], plain: &[Sample]) -> [String; 8] {
    let pairs: Vec<_> = runs.iter().zip(plain).collect();
    [
        client.name().to_owned(),
        cell(runs, 0, |run| Some(run.undelayed * 1000.0)),
        cell(runs, 0, |run| Some(run.delayed * 1000.0)),
        cell(runs, 1, |run| Some(run.round_trips())),
        cell(&pairs, 1, |(run, plain)| Some(run.round_trips() - plain.round_trips())),
        cell(runs, 0, |run| Some(run.undelayed_first_byte * 1000.0)),
        cell(runs, 0, |run| Some(run.delayed_first_byte * 1000.0)),
        cell(runs, 1, |run| run.cpu.map(|seconds| seconds * 1000.0)),
    ]
}

fn add_tables(runs: &[Vec<Sample>], report: &mut Report) {
    let (ours, plain) = (&runs[0], &runs[2]);
    let mut table = Table::new([
        "client",
        "`true`, ms",
        "`true`, 100 ms away, ms",
        "round trips",
        "more than plain ssh",
        "first byte, ms",
        "first byte, 100 ms away, ms",
        "ProxyCommand, CPU ms",
    ]);
    let mut ratios =
        Table::new(["teleport-pipe to", "`true`", "`true`, 100 ms away", "first byte, 100 ms away", "CPU"]);
    for (client, runs) in CLIENTS.into_iter().zip(runs) {
        table.row(row(client, runs, plain));
        if client == Client::TeleportPipe {
            continue;
        }
        let delayed = Summary::from_ratios(ours, runs, |run| Some(run.delayed));
        let cpu = Summary::from_ratios(ours, runs, |run| run.cpu);
        ratios.row([
            client.name(),
            &summary_cell(Summary::from_ratios(ours, runs, |run| Some(run.undelayed)), 2),
            &summary_cell(delayed, 2),
            &summary_cell(Summary::from_ratios(ours, runs, |run| Some(run.delayed_first_byte)), 2),
            &summary_cell(cpu, 2),
        ]);
        report.ratio("time of a session, 100 ms away", client.name(), delayed);
        report.ratio("CPU of a session's ProxyCommand", client.name(), cpu);
    }
    report.text(Text::Latency, table);
    report.text(Text::LatencyRatios, ratios);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_compared_with_plain_ssh() {
        let run = |delayed: f64, farther: f64| [Sample { delayed, farther, ..Sample::default() }];
        let row = row(Client::Go, &run(1.5, 4.1), &run(1.0, 2.8));
        assert_eq!(row[3], "13.0 / 13.0 / 13.0");
        assert_eq!(row[4], "4.0 / 4.0 / 4.0");
        assert_eq!(row[7], "–");
    }
}
