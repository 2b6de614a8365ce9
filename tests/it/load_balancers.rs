//! Load balancers that terminate TLS in front of the proxy: the pipe and `ssh` work through a connection upgrade, or
//! the pipe explains why they cannot.

use std::fs;
use std::time::{Duration, Instant};

use teleport_pipe::LONGEST_ATTEMPT;
use testcluster::{
    BalancerAlpn, Builder, EventKind, Fault, FaultInjection, Layout, LoadBalancer, NetworkFault, Point, Route,
    Testcluster,
};

use crate::failure::Failure;
use crate::harness::stories;
use crate::layouts::{has_event, pipe_and_ssh, pipe_and_ssh_at, routes};
use crate::step::Step;

stories! {
    load_balancers_that_forward_upgrades_work,
    a_silent_load_balancer_is_detected_while_the_join_waits,
    no_upgrade_is_requested_from_an_untrusted_server,
    the_certificate_inside_of_an_upgrade_is_verified,
    small_frames_and_pings_lose_no_byte,
    a_load_balancer_in_front_of_a_cluster_with_a_long_name_works,
    a_load_balancer_in_front_of_the_web_port_only_works,
    a_load_balancer_with_tls_1_2_only_works,
    a_trusted_tls_inspector_works,
    unusable_load_balancers_are_reported,
}

fn with_load_balancer(balancer: LoadBalancer) -> Builder {
    Testcluster::builder().load_balancer(balancer)
}

fn load_balancers_that_forward_upgrades_work() {
    for alpn in [BalancerAlpn::Ignored, BalancerAlpn::Refused, BalancerAlpn::H2As464, BalancerAlpn::H2As502] {
        let cluster = pipe_and_ssh_at(with_load_balancer(LoadBalancer::new().alpn(alpn)));
        let upgrades: Vec<_> = cluster
            .record()
            .into_iter()
            .filter_map(|event| match event.kind {
                EventKind::Upgrade { protocol, .. } => protocol,
                _ => None,
            })
            .collect();
        // The join, Auth, and ssh.
        assert_eq!(upgrades, ["alpn", "alpn-ping", "alpn-ping"], "{alpn:?}");
        for route in [Route::Join, Route::Auth, Route::Transport] {
            assert!(routes(&cluster).contains(&route), "{alpn:?} {route:?}");
        }
        assert!(!cluster.calls().iter().any(|call| call.name == "POST /webapi/host/credentials"), "{alpn:?}");
    }
}

/// nginx with request buffering: it never forwards the join's stream, and sends no error.
fn a_silent_load_balancer_is_detected_while_the_join_waits() {
    let began = Instant::now();
    let cluster =
        pipe_and_ssh_at(with_load_balancer(LoadBalancer::new().alpn(BalancerAlpn::H2Silent)).rest_join(false));
    assert!(has_event(&cluster, |kind| matches!(kind, EventKind::Upgrade { .. })));
    // The product does not wait until the first attempt has timed out.
    assert!(began.elapsed() < LONGEST_ATTEMPT, "{:?}", began.elapsed());
}

/// The server that terminates the outer TLS must be trusted, too, although the nested TLS is verified by itself.
fn no_upgrade_is_requested_from_an_untrusted_server() {
    let cluster = with_load_balancer(LoadBalancer::new()).start();
    let step = Step::new(&cluster);
    pipe_and_ssh(&cluster, &step);
    fs::remove_file(step.file("network.json")).unwrap();
    // Without the file, the CA comes from the environment.
    step.ssh(&[&Step::node(&cluster), "true"]).ok();
    let upgrades = || cluster.record().iter().filter(|event| matches!(event.kind, EventKind::Upgrade { .. })).count();
    let before = upgrades();
    let output = step.without("SSL_CERT_FILE").ssh(&[&Step::node(&cluster), "true"]);
    assert!(output.stderr.contains("which is not a trusted CA"), "{}", output.stderr);
    assert_eq!(upgrades(), before);
}

