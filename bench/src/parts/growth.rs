//! A join with more and more roles.

use std::io;

use super::join::join;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;
use crate::statistics::{Summary, cell};
use crate::table::Table;
use crate::usage::Usage;

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let mut table = Table::new(["roles", "client", "milliseconds", "CPU milliseconds", "peak MiB"]);
    // teleport-pipe refuses more than 256.
    for count in [1, 10, 100, 250] {
        measurement.progress(&format!("growth: {count} roles"));
        let roles: Vec<_> = (0..count).map(|number| format!("role-{number:04}")).collect();
        let cluster = Cluster::start(measurement, Route::Direct, &["--roles", &roles.join(",")])?;
        let (mut pipe, mut go) = (Vec::new(), Vec::new());
        for _ in 0..measurement.runs(5) {
            pipe.push(join(measurement, &cluster, Client::TeleportPipe)?);
            go.push(join(measurement, &cluster, Client::Go)?);
        }
        for (client, usages) in [(Client::TeleportPipe, pipe), (Client::Go, go)] {
            let summary = |figure: fn(&Usage) -> f64| Summary::new(usages.iter().map(figure));
            table.row([
                count.to_string(),
                client.name().to_owned(),
                cell(summary(|usage| usage.wall_seconds * 1000.0), 0),
                cell(summary(|usage| usage.cpu_seconds * 1000.0), 1),
                cell(summary(|usage| usage.peak_mib), 1),
            ]);
        }
    }
    let mut report = Report::default();
    report.text("roles", table);
    Ok(report)
}
