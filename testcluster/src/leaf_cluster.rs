//! LeafCluster clusters that the cluster trusts: a host CA each, and a node.

use crate::authority::{Authority, RsaKey};
use crate::cluster::now;
use crate::options::Options;
use crate::suite::Suite;

/// A leaf cluster.
#[derive(Debug)]
pub(crate) struct LeafCluster {
    /// Who signs its hosts. Its users are of no concern here: its node trusts the root's user CA.
    pub host_ca: Authority,
    /// Whether the bot's roles reach it.
    pub reachable: bool,
}

impl LeafCluster {
    /// All that were asked for.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        // Not the suite of the root cluster: a leaf has its own, and each shall have keys of its own.
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