/// A join inside of an upgrade accepts any Teleport server that has the key of its certificate, and no other server.
fn the_certificate_inside_of_an_upgrade_is_verified() {
    for fault in [NetworkFault::CertForOtherName, NetworkFault::CertForOtherKey, NetworkFault::CertExpired] {
        let injection = FaultInjection { point: Point::Handshake(Route::Join), fault, once: false };
        let cluster = with_load_balancer(LoadBalancer::new()).inject(injection).start();
        let output = Step::new(&cluster).env("TELEPORT_TLS_ROUTING_CONN_UPGRADE", "true").pipe();
        assert_eq!(output.status, Some(5), "{fault:?}: {}", output.stderr);
        // Before the join no CA is known, so only the name tells whether a server is one of Teleport's.
        let is_other_server = output.stderr.contains("something in front of the cluster terminates TLS");
        assert_eq!(is_other_server, matches!(fault, NetworkFault::CertForOtherName), "{fault:?}: {}", output.stderr);
        assert!(
            cluster.calls().iter().all(|call| call.name.starts_with("GET /webapi/")),
            "{fault:?}: {:?}",
            cluster.calls()
        );
    }
}

/// The frames have a few bytes, TCP splits them anywhere, and pings arrive in between. No byte is lost, and each ping
/// gets a pong with its payload.
fn small_frames_and_pings_lose_no_byte() {
    let builder =
        with_load_balancer(LoadBalancer::new()).small_websocket_frames(true).upgrade_ping(Duration::from_millis(5));
    let cluster = builder.start();
    let step = Step::new(&cluster);
    pipe_and_ssh(&cluster, &step);
    let output = step.ssh(&[&Step::node(&cluster), "head -c 30000 /dev/zero; sleep 0.2"]).ok();
    assert_eq!(output.stdout.len(), 30_000);
    assert!(cluster.wait_for(|kind| *kind == EventKind::Pong { same: true }));
    assert!(!has_event(&cluster, |kind| matches!(
        kind,
        EventKind::Pong { same: false } | EventKind::WebSocketMistake(_)
    )));
}

fn a_load_balancer_in_front_of_a_cluster_with_a_long_name_works() {
    let cluster = pipe_and_ssh_at(with_load_balancer(LoadBalancer::new()).name("n".repeat(110)));
    assert!(has_event(&cluster, |kind| matches!(kind, EventKind::ProxyCluster { .. })));
}

fn a_load_balancer_in_front_of_the_web_port_only_works() {
    let cluster = with_load_balancer(LoadBalancer::new()).layout(Layout::SeparatePorts { auth_on_web: false }).start();
    let step = Step::new(&cluster);
    pipe_and_ssh(&cluster, &step);
    // The SSH port needs no upgrade, even if the ssh_config of another program requires one.
    let config = fs::read_to_string(step.file("ssh_config")).unwrap();
    assert!(config.contains(" --no-connection-upgrade "), "{config}");
    let other = config.replace(" --no-connection-upgrade ", " --connection-upgrade ");
    fs::write(step.file("ssh_config"), other).unwrap();
    let output = step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok();
    assert_eq!(output.stdout, "hello\n");
}

fn a_load_balancer_with_tls_1_2_only_works() {
    pipe_and_ssh_at(with_load_balancer(LoadBalancer::new()).tls_12_only(true));
}

/// A TLS inspector removes Teleport's ALPN protocols, as a load balancer does.
fn a_trusted_tls_inspector_works() {
    pipe_and_ssh_at(with_load_balancer(LoadBalancer::new()).fault(Fault::WebCertOfInspector));
}

/// Failures that end the run without a retry: the bot joins by REST, but the Auth Service cannot be reached.
pub(crate) fn permanent_failures() -> Vec<Failure> {
    vec![
        Failure::new("load-balancer-strips-upgrades", 5).at(with_load_balancer(LoadBalancer::new().strips_upgrades())),
        Failure::new("load-balancer-strips-upgrades-and-speaks-h2", 5)
            .at(with_load_balancer(LoadBalancer::new().alpn(BalancerAlpn::H2As502).strips_upgrades())),
        Failure::new("proxy-without-tls", 5).at(with_load_balancer(LoadBalancer::new().plain_http_proxy())),
    ]
}

fn unusable_load_balancers_are_reported() {
    crate::failure::check(permanent_failures());
}
