//! Faults of the network between the product and the cluster: permanent ones, and temporary ones that are retried.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use testcluster::{
    BalancerAlpn, Exchange, Fault, FaultInjection, JoinService, LoadBalancer, NetworkFault, Point, Route, Testcluster,
};

use crate::failure::{Failure, check, check_at_once, check_silence};
use crate::harness::stories;
use crate::machine::TIME;
use crate::step::Step;

stories! {
    temporary_faults_of_the_join_service_are_retried_without_rest,
    permanent_failures_are_not_retried needs TIME,
    temporary_failures_are_retried_until_the_run_gives_up needs TIME,
    a_silent_server_ends_the_run_after_the_timeout,
    retries_end_after_the_timeout,
    temporary_faults_are_retried needs TIME,
    a_truncated_response_is_reported_in_plain_words,
    the_bot_joins_by_rest_if_the_join_service_stalls needs TIME,
}

fn faulty(name: &'static str, exit: i32, fault: Fault) -> Failure {
    Failure::new(name, exit).at(Testcluster::builder().fault(fault))
}

/// Without REST there is no other service to ask, so a temporary fault is retried even if it comes before the join
/// service's first message.
fn temporary_faults_of_the_join_service_are_retried_without_rest() {
    for (point, fault) in [
        (Point::Handshake(Route::Join), NetworkFault::Reset),
        (Point::Before(Exchange::ClientInit), NetworkFault::Reset),
        (Point::Before(Exchange::ClientInit), NetworkFault::Page(503)),
    ] {
        let injection = FaultInjection { point, fault, once: true };
        let cluster = Testcluster::builder().rest_join(false).inject(injection).start();
        let output = Step::new(&cluster).pipe().ok();
        assert!(output.stderr.contains(" by the join service"), "{}", output.stderr);
    }
}

/// Sets `PROXY_SERVER` to another kind of server, which waits for a request and then sends this response.
pub(crate) fn other_server(step: Step, response: &'static str) -> Step {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The threads end with the test's process. Each connection has its own, because a connection that is opened in
    // advance may send nothing for a long time.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || {
                let _ = connection.read(&mut [0; 4096]);
                let _ = connection.write_all(response.as_bytes());
            });
        }
    });
    step.env("PROXY_SERVER", &format!("localhost:{port}")).scrub(format!(":{port}"), ":PORT")
}

fn with_network_fault(name: &'static str, exit: i32, point: Point, fault: NetworkFault) -> Failure {
    Failure::new(name, exit).at(Testcluster::builder().inject(FaultInjection { point, fault, once: false }))
}

/// Failures that end the run without a retry.
pub(crate) fn permanent_failures() -> Vec<Failure> {
    vec![
        Failure::new("web-certificate-not-trusted", 5).with(|step, _| step.without("SSL_CERT_FILE")),
        faulty("web-certificate-for-another-name", 5, Fault::WebCertForOtherName),
        faulty("web-certificate-expired", 5, Fault::WebCertExpired),
        faulty("web-certificate-not-valid-yet", 5, Fault::WebCertNotYetValid),
        faulty("web-certificate-self-signed", 5, Fault::WebCertSelfSigned)
            .with(|step, _| step.without("SSL_CERT_FILE")),
        faulty("web-certificate-of-an-inspector", 5, Fault::WebCertOfInspector)
            .with(|step, _| step.without("SSL_CERT_FILE")),
        Failure::new("port-speaks-http", 5).with(|step, _| other_server(step, "HTTP/1.1 400 Bad Request\r\n\r\n")),
        Failure::new("port-speaks-ssh", 5).with(|step, _| other_server(step, "SSH-2.0-Teleport\r\n")),
        // TLS alerts of servers that support only old versions, or other ciphers.
        Failure::new("tls-too-old", 5).with(|step, _| other_server(step, "\x15\x03\x01\0\x02\x02\x46")),
        Failure::new("tls-without-common-cipher", 5).with(|step, _| other_server(step, "\x15\x03\x03\0\x02\x02\x28")),
        Failure::new("tls-ends-before-the-cluster", 5)
            .at(Testcluster::builder().load_balancer(LoadBalancer::new().alpn(BalancerAlpn::H2As464)))
            .env("TELEPORT_TLS_ROUTING_CONN_UPGRADE", "no"),
        faulty("not-a-teleport-proxy", 5, Fault::FindHtml),
        faulty("not-a-teleport-proxy-but-nginx", 5, Fault::FindNginx404),
        faulty("not-a-teleport-proxy-but-a-portal", 5, Fault::FindRedirect),
        faulty("find-endless", 5, Fault::FindEndless),
        with_network_fault("answer-too-large", 4, Point::After(Exchange::GetRole), NetworkFault::Oversized),
        Failure::new("ca-file-missing", 2).env("SSL_CERT_FILE", "no-such-ca.pem"),
        Failure::new("ca-file-without-certificate", 2).with(|step, _| {
            std::fs::write(step.dir().join("ca.pem"), "not a certificate\n").unwrap();
            step.env("SSL_CERT_FILE", "ca.pem")
        }),
    ]
}

