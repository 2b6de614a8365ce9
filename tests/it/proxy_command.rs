//! The ProxyCommand: sessions of ssh through it, and its errors.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use expect_test::{ExpectFile, expect_file};
use rustix::fs::{OFlags, fcntl_getfl};
use testcluster::{EventKind, Fault, Role, Testcluster};

use crate::harness::stories;
use crate::machine::TIME;
use crate::step::{Output, Step};

stories! {
    an_unknown_node_is_an_error,
    an_unknown_uuid_is_an_error,
    a_missing_identity_is_an_error,
    a_broken_identity_is_an_error,
    expired_credentials_are_not_sent needs TIME,
    an_unreachable_proxy_is_an_error,
    a_proxy_of_another_cluster_is_refused,
    a_node_with_a_certificate_of_another_ca_is_refused,
    stdout_carries_ssh_and_nothing_else,
    stdin_and_stdout_block_again_afterwards,
    stdin_and_stdout_may_be_one_socket,
    stdout_may_be_a_file,
    the_proxy_refuses_bytes_that_are_not_ssh,
    it_ends_when_ssh_is_killed,
    it_ends_when_ssh_is_killed_before_the_node_answers,
    it_ends_when_the_node_ends,
    it_ends_when_the_cluster_ends,
    a_node_can_be_named_by_its_uuid,
    the_exit_status_is_that_of_the_remote_command,
    the_end_of_input_reaches_the_remote_command,
    many_bytes_pass_in_both_directions needs TIME,
    many_small_writes_pass,
    scp_and_sftp_copy_files needs TIME,
    sessions_can_share_a_connection,
}

/// Longer than any of these actions should take.
const GENEROUS: Duration = Duration::from_secs(30);

/// A cluster, and a step in which the pipe has run.
fn ready() -> (Testcluster, Step) {
    ready_with(Testcluster::start())
}

fn ready_with(cluster: Testcluster) -> (Testcluster, Step) {
    let step = Step::new(&cluster);
    step.pipe().ok();
    (cluster, step)
}

/// The ProxyCommand as ssh calls it, for a host that ssh was given.
fn proxy(step: &Step, cluster: &Testcluster, host: &str) -> Command {
    proxy_at(step, cluster, host, &cluster.proxy_addr())
}

fn proxy_at(step: &Step, cluster: &Testcluster, host: &str, addr: &str) -> Command {
    let args = ["ssh-proxy-command", "--destination-dir=tbot-user", "--tls-routing", "--no-connection-upgrade"];
    let mut command = step.command(step.file("teleport-pipe").to_str().unwrap(), &args);
    command.args([format!("--proxy-server={addr}"), format!("--cluster={}", cluster.name())]);
    command.args(["--resume", "--user=user", "--port=3022"]).arg(format!("--host={host}"));
    command
}

/// Asserts that it fails with one line and a URL on stderr, and nothing on stdout.
#[track_caller]
fn assert_fails(step: &Step, cluster: &Testcluster, host: &str, status: i32, golden: &ExpectFile) {
    assert_command_fails(step, proxy(step, cluster, host), status, golden);
}

#[track_caller]
fn assert_command_fails(step: &Step, mut command: Command, status: i32, golden: &ExpectFile) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(status), &b""[..]), "{stderr}");
    assert!(stderr.ends_with('\n'), "{stderr:?}");
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    golden.assert_eq(&step.scrubbed(&stderr));
}

/// Waits for a condition.
#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < GENEROUS, "not after {GENEROUS:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asserts that no process is left and that the session has ended for the cluster, too.
#[track_caller]
fn assert_ended(step: &Step, cluster: &Testcluster) {
    wait_until("no process is left", || step.processes() == 0);
    wait_until("the call has ended", || {
        let mut calls = cluster.calls().into_iter().filter(|call| call.name.ends_with("/ProxySSH"));
        calls.all(|call| call.code.is_some())
    });
    assert!(!cluster.record().iter().any(|event| event.kind == EventKind::EmptyFrame));
}

/// ssh with an open session: `cat`, which has sent a line back.
fn open_session(step: &Step, cluster: &Testcluster, options: &[&str]) -> Child {
    let node = Step::node(cluster);
    let args = [&["-F", "tbot-user/ssh_config"], options, &[&node, "cat"]].concat();
    let mut ssh = step.command("ssh", &args);
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(ssh.stdin.as_mut().unwrap(), "hello").unwrap();
    let mut line = [0; 6];
    ssh.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"hello\n");
    ssh
}

// Errors.

