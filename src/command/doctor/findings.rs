//! What `doctor` reports beyond what a join would.

use std::time::SystemTime;

use super::report::Outcome;
use crate::clock::{Offset, approximate};
use crate::environment::Environment;
use crate::error::{Advice, Exit, Explain};
use crate::net::discovery::ClusterInfo;
use crate::platform::{self, IdToken, Platform, rule};
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

pub(super) fn described(ClusterInfo { name, version, suite, tls_routing, ssh_proxy, .. }: &ClusterInfo) -> String {
    let ports = if *tls_routing { "one port for everything" } else { "separate ports" };
    format!("{name}, Teleport {version}, suite {}, {ports}, nodes are reached at {ssh_proxy}", suite.name())
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

#[derive(Debug, thiserror::Error)]
#[error("the cluster is Teleport {version}, which cannot join by an ID token of {}", platform.name)]
pub(crate) struct TooOld {
    pub(crate) version: String,
    pub(crate) platform: &'static Platform,
}

impl Explain for TooOld {
    fn advice(&self) -> Advice {
        let remedy = format!("Update the cluster to {} or newer.", self.platform.since());
        Advice::new(Exit::Refused, "no-way-to-join", remedy)
    }
}
