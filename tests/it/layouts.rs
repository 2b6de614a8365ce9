//! Ports, names and addresses of clusters with which the pipe and `ssh` work.

use std::net::{Ipv6Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use testcluster::{Builder, EventKind, Fault, Layout, Route, Testcluster};

use crate::harness::stories;
use crate::machine::{IPV6, NAMES, TIME, with_names};
use crate::step::Step;

stories! {
    one_port_works,
    separate_ports_work,
    cluster_names_of_any_length_work needs TIME,
    an_ipv6_literal_works needs IPV6,
    a_public_address_other_than_the_dialled_one_works needs NAMES,
    a_name_whose_first_address_does_not_answer_works needs NAMES,
    a_web_port_with_tls_1_2_only_works,
    a_trusted_self_signed_certificate_works,
}

/// Runs the pipe, and `echo hello` by ssh with its files.
#[track_caller]
pub(crate) fn pipe_and_ssh(cluster: &Testcluster, step: &Step) {
    step.pipe().ok();
    ssh_after_the_pipe(cluster, step);
}

/// Like [`pipe_and_ssh`], with nss_wrapper, which sometimes crashes during simultaneous lookups.
#[track_caller]
fn pipe_and_ssh_with_names(cluster: &Testcluster, step: &Step) {
    let run = || Some(step.pipe()).filter(|output| output.status.is_some());
    run().or_else(run).or_else(run).unwrap().ok();
    ssh_after_the_pipe(cluster, step);
}

#[track_caller]
fn ssh_after_the_pipe(cluster: &Testcluster, step: &Step) {
    let output = step.ssh(&[&Step::node(cluster), "echo", "hello"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""));
    assert!(!has_event(cluster, |kind| matches!(kind, EventKind::EmptyFrame | EventKind::WebSocketMistake(_))));
}

#[track_caller]
pub(crate) fn pipe_and_ssh_at(builder: Builder) -> Testcluster {
    let cluster = builder.start();
    pipe_and_ssh(&cluster, &Step::new(&cluster));
    cluster
}

pub(crate) fn has_event(cluster: &Testcluster, wanted: impl Fn(&EventKind) -> bool) -> bool {
    cluster.record().iter().any(|event| wanted(&event.kind))
}

/// The routes of all connections, including nested ones.
pub(crate) fn routes(cluster: &Testcluster) -> Vec<Route> {
    let route = |kind| if let EventKind::Connection { route, .. } = kind { route } else { None };
    cluster.record().into_iter().filter_map(|event| route(event.kind)).collect()
}

fn one_port_works() {
    let cluster = pipe_and_ssh_at(Testcluster::builder());
    assert!(!has_event(&cluster, |kind| matches!(kind, EventKind::ProxyCluster { .. } | EventKind::Upgrade { .. })));
    assert!(routes(&cluster).contains(&Route::Auth));
}

fn separate_ports_work() {
    for auth_on_web in [false, true] {
        let cluster = pipe_and_ssh_at(Testcluster::builder().layout(Layout::SeparatePorts { auth_on_web }));
        assert!(
            has_event(&cluster, |kind| matches!(kind, EventKind::ProxyCluster { .. })),
            "auth_on_web: {auth_on_web}"
        );
        // ssh finds no transport service on the web port.
        assert!(routes(&cluster).contains(&Route::Transport));
        assert!(!has_event(&cluster, |kind| matches!(kind, EventKind::Upgrade { .. })));
    }
}

/// Names that fit into an ALPN protocol name, and longer ones.
fn cluster_names_of_any_length_work() {
    for (length, by_alpn) in [(1, true), (32, true), (109, true), (110, false), (230, false), (253, false)] {
        let cluster = pipe_and_ssh_at(Testcluster::builder().name("n".repeat(length)));
        let through_transport = has_event(&cluster, |kind| matches!(kind, EventKind::ProxyCluster { .. }));
        assert_eq!(through_transport, !by_alpn, "{length}");
    }
}

fn an_ipv6_literal_works() {
    pipe_and_ssh_at(Testcluster::builder().listen(Ipv6Addr::LOCALHOST).public_name("::1"));
}

/// The server name in TLS is the dialled name. The public address goes into `ssh_config`.
fn a_public_address_other_than_the_dialled_one_works() {
    let cluster = Testcluster::builder().public_name("proxy.example.com").dialled_name("localhost").start();
    let step = with_names(Step::new(&cluster), &[("proxy.example.com", "127.0.0.1")]);
    pipe_and_ssh_with_names(&cluster, &step);
    let sni = |kind: &EventKind| matches!(kind, EventKind::Connection { sni: Some(name), .. } if name == "localhost");
    assert!(has_event(&cluster, sni));
}

/// The first address refuses connections, and then a server there stays silent. The second address works.
fn a_name_whose_first_address_does_not_answer_works() {
    let cluster = Testcluster::builder().public_name("two.example.com").start();
    let names = [("two.example.com", "127.0.0.9"), ("two.example.com", "127.0.0.1")];
    let step = with_names(Step::new(&cluster), &names);
    pipe_and_ssh_with_names(&cluster, &step);
    let _silent = silent(cluster.port());
    pipe_and_ssh_with_names(&cluster, &step);
}

/// A server at 127.0.0.9 that does not answer, because its queue of connections is full.
fn silent(port: u16) -> (OwnedFd, TcpStream) {
    let address = SocketAddrV4::new([127, 0, 0, 9].into(), port);
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &address).unwrap();
    listen(&socket, 0).unwrap();
    let first = TcpStream::connect(address).unwrap();
    let second = TcpStream::connect_timeout(&address.into(), Duration::from_millis(100));
    assert!(second.is_err(), "the queue has room for more");
    (socket, first)
}

fn a_web_port_with_tls_1_2_only_works() {
    pipe_and_ssh_at(Testcluster::builder().tls_12_only(true));
}

fn a_trusted_self_signed_certificate_works() {
    pipe_and_ssh_at(Testcluster::builder().fault(Fault::WebCertSelfSigned));
}
