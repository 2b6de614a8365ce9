//! `inspect`: a cluster accepts the resources that it prints, and a person can copy them.

use expect_test::{ExpectFile, expect_file};
use serde::Deserialize as _;
use serde_json::Value;
use testcluster::{AllowRule, Builder, ENVIRONMENT_UUID, Fault, Testcluster};

use crate::harness::stories;
use crate::refusals::TOKEN;
use crate::step::{Output, Step};

stories! {
    a_step_on_a_branch_gets_a_rule_for_the_branch,
    a_deployment_gets_a_rule_for_its_environment,
    a_wider_scope_is_a_warning,
    inspect_needs_no_cluster,
    an_unreachable_cluster_is_a_warning,
    a_cluster_that_is_too_old_is_a_warning,
    a_public_log_shows_no_claims,
    an_expired_token_is_shown_as_expired,
    flags_and_variables_print_the_same,
    the_suggested_step_is_yaml,
    hostile_names_are_quoted,
    a_public_log_does_not_advise_what_it_would_not_show,
    a_masked_value_is_explained_above_the_files,
    every_key_is_known_to_teleport,
    the_printed_token_admits_this_step_and_no_other,
    the_authorized_party_decides_between_several_audiences,
}

/// Checks the output on both streams.
#[track_caller]
pub(crate) fn check(step: Step, golden: &ExpectFile) {
    let step = step.env("ACTION", "inspect");
    let output = step.pipe().ok();
    golden.assert_eq(&without_ages(&step.scrubbed(&format!("{}{}", output.stderr, output.stdout))));
    documents(&output);
    // `inspect` never writes a file.
    assert_eq!(std::fs::read_dir(step.dir()).unwrap().count(), 0);
}

/// Removes ages and times from a text.
pub(crate) fn without_ages(text: &str) -> String {
    let line =
        |line: &str| match (line.split_once("expires: in "), line.split_once("expired: "), line.split_once(" ago: ")) {
            (Some((head, _)), _, _) => format!("{head}expires: in AGE, at TIME\n"),
            (_, Some((head, _)), _) => format!("{head}expired: AGE ago, at TIME\n"),
            (_, _, Some((head, tail))) => {
                format!("{}expired AGE ago: {tail}\n", head.rsplit_once("expired ").unwrap().0)
            }
            _ => format!("{line}\n"),
        };
    text.lines().map(line).collect()
}

/// The role, the bot and the join token on stdout, read by a YAML parser that is not the product's.
#[track_caller]
pub(crate) fn documents(output: &Output) -> [Value; 3] {
    let documents = yaml_serde::Deserializer::from_str(&output.stdout).map(Value::deserialize);
    let documents: Vec<Value> =
        documents.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{e}\n{}", output.stdout));
    let kinds: Vec<_> = documents.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["role", "bot", "token"]);
    documents.try_into().unwrap()
}

/// The suggested step for `bitbucket-pipelines.yml`.
fn suggested_step(output: &Output) -> Value {
    let lines = output.stdout.rsplit_once("in bitbucket-pipelines.yml:\n").unwrap().1.lines();
    let yaml: String = lines.map(|line| format!("{}\n", line.strip_prefix("#   ").unwrap())).collect();
    yaml_serde::from_str::<Value>(&yaml).unwrap()[0]["step"].clone()
}

/// A step in a deployment environment.
pub(crate) fn deploying(cluster: &Testcluster) -> Step {
    let token = cluster.mint(|claims| drop(claims.insert("deploymentEnvironmentUuid".into(), ENVIRONMENT_UUID.into())));
    Step::new(cluster).env(TOKEN, &token).env("BITBUCKET_DEPLOYMENT_ENVIRONMENT", "production")
}

fn a_step_on_a_branch_gets_a_rule_for_the_branch() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("LOGINS", "deploy, backup");
    check(step, &expect_file!["golden/inspect/branch.txt"]);
    // Discovery is the only request.
    let calls: Vec<_> = cluster.calls().into_iter().map(|call| call.name).collect();
    assert_eq!(calls, ["GET /webapi/find"]);
}

