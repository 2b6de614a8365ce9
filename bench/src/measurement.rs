//! What all measurements share: the programs, a temporary directory, and how much to measure.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use clap::ValueEnum as _;
use tempfile::TempDir;

use crate::cli::Cli;
use crate::route::Route;

/// The programs, and how much to measure.
#[derive(Debug)]
pub(crate) struct Measurement {
    /// This program, which also is the wrapper and the relays of the measurements.
    pub(crate) program: PathBuf,
    /// The static binary of teleport-pipe.
    pub(crate) binary: PathBuf,
    /// The binary of teleport-peer.
    pub(crate) peer: PathBuf,
    pub(crate) quick: bool,
    /// The routes to measure.
    pub(crate) routes: Vec<Route>,
    runs: Option<usize>,
    directory: TempDir,
    directories: AtomicU32,
}

impl Measurement {
    pub(crate) fn new(binary: PathBuf, peer: PathBuf, cli: &Cli) -> io::Result<Self> {
        let routes = if cli.routes.is_empty() { Route::value_variants() } else { &cli.routes };
        Ok(Self {
            program: std::env::current_exe()?,
            binary,
            peer,
            quick: cli.quick,
            routes: routes.to_vec(),
            runs: cli.runs,
            directory: tempfile::Builder::new().prefix("bench-").tempdir()?,
            directories: AtomicU32::new(0),
        })
    }

    /// How often to measure, where a table needs this many runs.
    pub(crate) fn runs(&self, needed: usize) -> usize {
        self.runs.unwrap_or(if self.quick { needed.min(2) } else { needed })
    }

    /// One value for full runs and another for quick ones.
    pub(crate) fn full_or_quick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(crate) fn new_directory(&self) -> io::Result<PathBuf> {
        let number = self.directories.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.path().join(number.to_string());
        fs::create_dir(&directory)?;
        Ok(directory)
    }

    /// Makes a file of random bytes, which nothing on the way can compress.
    pub(crate) fn random_file(&self, megabytes: u64) -> io::Result<PathBuf> {
        let path = self.new_directory()?.join("random");
        let mut random = fs::File::open("/dev/urandom")?.take(megabytes * 1_000_000);
        io::copy(&mut random, &mut fs::File::create(&path)?)?;
        Ok(path)
    }

    /// Says on standard error what happens, because it takes minutes.
    pub(crate) fn progress(&self, text: &str) {
        eprintln!("bench: {text}");
    }
}

/// Compares two files.
///
/// # Errors
///
/// If they differ, or cannot be read.
pub(crate) fn assert_same_bytes(one: &Path, other: &Path) -> io::Result<()> {
    let open = |path| fs::File::open(path).map(|file| io::BufReader::with_capacity(1 << 20, file));
    let is_same = fs::metadata(one)?.len() == fs::metadata(other)?.len()
        && open(one)?
            .bytes()
            .zip(open(other)?.bytes())
            .all(|(one, other)| matches!((one, other), (Ok(one), Ok(other)) if one == other));
    if is_same { Ok(()) } else { Err(io::Error::other("the bytes that arrived are not those that were sent")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let (one, same) = (write("one", b"abc"), write("same", b"abc"));
        assert_same_bytes(&one, &same).unwrap();
        assert!(assert_same_bytes(&one, &write("other", b"abd")).is_err());
        assert!(assert_same_bytes(&one, &write("shorter", b"ab")).is_err());
    }
}
