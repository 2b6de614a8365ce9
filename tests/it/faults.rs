//! A fault at every point of a run, once and always. `docs/reference/faults.md` is the table of the results.

mod table;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use expect_test::expect_file;
use testcluster::{
    Builder, Event, EventKind, Exchange, FaultInjection, JoinService, NetworkFault, Point, Route, Testcluster,
};

use self::table::cells;
use crate::failure::report;
use crate::harness::stories;
use crate::machine::TIME;
use crate::secrets::Secrets;
use crate::step::{Output, Step};

stories! {
    a_fault_at_every_point needs TIME,
    a_one_time_token_is_sent_once_whatever_fails needs TIME,
}

/// The number of simultaneous runs. They mostly wait.
const AT_ONCE: usize = 48;

/// The number of simultaneous runs if their duration matters.
const FEW_AT_ONCE: usize = 4;

/// The time that a run may take beyond its TIMEOUT, on a machine that is busy with all of the runs.
const GENEROUS: Duration = Duration::from_secs(30);

/// The largest number of attempts of one request (`retry.rs`).
const ATTEMPTS: usize = 7;

/// `FAULTS_TIMEOUT=6 cargo test --test it faults:: -- --nocapture` measures in how many of the temporary faults a run
/// succeeds with `TIMEOUT: 6s`. It checks nothing else. Measure on an idle machine.
fn measured_timeout() -> Option<u64> {
    std::env::var("FAULTS_TIMEOUT").ok().map(|seconds| seconds.parse().unwrap())
}

/// One fault at one point.
#[derive(Clone, Copy, Debug)]
struct Cell {
    injection: FaultInjection,
}

/// The result of a run.
struct Outcome {
    exit: i32,
    /// How often the bot joined.
    joins: usize,
    /// The first line of the error.
    error: String,
}

impl Cell {
    /// The cluster. For a fault of the REST join it is one of version 17, without the join service.
    fn cluster(&self) -> Builder {
        let rest = matches!(self.injection.point, Point::Before(Exchange::RestJoin) | Point::After(Exchange::RestJoin));
        let service = if rest { JoinService::Absent } else { JoinService::Present };
        Testcluster::builder().join_service(service).inject(self.injection)
    }

    /// TIMEOUT is short, less than one attempt, if a server stays silent in every attempt.
    fn timeout(&self) -> Duration {
        let endless = matches!(self.injection.fault, NetworkFault::Stall) && !self.injection.once;
        Duration::from_secs(if endless { 12 } else { 60 })
    }

    /// Whether a retry succeeds within the timeout.
    fn is_temporary(&self, timeout: u64) -> bool {
        self.injection.once
            && match self.injection.fault {
                NetworkFault::Status(testcluster::Code::PermissionDenied, _) | NetworkFault::ManyRoles => false,
                // The server may require a longer wait than the timeout.
                NetworkFault::Status(_, wait) | NetworkFault::Http(_, wait) => {
                    wait.is_none_or(|wait| u64::from(wait) < timeout)
                }
                _ => true,
            }
    }

    fn run(&self, binary: &Path, complete: &[OsString]) -> Outcome {
        let cluster = self.cluster().start();
        let step = Step::new(&cluster).env("TIMEOUT", &format!("{}s", self.timeout().as_secs())).env("DEBUG", "true");
        let secrets = Secrets::from_step(&step);
        let began = Instant::now();
        let output = step.run(binary.to_str().unwrap(), &[]);
        let took = began.elapsed();
        assert!(took < self.timeout() + GENEROUS, "{self:?} took {took:?}:\n{}", output.stderr);
        secrets.check(&output, &format!("{self:?}"));
        self.check_files(&step, &output, complete);
        self.check_server(&cluster.record());
        let exit = output.status.unwrap_or_else(|| panic!("{self:?} was killed:\n{}", output.stderr));
        if self.is_temporary(60) {
            assert_eq!(exit, 0, "{self:?} is temporary, but the run failed:\n{}", output.stderr);
        }
        assert!(matches!(exit, 0 | 4 | 5), "{self:?}:\n{}", output.stderr);
        let report = report(&step, &output);
        let error = report.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default();
        // On a slow machine the run may wait for another server when the time is up.
        let error = match self.injection {
            _ if error.starts_with("no answer from ") => "no answer in time".to_owned(),
            // The reset may arrive during the TCP handshake or after it.
            FaultInjection { point: Point::Accept, fault: NetworkFault::Reset, .. } if exit != 0 => {
                assert!(error.contains("broke (") || error.contains("reset by peer"), "{error}");
                "the connection to localhost:PORT broke (the system's words)".to_owned()
            }
            _ => without_numbers(error),
        };
        assert_eq!(error.is_empty(), exit == 0, "{self:?}:\n{}", output.stderr);
        Outcome { exit, joins: joins(&cluster.record()), error }
    }

