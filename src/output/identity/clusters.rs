//! Which host names belong to which cluster: the root cluster, or one of its leaf clusters.
//!
//! The name of a node ends with the name of its cluster. The name of one cluster may end with the name of another:
//! `leaf.example.com` is a subdomain of `example.com`. Then the longer one decides, and the CA of the other cluster is
//! not trusted for the node.

use std::collections::BTreeMap;

use crate::address::ClusterName;
use crate::credentials::Authority;

/// The longest name of a cluster that gets files of its own. A file's name has at most 255 bytes, and other programs may
/// append to it.
pub(crate) const LONGEST_FOR_FILES: usize = 230;

/// For each cluster the patterns of hosts that are not its own: those of the clusters whose names are subdomains of its
/// name. A subdomain of a subdomain is covered by the pattern of the latter, so that all lists together are not longer than
/// the list of clusters.
pub(super) fn subdomains(all: &[Authority]) -> Vec<Vec<String>> {
    let folded = |authority: &Authority| authority.cluster.as_str().to_ascii_lowercase();
    let positions: BTreeMap<_, _> = all.iter().enumerate().map(|(n, authority)| (folded(authority), n)).collect();
    let mut patterns = vec![Vec::new(); all.len()];
    for (n, authority) in all.iter().enumerate() {
        let (name, folded) = (authority.cluster.as_str(), folded(authority));
        let mut parents = folded.match_indices('.').map(|(dot, _)| &folded[dot + 1..]);
        if let Some(&parent) = parents.find_map(|parent| positions.get(parent)) {
            patterns[parent].push(format!("*.{name}"));
            // ssh compares with the name as it was typed, or in lower case.
            patterns[parent].extend((name != folded).then(|| format!("*.{folded}")));
            // The root cluster's name is a host's, too: that of its proxy.
            patterns[parent].extend((n == 0).then_some(folded));
        }
    }
    patterns
}

/// Whether the name of a host or a cluster is a subdomain of `cluster`. Host names have no case.
pub(super) fn is_subdomain(name: &str, cluster: &ClusterName) -> bool {
    let suffix = cluster.as_str();
    let Some(at) = name.len().checked_sub(suffix.len() + 1) else { return false };
    // `get` returns `None` within a character that is not ASCII.
    name.get(at..).is_some_and(|end| end.strip_prefix('.').is_some_and(|end| end.eq_ignore_ascii_case(suffix)))
}

/// The clusters that get files of their own, in the same order.
pub(crate) fn with_files(all: &[Authority]) -> Vec<&Authority> {
    all.iter().filter(|authority| authority.cluster.as_str().len() <= LONGEST_FOR_FILES).collect()
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
        let all = clusters(&["example.com", "leaf.Example.com", "com", "badexample.com", "a.b.leaf.example.com"]);
        let expected: [&[&str]; 5] = [
            &["*.leaf.Example.com", "*.leaf.example.com"],
            &["*.a.b.leaf.example.com"],
            &["*.example.com", "example.com", "*.badexample.com"],
            &[],
            &[],
        ];
        assert_eq!(subdomains(&all), expected);
        assert!(is_subdomain("proxy.example.com", &all[0].cluster) && !is_subdomain("example.com", &all[0].cluster));
        assert!(!is_subdomain("é.com", &all[0].cluster) && !is_subdomain("éexample.com", &all[0].cluster));
    }

    #[test]
    fn long_names_have_no_files() {
        let (longest, too_long) = ("c".repeat(LONGEST_FOR_FILES), "d".repeat(LONGEST_FOR_FILES + 1));
        let all = clusters(&["root.example", &longest, &too_long, "leaf"]);
        let names: Vec<_> = with_files(&all).into_iter().map(|authority| authority.cluster.as_str()).collect();
        assert_eq!(names, ["root.example", &longest, "leaf"]);
    }
}
