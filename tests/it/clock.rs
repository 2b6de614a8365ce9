//! A clock that is wrong: ours, or the cluster's, which is the same to either of them.

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

/// A cluster whose clock is so many seconds ahead of ours, and a step with a token of its time.
fn apart(seconds: i64) -> (Testcluster, Step) {
    let cluster = Testcluster::builder().clock_offset(seconds).start();
    let step = Step::new(&cluster);
    (cluster, step)
}

/// When the certificate in the destination ends, in seconds from now by our clock.
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

/// The expiry that is asked for is that of the cluster's clock, and nothing here takes the certificates for expired.
fn a_clock_that_is_ahead_does_no_harm() {
    for behind in [7 * MINUTE, 2 * HOUR, DAY] {
        let (cluster, step) = apart(-behind);
        let output = step.pipe().ok();
        let ahead = match behind {
            DAY => "1day",
            420 => "7m",
            _ => "2h",
        };
        let warning = format!("warning: the clock here is {ahead} ahead of the cluster's");
        assert!(output.stderr.contains(&warning), "{}", output.stderr);
        // The token of an hour has expired by our clock, but not by the one that counts.
        assert_eq!(
            output.stderr.contains("expired, according to the clock of this machine"),
            behind > HOUR,
            "{}",
            output.stderr
        );
        assert!(output.stderr.contains("valid for 1h, files in"), "{}", output.stderr);
        let expected = HOUR - behind;
        assert!((expected - 60..=expected + 60).contains(&remaining(&step)), "{behind}: {}", remaining(&step));
        // The node goes by our clock here; what counts is that its way is not closed before.
        let output = step.ssh(&[&Step::node(&cluster), "true"]);
        assert!(!output.stderr.contains("the credentials expired"), "{}", output.stderr);
        drop(cluster);
    }
}

/// A minute is what certificates are valid back from when they are made.
fn a_clock_that_is_a_little_behind_is_a_warning() {
    let (_cluster, step) = apart(45);
    let output = step.pipe().ok();
    assert!(output.stderr.contains("warning: the clock here is 4") && output.stderr.contains("s behind the cluster's"));
}

/// Whoever reads a certificate by a clock that is behind must not believe it, and we do not write what is not valid.
fn a_clock_that_is_far_behind_ends_the_run() {
    check(
        [("clock-seven-minutes-behind", 7 * MINUTE), ("clock-a-day-behind", DAY)]
            .map(|(name, ahead)| Failure::new(name, 5).at(Testcluster::builder().clock_offset(ahead)))
            .into(),
    );
}

fn a_token_that_has_expired_by_both_clocks_is_not_sent() {
    for (offset, ago) in [(0, "expired 1"), (-2 * HOUR, "expired 1")] {
        let (cluster, step) = apart(offset);
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
