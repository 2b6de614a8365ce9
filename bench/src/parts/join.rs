//! A join until the credentials are on disk: time, CPU, memory, and round trips.

use std::io;
use std::process::Command;

use crate::client::{Client, Route};
use crate::cluster::Cluster;
use crate::measurement::{Measurement, in_turns};
use crate::report::{Report, Text};
use crate::table::{Summary, Table, cell, summary_cell};
use crate::usage::Usage;

/// The delays in each direction. The time with none does not say how many round trips there are, because a processor that has
/// waited is slow when it goes on.
const DELAYS: [&str; 2] = ["40ms", "120ms"];
/// The round trips of one TLS connection with one request: TCP, TLS 1.3 and HTTP. The timers of a virtual machine may be some
/// percent slow, so that a round trip is measured by this connection, too.
const OF_HANDSHAKE: f64 = 3.0;
/// The round trips of the protocol, and what the program may need beside them.
const EXPECTED_ROUND_TRIPS: f64 = 7.05;
/// What the chart shows.
const JOIN_SERVICE: &str = "join service";

/// A cluster that clients join: its name, the flags of teleport-peer, and whether round trips are counted.
type Variation = (String, String, bool);

fn variations() -> Vec<Variation> {
    let variation = |name: &str, flags: &str, has_round_trips| (name.to_owned(), flags.to_owned(), has_round_trips);
    let mut variations = vec![
        variation(JOIN_SERVICE, "--join-services new", true),
        variation("REST", "--join-services rest", true),
        // The search for the primes of two keys takes a random time.
        variation("join service, suite `legacy`", "--join-services new --suite legacy", false),
    ];
    // teleport-pipe refuses more than 256.
    for count in [10, 100, 250] {
        let roles: Vec<_> = (0..count).map(|number| format!("role-{number:04}")).collect();
        let flags = format!("--join-services new --roles {}", roles.join(","));
        variations.push((format!("join service, {count} roles"), flags, false));
    }
    variations
}

/// What a run starts.
#[derive(Clone, Copy, PartialEq)]
enum Program {
    Client(Client),
    /// What a run costs at least: one connection to the proxy with the same libraries, and one request.
    Handshake,
}

const PROGRAMS: [Program; 3] = [Program::Client(Client::TeleportPipe), Program::Client(Client::Go), Program::Handshake];

/// A run without a delay, and the round trips of one with a delay.
#[derive(Clone, Copy, Debug)]
struct Sample {
    undelayed: Usage,
    round_trips: Option<f64>,
}

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    let mut table = Table::new([
        "cluster",
        "client",
        "milliseconds",
        "CPU milliseconds",
        "CPU milliseconds, minus those of the one TLS connection of the same turn",
        "peak MiB",
        "round trips",
        "runs of at most 7.05 round trips",
    ]);
    let mut ratios = Table::new(["cluster", "time", "CPU", "peak memory"]);
    for variation in variations() {
        let name = &variation.0;
        measurement.progress(&format!("join: {name}"));
        let runs = measure_variation(measurement, &variation)?;
        for (program, client_runs) in PROGRAMS.into_iter().zip(&runs) {
            table.row(row(name, program, client_runs, &runs[2]));
        }
        add_ratios(name, &runs[0], &runs[1], &mut ratios, report);
    }
    report.text(Text::Join, table);
    report.text(Text::JoinRatios, ratios);
    Ok(())
}

fn measure_variation(
    measurement: &Measurement,
    &(_, ref flags, has_round_trips): &Variation,
) -> io::Result<Vec<Vec<Sample>>> {
    let flags: Vec<&str> = flags.split(' ').collect();
    let cluster = Cluster::start(measurement, Route::Direct, &flags)?;
    let run = |program| program_usage(measurement, &cluster, program);
    // To warm up.
    in_turns(&PROGRAMS, 1, run)?;
    let undelayed = in_turns(&PROGRAMS, measurement.runs(9), run)?;
    let round_trips = if has_round_trips { round_trips(measurement, &flags)? } else { Vec::new() };
    let of_program = |(program, runs): (usize, Vec<Usage>)| {
        let run = |(run, undelayed)| {
            let round_trips = round_trips.get(program).and_then(|runs| runs.get(run)).copied();
            Sample { undelayed, round_trips }
        };
        runs.into_iter().enumerate().map(run).collect()
    };
    Ok(undelayed.into_iter().enumerate().map(of_program).collect())
}

