//! Jobs of other platforms than Bitbucket Pipelines.

use std::path::Path;
use std::time::Duration;

use expect_test::{ExpectFile, expect_file};
use serde_json::Value;
use testcluster::{
    AllowRule, Builder, EndpointFault, ForwardProxy, ForwardProxyBehavior, ForwardProxyKind, JoinService, Testcluster,
};

use crate::failure::report;
use crate::harness::stories;
use crate::inspect::{documents, without_ages};
use crate::step::{Output, Step};

stories! {
    a_job_of_every_platform_joins,
    ssh_works_in_a_job_of_github,
    every_rule_field_can_deny_a_job,
    the_printed_token_admits_the_job_that_printed_it,
    inspect_prints_the_resources_of_each_platform,
    an_endpoint_is_asked_beside_discovery,
    endpoints_that_fail_are_explained,
    an_endpoint_that_fails_once_is_asked_again,
    an_endpoint_gets_the_access_token_and_no_one_else,
    a_metadata_server_is_asked_without_a_forward_proxy,
    doctor_sees_the_id_token_of_every_platform,
    doctor_looks_at_the_endpoint,
    a_platform_without_an_id_token_is_explained,
    two_platforms_are_an_error_that_asks,
    a_ci_system_comes_before_what_it_runs_on,
    a_public_repository_of_github_has_a_public_log,
    methods_that_only_tbot_has_are_refused_by_name,
}

/// Each method, its narrowest rule, and a rule for each of its other fields that fits the job as well.
const METHODS: [(&str, &[(&str, &str)]); 10] = [
    (
        "github",
        &[
            ("repository", "acme/infrastructure"),
            ("environment", "production"),
            ("sub", "repo:acme/infrastructure:environment:production"),
            ("repository_owner", "acme"),
            ("workflow", "deploy"),
            ("actor", "alice"),
            ("ref", "refs/heads/main"),
            ("ref_type", "branch"),
        ],
    ),
    (
        "gitlab",
        &[
            ("project_path", "acme/infrastructure"),
            ("ref", "main"),
            ("ref_type", "branch"),
            ("namespace_path", "acme"),
            ("pipeline_source", "push"),
            ("user_login", "alice"),
            ("ref_protected", "true"),
        ],
    ),
    (
        "circleci",
        &[
            ("project_id", "2d5e3c8e-3f6f-4a6c-8b0a-6f9a4e0c7b12"),
            ("context_id", "6b8f2c1a-7e7d-4d3b-9f4f-1c2d3e4f5a13"),
        ],
    ),
    (
        "azure_devops",
        &[
            ("project_name", "infrastructure"),
            ("pipeline_name", "deploy"),
            ("sub", "p://acme/infrastructure/deploy"),
            ("project_id", "271ef6f7-5998-4b0a-86fb-4b54d9129990"),
            ("definition_id", "1"),
            ("repository_uri", "https://github.com/acme/infrastructure.git"),
            ("repository_ref", "refs/heads/main"),
        ],
    ),
    (
        "spacelift",
        &[("space_id", "root"), ("caller_id", "infrastructure"), ("caller_type", "stack"), ("scope", "write")],
    ),
    (
        "terraform_cloud",
        &[
            ("organization_id", "org-abcd1234"),
            ("workspace_id", "ws-abcd1234"),
            ("project_id", "prj-abcd1234"),
            ("run_phase", "apply"),
            ("organization_name", "acme"),
            ("project_name", "ops"),
            ("workspace_name", "infrastructure"),
        ],
    ),
    (
        "env0",
        &[
            ("organization_id", "b8c0c5c2-2f8e-4f6f-9f0d-5b1d2c3e4f14"),
            ("project_id", "5b44fa6d-ecfd-40ab-8e69-14d6fe7c638c"),
            ("environment_id", "9c3ca3cf-870d-4db4-9c60-5adf37faab45"),
            ("deployment_type", "deploy"),
            ("project_name", "ops"),
            ("template_name", "infrastructure"),
        ],
    ),
    ("kubernetes", &[("service_account", "ci:deploy")]),
    (
        "gcp",
        &[
            ("project_ids", "acme-123456"),
            ("service_accounts", "deploy@acme-123456.iam.gserviceaccount.com"),
            ("locations", "us-west1"),
        ],
    ),
    ("generic_oidc", &[("sub", "job:acme/infrastructure")]),
];

