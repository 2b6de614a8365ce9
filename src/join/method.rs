//! What a join method says to the cluster, whichever service is asked.

use std::pin::Pin;
use std::time::SystemTime;

use teleport_api::teleport::join::v1::{Challenge, ClientParams, join_request::Payload};

use crate::error::Failure;
use crate::net::network::Network;
use crate::retry::Deadline;

/// A future that borrows.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A join method: what proves to the cluster that this may join.
pub(crate) trait Method {
    /// As `join_method` in a join token, and on the wire.
    fn join_method(&self) -> &'static str;

    /// Gets the proof, if that needs the network. It is done beside discovery, and the join waits for it.
    fn prepare<'a>(&'a self, _network: &'a Network, _deadline: Deadline) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The error of a proof that is not valid at this time, which is the cluster's.
    fn expired(&self, _now: SystemTime) -> Option<Failure> {
        None
    }

    /// The message to the join service that follows its greeting.
    fn init(&self, params: ClientParams) -> Payload;

    /// The answer to a challenge of the join service. By default the method expects none, and the join is given up.
    fn solve(&self, _challenge: Challenge) -> Option<Payload> {
        None
    }

    /// What the older REST call takes; `None` if it does not know the method.
    fn rest(&self) -> Option<Rest<'_>> {
        None
    }

    /// Whether the proof may be sent again after a failure. A one-time secret may be spent by the first attempt, even if
    /// its answer is lost: it is never sent twice, neither to the same service nor to the other one.
    fn may_repeat(&self) -> bool {
        true
    }

    fn hints(&self) -> Hints;
}

/// What the body of a REST join has of a join method.
pub(crate) struct Rest<'a> {
    pub(crate) id_token: &'a str,
}

/// What a person needs to know of the join method if the cluster refuses it.
#[derive(Debug)]
pub(crate) struct Hints {
    pub(crate) method: &'static str,
    /// What proves that this may join, for example "an ID token of Kubernetes".
    pub(crate) proof: String,
    /// The first version of Teleport that knows the method.
    pub(crate) since: [u32; 3],
    /// What runs: "step", "job".
    pub(crate) unit: &'static str,
    /// What to do if the signature of the proof is wrong.
    pub(crate) changed: &'static str,
    /// Why the cluster refuses claims; empty if there are none.
    pub(crate) mismatch: &'static str,
    /// The join token that Teleport's guide names in the step, and the one that it creates.
    pub(crate) guides_tokens: Option<(&'static str, &'static str)>,
    /// The name of the join token; `None` if it may be a secret.
    pub(crate) token_name: Option<String>,
    /// Whether the join token is a secret itself.
    pub(crate) is_secret: bool,
    /// Whether everyone can read the log.
    pub(crate) is_public: bool,
    /// `None` if there are no claims, or if the log is public.
    pub(crate) admission: Option<Admission>,
}

/// What would admit this step.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The claims, one per line.
    pub(crate) claims: String,
    /// The part of the join token that would admit them.
    pub(crate) token_spec: String,
}

#[cfg(test)]
impl Hints {
    /// Those of a platform's join method, in a private log or a public one.
    pub(crate) fn sample(is_private: bool) -> Self {
        let platform = crate::platform::ALL[0];
        let token_spec = format!("  join_method: {}\n", platform.method);
        Self {
            method: platform.method,
            proof: platform.proof(),
            since: platform.since,
            unit: platform.texts.unit,
            changed: platform.texts.changed,
            mismatch: platform.texts.mismatch,
            guides_tokens: platform.texts.guides_tokens,
            token_name: is_private.then(|| "example-bot".to_owned()),
            is_secret: false,
            is_public: !is_private,
            admission: is_private.then(|| Admission { claims: "sub: a\n".to_owned(), token_spec }),
        }
    }
}
