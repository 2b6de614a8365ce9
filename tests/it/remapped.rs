//! Programs in a user namespace, as an engine with `--userns-remap` starts them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::output::Output;

/// The number that root of the namespace has outside of it. As with Docker, there are 65536 users.
pub(crate) const FIRST: u32 = 165536;

/// Runs a program as root of a user namespace. `command` makes the command. The machine's root does not exist there.
pub(crate) fn run(command: impl Fn(&str, &[&str]) -> Command, program: &[&str]) -> Output {
    // Who enters a namespace without users keeps the capabilities only with this flag, and then becomes root of it.
    let wait = "echo; read -r _; exec setpriv --reuid=0 --regid=0 --clear-groups \"$0\" \"$@\"";
    let mut command = command("unshare", &[&["--user", "--keep-caps", "sh", "-c", wait], program].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    for map in ["uid_map", "gid_map"] {
        // Without the right to do it, the program fails.
        let _ = fs::write(format!("/proc/{}/{map}", child.id()), format!("0 {FIRST} 65536"));
    }
    let _ = child.stdin.take().unwrap().write_all(b"\n");
    let mut text = String::new();
    let reader = std::thread::spawn(move || stdout.read_to_string(&mut text).map(|_| text));
    let output = child.wait_with_output().unwrap();
    let stdout = reader.join().unwrap().unwrap();
    Output { status: output.status.code(), stdout, stderr: String::from_utf8(output.stderr).unwrap() }
}
