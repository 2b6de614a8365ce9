//! Many joins of one cluster: does each succeed, and does the last cost as much as the first?

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use super::join::join;
use crate::client::{Client, Route};
use crate::cluster::Cluster;
use crate::measurement::Measurement;
use crate::report::{Report, Text};
use crate::table::{Table, cell};
use crate::usage::Usage;

/// How many joins run at the same time.
const PARALLEL: usize = 2;

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    let cluster = Cluster::start(measurement, Route::Direct, &[])?;
    let mut table = Table::new([
        "joins",
        "client",
        "succeeded",
        "seconds",
        "joins per second",
        "milliseconds per join",
        "CPU milliseconds per join",
    ]);
    // The other client shows what of the growth is the cluster's.
    let series = [
        (10, Client::TeleportPipe),
        (10, Client::Go),
        (100, Client::TeleportPipe),
        (100, Client::Go),
        (1000, Client::TeleportPipe),
    ];
    for (count, client) in series.into_iter().take(measurement.full_or_quick(series.len(), 2)) {
        measurement.progress(&format!("many joins: {count}, {}", client.name()));
        let start = Instant::now();
        let results = join_all(measurement, &cluster, client, count)?;
        let seconds = start.elapsed().as_secs_f64();
        for failure in results.iter().filter_map(|result| result.as_ref().err()) {
            measurement.progress(&failure.to_string());
        }
        let usages: Vec<Usage> = results.into_iter().flatten().collect();
        table.row([
            count.to_string(),
            client.name().to_owned(),
            format!("{} of {count}", usages.len()),
            format!("{seconds:.1}"),
            format!("{:.1}", f64::from(count) / seconds),
            cell(&usages, 0, |usage| Some(usage.wall_seconds * 1000.0)),
            cell(&usages, 1, |usage| Some(usage.cpu_seconds * 1000.0)),
        ]);
    }
    report.text(Text::ManyJoins, table);
    Ok(())
}

fn join_all(
    measurement: &Measurement,
    cluster: &Cluster<'_>,
    client: Client,
    count: u32,
) -> io::Result<Vec<io::Result<Usage>>> {
    let next = AtomicU32::new(0);
    let joins = || {
        let mut results = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < count {
            results.push(join(measurement, cluster, client));
        }
        results
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(joins)).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| io::Error::other("a thread panicked")));
        Ok(results.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}
