//! What all measurements share: the programs, a temporary directory, and how much to measure.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::cluster::succeed;
use crate::usage::Usage;

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
    directory: TempDir,
    directories: AtomicU32,
}

impl Measurement {
    pub(crate) fn new(binary: PathBuf, peer: PathBuf, quick: bool) -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            binary,
            peer,
            quick,
            directory: tempfile::Builder::new().prefix("bench-").tempdir()?,
            directories: AtomicU32::new(0),
        })
    }

    /// How often to measure, where a table needs this many runs.
    pub(crate) fn runs(&self, needed: usize) -> usize {
        self.full_or_quick(needed, needed.min(2))
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

    /// Runs a program, and returns the usage that goes to the file `usage` of its new directory.
    pub(crate) fn usage(&self, command: impl FnOnce(&Path) -> io::Result<Command>) -> io::Result<Usage> {
        let directory = self.new_directory()?;
        succeed(&mut command(&directory)?)?;
        let usage = Usage::wait_for(&directory.join("usage"))?;
        fs::remove_dir_all(directory)?;
        Ok(usage)
    }

    /// Makes a file of random bytes, which nothing on the way can compress.
    pub(crate) fn random_file(&self, megabytes: u32) -> io::Result<PathBuf> {
        let path = self.new_directory()?.join("random");
        let mut random = fs::File::open("/dev/urandom")?.take(u64::from(megabytes) * 1_000_000);
        io::copy(&mut random, &mut fs::File::create(&path)?)?;
        Ok(path)
    }

    /// Says on standard error what happens, because it takes minutes.
    pub(crate) fn progress(&self, text: &str) {
        eprintln!("bench: {text}");
    }
}

/// Measures the clients in turns, so that what disturbs the machine for a while disturbs all of them. Every other turn is
/// in reverse order, so that none is always the first. Returns the runs of each client.
pub(crate) fn in_turns<C: Copy, R>(
    clients: &[C],
    turns: usize,
    mut measure: impl FnMut(C) -> io::Result<R>,
) -> io::Result<Vec<Vec<R>>> {
    let mut runs: Vec<Vec<R>> = clients.iter().map(|_| Vec::new()).collect();
    for turn in 0..turns {
        let mut order: Vec<_> = clients.iter().zip(&mut runs).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for (client, runs) in order {
            runs.push(measure(*client)?);
        }
    }
    Ok(runs)
}

/// Fails if two files differ.
pub(crate) fn assert_same_bytes(one: &Path, other: &Path) -> io::Result<()> {
    let (one, other) = (fs::File::open(one)?, fs::File::open(other)?);
    loop {
        let block = block(&one)?;
        if block != self::block(&other)? {
            return Err(io::Error::other("the bytes that arrived are not those that were sent"));
        }
        if block.is_empty() {
            return Ok(());
        }
    }
}

fn block(file: &fs::File) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    file.take(1 << 20).read_to_end(&mut block)?;
    Ok(block)
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

    #[test]
    fn every_other_turn_is_in_reverse_order() {
        let mut order = Vec::new();
        let runs = in_turns(&['a', 'b'], 3, |client| {
            order.push(client);
            Ok((client, order.len()))
        });
        assert_eq!(runs.unwrap(), [[('a', 1), ('a', 4), ('a', 5)], [('b', 2), ('b', 3), ('b', 6)]]);
        assert_eq!(order, ['a', 'b', 'b', 'a', 'a', 'b']);
    }
}
