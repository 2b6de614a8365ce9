//! `bench measure FILE -- PROGRAM ARGUMENTS…` runs a program and writes what it used into a file.
//!
//! The kernel adds up CPU time by nanoseconds, so that the sum of user and system time is exact for a program of some
//! milliseconds, too. GNU time prints hundredths of a second.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use nix::sys::resource::{Usage as ResourceUsage, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// What a process used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) wall_seconds: f64,
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    /// Maximum resident set.
    pub(crate) peak_mib: f64,
}

/// Runs the program and writes its usage.
pub(crate) fn measure(file: &Path, words: &[OsString]) -> io::Result<ExitCode> {
    let (program, args) = words.split_first().ok_or_else(|| io::Error::other("no program to measure"))?;
    // ssh sends SIGHUP to its ProxyCommand at its end. The program itself ends when its standard input does.
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::new(AtomicBool::new(false)))?;
    let start = Instant::now();
    let status = Command::new(program).args(args).status()?;
    let wall_seconds = start.elapsed().as_secs_f64();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let usage = Usage { wall_seconds, cpu_seconds: cpu_seconds(&used), peak_mib: kib_to_mib(used.max_rss()) };
    usage.write(file)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The CPU time of all processes that this process has waited for.
pub(crate) fn children_cpu_seconds() -> io::Result<f64> {
    Ok(cpu_seconds(&getrusage(UsageWho::RUSAGE_CHILDREN)?))
}

fn cpu_seconds(used: &ResourceUsage) -> f64 {
    let microseconds = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    Duration::from_micros(microseconds.unsigned_abs()).as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn kib_to_mib(kib: i64) -> f64 {
    kib as f64 / 1024.0
}

impl Usage {
    fn write(&self, file: &Path) -> io::Result<()> {
        // Renamed, so that a reader never sees half of it.
        let part = file.with_extension("part");
        fs::write(&part, format!("{} {} {}\n", self.wall_seconds, self.cpu_seconds, self.peak_mib))?;
        fs::rename(part, file)
    }

    /// Reads the file of a program, which may still be ending.
    pub(crate) fn wait_for(file: &Path) -> io::Result<Self> {
        let start = Instant::now();
        loop {
            match fs::read_to_string(file) {
                Ok(text) => return Self::parse(&text).ok_or_else(|| io::Error::other(format!("not a usage: {text}"))),
                Err(error) if start.elapsed() > Duration::from_secs(10) => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut figures = text.split_whitespace().map(str::parse);
        let mut next = || figures.next()?.ok();
        Some(Self { wall_seconds: next()?, cpu_seconds: next()?, peak_mib: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage");
        let usage = Usage { wall_seconds: 1.5, cpu_seconds: 0.000_25, peak_mib: 6.75 };
        usage.write(&file).unwrap();
        assert_eq!(Usage::wait_for(&file).unwrap(), usage);
        assert_eq!(Usage::parse("1.5 x 3"), None);
        assert_eq!(Usage::parse("1.5"), None);
    }

    #[test]
    fn a_child_is_measured() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage");
        // The system ends it after one second of CPU time, which it counts by ticks.
        let busy = "ulimit -c 0; ulimit -t 1; while :; do :; done";
        measure(&file, &["sh".into(), "-c".into(), busy.into()]).unwrap();
        let usage = Usage::wait_for(&file).unwrap();
        assert!((0.5..1.5).contains(&usage.cpu_seconds) && usage.wall_seconds > 0.9 * usage.cpu_seconds, "{usage:?}");
        assert!((0.5..100.0).contains(&usage.peak_mib), "{usage:?}");
    }
}