fn an_unknown_node_is_an_error() {
    let (cluster, step) = ready();
    let golden = expect_file!["golden/proxy_command/unknown-node.txt"];
    assert_fails(&step, &cluster, "nowhere.example.teleport.sh", 4, &golden);
    let output = step.ssh(&["user@nowhere.example.teleport.sh", "true"]);
    assert_eq!((output.status, output.stdout.as_str()), (Some(255), ""));
    // The lines of ssh itself differ between versions.
    let lines: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("teleport-pipe: ")).collect();
    golden.assert_eq(&step.scrubbed(&lines.join("\n")));
}

fn an_unknown_uuid_is_an_error() {
    let (cluster, step) = ready();
    let golden = expect_file!["golden/proxy_command/unknown-uuid.txt"];
    assert_fails(&step, &cluster, "11111111-2222-3333-4444-555555555555.example.teleport.sh", 4, &golden);
}

fn a_missing_identity_is_an_error() {
    let (cluster, step) = ready();
    fs::remove_file(step.file("identity")).unwrap();
    let golden = expect_file!["golden/proxy_command/no-identity.txt"];
    assert_fails(&step, &cluster, &cluster.node_host(), 2, &golden);
}

fn a_broken_identity_is_an_error() {
    let (cluster, step) = ready();
    let identity = fs::read_to_string(step.file("identity")).unwrap();
    let certificate = identity.find("-----BEGIN CERTIFICATE-----").unwrap();
    for (broken, golden) in [
        ("", expect_file!["golden/proxy_command/empty-identity.txt"]),
        (&identity[40..], expect_file!["golden/proxy_command/identity-without-key.txt"]),
        (&identity[..certificate], expect_file!["golden/proxy_command/identity-without-certificate.txt"]),
        (&identity[..certificate + 200], expect_file!["golden/proxy_command/half-an-identity.txt"]),
    ] {
        fs::write(step.file("identity"), broken).unwrap();
        assert_fails(&step, &cluster, &cluster.node_host(), 2, &golden);
    }
}

fn expired_credentials_are_not_sent() {
    let login = Testcluster::start().node_login().to_owned();
    let role = Role::new("example-role", [login]).max_session_ttl(Duration::from_secs(20));
    let (cluster, step) = ready_with(Testcluster::builder().role(role).start());
    std::thread::sleep(Duration::from_secs(21));
    cluster.clear_record();
    assert_fails(&step, &cluster, &cluster.node_host(), 4, &expect_file!["golden/proxy_command/expired.txt"]);
    assert!(cluster.record().is_empty());
}

fn an_unreachable_proxy_is_an_error() {
    let (cluster, step) = ready();
    // The next cluster could get the port of one that has ended.
    let gone = proxy_at(&step, &cluster, &cluster.node_host(), "localhost:1");
    assert_command_fails(&step, gone, 5, &expect_file!["golden/proxy_command/no-proxy.txt"]);
}

fn a_proxy_of_another_cluster_is_refused() {
    let (_, step) = ready();
    let other = Testcluster::start();
    let step = step.scrub(format!(":{}", other.port()), ":PORT");
    assert_fails(&step, &other, &other.node_host(), 5, &expect_file!["golden/proxy_command/other-cluster.txt"]);
}

fn a_node_with_a_certificate_of_another_ca_is_refused() {
    let (cluster, step) = ready_with(Testcluster::builder().fault(Fault::NodeCertOfOtherCa).start());
    let output = step.ssh(&[&Step::node(&cluster), "true"]);
    assert_eq!((output.status, output.stdout.as_str()), (Some(255), ""));
    assert!(output.stderr.contains("Host key verification failed."), "{}", output.stderr);
    assert_ended(&step, &cluster);
}

// The end of a session.

fn stdout_carries_ssh_and_nothing_else() {
    let (cluster, step) = ready();
    let mut command = proxy(&step, &cluster, &cluster.node_host());
    let mut proxy = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // sshd speaks first.
    let mut banner = [0; 8];
    proxy.stdout.as_mut().unwrap().read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    // When stdin is closed it exits with 0 and prints nothing.
    let began = Instant::now();
    drop(proxy.stdin.take());
    let output = proxy.wait_with_output().unwrap();
    assert!(began.elapsed() < GENEROUS, "it waited for the node");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_ended(&step, &cluster);
}

