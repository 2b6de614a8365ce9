//! Load balancers that end TLS in front of the proxy: the pipe runs and `ssh` logs in through a connection upgrade, or
//! the pipe says why it cannot.

use std::fs;
use std::time::{Duration, Instant};

use teleport_pipe::LONGEST_ATTEMPT;
use testcluster::{
    BalancerAlpn, Builder, EventKind, Fault, FaultInjection, Layout, LoadBalancer, NetworkFault, Point, Route,
    Testcluster,
};

use crate::failure::Failure;
use crate::harness::stories;
use crate::layouts::{has, routes, works, works_at};
use crate::step::Step;

stories! {
    load_balancers_that_pass_upgrades,
    a_load_balancer_that_says_nothing_is_looked_for_meanwhile,
    a_stranger_is_not_asked_for_an_upgrade,
    not_everybody_is_believed_inside_of_an_upgrade,
    an_upgrade_in_crumbs_with_pings,
    a_load_balancer_in_front_of_a_cluster_with_a_long_name,
    a_load_balancer_in_front_of_the_web_port_of_several,
    a_load_balancer_that_speaks_tls_1_2_only,
    an_inspector_of_tls_that_is_known_here,
    what_lets_nothing_through_is_named,
}

fn behind(balancer: LoadBalancer) -> Builder {
    Testcluster::builder().load_balancer(balancer)
}

fn load_balancers_that_pass_upgrades() {
    for alpn in [BalancerAlpn::Ignored, BalancerAlpn::Refused, BalancerAlpn::H2As464, BalancerAlpn::H2As502] {
        let cluster = works_at(behind(LoadBalancer::new().alpn(alpn)));
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

/// nginx with request buffering: the join's stream never gets through, and nobody says so.
fn a_load_balancer_that_says_nothing_is_looked_for_meanwhile() {
    let began = Instant::now();
    let cluster = works_at(behind(LoadBalancer::new().alpn(BalancerAlpn::H2Silent)).rest_join(false));
    assert!(has(&cluster, |kind| matches!(kind, EventKind::Upgrade { .. })));
    // Not after the whole time of an attempt, and that of the test is more than this on any machine.
    assert!(began.elapsed() < LONGEST_ATTEMPT, "{:?}", began.elapsed());
}

/// Who ends TLS around an upgrade has to be known, too, though what is inside looks after itself.
fn a_stranger_is_not_asked_for_an_upgrade() {
    let cluster = behind(LoadBalancer::new()).start();
    let step = Step::of(&cluster);
    works(&cluster, &step);
    fs::remove_file(step.output("network.json")).unwrap();
    // What the file does not say, the environment does.
    step.ssh(&[&Step::node(&cluster), "true"]).ok();
    let upgrades = || cluster.record().iter().filter(|event| matches!(event.kind, EventKind::Upgrade { .. })).count();
    let before = upgrades();
    let said = step.without("SSL_CERT_FILE").ssh(&[&Step::node(&cluster), "true"]);
    assert!(said.stderr.contains("which is not a trusted CA"), "{}", said.stderr);
    assert_eq!(upgrades(), before);
}

/// A join believes any server of Teleport's inside of an upgrade, but no other, and none that lacks its key.
fn not_everybody_is_believed_inside_of_an_upgrade() {
    for fault in [NetworkFault::CertForOtherName, NetworkFault::CertForOtherKey, NetworkFault::CertExpired] {
        let weather = FaultInjection { point: Point::Handshake(Route::Join), fault, once: false };
        let cluster = behind(LoadBalancer::new()).inject(weather).start();
        let said = Step::of(&cluster).env("TELEPORT_TLS_ROUTING_CONN_UPGRADE", "true").pipe();
        assert_eq!(said.status, Some(5), "{fault:?}: {}", said.stderr);
        // What has another name is nobody of Teleport's: no authority is known there that would say otherwise.
        let is_nobody = said.stderr.contains("something in front of the cluster terminates TLS");
        assert_eq!(is_nobody, matches!(fault, NetworkFault::CertForOtherName), "{fault:?}: {}", said.stderr);
        assert!(
            cluster.calls().iter().all(|call| call.name.starts_with("GET /webapi/")),
            "{fault:?}: {:?}",
            cluster.calls()
        );
    }
}

/// Frames of a few bytes, in pieces that end anywhere, and a ping every now and then: nothing is lost, and each ping is
/// answered with its own payload.
fn an_upgrade_in_crumbs_with_pings() {
    let builder = behind(LoadBalancer::new()).small_websocket_frames(true).upgrade_ping(Duration::from_millis(5));
    let cluster = builder.start();
    let step = Step::of(&cluster);
    works(&cluster, &step);
    let said = step.ssh(&[&Step::node(&cluster), "head -c 30000 /dev/zero; sleep 0.2"]).ok();
    assert_eq!(said.stdout.len(), 30_000);
    assert!(cluster.wait_for(|kind| *kind == EventKind::Pong { same: true }));
    assert!(!has(&cluster, |kind| matches!(kind, EventKind::Pong { same: false } | EventKind::WebSocketMistake(_))));
}

fn a_load_balancer_in_front_of_a_cluster_with_a_long_name() {
    let cluster = works_at(behind(LoadBalancer::new()).name("n".repeat(110)));
    assert!(has(&cluster, |kind| matches!(kind, EventKind::ProxyCluster { .. })));
}

fn a_load_balancer_in_front_of_the_web_port_of_several() {
    let cluster = behind(LoadBalancer::new()).layout(Layout::SeparatePorts { auth_on_web: false }).start();
    let step = Step::of(&cluster);
    works(&cluster, &step);
    // Nobody upgrades on the port of ssh, whatever an ssh_config says that another program wrote.
    let config = fs::read_to_string(step.output("ssh_config")).unwrap();
    assert!(config.contains(" --no-connection-upgrade "), "{config}");
    let other = config.replace(" --no-connection-upgrade ", " --connection-upgrade ");
    fs::write(step.output("ssh_config"), other).unwrap();
    let said = step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok();
    assert_eq!(said.stdout, "hello\n");
}

fn a_load_balancer_that_speaks_tls_1_2_only() {
    works_at(behind(LoadBalancer::new()).tls_12_only(true));
}

/// A company that looks into TLS takes Teleport's protocols away just as a load balancer does.
fn an_inspector_of_tls_that_is_known_here() {
    works_at(behind(LoadBalancer::new()).fault(Fault::WebCertOfInspector));
}

/// Failures that are final at once: joined by REST, but no way to Auth.
pub(crate) fn final_ones() -> Vec<Failure> {
    vec![
        Failure::new("load-balancer-strips-upgrades", 5).at(behind(LoadBalancer::new().strips_upgrades())),
        Failure::new("load-balancer-strips-upgrades-and-speaks-h2", 5)
            .at(behind(LoadBalancer::new().alpn(BalancerAlpn::H2As502).strips_upgrades())),
        Failure::new("proxy-without-tls", 5).at(behind(LoadBalancer::new().plain_http_proxy())),
    ]
}

fn what_lets_nothing_through_is_named() {
    crate::failure::check(final_ones());
}
