//! Clusters that are reached through a forward proxy, and whose name only the forward proxy can resolve.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64ct::{Base64, Encoding as _};
use expect_test::expect_file;
use testcluster::{Builder, ForwardProxy, ForwardProxyBehavior, ForwardProxyKind, LoadBalancer, Testcluster};

use crate::failure::{Failure, check, check_at_once, check_silence};
use crate::harness::stories;
use crate::machine::TIME;
use crate::secrets::Secrets;
use crate::step::Step;

stories! {
    the_pipe_and_ssh_work_through_each_kind_of_forward_proxy,
    a_load_balancer_behind_the_forward_proxy_works,
    ssh_uses_the_proxy_variables_of_its_environment,
    the_command_line_of_tbot_uses_the_proxy_variables,
    an_unanswered_connect_request_does_not_delay_the_run needs TIME,
    inspect_works_through_the_forward_proxy,
    loopback_and_no_proxy_are_reached_directly,
    a_run_replaces_the_proxy_settings_of_an_earlier_run,
    a_temporary_overload_of_the_forward_proxy_is_retried,
    ssh_explains_each_error_of_the_forward_proxy_in_one_line,
    entries_of_no_proxy_that_never_match_are_named,
    permanent_failures_are_not_retried,
    temporary_failures_are_retried_until_the_run_gives_up,
    a_silent_forward_proxy_ends_the_run_after_the_timeout,
    credentials_that_a_forward_proxy_quotes_are_not_printed,
}

/// User and password, plain and as a part of a URL.
const USER: &str = "CORP\\deploy";
const PASSWORD: &str = "open@sesame:of/the company";
const ENCODED: &str = "CORP%5Cdeploy:open%40sesame%3Aof%2Fthe%20company";

/// A cluster that can be reached only through a forward proxy.
fn unresolvable_cluster() -> Builder {
    Testcluster::builder().public_name("teleport.example.test")
}

/// A step that uses this forward proxy and trusts its CA.
fn with_forward_proxy(step: Step, forward_proxy: &ForwardProxy, url: &str) -> Step {
    let cluster = fs::read_to_string(step.variable("SSL_CERT_FILE")).unwrap();
    fs::write(step.dir().join("ca.pem"), cluster + &fs::read_to_string(forward_proxy.ca_file()).unwrap()).unwrap();
    step.env("SSL_CERT_FILE", "ca.pem").env("HTTPS_PROXY", url).scrub(format!(":{}", forward_proxy.port()), ":OUT")
}

/// The rest of the step: it has neither the variables of the pipe nor its CA file.
fn without_proxy_settings(step: Step) -> Step {
    fs::remove_file(step.dir().join("ca.pem")).unwrap();
    step.without("HTTPS_PROXY").without("SSL_CERT_FILE")
}

/// Runs `echo hello` on the node, by ssh.
#[track_caller]
fn hello(step: &Step, cluster: &Testcluster) {
    let output = step.ssh(&[&Step::node(cluster), "echo", "hello"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""));
}

fn the_pipe_and_ssh_work_through_each_kind_of_forward_proxy() {
    let cluster = unresolvable_cluster().start();
    let step = Step::new(&cluster).env("TIMEOUT", "1s");
    assert_eq!(step.pipe().status, Some(5), "the cluster is reached without a forward proxy");
    for kind in [ForwardProxyKind::Http, ForwardProxyKind::Https, ForwardProxyKind::Socks5] {
        for forward_proxy in [
            ForwardProxy::start(kind, ForwardProxyBehavior::Works),
            ForwardProxy::with_credentials(kind, USER, PASSWORD),
        ] {
            let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url_with(ENCODED));
            let output = step.pipe().ok();
            assert!(output.stderr.contains(" through the forward proxy "), "{}", output.stderr);
            let mode = fs::metadata(step.file("network.json")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let before = forward_proxy.targets().len();
            let step = without_proxy_settings(step);
            hello(&step, &cluster);
            assert_eq!(forward_proxy.targets().len(), before + 1, "{kind:?}");
            assert!(
                forward_proxy.targets().iter().all(|target| *target == cluster.proxy_addr()),
                "{:?}",
                forward_proxy.targets()
            );
            step.product(&["cleanup"]).ok();
            assert!(!step.dir().join("tbot-user").exists());
        }
    }
}

