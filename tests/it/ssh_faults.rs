//! Faults of the network during a session of ssh: the connection to the proxy ends, breaks or goes silent.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use testcluster::{Builder, Code, Exchange, FaultInjection, NetworkFault, Point, Testcluster};

use crate::harness::stories;
use crate::machine::{BENCH, GIT, RSYNC, TIME};
use crate::step::{Output, Step};

stories! {
    a_session_outlives_the_announcement_that_its_proxy_will_restart,
    a_session_outlives_a_while_of_silence needs TIME,
    a_session_whose_proxy_dies_ends_with_one_line needs TIME,
    no_process_is_left_after_ssh_if_the_network_is_cut,
    no_process_is_left_after_ssh_if_the_proxy_reads_no_more,
    ssh_explains_an_unreachable_node_in_one_line needs TIME,
    rsync_copies_in_both_directions needs RSYNC,
    git_pushes_and_clones needs GIT,
    a_gigabyte_passes_in_both_directions needs BENCH,
}

/// Longer than any of these actions should take.
const GENEROUS: Duration = Duration::from_secs(60);

fn ready(cluster: Builder) -> (Testcluster, Step) {
    let cluster = cluster.start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    (cluster, step)
}

/// ssh with a remote `cat`.
struct Session {
    ssh: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Session {
    fn open(step: &Step, cluster: &Testcluster) -> Self {
        let mut command = step.command("ssh", &["-F", "tbot-user/ssh_config", &Step::node(cluster), "cat"]);
        let mut ssh = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to, from) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
        let mut session = Self { ssh, to, from };
        session.echo(b"hello");
        session
    }

    fn echo(&mut self, bytes: &[u8]) {
        self.to.write_all(bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        self.from.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }

    /// Waits until it ends by itself. Returns the status and the lines of the ProxyCommand.
    fn wait(mut self) -> (Option<i32>, Vec<String>) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.ssh.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < GENEROUS, "ssh is still running");
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut stderr = String::new();
        self.ssh.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status.code(), proxy_command_lines(&stderr))
    }

    /// Closes the input and expects success.
    fn end(self) {
        let Self { mut ssh, to, .. } = self;
        drop(to);
        assert!(ssh.wait().unwrap().success());
    }
}

/// The lines of the ProxyCommand among those of ssh, without the URLs.
fn proxy_command_lines(stderr: &str) -> Vec<String> {
    let lines = stderr.lines().filter(|line| line.starts_with("teleport-pipe: "));
    lines.filter(|line| !line.starts_with("teleport-pipe: more: https://")).map(str::to_owned).collect()
}

fn a_session_outlives_the_announcement_that_its_proxy_will_restart() {
    let (cluster, step) = ready(Testcluster::builder());
    let mut session = Session::open(&step, &cluster);
    cluster.disturb_sessions(NetworkFault::GoAway);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(300));
        session.echo(&[7; 100_000]);
    }
    session.end();
}

fn a_session_outlives_a_while_of_silence() {
    let (cluster, step) = ready(Testcluster::builder());
    let mut session = Session::open(&step, &cluster);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(5));
        session.echo(b"still there?");
    }
    session.end();
}

/// The proxy dies: ssh exits with its own status, and one line gives the reason.
fn a_session_whose_proxy_dies_ends_with_one_line() {
    for fault in [NetworkFault::Close, NetworkFault::Reset] {
        let (cluster, step) = ready(Testcluster::builder());
        let session = Session::open(&step, &cluster);
        cluster.disturb_sessions(fault);
        let (status, lines) = session.wait();
        assert_eq!(status, Some(255), "{fault:?}: {lines:?}");
        let [line] = &lines[..] else { panic!("{fault:?}: {lines:?}") };
        assert!(line.contains("broke (") && line.contains("Run the "), "{fault:?}: {line}");
    }
}

/// The network is cut: no more packets arrive, not even a reset. ssh is killed, and no process is left.
fn no_process_is_left_after_ssh_if_the_network_is_cut() {
    let (cluster, step) = ready(Testcluster::builder());
    let mut session = Session::open(&step, &cluster);
    cluster.disturb_sessions(NetworkFault::Blackhole);
    session.to.write_all(b"lost").unwrap();
    session.ssh.kill().unwrap();
    session.ssh.wait().unwrap();
    assert_no_process_left(&step);
}

/// The network is cut while all buffers are full.
fn no_process_is_left_after_ssh_if_the_proxy_reads_no_more() {
    let (cluster, step) = ready(Testcluster::builder());
    let args = ["ssh-proxy-command", "--destination-dir=tbot-user", "--tls-routing", "--host=node", "--port=3022"];
    let mut command = step.command("./tbot-user/teleport-pipe", &args);
    command.args([format!("--proxy-server={}", cluster.proxy_addr()), format!("--cluster={}", cluster.name())]);
    let mut proxy_command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut to, mut from) = (proxy_command.stdin.take().unwrap(), proxy_command.stdout.take().unwrap());
    from.read_exact(&mut [0; 4]).unwrap();
    cluster.disturb_sessions(NetworkFault::Blackhole);
    let (full, is_full) = std::sync::mpsc::channel();
    // Until the pipe breaks, because the process has exited.
    let filling = std::thread::spawn(move || {
        while to.write_all(&[0; 1 << 16]).is_ok() {
            full.send(()).unwrap()
        }
    });
    while is_full.recv_timeout(Duration::from_secs(3)).is_ok() {}
    drop(from);
    assert_no_process_left(&step);
    proxy_command.wait().unwrap();
    filling.join().unwrap();
}

