//! Whose names are whose: the root cluster, and the leaf clusters that it trusts.
//!
//! A name of a node ends with that of its cluster. One cluster's name may end with another's (`leaf.example.com` is
//! beneath `example.com`): then the longer one decides, and the other's authority has no say in it.

use crate::address::ClusterName;
use crate::credentials::Authority;

/// The longest name that has files of its own: a file's name has 255 bytes at most, and some are left for what other
/// programs append to it.
pub(crate) const LONGEST_FOR_FILES: usize = 230;

/// The clusters whose names end with that of `cluster`, as patterns for their nodes.
pub(super) fn beneath(cluster: &ClusterName, all: &[Authority]) -> Vec<String> {
    let others = all.iter().map(|authority| &authority.cluster);
    others.filter(|other| is_beneath(other.as_str(), cluster)).map(|other| format!("*.{other}")).collect()
}

/// Whether a host or cluster has a name beneath that of `cluster`. Names of hosts have no case.
pub(super) fn is_beneath(name: &str, cluster: &ClusterName) -> bool {
    let suffix = cluster.as_str();
    let Some(at) = name.len().checked_sub(suffix.len() + 1) else { return false };
    // All of it is ASCII, or there is no such place.
    name.get(at..).is_some_and(|end| end.strip_prefix('.').is_some_and(|end| end.eq_ignore_ascii_case(suffix)))
}

/// The clusters that have files of their own, in the same order. One whose name differs from an earlier one's in case
/// only has none: where file names have no case, its files would replace the other's.
pub(crate) fn with_files(all: &[Authority]) -> Vec<&Authority> {
    let mut clusters: Vec<&Authority> = Vec::new();
    for authority in all {
        let name = authority.cluster.as_str();
        let taken = clusters.iter().any(|other| other.cluster.as_str().eq_ignore_ascii_case(name));
        if name.len() <= LONGEST_FOR_FILES && !taken {
            clusters.push(authority);
        }
    }
    clusters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(names: &[&str]) -> Vec<Authority> {
        let authority = |name: &&str| Authority { cluster: name.parse().unwrap(), ssh: vec![], tls: vec![] };
        names.iter().map(authority).collect()
    }

    #[test]
    fn names_beneath_others() {
        let all = clusters(&["example.com", "leaf.Example.com", "com", "badexample.com"]);
        assert_eq!(beneath(&all[0].cluster, &all), ["*.leaf.Example.com"]);
        assert_eq!(beneath(&all[1].cluster, &all), [""; 0]);
        assert_eq!(beneath(&all[2].cluster, &all), ["*.example.com", "*.leaf.Example.com", "*.badexample.com"]);
        assert!(is_beneath("proxy.example.com", &all[0].cluster) && !is_beneath("example.com", &all[0].cluster));
        assert!(!is_beneath("é.com", &all[0].cluster) && !is_beneath("éexample.com", &all[0].cluster));
    }

    #[test]
    fn who_has_files() {
        let (longest, too_long) = ("c".repeat(LONGEST_FOR_FILES), "d".repeat(LONGEST_FOR_FILES + 1));
        let all = clusters(&["root.example", "ROOT.example", &longest, &too_long, "leaf"]);
        let names: Vec<_> = with_files(&all).into_iter().map(|authority| authority.cluster.as_str()).collect();
        assert_eq!(names, ["root.example", &longest, "leaf"]);
    }
}
