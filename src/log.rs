//! The log on stderr, with a line per stage. All printing is done here.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::error::Failure;
use crate::secret_pieces::SecretPieces;
use crate::text::hide_tokens;

static LOG: OnceLock<Log> = OnceLock::new();

/// The secrets of this process that a server may know and quote.
static SECRETS: RwLock<Option<SecretPieces>> = RwLock::new(None);

/// Warnings for the result in JSON. A cluster or a repository can lead to many.
static WARNINGS: RwLock<Vec<String>> = RwLock::new(Vec::new());
const MAX_WARNINGS: usize = 100;

#[derive(Debug)]
struct Log {
    began: Instant,
    colour: bool,
}

/// Starts the log. `RUST_LOG` is not read: a variable that is set for another program must not make this one verbose.
pub(crate) fn start(debug: bool, env: &Environment) {
    // A second start, as in tests, changes nothing.
    let _ = LOG.set(Log { began: Instant::now(), colour: colour(env, std::io::stderr().is_terminal()) });
    let level = if debug { LevelFilter::Debug } else { LevelFilter::Info };
    let mut logger = env_logger::Builder::new();
    let _ = logger.filter_level(LevelFilter::Debug).format(line).target(env_logger::Target::Stderr).try_init();
    log::set_max_level(level);
}

/// Prints debug information from now on.
pub(crate) fn more() {
    log::set_max_level(LevelFilter::Debug);
}

/// Whether this crate made the record, with the stage of the run as its target. HTTP and TLS libraries stay out of the
/// log, whatever the level is, because they print what they send (docs/decisions.md, 14).
fn is_ours(record: &Record<'_>) -> bool {
    record.module_path().and_then(|path| path.split("::").next()) == Some(env!("CARGO_CRATE_NAME"))
}

pub(crate) fn colour_on_stdout(env: &Environment) -> bool {
    colour(env, std::io::stdout().is_terminal())
}

/// CI systems show colours without a terminal (docs/protocol.md, "How a pipe runs"), and set `CI`. `NO_COLOR`
/// (<https://no-color.org>) switches colours off.
fn colour(env: &Environment, is_terminal: bool) -> bool {
    env.get("NO_COLOR").is_none() && (env.get("CI").is_some() || is_terminal)
}

fn line(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    if !is_ours(record) {
        return Ok(());
    }
    let stage = record.target();
    let time = LOG.get().map(|log| log.began.elapsed().as_secs_f32()).unwrap_or_default();
    let (mark, style) = match record.level() {
        Level::Warn | Level::Error => ("warning: ", AnsiColor::Yellow.on_default()),
        Level::Debug | Level::Trace => ("(debug) ", AnsiColor::BrightBlack.on_default()),
        Level::Info if stage == "done" => ("", AnsiColor::Green.on_default()),
        Level::Info => ("", Style::new()),
    };
    let name = styled(&format!("{stage:<13}"), AnsiColor::Blue.on_default());
    let message = hide_secrets(&record.args().to_string());
    let text = styled(&format!("{mark}{message}"), style);
    if record.level() == Level::Warn {
        remember(message);
    }
    writeln!(out, "{time:>5.2}s {name} {text}")
}

fn remember(warning: String) {
    let mut warnings = WARNINGS.write().unwrap_or_else(PoisonError::into_inner);
    if warnings.len() < MAX_WARNINGS {
        warnings.push(warning);
    }
}

/// The warnings that were logged so far.
pub(crate) fn warnings() -> Vec<String> {
    WARNINGS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// From now on no piece of this secret is printed.
pub(crate) fn hide(secret: &str) {
    SECRETS.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().add(secret);
}

/// The text without anything that looks like an ID token, and without pieces of secrets.
fn hide_secrets(text: &str) -> String {
    let text = hide_tokens(text);
    match &*SECRETS.read().unwrap_or_else(PoisonError::into_inner) {
        Some(secrets) => secrets.mask(&text),
        None => text,
    }
}

/// The text in that style, if the log may have colours.
fn styled(text: &str, style: Style) -> String {
    match LOG.get() {
        Some(Log { colour: true, .. }) => format!("{style}{text}{style:#}"),
        _ => text.to_owned(),
    }
}

/// Prints the error that ended the run, with its first line in red.
pub(crate) fn failure(failure: &Failure) {
    print(&in_red(failure));
}

/// Like [`failure`], but prints nothing if that could take time: the log may not be read, and another thread may hold the
/// lock of stderr.
pub(crate) fn failure_without_waiting(failure: &Failure) {
    let Ok(stderr) = std::io::stderr().as_fd().try_clone_to_owned() else { return };
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    let at_once = poll(&mut polled, Some(&Timespec::default()));
    if at_once.is_ok() && polled[0].revents().contains(PollFlags::OUT) {
        let _ = File::from(stderr).write_all(hide_secrets(&in_red(failure)).as_bytes());
    }
}

fn in_red(failure: &Failure) -> String {
    let text = failure.render();
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{}\n{rest}", styled(first, AnsiColor::Red.on_default()))
}

/// Prints to stderr without the log. An ID token is hidden here, too: it may have been given as a flag that clap
/// quotes, or as a path.
pub(crate) fn print(text: &str) {
    let _ = std::io::stderr().write_all(hide_secrets(text).as_bytes());
}

/// Prints the output of a command to stdout, in one piece and without secrets. Fails if stdout is closed.
pub(crate) fn out(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(hide_secrets(text).as_bytes())?;
    out.flush()
}

/// Prints a value as one line of JSON to stdout, without secrets in its texts.
pub(crate) fn json(value: &impl Serialize) -> std::io::Result<()> {
    let mut value = serde_json::to_value(value)?;
    hide_in_texts(&mut value);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

/// Masks secrets in the texts of a value. Its keys are ours.
fn hide_in_texts(value: &mut Value) {
    match value {
        Value::String(text) => *text = hide_secrets(text),
        Value::Array(list) => list.iter_mut().for_each(hide_in_texts),
        Value::Object(fields) => fields.values_mut().for_each(hide_in_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A panic is a bug: prints one line with its position, never the payload, which may quote secrets.
pub(crate) fn on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let position = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        print(&format!("error: a bug in teleport-pipe {version} at {position}; please report it\n"));
        #[expect(clippy::exit, reason = "after a panic nothing else may run, and the status must be 1, not SIGABRT")]
        std::process::exit(i32::from(crate::error::Exit::Bug as u8));
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The next test runs this one as a process of its own.
    #[test]
    #[ignore = "panics on purpose"]
    fn a_panic() {
        on_panic();
        panic!("s3cret");
    }

    #[test]
    fn a_panic_prints_its_position_and_not_its_payload() {
        let tests = std::env::current_exe().unwrap();
        let args = ["--exact", "log::tests::a_panic", "--ignored", "--nocapture", "--test-threads=1"];
        let output = Command::new(tests).args(args).env("RUST_BACKTRACE", "full").output().unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(printed.contains("error: a bug in teleport-pipe ") && printed.contains("src/log.rs:"), "{printed}");
        assert!(!printed.contains("s3cret") && output.status.code() == Some(1), "{printed}");
    }

    #[test]
    fn records_of_libraries_are_dropped() {
        let is_ours = |module| is_ours(&Record::builder().target("join").module_path(module).build());
        assert!(is_ours(Some("teleport_pipe::join::service")) && is_ours(Some("teleport_pipe")));
        for module in [Some("rustls::conn"), Some("join"), Some("teleport_pipe_extras"), Some(""), None] {
            assert!(!is_ours(module), "{module:?}");
        }
    }
}
