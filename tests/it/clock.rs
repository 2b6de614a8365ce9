//! A wrong clock. A clock of this machine that is ahead is simulated by a cluster whose clock is behind, and vice
//! versa.

use std::process::Command;

use testcluster::Testcluster;

use crate::failure::{Failure, check};
use crate::harness::stories;
use crate::step::Step;

stories! {
    a_clock_that_is_ahead_does_no_harm,
    a_clock_that_is_a_little_behind_is_a_warning,
    a_clock_that_is_far_behind_ends_the_run,
    a_token_that_has_expired_by_both_clocks_is_not_sent,
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A cluster whose clock is this many seconds ahead of the local clock, and a step with a token by the cluster's clock.
fn with_cluster_ahead(seconds: i64) -> (Testcluster, Step) {
    let cluster = Testcluster::builder().clock_offset(seconds).start();
    let step = Step::new(&cluster);
    (cluster, step)
}

/// The seconds until the certificate in the destination expires, by the local clock.
fn remaining(step: &Step) -> i64 {
    let args = ["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", "tbot-user/tlscert"];
    let stdout = step.run("openssl", &args).ok().stdout;
    let end = stdout.trim().strip_prefix("notAfter=").unwrap().to_owned();
    let seconds = |date: &str| {
        let output = Command::new("date").args(["-u", "+%s", "-d", date]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<i64>().unwrap()
    };
    seconds(&end) - seconds("now")
}

/// The product requests the expiry by the cluster's clock, and does not treat the certificates as expired.
fn a_clock_that_is_ahead_does_no_harm() {
    for behind in [7 * MINUTE, 2 * HOUR, DAY] {
        let (cluster, step) = with_cluster_ahead(-behind);
        let output = step.pipe().ok();
        let ahead = match behind {
            DAY => "1day",
            420 => "7m",
            _ => "2h",
        };
        let warning = format!("warning: the clock here is {ahead} ahead of the cluster's");
        assert!(output.stderr.contains(&warning), "{}", output.stderr);
        // The token, which is valid for an hour, may have expired by the local clock, but not by the cluster's.
        assert_eq!(
            output.stderr.contains(" has expired, by the clock of this machine"),
            behind > HOUR,
            "{}",
            output.stderr
        );
        assert!(output.stderr.contains(", valid for 1h. To reach a node:"), "{}", output.stderr);
        let expected = HOUR - behind;
        assert!((expected - 60..=expected + 60).contains(&remaining(&step)), "{behind}: {}", remaining(&step));
        // The testcluster's node uses the local clock and may refuse the login, but the ProxyCommand must not refuse
        // it.
        let output = step.ssh(&[&Step::node(&cluster), "true"]);
        assert!(!output.stderr.contains("the credentials expired"), "{}", output.stderr);
        drop(cluster);
    }
}

/// Certificates are valid from a minute before they are issued, so a clock may be less than a minute behind.
fn a_clock_that_is_a_little_behind_is_a_warning() {
    let (_cluster, step) = with_cluster_ahead(45);
    let output = step.pipe().ok();
    assert!(output.stderr.contains("warning: the clock here is 4") && output.stderr.contains("s behind the cluster's"));
}

/// By a clock that is behind, the certificates are not valid yet, so they are not written.
fn a_clock_that_is_far_behind_ends_the_run() {
    check(
        [("clock-seven-minutes-behind", 7 * MINUTE), ("clock-a-day-behind", DAY)]
            .map(|(name, ahead)| Failure::new(name, 5).at(Testcluster::builder().clock_offset(ahead)))
            .into(),
    );
}

fn a_token_that_has_expired_by_both_clocks_is_not_sent() {
    for (offset, ago) in [(0, "expired 1"), (-2 * HOUR, "expired 1")] {
        let (cluster, step) = with_cluster_ahead(offset);
        let expired = cluster.mint(|claims| {
            let exp = claims["iat"].as_i64().unwrap() - 100;
            claims.insert("exp".into(), exp.into());
        });
        let output = step.env("BITBUCKET_STEP_OIDC_TOKEN", &expired).pipe();
        assert_eq!(output.status, Some(3), "{}", output.stderr);
        assert!(output.stderr.contains(ago) && !output.stderr.contains("2h"), "{}", output.stderr);
        assert!(cluster.calls().iter().all(|call| call.name == "GET /webapi/find"), "{:?}", cluster.calls());
    }
}
