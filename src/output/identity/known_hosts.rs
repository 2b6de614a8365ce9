//! `known_hosts`: the CAs that ssh trusts for the nodes (docs/protocol.md, "known_hosts").

use std::iter::zip;

use super::cert_authority;
use super::clusters::{is_subdomain, subdomains};
use crate::credentials::Authority;
use crate::output_files::FIRST_LINE;

/// The CAs for the nodes of all clusters, and for the proxy, which belongs to the root cluster: the first one.
///
/// This is stricter than tbot, which also trusts the CA of each leaf cluster for the proxy, and for any node whose name
/// ends with the name of the leaf cluster.
pub(crate) fn render(proxy_host: &str, clusters: &[Authority]) -> String {
    let subdomains = subdomains(clusters);
    let lines = zip(clusters, &subdomains).enumerate().map(|(n, (Authority { cluster, ssh, .. }, others))| {
        let mut patterns = match n {
            0 => vec![proxy_host.to_owned(), cluster.to_string(), format!("*.{cluster}")],
            _ => vec![format!("*.{cluster}")],
        };
        patterns.extend(others.iter().map(|other| format!("!{other}")));
        if n > 0 && is_subdomain(proxy_host, cluster) {
            patterns.push(format!("!{proxy_host}"));
        }
        let patterns = patterns.join(",");
        ssh.iter().map(|key| cert_authority(&patterns, key)).collect::<String>()
    });
    lines.collect()
}

/// The CA of one cluster for any host name. The cluster's own `ssh_config` uses it, for an `Include` under another `Host`
/// line.
pub(crate) fn render_any_host(Authority { cluster, ssh, .. }: &Authority) -> String {
    let lines: String = ssh.iter().map(|key| cert_authority("*", key)).collect();
    format!("{FIRST_LINE}\n# Host CA of the cluster {cluster}.\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::SshAuthority;

    #[test]
    fn the_ca_of_a_leaf_cluster_is_not_trusted_for_the_proxy() {
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
