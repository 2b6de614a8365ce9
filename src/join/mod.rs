//! One join: the bot's own, short-lived identity for an ID token.
//!
//! The new join service is asked first. Where it, or the join method in it, is not there, the older REST call is
//! (DESIGN.md decision 4; what Teleport's own client does: teleport-join.md 3.6).

pub(crate) mod error;
mod legacy;
mod oidc;
pub(crate) mod service;

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

pub(crate) use self::error::{Attempt, Error};
use crate::address::HostPort;
use crate::clock::Offset;
use crate::keys::{KeyPair, Suite};
use crate::net::discovery::ClusterInfo;
use crate::net::http::Http;
use crate::net::network::Network;
use crate::platform::IdToken;
use crate::retry::{Deadline, Transient as _};
use crate::values::{TokenName, Ttl};

/// What a join needs.
pub(crate) struct Request<'a> {
    /// Joining always uses the address that was configured (teleport-join.md 1.3).
    pub(crate) proxy: &'a HostPort,
    /// How the proxy is reached.
    pub(crate) network: &'a Network,
    /// The join token's name.
    pub(crate) token: &'a TokenName,
    /// The step's ID token.
    pub(crate) id_token: &'a IdToken,
    /// Lifetime of the bot's own identity.
    pub(crate) ttl: Ttl,
    /// The time by our clock, when the run began.
    pub(crate) now: SystemTime,
    /// The cluster's clock, as soon as it is known.
    pub(crate) clock: watch::Receiver<Option<Offset>>,
    /// When to give up.
    pub(crate) deadline: Deadline,
}

/// The bot's own identity.
pub(crate) struct Joined {
    /// Its key.
    pub(crate) key: KeyPair,
    /// The suite that the key was made for; the output's key has the same.
    pub(crate) suite: Suite,
    /// Its client certificate.
    pub(crate) certificate: CertificateDer<'static>,
    /// Host and user CA, unordered (teleport-join.md 6.1): whom to believe to be Auth.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// Which service joined it.
    pub(crate) service: &'static str,
}

/// What came of the new join service.
pub(crate) enum Outcome {
    /// Joined.
    Joined(Joined),
    /// The service, or the method in it, is not there: go on with [`by_rest`].
    NotThere(Attempt),
}

/// Joins by the new service.
///
/// # Errors
/// Refused for good, or not reached.
pub(crate) async fn by_service(request: &Request<'_>) -> Result<Outcome, Error> {
    service::join(request).await
}

/// Joins by REST, over the connection that discovery used. `first` is what the new service said.
///
/// # Errors
/// Refused for good, or not reached. Both failures are kept.
pub(crate) async fn by_rest(
    request: &Request<'_>,
    cluster: &ClusterInfo,
    http: Http,
    first: Attempt,
) -> Result<Joined, Error> {
    match legacy::join(request, cluster.suite, http).await {
        // A cluster that has only the new service: what failed on the way to it may pass.
        Err(last) if last.is_gone() && first.is_transient() => {
            service::insist(request).await.map_err(|attempt| Error::new(attempt, Some(last)))
        }
        answer => answer.map_err(|last| Error::new(last, Some(first))),
    }
}

/// The expiry to ask for, by the cluster's clock, as time since 1970. Waits for discovery to tell it.
async fn expires(request: &Request<'_>) -> Duration {
    let mut clock = request.clock.clone();
    // Without discovery the run ends anyway.
    let offset = clock.wait_for(Option::is_some).await.ok().and_then(|offset| *offset).unwrap_or_default();
    offset.cluster_time(request.now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + request.ttl.0
}
