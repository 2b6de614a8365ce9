//! `known_hosts`: whom ssh believes to be a node (teleport-issue-and-outputs.md 4.4).

use super::cert_authority;
use crate::credentials::SshAuthority;
use crate::destination::FIRST_LINE;
use crate::net::discovery::ClusterName;

/// For the proxy, and for names in the cluster.
pub fn render(proxy_host: &str, cluster: &ClusterName, keys: &[SshAuthority]) -> String {
    let patterns = format!("{proxy_host},{cluster},*.{cluster}");
    keys.iter().map(|key| cert_authority(&patterns, key)).collect()
}

/// For any name: what the per-cluster `ssh_config` uses, which a person includes under a `Host` line of their own.
pub fn render_any_host(cluster: &ClusterName, keys: &[SshAuthority]) -> String {
    let lines: String = keys.iter().map(|key| cert_authority("*", key)).collect();
    format!("{FIRST_LINE}\n# Host CA of the cluster {cluster}.\n{lines}")
}
