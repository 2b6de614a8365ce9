//! Weather over the name server: the first exchange of a run. Needs root, for a resolver of the test's own.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use testcluster::Testcluster;

use crate::harness::stories;
use crate::machine::{RESOLVER, TIME};
use crate::step::Step;

stories! {
    a_faulty_name_server needs RESOLVER TIME,
}

/// What a name server does instead of answering.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// It says that it cannot (SERVFAIL).
    Failure,
    /// It knows of no such name (NXDOMAIN).
    NoSuchName,
    /// The name has no address.
    NoAddress,
    /// It sends what is no answer.
    Garbage,
    Silence,
    Late(Duration),
}

/// How long it goes on, from the first question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasts {
    /// Until every lookup that began with the run has met it.
    AtFirst,
    Always,
}

const NAME: &str = "proxy.teleport.test";

/// A name server on port 53 of this address, until the tests end.
fn serve(at: Ipv4Addr, trouble: Trouble, lasts: Lasts) {
    let socket = UdpSocket::bind((at, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        let mut began = None;
        while let Ok((size, from)) = socket.recv_from(&mut query) {
            let first = *began.get_or_insert_with(Instant::now);
            let over = lasts == Lasts::AtFirst && first.elapsed() > Duration::from_millis(500);
            let query = &query[..size];
            let answer = match trouble {
                _ if over => answer(query, 0, true),
                Trouble::Failure => answer(query, 2, false),
                Trouble::NoSuchName => answer(query, 3, false),
                Trouble::NoAddress => answer(query, 0, false),
                Trouble::Garbage => vec![0xff; 40],
                Trouble::Silence => continue,
                Trouble::Late(by) => {
                    std::thread::sleep(by);
                    answer(query, 0, true)
                }
            };
            socket.send_to(&answer, from).unwrap();
        }
    });
}

/// The answer (RFC 1035 4.1) with this code, and 127.0.0.1 where the query is for an IPv4 address and has one.
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

/// The pipe with this name server, and how it ended.
fn run(number: u8, trouble: Trouble, lasts: Lasts) -> (i32, String) {
    // Bind-mounts in a namespace of its own: nobody else's resolver changes.
    const MOUNT: &str = "mount --bind resolv.conf /etc/resolv.conf && mount --bind nsswitch.conf /etc/nsswitch.conf \
                         && exec \"$@\"";
    let cluster = Testcluster::builder().public_name(NAME).start();
    let step = Step::new(&cluster).env("TIMEOUT", "15s");
    let address = Ipv4Addr::new(127, 53, 0, number);
    serve(address, trouble, lasts);
    let resolver = format!("nameserver {address}\noptions timeout:1 attempts:1\n");
    fs::write(step.dir().join("resolv.conf"), resolver).unwrap();
    fs::write(step.dir().join("nsswitch.conf"), "hosts: files dns\n").unwrap();
    let began = Instant::now();
    let output = step.run("unshare", &["--mount", "sh", "-c", MOUNT, "sh", Step::binary()]);
    assert!(began.elapsed() < Duration::from_secs(60), "{trouble:?} {lasts:?} took {:?}", began.elapsed());
    let error = output.stderr.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default().to_owned();
    assert_eq!(step.dir().join("tbot-user").exists(), output.status == Some(0), "{trouble:?} {lasts:?}");
    (output.status.unwrap_or(-1), error)
}

fn a_faulty_name_server() {
    use Lasts::{Always, AtFirst};
    use Trouble::{Failure, Garbage, Late, NoAddress, NoSuchName, Silence};
    const UNRESOLVED: &str = "the proxy's name proxy.teleport.test does not resolve (";
    const LATE: &str = "no answer from proxy.teleport.test:";
    let slow = Duration::from_millis(700);
    // Whether the resolver gives up first or we do depends on how the machine is loaded.
    let cells: [(Trouble, Lasts, i32, &[&str]); 10] = [
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
        for (number, (trouble, lasts, exit, errors)) in (1..).zip(cells) {
            scope.spawn(move || {
                let (status, error) = run(number, trouble, lasts);
                let expected = status == exit && errors.iter().any(|begins| error.starts_with(begins));
                assert!(expected, "{trouble:?} {lasts:?}: exit {status}, {error}");
            });
        }
    });
}
