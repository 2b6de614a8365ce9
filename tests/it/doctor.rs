//! `doctor` checks each step to the cluster, prints a line for it, and does not join.

use std::time::{Duration, Instant};

use expect_test::{ExpectFile, expect_file};
use testcluster::{
    BalancerAlpn, Builder, Fault, FaultInjection, ForwardProxy, ForwardProxyBehavior, ForwardProxyKind, JoinService,
    Layout, LoadBalancer, NetworkFault, Point, Route, Testcluster,
};

use crate::harness::stories;
use crate::network::other_server;
use crate::refusals::TOKEN;
use crate::step::{Output, Step};

stories! {
    every_check_passes,
    doctor_runs_outside_of_ci,
    older_clusters_are_recognized,
    load_balancers_are_detected,
    separate_ports_are_detected,
    doctor_uses_the_forward_proxy,
    a_wrong_clock_is_reported,
    untrusted_certificates_are_explained,
    the_other_checks_run_if_a_variable_is_wrong,
    the_auth_service_needs_a_valid_teleport_certificate,
    another_kind_of_server_is_recognized,
    an_unreachable_server_is_reported,
    a_public_log_hides_the_kind_of_the_token,
    the_output_has_colours_in_ci,
    proxy_server_is_required,
}

/// A step that runs `doctor`. `PROXY_SERVER` is an address, because the addresses of a name differ between machines.
fn doctor_step(cluster: &Testcluster) -> Step {
    let address = cluster.proxy_addr().replace("localhost", "127.0.0.1");
    Step::new(cluster)
        .env("PROXY_SERVER", &address)
        .env("ACTION", "doctor")
        .env("TIMEOUT", "20s")
        .scrub(cluster.web_ca_file().to_str().unwrap().to_owned(), "web-ca.pem")
}

/// Checks the exit status and the output.
#[track_caller]
fn check(step: &Step, status: i32, golden: &ExpectFile) {
    let output = step.pipe();
    assert_eq!(output.status, Some(status), "{output:?}");
    golden.assert_eq(&scrubbed(step, &output));
    // Without a join there are no files.
    assert!(!step.dir().join("tbot-user").exists());
}

/// The output on both streams, without times and the platform.
fn scrubbed(step: &Step, output: &Output) -> String {
    let lines = step.scrubbed(&format!("{}{}", output.stderr, output.stdout));
    let machine = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let line = |line: &str| {
        let line = line.rsplit_once(" [").filter(|(_, end)| end.ends_with(" ms]")).map_or(line, |(head, _)| head);
        let line = with_number(&line.replace(&machine, "MACHINE"), " accepts after ", " ms", "0");
        let line = with_number(&line, ", valid for ", " days", "N");
        match line.split_once("does not resolve (") {
            Some((head, _)) => format!("{head}does not resolve (the resolver's words)\n"),
            None => format!("{line}\n"),
        }
    };
    lines.lines().map(line).collect()
}

/// Replaces the text between two other texts in a line if it is a number.
fn with_number(line: &str, before: &str, after: &str, by: &str) -> String {
    let parts = line.split_once(before).and_then(|(head, rest)| Some((head, rest.split_once(after)?)));
    match parts {
        Some((head, (number, tail))) if number.parse::<u32>().is_ok() => format!("{head}{before}{by}{after}{tail}"),
        _ => line.to_owned(),
    }
}

fn at(cluster: Builder) -> (Testcluster, Step) {
    let cluster = cluster.start();
    let step = doctor_step(&cluster);
    (cluster, step)
}

fn faulty(fault: Fault) -> (Testcluster, Step) {
    at(Testcluster::builder().fault(fault))
}

fn every_check_passes() {
    let (cluster, step) = at(Testcluster::builder());
    check(&step, 0, &expect_file!["golden/doctor/good.txt"]);
    let calls: Vec<_> = cluster.calls().into_iter().map(|call| (call.name, call.code)).collect();
    let expected = [("GET /webapi/find", "200"), ("/teleport.join.v1.JoinService/Doctor", "Unimplemented")];
    assert_eq!(calls.len(), expected.len(), "{calls:?}");
    for ((name, code), (expected_name, expected_code)) in calls.iter().zip(expected) {
        assert_eq!((name.as_str(), code.as_deref()), (expected_name, Some(expected_code)));
    }
}

