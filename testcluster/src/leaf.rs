//! Leaf clusters that the cluster trusts: a host CA each, and a node.

use crate::authority::{Authority, RsaKey};
use crate::cluster::now;
use crate::options::Options;
use crate::suite::Suite;

/// A leaf cluster.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Who signs its hosts. Its users are of no concern here: its node trusts the root's user CA.
    pub host_ca: Authority,
    /// Whether the bot's roles reach it.
    pub open: bool,
}

impl Leaf {
    /// All that were asked for.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        // Not the suite of the root cluster: a leaf has its own, and each shall have keys of its own.
        let authority = |name| Authority::new(name, Suite::FipsV1, RsaKey::Server, now(options.clock_offset));
        options.leafs.iter().map(|(name, open)| Self { host_ca: authority(name), open: *open }).collect()
    }

    pub(crate) fn name(&self) -> &str {
        self.host_ca.cluster()
    }
}
