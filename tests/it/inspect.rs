//! `inspect`: what it prints is what a cluster needs, and what a person can copy.

use expect_test::{ExpectFile, expect_file};
use serde::Deserialize as _;
use serde_json::Value;
use testcluster::{AllowRule, Builder, ENVIRONMENT_UUID, Fault, Testcluster};

use crate::harness::stories;
use crate::refusals::TOKEN;
use crate::step::{Said, Step};

stories! {
    a_step_on_a_branch,
    a_deployment,
    wider_only_with_a_warning,
    without_a_cluster,
    a_cluster_that_is_not_reached,
    a_cluster_that_is_too_old,
    a_public_log_shows_no_claims,
    a_token_that_has_expired_says_as_much,
    flags_say_the_same,
    the_step_to_write_is_yaml,
    hostile_names_are_read_as_they_are,
    what_it_says_admits_this_step_and_no_other,
    one_of_several_audiences,
}

/// What is printed on both streams.
#[track_caller]
fn check(step: Step, golden: &ExpectFile) {
    let step = step.env("ACTION", "inspect");
    let said = step.pipe().ok();
    golden.assert_eq(&aged(&step.scrubbed(&format!("{}{}", said.stderr, said.stdout))));
    documents(&said);
    // Whatever it is asked for, nothing is written.
    assert_eq!(std::fs::read_dir(step.dir()).unwrap().count(), 0);
}

/// The text without how long ago something was, or will be.
fn aged(text: &str) -> String {
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

/// The role, the bot and the join token: all that was printed, read by somebody else's parser.
#[track_caller]
fn documents(said: &Said) -> [Value; 3] {
    let documents = yaml_serde::Deserializer::from_str(&said.stdout).map(Value::deserialize);
    let documents: Vec<Value> = documents.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{e}\n{}", said.stdout));
    let kinds: Vec<_> = documents.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["role", "bot", "token"]);
    documents.try_into().unwrap()
}

/// The step that it says to write.
fn step_to_write(said: &Said) -> Value {
    let lines = said.stdout.rsplit_once("in bitbucket-pipelines.yml:\n").unwrap().1.lines();
    let yaml: String = lines.map(|line| format!("{}\n", line.strip_prefix("#   ").unwrap())).collect();
    yaml_serde::from_str::<Value>(&yaml).unwrap()[0]["step"].clone()
}

/// A step in a deployment environment.
fn deploying(cluster: &Testcluster) -> Step {
    let token = cluster.mint(|claims| drop(claims.insert("deploymentEnvironmentUuid".into(), ENVIRONMENT_UUID.into())));
    Step::of(cluster).env(TOKEN, &token).env("BITBUCKET_DEPLOYMENT_ENVIRONMENT", "production")
}

fn a_step_on_a_branch() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster).env("LOGINS", "deploy, backup");
    check(step, &expect_file!["golden/inspect/branch.txt"]);
    // Discovery, and nothing else.
    let calls: Vec<_> = cluster.calls().into_iter().map(|call| call.name).collect();
    assert_eq!(calls, ["GET /webapi/find"]);
}

fn a_deployment() {
    let cluster = Testcluster::start();
    check(deploying(&cluster).without("TOKEN"), &expect_file!["golden/inspect/deployment.txt"]);
}

fn wider_only_with_a_warning() {
    let cluster = Testcluster::start();
    let scope = |scope: &str| deploying(&cluster).env("SCOPE", scope).without("PROXY_SERVER").without("TOKEN");
    check(scope("workspace"), &expect_file!["golden/inspect/workspace.txt"]);
    check(scope("repository"), &expect_file!["golden/inspect/repository.txt"]);
    let log = |step: Step| step.env("ACTION", "inspect").pipe().ok().stderr;
    assert!(log(scope("branch")).contains("warning: bot-token.yaml admits every step on the branch"));
    assert_eq!(log(scope("deployment")), "");
    // A build of a tag has nothing narrower than the repository.
    let tag = cluster.mint(|claims| drop(claims.remove("branchName")));
    assert!(log(Step::of(&cluster).env(TOKEN, &tag)).contains("warning: bot-token.yaml admits every branch"));
}