fn a_deployment_gets_a_rule_for_its_environment() {
    let cluster = Testcluster::start();
    check(deploying(&cluster).without("TOKEN"), &expect_file!["golden/inspect/deployment.txt"]);
}

fn a_wider_scope_is_a_warning() {
    let cluster = Testcluster::start();
    let scope = |scope: &str| deploying(&cluster).env("SCOPE", scope).without("PROXY_SERVER").without("TOKEN");
    check(scope("workspace"), &expect_file!["golden/inspect/workspace.txt"]);
    check(scope("repository"), &expect_file!["golden/inspect/repository.txt"]);
    let log = |step: Step| step.env("ACTION", "inspect").pipe().ok().stderr;
    assert!(log(scope("branch")).contains("warning: the join token admits every step on the branch"));
    assert_eq!(log(scope("deployment")), "");
    // The repository is the narrowest scope of a build of a tag.
    let tag = cluster.mint(|claims| drop(claims.remove("branchName")));
    assert!(log(Step::new(&cluster).env(TOKEN, &tag)).contains("warning: the join token admits every branch"));
}

fn inspect_needs_no_cluster() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).without("PROXY_SERVER").without("TOKEN");
    check(step, &expect_file!["golden/inspect/without-cluster.txt"]);
    assert!(cluster.record().is_empty());
}

fn an_unreachable_cluster_is_a_warning() {
    let cluster = Testcluster::builder().fault(Fault::RefuseAll).start();
    let step = Step::new(&cluster).env("TIMEOUT", "1s").env("ACTION", "inspect");
    let output = step.pipe().ok();
    expect_file!["golden/inspect/not-reached.txt"].assert_eq(&without_ages(&step.scrubbed(&output.stdout)));
    assert!(output.stderr.contains("warning: the cluster was not reached"), "{}", output.stderr);
    documents(&output);

    let step = Step::new(&Testcluster::start()).env("CA_FILE", "not-there.pem").env("ACTION", "inspect");
    let output = step.pipe().ok();
    assert!(output.stdout.contains("#   the file of certificate authorities "), "{}", output.stdout);
    documents(&output);
}

fn a_cluster_that_is_too_old_is_a_warning() {
    let cluster = Testcluster::builder().version("17.0.1").start();
    let output = Step::new(&cluster).env("ACTION", "inspect").pipe().ok();
    assert!(output.stdout.contains("#   version: 17.0.1, too old"), "{}", output.stdout);
    assert!(output.stderr.contains("warning: the cluster is Teleport 17.0.1;"), "{}", output.stderr);
}

fn a_public_log_shows_no_claims() {
    let cluster = Testcluster::start();
    let public = || deploying(&cluster).env("BITBUCKET_REPO_IS_PRIVATE", "false").env("LOGINS", "backup");
    check(public(), &expect_file!["golden/inspect/public.txt"]);
    let output = public().env("ACTION", "inspect").pipe().ok();
    for (name, claim) in cluster.claims() {
        let claim = claim.as_str().unwrap_or("backup");
        assert!(!output.stdout.contains(claim), "{name}: {}", output.stdout);
    }
    let debug = public().env("ACTION", "inspect").env("DEBUG", "true").pipe().ok();
    assert!(debug.stdout.contains(ENVIRONMENT_UUID) && debug.stdout.contains("logins: ['backup']"), "{}", debug.stdout);
}

fn an_expired_token_is_shown_as_expired() {
    let cluster = Testcluster::start();
    let token = cluster.mint(|claims| drop(claims.insert("exp".into(), 1_700_000_000.into())));
    check(Step::new(&cluster).env(TOKEN, &token), &expect_file!["golden/inspect/expired.txt"]);
}

fn flags_and_variables_print_the_same() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    let (proxy, token) = (step.variable("PROXY_SERVER"), step.variable("TOKEN"));
    let flags = ["--scope=repository", "--logins=a, b", "--proxy-server", proxy, "--token", token];
    let by_flags = step.product(&[&["inspect"][..], &flags].concat()).ok();
    let by_variables = step.env("ACTION", "inspect").env("SCOPE", "repository").env("LOGINS", "a,b").pipe().ok();
    assert_eq!(without_ages(&by_flags.stdout), without_ages(&by_variables.stdout));
}

