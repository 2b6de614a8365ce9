//! Behind a company proxy: the cluster's name resolves nowhere but there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use expect_test::expect_file;
use testcluster::{Builder, ForwardProxy, ForwardProxyBehavior, ForwardProxyKind, LoadBalancer, Testcluster};

use crate::failure::{Failure, check, check_at_once, check_silence};
use crate::harness::stories;
use crate::machine::TIME;
use crate::step::Step;

stories! {
    the_pipe_and_then_ssh_get_through_each_kind,
    a_load_balancer_behind_the_gateway,
    ssh_gets_through_by_its_environment,
    as_tbot_the_environment_counts,
    a_question_that_is_forgotten_holds_nobody_up needs TIME,
    inspect_gets_through,
    what_is_reached_without,
    what_an_earlier_run_was_told_is_forgotten,
    a_proxy_that_is_overloaded_for_a_moment_is_survived,
    ssh_says_in_a_line_why_it_does_not_get_through,
    what_no_second_try_mends,
    what_is_tried_again_in_vain,
    silence_ends_with_the_time_that_was_given,
}

/// User and password, as they are and as a URL has them.
const USER: &str = "CORP\\deploy";
const PASSWORD: &str = "open@sesame:of/the company";
const ENCODED: &str = "CORP%5Cdeploy:open%40sesame%3Aof%2Fthe%20company";

/// A cluster that is reached through a gateway only.
fn hidden() -> Builder {
    Testcluster::builder().public_name("teleport.example.test")
}

/// The step, behind this gateway, whose authority it trusts as well.
fn behind(step: Step, gateway: &ForwardProxy, url: &str) -> Step {
    let cluster = fs::read_to_string(step.variable("SSL_CERT_FILE")).unwrap();
    fs::write(step.dir().join("ca.pem"), cluster + &fs::read_to_string(gateway.ca_file()).unwrap()).unwrap();
    step.env("SSL_CERT_FILE", "ca.pem").env("HTTPS_PROXY", url).scrub(format!(":{}", gateway.port()), ":OUT")
}

/// The rest of the step: what a pipe was told, it does not know, and its files may be gone.
fn rest(step: Step) -> Step {
    fs::remove_file(step.dir().join("ca.pem")).unwrap();
    step.without("HTTPS_PROXY").without("SSL_CERT_FILE")
}

/// ssh says hello.
#[track_caller]
fn hello(step: &Step, cluster: &Testcluster) {
    let said = step.ssh(&[&Step::node(cluster), "echo", "hello"]).ok();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("hello\n", ""));
}

fn the_pipe_and_then_ssh_get_through_each_kind() {
    let cluster = hidden().start();
    let step = Step::of(&cluster).env("TIMEOUT", "1s");
    assert_eq!(step.pipe().status, Some(5), "the cluster is reached without");
    for kind in [ForwardProxyKind::Http, ForwardProxyKind::Https, ForwardProxyKind::Socks5] {
        for gateway in [
            ForwardProxy::start(kind, ForwardProxyBehavior::Works),
            ForwardProxy::with_credentials(kind, USER, PASSWORD),
        ] {
            let step = behind(Step::of(&cluster), &gateway, &gateway.url_with(ENCODED));
            let said = step.pipe().ok();
            assert!(said.stderr.contains(" through the forward proxy "), "{}", said.stderr);
            let mode = fs::metadata(step.output("network.json")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let before = gateway.targets().len();
            let step = rest(step);
            hello(&step, &cluster);
            assert_eq!(gateway.targets().len(), before + 1, "{kind:?}");
            assert!(gateway.targets().iter().all(|target| *target == cluster.proxy_addr()), "{:?}", gateway.targets());
            step.product(&["cleanup"]).ok();
            assert!(!step.dir().join("tbot-user").exists());
        }
    }
}

/// Two kinds of TLS, and WebSocket, inside of what the gateway opens; ssh needs the authority as well.
fn a_load_balancer_behind_the_gateway() {
    let cluster = hidden().load_balancer(LoadBalancer::default()).start();
    let gateway = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works);
    let step = behind(Step::of(&cluster), &gateway, &gateway.url());
    step.pipe().ok();
    hello(&rest(step), &cluster);
}