/// The tunnel of the forward proxy contains TLS, WebSocket and nested TLS. ssh needs the CA, too.
fn a_load_balancer_behind_the_forward_proxy_works() {
    let cluster = unresolvable_cluster().load_balancer(LoadBalancer::default()).start();
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works);
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url());
    step.pipe().ok();
    hello(&without_proxy_settings(step), &cluster);
}

/// Without `network.json`, ssh takes the forward proxy from the environment.
fn ssh_uses_the_proxy_variables_of_its_environment() {
    let cluster = unresolvable_cluster().start();
    let forward_proxy = ForwardProxy::with_credentials(ForwardProxyKind::Https, USER, PASSWORD);
    let url = forward_proxy.url_with(ENCODED);
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &url);
    step.pipe().ok();
    fs::remove_file(step.file("network.json")).unwrap();
    hello(&step, &cluster);
    let step = step.without("HTTPS_PROXY").env("http_proxy", &url);
    hello(&step, &cluster);
    let output = step.env("NO_PROXY", ".example.test").ssh(&[&Step::node(&cluster), "true"]);
    assert!(output.stderr.contains("name teleport.example.test does not resolve"), "{}", output.stderr);
}

fn the_command_line_of_tbot_uses_the_proxy_variables() {
    let cluster = unresolvable_cluster().start();
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::ByteByByte);
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, "")
        .env("https_proxy", &format!("localhost:{}", forward_proxy.port()));
    let args = ["start", "identity", "--oneshot", "--destination=tbot-user", "--join-method=bitbucket"];
    let (server, token) =
        (format!("--proxy-server={}", cluster.proxy_addr()), format!("--token={}", cluster.token_name()));
    step.product(&[&args[..], &[&server, &token]].concat()).ok();
    hello(&without_proxy_settings(step.without("https_proxy")), &cluster);
}

/// The connection that is opened in advance saves time, and must cost none if it never opens.
fn an_unanswered_connect_request_does_not_delay_the_run() {
    let cluster = unresolvable_cluster().start();
    // The first two requests are those of discovery and of the join, which are repeated after 15 s.
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::IgnoresRequest(2));
    with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url()).pipe().ok();
}

fn inspect_works_through_the_forward_proxy() {
    let cluster = unresolvable_cluster().start();
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Socks5, ForwardProxyBehavior::ByteByByte);
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url()).env("ACTION", "inspect");
    let output = step.pipe().ok();
    assert!(output.stdout.contains("#   name: example.teleport.sh"), "{}", output.stdout);
    assert_eq!(forward_proxy.targets(), [cluster.proxy_addr()]);
}

/// Loopback addresses and the hosts of NO_PROXY are not reached through the forward proxy.
fn loopback_and_no_proxy_are_reached_directly() {
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Responds(403, "", ""));
    let cluster = Testcluster::start();
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url());
    let output = step.pipe().ok();
    assert!(!output.stderr.contains("forward proxy"), "{}", output.stderr);
    hello(&without_proxy_settings(step), &cluster);

    let cluster = unresolvable_cluster().start();
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url())
        .env("NO_PROXY", "localhost, example.test");
    let output = step.env("TIMEOUT", "1s").pipe();
    assert!(output.stderr.contains("name teleport.example.test does not resolve"), "{}", output.stderr);
    assert_eq!(forward_proxy.targets(), [""; 0]);
}

/// A later run into the same destination writes `network.json` again.
fn a_run_replaces_the_proxy_settings_of_an_earlier_run() {
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works);
    let cluster = Testcluster::start();
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url());
    let kept = |step: &Step| fs::read_to_string(step.file("network.json")).unwrap();
    step.pipe().ok();
    assert!(kept(&step).contains(&format!("\"proxy\": \"{}\"", forward_proxy.url())), "{}", kept(&step));
    let step = step.without("HTTPS_PROXY");
    step.pipe().ok();
    // The CA of the cluster is private, so it is still needed.
    assert!(!kept(&step).contains("proxy") && kept(&step).contains("BEGIN CERTIFICATE"), "{}", kept(&step));
}

