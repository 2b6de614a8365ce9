//! Bytes through ssh when each packet takes 50 milliseconds: do the windows of HTTP/2 starve a long route? The window of
//! ssh's own channel limits all clients in the same way.

use std::io;
use std::time::Duration;

use super::latency::session;
use crate::client::{Client, Route};
use crate::cluster::Cluster;
use crate::measurement::{Measurement, in_turns};
use crate::report::{Report, Text};
use crate::table::{Summary, Table, cell, summary_cell};
use crate::transfer::{self, Direction};

const CLIENTS: [Client; 3] = [Client::TeleportPipe, Client::Go, Client::PlainSsh];

/// The seconds of a session that does nothing, and of the transfer after it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    nothing: f64,
    transfer: f64,
}

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    let megabytes = measurement.full_or_quick(128, 8);
    let file = measurement.random_file(megabytes)?;
    let cluster = Cluster::start(measurement, Route::Direct, &["--delay", "50ms"])?
        .with_delay_to_node(Duration::from_millis(50))?
        .join()?;
    let mut table = Table::new(["direction", "client", "seconds", "MB per second, without the seconds of `true`"]);
    let mut ratios = Table::new(["direction", "teleport-pipe to", "time"]);
    for direction in Direction::BOTH {
        let runs = in_turns(&CLIENTS, measurement.runs(3), |client| {
            measurement.progress(&format!("delay: {megabytes} MB {}, {}", direction.name(), client.name()));
            let nothing = session(&cluster, client)?;
            Ok(Sample { nothing, transfer: transfer::measure(&cluster, client, direction, &file)?.wall_seconds })
        })?;
        for (client, client_runs) in CLIENTS.into_iter().zip(&runs) {
            table.row(row(direction, client, client_runs, f64::from(megabytes)));
            if client != Client::TeleportPipe {
                let ratio = Summary::from_ratios(&runs[0], client_runs, |run| Some(run.transfer));
                ratios.row([direction.name(), client.name(), &summary_cell(ratio, 2)]);
                let what = format!("time of {megabytes} MB {}, 100 ms away", direction.name());
                report.ratio(what, client.name(), ratio);
            }
        }
    }
    report.text(Text::Delay, table);
    report.text(Text::DelayRatios, ratios);
    Ok(())
}

fn row(direction: Direction, client: Client, runs: &[Sample], megabytes: f64) -> [String; 4] {
    [
        direction.name().to_owned(),
        client.name().to_owned(),
        cell(runs, 2, |run| Some(run.transfer)),
        cell(runs, 1, |run| Some(megabytes / (run.transfer - run.nothing))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_without_the_time_of_a_session() {
        let row = row(Direction::ToNode, Client::Go, &[Sample { nothing: 1.0, transfer: 3.0 }], 20.0);
        assert_eq!(row[2..], ["3.00 / 3.00 / 3.00", "10.0 / 10.0 / 10.0"]);
    }
}