/// The round trips of each program's runs: what the longer delay makes them take longer, in units of what it makes the one
/// TLS connection of the same turn take longer.
fn round_trips(measurement: &Measurement, flags: &[&str]) -> io::Result<Vec<Vec<f64>>> {
    let start = |delay: &str| Cluster::start(measurement, Route::Direct, &[flags, &["--delay", delay]].concat());
    let (near, far) = (start(DELAYS[0])?, start(DELAYS[1])?);
    let longer = in_turns(&PROGRAMS, measurement.runs(9), |program| {
        let seconds = |cluster| program_usage(measurement, cluster, program).map(|usage| usage.wall_seconds);
        Ok(seconds(&far)? - seconds(&near)?)
    })?;
    let of_program =
        |runs: &Vec<f64>| runs.iter().zip(&longer[2]).map(|(run, unit)| run / unit * OF_HANDSHAKE).collect();
    Ok(longer.iter().map(of_program).collect())
}

fn program_usage(measurement: &Measurement, cluster: &Cluster<'_>, program: Program) -> io::Result<Usage> {
    match program {
        Program::Client(client) => join(measurement, cluster, client),
        Program::Handshake => handshake(measurement, cluster),
    }
}

pub(crate) fn join(measurement: &Measurement, cluster: &Cluster<'_>, client: Client) -> io::Result<Usage> {
    measurement.usage(|directory| Ok(cluster.join_command(client, directory)))
}

fn handshake(measurement: &Measurement, cluster: &Cluster<'_>) -> io::Result<Usage> {
    measurement.usage(|directory| {
        let mut command = Command::new(&measurement.program);
        command.arg("measure").arg(directory.join("usage")).arg("--").arg(&measurement.program);
        command.args(["handshake", cluster.peer.text("proxy_addr")]).arg(cluster.peer.web_ca());
        Ok(command)
    })
}

fn row(cluster: &str, program: Program, runs: &[Sample], handshakes: &[Sample]) -> [String; 8] {
    let pairs: Vec<_> = runs.iter().zip(handshakes).collect();
    let more_cpu = |(run, handshake): &(&Sample, &Sample)| {
        let is_client = program != Program::Handshake;
        is_client.then_some((run.undelayed.cpu_seconds - handshake.undelayed.cpu_seconds) * 1000.0)
    };
    let trips: Vec<_> = runs.iter().filter_map(|run| run.round_trips).collect();
    let expected = trips.iter().filter(|trips| **trips <= EXPECTED_ROUND_TRIPS).count();
    [
        cluster.to_owned(),
        match program {
            Program::Client(client) => client.name().to_owned(),
            Program::Handshake => "one TLS connection, one request".to_owned(),
        },
        cell(runs, 0, |run| Some(run.undelayed.wall_seconds * 1000.0)),
        cell(runs, 1, |run| Some(run.undelayed.cpu_seconds * 1000.0)),
        cell(&pairs, 1, more_cpu),
        cell(runs, 1, |run| Some(run.undelayed.peak_mib)),
        cell(&trips, 1, |trips| Some(*trips)),
        if trips.is_empty() { "–".to_owned() } else { format!("{expected} of {}", trips.len()) },
    ]
}

fn add_ratios(cluster: &str, ours: &[Sample], go: &[Sample], table: &mut Table, report: &mut Report) {
    let wall = Summary::from_ratios(ours, go, |run| Some(run.undelayed.wall_seconds));
    let cpu = Summary::from_ratios(ours, go, |run| Some(run.undelayed.cpu_seconds));
    let peak = Summary::from_ratios(ours, go, |run| Some(run.undelayed.peak_mib));
    table.row([cluster, &summary_cell(wall, 2), &summary_cell(cpu, 2), &summary_cell(peak, 2)]);
    // The chart has room for the most important ones.
    if cluster == JOIN_SERVICE {
        for (what, value) in [("time", wall), ("CPU", cpu), ("peak memory", peak)] {
            report.ratio(format!("{what} of a join"), Client::Go.name(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(wall_seconds: f64, round_trips: Option<f64>, cpu_seconds: f64) -> Sample {
        Sample { undelayed: Usage { wall_seconds, cpu_seconds, ..Usage::default() }, round_trips }
    }

    #[test]
    fn cpu_is_of_pairs() {
        let runs = [run(0.05, Some(7.0), 0.03), run(0.1, Some(8.0), 0.05)];
        let handshakes = [run(0.01, None, 0.01), run(0.01, None, 0.02)];
        let row = row("REST", PROGRAMS[0], &runs, &handshakes);
        assert_eq!(row[2..5], ["50 / 75 / 100", "30.0 / 40.0 / 50.0", "20.0 / 25.0 / 30.0"]);
        assert_eq!(row[6..], ["7.0 / 7.5 / 8.0", "1 of 2"]);
        let row = super::row("REST", Program::Handshake, &handshakes, &handshakes);
        assert_eq!(row[4], "–");
        assert_eq!(row[6..], ["–", "–"]);
    }
}