/// What was not kept, the environment says.
fn ssh_gets_through_by_its_environment() {
    let cluster = hidden().start();
    let gateway = ForwardProxy::with_credentials(ForwardProxyKind::Https, USER, PASSWORD);
    let url = gateway.url_with(ENCODED);
    let step = behind(Step::of(&cluster), &gateway, &url);
    step.pipe().ok();
    fs::remove_file(step.output("network.json")).unwrap();
    hello(&step, &cluster);
    let step = step.without("HTTPS_PROXY").env("http_proxy", &url);
    hello(&step, &cluster);
    let said = step.env("NO_PROXY", ".example.test").ssh(&[&Step::node(&cluster), "true"]);
    assert!(said.stderr.contains("name teleport.example.test does not resolve"), "{}", said.stderr);
}

fn as_tbot_the_environment_counts() {
    let cluster = hidden().start();
    let gateway = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::ByteByByte);
    let step = behind(Step::of(&cluster), &gateway, "").env("https_proxy", &format!("localhost:{}", gateway.port()));
    let args = ["start", "identity", "--oneshot", "--destination=tbot-user", "--join-method=bitbucket"];
    let (server, token) =
        (format!("--proxy-server={}", cluster.proxy_addr()), format!("--token={}", cluster.token_name()));
    step.product(&[&args[..], &[&server, &token]].concat()).ok();
    hello(&rest(step.without("https_proxy")), &cluster);
}

/// The connection that is opened ahead is to save time: one that never opens costs none.
fn a_question_that_is_forgotten_holds_nobody_up() {
    let cluster = hidden().start();
    // The first two are of discovery and of the join, and are asked again after 15 s.
    let gateway = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::IgnoresRequest(2));
    behind(Step::of(&cluster), &gateway, &gateway.url()).pipe().ok();
}

fn inspect_gets_through() {
    let cluster = hidden().start();
    let gateway = ForwardProxy::start(ForwardProxyKind::Socks5, ForwardProxyBehavior::ByteByByte);
    let step = behind(Step::of(&cluster), &gateway, &gateway.url()).env("ACTION", "inspect");
    let said = step.pipe().ok();
    assert!(said.stdout.contains("#   name: example.teleport.sh"), "{}", said.stdout);
    assert_eq!(gateway.targets(), [cluster.proxy_addr()]);
}

/// This machine never is, nor what NO_PROXY says.
fn what_is_reached_without() {
    let gateway = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Responds(403, "", ""));
    let cluster = Testcluster::start();
    let step = behind(Step::of(&cluster), &gateway, &gateway.url());
    let said = step.pipe().ok();
    assert!(!said.stderr.contains("forward proxy"), "{}", said.stderr);
    hello(&rest(step), &cluster);

    let cluster = hidden().start();
    let step = behind(Step::of(&cluster), &gateway, &gateway.url()).env("NO_PROXY", "localhost, example.test");
    let said = step.env("TIMEOUT", "1s").pipe();
    assert!(said.stderr.contains("name teleport.example.test does not resolve"), "{}", said.stderr);
    assert_eq!(gateway.targets(), [""; 0]);
}

/// A later run into the same destination says anew what is to be kept.
fn what_an_earlier_run_was_told_is_forgotten() {
    let gateway = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works);
    let cluster = Testcluster::start();
    let step = behind(Step::of(&cluster), &gateway, &gateway.url());
    let kept = |step: &Step| fs::read_to_string(step.output("network.json")).unwrap();
    step.pipe().ok();
    assert!(kept(&step).contains(&format!("\"proxy\": \"{}\"", gateway.url())), "{}", kept(&step));
    let step = step.without("HTTPS_PROXY");
    step.pipe().ok();
    // The authority of the cluster is a private one, and is still needed.
    assert!(!kept(&step).contains("proxy") && kept(&step).contains("BEGIN CERTIFICATE"), "{}", kept(&step));
}