fn the_suggested_step_is_yaml() {
    let cluster = Testcluster::start();
    let output = deploying(&cluster).env("ACTION", "inspect").env("LOGINS", "backup,deploy").pipe().ok();
    let step = suggested_step(&output);
    assert_eq!((&step["oidc"], &step["deployment"]), (&true.into(), &"production".into()));
    let variables = &step["script"][0]["variables"];
    assert_eq!(variables["TOKEN"], "example-bot");
    assert_eq!(variables["PROXY_SERVER"], cluster.proxy_addr());
    assert_eq!(step["script"][1], "ssh -F ./tbot-user/ssh_config backup@node.example.teleport.sh uptime");
}

/// Unusual and malicious names of branches, repositories, environments and audiences.
pub(crate) const HOSTILE: [&str; 9] = [
    "it's: {a} & *b # c",
    "\"quoted\" \\n \\",
    "*",
    "yes",
    "a\n---\nkind: role\nspec: {allow: {logins: [root]}}\n",
    "\u{1b}[2J\u{202e}\u{200b}\u{85}\u{feff}\u{ffff}\r\n\t",
    "EOF\n$(id)`id`",
    "größe/\u{1f600}, and so on",
    " spaces around ",
];

fn is_invisible(c: char) -> bool {
    c.is_control() || ['\u{202e}', '\u{200b}', '\u{feff}', '\u{2028}', '\u{85}'].contains(&c)
}

fn hostile_names_are_quoted() {
    let cluster = Testcluster::start();
    for hostile in HOSTILE.iter().copied().chain([&*"long/".repeat(200)]) {
        let token = cluster.mint(|claims| {
            for name in ["aud", "iss", "workspaceUuid", "repositoryUuid", "branchName"] {
                claims.insert(name.into(), hostile.into());
            }
        });
        let step = Step::new(&cluster).env(TOKEN, &token).env("ACTION", "inspect").env("LOGINS_COUNT", "1");
        // A template may hold anything.
        let login = format!("{{{{{}}}}}", hostile.replace(|c: char| c.is_control() || !c.is_ascii(), ""));
        let step = step.env("BITBUCKET_WORKSPACE", hostile).env("BITBUCKET_REPO_SLUG", hostile).env("LOGINS_0", &login);
        let output = step.without("TOKEN").pipe().ok();
        assert!(!output.stdout.contains(|c| is_invisible(c) && c != '\n'), "{:?}", output.stdout);
        let [role, bot, token] = documents(&output);
        let bitbucket = &token["spec"]["bitbucket"];
        assert_eq!((&bitbucket["audience"], &bitbucket["identity_provider_url"]), (&hostile.into(), &hostile.into()));
        let rule = serde_json::json!({ "workspace_uuid": hostile, "repository_uuid": hostile, "branch_name": hostile });
        assert_eq!(bitbucket["allow"], Value::Array(vec![rule]));
        assert_eq!(role["spec"]["allow"]["logins"][0], login);
        // The product chooses names and labels, so they must not contain hostile text.
        let label = role["spec"]["allow"]["node_labels"]["deploy-from"].as_str().unwrap();
        for name in [label, bot["metadata"]["name"].as_str().unwrap(), token["metadata"]["name"].as_str().unwrap()] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            assert!(!name.is_empty() && name.chars().all(plain), "{name}");
        }
        suggested_step(&output);
    }
}