fn a_temporary_overload_of_the_forward_proxy_is_retried() {
    for (kind, status) in [(ForwardProxyKind::Http, 503), (ForwardProxyKind::Socks5, 1)] {
        let cluster = unresolvable_cluster().start();
        let forward_proxy = ForwardProxy::start(kind, ForwardProxyBehavior::RespondsOnce(status));
        with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url()).pipe().ok();
    }
}

fn ssh_explains_each_error_of_the_forward_proxy_in_one_line() {
    let cluster = unresolvable_cluster().start();
    let forward_proxy = ForwardProxy::with_credentials(ForwardProxyKind::Http, USER, PASSWORD);
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url_with(ENCODED));
    step.pipe().ok();
    let step = without_proxy_settings(step);
    let error = |step: &Step| {
        let output = step.ssh(&[&Step::node(&cluster), "true"]);
        assert_eq!(output.status, Some(255), "{}", output.stderr);
        let lines: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("teleport-pipe: ")).collect();
        step.scrubbed(&lines.join("\n"))
    };
    let kept = fs::read_to_string(step.file("network.json")).unwrap();
    fs::write(step.file("network.json"), kept.replace("sesame", "simsim")).unwrap();
    expect_file!["golden/proxy_command/forward-proxy-credentials.txt"].assert_eq(&error(&step));
    fs::write(step.file("network.json"), kept.replace("\"proxy\"", "\"prxy\"")).unwrap();
    expect_file!["golden/proxy_command/network-file-broken.txt"].assert_eq(&error(&step));
    fs::write(step.file("network.json"), kept).unwrap();
    drop(forward_proxy);
    expect_file!["golden/proxy_command/forward-proxy-gone.txt"].assert_eq(&error(&step));
}

/// A failure with this forward proxy, at this URL.
fn failure(
    name: &'static str,
    forward_proxy: impl Fn() -> ForwardProxy + 'static,
    url: impl Fn(&ForwardProxy) -> String + 'static,
) -> Failure {
    Failure::new(name, 5).at(unresolvable_cluster()).with(move |step, _| {
        let forward_proxy = forward_proxy();
        with_forward_proxy(step, &forward_proxy, &url(&forward_proxy)).keep(forward_proxy)
    })
}

fn behaving(name: &'static str, kind: ForwardProxyKind, behavior: ForwardProxyBehavior) -> Failure {
    failure(name, move || ForwardProxy::start(kind, behavior.clone()), |forward_proxy| forward_proxy.url_with(ENCODED))
}

fn with_credentials(name: &'static str, kind: ForwardProxyKind, credentials: &'static str) -> Failure {
    let forward_proxy = move || ForwardProxy::with_credentials(kind, USER, PASSWORD);
    failure(name, forward_proxy, move |forward_proxy| forward_proxy.url_with(credentials))
}

/// A forward proxy of one kind, with the scheme of another kind in its URL.
fn with_other_scheme(
    name: &'static str,
    scheme: &'static str,
    kind: ForwardProxyKind,
    behavior: ForwardProxyBehavior,
) -> Failure {
    let forward_proxy = move || ForwardProxy::start(kind, behavior.clone());
    failure(name, forward_proxy, move |forward_proxy| {
        format!("{scheme}://{ENCODED}@localhost:{}", forward_proxy.port())
    })
}

fn variable(name: &'static str, url: &'static str) -> Failure {
    Failure::new(name, 2).env("HTTPS_PROXY", url)
}

const PAGE: &str =
    "<!DOCTYPE html><html><head><title>Access denied:\n category \"remote access\"</title></head></html>";

