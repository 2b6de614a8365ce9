//! A program that prints an ID token, which a person names in a tbot.yaml (docs/protocol.md, "Other CIs").

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
        let (this, timeout) = (self.clone(), self.timeout.min(deadline.left()));
        // Its thread is not waited for at the exit.
        let running = tokio::task::spawn_blocking(move || this.output(timeout));
        let output = running.await.unwrap_or_else(|_| Err("it could not be run".to_owned()));
        let failed =
            |reason| Error::Command { platform, program: self.words.first().cloned().unwrap_or_default(), reason };
        let text = output.map_err(failed)?;
        crate::log::hide(&text);
        IdToken::parse(platform, &text).ok_or_else(|| failed("it did not print an ID token".to_owned()))
    }

    fn output(&self, timeout: Duration) -> Result<Zeroizing<String>, String> {
        let [program, arguments @ ..] = self.words.as_slice() else { return Err("it has no name".to_owned()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(home) = std::env::home_dir().filter(|home| home.is_dir()) {
            command.current_dir(home);
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let stdout = child.stdout.take();
        let (sender, printed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
            let read = stdout.map(|stdout| stdout.take(ID_TOKEN_SIZE).read_to_end(&mut bytes));
            let _ = sender.send(read.transpose().map(|_| bytes));
        });
        let began = Instant::now();
        let status = wait(&mut child, timeout)?;
        if !status.success() {
            return Err(format!("it ended with {status}"));
        }
        // A program that it left behind may hold the pipe open.
        let left = timeout.saturating_sub(began.elapsed()).max(PAUSE);
        let printed = printed.recv_timeout(left).map_err(|_| "its output has no end".to_owned())?;
        let bytes = printed.map_err(|error| format!("its output cannot be read: {error}"))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| "it printed something else than text".to_owned())?;
        Ok(Zeroizing::new(text.trim().to_owned()))
    }
}

/// Ends a program that takes too long.
fn wait(child: &mut Child, timeout: Duration) -> Result<std::process::ExitStatus, String> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        if began.elapsed() >= timeout {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it was ended after {} s", timeout.as_secs()));
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(script: &str) -> Result<String, String> {
        let words = ["sh", "-c", script].map(str::to_owned).into();
        let command = TokenCommand { words, timeout: TIMEOUT };
        command.output(Duration::from_secs(2)).map(|text| text.to_string())
    }

    #[test]
    fn output_is_trimmed_and_failures_are_named() {
        assert_eq!(output("echo '  a.b.c  '"), Ok("a.b.c".to_owned()));
        assert_eq!(output("exit 3"), Err("it ended with exit status: 3".to_owned()));
        assert_eq!(output("printf '\\377'"), Err("it printed something else than text".to_owned()));
        assert_eq!(output("echo a.b.c; sleep 30 &"), Err("its output has no end".to_owned()));
        assert_eq!(output("sleep 30"), Err("it was ended after 2 s".to_owned()));
        let absent = TokenCommand { words: vec!["/nowhere/program".to_owned()], timeout: TIMEOUT };
        assert!(absent.output(TIMEOUT).unwrap_err().contains("No such file"));
    }
}
