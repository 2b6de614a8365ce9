//! A run that fails: its setup, its exit status, and its report in `golden/errors/`.

use std::time::{Duration, Instant};

use expect_test::expect_file;
use testcluster::{Builder, Testcluster};

use crate::step::{Output, Step};

type Change = Box<dyn Fn(Step, &Testcluster) -> Step>;

/// A run that fails. Stories have tables of them, and `secrets.rs` runs all of them again.
pub(crate) struct Failure {
    pub(crate) name: &'static str,
    pub(crate) exit: i32,
    cluster: Builder,
    change: Change,
    args: &'static [&'static str],
}

impl Failure {
    /// A step and a cluster without a fault. The other methods change one of them.
    pub(crate) fn new(name: &'static str, exit: i32) -> Self {
        Self { name, exit, cluster: Testcluster::builder(), change: Box::new(|step, _| step), args: &[] }
    }

    /// With another cluster.
    pub(crate) fn at(self, cluster: Builder) -> Self {
        Self { cluster, ..self }
    }

    /// With another step.
    pub(crate) fn with(self, change: impl Fn(Step, &Testcluster) -> Step + 'static) -> Self {
        Self { change: Box::new(change), ..self }
    }

    /// With another value of a variable.
    pub(crate) fn env(self, name: &'static str, value: &'static str) -> Self {
        self.with(move |step, _| step.env(name, value))
    }

    /// With these arguments, instead of as a pipe.
    pub(crate) fn args(self, args: &'static [&'static str]) -> Self {
        Self { args, ..self }
    }

    /// Starts the cluster and sets up the step, but does not run the product.
    pub(crate) fn prepare(&self) -> (Testcluster, Step) {
        let cluster = self.cluster.clone().start();
        let step = (self.change)(Step::new(&cluster), &cluster);
        (cluster, step)
    }

    /// Runs the product, with more arguments in front.
    pub(crate) fn run(&self, step: &Step, more: &[&str]) -> Output {
        step.product(&[more, self.args].concat())
    }

    /// Checks the exit status and the report, and that the run leaves no files.
    pub(crate) fn check(&self) {
        let (_cluster, step) = self.prepare();
        let output = self.run(&step, &[]);
        let report = report(&step, &output);
        assert_eq!((output.status, output.stdout.as_str()), (Some(self.exit), ""), "{}:\n{report}", self.name);
        assert!(!step.dir().join("tbot-user").exists(), "{}: a destination was made", self.name);
        expect_file![format!("golden/errors/{}.txt", self.name)].assert_eq(&report);
    }
}

/// Checks each failure.
pub(crate) fn check(failures: Vec<Failure>) {
    failures.iter().for_each(Failure::check);
}

/// Checks the failures at the same time, each on its own thread, because they mostly wait.
pub(crate) fn check_at_once(failures: fn() -> Vec<Failure>) {
    let count = failures().len();
    std::thread::scope(|scope| {
        for number in 0..count {
            scope.spawn(move || failures().swap_remove(number).check());
        }
    });
}

/// Checks failures with `TIMEOUT=3s`, and that each run takes about that long.
pub(crate) fn check_silence(failures: Vec<Failure>) {
    for failure in failures {
        let began = Instant::now();
        failure.check();
        let took = began.elapsed();
        assert!((Duration::from_secs(3)..Duration::from_secs(30)).contains(&took), "{}: {took:?}", failure.name);
    }
}

/// The text on stderr without what differs from run to run. In addition to [`Step::scrubbed`], this removes the results
/// of discovery (it runs beside the join and may or may not be complete when the join fails), the number of retries,
/// and the system's descriptions of names that do not resolve and of broken connections.
pub(crate) fn report(step: &Step, output: &Output) -> String {
    let mut report = String::new();
    let mut last = String::new();
    for line in step.scrubbed(&output.stderr).lines() {
        let line = between(line, "expired ", " ago", "AGE");
        let line = between(&line, "trying again in ", " ms", "SOME");
        let line = between(&line, "broke (", ")", "the system's words");
        let line = between(&line, "(iat: ", ") (", "SECONDS");
        let line = between(&line, "does not resolve (", ")", "the resolver's words");
        let found = line.starts_with("discover ") && (line.contains(": cluster ") || line.contains("(debug)"));
        // Some resolvers report this error as permanent, and others as temporary.
        let resolving = line.contains("does not resolve") && line.contains("; trying again");
        // The join waits for discovery, whose pauses are random.
        let waiting = line.contains("(waiting for discovery); trying again");
        if !found && !resolving && !waiting && line != last {
            report += &format!("{line}\n");
            last = line;
        }
    }
    report
}

/// Replaces the text between two other texts in a line.
fn between(line: &str, before: &str, after: &str, by: &str) -> String {
    let parts = line.split_once(before).and_then(|(head, rest)| Some((head, rest.rsplit_once(after)?.1)));
    match parts {
        Some((head, tail)) => format!("{head}{before}{by}{after}{tail}"),
        None => line.to_owned(),
    }
}
