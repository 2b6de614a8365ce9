//! A proxy that records sessions and lets the client's agent sign the login.

use testcluster::{EventKind, Suite, Testcluster};

use crate::harness::stories;
use crate::step::Step;

stories! {
    the_agent_signs_with_the_keys_of_each_suite,
    without_an_ssh_certificate_the_agent_lists_nothing,
}

fn the_agent_signs_with_the_keys_of_each_suite() {
    for (suite, algorithm) in [(Suite::Legacy, "rsa-sha2-512"), (Suite::BalancedV1, "ecdsa-sha2-nistp256")] {
        let cluster = Testcluster::builder().suite(suite).proxy_recording().start();
        let step = Step::new(&cluster);
        step.pipe().ok();
        let output = step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""), "{suite:?}");
        let signed = EventKind::AgentSigned { algorithm: algorithm.to_owned() };
        assert!(cluster.record().iter().any(|event| event.kind == signed), "{suite:?}: {:?}", cluster.record());
    }
}

fn without_an_ssh_certificate_the_agent_lists_nothing() {
    let cluster = Testcluster::builder().proxy_recording().start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let identity = std::fs::read_to_string(step.file("identity")).unwrap();
    let without = identity.lines().filter(|line| !line.contains("-cert-v01@openssh.com"));
    let without: String = without.map(|line| format!("{line}\n")).collect();
    assert_ne!(without, identity);
    std::fs::write(step.file("identity"), without).unwrap();
    let output = step.ssh(&[&Step::node(&cluster), "true"]);
    assert_eq!(output.status, Some(255), "{}", output.stderr);
    assert!(output.stderr.contains("node node:3022: the agent does not list one key"), "{}", output.stderr);
}
