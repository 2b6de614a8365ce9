//! A join until the credentials are on disk: time, CPU, memory, and round trips.

use std::fs;
use std::io;
use std::process::Command;

use crate::client::Client;
use crate::cluster::{Cluster, succeed};
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;
use crate::statistics::{Summary, cell};
use crate::table::Table;
use crate::usage::Usage;

const DELAY_MILLISECONDS: u32 = 100;

/// A cluster that clients join.
struct Variation {
    name: &'static str,
    flags: &'static [&'static str],
}

const VARIATIONS: [Variation; 3] = [
    Variation { name: "join service", flags: &["--join-services", "new"] },
    Variation { name: "REST", flags: &["--join-services", "rest"] },
    Variation { name: "join service, suite `legacy`", flags: &["--join-services", "new", "--suite", "legacy"] },
];

/// The runs of a client, and those beside them with a delay.
#[derive(Debug, Default)]
struct Runs {
    near: Vec<Usage>,
    far: Vec<Usage>,
}

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let mut report = Report::default();
    let mut table = Table::new(["cluster", "client", "milliseconds", "CPU milliseconds", "peak MiB", "round trips"]);
    let mut ratios = Table::new(["cluster", "time", "CPU", "peak memory"]);
    for variation in &VARIATIONS {
        measurement.progress(&format!("join: {}", variation.name));
        let delay = format!("{DELAY_MILLISECONDS}ms");
        let far_flags: Vec<&str> = variation.flags.iter().copied().chain(["--delay", &delay]).collect();
        let near = Cluster::start(measurement, Route::Direct, variation.flags)?;
        let far = Cluster::start(measurement, Route::Direct, &far_flags)?;
        let (mut pipe, mut go, mut floor) = (Runs::default(), Runs::default(), Runs::default());
        for _ in 0..measurement.runs(9) {
            for (client, runs) in [(Client::TeleportPipe, &mut pipe), (Client::Go, &mut go)] {
                runs.near.push(join(measurement, &near, client)?);
                runs.far.push(join(measurement, &far, client)?);
            }
            floor.near.push(handshake(measurement, &near)?);
            floor.far.push(handshake(measurement, &far)?);
        }
        for (name, runs) in [("teleport-pipe", &pipe), ("Go library", &go), ("one TLS connection, one request", &floor)]
        {
            table.row(runs.row(variation.name, name));
        }
        add_ratios(variation.name, &pipe, &go, &mut ratios, &mut report);
    }
    report.text("join", table);
    report.text("join ratios", ratios);
    Ok(report)
}

pub(crate) fn join(measurement: &Measurement, cluster: &Cluster<'_>, client: Client) -> io::Result<Usage> {
    let directory = measurement.new_directory()?;
    let file = directory.join("usage");
    succeed(&mut cluster.join_command(client, &directory, &file))?;
    let usage = Usage::wait_for(&file)?;
    fs::remove_dir_all(directory)?;
    Ok(usage)
}

/// What a run costs at least: one connection to the proxy with the same libraries, and one request.
fn handshake(measurement: &Measurement, cluster: &Cluster<'_>) -> io::Result<Usage> {
    let file = measurement.new_directory()?.join("usage");
    let mut command = Command::new(&measurement.program);
    command.arg("measure").arg(&file).arg("--").arg(&measurement.program);
    command.args(["handshake", cluster.peer.text("proxy_addr")]).arg(cluster.peer.web_ca());
    succeed(&mut command)?;
    Usage::wait_for(&file)
}

impl Runs {
    fn of(&self, figure: fn(&Usage) -> f64) -> Vec<f64> {
        self.near.iter().map(figure).collect()
    }

    /// The round trips of each pair of runs.
    fn round_trips(&self) -> Vec<f64> {
        let round_trip = f64::from(2 * DELAY_MILLISECONDS) / 1000.0;
        let pairs = self.near.iter().zip(&self.far);
        pairs.map(|(near, far)| (far.wall_seconds - near.wall_seconds) / round_trip).collect()
    }

    fn row(&self, cluster: &str, client: &str) -> [String; 6] {
        [
            cluster.to_owned(),
            client.to_owned(),
            cell(Summary::new(self.of(|usage| usage.wall_seconds * 1000.0)), 0),
            cell(Summary::new(self.of(|usage| usage.cpu_seconds * 1000.0)), 1),
            cell(Summary::new(self.of(|usage| usage.peak_mib)), 1),
            cell(Summary::new(self.round_trips()), 1),
        ]
    }
}

fn add_ratios(cluster: &str, pipe: &Runs, go: &Runs, table: &mut Table, report: &mut Report) {
    let ratio = |figure| Summary::from_ratios(&pipe.of(figure), &go.of(figure));
    let (wall, cpu) = (ratio(|usage| usage.wall_seconds), ratio(|usage| usage.cpu_seconds));
    let peak = ratio(|usage| usage.peak_mib);
    table.row([cluster, &cell(wall, 2), &cell(cpu, 2), &cell(peak, 2)]);
    // The chart has room for the most important ones.
    if cluster == VARIATIONS[0].name {
        for (what, value) in [("time", wall), ("CPU", cpu), ("peak memory", peak)] {
            report.ratio(format!("{what} of a join / Go library"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_of_pairs() {
        let usage = |wall_seconds| Usage { wall_seconds, ..Usage::default() };
        let runs = Runs { near: vec![usage(0.05), usage(0.1)], far: vec![usage(1.45), usage(1.3)] };
        let rounded: Vec<_> = runs.round_trips().into_iter().map(|trips| format!("{trips:.1}")).collect();
        assert_eq!(rounded, ["7.0", "6.0"]);
    }
}