fn without_a_cluster() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster).without("PROXY_SERVER").without("TOKEN");
    check(step, &expect_file!["golden/inspect/without-cluster.txt"]);
    assert!(cluster.record().is_empty());
}

fn a_cluster_that_is_not_reached() {
    let cluster = Testcluster::builder().fault(Fault::RefuseAll).start();
    let step = Step::of(&cluster).env("TIMEOUT", "1s").env("ACTION", "inspect");
    let said = step.pipe().ok();
    expect_file!["golden/inspect/not-reached.txt"].assert_eq(&aged(&step.scrubbed(&said.stdout)));
    assert!(said.stderr.contains("warning: the cluster was not reached"), "{}", said.stderr);
    documents(&said);

    let step = Step::of(&Testcluster::start()).env("CA_FILE", "not-there.pem").env("ACTION", "inspect");
    let said = step.pipe().ok();
    assert!(said.stdout.contains("#   the file of certificate authorities "), "{}", said.stdout);
    documents(&said);
}

fn a_cluster_that_is_too_old() {
    let cluster = Testcluster::builder().version("17.0.1").start();
    let said = Step::of(&cluster).env("ACTION", "inspect").pipe().ok();
    assert!(said.stdout.contains("#   version: 17.0.1, too old"), "{}", said.stdout);
    assert!(said.stderr.contains("warning: the cluster is Teleport 17.0.1;"), "{}", said.stderr);
}

fn a_public_log_shows_no_claims() {
    let cluster = Testcluster::start();
    let public = || deploying(&cluster).env("BITBUCKET_REPO_IS_PRIVATE", "false").env("LOGINS", "backup");
    check(public(), &expect_file!["golden/inspect/public.txt"]);
    let said = public().env("ACTION", "inspect").pipe().ok();
    for (name, claim) in cluster.claims() {
        let claim = claim.as_str().unwrap_or("backup");
        assert!(!said.stdout.contains(claim), "{name}: {}", said.stdout);
    }
    let debug = public().env("ACTION", "inspect").env("DEBUG", "true").pipe().ok();
    assert!(debug.stdout.contains(ENVIRONMENT_UUID) && debug.stdout.contains("logins: ['backup']"), "{}", debug.stdout);
}

fn a_token_that_has_expired_says_as_much() {
    let cluster = Testcluster::start();
    let token = cluster.mint(|claims| drop(claims.insert("exp".into(), 1_700_000_000.into())));
    check(Step::of(&cluster).env(TOKEN, &token), &expect_file!["golden/inspect/expired.txt"]);
}

fn flags_say_the_same() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    let (proxy, token) = (step.variable("PROXY_SERVER"), step.variable("TOKEN"));
    let flags = ["--scope=repository", "--logins=a, b", "--proxy-server", proxy, "--token", token];
    let by_flags = step.product(&[&["inspect"][..], &flags].concat()).ok();
    let by_variables = step.env("ACTION", "inspect").env("SCOPE", "repository").env("LOGINS", "a,b").pipe().ok();
    assert_eq!(aged(&by_flags.stdout), aged(&by_variables.stdout));
}

fn the_step_to_write_is_yaml() {
    let cluster = Testcluster::start();
    let said = deploying(&cluster).env("ACTION", "inspect").env("LOGINS", "backup,deploy").pipe().ok();
    let step = step_to_write(&said);
    assert_eq!((&step["oidc"], &step["deployment"]), (&true.into(), &"production".into()));
    let variables = &step["script"][0]["variables"];
    assert_eq!(variables["TOKEN"], "example-bot");
    assert_eq!(variables["PROXY_SERVER"], cluster.proxy_addr());
    assert_eq!(step["script"][1], "ssh -F ./tbot-user/ssh_config backup@node.example.teleport.sh uptime");
}

