//! One join: the bot's own, short-lived identity, in exchange for a proof that this may have it.
//!
//! The join service is asked first. If it is not there, or does not know the join method, the older REST call is made
//! (docs/decisions.md, 4; Teleport's own client does the same: docs/protocol.md, "Fallback"). Neither knows a join
//! method by name.

pub(crate) mod error;
pub(crate) mod kind;
mod legacy;
pub(crate) mod method;
pub(crate) mod oidc;
pub(crate) mod service;
#[cfg(test)]
mod tests;
pub(crate) mod token;

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

pub(crate) use self::error::{Attempt, Error};
pub(crate) use self::method::Method;
use crate::address::HostPort;
use crate::clock::Offset;
use crate::keys::{KeyPair, Suite};
use crate::net::discovery::ClusterInfo;
use crate::net::http::Http;
use crate::net::network::Network;
use crate::retry::{Deadline, Transient as _};
use crate::text::sanitize;
use crate::values::{Privacy, Secret, Ttl};

/// What a join needs.
pub(crate) struct Request<'a> {
    /// The address that was configured: discovery's is not used to join (docs/protocol.md, "Addresses").
    pub(crate) proxy: &'a HostPort,
    pub(crate) network: &'a Network,
    pub(crate) token: &'a Secret,
    pub(crate) method: &'a dyn Method,
    /// Lifetime of the bot's own identity.
    pub(crate) ttl: Ttl,
    /// The time by our clock when the run began.
    pub(crate) now: SystemTime,
    /// The cluster's clock, as soon as it is known.
    pub(crate) clock: watch::Receiver<Option<Offset>>,
    /// Whether the method has its proof.
    pub(crate) is_prepared: watch::Receiver<bool>,
    pub(crate) deadline: Deadline,
    pub(crate) privacy: Privacy,
}

/// The bot's own identity.
pub(crate) struct Joined {
    pub(crate) key: KeyPair,
    /// The suite that the key was made for; the keys of outputs have the same.
    pub(crate) suite: Suite,
    /// The client certificate.
    pub(crate) certificate: CertificateDer<'static>,
    /// Host and user CA in any order (docs/protocol.md, "Bot certificate"): they identify the Auth Service.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// Which service the bot joined by.
    pub(crate) service: &'static str,
}

/// What the join service made of a join.
pub(crate) enum Outcome {
    Joined(Joined),
    /// The service is not there, or does not know the method: go on with [`by_rest`].
    NotThere(Attempt),
}

/// Joins by the join service.
pub(crate) async fn by_service(request: &Request<'_>) -> Result<Outcome, Error> {
    service::join(request).await
}

/// Joins by REST with a key of the cluster's suite, over the connection that discovery used. `first` is the failure of
/// the join service.
pub(crate) async fn by_rest(
    request: &Request<'_>,
    cluster: &ClusterInfo,
    http: Http,
    first: Attempt,
) -> Result<Joined, Error> {
    let joined = match legacy::join(request, cluster.suite, http).await {
        // The cluster has only the join service, whose failure was temporary.
        Err(last) if last.is_gone() && first.is_transient() && request.method.may_repeat() => {
            service::insist(request).await.map_err(|attempt| request.error(attempt, Some(last)))
        }
        answer => answer.map_err(|last| request.error(last, Some(first))),
    };
    joined.map_err(|error| error.at(cluster))
}

impl Request<'_> {
    /// Waits until the method has its proof. Without one the run ends, and says why.
    async fn proof(&self) {
        let _ = self.is_prepared.clone().wait_for(|is_prepared| *is_prepared).await;
    }

    /// The expiry to ask for, by the cluster's clock, as time since 1970. Waits until discovery knows that clock.
    async fn expires(&self) -> Duration {
        let mut clock = self.clock.clone();
        // Without discovery the run ends anyway.
        let offset = clock.wait_for(Option::is_some).await.ok().and_then(|offset| *offset).unwrap_or_default();
        offset.cluster_time(self.now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + self.ttl.0
    }

    fn error(&self, last: Attempt, first: Option<Attempt>) -> Error {
        let mut hints = self.method.hints();
        if self.privacy == Privacy::Public {
            hints.is_public = true;
            hints.admission = None;
        } else if self.method.may_repeat() && self.token.looks_like_a_name() {
            // A proof that may be repeated is not the join token itself.
            hints.token_name = Some(sanitize(self.token.reveal()));
        }
        Error::new(last, first, hints)
    }
}
