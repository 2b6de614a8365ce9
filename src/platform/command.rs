//! A program that prints an ID token, which a person names in a tbot.yaml (docs/protocol.md, "Other CIs").

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{Error, IdToken, Platform};
use crate::limits::ID_TOKEN_SIZE;
use crate::retry::Deadline;

/// How long the program may take if the file does not say.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct TokenCommand {
    pub(crate) words: Vec<String>,
    pub(crate) timeout: Duration,
}

impl TokenCommand {
    /// Runs the program in the home directory, without input. What it prints on stderr goes to the log as it is.
    pub(crate) async fn run(&self, platform: &'static Platform, deadline: Deadline) -> Result<IdToken, Error> {
        let timeout = self.timeout.min(deadline.left());
        let failed =
            |reason| Error::Command { platform, program: self.words.first().cloned().unwrap_or_default(), reason };
        let output = tokio::time::timeout(timeout, self.output()).await;
        let late = || failed(format!("it was ended after {}", crate::clock::approximate(timeout)));
        let text = output.map_err(|_| late())?.map_err(failed)?;
        crate::log::hide(&text);
        IdToken::parse(platform, &text).ok_or_else(|| failed("it did not print an ID token".to_owned()))
    }

    async fn output(&self) -> Result<Zeroizing<String>, String> {
        let mut running = Running::start(&self.words).map_err(|error| error.to_string())?;
        let printed = read(running.child.stdout.take());
        let status = running.status().await.map_err(|error| error.to_string())?;
        // Something that it left behind may hold the pipe open: then the timeout ends both.
        let bytes = printed.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if bytes.len() as u64 > ID_TOKEN_SIZE {
            return Err(format!("it printed more than {ID_TOKEN_SIZE} bytes"));
        }
        if !status.success() {
            return Err(format!("it ended with {status}"));
        }
        running.is_over = true;
        let text = std::str::from_utf8(&bytes).map_err(|_| "it printed something else than text".to_owned())?;
        Ok(Zeroizing::new(text.trim().to_owned()))
    }
}

/// What the program prints, read on a thread of its own, which ends with the program.
fn read(stdout: Option<ChildStdout>) -> oneshot::Receiver<io::Result<Zeroizing<Vec<u8>>>> {
    let (sender, printed) = oneshot::channel();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
        let read = stdout.map(|stdout| stdout.take(ID_TOKEN_SIZE + 1).read_to_end(&mut bytes));
        let _ = sender.send(read.transpose().map(|_| bytes));
    });
    printed
}

/// A program in a process group of its own, which is killed if this is dropped before its end.
struct Running {
    child: Child,
    is_over: bool,
}

impl Running {
    fn start(words: &[String]) -> io::Result<Self> {
        let [program, arguments @ ..] = words else { return Err(io::ErrorKind::NotFound.into()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        if let Some(home) = std::env::home_dir().filter(|home| home.is_dir()) {
            command.current_dir(home);
        }
        Ok(Self { child: command.spawn()?, is_over: false })
    }

    async fn status(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reason(script: &str, timeout: Duration) -> String {
        let words = ["sh", "-c", script].map(str::to_owned).into();
        let command = TokenCommand { words, timeout };
        let deadline = Deadline::after(Duration::from_secs(60));
        command.run(crate::platform::ALL[0], deadline).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn failures_are_named() {
        for (script, expected) in [
            ("exit 3", "it ended with exit status: 3"),
            ("echo hello", "it did not print an ID token"),
            ("printf '\\377'", "it printed something else than text"),
            ("head -c 70000 /dev/zero", "it printed more than 65536 bytes"),
        ] {
            let reason = reason(script, TIMEOUT).await;
            assert!(reason.ends_with(expected), "{script}: {reason}");
        }
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_ended_with_those_that_it_started() {
        for script in ["(sleep 3; touch LATE) | cat", "echo a.b.c; (sleep 3; touch LATE) &"] {
            let directory = tempfile::tempdir().unwrap();
            let late = directory.path().join("late");
            let reason = reason(&script.replace("LATE", &late.display().to_string()), Duration::from_secs(1)).await;
            assert!(reason.ends_with("it was ended after 1s"), "{script}: {reason}");
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(!late.exists(), "{script}");
        }
    }
}
