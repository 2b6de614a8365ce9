//! The product's main task: from the ID token of a step to `hello world` over ssh.

use expect_test::expect_file;
use testcluster::{EventKind, Fault, JoinService, Role, Route, Suite, SuiteInFind, Testcluster};

use crate::guard;
use crate::harness::stories;
use crate::machine::TIME;
use crate::step::Step;

stories! {
    ssh_logs_in_after_the_pipe,
    the_log_has_a_line_for_each_stage,
    variables_without_effect_are_a_warning,
    the_log_has_times_and_in_ci_also_colours,
    the_log_explains_a_long_wait needs TIME,
    the_command_of_the_guide_works,
    ssh_needs_nothing_but_the_directory,
    every_signature_suite_works,
    a_suite_as_a_number_works,
    the_bot_joins_by_rest_if_there_is_no_join_service,
    long_cluster_names_work,
    a_run_makes_three_connections_and_six_calls,
    the_suggested_ssh_command_finds_the_ssh_config,
    a_second_run_replaces_the_files_of_the_first,
}

#[track_caller]
fn hello(step: &Step, cluster: &Testcluster) {
    let output = step.ssh(&[&Step::node(cluster), "echo", "hello world"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello world\n", ""));
}

fn ssh_logs_in_after_the_pipe() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    hello(&step, &cluster);
}

fn the_log_has_a_line_for_each_stage() {
    let role = Role::new("example-role", ["deploy", "backup"]);
    let cluster = Testcluster::builder().role(role).start();
    let step = guard::with_pipelines(Step::new(&cluster));
    let output = step.pipe().ok();
    assert_eq!(output.stdout, "");
    expect_file!["golden/log/pipe.log"].assert_eq(&step.scrubbed(&output.stderr));
}

fn variables_without_effect_are_a_warning() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("PROXY", "x").env("SCOPE", "branch");
    let log = step.scrubbed(&step.pipe().ok().stderr);
    let mut warnings = log.lines().filter(|line| line.starts_with("variables ")).map(|line| line[14..].to_owned());
    let unknown = "warning: unknown variable PROXY, ignored; did you mean PROXY_SERVER?";
    assert_eq!(warnings.next().as_deref(), Some(unknown), "{log}");
    assert_eq!(warnings.next().as_deref(), Some("warning: SCOPE is for ACTION: 'inspect', ignored"), "{log}");
    assert_eq!(warnings.next(), None);
}

fn the_log_has_times_and_in_ci_also_colours() {
    let cluster = Testcluster::start();
    let log = |step: Step| step.pipe().ok().stderr;
    let plain = log(Step::new(&cluster));
    assert!(!plain.contains('\u{1b}'), "{plain}");
    // The last line is the command to copy.
    for line in plain.lines().filter(|line| !line.starts_with("ssh -F ")) {
        let time = line.trim_start().split_once("s ").map(|(time, _)| time.parse::<f32>());
        assert!(matches!(time, Some(Ok(_))), "{line}");
    }
    // Neither a pipe nor this test has a terminal.
    let coloured = log(Step::new(&cluster).without("NO_COLOR"));
    assert!(coloured.contains("\u{1b}[34mtoken "), "{coloured}");
    assert!(coloured.contains("\u{1b}[32mcredentials for the logins "), "{coloured}");
    let outside_of_ci = log(Step::new(&cluster).without("NO_COLOR").without("CI"));
    assert!(!outside_of_ci.contains('\u{1b}'), "{outside_of_ci}");
    let error = Step::new(&cluster).without("NO_COLOR").env("TTL", "soon").pipe().stderr;
    assert!(error.contains("\u{1b}[31merror: TTL is `soon`, which is not a duration\u{1b}[0m\n"), "{error}");
}

fn the_log_explains_a_long_wait() {
    let expect_wait = |fault: Fault, stage: &str, what: &str| {
        let cluster = Testcluster::builder().fault(fault).start();
        let log = Step::new(&cluster).env("TIMEOUT", "8s").pipe().stderr;
        let is_wait = |line: &str| line.contains(stage) && line.contains("waiting for ") && line.ends_with(what);
        assert!(log.lines().any(is_wait), "{log}");
    };
    expect_wait(Fault::Hang, "discover", "(a TLS handshake)");
    expect_wait(Fault::JoinStalls, "join", "(the join service)");
}

