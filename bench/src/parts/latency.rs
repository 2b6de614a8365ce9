//! `ssh node true` and the first byte of a command, near the cluster and far from it.

use std::fs;
use std::io::{self, Read as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::cluster::{Cluster, succeed};
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;
use crate::statistics::{Summary, cell};
use crate::table::Table;
use crate::usage::Usage;

const ONE_WAY: Duration = Duration::from_millis(50);
const CLIENTS: [Client; 3] = [Client::TeleportPipe, Client::Go, Client::PlainSsh];

/// What the sessions of a client took, in seconds.
#[derive(Debug, Default)]
struct Sessions {
    near: Vec<f64>,
    far: Vec<f64>,
    first_byte_near: Vec<f64>,
    first_byte_far: Vec<f64>,
    /// Of the ProxyCommand, near.
    cpu: Vec<f64>,
}

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let near = Cluster::start(measurement, Route::Direct, &[])?.join()?;
    let far = Cluster::start(measurement, Route::Direct, &["--delay", "50ms"])?.with_delay_to_node(ONE_WAY)?.join()?;
    let mut all: [Sessions; 3] = Default::default();
    for run in 1..=measurement.runs(9) {
        measurement.progress(&format!("latency: run {run}"));
        for (client, sessions) in CLIENTS.into_iter().zip(&mut all) {
            sessions.near.push(session(&near, client)?);
            sessions.far.push(session(&far, client)?);
            sessions.first_byte_near.push(first_byte(&near, client)?);
            sessions.first_byte_far.push(first_byte(&far, client)?);
            sessions.cpu.extend(proxy_command_cpu(measurement, &near, client)?);
        }
    }
    Ok(report(&all))
}

/// The seconds of a session that does nothing.
fn session(cluster: &Cluster<'_>, client: Client) -> io::Result<f64> {
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
    let directory = measurement.new_directory()?;
    let file = directory.join("usage");
    succeed(cluster.ssh(client, Some(&file))?.arg("true"))?;
    let usage = Usage::wait_for(&file)?;
    fs::remove_dir_all(directory)?;
    Ok(Some(usage.cpu_seconds))
}

impl Sessions {
    fn round_trips(&self) -> Vec<f64> {
        let round_trip = 2.0 * ONE_WAY.as_secs_f64();
        self.near.iter().zip(&self.far).map(|(near, far)| (far - near) / round_trip).collect()
    }

    fn row(&self, client: Client, plain: &Self) -> [String; 8] {
        let milliseconds = |seconds: &[f64]| cell(Summary::new(seconds.iter().map(|seconds| seconds * 1000.0)), 0);
        let trips = self.round_trips();
        let more = trips.iter().zip(plain.round_trips()).map(|(trips, plain)| trips - plain);
        [
            client.name().to_owned(),
            milliseconds(&self.near),
            milliseconds(&self.far),
            cell(Summary::new(trips.iter().copied()), 1),
            cell(Summary::new(more), 1),
            milliseconds(&self.first_byte_near),
            milliseconds(&self.first_byte_far),
            cell(Summary::new(self.cpu.iter().map(|seconds| seconds * 1000.0)), 1),
        ]
    }
}

fn report(all: &[Sessions; 3]) -> Report {
    let [pipe, go, plain] = all;
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
    for (client, sessions) in CLIENTS.into_iter().zip(all) {
        table.row(sessions.row(client, plain));
    }
    let mut ratios =
        Table::new(["teleport-pipe to", "`true`", "`true`, 100 ms away", "first byte, 100 ms away", "CPU"]);
    let mut report = Report::default();
    for (client, other) in [(Client::Go, go), (Client::PlainSsh, plain)] {
        let far = Summary::from_ratios(&pipe.far, &other.far);
        ratios.row([
            client.name().to_owned(),
            cell(Summary::from_ratios(&pipe.near, &other.near), 2),
            cell(far, 2),
            cell(Summary::from_ratios(&pipe.first_byte_far, &other.first_byte_far), 2),
            cell(Summary::from_ratios(&pipe.cpu, &other.cpu), 2),
        ]);
        report.ratio(format!("time of a session, 100 ms away / {}", client.name()), far);
    }
    report.ratio("CPU of a session's ProxyCommand / Go library", Summary::from_ratios(&pipe.cpu, &go.cpu));
    report.text("latency", table);
    report.text("latency ratios", ratios);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_compared_with_plain_ssh() {
        let sessions = |near: f64, far: f64| Sessions { near: vec![near], far: vec![far], ..Sessions::default() };
        let row = sessions(0.2, 1.5).row(Client::Go, &sessions(0.1, 1.0));
        assert_eq!(row[3], "13.0 / 13.0 / 13.0");
        assert_eq!(row[4], "4.0 / 4.0 / 4.0");
        assert_eq!(row[5], "–");
    }
}
