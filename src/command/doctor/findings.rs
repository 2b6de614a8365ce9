//! What is said of things found that a join would not say.

use std::time::SystemTime;

use super::report::Outcome;
use crate::clock::{Offset, approximate};
use crate::error::{Exit, Explain};
use crate::net::discovery::ClusterInfo;
use crate::platform::rule;
use crate::platform::{Claims, Detection};

/// Whether there is one to join with. What it says is nobody's business here, but for what kind it is.
pub(super) fn id_token(detection: Detection, now: SystemTime, discreet: bool) -> Outcome {
    let token = match detection {
        Detection::Here(token) => token,
        Detection::Unusable(error) => return Outcome::Bad(error.into()),
        Detection::NotHere => return Outcome::Skipped("this is no step of Bitbucket Pipelines".to_owned()),
    };
    if let Some(error) = token.expired(now) {
        return Outcome::Bad(error.into());
    }
    let claims = token.claims();
    let left = claims.expires().and_then(|expires| expires.duration_since(now).ok());
    let left = left.map_or_else(|| "without an expiry".to_owned(), |left| format!("valid for {}", approximate(left)));
    let kind = if discreet { "" } else { audience(claims) };
    Outcome::Good(format!("there is one, {left}{kind}"))
}

fn audience(claims: &Claims) -> &'static str {
    match claims.audiences().as_slice() {
        _ if rule::is_for_too_many(claims) => ", for several audiences, which clusters refuse",
        [one] if one.starts_with("ari:cloud:bitbucket::workspace/") => ", for the workspace's audience",
        [] => ", for no audience",
        _ => ", for an audience of the step's own",
    }
}

/// The cluster in a line.
pub(super) fn described(ClusterInfo { name, version, suite, tls_routing, ssh_proxy, .. }: &ClusterInfo) -> String {
    let ports = if *tls_routing { "one port for everything" } else { "several ports" };
    format!("{name}, Teleport {version}, suite {}, {ports}, nodes are reached at {ssh_proxy}", suite.name())
}

/// What is asked for goes by the cluster's clock, but whether a certificate is valid already is checked by ours, and
/// fresh ones are valid from a minute back (teleport-issue-and-outputs.md 3).
pub(super) fn clock(offset: Offset) -> Outcome {
    match offset.seconds() {
        60.. => Outcome::Bad(Behind { offset }.into()),
        0 => Outcome::Good("that of the cluster, to half a minute".to_owned()),
        _ => Outcome::Good(format!("{offset}, which does no harm")),
    }
}

/// Certificates become valid here later than there.
#[derive(Debug, thiserror::Error)]
#[error("the clock here is {offset}")]
pub(crate) struct Behind {
    pub(crate) offset: Offset,
}

impl Explain for Behind {
    fn likely_cause(&self) -> Option<String> {
        Some("The runner does not keep its clock right, or the cluster does not.".to_owned())
    }

    fn what_to_do(&self) -> String {
        "Set the clock of the runner, by NTP: fresh certificates are not valid yet by it.".to_owned()
    }

    fn exit(&self) -> Exit {
        Exit::Network
    }

    fn anchor(&self) -> &'static str {
        "the-clocks-differ"
    }
}

/// The cluster does not know the join method.
#[derive(Debug, thiserror::Error)]
#[error("the cluster is Teleport {version}, which cannot join by an ID token of Bitbucket")]
pub(crate) struct TooOld {
    pub(crate) version: String,
}

impl Explain for TooOld {
    fn what_to_do(&self) -> String {
        "Update the cluster to 17.0.2 or newer.".to_owned()
    }

    fn exit(&self) -> Exit {
        Exit::Refused
    }

    fn anchor(&self) -> &'static str {
        "no-way-to-join"
    }
}
