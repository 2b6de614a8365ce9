//! What `doctor` reports beyond what a join would.

use std::time::SystemTime;

use super::report::Outcome;
use crate::clock::{Offset, approximate};
use crate::destination::{Destination, Expected};
use crate::documents;
use crate::error::{Advice, Exit, Explain};
use crate::guard::{RunningStep, Unchecked};
use crate::net::discovery::ClusterInfo;
use crate::platform::{self, IdToken, rule};
use crate::text::sanitize;
use crate::values::Privacy;

/// Why there is no ID token to join with.
pub(super) fn without_token(error: platform::Error) -> Outcome {
    match error {
        platform::Error::NoCi => Outcome::Skipped("this is not a CI system whose ID tokens are known".to_owned()),
        error => Outcome::Bad(error.into()),
    }
}

/// What an ID token says. Of its claims only the kind of audience is shown.
pub(super) fn token(token: &IdToken, now: SystemTime, privacy: Privacy) -> Outcome {
    if let Some(error) = token.expired(now) {
        return Outcome::Bad(error.into());
    }
    let left = token.claims().expires().and_then(|expires| expires.duration_since(now).ok());
    let left = left.map_or_else(|| "without an expiry".to_owned(), |left| format!("valid for {}", approximate(left)));
    let audience = if privacy == Privacy::Private { audience(token) } else { "" };
    Outcome::Good(format!("found, {left}{audience}"))
}

fn audience(token: &IdToken) -> &'static str {
    match token.claims().audiences().as_slice() {
        _ if rule::has_too_many_audiences(token.claims()) => ", for several audiences, which clusters refuse",
        [_] if token.platform().default_audience.is_empty() => "",
        [one] if one.starts_with(token.platform().default_audience) => ", for the default audience",
        [] => ", for no audience",
        _ => ", for an audience that the step names",
    }
}

/// Where a join would write, and whose the files would be. `run_as_user` is the user of the step, if it names one.
pub(super) fn destination(destination: &Destination, run_as_user: Option<u32>) -> Outcome {
    let Expected { exists, uid, user_of_step } = match destination.expected() {
        Ok(expected) => expected,
        Err(error) => return Outcome::Bad(error.into()),
    };
    let path = sanitize(&destination.absolute().display().to_string());
    let state = if exists { "is there and can be written" } else { "can be created" };
    let owner = match user_of_step {
        Some(user) => format!("user {uid}, who is user {user} of the step: the pipe has other users than the step"),
        None => format!("user {uid}"),
    };
    let found = format!("{path} {state}; the files would belong to {owner}");
    // root can read all of them.
    match run_as_user.filter(|user| ![0, user_of_step.unwrap_or(uid)].contains(user)) {
        Some(user) => Outcome::Remarked(found, vec![unreadable(user, user_of_step.is_some())]),
        None => Outcome::Good(found),
    }
}

fn unreadable(user: u32, is_remapped: bool) -> String {
    let remedy = match is_remapped {
        true => documents::troubleshooting("the-pipe-has-other-users-than-the-step"),
        false => format!("create the directory in the step before the pipe, or set FILE_OWNER: '{user}'"),
    };
    format!("the step has `run-as-user: {user}`, who could not read the files: {remedy}")
}

/// What the leak check found.
pub(super) fn leak_check(step: RunningStep, warnings: Vec<String>) -> Outcome {
    let unchecked = step.unchecked.map(|(Unchecked::Intended(reason) | Unchecked::Impossible(reason))| reason);
    let unchecked = unchecked.map(|reason| format!("not checked: {reason}"));
    match unchecked {
        Some(reason) if warnings.is_empty() => Outcome::Skipped(reason),
        Some(reason) => Outcome::Remarked(reason, warnings),
        None if warnings.is_empty() => Outcome::Good("nothing of the step was found that takes the keys".to_owned()),
        None => Outcome::Remarked("a join would warn, and go on".to_owned(), warnings),
    }
}

pub(super) fn described(cluster: &ClusterInfo) -> Outcome {
    let ClusterInfo { name, version, suite, tls_routing, ssh_proxy, .. } = cluster;
    let ports = if *tls_routing { "one port for everything" } else { "separate ports" };
    let suite = suite.name();
    let found = format!("{name}, Teleport {version}, suite {suite}, {ports}, nodes are reached at {ssh_proxy}");
    match cluster.may_lack_full_node_names() {
        true => Outcome::Remarked(found, vec![without_full_node_names(cluster)]),
        false => Outcome::Good(found),
    }
}

/// What nodes of some versions lack (docs/protocol.md, "Versions").
pub(crate) fn without_full_node_names(ClusterInfo { name, version, .. }: &ClusterInfo) -> String {
    format!(
        "the proxy is Teleport {version}; nodes that joined with 18.2.2 to 18.2.7 have host certificates without \
         <node>.{name}, so that `ssh <login>@<node>.{name}` fails with \"Host key verification failed\" until they are \
         updated. Their versions are not known here. For such a node, use the bare name with {name}.ssh_config, or its UUID"
    )
}

/// Expiries are requested by the cluster's clock, but OpenSSH checks by ours whether a certificate is valid already. Fresh
/// ones are valid since a minute ago (docs/protocol.md, "Issued certificates").
pub(super) fn clock(offset: Offset) -> Outcome {
    match offset.seconds() {
        60.. => Outcome::Bad(Behind { offset }.into()),
        0 => Outcome::Good("that of the cluster, to half a minute".to_owned()),
        _ => Outcome::Good(format!("{offset}, which does no harm")),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the clock here is {offset}")]
pub(crate) struct Behind {
    pub(crate) offset: Offset,
}

impl Explain for Behind {
    fn advice(&self) -> Advice {
        let remedy =
            "Set the clock of the runner by NTP: with this clock, freshly issued certificates are not valid yet.";
        Advice::new(Exit::Network, "the-clocks-differ", remedy)
            .cause("The clock of the runner is wrong, or that of the cluster.")
    }
}