fn a_proxy_that_is_overloaded_for_a_moment_is_survived() {
    for (kind, no) in [(ForwardProxyKind::Http, 503), (ForwardProxyKind::Socks5, 1)] {
        let cluster = hidden().start();
        let gateway = ForwardProxy::start(kind, ForwardProxyBehavior::RespondsOnce(no));
        behind(Step::of(&cluster), &gateway, &gateway.url()).pipe().ok();
    }
}

fn ssh_says_in_a_line_why_it_does_not_get_through() {
    let cluster = hidden().start();
    let gateway = ForwardProxy::with_credentials(ForwardProxyKind::Http, USER, PASSWORD);
    let step = behind(Step::of(&cluster), &gateway, &gateway.url_with(ENCODED));
    step.pipe().ok();
    let step = rest(step);
    let ours = |step: &Step| {
        let said = step.ssh(&[&Step::node(&cluster), "true"]);
        assert_eq!(said.status, Some(255), "{}", said.stderr);
        let ours: Vec<_> = said.stderr.lines().filter(|line| line.starts_with("teleport-pipe: ")).collect();
        step.scrubbed(&ours.join("\n"))
    };
    let kept = fs::read_to_string(step.output("network.json")).unwrap();
    fs::write(step.output("network.json"), kept.replace("sesame", "simsim")).unwrap();
    expect_file!["golden/proxy_command/forward-proxy-credentials.txt"].assert_eq(&ours(&step));
    fs::write(step.output("network.json"), kept.replace("\"proxy\"", "\"prxy\"")).unwrap();
    expect_file!["golden/proxy_command/network-file-broken.txt"].assert_eq(&ours(&step));
    fs::write(step.output("network.json"), kept).unwrap();
    drop(gateway);
    expect_file!["golden/proxy_command/forward-proxy-gone.txt"].assert_eq(&ours(&step));
}

/// A failure at a gateway that is such, under this URL.
fn failure(
    name: &'static str,
    gateway: impl Fn() -> ForwardProxy + 'static,
    url: impl Fn(&ForwardProxy) -> String + 'static,
) -> Failure {
    Failure::new(name, 5).at(hidden()).with(move |step, _| {
        let gateway = gateway();
        behind(step, &gateway, &url(&gateway)).keep(gateway)
    })
}

fn bad(name: &'static str, kind: ForwardProxyKind, manner: ForwardProxyBehavior) -> Failure {
    failure(name, move || ForwardProxy::start(kind, manner.clone()), |gateway| gateway.url_with(ENCODED))
}

fn closed_to(name: &'static str, kind: ForwardProxyKind, credentials: &'static str) -> Failure {
    let gateway = move || ForwardProxy::with_credentials(kind, USER, PASSWORD);
    failure(name, gateway, move |gateway| gateway.url_with(credentials))
}

/// A gateway that is taken for one of another kind.
fn taken_for(
    name: &'static str,
    scheme: &'static str,
    kind: ForwardProxyKind,
    manner: ForwardProxyBehavior,
) -> Failure {
    let gateway = move || ForwardProxy::start(kind, manner.clone());
    failure(name, gateway, move |gateway| format!("{scheme}://{ENCODED}@localhost:{}", gateway.port()))
}

fn variable(name: &'static str, url: &'static str) -> Failure {
    Failure::new(name, 2).env("HTTPS_PROXY", url)
}

const PAGE: &str =
    "<!DOCTYPE html><html><head><title>Access denied:\n category \"remote access\"</title></head></html>";

