//! Everything a run needs to be told, parsed once into types that cannot hold nonsense.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::{ClusterName, HostPort};
use crate::destination::{Owner, UnknownFiles};
use crate::guard::LeakCheck;
use crate::net::egress::Egress;
use crate::net::upgrade::Upgrade;
use crate::platform::Scope;
use crate::values::{TokenName, Ttl};

/// What is to be done, by whichever way it was asked for.
#[derive(Debug)]
pub(crate) enum Action {
    /// Write credentials.
    Join(Settings),
    /// Show what a cluster needs to know of this step.
    Inspect(InspectSettings),
    /// Look at the way to the cluster.
    Doctor(DoctorSettings),
    /// Remove what was written to this directory, or to the one that this program lies in.
    Cleanup(Option<PathBuf>),
}

/// How one run is to go. The pipe's variables, the command line and (later) `tbot.yaml` all become this.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The cluster's proxy.
    pub(crate) proxy: HostPort,
    /// Whether a load balancer in front of it wants connections to be upgraded.
    pub(crate) upgrade: Upgrade,
    /// The join token's name.
    pub(crate) token: TokenName,
    /// Where the credentials go; may be relative to the working directory.
    pub(crate) destination: PathBuf,
    /// What to do about files in the destination that are not ours.
    pub(crate) unknown_files: UnknownFiles,
    /// Lifetime to ask for.
    pub(crate) ttl: Ttl,
    /// The cluster that the certificates are routed to, if not the root cluster.
    pub(crate) cluster: Option<ClusterName>,
    /// After this the run gives up.
    pub(crate) timeout: Duration,
    /// Who shall own what is written, if not whoever owns the place.
    pub(crate) owner: Option<Owner>,
    /// Web certificate authorities trusted besides the public ones (PEM file).
    pub(crate) ca_file: Option<PathBuf>,
    /// How connections leave this network.
    pub(crate) egress: Egress,
    /// The log is public (a public repository's pipeline): say nothing about claims, roles and logins.
    pub(crate) discreet: bool,
    /// What to do if artifacts or caches would take the credentials.
    pub(crate) leak_check: LeakCheck,
}

/// How a step is to be looked at, for whoever sets up the cluster's side.
#[derive(Clone, Debug)]
pub(crate) struct InspectSettings {
    /// The cluster's proxy, to be asked what the cluster is; without it nobody is.
    pub(crate) proxy: Option<HostPort>,
    /// What the join token is to be called.
    pub(crate) token: Option<TokenName>,
    /// How wide the token's rule is to be; otherwise as narrow as the step allows.
    pub(crate) scope: Option<Scope>,
    /// The role's logins.
    pub(crate) logins: Vec<String>,
    /// After this discovery gives up.
    pub(crate) timeout: Duration,
    /// As of [`Settings`].
    pub(crate) ca_file: Option<PathBuf>,
    /// As of [`Settings`].
    pub(crate) egress: Egress,
    /// As of [`Settings`].
    pub(crate) discreet: bool,
}

/// What is to be looked at on the way to a cluster; each as of [`Settings`].
#[derive(Clone, Debug)]
pub(crate) struct DoctorSettings {
    /// The cluster's proxy.
    pub(crate) proxy: HostPort,
    /// Whether a load balancer in front of it wants connections to be upgraded.
    pub(crate) upgrade: Upgrade,
    /// After this nothing is tried any more.
    pub(crate) timeout: Duration,
    /// Web certificate authorities besides the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// How connections leave this network.
    pub(crate) egress: Egress,
    /// Not even what kind of ID token there is.
    pub(crate) discreet: bool,
}

/// Defaults that the pipe and the command line share.
pub(crate) mod default {
    /// Lifetime of the certificates.
    pub(crate) const TTL: &str = "1h";
    /// The deadline of a run.
    pub(crate) const TIMEOUT: &str = "60s";
    pub(crate) use crate::values::DEFAULT_DESTINATION as DESTINATION;
}