/// As a command, outside of CI.
fn doctor_runs_outside_of_ci() {
    let cluster = Testcluster::start();
    let step = doctor_step(&cluster).without(TOKEN).without("BITBUCKET_BUILD_NUMBER");
    let proxy = step.variable("PROXY_SERVER").to_owned();
    let output = step.without("ACTION").product(&["doctor", "--proxy-server", &proxy, "--timeout=20s"]).ok();
    assert!(
        output.stdout.contains("   -  ID token           this is not a step of Bitbucket Pipelines\n"),
        "{}",
        output.stdout
    );
    assert!(output.stdout.ends_with("only a join can tell.\n"), "{}", output.stdout);
}

fn older_clusters_are_recognized() {
    let (_cluster, step) = at(Testcluster::builder().version("17.2.0").join_service(JoinService::Absent));
    check(&step, 0, &expect_file!["golden/doctor/rest-only.txt"]);
    let (_cluster, step) = at(Testcluster::builder().version("16.4.0").join_service(JoinService::Absent));
    check(&step, 4, &expect_file!["golden/doctor/too-old.txt"]);
}

fn load_balancers_are_detected() {
    for alpn in [BalancerAlpn::Ignored, BalancerAlpn::Refused, BalancerAlpn::H2As464, BalancerAlpn::H2As502] {
        let (_cluster, step) = at(Testcluster::builder().load_balancer(LoadBalancer::new().alpn(alpn)));
        check(&step, 0, &expect_file!["golden/doctor/load-balancer.txt"]);
    }
    let (_cluster, step) = at(Testcluster::builder().load_balancer(LoadBalancer::new().strips_upgrades()));
    check(&step, 5, &expect_file!["golden/doctor/load-balancer-strips-upgrades.txt"]);
}

fn separate_ports_are_detected() {
    let (_cluster, step) = at(Testcluster::builder().layout(Layout::SeparatePorts { auth_on_web: false }));
    let output = step.pipe().ok();
    for line in ["   -  load balancer ", "  ok  join service ", "   -  Auth Service ", "  ok  transport service "] {
        assert!(output.stdout.lines().any(|printed| printed.starts_with(line)), "{line}: {}", output.stdout);
    }
    assert!(output.stdout.contains(", separate ports, "), "{}", output.stdout);
}

/// Only the forward proxy can resolve the name of the cluster.
fn doctor_uses_the_forward_proxy() {
    let cluster = Testcluster::builder().public_name("teleport.example.test").start();
    for (forward_proxy, status, golden) in [
        (
            ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works),
            0,
            expect_file!["golden/doctor/forward-proxy.txt"],
        ),
        (
            ForwardProxy::with_credentials(ForwardProxyKind::Http, "me", "secret"),
            5,
            expect_file!["golden/doctor/forward-proxy-without-credentials.txt"],
        ),
    ] {
        let step = doctor_step(&cluster).env("HTTPS_PROXY", &format!("http://localhost:{}", forward_proxy.port()));
        check(&step.scrub(format!(":{}", forward_proxy.port()), ":OUT"), status, &golden);
    }
}

fn a_wrong_clock_is_reported() {
    let (_cluster, step) = at(Testcluster::builder().clock_offset(7 * 60));
    check(&step, 5, &expect_file!["golden/doctor/clock-behind.txt"]);
    let (_cluster, step) = at(Testcluster::builder().clock_offset(-3600));
    let output = step.pipe().ok();
    assert!(
        output.stdout.contains("clock              1h ahead of the cluster's, which does no harm\n"),
        "{}",
        output.stdout
    );
}

fn untrusted_certificates_are_explained() {
    let (_cluster, step) = at(Testcluster::builder());
    check(&step.without("SSL_CERT_FILE"), 5, &expect_file!["golden/doctor/private-authority.txt"]);
    let (_cluster, step) = faulty(Fault::WebCertOfInspector);
    check(&step.without("SSL_CERT_FILE"), 5, &expect_file!["golden/doctor/inspected.txt"]);
    let (_cluster, step) = faulty(Fault::WebCertExpired);
    check(&step, 5, &expect_file!["golden/doctor/expired.txt"]);
}

