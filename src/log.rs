//! What a person sees. One line per stage on stderr, and one place that prints.

use std::io::Write as _;

use env_logger::fmt::Formatter;
use log::{LevelFilter, Record};

use crate::error::without_tokens;

/// The stages of a run; a record of any other target is dropped, whatever its level. That keeps HTTP and TLS libraries
/// out of the log, which print what they send (security-checklist.md D2.1).
const STAGES: [&str; 6] = ["token", "discover", "join", "certificates", "write", "done"];

/// Starts the log. `RUST_LOG` is not read: a variable that is set for another program must not make this one talkative.
pub fn start(debug: bool) {
    let level = if debug { LevelFilter::Debug } else { LevelFilter::Info };
    let mut builder = env_logger::Builder::new();
    for stage in STAGES {
        builder.filter_module(stage, level);
    }
    // A second start, as in tests, changes nothing.
    let _ = builder.format(line).target(env_logger::Target::Stderr).try_init();
}

fn line(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    // The filter lets prefixes in.
    if !STAGES.contains(&record.target()) {
        return Ok(());
    }
    let mark = match record.level() {
        log::Level::Warn | log::Level::Error => "warning: ",
        log::Level::Debug => "(debug) ",
        _ => "",
    };
    writeln!(out, "{:<13} {mark}{}", record.target(), without_tokens(&record.args().to_string()))
}

/// Prints to stderr, past the log. Here, too, an ID token that was given in the wrong place is not shown: as an argument
/// that clap quotes, or as a path.
pub fn print(text: &str) {
    let _ = std::io::stderr().write_all(without_tokens(text).as_bytes());
}

/// A panic is a bug: one line that says where, never the payload, which may quote what was being handled.
pub fn on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        print(&format!("error: a bug in teleport-pipe {} at {place}; please report it\n", env!("CARGO_PKG_VERSION")));
        #[expect(clippy::exit, reason = "after a panic nothing else may run, and the status must be 1, not SIGABRT")]
        std::process::exit(i32::from(crate::error::Exit::Bug as u8));
    }));
}