/// Failures that are final at once.
pub(crate) fn final_ones() -> Vec<Failure> {
    use ForwardProxyKind::{Http, Https, Socks5};
    const BAD_REQUEST: ForwardProxyBehavior =
        ForwardProxyBehavior::Sends(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    vec![
        closed_to("forward-proxy-requires-credentials", Http, ""),
        closed_to("forward-proxy-credentials-wrong", Http, "CORP%5Cdeploy:open-simsim-of-the-company"),
        closed_to("forward-proxy-requires-credentials-socks5", Socks5, ""),
        closed_to("forward-proxy-credentials-wrong-socks5", Socks5, "CORP%5Cdeploy:open-simsim-of-the-company"),
        bad(
            "forward-proxy-requires-negotiate",
            Http,
            ForwardProxyBehavior::Responds(407, "Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n", ""),
        ),
        bad("forward-proxy-refuses", Http, ForwardProxyBehavior::Responds(403, "Content-Type: text/html\r\n", PAGE)),
        bad(
            "forward-proxy-refuses-with-plain-text",
            Https,
            ForwardProxyBehavior::Responds(403, "Content-Type: text/plain\r\n", "\x1b[31mno\r\n"),
        ),
        bad("forward-proxy-refuses-socks5", Socks5, ForwardProxyBehavior::Responds(2, "", "")),
        bad("forward-proxy-is-ssh", Http, ForwardProxyBehavior::Sends(b"SSH-2.0-OpenSSH_10.0\r\n")),
        bad("forward-proxy-is-ssh-not-socks5", Socks5, ForwardProxyBehavior::Sends(b"SSH-2.0-OpenSSH_10.0\r\n")),
        taken_for("forward-proxy-with-tls", "http", Https, ForwardProxyBehavior::Works),
        taken_for("forward-proxy-is-http-not-socks5", "socks5", Http, BAD_REQUEST),
        taken_for("forward-proxy-without-tls", "https", Http, BAD_REQUEST),
        Failure::new("forward-proxy-not-trusted", 5).at(hidden()).with(|step, _| {
            let gateway = ForwardProxy::start(Https, ForwardProxyBehavior::Works);
            behind(step, &gateway, &gateway.url()).without("SSL_CERT_FILE").keep(gateway)
        }),
        variable("forward-proxy-of-another-scheme", "ftp://deploy:open-sesame-of-the-company@proxy.example:3128"),
        variable("forward-proxy-is-not-a-url", "http://deploy:open-sesame/of-the-company@proxy.example:3128"),
    ]
}

/// Failures that are tried again, in vain.
pub(crate) fn stubborn_ones() -> Vec<Failure> {
    use ForwardProxyKind::{Http, Https, Socks5};
    vec![
        bad("forward-proxy-closed", Http, ForwardProxyBehavior::Closed),
        failure(
            "forward-proxy-does-not-resolve",
            || ForwardProxy::start(Http, ForwardProxyBehavior::Works),
            |_| format!("http://{ENCODED}@proxy.invalid:3128"),
        ),
        bad("forward-proxy-disconnects", Http, ForwardProxyBehavior::ClosesOnRequest),
        bad("forward-proxy-disconnects-socks5", Socks5, ForwardProxyBehavior::ClosesOnRequest),
        bad(
            "forward-proxy-cannot-connect",
            Https,
            ForwardProxyBehavior::Responds(502, "Content-Type: text/html\r\n", "<title>Bad Gateway</title>"),
        ),
        bad("forward-proxy-cannot-connect-socks5", Socks5, ForwardProxyBehavior::Responds(4, "", "")),
    ]
}

/// Nobody answers, until the time is up.
pub(crate) fn silent_ones() -> Vec<Failure> {
    let hangs = |name, kind| {
        Failure::new(name, 5).at(hidden()).with(move |step, _| {
            let gateway = ForwardProxy::start(kind, ForwardProxyBehavior::Hangs);
            behind(step, &gateway, &gateway.url_with(ENCODED)).env("TIMEOUT", "3s").keep(gateway)
        })
    };
    vec![
        hangs("forward-proxy-hangs", ForwardProxyKind::Http),
        hangs("forward-proxy-hangs-socks5", ForwardProxyKind::Socks5),
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