fn builder(method: &str, rule: &[(&str, &str)]) -> Builder {
    Testcluster::builder().join_method(method, [AllowRule::new(rule.iter().copied())])
}

fn cluster(method: &str) -> Testcluster {
    let (_, rule) = METHODS.iter().find(|(name, _)| *name == method).unwrap();
    builder(method, &rule[..1]).start()
}

/// A job of the platform, in a directory of its own.
pub(crate) fn job(cluster: &Testcluster, fault: Option<EndpointFault>) -> (Step, testcluster::Job) {
    let step = Step::outside(cluster);
    let job = cluster.job(step.dir(), fault);
    let step = job.env().iter().fold(step, |step, (name, value)| step.env(name, value));
    // They are not detected, because they have no variable of their own.
    let named = [("GCE_METADATA_HOST", "gcp"), ("ID_TOKEN_VARIABLE", "generic_oidc")];
    let method = named.into_iter().find(|(variable, _)| job.env().iter().any(|(name, _)| name == variable));
    let step = method.into_iter().fold(step, |step, (_, method)| step.env("JOIN_METHOD", method));
    (step, job)
}

fn a_job_of_every_platform_joins() {
    for (method, rule) in METHODS {
        for service in [JoinService::Present, JoinService::Absent] {
            let cluster = builder(method, rule).join_service(service).start();
            let (step, _job) = job(&cluster, None);
            let output = step.pipe();
            assert_eq!(output.status, Some(0), "{method} {service:?}: {}", output.stderr);
            assert!(step.file("ssh_config").exists() && step.file("identity").exists(), "{method}");
        }
    }
}

fn ssh_works_in_a_job_of_github() {
    let cluster = cluster("github");
    let (step, _job) = job(&cluster, None);
    step.pipe().ok();
    let output = step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok();
    assert_eq!(output.stdout, "hello\n");
}

fn every_rule_field_can_deny_a_job() {
    for (method, rule) in METHODS {
        for field in testcluster::rule_fields(method) {
            let mut other: Vec<_> = rule.iter().copied().filter(|(name, _)| *name != field).collect();
            other.push((field, "elsewhere"));
            let cluster = builder(method, &other).start();
            let (step, _job) = job(&cluster, None);
            let output = step.pipe();
            assert_eq!(output.status, Some(4), "{method} {field}: {}", output.stderr);
            let token_spec = format!("    join_method: {method}\n");
            assert!(output.stderr.contains("match any allow rules"), "{method} {field}: {}", output.stderr);
            assert!(output.stderr.contains(&token_spec), "{method} {field}: {}", output.stderr);
            assert!(!step.file(".").exists(), "{method} {field}");
        }
    }
}