    /// Whether a run with this `TIMEOUT`, in seconds, ends well; the log if it does not.
    fn succeeds(&self, binary: &Path, timeout: u64) -> Result<(), String> {
        let cluster = self.cluster().start();
        let step = Step::new(&cluster).env("TIMEOUT", &format!("{timeout}s"));
        let output = step.run(binary.to_str().unwrap(), &[]);
        if output.status == Some(0) { Ok(()) } else { Err(output.stderr) }
    }

    /// The destination has all files, or does not exist.
    fn check_files(&self, step: &Step, output: &Output, complete: &[OsString]) {
        let directory = step.dir().join("tbot-user");
        match output.status {
            Some(0) => {
                assert_eq!(names(&directory), complete, "{self:?}:\n{}", output.stderr);
            }
            _ => assert!(!directory.exists(), "{self:?} left files:\n{}", output.stderr),
        }
    }

    /// The server gets a limited number of requests, and no retry before its `Retry-After`.
    fn check_server(&self, record: &[Event]) {
        let calls = |wanted: &str| {
            let calls =
                record.iter().filter(|event| matches!(&event.kind, EventKind::Call { name, .. } if name == wanted));
            calls.map(|event| event.at).collect::<Vec<_>>()
        };
        let names = record.iter().filter_map(|event| match &event.kind {
            EventKind::Call { name, .. } => Some(name.as_str()),
            _ => None,
        });
        for name in names.collect::<BTreeSet<_>>() {
            // The host CAs and the user CAs are requested by the same method.
            let most = if name.ends_with("/GetCertAuthorities") { 2 * ATTEMPTS } else { ATTEMPTS };
            assert!(calls(name).len() <= most, "{self:?}: {name} {} times", calls(name).len());
        }
        let connections = record.iter().filter(|event| matches!(event.kind, EventKind::Connection { .. })).count();
        assert!(connections <= 4 * ATTEMPTS, "{self:?}: {connections} connections");
        let (NetworkFault::Http(_, Some(wait)) | NetworkFault::Status(_, Some(wait))) = self.injection.fault else {
            return;
        };
        let Some(name) = self.call() else { return };
        for pair in calls(name).windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_secs(wait.into()), "{self:?}: {pair:?}");
        }
    }

    /// The call that has the fault. `None` if a simultaneous call has the same name.
    fn call(&self) -> Option<&'static str> {
        match self.injection.point {
            Point::Accept | Point::Handshake(_) => None,
            Point::Before(exchange) | Point::After(exchange) => match exchange {
                Exchange::Find => Some("GET /webapi/find"),
                Exchange::RestJoin => Some("POST /webapi/host/credentials"),
                Exchange::ClientInit | Exchange::OidcInit => Some("/teleport.join.v1.JoinService/Join"),
                Exchange::GetRole => Some("/proto.AuthService/GetRole"),
                Exchange::UserCerts => Some("/proto.AuthService/GenerateUserCerts"),
                // A join makes none of the last two.
                Exchange::HostAuthorities | Exchange::UserAuthorities | Exchange::Dial | Exchange::ListNodes => None,
            },
        }
    }

    /// The row of the table.
    fn row(&self, outcome: &Outcome) -> String {
        let FaultInjection { point, fault, once } = self.injection;
        let often = if once { "once" } else { "always" };
        let error = match outcome.error.as_str() {
            "" => "survived".to_owned(),
            error => error.replace('|', "\\|"),
        };
        let exit = outcome.exit;
        let joins = match point {
            // The join runs at the same time, and its progress varies.
            Point::Accept
            | Point::Handshake(Route::Web)
            | Point::Before(Exchange::Find)
            | Point::After(Exchange::Find)
                if exit != 0 =>
            {
                "-".to_owned()
            }
            _ if exit != 0 && fault == NetworkFault::Stall => "-".to_owned(),
            _ => outcome.joins.to_string(),
        };
        format!("| {} | {} | {often} | {exit} | {joins} | {error} |\n", table::point(point), table::fault(fault))
    }
}

