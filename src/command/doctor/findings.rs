//! What `doctor` reports beyond what a join would.

use std::time::SystemTime;

use super::report::Outcome;
use crate::clock::{Offset, approximate};
use crate::destination::{Destination, Expected};
use crate::environment::Environment;
use crate::error::{Advice, Exit, Explain};
use crate::guard::{RunningStep, Unchecked};
use crate::net::discovery::ClusterInfo;
use crate::platform::{self, IdToken, rule};
use crate::text::sanitize;
use crate::values::Privacy;

/// Whether there is an ID token to join with. Of its claims only the kind of audience is shown.
pub(super) fn id_token(env: &Environment, now: SystemTime, privacy: Privacy) -> Outcome {
    let token = match platform::detect(env) {
        Ok(token) => token,
        Err(platform::Error::NoCi) => {
            let names = platform::ALL.map(|platform| platform.name);
            return Outcome::Skipped(format!("this is not a step of {}", names.join(" or ")));
        }
        Err(error) => return Outcome::Bad(error.into()),
    };
    if let Some(error) = token.expired(now) {
        return Outcome::Bad(error.into());
    }
    let left = token.claims().expires().and_then(|expires| expires.duration_since(now).ok());
    let left = left.map_or_else(|| "without an expiry".to_owned(), |left| format!("valid for {}", approximate(left)));
    let audience = if privacy == Privacy::Private { audience(&token) } else { "" };
    Outcome::Good(format!("found, {left}{audience}"))
}

fn audience(token: &IdToken) -> &'static str {
    match token.claims().audiences().as_slice() {
        _ if rule::has_too_many_audiences(token.claims()) => ", for several audiences, which clusters refuse",
        [one] if one.starts_with(token.platform().default_audience) => ", for the default audience",
        [] => ", for no audience",
        _ => ", for an audience that the step names",
    }
}

/// Where a join would write, and whose the files would be.
pub(super) fn destination(destination: &Destination) -> Outcome {
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
    Outcome::Good(format!("{path} {state}; the files would belong to {owner}"))
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
    match cluster.lacks_full_node_names() {
        true => Outcome::Remarked(found, vec![without_full_node_names(cluster)]),
        false => Outcome::Good(found),
    }
}

/// What nodes of some versions lack (docs/protocol.md, "Node names").
pub(crate) fn without_full_node_names(ClusterInfo { name, version, .. }: &ClusterInfo) -> String {
    format!(
        "the proxy is Teleport {version}; nodes of 18.2.0 to 18.2.9 have host certificates without <node>.{name}, so that \
         `ssh <login>@<node>.{name}` fails with \"Host key verification failed\". The version of the node counts, which \
         is not known here. For such a node, use the bare name with {name}.ssh_config, or its UUID"
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
