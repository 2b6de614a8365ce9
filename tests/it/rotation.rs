//! Runs during a rotation of the cluster's CAs.

use std::fs;

use testcluster::{Phase, Testcluster};

use crate::harness::stories;
use crate::step::Step;

stories! {
    credentials_work_in_their_phase_and_in_the_next_one,
}

/// How often a text is in a file of the destination.
fn count(step: &Step, file: &str, text: &str) -> usize {
    fs::read_to_string(step.file(file)).unwrap().matches(text).count()
}

fn credentials_work_in_their_phase_and_in_the_next_one() {
    let cluster = Testcluster::start();
    let mut before: Option<Step> = None;
    for (phase, authorities) in [
        (Phase::Standby, 1),
        (Phase::Init, 2),
        (Phase::UpdateClients, 2),
        (Phase::UpdateServers, 2),
        (Phase::Rotated, 1),
    ] {
        cluster.enter(phase);
        let step = Step::new(&cluster);
        step.pipe().ok();
        // A new CA is known before the cluster uses it, and an old one for as long as the cluster uses it.
        for (file, text) in [
            ("known_hosts", "@cert-authority "),
            ("example.teleport.sh.known_hosts", "@cert-authority "),
            ("identity", "@cert-authority "),
            ("teleport-host-ca.crt", "BEGIN CERTIFICATE"),
            ("teleport-user-ca.crt", "BEGIN CERTIFICATE"),
        ] {
            assert_eq!(count(&step, file, text), authorities, "{phase:?}: {file}");
        }
        for (credentials, of) in [(Some(&step), "this phase"), (before.as_ref(), "the one before")] {
            let Some(step) = credentials else { continue };
            let output = step.ssh(&[&Step::node(&cluster), "echo", "hello"]);
            assert_eq!(output.stdout, "hello\n", "{phase:?}, credentials of {of}: {}", output.stderr);
        }
        before = Some(step);
    }
}