/// Whether a read or a write of this open file returns at once.
fn is_non_blocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Another process may have the same open file, such as a shell that runs the next command of a list.
fn stdin_and_stdout_block_again_afterwards() {
    let (cluster, step) = ready();
    let (stdin, to) = std::io::pipe().unwrap();
    let (mut from, stdout) = std::io::pipe().unwrap();
    let (shared_stdin, shared_stdout) = (stdin.try_clone().unwrap(), stdout.try_clone().unwrap());
    let mut command = proxy(&step, &cluster, &cluster.node_host());
    let mut proxy = command.stdin(stdin).stdout(stdout).spawn().unwrap();
    drop(command);
    from.read_exact(&mut [0; 8]).unwrap();
    assert!(is_non_blocking(&shared_stdin) && is_non_blocking(&shared_stdout));
    drop(to);
    assert_eq!(proxy.wait().unwrap().code(), Some(0));
    assert!(!is_non_blocking(&shared_stdin) && !is_non_blocking(&shared_stdout));
}

fn stdin_and_stdout_may_be_one_socket() {
    let (cluster, step) = ready();
    let (mut near, far) = UnixStream::pair().unwrap();
    let shared = far.try_clone().unwrap();
    let mut command = proxy(&step, &cluster, &cluster.node_host());
    command.stdin(OwnedFd::from(far.try_clone().unwrap())).stdout(OwnedFd::from(far));
    let mut proxy = command.spawn().unwrap();
    drop(command);
    let mut banner = [0; 8];
    near.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(proxy.wait().unwrap().code(), Some(0));
    assert!(!is_non_blocking(&shared));
}

fn stdout_may_be_a_file() {
    let (cluster, step) = ready();
    let file = step.file("stdout");
    let mut command = proxy(&step, &cluster, &cluster.node_host());
    let mut proxy = command.stdin(Stdio::piped()).stdout(fs::File::create(&file).unwrap()).spawn().unwrap();
    let began = Instant::now();
    while !fs::read(&file).unwrap().starts_with(b"SSH-2.0-") {
        assert!(began.elapsed() < GENEROUS, "nothing was written");
        thread::sleep(Duration::from_millis(20));
    }
    drop(proxy.stdin.take());
    assert_eq!(proxy.wait().unwrap().code(), Some(0));
}

fn the_proxy_refuses_bytes_that_are_not_ssh() {
    let (cluster, step) = ready();
    let mut command = proxy(&step, &cluster, &cluster.node_host());
    let mut proxy = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Kept open, because the command also ends when stdin is closed.
    let mut stdin = proxy.stdin.take().unwrap();
    stdin.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(proxy.wait().unwrap().code(), Some(4));
    let mut stderr = String::new();
    proxy.stderr.unwrap().read_to_string(&mut stderr).unwrap();
    expect_file!["golden/proxy_command/not-ssh.txt"].assert_eq(&step.scrubbed(&stderr));
}

fn it_ends_when_ssh_is_killed() {
    let (cluster, step) = ready();
    let mut ssh = open_session(&step, &cluster, &[]);
    assert_eq!(step.processes(), 1);
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    assert_ended(&step, &cluster);
    assert!(cluster.wait_for(|kind| matches!(kind, EventKind::Tunnel { .. })));
}

fn it_ends_when_ssh_is_killed_before_the_node_answers() {
    let (cluster, step) = ready_with(Testcluster::builder().fault(Fault::DialStalls).start());
    let mut ssh = step.command("ssh", &["-F", "./tbot-user/ssh_config", &Step::node(&cluster), "true"]);
    let mut ssh = ssh.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let dialled = |kind: &EventKind| matches!(kind, EventKind::Call { name, .. } if name.ends_with("/ProxySSH"));
    assert!(cluster.wait_for(dialled));
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    // Otherwise it would wait for the node for half a minute.
    let began = Instant::now();
    while step.processes() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is still running");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn it_ends_when_the_node_ends() {
    let (cluster, step) = ready();
    // The parent of the remote shell is the sshd of this connection.
    let output = step.ssh(&[&Step::node(&cluster), "kill -9 $PPID; sleep 60"]);
    assert_eq!(output.status, Some(255), "{}", output.stderr);
    assert_ended(&step, &cluster);
}

fn it_ends_when_the_cluster_ends() {
    let (cluster, step) = ready();
    let mut ssh = open_session(&step, &cluster, &[]);
    drop(cluster);
    assert_eq!(ssh.wait().unwrap().code(), Some(255));
    wait_until("no process is left", || step.processes() == 0);
}

// Data.

fn a_node_can_be_named_by_its_uuid() {
    let (cluster, step) = ready();
    let node = format!("{}@{}.{}", cluster.node_login(), cluster.node_uuid(), cluster.name());
    assert_eq!(step.ssh(&[&node, "echo", "hello"]).ok().stdout, "hello\n");
    assert_ended(&step, &cluster);
}

fn the_exit_status_is_that_of_the_remote_command() {
    let (cluster, step) = ready();
    for status in [0, 1, 42, 254] {
        let output = step.ssh(&[&Step::node(&cluster), &format!("echo out; echo err >&2; exit {status}")]);
        assert_eq!(output.status, Some(status));
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    }
}