#[track_caller]
fn assert_no_process_left(step: &Step) {
    let began = Instant::now();
    while step.processes() > 0 {
        assert!(began.elapsed() < GENEROUS, "a process is left");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Faults of the network and of the proxy that prevent a connection to the node.
fn ssh_explains_an_unreachable_node_in_one_line() {
    for (fault, error) in [
        (NetworkFault::Close, "broke ("),
        (NetworkFault::Reset, "broke ("),
        (NetworkFault::ResetStream, "broke ("),
        (NetworkFault::Page(502), "answered HTTP 502 where gRPC was expected"),
        (NetworkFault::Status(Code::Unavailable, None), "no connection to node node:"),
        (NetworkFault::Status(Code::PermissionDenied, None), "the proxy refused a connection to node node:"),
        (NetworkFault::Status(Code::ResourceExhausted, None), "Run fewer connections at once"),
        (NetworkFault::Stall, "no answer from node:"),
    ] {
        let injection = FaultInjection { point: Point::Before(Exchange::Dial), fault, once: false };
        let (cluster, step) = ready(Testcluster::builder().inject(injection));
        let began = Instant::now();
        let output = step.ssh(&[&Step::node(&cluster), "true"]);
        assert!(began.elapsed() < GENEROUS, "{fault:?}: {:?}", began.elapsed());
        assert_eq!(output.status, Some(255), "{fault:?}: {}", output.stderr);
        let lines = proxy_command_lines(&output.stderr);
        let [line] = &lines[..] else { panic!("{fault:?}: {}", output.stderr) };
        assert!(line.contains(error), "{fault:?}: {line}");
    }
}

/// Creates a few hundred files with some megabytes.
fn create_tree(at: &Path) {
    for number in 0..300_usize {
        let directory = at.join(format!("d{}", number % 7));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(number.to_string()), format!("{number} ").repeat(number * 10)).unwrap();
    }
}

#[track_caller]
fn expect_same(step: &Step, one: &Path, other: &Path) {
    step.run("diff", &["-r", one.to_str().unwrap(), other.to_str().unwrap()]).ok();
}

fn rsync_copies_in_both_directions() {
    let (cluster, step) = ready(Testcluster::builder());
    let there = tempfile::tempdir().unwrap();
    let (here, back) = (step.dir().join("tree"), step.dir().join("back"));
    create_tree(&here);
    let remote = format!("{}:{}/", Step::node(&cluster), there.path().display());
    let rsync = |from: &str, to: &str| -> Output {
        step.run("rsync", &["-a", "--delete", "-e", "ssh -F ./tbot-user/ssh_config", from, to])
    };
    rsync("./tree/", &remote).ok();
    expect_same(&step, &here, there.path());
    // The second time only changes are sent.
    fs::write(here.join("d0/0"), "other\n").unwrap();
    rsync("./tree/", &remote).ok();
    rsync(&remote, "./back/").ok();
    expect_same(&step, &here, &back);
}

fn git_pushes_and_clones() {
    let (cluster, step) = ready(Testcluster::builder());
    let config = step.file("ssh_config");
    let step = step
        .env("GIT_SSH_COMMAND", &format!("ssh -F {}", config.display()))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let there = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| step.run("git", args).ok();
    let bare = there.path().join("app.git");
    git(&["init", "-q", "--bare", "-b", "main", bare.to_str().unwrap()]);
    let remote = format!("{}:{}", Step::node(&cluster), bare.display());
    create_tree(&step.dir().join("app"));
    git(&["init", "-q", "-b", "main", "app"]);
    git(&["-C", "app", "add", "."]);
    git(&["-C", "app", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "one"]);
    git(&["-C", "app", "push", "-q", &remote, "main"]);
    git(&["clone", "-q", &remote, "again"]);
    fs::remove_dir_all(step.dir().join("app/.git")).unwrap();
    fs::remove_dir_all(step.dir().join("again/.git")).unwrap();
    expect_same(&step, &step.dir().join("app"), &step.dir().join("again"));
}

fn a_gigabyte_passes_in_both_directions() {
    const PIECE: usize = 1 << 20;
    let (cluster, step) = ready(Testcluster::builder());
    let mut command = step.command("ssh", &["-F", "tbot-user/ssh_config", &Step::node(&cluster), "cat"]);
    let mut ssh = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
    // Each piece is different.
    let piece = |number: u64| {
        let words = (0..PIECE as u64 / 8).map(move |at| (number << 32 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || (0..1024).for_each(|number| to.write_all(&piece(number)).unwrap()));
        let mut back = vec![0; PIECE];
        for number in 0..1024 {
            from.read_exact(&mut back).unwrap();
            assert!(back == piece(number), "piece {number}");
        }
        assert_eq!(from.read(&mut back).unwrap(), 0);
    });
    assert!(ssh.wait().unwrap().success());
    println!("1 GiB to the node and back in {:?}", began.elapsed());
}