/// Failures that end the run without a retry.
pub(crate) fn permanent_failures() -> Vec<Failure> {
    use ForwardProxyKind::{Http, Https, Socks5};
    const BAD_REQUEST: ForwardProxyBehavior =
        ForwardProxyBehavior::Sends(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    vec![
        with_credentials("forward-proxy-requires-credentials", Http, ""),
        with_credentials("forward-proxy-credentials-wrong", Http, "CORP%5Cdeploy:open-simsim-of-the-company"),
        with_credentials("forward-proxy-requires-credentials-socks5", Socks5, ""),
        with_credentials("forward-proxy-credentials-wrong-socks5", Socks5, "CORP%5Cdeploy:open-simsim-of-the-company"),
        behaving(
            "forward-proxy-requires-negotiate",
            Http,
            ForwardProxyBehavior::Responds(407, "Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n", ""),
        ),
        behaving(
            "forward-proxy-refuses",
            Http,
            ForwardProxyBehavior::Responds(403, "Content-Type: text/html\r\n", PAGE),
        ),
        behaving(
            "forward-proxy-refuses-with-plain-text",
            Https,
            ForwardProxyBehavior::Responds(403, "Content-Type: text/plain\r\n", "\x1b[31mno\r\n"),
        ),
        // A page that says why in the place of the cluster, as if the connection were there.
        behaving(
            "forward-proxy-answers-with-a-page",
            Http,
            ForwardProxyBehavior::Responds(200, "Content-Type: text/html\r\n", PAGE),
        ),
        behaving(
            "forward-proxy-answers-with-http",
            Http,
            ForwardProxyBehavior::Responds(200, "", "HTTP/1.1 403 Forbidden\r\n\r\n"),
        ),
        behaving(
            "forward-proxy-connects-to-another-service",
            Https,
            ForwardProxyBehavior::Responds(200, "", "220 mail.example.com ESMTP\r\n"),
        ),
        behaving("forward-proxy-refuses-socks5", Socks5, ForwardProxyBehavior::Responds(2, "", "")),
        behaving("forward-proxy-is-ssh", Http, ForwardProxyBehavior::Sends(b"SSH-2.0-OpenSSH_10.0\r\n")),
        behaving("forward-proxy-is-ssh-not-socks5", Socks5, ForwardProxyBehavior::Sends(b"SSH-2.0-OpenSSH_10.0\r\n")),
        with_other_scheme("forward-proxy-with-tls", "http", Https, ForwardProxyBehavior::Works),
        with_other_scheme("forward-proxy-is-http-not-socks5", "socks5", Http, BAD_REQUEST),
        with_other_scheme("forward-proxy-without-tls", "https", Http, BAD_REQUEST),
        Failure::new("forward-proxy-not-trusted", 5).at(unresolvable_cluster()).with(|step, _| {
            let forward_proxy = ForwardProxy::start(Https, ForwardProxyBehavior::Works);
            with_forward_proxy(step, &forward_proxy, &forward_proxy.url()).without("SSL_CERT_FILE").keep(forward_proxy)
        }),
        variable("forward-proxy-of-another-scheme", "ftp://deploy:open-sesame-of-the-company@proxy.example:3128"),
        variable("forward-proxy-is-not-a-url", "http://deploy:open-sesame/of-the-company@proxy.example:3128"),
    ]
}

/// Failures that are retried without success.
pub(crate) fn retried_failures() -> Vec<Failure> {
    use ForwardProxyKind::{Http, Https, Socks5};
    vec![
        behaving("forward-proxy-closed", Http, ForwardProxyBehavior::Closed),
        failure(
            "forward-proxy-does-not-resolve",
            || ForwardProxy::start(Http, ForwardProxyBehavior::Works),
            |_| format!("http://{ENCODED}@proxy.invalid:3128"),
        ),
        behaving("forward-proxy-disconnects", Http, ForwardProxyBehavior::ClosesOnRequest),
        behaving("forward-proxy-disconnects-socks5", Socks5, ForwardProxyBehavior::ClosesOnRequest),
        behaving(
            "forward-proxy-cannot-connect",
            Https,
            ForwardProxyBehavior::Responds(502, "Content-Type: text/html\r\n", "<title>Bad Gateway</title>"),
        ),
        behaving("forward-proxy-cannot-connect-socks5", Socks5, ForwardProxyBehavior::Responds(4, "", "")),
    ]
}

/// Failures in which the forward proxy stays silent until the timeout.
pub(crate) fn hanging_failures() -> Vec<Failure> {
    let hangs = |name, kind| {
        Failure::new(name, 5).at(unresolvable_cluster()).with(move |step, _| {
            let forward_proxy = ForwardProxy::start(kind, ForwardProxyBehavior::Hangs);
            with_forward_proxy(step, &forward_proxy, &forward_proxy.url_with(ENCODED))
                .env("TIMEOUT", "3s")
                .keep(forward_proxy)
        })
    };
    vec![
        hangs("forward-proxy-hangs", ForwardProxyKind::Http),
        hangs("forward-proxy-hangs-socks5", ForwardProxyKind::Socks5),
    ]
}

/// They would go through the forward proxy without a word. A list that is not used is not looked at.
fn entries_of_no_proxy_that_never_match_are_named() {
    let cluster = unresolvable_cluster().start();
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works);
    let list = "a;x, https://y.example/, proxy.*  *corp.example,fine.example .fine.example 10.0.0.0/8";
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url()).env("NO_PROXY", list);
    let log = step.pipe().ok().stderr;
    let warnings: Vec<_> = log.lines().filter_map(|line| line.split_once("warning: NO_PROXY has ")).collect();
    let named: Vec<_> = warnings.iter().filter_map(|(_, text)| text.split('`').nth(1)).collect();
    assert_eq!(named, ["a;x", "https://y.example/", "proxy.*", "*corp.example"], "{log}");

    let checks = step.env("ACTION", "doctor").pipe().ok().stdout;
    assert_eq!(checks.matches("      warning: NO_PROXY has ").count(), 4, "{checks}");
    let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &forward_proxy.url());
    let log = step.env("NO_PROXY", "http://user:S3cretPassw0rd@x.example").pipe().ok().stderr;
    assert!(log.contains("an entry with `@` (not shown)") && !log.contains("S3cret"), "{log}");

    let direct = Testcluster::start();
    let log = Step::new(&direct).env("NO_PROXY", list).pipe().ok().stderr;
    assert!(!log.contains("NO_PROXY"), "{log}");
}