/// Checks that do not need the wrong variable still run.
fn the_other_checks_run_if_a_variable_is_wrong() {
    let (cluster, step) = at(Testcluster::builder());
    let expired = cluster.mint(|claims| drop(claims.insert("exp".into(), 1_700_000_000.into())));
    let step = step.env(TOKEN, &expired).env("CA_FILE", "no-such-ca.pem");
    let output = step.pipe();
    assert_eq!(output.status, Some(2), "{output:?}");
    for line in ["FAIL  ID token ", "FAIL  authorities ", "FAIL  TLS "] {
        assert!(output.stdout.lines().any(|printed| printed.starts_with(line)), "{line}: {}", output.stdout);
    }
    let end = "Fix \"authorities\" first. Who can: the author of the step.\n";
    assert!(output.stdout.ends_with(end), "{}", output.stdout);
    // Without the other error, the expired token decides the exit status.
    let output = step.without("CA_FILE").pipe();
    assert_eq!(output.status, Some(3), "{output:?}");
}

/// Before a join, the product accepts any Teleport server as the Auth Service, but not a server that lacks the key of
/// its certificate, or whose certificate has expired.
fn the_auth_service_needs_a_valid_teleport_certificate() {
    for fault in [NetworkFault::CertForOtherKey, NetworkFault::CertExpired, NetworkFault::CertForOtherName] {
        let injection = FaultInjection { point: Point::Handshake(Route::Auth), fault, once: false };
        let (_cluster, step) = at(Testcluster::builder().inject(injection));
        let output = step.pipe();
        assert_eq!(output.status, Some(5), "{fault:?}: {output:?}");
        let bad: Vec<_> = output.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
        assert!(matches!(&bad[..], [line] if line.starts_with("FAIL  Auth Service ")), "{fault:?}: {}", output.stdout);
    }
}

fn another_kind_of_server_is_recognized() {
    let (_cluster, step) = faulty(Fault::FindHtml);
    check(&step, 5, &expect_file!["golden/doctor/not-teleport.txt"]);
    let (_cluster, step) = at(Testcluster::builder());
    let step = other_server(step, "SSH-2.0-OpenSSH_10.0\r\n");
    let address = step.variable("PROXY_SERVER").replace("localhost", "127.0.0.1");
    check(&step.env("PROXY_SERVER", &address), 5, &expect_file!["golden/doctor/ssh.txt"]);
}

fn an_unreachable_server_is_reported() {
    let (_cluster, step) = faulty(Fault::RefuseAll);
    check(&step, 5, &expect_file!["golden/doctor/refused.txt"]);
    let (_cluster, step) = at(Testcluster::builder());
    check(&step.env("PROXY_SERVER", "name.invalid:443"), 5, &expect_file!["golden/doctor/no-such-name.txt"]);
    let (_cluster, step) = faulty(Fault::Hang);
    let began = Instant::now();
    check(&step.env("TIMEOUT", "2s"), 5, &expect_file!["golden/doctor/hangs.txt"]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// A public log does not even show the kind of the token.
fn a_public_log_hides_the_kind_of_the_token() {
    let cluster = Testcluster::start();
    let output = doctor_step(&cluster).env("BITBUCKET_REPO_IS_PRIVATE", "false").pipe().ok();
    assert!(output.stdout.contains("ID token           found, valid for 1h\n"), "{}", output.stdout);
}

fn the_output_has_colours_in_ci() {
    let cluster = Testcluster::start();
    let output = doctor_step(&cluster).without("NO_COLOR").env("CI", "true").pipe().ok();
    assert!(output.stdout.contains("\u{1b}[32m  ok\u{1b}[0m  TLS "), "{}", output.stdout);
}

fn proxy_server_is_required() {
    let output = Step::empty().env("ACTION", "doctor").pipe();
    assert_eq!(output.status, Some(2), "{output:?}");
    assert!(output.stderr.contains("error: PROXY_SERVER is not set"), "{}", output.stderr);
}
