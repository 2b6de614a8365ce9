//! Joins with a one-time token.

use testcluster::{Builder, JoinService, LoadBalancer, Testcluster};

use crate::harness::stories;
use crate::step::Step;

stories! {
    a_one_time_token_joins_once,
    a_one_time_token_can_be_in_a_file,
    a_file_that_cannot_be_used_is_explained,
    a_one_time_token_is_never_printed,
    inside_of_bitbucket_the_step_is_checked_all_the_same,
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn builder() -> Builder {
    Testcluster::builder().join_method("token", []).token_name(SECRET)
}

fn joining(cluster: &Testcluster) -> Step {
    Step::outside(cluster).env("JOIN_METHOD", "token")
}

fn a_one_time_token_joins_once() {
    for builder in
        [builder(), builder().join_service(JoinService::Absent), builder().load_balancer(LoadBalancer::default())]
    {
        let cluster = builder.start();
        joining(&cluster).pipe().ok();
        assert!(cluster.token_is_spent());
        let again = joining(&cluster).pipe();
        assert_eq!(again.status, Some(4), "{}", again.stderr);
        assert!(again.stderr.contains("token expired or not found"), "{}", again.stderr);
        assert!(again.stderr.contains("tctl bots instances add"), "{}", again.stderr);
    }
}

fn a_one_time_token_can_be_in_a_file() {
    let cluster = builder().start();
    let step = joining(&cluster);
    let path = step.dir().join("token");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    step.env("TOKEN", path.to_str().unwrap()).pipe().ok();
    assert!(cluster.token_is_spent());
}

fn a_file_that_cannot_be_used_is_explained() {
    let cluster = builder().start();
    let output = joining(&cluster).env("TOKEN", "/nowhere/token").pipe();
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("the join token cannot be read from /nowhere/token"), "{}", output.stderr);
    let step = joining(&cluster);
    let path = step.dir().join("token");
    std::fs::write(&path, format!("{SECRET} and more")).unwrap();
    let output = step.env("TOKEN", path.to_str().unwrap()).pipe();
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    assert!(!output.stderr.contains(SECRET), "{}", output.stderr);
    assert!(cluster.record().is_empty() && !cluster.token_is_spent());
}

fn a_one_time_token_is_never_printed() {
    let cluster = builder().start();
    for step in [joining(&cluster).env("DEBUG", "true"), joining(&cluster).env("DEBUG", "true").env("FORMAT", "json")] {
        let output = step.pipe();
        assert!(!output.stderr.contains(&SECRET[..12]) && !output.stdout.contains(&SECRET[..12]), "{output:?}");
    }
}

fn inside_of_bitbucket_the_step_is_checked_all_the_same() {
    let cluster = builder().start();
    let step = Step::new(&cluster).env("JOIN_METHOD", "token").env("DESTINATION", "/tmp/elsewhere");
    let output = step.pipe();
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("/tmp/elsewhere") && !cluster.token_is_spent(), "{}", output.stderr);
}
