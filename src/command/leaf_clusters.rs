//! What a log says of leaf clusters.

use crate::credentials::Credentials;
use crate::destination::Listing;
use crate::output::identity::clusters::{LONGEST_FOR_FILES, with_files};

/// Names the leaf clusters whose nodes can be reached, unless everybody can read the log, and counts those that have no
/// files of their own.
pub(super) fn tell(credentials: &Credentials, discreet: bool) {
    let clusters = &credentials.host_authorities;
    let leaf_clusters = || clusters.iter().filter(|authority| authority.cluster != credentials.cluster);
    if leaf_clusters().next().is_some() && !discreet {
        let names: Listing = leaf_clusters().map(|authority| authority.cluster.to_string()).collect();
        log::info!(target: "certificates", "nodes of leaf clusters, too: {names}");
    }
    let with_files = with_files(clusters).len();
    if with_files < clusters.len() {
        log::warn!(
            target: "write",
            "{} of {} clusters have no ssh_config and known_hosts of their own, but are in those of all: their names \
             have over {LONGEST_FOR_FILES} characters, or differ from another's in case only",
            clusters.len() - with_files,
            clusters.len(),
        );
    }
}
