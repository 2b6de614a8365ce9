//! Bytes through ssh when each packet takes 50 milliseconds: do the windows of HTTP/2 starve a long route? The window of
//! ssh's own channel limits all clients in the same way.

use std::io;

use super::throughput::{Series, measure_clients};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;
use crate::statistics::{Summary, cell};
use crate::table::Table;
use crate::transfer::Direction;

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let megabytes = measurement.full_or_quick(32, 8);
    let file = measurement.random_file(megabytes)?;
    let cluster = Cluster::start(measurement, Route::Direct, &["--delay", "50ms"])?.join()?;
    let mut table = Table::new(["direction", "client", "seconds", "MB a second"]);
    let mut ratios = Table::new(["direction", "time of teleport-pipe to that of the Go library"]);
    let mut report = Report::default();
    for direction in Direction::BOTH {
        measurement.progress(&format!("delay: {megabytes} MB {}", direction.name()));
        let clients = [Client::TeleportPipe, Client::Go];
        let series = measure_clients(&cluster, &clients, direction, &file, measurement.runs(5))?;
        for series in &series {
            table.row(row(direction, series, megabytes));
        }
        if let [pipe, go] = &series[..] {
            let ratio = Summary::from_ratios(&pipe.wall(), &go.wall());
            ratios.row([direction.name(), &cell(ratio, 2)]);
            report.ratio(format!("time of {megabytes} MB {}, 100 ms away / Go library", direction.name()), ratio);
        }
    }
    report.text("delay", table);
    report.text("delay ratios", ratios);
    Ok(report)
}

fn row(direction: Direction, series: &Series, megabytes: u64) -> [String; 4] {
    let megabytes = f64::from(u32::try_from(megabytes).unwrap_or(u32::MAX));
    let rates = series.wall().into_iter().map(|seconds| megabytes / seconds);
    [
        direction.name().to_owned(),
        series.client().name().to_owned(),
        cell(Summary::new(series.wall()), 2),
        cell(Summary::new(rates), 1),
    ]
}