/// A cluster with the join token that `inspect` printed.
fn cluster_with(method: &str, output: &Output) -> Testcluster {
    let [_, _, token] = documents(output);
    let spec = &token["spec"];
    assert_eq!(spec["join_method"], method);
    let texts = |value: &Value| -> Vec<String> {
        match value {
            Value::Array(list) => list.iter().map(|item| item.as_str().unwrap().to_owned()).collect(),
            value => vec![value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()],
        }
    };
    // The join token of generic_oidc has conditions instead of fields.
    let conditions = |spec: &Value| -> Value {
        let conditions = spec["allow_any"][0]["conditions"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        conditions.map(|condition| (text(&condition["attribute"]), condition["eq"]["value"].clone())).collect()
    };
    let rules = spec[method]["allow"].as_array().cloned().unwrap_or_else(|| vec![conditions(&spec[method])]);
    let rules = rules.iter().map(|rule| {
        let fields = rule.as_object().unwrap().iter();
        AllowRule::new(fields.flat_map(|(name, value)| texts(value).into_iter().map(move |text| (name.clone(), text))))
    });
    Testcluster::builder().join_method(method, rules.collect::<Vec<_>>()).start()
}

fn the_printed_token_admits_the_job_that_printed_it() {
    for (method, _) in METHODS {
        let inspected = cluster(method);
        let (step, _job) = job(&inspected, None);
        let output = step.without("TOKEN").env("ACTION", "inspect").pipe().ok();
        let cluster = cluster_with(method, &output);
        let (step, _job) = job(&cluster, None);
        let joined = step.pipe();
        assert_eq!(joined.status, Some(0), "{method}: {}\n{}", joined.stderr, output.stdout);
    }
}

fn inspect_prints_the_resources_of_each_platform() {
    for (method, _) in METHODS {
        for format in ["tctl", "terraform"] {
            let cluster = cluster(method);
            let (step, _job) = job(&cluster, None);
            let output = step.env("ACTION", "inspect").env("FORMAT", format).env("LOGINS", "deploy");
            let output = (output.pipe().ok(), output);
            let text = without_ages(&output.1.scrubbed(&format!("{}{}", output.0.stderr, output.0.stdout)));
            golden(&format!("{method} {format}")).assert_eq(&text);
        }
    }
}

fn golden(case: &str) -> ExpectFile {
    let path = format!("{}/tests/it/golden/platforms/{}.txt", env!("CARGO_MANIFEST_DIR"), case.replace(' ', "_"));
    expect_file![Path::new(&path)]
}

fn an_endpoint_is_asked_beside_discovery() {
    // The cluster is slow: when the endpoint has answered, no call has arrived.
    let cluster = builder("github", &METHODS[0].1[..1]).latency(Duration::from_millis(400)).start();
    let (step, job) = job(&cluster, None);
    let running = step.command(Step::binary(), &[]).stderr(std::process::Stdio::null()).spawn();
    let began = std::time::Instant::now();
    while job.requests().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(cluster.calls().is_empty(), "{:?}", cluster.calls());
    assert!(running.unwrap().wait().unwrap().success());
    assert_eq!(job.requests().len(), 1);
}

fn endpoints_that_fail_are_explained() {
    for method in ["github", "azure_devops", "gcp"] {
        for (fault, exit) in [
            (EndpointFault::NotFound, 3),
            (EndpointFault::Forbidden, 3),
            (EndpointFault::Page, 3),
            (EndpointFault::Empty, 3),
            (EndpointFault::NoToken, 3),
            (EndpointFault::Redirect, 5),
            (EndpointFault::Silent, 5),
            (EndpointFault::OtherAudience, 4),
        ] {
            let cluster = cluster(method);
            let (step, job) = job(&cluster, Some(fault));
            let step = step.env("TIMEOUT", "6s");
            let output = step.pipe();
            assert_eq!(output.status, Some(exit), "{method} {fault:?}: {}", output.stderr);
            let host = job
                .env()
                .iter()
                .find_map(|(_, value)| value.split('/').find(|part| part.starts_with("127.0.0.1:")).map(str::to_owned));
            let step = step.scrub(host.unwrap(), "ENDPOINT");
            golden(&format!("{method} {fault:?}")).assert_eq(&report(&step, &output));
            let wrote = step.file(".").exists();
            assert!(!wrote, "{method} {fault:?}");
        }
    }
}

fn an_endpoint_that_fails_once_is_asked_again() {
    for method in ["github", "azure_devops", "gcp"] {
        let cluster = cluster(method);
        let (step, job) = job(&cluster, Some(EndpointFault::UnavailableOnce));
        step.pipe().ok();
        assert_eq!(job.requests().len(), 2);
    }
}

fn an_endpoint_gets_the_access_token_and_no_one_else() {
    let cluster = cluster("github");
    let (step, job) = job(&cluster, None);
    let output = step.env("DEBUG", "true").pipe().ok();
    let requests = job.requests();
    assert!(requests[0].contains("authorization: Bearer access-token-of-the-job"), "{requests:?}");
    assert!(!output.stderr.contains("access-token-of-the-job"), "{}", output.stderr);
    assert_eq!(requests.len(), 1);
}

fn a_metadata_server_is_asked_without_a_forward_proxy() {
    // Both addresses lead nowhere. That on this machine would not go through the forward proxy in any case.
    for (method, variable, value, expected) in [
        ("github", "ACTIONS_ID_TOKEN_REQUEST_URL", "https://token.example.test/?a=b", true),
        ("gcp", "GCE_METADATA_HOST", "metadata.example.test", false),
    ] {
        let cluster = cluster(method);
        let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works);
        let (step, _job) = job(&cluster, None);
        let step = step.env(variable, value).env("HTTPS_PROXY", &forward_proxy.url()).env("TIMEOUT", "3s");
        let output = step.pipe();
        assert_eq!(output.status, Some(5), "{method}: {}", output.stderr);
        let targets = forward_proxy.targets();
        assert_eq!(targets.iter().any(|target| target.contains("example.test")), expected, "{method}: {targets:?}");
    }
}