fn permanent_failures_are_not_retried() {
    check(permanent_failures());
}

fn temporary_failures_are_retried_until_the_run_gives_up() {
    check_at_once(retried_failures);
}

fn a_silent_forward_proxy_ends_the_run_after_the_timeout() {
    check_silence(hanging_failures());
}

/// F11, for the other secret that a server gets, and for one in TOKEN that is not the name of a join token.
fn credentials_that_a_forward_proxy_quotes_are_not_printed() {
    const WRONG_TOKEN: &str = "4c2e0d5b8f6a41d7a1c93e0b5d7f2a68";
    let cluster = unresolvable_cluster().start();
    let basic = Base64::encode_string(format!("{USER}:{PASSWORD}").as_bytes());
    let body: &'static str = format!("denied: Basic {basic} {PASSWORD} {ENCODED} {WRONG_TOKEN}").leak();
    let behavior = ForwardProxyBehavior::Responds(403, "Content-Type: text/plain\r\n", body);
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, behavior);
    let url = forward_proxy.url_with(ENCODED);
    for (args, format) in [(&[][..], "text"), (&[], "json"), (&["doctor"], "text"), (&["doctor"], "json")] {
        let step = with_forward_proxy(Step::new(&cluster), &forward_proxy, &url);
        let step = step.env("TELEPORT_PROXY", &cluster.proxy_addr()).env("TOKEN", WRONG_TOKEN).env("FORMAT", format);
        let output = step.product(args);
        assert_eq!(output.status, Some(5), "{}", output.stderr);
        let printed = output.stdout.clone() + &output.stderr;
        assert!(printed.contains("denied: ") && !printed.contains(WRONG_TOKEN), "{printed}");
        assert_eq!(output.stdout.contains("\"message\":"), format == "json", "{printed}");
        Secrets::from_step(&step).check(&output, "the forward proxy quotes");
    }
}
