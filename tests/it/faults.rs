//! The weather: a fault at every point of a run, once and always. What came of each is the table in `docs/faults.md`.

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
}

/// Runs at the same time. They wait much more than they work.
const AT_ONCE: usize = 48;

/// Runs at the same time when it matters how long each of them takes.
const FEW_AT_ONCE: usize = 4;

/// More than any run may take beyond its TIMEOUT, on a machine that is busy with all of them.
const GENEROUS: Duration = Duration::from_secs(30);

/// Attempts of one exchange, at most (`retry.rs`).
const ATTEMPTS: usize = 7;

/// `FAULTS_TIMEOUT=6 cargo test --test it faults:: -- --nocapture` measures how many of the passing faults are survived
/// with `TIMEOUT: 6s`. Nothing else is checked then. Measure on a machine that does nothing else.
fn measured_timeout() -> Option<u64> {
    std::env::var("FAULTS_TIMEOUT").ok().map(|seconds| seconds.parse().unwrap())
}

/// One fault at one point.
#[derive(Clone, Copy, Debug)]
struct Cell {
    injection: FaultInjection,
}

/// What came of it.
struct Outcome {
    exit: i32,
    /// How often the bot was joined.
    joins: usize,
    /// The first line of the error.
    error: String,
}

impl Cell {
    /// A cluster of version 17 where the REST join is to be met.
    fn cluster(&self) -> Builder {
        let rest = matches!(self.injection.point, Point::Before(Exchange::RestJoin) | Point::After(Exchange::RestJoin));
        let service = if rest { JoinService::Absent } else { JoinService::Present };
        Testcluster::builder().join_service(service).inject(self.injection)
    }

    /// Waiting for those who never answer is cut short, within the first attempt.
    fn timeout(&self) -> Duration {
        let endless = matches!(self.injection.fault, NetworkFault::Stall) && !self.injection.once;
        Duration::from_secs(if endless { 12 } else { 60 })
    }

    /// Something that is gone the next time, and not the cluster's last word.
    fn passes(&self, timeout: u64) -> bool {
        self.injection.once
            && match self.injection.fault {
                NetworkFault::Status(testcluster::Code::PermissionDenied, _) | NetworkFault::ManyRoles => false,
                // More than there is time for.
                NetworkFault::Status(_, wait) | NetworkFault::Http(_, wait) => {
                    wait.is_none_or(|wait| u64::from(wait) < timeout)
                }
                _ => true,
            }
    }

