//! `NODE_LABELS` of `inspect`: which nodes the role reaches.

use expect_test::expect_file;
use testcluster::Testcluster;

use crate::harness::stories;
use crate::inspect::{check, documents, without_ages};
use crate::step::Step;

stories! {
    the_role_has_the_labels_that_were_given,
    labels_have_three_forms,
    a_role_that_reaches_more_than_it_seems_to_is_a_warning,
    labels_that_teleport_does_not_take_are_refused,
}

/// A step without a cluster and a token's name, with these labels for the role.
fn with_labels(cluster: &Testcluster, labels: &str) -> Step {
    Step::new(cluster).without("PROXY_SERVER").without("TOKEN").env("NODE_LABELS", labels)
}

fn the_role_has_the_labels_that_were_given() {
    let cluster = Testcluster::start();
    check(with_labels(&cluster, "env=prod,env=stage,role=web"), &expect_file!["golden/inspect/labels.txt"]);
    let labels = |labels: &str| {
        let output = with_labels(&cluster, labels).env("ACTION", "inspect").pipe().ok();
        let [role, ..] = documents(&output);
        assert!(!output.stdout.contains("deploy-from") && !output.stdout.contains("'*': '*'"), "{}", output.stdout);
        role["spec"]["allow"]["node_labels"].clone()
    };
    for (given, expected) in [
        ("env=prod", serde_json::json!({ "env": "prod" })),
        ("env=\"a, b\",env=c", serde_json::json!({ "env": ["a, b", "c"] })),
        ("yes=no,1=2", serde_json::json!({ "yes": "no", "1": "2" })),
        ("host=^(web|db)-[0-9]$", serde_json::json!({ "host": "^(web|db)-[0-9]$" })),
        ("env=it's: {a} & *b # c", serde_json::json!({ "env": "it's: {a} & *b # c" })),
        ("team={{internal.team}}", serde_json::json!({ "team": "{{internal.team}}" })),
    ] {
        assert_eq!(labels(given), expected, "{given}");
    }
}

fn labels_have_three_forms() {
    let cluster = Testcluster::start();
    let text = |step: &Step, args: &[&str]| without_ages(&step.product(args).ok().stdout);
    let one = text(&with_labels(&cluster, "env=prod,role=web").env("ACTION", "inspect"), &[]);
    let bare = || with_labels(&cluster, "");
    let list = bare().env("NODE_LABELS_COUNT", "2").env("NODE_LABELS_0", "env=prod").env("NODE_LABELS_1", "role=web");
    assert_eq!(text(&list.env("ACTION", "inspect"), &[]), one);
    assert_eq!(text(&bare(), &["inspect", "--node-labels=env=prod,role=web"]), one);
    assert_eq!(text(&bare(), &["inspect", "--node-labels", "env=prod", "--node-labels", "role=web"]), one);
    // Other actions do not use them.
    let join = Step::new(&cluster).env("NODE_LABELS", "env=prod").pipe().ok();
    assert!(join.stderr.contains("warning: NODE_LABELS is for ACTION: 'inspect', ignored"), "{}", join.stderr);
    let misspelled = bare().env("ACTION", "inspect").env("NODE_LABEL", "env=prod").pipe().ok();
    assert!(misspelled.stderr.contains("did you mean NODE_LABELS?"), "{}", misspelled.stderr);
}

fn a_role_that_reaches_more_than_it_seems_to_is_a_warning() {
    let cluster = Testcluster::start();
    check(with_labels(&cluster, "*=*"), &expect_file!["golden/inspect/every-node.txt"]);
    for labels in ["env=*", "env=^.*$", "role=web,env=prod,env=^(a|.+)$"] {
        let output = with_labels(&cluster, labels).env("ACTION", "inspect").pipe().ok();
        assert!(output.stdout.contains("    # WARNING: every value of the label env fits.\n"), "{}", output.stdout);
        assert!(
            output.stderr.contains("warning: a value in NODE_LABELS (--node-labels) fits every value"),
            "{}",
            output.stderr
        );
    }
    for labels in ["env=prod*", "env=^(a|b).*$"] {
        let output = with_labels(&cluster, labels).env("ACTION", "inspect").pipe().ok();
        assert!(!output.stdout.contains("WARNING") && output.stderr.is_empty(), "{}{}", output.stdout, output.stderr);
    }
}

fn labels_that_teleport_does_not_take_are_refused() {
    let cluster = Testcluster::start();
    for (labels, reason, remedy) in [
        ("env", "NODE_LABELS is `env`, which has `env` without a value", "Write key=value"),
        ("env: prod", "NODE_LABELS is `env: prod`, which has `env: prod` without a value", "Write env=prod."),
        ("*=prod", "which has the key `*` with a value, which Teleport knows only as `*=*`", "or '*=*' for every node"),
        ("env=$DEPLOY_ENV", "which has `$DEPLOY_ENV`, a variable that is not defined", "Define the variable"),
    ] {
        let output = with_labels(&cluster, labels).env("ACTION", "inspect").pipe();
        assert_eq!((output.status, &*output.stdout), (Some(2), ""), "{labels}");
        assert!(output.stderr.contains(reason) && output.stderr.contains(remedy), "{}", output.stderr);
    }
    let output = with_labels(&cluster, "").product(&["inspect", "--node-labels=env="]);
    assert!(
        output.stderr.contains("error: --node-labels is `env=`, which has `env` without a value"),
        "{}",
        output.stderr
    );
}
