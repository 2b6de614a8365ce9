//! Bytes through ssh to the node and back: by client, and by route.

use std::io;
use std::path::Path;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;
use crate::statistics::{Summary, cell};
use crate::table::Table;
use crate::transfer::{self, Direction, Sample};

/// The samples of a client on a route in one direction.
#[derive(Debug)]
pub(crate) struct Series {
    client: Client,
    samples: Vec<Sample>,
}

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let megabytes = measurement.full_or_quick(300, 30);
    let file = measurement.random_file(megabytes)?;
    let mut report = Report::default();
    let mut table = Table::new([
        "route",
        "direction",
        "client",
        "ssh, seconds",
        "ProxyCommand, CPU seconds",
        "ProxyCommand, peak MiB",
    ]);
    let mut ratios = Table::new(["route", "direction", "teleport-pipe to", "time", "CPU of the ProxyCommand"]);
    for route in measurement.routes.iter().copied() {
        let cluster = Cluster::start(measurement, route, &[])?.with_tls_server()?.join()?;
        for direction in Direction::BOTH {
            measurement.progress(&format!("throughput: {megabytes} MB {}, {}", direction.name(), route.name()));
            let series = measure_clients(&cluster, clients(route), direction, &file, measurement.runs(5))?;
            for series in &series {
                table.row(row(route, direction, series));
            }
            add_ratios(&series, route, direction, &mut ratios);
            // The chart has room for the most important ones.
            if route == Route::Direct {
                add_to_summary(&series, &format!("{megabytes} MB {}", direction.name()), &mut report);
            }
        }
    }
    report.text("throughput", table);
    report.text("throughput ratios", ratios);
    report.text("memory", memory(measurement)?);
    Ok(report)
}

/// What does not go through the cluster is the same on all routes.
fn clients(route: Route) -> &'static [Client] {
    match route {
        Route::Direct => &[Client::TeleportPipe, Client::Go, Client::TlsRelay, Client::TcpRelay, Client::PlainSsh],
        _ => &[Client::TeleportPipe, Client::Go],
    }
}

/// Measures the clients in turns, so that what disturbs the machine for a while disturbs all of them.
pub(crate) fn measure_clients(
    cluster: &Cluster<'_>,
    clients: &[Client],
    direction: Direction,
    file: &Path,
    runs: usize,
) -> io::Result<Vec<Series>> {
    for client in clients {
        transfer::verify(cluster, *client, direction, file)?;
    }
    let mut series: Vec<_> = clients.iter().map(|client| Series { client: *client, samples: Vec::new() }).collect();
    for _ in 0..runs {
        for series in &mut series {
            series.samples.push(transfer::measure(cluster, series.client, direction, file)?);
        }
    }
    Ok(series)
}

impl Series {
    pub(crate) fn client(&self) -> Client {
        self.client
    }

    pub(crate) fn wall(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.wall_seconds).collect()
    }

    pub(crate) fn cpu(&self) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| Some(sample.proxy_command?.cpu_seconds)).collect()
    }

    fn peak(&self) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| Some(sample.proxy_command?.peak_mib)).collect()
    }
}

fn row(route: Route, direction: Direction, series: &Series) -> [String; 6] {
    [
        route.name().to_owned(),
        direction.name().to_owned(),
        series.client.name().to_owned(),
        cell(Summary::new(series.wall()), 2),
        cell(Summary::new(series.cpu()), 2),
        cell(Summary::new(series.peak()), 1),
    ]
}

/// The first series is that of teleport-pipe.
fn add_ratios(series: &[Series], route: Route, direction: Direction, table: &mut Table) {
    for (other, wall, cpu) in ratios(series) {
        table.row([route.name(), direction.name(), other.name(), &cell(wall, 2), &cell(cpu, 2)]);
    }
}

fn add_to_summary(series: &[Series], what: &str, report: &mut Report) {
    for (other, wall, cpu) in ratios(series) {
        if matches!(other, Client::Go | Client::PlainSsh) {
            report.ratio(format!("time of {what} / {}", other.name()), wall);
            report.ratio(format!("CPU of {what} / {}", other.name()), cpu);
        }
    }
}

/// The ratios of time and CPU to each other client.
fn ratios(series: &[Series]) -> impl Iterator<Item = (Client, Option<Summary>, Option<Summary>)> {
    series.split_first().into_iter().flat_map(|(first, others)| {
        others.iter().map(|other| {
            let wall = Summary::from_ratios(&first.wall(), &other.wall());
            (other.client, wall, Summary::from_ratios(&first.cpu(), &other.cpu()))
        })
    })
}

/// The memory of teleport-pipe does not grow with the bytes.
fn memory(measurement: &Measurement) -> io::Result<Table> {
    let cluster = Cluster::start(measurement, Route::Direct, &[])?.join()?;
    let mut table = Table::new(["megabytes", "direction", "seconds", "peak MiB"]);
    for megabytes in [10, measurement.full_or_quick(1000, 100)] {
        let file = measurement.random_file(megabytes)?;
        for direction in Direction::BOTH {
            measurement.progress(&format!("memory: {megabytes} MB {}", direction.name()));
            transfer::verify(&cluster, Client::TeleportPipe, direction, &file)?;
            let sample = transfer::measure(&cluster, Client::TeleportPipe, direction, &file)?;
            table.row([
                megabytes.to_string(),
                direction.name().to_owned(),
                format!("{:.2}", sample.wall_seconds),
                format!("{:.1}", sample.proxy_command.unwrap_or_default().peak_mib),
            ]);
        }
        std::fs::remove_file(file)?;
    }
    Ok(table)
}
