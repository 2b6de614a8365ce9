//! Many joins of one cluster: does each succeed, and does the last cost as much as the first?

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use super::join::join;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::route::Route;
use crate::statistics::{Summary, cell};
use crate::table::Table;
use crate::usage::Usage;

/// How many joins run at the same time.
const PARALLEL: usize = 2;

pub(crate) fn measure(measurement: &Measurement) -> io::Result<Report> {
    let cluster = Cluster::start(measurement, Route::Direct, &[])?;
    let mut table = Table::new([
        "joins",
        "failures",
        "seconds",
        "joins a second",
        "milliseconds a join",
        "CPU milliseconds a join",
    ]);
    for count in measurement.full_or_quick(&[10, 100, 1000][..], &[10, 30]) {
        measurement.progress(&format!("many joins: {count}"));
        let start = Instant::now();
        let results = join_all(measurement, &cluster, *count);
        let seconds = start.elapsed().as_secs_f64();
        let (usages, failures): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        for failure in failures.iter().filter_map(|failure| failure.as_ref().err()) {
            measurement.progress(&failure.to_string());
        }
        let usages: Vec<Usage> = usages.into_iter().flatten().collect();
        table.row([
            count.to_string(),
            failures.len().to_string(),
            format!("{seconds:.1}"),
            format!("{:.1}", f64::from(*count) / seconds),
            cell(Summary::new(usages.iter().map(|usage| usage.wall_seconds * 1000.0)), 0),
            cell(Summary::new(usages.iter().map(|usage| usage.cpu_seconds * 1000.0)), 1),
        ]);
    }
    let mut report = Report::default();
    report.text("many joins", table);
    Ok(report)
}

fn join_all(measurement: &Measurement, cluster: &Cluster<'_>, count: u32) -> Vec<io::Result<Usage>> {
    let next = AtomicU32::new(0);
    let joins = || {
        let mut results = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < count {
            results.push(join(measurement, cluster, Client::TeleportPipe));
        }
        results
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(joins)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}
