//! `doctor` checks each step to the cluster, prints a line for it, and does not join.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
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
    the_exit_status_is_that_of_the_join,
    nothing_is_created_or_changed,
    the_owner_and_the_warnings_of_the_step_are_shown,
    other_destinations_are_checked_outside_of_ci_if_they_are_named,
    versions_whose_nodes_lack_their_full_names_are_mentioned,
    an_old_cluster_is_explained_as_by_the_join,
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
    let uid = fs::metadata(step.dir()).unwrap().uid();
    let line = |line: &str| {
        let line = line.rsplit_once(" [").filter(|(_, end)| end.ends_with(" ms]")).map_or(line, |(head, _)| head);
        let line = with_number(&line.replace(&machine, "MACHINE"), " accepts after ", " ms", "0");
        let line = with_number(&line, ", valid for ", " days", "N");
        // This test and the product run as the same user.
        let line = line.replace(&format!("would belong to user {uid}"), "would belong to user UID");
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
        output.stdout.contains("   -  ID token           this is not a CI system whose ID tokens are known\n"),
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

const EVERYTHING: &str = "pipelines:
  default:
    - step:
        oidc: true
        script: [pipe: docker://ghcr.io/example/teleport-pipe:1.0.0]
        artifacts: ['**']
";

/// The text without the time that each check took.
fn without_time(text: &str) -> String {
    let line = |line: &str| {
        line.rsplit_once(" [").filter(|(_, end)| end.ends_with(" ms]")).map_or(line, |(head, _)| head).to_owned()
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// Doctor ends with the exit status of this join that failed, and has its words in the first row that fails.
#[track_caller]
pub(crate) fn expect_same(doctor: &Output, joined: &Output) {
    let error = joined.stderr.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
    let row = doctor.stdout.lines().find_map(|line| line.strip_prefix("FAIL  "));
    let row = row.unwrap_or_else(|| panic!("{doctor:?}"));
    assert_eq!((doctor.status, row.get(19..)), (joined.status, Some(error)), "{doctor:?}");
}

/// What doctor finds where the join ends, it finds with the join's exit status and words.
fn the_exit_status_is_that_of_the_join() {
    type Change = fn(Step) -> Step;
    let cases: [(&str, i32, Change); 13] = [
        ("destination", 6, |step| {
            fs::create_dir(step.dir().join("tbot-user")).unwrap();
            fs::write(step.file("notes.txt"), "mine").unwrap();
            step
        }),
        ("destination", 6, |step| {
            fs::write(step.dir().join("tbot-user"), "a file").unwrap();
            step
        }),
        ("destination", 6, |step| {
            symlink("elsewhere", step.dir().join("tbot-user")).unwrap();
            step
        }),
        ("destination", 2, |step| step.env("DESTINATION", "/")),
        ("destination", 6, |step| step.env("FILE_OWNER", "4294967294")),
        ("destination", 2, |step| step.env("DESTINATION", "a\"b")),
        ("leak check", 2, |step| {
            fs::write(step.dir().join("bitbucket-pipelines.yml"), EVERYTHING).unwrap();
            step
        }),
        ("leak check", 2, |step| step.env("LEAK_CHECK", "error")),
        ("leak check", 2, |step| {
            let storage = step.dir().join("creds");
            step.env("DESTINATION", "creds").env("BITBUCKET_PIPE_STORAGE_DIR", storage.to_str().unwrap())
        }),
        ("authorities", 2, |step| step.env("CA_FILE", "no-such-file.pem")),
        ("", 2, |step| step.env("TTL", "60")),
        ("", 2, |step| step.env("DESTINATION", "~/x")),
        ("", 2, |step| step.env("TOKEN", "two words")),
    ];
    for (n, (row, status, change)) in cases.into_iter().enumerate() {
        let cluster = Testcluster::start();
        let step = change(doctor_step(&cluster));
        // A user namespace of the tests' own may have that user.
        let output = step.pipe();
        let joined = step.without("ACTION").pipe();
        if row == "destination" && joined.status == Some(0) {
            continue;
        }
        assert_eq!((output.status, joined.status), (Some(status), Some(status)), "{n}: {output:?}\n{joined:?}");
        if row.is_empty() {
            let error = joined.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
            assert!(output.stderr.contains(error), "{n}: {output:?}");
            continue;
        }
        expect_same(&output, &joined);
        assert!(output.stdout.contains(&format!("\nFAIL  {row:<19}")), "{n}: {output:?}");
        // The network is checked nevertheless.
        let reached = output.stdout.contains("  ok  transport service  ");
        assert!(reached || row == "authorities", "{n}: {output:?}");
    }
}

/// All entries below a directory, with what `stat` says of each, but for the time of the last access.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let stat = path.symlink_metadata().unwrap();
        let numbers = [stat.ino(), stat.mode().into(), stat.uid().into(), stat.gid().into(), stat.nlink(), stat.size()];
        let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
        if stat.is_dir() {
            open.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, format!("{numbers:?} {times:?}"));
    }
    found
}

fn nothing_is_created_or_changed() {
    type Change = fn(&Step);
    let cases: [(&str, Change); 5] = [
        ("./tbot-user", |_| {}),
        ("deep/er/creds", |_| {}),
        // After a join, and with the files of a run that was killed.
        ("./tbot-user", |step| drop(step.product(&["join"]).ok())),
        ("open", |step| {
            fs::create_dir(step.dir().join("open")).unwrap();
            fs::set_permissions(step.dir().join("open"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("taken", |step| {
            fs::create_dir(step.dir().join("taken")).unwrap();
            fs::write(step.dir().join("taken/mine"), "").unwrap();
        }),
    ];
    for (destination, change) in cases {
        let cluster = Testcluster::start();
        let step = doctor_step(&cluster).env("DESTINATION", destination);
        change(&step);
        let before = snapshot(step.dir());
        step.pipe();
        step.product(&["doctor", "--format=json"]);
        assert_eq!(snapshot(step.dir()), before, "{destination}");
    }
}

fn the_owner_and_the_warnings_of_the_step_are_shown() {
    let cluster = Testcluster::start();
    let step = doctor_step(&cluster);
    let uid = step.dir().metadata().unwrap().uid();
    let file = step.dir().join("bitbucket-pipelines.yml");
    fs::write(&file, EVERYTHING.replace("        artifacts: ['**']\n", "")).unwrap();
    let output = step.pipe().ok();
    let row = format!("tbot-user can be created; the files would belong to user {uid}\n");
    assert!(output.stdout.contains(&row), "{}", output.stdout);
    assert!(output.stdout.contains("  ok  leak check         nothing of the step was found"), "{}", output.stdout);
    // The step's own user could not read them.
    let user = if uid == 4711 { 4712 } else { 4711 };
    let own_user = format!("image: {{name: x, run-as-user: {user}}}\n{}", fs::read_to_string(&file).unwrap());
    fs::write(&file, own_user).unwrap();
    let output = step.pipe().ok();
    let warning = "      warning: the step has `run-as-user: ";
    let more = format!("{warning}{user}`, who could not read the files: create the directory in the step before ");
    assert!(output.stdout.contains(&(row.clone() + &more)), "{}", output.stdout);
    if uid == 0 {
        // Only root can give the files to that user.
        let step = doctor_step(&cluster).env("FILE_OWNER", &user.to_string());
        fs::copy(&file, step.dir().join("bitbucket-pipelines.yml")).unwrap();
        let output = step.pipe().ok();
        assert!(output.stdout.contains(&format!("would belong to user {user}\n")), "{}", output.stdout);
        assert!(!output.stdout.contains(warning), "{}", output.stdout);
    }
    // What the join logs as a warning is below the row, and not in the log.
    let step = step.env("LEAK_CHECK", "warn");
    fs::write(&file, EVERYTHING).unwrap();
    let output = step.pipe().ok();
    let warning =
        output.stdout.lines().find_map(|line| line.strip_prefix("      warning: artifacts of the step take "));
    let joined = step.product(&["join"]).ok();
    assert!(joined.stderr.contains(warning.unwrap()) && output.stderr.is_empty(), "{output:?}\n{joined:?}");
    let output = step.env("LEAK_CHECK", "off").pipe().ok();
    assert!(output.stdout.contains("tbot-user is there and can be written; "), "{}", output.stdout);
    assert!(output.stdout.contains("   -  leak check         not checked: LEAK_CHECK is off\n"), "{}", output.stdout);
}

fn other_destinations_are_checked_outside_of_ci_if_they_are_named() {
    let cluster = Testcluster::start();
    let proxy = cluster.proxy_addr();
    let ca = cluster.web_ca_file().to_str().unwrap().to_owned();
    let step = Step::empty().env("SSL_CERT_FILE", &ca);
    fs::write(step.dir().join("file"), "").unwrap();
    let output = step.product(&["doctor", &proxy, "--destination=creds"]).ok();
    assert!(output.stdout.contains("/creds can be created; "), "{}", output.stdout);
    assert!(output.stdout.contains("   -  leak check         not tried: this is not a CI system"), "{}", output.stdout);
    let output = step.product(&["doctor", &proxy, "--destination=file"]);
    assert_eq!(output.status, Some(6), "{output:?}");
    let step = step.env("DESTINATION", "file");
    assert_eq!(step.product(&["doctor", &proxy]).status, Some(6));
    // In CI, the default is checked.
    let output = step.without("DESTINATION").env("CI", "true").env("NO_COLOR", "1").product(&["doctor", &proxy]).ok();
    assert!(output.stdout.contains("/tbot-user can be created; "), "{}", output.stdout);
}

fn versions_whose_nodes_lack_their_full_names_are_mentioned() {
    for (version, is_mentioned) in [
        ("18.2.9", true),
        ("18.2.2", true),
        ("18.2.1", false),
        ("18.2.10", false),
        ("18.1.5", false),
        ("17.2.0", false),
    ] {
        let (_cluster, step) = at(Testcluster::builder().version(version));
        let output = step.pipe().ok();
        let remark =
            format!("      warning: the proxy is Teleport {version}; nodes that joined with 18.2.2 to 18.2.7 ");
        assert_eq!(output.stdout.contains(&remark), is_mentioned, "{}", output.stdout);
        // A join that works is quiet about it.
        let step = step.without("ACTION");
        assert!(!step.pipe().ok().stderr.contains("18.2.7 have"));
        assert_eq!(step.product(&["-d"]).ok().stderr.contains("18.2.7 have"), is_mentioned);
    }
}

/// The join fails at REST, and doctor sees the version.
fn an_old_cluster_is_explained_as_by_the_join() {
    for version in ["16.4.0", "17.0.1", "15.0.0"] {
        let (_cluster, step) =
            at(Testcluster::builder().version(version).join_service(JoinService::Absent).rest_join(false));
        let (output, joined) = (step.pipe(), step.without("ACTION").pipe());
        assert_eq!((output.status, joined.status), (Some(4), Some(4)), "{output:?}\n{joined:?}");
        let (_, error) = joined.stderr.split_once("error: ").unwrap();
        assert!(error.starts_with(&format!("the cluster is Teleport {version}, which cannot join by ")), "{error}");
        let row: String = without_time(&output.stdout)
            .lines()
            .skip_while(|line| !line.starts_with("FAIL  cluster"))
            .take(3)
            .map(|line| line.trim_start_matches("FAIL  cluster").trim_start().to_owned() + "\n")
            .collect();
        let error: String = error.lines().map(|line| line.trim_start().to_owned() + "\n").collect();
        assert_eq!(row, error);
    }
}