fn the_command_of_the_guide_works() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).without("PROXY_SERVER").without("TOKEN");
    let proxy = format!("--proxy-server={}", cluster.proxy_addr());
    let guide = [
        "start",
        "identity",
        "--destination=./tbot-user",
        "--join-method=bitbucket",
        &proxy,
        "--token=example-bot",
        "--oneshot",
    ];
    step.product(&guide).ok();
    hello(&step, &cluster);
    step.product(&[&guide[..], &["--storage=memory://"]].concat()).ok();
    hello(&step, &cluster);
}

fn ssh_needs_nothing_but_the_directory() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    // There are neither the variables of the step nor other Teleport software. The ProxyCommand is in the directory.
    let output = step
        .command("ssh", &["-F", "./tbot-user/ssh_config", &Step::node(&cluster), "true"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn every_signature_suite_works() {
    for suite in [Suite::Unspecified, Suite::Legacy, Suite::BalancedV1, Suite::FipsV1, Suite::HsmV1] {
        let cluster = Testcluster::builder().suite(suite).start();
        let step = Step::new(&cluster);
        step.pipe().ok();
        hello(&step, &cluster);
        let legacy = matches!(suite, Suite::Unspecified | Suite::Legacy);
        for event in cluster.record() {
            if let EventKind::Key { kind, .. } = event.kind {
                assert_eq!(kind, if legacy { "RSA-2048" } else { "P-256" }, "{suite:?}");
            }
        }
    }
}

fn a_suite_as_a_number_works() {
    let cluster = Testcluster::builder().suite(Suite::FipsV1).suite_in_find(SuiteInFind::Number).start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    hello(&step, &cluster);
}

fn the_bot_joins_by_rest_if_there_is_no_join_service() {
    for (service, rest, calls) in
        [(JoinService::Present, false, 1), (JoinService::Absent, true, 2), (JoinService::WithoutMethod, true, 2)]
    {
        let cluster = Testcluster::builder().join_service(service).rest_join(rest).start();
        let step = Step::new(&cluster);
        step.pipe().ok();
        hello(&step, &cluster);
        let joins = cluster
            .calls()
            .into_iter()
            .filter(|call| call.name.ends_with("JoinService/Join") || call.name.ends_with("/webapi/host/credentials"));
        assert_eq!(joins.count(), calls, "{service:?}: {:?}", cluster.calls());
    }
}

fn long_cluster_names_work() {
    for length in [31, 32, 109] {
        let cluster = Testcluster::builder().name("c".repeat(length)).start();
        let step = Step::new(&cluster);
        step.pipe().ok();
        hello(&step, &cluster);
    }
}

fn a_run_makes_three_connections_and_six_calls() {
    let cluster = Testcluster::start();
    Step::new(&cluster).pipe().ok();
    let mut routes: Vec<_> = cluster
        .record()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::Connection { route, .. } => Some(route),
            _ => None,
        })
        .collect();
    routes.sort_by_key(|route| format!("{route:?}"));
    assert_eq!(routes, [Some(Route::Auth), Some(Route::Join), Some(Route::Web)]);

    let calls: Vec<_> = cluster.calls();
    let names: Vec<_> = calls.iter().map(|call| call.name.rsplit('/').next().unwrap()).collect();
    assert_eq!(calls.len(), 6, "{names:?}");
    assert_eq!(names.last(), Some(&"GenerateUserCerts"));
    // A future cluster may refuse a client version that is too old, but it accepts requests without a version.
    let has_version = |event: &testcluster::Event| matches!(&event.kind, EventKind::Call { version: Some(_), .. });
    assert!(!cluster.record().iter().any(has_version));
}

fn the_suggested_ssh_command_finds_the_ssh_config() {
    let cluster = Testcluster::start();
    for destination in ["creds", "deep/er", "not-there/../creds", "it's mine"] {
        let step = Step::new(&cluster).env("DESTINATION", destination);
        let log = step.pipe().ok().stderr;
        let next = log.lines().last().unwrap();
        let config = next.strip_prefix("ssh -F ").unwrap().rsplit_once(' ').unwrap().0;
        step.run("sh", &["-c", &format!("test -f {config}")]).ok();
    }
}

fn a_second_run_replaces_the_files_of_the_first() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let before = std::fs::read(step.file("key")).unwrap();
    step.pipe().ok();
    assert_ne!(before, std::fs::read(step.file("key")).unwrap());
    hello(&step, &cluster);
}