/// Times in seconds since 1970, and ages.
fn without_numbers(text: &str) -> String {
    let is_long = |word: &str| word.len() > 4 && word.chars().all(|c| c.is_ascii_digit());
    let words = text.split(' ').map(|word| if is_long(word.trim_start_matches('(')) { "N" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The sorted names in a directory.
fn names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// The files of a run without a fault.
fn complete_files() -> Vec<OsString> {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    names(&step.dir().join("tbot-user"))
}

fn joins(record: &[Event]) -> usize {
    record.iter().filter(|event| matches!(event.kind, EventKind::Issued { during: "join", .. })).count()
}

/// The order of the runs: the longest ones start first, so that they do not delay the end.
fn longest_first(cells: &[Cell]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by_key(|at| {
        let FaultInjection { fault, once, .. } = cells[*at].injection;
        (once, !matches!(fault, NetworkFault::Stall | NetworkFault::Slow))
    });
    order
}

/// The product without its symbols, because hundreds of runs copy it into their destinations.
fn small_binary(directory: &Path) -> PathBuf {
    let small = directory.join("teleport-pipe");
    let stripped = Command::new("strip").arg("-o").arg(&small).arg(Step::binary()).status();
    if stripped.is_ok_and(|status| status.success()) { small } else { Step::binary().into() }
}

/// Returns the result of `run` for each cell, `None` if it panicked. All cells run before the test fails.
fn run_all<T: Send>(cells: &[Cell], at_once: usize, run: impl Fn(&Cell) -> T + Sync) -> Vec<Option<T>> {
    let (order, next, run) = (longest_first(cells), AtomicUsize::new(0), std::panic::AssertUnwindSafe(run));
    let results = Mutex::new(cells.iter().map(|_| None).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for number in 0..at_once {
            let (order, next, run, results) = (&order, &next, &run, &results);
            scope.spawn(move || {
                // The runs start one after the other.
                std::thread::sleep(Duration::from_millis(200) * u32::try_from(number).unwrap());
                while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = std::panic::catch_unwind(|| run(&cells[*at])).ok();
                    results.lock().unwrap()[*at] = result;
                }
            });
        }
    });
    results.into_inner().unwrap()
}

fn a_fault_at_every_point() {
    let cells = cells();
    assert!(cells.len() >= 200, "{}", cells.len());
    let directory = tempfile::tempdir().unwrap();
    let binary = small_binary(directory.path());
    if let Some(timeout) = measured_timeout() {
        let temporary: Vec<_> = cells.into_iter().filter(|cell| cell.is_temporary(timeout)).collect();
        let results = run_all(&temporary, FEW_AT_ONCE, |cell| cell.succeeds(&binary, timeout));
        let failed: Vec<_> = temporary.iter().zip(&results).filter(|(_, result)| **result != Some(Ok(()))).collect();
        let succeeded = temporary.len() - failed.len();
        println!(
            "with TIMEOUT {timeout}s, {succeeded} of {} runs with a temporary fault succeeded: {failed:#?}",
            temporary.len()
        );
        return assert!(succeeded * 100 >= temporary.len() * 95);
    }
    let (began, complete) = (Instant::now(), complete_files());
    let outcomes = run_all(&cells, AT_ONCE, |cell| cell.run(&binary, &complete));
    println!("{} cells in {:?}", cells.len(), began.elapsed());
    let failed = cells.iter().zip(&outcomes).filter_map(|(cell, outcome)| outcome.is_none().then_some(cell));
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{} cells failed: {failed:#?}", failed.len());
    let rows: String = cells.iter().zip(&outcomes).map(|(cell, outcome)| cell.row(outcome.as_ref().unwrap())).collect();
    expect_file!["../../docs/reference/faults.md"]
        .assert_eq(&format!("{}{rows}", table::HEAD.replace("COUNT", &cells.len().to_string())));
}

/// A one-time token goes to one service, once: the second copy of a secret that is spent would help no one but a thief.
fn a_one_time_token_is_sent_once_whatever_fails() {
    let cells: Vec<_> = cells().into_iter().filter(|cell| cell.injection.once).collect();
    assert!(cells.len() >= 100, "{}", cells.len());
    let directory = tempfile::tempdir().unwrap();
    let binary = small_binary(directory.path());
    let run = |cell: &Cell| {
        let cluster = cell.cluster().join_method("token", []).token_name("0123456789abcdef").start();
        let step = Step::outside(&cluster).env("JOIN_METHOD", "token").env("TIMEOUT", "20s");
        let output = step.run(binary.to_str().unwrap(), &[]);
        let sends = |name: &str| name.ends_with("/Join") || name.ends_with("/webapi/host/credentials");
        let sent = cluster.calls().iter().filter(|call| sends(&call.name)).count();
        assert!(sent <= 1, "{cell:?}: sent {sent} times\n{}", output.stderr);
        assert!(!output.stderr.contains("0123456789abcdef"), "{cell:?}:\n{}", output.stderr);
        output.status
    };
    let outcomes = run_all(&cells, AT_ONCE, run);
    let failed: Vec<_> =
        cells.iter().zip(&outcomes).filter_map(|(cell, exit)| exit.is_none().then_some(cell)).collect();
    assert!(failed.is_empty(), "{} cells failed: {failed:#?}", failed.len());
    let succeeded = outcomes.iter().flatten().filter(|exit| **exit == Some(0)).count();
    assert!(succeeded > cells.len() / 4, "{succeeded} of {}", cells.len());
}