/// Sends bytes to the remote `cat`, ends its input, and takes what comes back.
fn echoed(step: &Step, cluster: &Testcluster, send: impl FnOnce(&mut dyn std::io::Write) + Send) -> Vec<u8> {
    let args = ["-F", "tbot-user/ssh_config", &Step::node(cluster), "cat"];
    let mut ssh = step.command("ssh", &args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || send(&mut stdin));
        let output = ssh.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    })
}

fn the_end_of_input_reaches_the_remote_command() {
    let (cluster, step) = ready();
    assert_eq!(echoed(&step, &cluster, |to| to.write_all(b"x\n").unwrap()), b"x\n");
    assert_eq!(echoed(&step, &cluster, |_| ()), b"");
    assert_ended(&step, &cluster);
}

fn many_bytes_pass_in_both_directions() {
    const LENGTH: usize = 64 << 20;
    let (cluster, step) = ready();
    // Each word is different.
    let bytes: Vec<u8> =
        (0..LENGTH as u64 / 8).flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect();
    let back = echoed(&step, &cluster, |to| to.write_all(&bytes).unwrap());
    assert!(back == bytes, "{} bytes came back, but not those that were sent", back.len());
    assert_ended(&step, &cluster);
    let tunnel = |kind: &EventKind| match kind {
        EventKind::Tunnel { largest_frame, sent, received, .. } => {
            *largest_frame <= 32 * 1024 && *sent > LENGTH as u64 && *received > LENGTH as u64
        }
        _ => false,
    };
    assert!(cluster.wait_for(tunnel), "{:?}", cluster.record());
}

fn many_small_writes_pass() {
    let (cluster, step) = ready();
    let mut ssh = open_session(&step, &cluster, &[]);
    let (to, from) = (ssh.stdin.as_mut().unwrap(), ssh.stdout.as_mut().unwrap());
    for n in 0..2000_u32 {
        let byte = [(n % 251) as u8];
        to.write_all(&byte).unwrap();
        // Every second write waits for its echo.
        if n % 2 == 0 {
            let mut back = [0; 2];
            let back = &mut back[..if n == 0 { 1 } else { 2 }];
            from.read_exact(back).unwrap();
            assert_eq!(back.last(), Some(&byte[0]));
        }
    }
    drop(ssh.stdin.take());
    let output = ssh.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, [(1999 % 251) as u8]);
    assert_ended(&step, &cluster);
}

fn scp_and_sftp_copy_files() {
    let (cluster, step) = ready();
    let there = tempfile::tempdir().unwrap();
    let remote = |name: &str| format!("{}:{}/{name}", Step::node(&cluster), there.path().display());
    let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(step.dir().join("file"), &bytes).unwrap();
    let config = ["-q", "-F", "tbot-user/ssh_config"];
    for (protocol, name) in [("-O", "by-scp"), ("-s", "by-sftp")] {
        step.run("scp", &[&config[..], &[protocol, "file", &remote(name)]].concat()).ok();
        assert!(fs::read(there.path().join(name)).unwrap() == bytes, "{protocol}, to the node");
        step.run("scp", &[&config[..], &[protocol, &remote(name), name]].concat()).ok();
        assert!(fs::read(step.dir().join(name)).unwrap() == bytes, "{protocol}, from the node");
    }
    let batch = format!("put file {0}/put\nget {0}/put got\n", there.path().display());
    fs::write(step.dir().join("batch"), batch).unwrap();
    step.run("sftp", &[&config[..], &["-b", "batch", &Step::node(&cluster)]].concat()).ok();
    assert!(fs::read(there.path().join("put")).unwrap() == bytes);
    assert!(fs::read(step.dir().join("got")).unwrap() == bytes);
    assert_ended(&step, &cluster);
}

fn sessions_can_share_a_connection() {
    let (cluster, step) = ready();
    let mut master = open_session(&step, &cluster, &["-M", "-S", "./control"]);
    let sharing = |args: &[&str]| -> Output { step.ssh(&[&["-S", "./control"], args].concat()) };
    for n in 0..3 {
        let output = sharing(&[&Step::node(&cluster), &format!("exit {n}")]);
        assert_eq!(output.status, Some(n), "{}", output.stderr);
    }
    let connections = cluster.calls().iter().filter(|call| call.name.ends_with("/ProxySSH")).count();
    assert_eq!((connections, step.processes()), (1, 1));
    sharing(&["-O", "exit", &Step::node(&cluster)]).ok();
    master.wait().unwrap();
    assert_ended(&step, &cluster);
}
