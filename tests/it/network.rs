//! The way to the cluster: what is in it, and what of that passes.

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
    without_rest_what_passes_is_survived,
    what_no_second_try_mends needs TIME,
    what_is_tried_again_in_vain needs TIME,
    silence_ends_with_the_time_that_was_given,
    retries_end_with_the_time_that_was_given,
    what_passes_is_survived needs TIME,
    a_broken_connection_is_told_in_our_words,
    a_join_service_that_stalls_is_given_up_for_rest needs TIME,
}

fn faulty(name: &'static str, exit: i32, fault: Fault) -> Failure {
    Failure::new(name, exit).at(Testcluster::builder().fault(fault))
}

/// Where REST is gone, nobody else can be asked: what passes is tried again, where it fails before the greeting, too.
fn without_rest_what_passes_is_survived() {
    for (point, fault) in [
        (Point::Handshake(Route::Join), NetworkFault::Reset),
        (Point::Before(Exchange::ClientInit), NetworkFault::Reset),
        (Point::Before(Exchange::ClientInit), NetworkFault::Page(503)),
    ] {
        let weather = FaultInjection { point, fault, once: true };
        let cluster = Testcluster::builder().rest_join(false).inject(weather).start();
        let said = Step::of(&cluster).pipe().ok();
        assert!(said.stderr.contains(" by the join service"), "{}", said.stderr);
    }
}

/// With somebody else at the proxy's address, who waits for something and then says this.
pub(crate) fn stranger(step: Step, words: &'static str) -> Step {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test's process. Connections that are opened ahead say nothing for long, and hold up no other.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || {
                let _ = connection.read(&mut [0; 4096]);
                let _ = connection.write_all(words.as_bytes());
            });
        }
    });
    step.env("PROXY_SERVER", &format!("localhost:{port}")).scrub(format!(":{port}"), ":PORT")
}

fn stormy(name: &'static str, exit: i32, point: Point, fault: NetworkFault) -> Failure {
    Failure::new(name, exit).at(Testcluster::builder().inject(FaultInjection { point, fault, once: false }))
}

/// Failures that are final at once.
pub(crate) fn final_ones() -> Vec<Failure> {
    vec![
        Failure::new("web-certificate-not-trusted", 5).with(|step, _| step.without("SSL_CERT_FILE")),
        faulty("web-certificate-for-another-name", 5, Fault::WebCertForOtherName),
        faulty("web-certificate-expired", 5, Fault::WebCertExpired),
        faulty("web-certificate-not-valid-yet", 5, Fault::WebCertNotYetValid),
        faulty("web-certificate-self-signed", 5, Fault::WebCertSelfSigned)
            .with(|step, _| step.without("SSL_CERT_FILE")),
        faulty("web-certificate-of-an-inspector", 5, Fault::WebCertOfInspector)
            .with(|step, _| step.without("SSL_CERT_FILE")),
        Failure::new("port-speaks-http", 5).with(|step, _| stranger(step, "HTTP/1.1 400 Bad Request\r\n\r\n")),
        Failure::new("port-speaks-ssh", 5).with(|step, _| stranger(step, "SSH-2.0-Teleport\r\n")),
        // Alerts of TLS: what a server says that knows only old versions, or other ciphers.
        Failure::new("tls-too-old", 5).with(|step, _| stranger(step, "\x15\x03\x01\0\x02\x02\x46")),
        Failure::new("tls-without-common-cipher", 5).with(|step, _| stranger(step, "\x15\x03\x03\0\x02\x02\x28")),
        Failure::new("tls-ends-before-the-cluster", 5)
            .at(Testcluster::builder().load_balancer(LoadBalancer::new().alpn(BalancerAlpn::H2As464)))
            .env("TELEPORT_TLS_ROUTING_CONN_UPGRADE", "no"),
        faulty("not-a-teleport-proxy", 5, Fault::FindHtml),
        faulty("not-a-teleport-proxy-but-nginx", 5, Fault::FindNginx404),
        faulty("not-a-teleport-proxy-but-a-portal", 5, Fault::FindRedirect),
        faulty("find-endless", 5, Fault::FindEndless),
        stormy("answer-too-large", 5, Point::After(Exchange::GetRole), NetworkFault::Oversized),
        Failure::new("ca-file-missing", 2).env("SSL_CERT_FILE", "no-such-ca.pem"),
        Failure::new("ca-file-without-certificate", 2).with(|step, _| {
            std::fs::write(step.dir().join("ca.pem"), "not a certificate\n").unwrap();
            step.env("SSL_CERT_FILE", "ca.pem")
        }),
    ]
}