    fn run(&self, binary: &Path, whole: &[OsString]) -> Outcome {
        let cluster = self.cluster().start();
        let step = Step::new(&cluster).env("TIMEOUT", &format!("{}s", self.timeout().as_secs())).env("DEBUG", "true");
        let secrets = Secrets::from_step(&step);
        let began = Instant::now();
        let output = step.run(binary.to_str().unwrap(), &[]);
        let took = began.elapsed();
        assert!(took < self.timeout() + GENEROUS, "{self:?} took {took:?}:\n{}", output.stderr);
        secrets.check(&output, &format!("{self:?}"));
        self.check_files(&step, &output, whole);
        self.check_server(&cluster.record());
        let exit = output.status.unwrap_or_else(|| panic!("{self:?} was killed:\n{}", output.stderr));
        if self.passes(60) {
            assert_eq!(exit, 0, "{self:?} passes, and was not survived:\n{}", output.stderr);
        }
        assert!(matches!(exit, 0 | 4 | 5), "{self:?}:\n{}", output.stderr);
        let report = report(&step, &output);
        let error = report.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default();
        // On a slow machine less has happened before, so it waits for something else when the time is up.
        let error = match self.injection {
            _ if error.starts_with("no answer from ") => "no answer in time".to_owned(),
            // The reset may come while it connects.
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
    fn survives(&self, binary: &Path, timeout: u64) -> Result<(), String> {
        let cluster = self.cluster().start();
        let step = Step::new(&cluster).env("TIMEOUT", &format!("{timeout}s"));
        let output = step.run(binary.to_str().unwrap(), &[]);
        if output.status == Some(0) { Ok(()) } else { Err(output.stderr) }
    }

    /// All of them, or none.
    fn check_files(&self, step: &Step, output: &Output, whole: &[OsString]) {
        let directory = step.dir().join("tbot-user");
        match output.status {
            Some(0) => {
                assert_eq!(names(&directory), whole, "{self:?}:\n{}", output.stderr);
            }
            _ => assert!(!directory.exists(), "{self:?} left something behind:\n{}", output.stderr),
        }
    }

    /// The server is not hammered, and is asked again no sooner than it wanted.
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
            // Both types of authorities are one method.
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

    /// The call that the weather meets; none where another call at the same time has the same name.
    fn call(&self) -> Option<&'static str> {
        match self.injection.point {
            Point::Accept | Point::Handshake(_) => None,
            Point::Before(exchange) | Point::After(exchange) => match exchange {
                Exchange::Find => Some("GET /webapi/find"),
                Exchange::RestJoin => Some("POST /webapi/host/credentials"),
                Exchange::ClientInit | Exchange::OidcInit => Some("/teleport.join.v1.JoinService/Join"),
                Exchange::GetRole => Some("/proto.AuthService/GetRole"),
                Exchange::UserCerts => Some("/proto.AuthService/GenerateUserCerts"),
                Exchange::HostAuthorities | Exchange::UserAuthorities | Exchange::Dial => None,
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
            // The join goes on beside it, and how far it gets is chance.
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

/// What is in a directory.
fn names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// What a run writes that nothing happens to.
fn whole() -> Vec<OsString> {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    names(&step.dir().join("tbot-user"))
}

fn joins(record: &[Event]) -> usize {
    record.iter().filter(|event| matches!(event.kind, EventKind::Issued { during: "join", .. })).count()
}

/// What waits long comes first, so that nothing is left to wait for in the end.
fn longest_first(cells: &[Cell]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by_key(|at| {
        let FaultInjection { fault, once, .. } = cells[*at].injection;
        (once, !matches!(fault, NetworkFault::Stall | NetworkFault::Slow))
    });
    order
}

/// The product without its symbols: hundreds of runs copy it into their destinations.
fn small_binary(directory: &Path) -> PathBuf {
    let small = directory.join("teleport-pipe");
    let stripped = Command::new("strip").arg("-o").arg(&small).arg(Step::binary()).status();
    if stripped.is_ok_and(|status| status.success()) { small } else { Step::binary().into() }
}

/// What `run` returns for each cell; `None` if it panicked. All of them are run before the test fails.
fn run_all<T: Send>(cells: &[Cell], at_once: usize, run: impl Fn(&Cell) -> T + Sync) -> Vec<Option<T>> {
    let (order, next, run) = (longest_first(cells), AtomicUsize::new(0), std::panic::AssertUnwindSafe(run));
    let results = Mutex::new(cells.iter().map(|_| None).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for number in 0..at_once {
            let (order, next, run, results) = (&order, &next, &run, &results);
            scope.spawn(move || {
                // Not all at the same moment.
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
        let passing: Vec<_> = cells.into_iter().filter(|cell| cell.passes(timeout)).collect();
        let results = run_all(&passing, FEW_AT_ONCE, |cell| cell.survives(&binary, timeout));
        let failed: Vec<_> = passing.iter().zip(&results).filter(|(_, result)| **result != Some(Ok(()))).collect();
        let survived = passing.len() - failed.len();
        println!("with TIMEOUT {timeout}s, {survived} of {} passing faults were survived: {failed:#?}", passing.len());
        return assert!(survived * 100 >= passing.len() * 95);
    }
    let (began, whole) = (Instant::now(), whole());
    let outcomes = run_all(&cells, AT_ONCE, |cell| cell.run(&binary, &whole));
    println!("{} cells in {:?}", cells.len(), began.elapsed());
    let failed = cells.iter().zip(&outcomes).filter_map(|(cell, outcome)| outcome.is_none().then_some(cell));
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{} cells failed: {failed:#?}", failed.len());
    let rows: String = cells.iter().zip(&outcomes).map(|(cell, outcome)| cell.row(outcome.as_ref().unwrap())).collect();
    expect_file!["../../docs/faults.md"]
        .assert_eq(&format!("{}{rows}", table::HEAD.replace("COUNT", &cells.len().to_string())));
}
