//! What others can do to the process: other processes of the user, the owner of a core file, the reader of its log, and a
//! limit of the machine. Each story names the finding that led to it.

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use testcluster::{Fault, Testcluster};

use crate::harness::stories;
use crate::machine::{CORE_FILES, ROOT, TIME, Unprivileged};
use crate::step::Step;

stories! {
    there_is_no_core_file needs CORE_FILES,
    no_other_process_may_look_into_this_one needs ROOT,
    a_log_that_is_not_read_does_not_delay_the_end needs TIME,
    a_limit_of_the_size_of_files_is_an_error,
}

/// Far longer than any of these runs takes.
const GENEROUS: Duration = Duration::from_secs(30);

/// A run that waits for the cluster, as soon as this is true of its files in /proc, or after a long time.
fn waiting(command: &mut Command, is_ready: impl Fn(&Path) -> bool) -> Child {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (began, process) = (Instant::now(), PathBuf::from(format!("/proc/{}", child.id())));
    while !is_ready(&process) && began.elapsed() < GENEROUS {
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The soft and the hard limit of core files.
fn core_limits(process: &Path) -> Vec<String> {
    let limits = fs::read_to_string(process.join("limits")).unwrap_or_default();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    core.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The commands of the product that have a secret in memory, against a cluster that does not answer.
fn commands_with_secrets(step: &Step) -> Vec<Vec<String>> {
    let proxy = format!("--proxy-server={}", step.variable("PROXY_SERVER"));
    let commands: [&[&str]; 4] = [
        &[],
        &["inspect", &proxy],
        &["doctor", &proxy],
        &["ssh-proxy-command", "--destination-dir=tbot-user", &proxy, "--tls-routing", "--user=x", "--host=node"],
    ];
    commands.map(|command| command.iter().map(|word| (*word).to_owned()).collect()).into()
}

/// F5.
fn there_is_no_core_file() {
    let honest = Testcluster::start();
    let cluster = Testcluster::builder().fault(Fault::Hang).start();
    let step = Step::new(&honest);
    step.pipe().ok();
    let step = step.env("PROXY_SERVER", &cluster.proxy_addr()).env("TIMEOUT", "60s");
    for command in commands_with_secrets(&step) {
        let mut shell = step.command("sh", &["-c", "ulimit -c unlimited; exec \"$0\" \"$@\"", Step::binary()]);
        let child = waiting(shell.args(&command), |process| core_limits(process) == ["0", "0"]);
        let limits = core_limits(Path::new(&format!("/proc/{}", child.id())));
        assert_eq!(limits, ["0", "0"], "{command:?}");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
        end(child);
    }
    let names = fs::read_dir(step.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let cores: Vec<_> = names.filter(|name| name.contains("core")).collect();
    assert_eq!(cores, [""; 0]);
}

/// F5, F15: memory and environment are closed to other processes of the same user. The kernel shows that by the owner of
/// the files in /proc.
fn no_other_process_may_look_into_this_one() {
    let cluster = Testcluster::builder().fault(Fault::Hang).start();
    let unprivileged = Unprivileged::new(&cluster);
    let is_root = |process: &Path| fs::metadata(process.join("environ")).is_ok_and(|file| file.uid() == 0);
    // At first it is the program that becomes the other user, which belongs to root.
    let is_ready = |process: &Path| {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        status.starts_with("Name:\tproduct\n") && is_root(process)
    };
    let child = waiting(&mut unprivileged.command(&[]), is_ready);
    let owner = fs::metadata(format!("/proc/{}/environ", child.id())).unwrap().uid();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("\nUid:\t65534\t"), "{status}");
    assert_eq!(owner, 0);
    end(child);
}

/// A pipe whose reader never reads, and which is full.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
    let mut full = fs::File::from(writer);
    while full.write(&[b'x'; 4096]).is_ok() {}
    let writer = OwnedFd::from(full);
    rustix::fs::fcntl_setfl(writer.as_fd(), OFlags::empty()).unwrap();
    (reader, writer)
}

/// F15: also if there is nothing but a mistake to print.
fn a_log_that_is_not_read_does_not_delay_the_end() {
    let cluster = Testcluster::start();
    let run = |args: &[&str], name: &str, value: &str| {
        let (_reader, writer) = full_pipe();
        let stdout = writer.try_clone().unwrap();
        let step = Step::new(&cluster).env("TIMEOUT", "3s").env("TELEPORT_PROXY", &cluster.proxy_addr());
        let step = step.env(name, value);
        let mut command = step.command(Step::binary(), args);
        let began = Instant::now();
        let status = command.stdin(Stdio::null()).stdout(stdout).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(5), "{args:?} {name}");
        // A cleanup has half a minute.
        assert!(began.elapsed() < 2 * GENEROUS, "{args:?} {name}: {:?}", began.elapsed());
    };
    let run = &run;
    std::thread::scope(|scope| {
        for args in [&[][..], &["inspect", "--timeout=3s"], &["doctor", "--timeout=3s"], &["cleanup", "-d"]] {
            scope.spawn(move || run(args, "DEBUG", "false"));
        }
        for args in [&["version"], &["--help"], &["--no-such-flag"]] {
            scope.spawn(move || run(args, "DEBUG", "false"));
        }
        for (name, value) in [("TOKEN", ""), ("TIMEOUT", "soon"), ("PROXYSERVER", "x")] {
            scope.spawn(move || run(&[], name, value));
        }
    });
}

/// F15: the signal of the kernel would end the process with incomplete files.
fn a_limit_of_the_size_of_files_is_an_error() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    let output = step.run("sh", &["-c", "ulimit -f 100; exec \"$0\"", Step::binary()]);
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(!step.dir().join("tbot-user").exists());
}