/// Failures that are retried without success.
pub(crate) fn retried_failures() -> Vec<Failure> {
    vec![
        Failure::new("name-does-not-resolve", 5).env("PROXY_SERVER", "name.invalid:443"),
        faulty("port-closed", 5, Fault::RefuseAll),
        faulty("find-answers-500", 5, Fault::Find500),
        faulty("find-truncated", 5, Fault::FindTruncated),
        with_network_fault("answer-not-parsable", 5, Point::After(Exchange::GetRole), NetworkFault::Garbage),
        with_network_fault("asked-to-wait", 5, Point::Before(Exchange::Find), NetworkFault::Http(429, Some(120))),
        faulty("join-breaks", 5, Fault::CloseAfterOidcInit),
    ]
}

/// Failures in which a server stays silent until the timeout.
pub(crate) fn hanging_failures() -> Vec<Failure> {
    vec![
        faulty("proxy-hangs", 5, Fault::Hang).with(|step, _| step.env("TIMEOUT", "3s")),
        // With a join by REST the run would succeed.
        Failure::new("join-stalls", 5)
            .at(Testcluster::builder().fault(Fault::JoinStalls).rest_join(false))
            .env("TIMEOUT", "3s"),
    ]
}

fn permanent_failures_are_not_retried() {
    check(permanent_failures());
}

fn temporary_failures_are_retried_until_the_run_gives_up() {
    check_at_once(retried_failures);
}

fn a_silent_server_ends_the_run_after_the_timeout() {
    check_silence(hanging_failures());
}

fn retries_end_after_the_timeout() {
    let cluster = Testcluster::builder().fault(Fault::Find500).start();
    let step = Step::new(&cluster).env("TIMEOUT", "2s");
    let began = Instant::now();
    let output = step.pipe();
    assert_eq!(output.status, Some(5), "{}", output.stderr);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(output.stderr.contains("trying again in"), "{}", output.stderr);
    assert!(!step.dir().join("tbot-user").exists());
}

/// Each fault happens once. Each named call is made twice, and the log has its retry.
fn temporary_faults_are_retried() {
    for (fault, service, calls) in [
        (Fault::ResetOnce, JoinService::Present, ""),
        (Fault::JoinUnavailableOnce, JoinService::Present, "JoinService/Join"),
        (Fault::RateLimitOnce, JoinService::Present, "JoinService/Join"),
        (Fault::RateLimitOnce, JoinService::Absent, "/webapi/host/credentials"),
        (Fault::Rest500Once, JoinService::Absent, "/webapi/host/credentials"),
        (Fault::DropAuthConnectionOnce, JoinService::Present, "AuthService/GetRole"),
        (Fault::AuthUnavailableOnce, JoinService::Present, "AuthService/GenerateUserCerts"),
    ] {
        let cluster = Testcluster::builder().fault(fault).join_service(service).start();
        let step = Step::new(&cluster);
        let output = step.pipe().ok();
        assert!(step.file("ssh_config").exists(), "{fault:?}");
        assert!(!output.stderr.contains("teleport.cluster.local"), "{fault:?}: {}", output.stderr);
        if !calls.is_empty() {
            assert!(output.stderr.contains("trying again in"), "{fault:?} {service:?}: {}", output.stderr);
            let calls = cluster.calls().iter().filter(|call| call.name.ends_with(calls)).count();
            assert_eq!(calls, 2, "{fault:?} {service:?}: {:?}", cluster.calls());
        }
    }
}

fn a_truncated_response_is_reported_in_plain_words() {
    let cluster = Testcluster::builder().fault(Fault::FindTruncated).start();
    let output = Step::new(&cluster).env("TIMEOUT", "1s").pipe();
    assert_eq!(output.status, Some(5), "{}", output.stderr);
    // The text of rustls has a link to its manual.
    assert!(
        output.stderr.contains("it was closed in the middle") && !output.stderr.contains("docs.rs"),
        "{}",
        output.stderr
    );
}

/// A join service that stays silent costs the time of one attempt. Then the product joins by REST.
fn the_bot_joins_by_rest_if_the_join_service_stalls() {
    let cluster = Testcluster::builder().fault(Fault::JoinStalls).start();
    let step = Step::new(&cluster);
    let output = step.pipe().ok();
    assert!(output.stderr.contains("as bot-example by REST"), "{}", output.stderr);
}