/// What people, or people with bad intentions, can name a branch, a repository, an environment, an audience.
const HOSTILE: [&str; 9] = [
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

fn hostile_names_are_read_as_they_are() {
    let cluster = Testcluster::start();
    for hostile in HOSTILE.iter().copied().chain([&*"long/".repeat(200)]) {
        let token = cluster.mint(|claims| {
            for name in ["aud", "iss", "workspaceUuid", "repositoryUuid", "branchName"] {
                claims.insert(name.into(), hostile.into());
            }
        });
        let step = Step::of(&cluster).env(TOKEN, &token).env("ACTION", "inspect").env("LOGINS_COUNT", "1");
        let step = ["BITBUCKET_WORKSPACE", "BITBUCKET_REPO_SLUG", "LOGINS_0"]
            .into_iter()
            .fold(step, |step, name| step.env(name, hostile));
        let said = step.without("TOKEN").pipe().ok();
        let invisible = |c: char| (c.is_control() && c != '\n') || ['\u{202e}', '\u{200b}', '\u{feff}'].contains(&c);
        assert!(!said.stdout.contains(invisible), "{:?}", said.stdout);
        let [role, bot, token] = documents(&said);
        let bitbucket = &token["spec"]["bitbucket"];
        assert_eq!((&bitbucket["audience"], &bitbucket["identity_provider_url"]), (&hostile.into(), &hostile.into()));
        let rule = serde_json::json!({ "workspace_uuid": hostile, "repository_uuid": hostile, "branch_name": hostile });
        assert_eq!(bitbucket["allow"], Value::Array(vec![rule]));
        // Variables are trimmed.
        assert_eq!(role["spec"]["allow"]["logins"][0], hostile.trim());
        // Names are ours to choose, and what a label means must not be theirs.
        let label = role["spec"]["allow"]["node_labels"]["deploy-from"].as_str().unwrap();
        for name in [label, bot["metadata"]["name"].as_str().unwrap(), token["metadata"]["name"].as_str().unwrap()] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            assert!(!name.is_empty() && name.chars().all(plain), "{name}");
        }
        step_to_write(&said);
    }
}

/// A cluster that was given these documents.
fn cluster_with(said: &Said) -> Builder {
    let [role, bot, token] = documents(said);
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

fn what_it_says_admits_this_step_and_no_other() {
    for (scope, claim) in [
        ("deployment", "deploymentEnvironmentUuid"),
        ("branch", "branchName"),
        ("repository", "repositoryUuid"),
        ("workspace", "workspaceUuid"),
    ] {
        let asked = Testcluster::start();
        let said = deploying(&asked).without("TOKEN").env("SCOPE", scope).env("ACTION", "inspect").pipe().ok();
        let cluster = cluster_with(&said).start();
        let join = |claims: &[(&str, &str)]| {
            let token = cluster
                .mint(|all| claims.iter().for_each(|(name, value)| drop(all.insert((*name).into(), (*value).into()))));
            let said = Step::of(&cluster).env(TOKEN, &token).pipe();
            (said.status, said.stderr)
        };
        let this = ("deploymentEnvironmentUuid", ENVIRONMENT_UUID);
        let (status, log) = join(&[this]);
        assert_eq!(status, Some(0), "{scope}: {log}");
        let (status, log) = join(&[this, (claim, "{00000000-0000-4000-8000-000000000000}")]);
        assert_eq!(status, Some(4), "{scope}: {log}");
        assert!(log.contains("did not match any allow rules"), "{scope}: {log}");
    }
}

fn one_of_several_audiences() {
    let asked = Testcluster::start();
    let token = |cluster: &Testcluster, party: Option<&str>| {
        cluster.mint(|claims| {
            claims.insert("aud".into(), serde_json::json!(["https://a.example", "https://b.example"]));
            party.map(|party| claims.insert("azp".into(), party.into()));
        })
    };
    let inspect = |token: &str| Step::of(&asked).env(TOKEN, token).env("ACTION", "inspect").pipe().ok();
    let said = inspect(&token(&asked, Some("https://b.example")));
    let cluster = cluster_with(&said).start();
    let with_party = token(&cluster, Some("https://b.example"));
    Step::of(&cluster).env(TOKEN, &with_party).pipe().ok();

    let said = inspect(&token(&asked, None));
    assert!(said.stderr.contains("warning: the ID token is for several audiences"), "{}", said.stderr);
    let cluster = cluster_with(&said).start();
    let refused = Step::of(&cluster).env(TOKEN, &token(&cluster, None)).pipe();
    assert_eq!(refused.status, Some(4), "{}", refused.stderr);
}
