//! Leaf clusters of the root cluster, each with a host CA and a node.

use crate::authority::{Authority, RsaKey};
use crate::cluster::now;
use crate::options::Options;
use crate::suite::Suite;

/// A leaf cluster.
#[derive(Debug)]
pub(crate) struct LeafCluster {
    /// Leaf clusters have no user CA here: their nodes trust the root's.
    pub host_ca: Authority,
    /// Whether the bot's roles give access to it.
    pub reachable: bool,
}

impl LeafCluster {
    /// All leaf clusters of the options.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        // A leaf cluster has its own suite. With RSA all of them would have the same key of `testdata/`.
        let authority = |name| Authority::new(name, Suite::FipsV1, RsaKey::Server, now(options.clock_offset));
        options
            .leaf_clusters
            .iter()
            .map(|(name, reachable)| Self { host_ca: authority(name), reachable: *reachable })
            .collect()
    }

    pub(crate) fn name(&self) -> &str {
        self.host_ca.cluster()
    }
}