/// A cluster with these resources.
fn cluster_with(output: &Output) -> Builder {
    let [role, bot, token] = documents(output);
    assert_eq!(bot["spec"]["roles"], serde_json::json!([role["metadata"]["name"]]));
    assert_eq!(token["spec"]["bot_name"], bot["metadata"]["name"]);
    assert_eq!(
        (&token["spec"]["roles"], &token["spec"]["join_method"]),
        (&serde_json::json!(["Bot"]), &"bitbucket".into())
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let bitbucket = &token["spec"]["bitbucket"];
    let rules = bitbucket["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| AllowRule::new(rule.as_object().unwrap().iter().map(|(name, value)| (name, text(value)))));
    Testcluster::builder()
        .token_name(text(&token["metadata"]["name"]))
        .audience(text(&bitbucket["audience"]))
        .identity_provider_url(text(&bitbucket["identity_provider_url"]))
        .allow(rules.collect::<Vec<_>>())
}

fn the_printed_token_admits_this_step_and_no_other() {
    for (scope, claim) in [
        ("deployment", "deploymentEnvironmentUuid"),
        ("branch", "branchName"),
        ("repository", "repositoryUuid"),
        ("workspace", "workspaceUuid"),
    ] {
        let inspected = Testcluster::start();
        let output = deploying(&inspected).without("TOKEN").env("SCOPE", scope).env("ACTION", "inspect").pipe().ok();
        let cluster = cluster_with(&output).start();
        let join = |claims: &[(&str, &str)]| {
            let token = cluster
                .mint(|all| claims.iter().for_each(|(name, value)| drop(all.insert((*name).into(), (*value).into()))));
            let output = Step::new(&cluster).env(TOKEN, &token).pipe();
            (output.status, output.stderr)
        };
        let this = ("deploymentEnvironmentUuid", ENVIRONMENT_UUID);
        let (status, log) = join(&[this]);
        assert_eq!(status, Some(0), "{scope}: {log}");
        let (status, log) = join(&[this, (claim, "{00000000-0000-4000-8000-000000000000}")]);
        assert_eq!(status, Some(4), "{scope}: {log}");
        assert!(log.contains("did not match any allow rules"), "{scope}: {log}");
    }
}

fn the_authorized_party_decides_between_several_audiences() {
    let inspected = Testcluster::start();
    let token = |cluster: &Testcluster, party: Option<&str>| {
        cluster.mint(|claims| {
            claims.insert("aud".into(), serde_json::json!(["https://a.example", "https://b.example"]));
            party.map(|party| claims.insert("azp".into(), party.into()));
        })
    };
    let inspect = |token: &str| Step::new(&inspected).env(TOKEN, token).env("ACTION", "inspect").pipe().ok();
    let output = inspect(&token(&inspected, Some("https://b.example")));
    let cluster = cluster_with(&output).start();
    let with_party = token(&cluster, Some("https://b.example"));
    Step::new(&cluster).env(TOKEN, &with_party).pipe().ok();

    let output = inspect(&token(&inspected, None));
    assert!(output.stderr.contains("warning: the ID token is for several audiences"), "{}", output.stderr);
    let cluster = cluster_with(&output).start();
    let refused = Step::new(&cluster).env(TOKEN, &token(&cluster, None)).pipe();
    assert_eq!(refused.status, Some(4), "{}", refused.stderr);
}

fn a_public_log_does_not_advise_what_it_would_not_show() {
    let cluster = Testcluster::start();
    let public = || deploying(&cluster).env("BITBUCKET_REPO_IS_PRIVATE", "false").env("ACTION", "inspect");
    for step in
        [public(), public().env("LOGINS", "backup"), public().env("LOGINS", "backup").env("NODE_LABELS", "env=secret")]
    {
        let output = step.pipe().ok();
        assert!(
            output.stdout.contains("claims of the ID token are not shown, nor LOGINS and NODE_LABELS."),
            "{}",
            output.stdout
        );
        // Above the role, only the explanation of masked values says so: it names no variable of these.
        let role = output.stdout.split_once("\n# role.yaml").unwrap().1;
        assert!(!role.contains("run inspect again") && !role.contains("backup") && !role.contains("secret"), "{role}");
        assert_eq!(role.matches("this log is\n# public and does not show NODE_LABELS").count(), 1, "{role}");
        assert_eq!(role.matches("this log is public and does not show LOGINS").count(), 1, "{role}");
        documents(&output);
    }
    let output = public().env("NODE_LABELS", "env=secret").env("DEBUG", "true").pipe().ok();
    assert_eq!(documents(&output)[0]["spec"]["allow"]["node_labels"], serde_json::json!({ "env": "secret" }));
}

/// The log as Bitbucket shows it if these variables are secured.
fn masked(output: &Output, variables: &[(&str, &str)]) -> Output {
    let mask = |text: &str| {
        variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(value, &format!("${name}")))
    };
    Output { status: output.status, stdout: mask(&output.stdout), stderr: mask(&output.stderr) }
}

fn a_masked_value_is_explained_above_the_files() {
    let cluster = Testcluster::start();
    let variables = [("TOKEN", "example-bot"), ("LOGINS", "backup"), ("NODE_LABELS", "env=prod")];
    let step = |format: &str| {
        let step = Step::new(&cluster).env("ACTION", "inspect").env("FORMAT", format);
        variables.iter().fold(step, |step, (name, value)| step.env(name, value)).pipe().ok()
    };
    let output = masked(&step("tctl"), &variables);
    let [role, _, token] = documents(&output);
    // So would the resources be created.
    assert_eq!(
        (&token["metadata"]["name"], &role["spec"]["allow"]["logins"][0]),
        (&"$TOKEN".into(), &"$LOGINS".into())
    );
    for output in [output, masked(&step("terraform"), &variables)] {
        let (above, _) = output.stdout.split_once("\n\n").unwrap();
        assert!(
            above.contains(
                "# If you see `$TOKEN` or another `$NAME` below in place of a value, that variable is secured"
            ),
            "{above}"
        );
    }
}

/// Keys that Teleport 17.0.2 and newer know (`types.RoleV6`, `machineid.v1.Bot` and `types.ProvisionTokenV2` of its API).
/// `tctl create` refuses every other key. `tests/conformance` holds the join token against the official type.
const KEYS: [(&str, &[&str]); 3] = [
    (
        "role",
        &[
            "kind",
            "version",
            "metadata.name",
            "spec.allow.logins",
            "spec.allow.node_labels.*",
            "spec.options.max_session_ttl",
            "spec.options.port_forwarding",
        ],
    ),
    ("bot", &["kind", "version", "metadata.name", "spec.roles"]),
    (
        "token",
        &[
            "kind",
            "version",
            "metadata.name",
            "spec.roles",
            "spec.bot_name",
            "spec.join_method",
            "spec.bitbucket.identity_provider_url",
            "spec.bitbucket.audience",
            "spec.bitbucket.allow.workspace_uuid",
            "spec.bitbucket.allow.repository_uuid",
            "spec.bitbucket.allow.deployment_environment_uuid",
            "spec.bitbucket.allow.branch_name",
        ],
    ),
];

/// The paths of all keys that lead to a value.
fn paths(value: &Value, path: &str) -> Vec<String> {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        "spec.allow.node_labels" => format!("{path}.*"),
        _ => format!("{path}.{key}"),
    };
    match value {
        Value::Object(object) => object.iter().flat_map(|(key, value)| paths(value, &below(key))).collect(),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            items.iter().flat_map(|item| paths(item, path)).collect()
        }
        _ => vec![path.to_owned()],
    }
}

/// The paths of a resource that Teleport does not know.
fn unknown_paths(resource: &Value) -> Vec<String> {
    let (_, known) = KEYS.iter().find(|(kind, _)| resource["kind"] == *kind).unwrap();
    paths(resource, "").into_iter().filter(|path| !known.contains(&path.as_str())).collect()
}

fn every_key_is_known_to_teleport() {
    let cluster = Testcluster::start();
    for scope in ["deployment", "branch", "repository", "workspace"] {
        for labels in ["", "env=prod,env=stage,a.b/c=d"] {
            let step = deploying(&cluster).env("SCOPE", scope).env("NODE_LABELS", labels).env("ACTION", "inspect");
            let resources = documents(&step.pipe().ok());
            for (resource, version) in resources.iter().zip(["v7", "v1", "v2"]) {
                assert_eq!(resource["version"], version);
                assert_eq!(unknown_paths(resource), Vec::<String>::new());
            }
        }
    }
    let resource =
        serde_json::json!({ "kind": "token", "spec": { "bitbucket": { "allow": [{ "branch": "main" }] } }, "x": 1 });
    assert_eq!(unknown_paths(&resource), ["spec.bitbucket.allow.branch", "x"]);
}