fn doctor_sees_the_id_token_of_every_platform() {
    for (method, rule) in METHODS {
        let cluster = builder(method, &rule[..1]).version("18.11.0").start();
        let (step, _job) = job(&cluster, None);
        let output = step.env("ACTION", "doctor").pipe().ok();
        assert!(output.stdout.contains("found, valid for"), "{method}: {output:?}");
    }
    let cluster = Testcluster::builder().join_method("token", []).start();
    let output = Step::outside(&cluster).env("JOIN_METHOD", "token").env("ACTION", "doctor").pipe().ok();
    assert!(output.stdout.contains("not needed: the join method is `token`"), "{output:?}");
}

fn doctor_looks_at_the_endpoint() {
    let cluster = cluster("github");
    let (step, jobs) = job(&cluster, None);
    let output = step.env("ACTION", "doctor").pipe().ok();
    assert_eq!(jobs.requests().len(), 1);
    assert!(output.stdout.contains("ID token") && output.stdout.contains("for the default audience"), "{output:?}");
    let (step, _jobs) = job(&cluster, Some(EndpointFault::Forbidden));
    let output = step.env("ACTION", "doctor").pipe();
    assert_eq!(output.status, Some(3), "{output:?}");
    assert!(output.stdout.contains("id-token: write"), "{output:?}");
}

fn a_platform_without_an_id_token_is_explained() {
    for (variable, value, expected) in [
        ("GITHUB_ACTIONS", "true", "id-token: write"),
        ("GITLAB_CI", "true", "id_tokens:"),
        ("CIRCLECI", "true", "context:"),
        ("TF_BUILD", "True", "SYSTEM_ACCESSTOKEN: $(System.AccessToken)"),
        ("TFC_RUN_ID", "run-1", "TFC_WORKLOAD_IDENTITY_AUDIENCE"),
        ("JOIN_METHOD", "generic_oidc", "ID_TOKEN_VARIABLE: 'MY_ID_TOKEN'"),
    ] {
        let cluster = Testcluster::start();
        let output = Step::outside(&cluster).env(variable, value).pipe();
        assert_eq!(output.status, Some(3), "{variable}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{variable}: {}", output.stderr);
        assert!(cluster.record().is_empty(), "{variable}");
    }
}

fn two_platforms_are_an_error_that_asks() {
    let cluster = cluster("gitlab");
    let (step, _job) = job(&cluster, None);
    let step = step.env("CIRCLECI", "true");
    let output = step.pipe();
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("Set JOIN_METHOD (--join-method) to gitlab or circleci."), "{}", output.stderr);
    step.env("JOIN_METHOD", "gitlab").pipe().ok();
}

fn a_ci_system_comes_before_what_it_runs_on() {
    let cluster = cluster("gitlab");
    let (step, _job) = job(&cluster, None);
    let output = step.env("KUBERNETES_SERVICE_HOST", "10.0.0.1").pipe().ok();
    assert!(output.stderr.contains("GitLab CI, project acme/infrastructure"), "{}", output.stderr);
}

fn a_public_repository_of_github_has_a_public_log() {
    let cluster = cluster("github");
    for (event, is_public) in [
        (r#"{"repository":{"private":false}}"#, true),
        (r#"{"repository":{"private":true}}"#, false),
        ("not JSON", true),
    ] {
        let (step, _job) = job(&cluster, None);
        let path = step.dir().join("event.json");
        std::fs::write(&path, event).unwrap();
        let step = step.env("GITHUB_SERVER_URL", "https://github.com").env("GITHUB_EVENT_PATH", path.to_str().unwrap());
        let log = step.pipe().ok().stderr;
        assert_eq!(!log.contains("acme/infrastructure"), is_public, "{event}: {log}");
    }
}

fn methods_that_only_tbot_has_are_refused_by_name() {
    let cluster = Testcluster::start();
    for method in ["iam", "ec2", "tpm", "oracle", "azure", "bound_keypair"] {
        let output = Step::new(&cluster).env("JOIN_METHOD", method).pipe();
        let expected = format!(
            "error: JOIN_METHOD is `{method}`, which is a join method of tbot that teleport-pipe does not have"
        );
        assert!(output.status == Some(2) && output.stderr.contains(&expected), "{}", output.stderr);
    }
    let output = Step::new(&cluster).env("JOIN_METHOD", "githb").pipe();
    assert!(output.status == Some(2) && output.stderr.contains("Did you mean `github`?"), "{}", output.stderr);
}