/// Failures that are tried again, in vain.
pub(crate) fn stubborn_ones() -> Vec<Failure> {
    vec![
        Failure::new("name-does-not-resolve", 5).env("PROXY_SERVER", "name.invalid:443"),
        faulty("port-closed", 5, Fault::RefuseAll),
        faulty("find-answers-500", 5, Fault::Find500),
        faulty("find-truncated", 5, Fault::FindTruncated),
        stormy("answer-not-parsable", 5, Point::After(Exchange::GetRole), NetworkFault::Garbage),
        stormy("asked-to-wait", 5, Point::Before(Exchange::Find), NetworkFault::Http(429, Some(120))),
        faulty("join-breaks", 5, Fault::CloseAfterOidcInit),
    ]
}

/// Nobody answers, until the time is up.
pub(crate) fn silent_ones() -> Vec<Failure> {
    vec![
        faulty("proxy-hangs", 5, Fault::Hang).with(|step, _| step.env("TIMEOUT", "3s")),
        // With a join by REST the run would survive it.
        Failure::new("join-stalls", 5)
            .at(Testcluster::builder().fault(Fault::JoinStalls).rest_join(false))
            .env("TIMEOUT", "3s"),
    ]
}

fn what_no_second_try_mends() {
    check(final_ones());
}

fn what_is_tried_again_in_vain() {
    check_at_once(stubborn_ones);
}

fn silence_ends_with_the_time_that_was_given() {
    check_silence(silent_ones());
}

fn retries_end_with_the_time_that_was_given() {
    let cluster = Testcluster::builder().fault(Fault::Find500).start();
    let step = Step::of(&cluster).env("TIMEOUT", "2s");
    let began = Instant::now();
    let said = step.pipe();
    assert_eq!(said.status, Some(5), "{}", said.stderr);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(said.stderr.contains("trying again in"), "{}", said.stderr);
    assert!(!step.dir().join("tbot-user").exists());
}

/// The faults that pass, and whether a person hears of them.
fn what_passes_is_survived() {
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
        let step = Step::of(&cluster);
        let said = step.pipe().ok();
        assert!(step.output("ssh_config").exists(), "{fault:?}");
        assert!(!said.stderr.contains("teleport.cluster.local"), "{fault:?}: {}", said.stderr);
        if !calls.is_empty() {
            assert!(said.stderr.contains("trying again in"), "{fault:?} {service:?}: {}", said.stderr);
            let calls = cluster.calls().iter().filter(|call| call.name.ends_with(calls)).count();
            assert_eq!(calls, 2, "{fault:?} {service:?}: {:?}", cluster.calls());
        }
    }
}

fn a_broken_connection_is_told_in_our_words() {
    let cluster = Testcluster::builder().fault(Fault::FindTruncated).start();
    let said = Step::of(&cluster).env("TIMEOUT", "1s").pipe();
    assert_eq!(said.status, Some(5), "{}", said.stderr);
    // rustls has a link to its manual instead.
    assert!(said.stderr.contains("it was closed in the middle") && !said.stderr.contains("docs.rs"), "{}", said.stderr);
}

/// A join service that says nothing costs the time of one attempt; then the older way is taken.
fn a_join_service_that_stalls_is_given_up_for_rest() {
    let cluster = Testcluster::builder().fault(Fault::JoinStalls).start();
    let step = Step::of(&cluster);
    let said = step.pipe().ok();
    assert!(said.stderr.contains("as bot-example by REST"), "{}", said.stderr);
}
