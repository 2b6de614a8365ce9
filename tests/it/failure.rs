//! A run that fails: what is set up, how the process ends, and what it says, in `golden/errors/`.

use std::time::{Duration, Instant};

use expect_test::expect_file;
use testcluster::{Builder, Testcluster};

use crate::step::{Output, Step};

type Change = Box<dyn Fn(Step, &Testcluster) -> Step>;

/// A way to fail. The tables of the stories are made of these, and `secrets.rs` goes through all of them again.
pub(crate) struct Failure {
    pub(crate) name: &'static str,
    pub(crate) exit: i32,
    cluster: Builder,
    change: Change,
    args: &'static [&'static str],
}

impl Failure {
    /// A good step at a good cluster, until something is changed.
    pub(crate) fn new(name: &'static str, exit: i32) -> Self {
        Self { name, exit, cluster: Testcluster::builder(), change: Box::new(|step, _| step), args: &[] }
    }

    /// At another cluster.
    pub(crate) fn at(self, cluster: Builder) -> Self {
        Self { cluster, ..self }
    }

    /// With another step.
    pub(crate) fn with(self, change: impl Fn(Step, &Testcluster) -> Step + 'static) -> Self {
        Self { change: Box::new(change), ..self }
    }

    /// With this variable set to something else.
    pub(crate) fn env(self, name: &'static str, value: &'static str) -> Self {
        self.with(move |step, _| step.env(name, value))
    }

    /// With these arguments, instead of as a pipe.
    pub(crate) fn args(self, args: &'static [&'static str]) -> Self {
        Self { args, ..self }
    }

    /// Sets everything up, but does not run it.
    pub(crate) fn prepare(&self) -> (Testcluster, Step) {
        let cluster = self.cluster.clone().start();
        let step = (self.change)(Step::new(&cluster), &cluster);
        (cluster, step)
    }

    /// Runs it, with more arguments in front.
    pub(crate) fn run(&self, step: &Step, more: &[&str]) -> Output {
        step.product(&[more, self.args].concat())
    }

    /// It ends as it should, says so, and leaves nothing behind.
    pub(crate) fn check(&self) {
        let (_cluster, step) = self.prepare();
        let output = self.run(&step, &[]);
        let report = report(&step, &output);
        assert_eq!((output.status, output.stdout.as_str()), (Some(self.exit), ""), "{}:\n{report}", self.name);
        assert!(!step.dir().join("tbot-user").exists(), "{}: a destination was made", self.name);
        expect_file![format!("golden/errors/{}.txt", self.name)].assert_eq(&report);
    }
}

/// [`Failure::check`] for each.
pub(crate) fn check(failures: Vec<Failure>) {
    failures.iter().for_each(Failure::check);
}

/// The same, each on a thread of its own: they wait more than they work.
pub(crate) fn check_at_once(failures: fn() -> Vec<Failure>) {
    let count = failures().len();
    std::thread::scope(|scope| {
        for number in 0..count {
            scope.spawn(move || failures().swap_remove(number).check());
        }
    });
}

/// The same for those with `TIMEOUT=3s`: they take that long, and not much longer.
pub(crate) fn check_silence(failures: Vec<Failure>) {
    for failure in failures {
        let began = Instant::now();
        failure.check();
        let took = began.elapsed();
        assert!((Duration::from_secs(3)..Duration::from_secs(30)).contains(&took), "{}: {took:?}", failure.name);
    }
}

/// All that was said on stderr, without what differs from run to run: beyond [`Step::scrubbed`] that is what discovery
/// found (it runs beside the join, and whether it is done when the join fails is chance), how often something was tried
/// again, and the words of the system for a name without address and for a connection that broke.
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
        // Whether the resolver knows that it will not know depends on the machine.
        let resolving = line.contains("does not resolve") && line.contains("; trying again");
        // The join waits for discovery, and the pauses of discovery are random.
        let waiting = line.contains("(waiting for discovery); trying again");
        if !found && !resolving && !waiting && line != last {
            report += &format!("{line}\n");
            last = line;
        }
    }
    report
}

/// The line with what stands between two texts replaced.
fn between(line: &str, before: &str, after: &str, by: &str) -> String {
    let parts = line.split_once(before).and_then(|(head, rest)| Some((head, rest.rsplit_once(after)?.1)));
    match parts {
        Some((head, tail)) => format!("{head}{before}{by}{after}{tail}"),
        None => line.to_owned(),
    }
}
