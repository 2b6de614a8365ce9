//! Faults of the name server, which is the first server that a run talks to. Needs root, for a name server of the test.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use testcluster::Testcluster;

use crate::harness::stories;
use crate::machine::{RESOLVER, TIME};
use crate::step::Step;

stories! {
    temporary_faults_of_the_name_server_are_retried needs RESOLVER TIME,
}

/// What the name server does instead of answering.
#[derive(Clone, Copy, Debug)]
enum DnsFault {
    /// It answers SERVFAIL.
    Failure,
    /// It answers that the name does not exist (NXDOMAIN).
    NoSuchName,
    /// It answers that the name has no address.
    NoAddress,
    /// It sends bytes that are not an answer.
    Garbage,
    Silence,
    Late(Duration),
}

/// How long the fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasts {
    /// Half a second from the first query, so that all lookups at the beginning of the run meet it.
    AtFirst,
    Always,
}

const NAME: &str = "proxy.teleport.test";

/// Runs a name server on port 53 of this address until the tests end.
fn serve(at: Ipv4Addr, fault: DnsFault, lasts: Lasts) {
    let socket = UdpSocket::bind((at, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        let mut began = None;
        while let Ok((size, from)) = socket.recv_from(&mut query) {
            let first = *began.get_or_insert_with(Instant::now);
            let over = lasts == Lasts::AtFirst && first.elapsed() > Duration::from_millis(500);
            let query = &query[..size];
            let answer = match fault {
                _ if over => answer(query, 0, true),
                DnsFault::Failure => answer(query, 2, false),
                DnsFault::NoSuchName => answer(query, 3, false),
                DnsFault::NoAddress => answer(query, 0, false),
                DnsFault::Garbage => vec![0xff; 40],
                DnsFault::Silence => continue,
                DnsFault::Late(by) => {
                    std::thread::sleep(by);
                    answer(query, 0, true)
                }
            };
            socket.send_to(&answer, from).unwrap();
        }
    });
}

/// The answer (RFC 1035 4.1) with this code. It has the address 127.0.0.1 if `has_address` and the query is for IPv4.
fn answer(query: &[u8], code: u8, has_address: bool) -> Vec<u8> {
    // After the header of 12 bytes the labels of the name, up to an empty one; type and class.
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
    let record = has_address && query[end + 1..end + 3] == [0, 1];
    let mut answer = [&query[..2], &[0x81, 0x80 | code], &[0, 1, 0, u8::from(record), 0, 0, 0, 0]].concat();
    answer.extend(&query[12..end + 5]);
    if record {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

/// Runs the pipe with this name server. Returns its exit status and its error.
fn run(number: u8, fault: DnsFault, lasts: Lasts) -> (i32, String) {
    // The bind mounts are in a separate namespace, so that no other process has this resolver.
    const MOUNT: &str = "mount --bind resolv.conf /etc/resolv.conf && mount --bind nsswitch.conf /etc/nsswitch.conf \
                         && exec \"$@\"";
    let cluster = Testcluster::builder().public_name(NAME).start();
    let step = Step::new(&cluster).env("TIMEOUT", "15s");
    let address = Ipv4Addr::new(127, 53, 0, number);
    serve(address, fault, lasts);
    let resolver = format!("nameserver {address}\noptions timeout:1 attempts:1\n");
    fs::write(step.dir().join("resolv.conf"), resolver).unwrap();
    fs::write(step.dir().join("nsswitch.conf"), "hosts: files dns\n").unwrap();
    let began = Instant::now();
    let output = step.run("unshare", &["--mount", "sh", "-c", MOUNT, "sh", Step::binary()]);
    assert!(began.elapsed() < Duration::from_secs(60), "{fault:?} {lasts:?} took {:?}", began.elapsed());
    let error = output.stderr.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default().to_owned();
    assert_eq!(step.dir().join("tbot-user").exists(), output.status == Some(0), "{fault:?} {lasts:?}");
    (output.status.unwrap_or(-1), error)
}

fn temporary_faults_of_the_name_server_are_retried() {
    use DnsFault::{Failure, Garbage, Late, NoAddress, NoSuchName, Silence};
    use Lasts::{Always, AtFirst};
    const UNRESOLVED: &str = "the proxy's name proxy.teleport.test does not resolve (";
    const LATE: &str = "no answer from proxy.teleport.test:";
    let slow = Duration::from_millis(700);
    // On a busy machine the product may time out before the resolver does.
    let cells: [(DnsFault, Lasts, i32, &[&str]); 10] = [
        (Failure, AtFirst, 0, &[""]),
        (Failure, Always, 5, &[UNRESOLVED]),
        (Silence, AtFirst, 0, &[""]),
        (Silence, Always, 5, &[UNRESOLVED, LATE]),
        (Garbage, AtFirst, 0, &[""]),
        (Garbage, Always, 5, &[UNRESOLVED, LATE]),
        (Late(slow), AtFirst, 0, &[""]),
        (NoSuchName, Always, 5, &[UNRESOLVED]),
        (NoAddress, Always, 5, &[UNRESOLVED]),
        (Late(Duration::from_secs(30)), Always, 5, &[UNRESOLVED, LATE]),
    ];
    std::thread::scope(|scope| {
        for (number, (fault, lasts, exit, errors)) in (1..).zip(cells) {
            scope.spawn(move || {
                let (status, error) = run(number, fault, lasts);
                let expected = status == exit && errors.iter().any(|begins| error.starts_with(begins));
                assert!(expected, "{fault:?} {lasts:?}: exit {status}, {error}");
            });
        }
    });
}
