//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures teleport-pipe beside other clients, and writes the figures into docs/performance.md.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// The static binary of teleport-pipe.
    #[arg(long, default_value = "target/x86_64-unknown-linux-musl/release/teleport-pipe")]
    pub(crate) binary: PathBuf,
    /// Fewer runs and fewer bytes; the document stays as it is.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these tables; the document stays as it is.
    pub(crate) parts: Vec<Part>,
    #[command(subcommand)]
    pub(crate) helper: Option<Helper>,
}

/// A part of the document, in the order in which they are measured. Hundreds of sessions disturb the machine for a while
/// after they have ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// A join, with up to 250 roles: time, CPU, memory, round trips.
    Join,
    /// Up to 1 000 joins of one cluster.
    ManyJoins,
    /// A session that does nothing: time, round trips, first byte.
    Latency,
    /// Bytes through ssh, by client and route.
    Throughput,
    /// Bytes through ssh, with a delay.
    Delay,
    /// A sequence diagram of a join.
    Sequence,
    /// System calls of the ProxyCommand.
    SystemCalls,
    /// Functions of the library that grow with their input, by `cargo bench`.
    Small,
    /// Many sessions at the same time.
    Sessions,
}

/// What the measurements start.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Helper {
    /// Runs a program and writes the time, CPU and memory that it used into a file.
    Measure {
        file: PathBuf,
        #[arg(last = true)]
        words: Vec<OsString>,
    },
    /// Copies between the standard streams and a TCP connection.
    RelayTcp { addr: String },
    /// Copies between the standard streams and a TLS connection.
    RelayTls { addr: String, certificate: PathBuf },
    /// Makes one TLS connection to a Teleport proxy, and one HTTP request.
    Handshake { addr: String, ca_file: PathBuf },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["bench", "--quick", "join", "throughput"]);
        assert_eq!((cli.parts, cli.quick), (vec![Part::Join, Part::Throughput], true));
        let cli = Cli::parse_from(["bench", "measure", "file", "--", "sh", "-c", "true"]);
        assert!(matches!(cli.helper, Some(Helper::Measure { words, .. }) if words == ["sh", "-c", "true"]));
    }
}
