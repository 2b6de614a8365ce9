//! `known_hosts`: whom ssh believes to be a node (teleport-issue-and-outputs.md 4.4).

use super::cert_authority;
use super::clusters::{beneath, is_beneath};
use crate::credentials::Authority;
use crate::output_files::FIRST_LINE;

/// For the nodes of all clusters, and for the proxy, which is the root cluster's: the first one.
///
/// Stricter than tbot's, which lets each leaf's authority speak for the proxy as well, and for any node whose name ends
/// like those of the leaf.
pub(crate) fn render(proxy_host: &str, clusters: &[Authority]) -> String {
    let lines = clusters.iter().enumerate().map(|(n, Authority { cluster, ssh, .. })| {
        let mut patterns = match n {
            0 => vec![proxy_host.to_owned(), cluster.to_string(), format!("*.{cluster}")],
            _ => vec![format!("*.{cluster}")],
        };
        patterns.extend(beneath(cluster, clusters).iter().map(|other| format!("!{other}")));
        if n > 0 && is_beneath(proxy_host, cluster) {
            patterns.push(format!("!{proxy_host}"));
        }
        let patterns = patterns.join(",");
        ssh.iter().map(|key| cert_authority(&patterns, key)).collect::<String>()
    });
    lines.collect()
}

/// For any name: what the per-cluster `ssh_config` uses, which a person includes under a `Host` line of their own.
pub(crate) fn render_any_host(Authority { cluster, ssh, .. }: &Authority) -> String {
    let lines: String = ssh.iter().map(|key| cert_authority("*", key)).collect();
    format!("{FIRST_LINE}\n# Host CA of the cluster {cluster}.\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::SshAuthority;

    #[test]
    fn no_leaf_speaks_for_the_proxy() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEChAfPkFWHZ6uJFdNwjNdpKVqIrCJSbjKPjbGG7OV";
        let authority = |name: &str| {
            let ssh = vec![SshAuthority::parse(key).unwrap()];
            Authority { cluster: name.parse().unwrap(), ssh, tls: vec![] }
        };
        let clusters = ["root.example", "leaf.example", "example.com"].map(authority);
        let text = render("proxy.example.com", &clusters);
        let patterns: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        let root = "proxy.example.com,root.example,*.root.example";
        assert_eq!(patterns, [root, "*.leaf.example", "*.example.com,!proxy.example.com"]);
    }
}
