//! The round trips of a join as a sequence diagram, drawn from the record of teleport-peer: what arrived on which
//! connection, after how many round trips.

use std::fmt::Write as _;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::join::join;
use crate::client::{Client, Route};
use crate::cluster::Cluster;
use crate::measurement::Measurement;
use crate::report::{Report, Text};

const ROUND_TRIP_SECONDS: f64 = 0.4;
const SECONDS_OF_DAY: f64 = 86_400.0;
const LANE: usize = 36;

pub(crate) fn measure(measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    for (name, services) in [(Text::Sequence, "new"), (Text::SequenceRest, "rest")] {
        measurement.progress(&format!("sequence: {services}"));
        // Long enough that the work between two messages does not show.
        let cluster = Cluster::start(measurement, Route::Direct, &["--delay", "200ms", "--join-services", services])?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let usage = join(measurement, &cluster, Client::TeleportPipe)?;
        let diagram = draw(&cluster.peer.record()?, start.as_secs_f64() % SECONDS_OF_DAY, ROUND_TRIP_SECONDS)?;
        let end = usage.wall_seconds / ROUND_TRIP_SECONDS;
        report.text(name, format!("```text\n{diagram}{end:>6.1}  the credentials are on disk\n```"));
    }
    Ok(())
}

/// An event of the record that a client waits for, or causes.
#[derive(Debug, PartialEq)]
struct Event {
    /// Seconds since the start of the client.
    at: f64,
    connection: u64,
    text: String,
}

/// Draws the events of a record. `start` is the time of day in seconds at which the client started.
fn draw(record: &str, start: f64, round_trip_seconds: f64) -> io::Result<String> {
    let events: Vec<Event> =
        record.lines().filter_map(|line| event(line, start).transpose()).collect::<Result<_, _>>()?;
    let mut lanes = Vec::new();
    let mut text = format!("{:>6}", "round");
    for event in &events {
        if !lanes.contains(&event.connection) {
            lanes.push(event.connection);
            let _ = write!(text, "  {:<LANE$}", format!("connection {}", lanes.len()));
        }
    }
    let mut text = format!("{}\n{:>6}\n", text.trim_end(), "trips");
    let mut last = String::new();
    for event in &events {
        // The cluster is half a round trip away.
        let time = format!("{:>6.1}", (event.at / round_trip_seconds * 2.0).round() / 2.0);
        let shown = if time == last { "" } else { &time };
        let indentation = (LANE + 2) * lanes.iter().take_while(|lane| **lane != event.connection).count();
        let _ = writeln!(text, "{shown:>6}  {:indentation$}{}", "", event.text);
        last = time;
    }
    Ok(text)
}

fn event(line: &str, start: f64) -> io::Result<Option<Event>> {
    let event: Value = serde_json::from_str(line)?;
    let Some(connection) = event.get("conn").and_then(Value::as_u64) else { return Ok(None) };
    let Some(text) = describe(&event) else { return Ok(None) };
    let time = event.get("t").and_then(Value::as_str).and_then(time_of_day);
    let time = time.ok_or_else(|| io::Error::other(format!("not a time: {line}")))?;
    Ok(Some(Event { at: (time - start).rem_euclid(SECONDS_OF_DAY), connection, text }))
}

/// Returns `None` for an event that does not show anything of the client.
fn describe(event: &Value) -> Option<String> {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let method = text("method").rsplit('/').next().unwrap_or_default();
    Some(match text("ev") {
        "conn-open" => format!("TLS ClientHello ({})", text("route")),
        "tls" if event.get("client_cert").is_some() => "TLS done, client certificate".to_owned(),
        "tls" => "TLS done".to_owned(),
        "http" => format!("{} {}: {}", text("method"), text("path"), event.get("status")?),
        "grpc-in" => format!("{method} <- {}", event.get("message")?.as_object()?.keys().next()?),
        "grpc-out" => format!("{method} -> {}", text("payload").rsplit('_').next().unwrap_or_default()),
        "grpc" if event.get("msgs_in").is_none() => format!("{method}: {}", text("code")),
        "conn-close" => "closed".to_owned(),
        _ => return None,
    })
}

/// The seconds since midnight of a time as in RFC 3339, in UTC.
fn time_of_day(time: &str) -> Option<f64> {
    let (_, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut parts = clock.splitn(3, ':').map(str::parse::<f64>);
    let mut next = || parts.next()?.ok();
    Some(next()? * 3600.0 + next()? * 60.0 + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"t":"2026-01-02T23:59:59.9Z","ev":"conn-open","conn":3,"route":"join"}
{"t":"2026-01-02T23:59:59.91Z","ev":"conn-open","conn":1,"route":"web"}
{"t":"2026-01-03T00:00:00.1Z","ev":"tls","conn":3,"alpn":"h2"}
{"t":"2026-01-03T00:00:00.101Z","ev":"http","conn":1,"method":"GET","path":"/webapi/find","status":200}
{"t":"2026-01-03T00:00:00.102Z","ev":"grpc-in","conn":3,"method":"/s.JoinService/Join","message":{"clientInit":{}}}
{"t":"2026-01-03T00:00:00.103Z","ev":"grpc-out","conn":3,"method":"/s.JoinService/Join","payload":"JoinResponse_Init"}
{"t":"2026-01-03T00:00:00.104Z","ev":"joined","method":"bitbucket"}
{"t":"2026-01-03T00:00:00.105Z","ev":"grpc","conn":3,"method":"/s.JoinService/Join","code":"OK","msgs_in":2}
{"t":"2026-01-03T00:00:00.3Z","ev":"tls","conn":4,"client_cert":"bot"}
{"t":"2026-01-03T00:00:00.31Z","ev":"grpc","conn":4,"method":"/proto.AuthService/GetRole","code":"OK"}
"#;

    #[test]
    fn a_record_becomes_a_diagram() {
        let diagram = draw(RECORD, SECONDS_OF_DAY - 0.4, 0.2).unwrap();
        let expected =
            " round  connection 1                          connection 2                          connection 3
 trips
   1.5  TLS ClientHello (join)
                                              TLS ClientHello (web)
   2.5  TLS done
                                              GET /webapi/find: 200
        Join <- clientInit
        Join -> Init
   3.5                                                                              TLS done, client certificate
                                                                                    GetRole: OK
";
        assert_eq!(diagram, expected);
    }

    #[test]
    fn what_is_not_a_record_is_an_error() {
        assert!(draw("text", 0.0, 1.0).is_err());
        assert!(draw(r#"{"ev":"tls","conn":1,"t":"yesterday"}"#, 0.0, 1.0).is_err());
    }
}
