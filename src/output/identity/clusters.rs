//! Which host names belong to which cluster: the root cluster, or one of its leaf clusters.
//!
//! The name of a node ends with the name of its cluster. The name of one cluster may end with the name of another:
//! `leaf.example.com` is a subdomain of `example.com`. Then the longer one decides, and the CA of the other cluster is
//! not trusted for the node.

use crate::address::ClusterName;
use crate::credentials::Authority;

/// The longest name of a cluster that gets files of its own. A file's name has at most 255 bytes, and other programs may
/// append to it.
pub(crate) const LONGEST_FOR_FILES: usize = 230;

/// The clusters whose names are subdomains of `cluster`, as patterns for their nodes.
pub(super) fn subdomains(cluster: &ClusterName, all: &[Authority]) -> Vec<String> {
    let others = all.iter().filter(|other| is_subdomain(other.cluster.as_str(), cluster));
    others.map(|other| format!("*.{}", other.cluster)).collect()
}

/// Whether the name of a host or a cluster is a subdomain of `cluster`. Host names have no case.
pub(super) fn is_subdomain(name: &str, cluster: &ClusterName) -> bool {
    let suffix = cluster.as_str();
    let Some(at) = name.len().checked_sub(suffix.len() + 1) else { return false };
    // `get` returns `None` within a character that is not ASCII.
    name.get(at..).is_some_and(|end| end.strip_prefix('.').is_some_and(|end| end.eq_ignore_ascii_case(suffix)))
}

/// The clusters that get files of their own, in the same order. A cluster whose name differs from an earlier one only in
/// case gets none: on a file system without case its files would replace the others.
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
    fn subdomains_of_clusters() {
        let all = clusters(&["example.com", "leaf.Example.com", "com", "badexample.com"]);
        assert_eq!(subdomains(&all[0].cluster, &all), ["*.leaf.Example.com"]);
        assert_eq!(subdomains(&all[1].cluster, &all), [""; 0]);
        assert_eq!(subdomains(&all[2].cluster, &all), ["*.example.com", "*.leaf.Example.com", "*.badexample.com"]);
        assert!(is_subdomain("proxy.example.com", &all[0].cluster) && !is_subdomain("example.com", &all[0].cluster));
        assert!(!is_subdomain("é.com", &all[0].cluster) && !is_subdomain("éexample.com", &all[0].cluster));
    }

    #[test]
    fn long_and_equal_names_have_no_files() {
        let (longest, too_long) = ("c".repeat(LONGEST_FOR_FILES), "d".repeat(LONGEST_FOR_FILES + 1));
        let all = clusters(&["root.example", "ROOT.example", &longest, &too_long, "leaf"]);
        let names: Vec<_> = with_files(&all).into_iter().map(|authority| authority.cluster.as_str()).collect();
        assert_eq!(names, ["root.example", &longest, "leaf"]);
    }
}
