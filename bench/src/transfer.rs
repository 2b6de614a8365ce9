//! A file that is sent through ssh.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::client::Client;
use crate::cluster::{Cluster, succeed};
use crate::measurement::assert_same_bytes;
use crate::usage::Usage;

/// The direction of the bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    ToNode,
    FromNode,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::ToNode, Self::FromNode];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ToNode => "to the node",
            Self::FromNode => "from the node",
        }
    }
}

/// What a transfer took: the wall time of ssh, and what its ProxyCommand used, if it has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) wall_seconds: f64,
    pub(crate) proxy_command: Option<Usage>,
}

/// Sends a file through ssh, and measures it. The other end discards the bytes.
pub(crate) fn measure(cluster: &Cluster<'_>, client: Client, direction: Direction, file: &Path) -> io::Result<Sample> {
    let usage = file.with_extension("usage");
    let mut ssh = cluster.ssh(client, Some(&usage))?;
    connect(&mut ssh, direction, file, Path::new("/dev/null"))?;
    let start = Instant::now();
    succeed(&mut ssh)?;
    let wall_seconds = start.elapsed().as_secs_f64();
    if client == Client::PlainSsh {
        return Ok(Sample { wall_seconds, proxy_command: None });
    }
    let proxy_command = Some(Usage::wait_for(&usage)?);
    fs::remove_file(&usage)?;
    Ok(Sample { wall_seconds, proxy_command })
}

/// Sends a file through ssh, and compares what arrives.
pub(crate) fn verify(cluster: &Cluster<'_>, client: Client, direction: Direction, file: &Path) -> io::Result<()> {
    let arrived: PathBuf = file.with_extension("arrived");
    let mut ssh = cluster.ssh(client, None)?;
    connect(&mut ssh, direction, file, &arrived)?;
    succeed(&mut ssh)?;
    assert_same_bytes(file, &arrived)?;
    fs::remove_file(arrived)
}

/// Sets the command of ssh and its standard streams. The node is this machine, so that it reads and writes our files.
pub(crate) fn connect(ssh: &mut Command, direction: Direction, from: &Path, to: &Path) -> io::Result<()> {
    let file = |path| OpenOptions::new().write(true).create(true).truncate(true).open(path);
    match direction {
        Direction::ToNode => ssh.arg(format!("cat >'{}'", to.display())).stdin(File::open(from)?).stdout(Stdio::null()),
        Direction::FromNode => ssh.arg(format!("cat '{}'", from.display())).stdin(Stdio::null()).stdout(file(to)?),
    };
    Ok(())
}
