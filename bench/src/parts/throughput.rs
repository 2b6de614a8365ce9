//! Bytes through ssh to the node and back: by client, and by route.

use std::io;

use crate::client::{Client, Route};
use crate::cluster::Cluster;
use crate::measurement::{Measurement, in_turns};
use crate::report::{Report, Text};
use crate::table::{Summary, Table, cell, summary_cell};
use crate::transfer::{self, Direction, Sample};

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    let megabytes = measurement.full_or_quick(300, 30);
    let file = measurement.random_file(megabytes)?;
    let mut table = Table::new([
        "route",
        "direction",
        "client",
        "ssh, seconds",
        "ProxyCommand, CPU seconds",
        "ProxyCommand, peak MiB",
    ]);
    let mut ratios = Table::new(["route", "direction", "teleport-pipe to", "time", "CPU of the ProxyCommand"]);
    for route in Route::ALL {
        let cluster = Cluster::start(measurement, route, &[])?.join()?;
        let (clients, turns) = plan(route);
        for direction in Direction::BOTH {
            measurement.progress(&format!("throughput: {megabytes} MB {}, {}", direction.name(), route.name()));
            for client in clients {
                transfer::verify(&cluster, *client, direction, &file)?;
            }
            let runs = in_turns(clients, measurement.runs(turns), |client| {
                transfer::measure(&cluster, client, direction, &file)
            })?;
            let what = format!("{megabytes} MB {}", direction.name());
            for (client, client_runs) in clients.iter().zip(&runs) {
                table.row(row(route, direction, *client, client_runs));
                if *client == Client::TeleportPipe {
                    continue;
                }
                let wall = Summary::from_ratios(&runs[0], client_runs, |run| Some(run.wall_seconds));
                let cpu = Summary::from_ratios(&runs[0], client_runs, cpu);
                let cells = [summary_cell(wall, 2), summary_cell(cpu, 2)];
                ratios.row([route.name(), direction.name(), client.name(), &cells[0], &cells[1]]);
                // The chart has room for the most important ones.
                if route == Route::Direct && matches!(client, Client::Go | Client::PlainSsh) {
                    report.ratio(format!("time of {what}"), client.name(), wall);
                    report.ratio(format!("CPU of {what}"), client.name(), cpu);
                }
            }
        }
    }
    report.text(Text::Throughput, table);
    report.text(Text::ThroughputRatios, ratios);
    report.text(Text::Memory, memory(measurement)?);
    Ok(())
}

/// The clients, teleport-pipe first, and the turns. What does not go through the cluster is the same on all routes.
fn plan(route: Route) -> (&'static [Client], usize) {
    match route {
        Route::Direct => (&[Client::TeleportPipe, Client::Go, Client::TlsRelay, Client::TcpRelay, Client::PlainSsh], 5),
        _ => (&[Client::TeleportPipe, Client::Go], 3),
    }
}

fn cpu(run: &Sample) -> Option<f64> {
    Some(run.proxy_command?.cpu_seconds)
}

fn row(route: Route, direction: Direction, client: Client, runs: &[Sample]) -> [String; 6] {
    [
        route.name().to_owned(),
        direction.name().to_owned(),
        client.name().to_owned(),
        cell(runs, 2, |run| Some(run.wall_seconds)),
        cell(runs, 2, cpu),
        cell(runs, 1, |run| Some(run.proxy_command?.peak_mib)),
    ]
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
            let usage = sample.proxy_command.ok_or_else(|| io::Error::other("the ProxyCommand was not measured"))?;
            table.row([
                megabytes.to_string(),
                direction.name().to_owned(),
                format!("{:.2}", sample.wall_seconds),
                format!("{:.1}", usage.peak_mib),
            ]);
        }
        std::fs::remove_file(file)?;
    }
    Ok(table)
}
