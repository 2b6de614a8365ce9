//! The round trips of a join, drawn from the record of the cluster.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use super::join::join;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::diagram;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;

const ROUND_TRIP_SECONDS: f64 = 0.4;

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let mut report = Report::default();
    for (name, services) in [("sequence", "new"), ("sequence rest", "rest")] {
        measurement.progress(&format!("sequence: {services}"));
        // Long enough that the work between two messages does not show.
        let cluster = Cluster::start(measurement, Route::Direct, &["--delay", "200ms", "--join-services", services])?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let usage = join(measurement, &cluster, Client::TeleportPipe)?;
        let diagram = diagram::draw(&cluster.peer.record()?, start.as_secs_f64() % 86_400.0, ROUND_TRIP_SECONDS)?;
        let end = usage.wall_seconds / ROUND_TRIP_SECONDS;
        report.text(name, format!("```text\n{diagram}{end:>6.1}  the credentials are on disk\n```"));
    }
    Ok(report)
}
