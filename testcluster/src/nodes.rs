//! The nodes of the root cluster and the leaf clusters, and how a dial target is resolved (docs/protocol.md, "Node
//! names").

use std::io;
use std::path::Path;

use ssh_key::{LineEnding, PrivateKey};
use teleport_api::teleport::transport::v1::TargetHost;

use crate::accounts::Accounts;
use crate::authority::{Authority, HostSsh, RsaKey, ssh_private_key};
use crate::cluster::now;
use crate::fault::Fault;
use crate::join::uuid;
use crate::leaf_cluster::LeafCluster;
use crate::options::Options;
use crate::refusal::Refusal;
use crate::rotation::{Authorities, all};
use crate::sshd::{Sshd, SshdKeys};

/// The address of all nodes.
const ADDRESS: &str = "127.0.0.1";

/// A node as the proxy knows it.
#[derive(Debug)]
pub(crate) struct Node {
    pub cluster: String,
    pub hostname: String,
    pub uuid: String,
    port: &'static str,
    key: PrivateKey,
    sshd: Sshd,
}

/// Host name and port of the kinds of nodes.
const TELEPORT: (&str, &str) = ("node", "3022");
const OPENSSH: (&str, &str) = ("openssh", "22");
const LEAF: (&str, &str) = ("leafnode", "3022");

/// Sets up all nodes below a directory, the root cluster's first.
pub(crate) fn prepare(
    options: &Options,
    leaf_clusters: &[LeafCluster],
    directory: &Path,
    accounts: &Accounts,
) -> io::Result<Vec<Node>> {
    let root = options.name.as_str();
    let own = std::iter::once((root, TELEPORT)).chain(options.openssh_node.then_some((root, OPENSSH)));
    let of_leaf_clusters = leaf_clusters.iter().map(|leaf| (leaf.name(), LEAF));
    let further = options
        .further_nodes
        .iter()
        .map(|(cluster, hostname)| (cluster.as_deref().unwrap_or(root), (hostname.as_str(), TELEPORT.1)));
    let wanted = own.chain(of_leaf_clusters).chain(further);
    let nodes = wanted.enumerate().map(|(number, (cluster, (hostname, port)))| {
        // The files of the first node are in the directory itself.
        let directory = if number == 0 { directory.to_owned() } else { directory.join(format!("node-{number}")) };
        std::fs::create_dir_all(&directory)?;
        let key = ssh_private_key(options.suite.ssh_authority(), RsaKey::Server);
        let host_key = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
        let sshd = Sshd::prepare(&directory, &host_key, accounts, options.port_forwarding)?;
        Ok(Node { cluster: cluster.to_owned(), hostname: hostname.to_owned(), uuid: uuid(), port, key, sshd })
    });
    nodes.collect()
}

/// Issues the host certificates of all nodes, and configures the user CAs that they trust.
pub(crate) fn certify(
    nodes: &[Node],
    options: &Options,
    leaf_clusters: &[LeafCluster],
    authorities: &Authorities,
) -> io::Result<()> {
    let user_cas: String = all(authorities.user()).map(Authority::ssh_line).collect();
    for node in nodes {
        let other;
        let signer = if options.faults.contains(&Fault::NodeCertOfOtherCa) {
            let time = now(options.clock_offset);
            other = Authority::new(&node.cluster, options.suite, RsaKey::IdentityProvider, time);
            &other
        } else {
            let leaf = leaf_clusters.iter().find(|leaf| leaf.name() == node.cluster);
            leaf.map_or(authorities.server_ca(), |leaf| &leaf.host_ca)
        };
        let request = HostSsh { key: node.key.public_key(), names: &node.principals(options), from: now(0) - 3600 };
        let host_certificate = signer.issue_host_ssh(&request).to_openssh().map_err(io::Error::other)?;
        node.sshd.certify(&SshdKeys { host_certificate: &host_certificate, user_cas: &user_cas })?;
    }
    Ok(())
}

impl Node {
    /// The principals of the host certificate. For an OpenSSH node the proxy terminates SSH with a certificate of its
    /// own, which has the node's names and addresses.
    fn principals(&self, options: &Options) -> Vec<String> {
        let Self { cluster, hostname, uuid, .. } = self;
        let mut names = vec![format!("{uuid}.{cluster}"), hostname.clone(), ADDRESS.to_owned()];
        if !options.faults.contains(&Fault::NodeCertWithoutFullName) {
            names.push(format!("{hostname}.{cluster}"));
        }
        if self.port == TELEPORT.1 {
            names.extend([uuid, "localhost", "::1"].map(str::to_owned));
        }
        let folded = hostname.to_ascii_lowercase();
        names.extend((folded != *hostname).then_some(folded));
        names
    }

    pub(crate) fn sshd(&self) -> &Sshd {
        &self.sshd
    }

    fn is_at(&self, host: &str, port: &str, ignore_case: bool) -> bool {
        let has_name = self.hostname == host || (ignore_case && self.hostname.to_ascii_lowercase() == host);
        (has_name || host == ADDRESS) && ["", "0", self.port].contains(&port)
    }

    /// Whether a keyword of a search fits the node: it is a part of a name or of an address, in any case.
    fn contains(&self, keyword: &str) -> bool {
        let keyword = keyword.to_lowercase();
        [&self.hostname, &self.uuid, ADDRESS].iter().any(|text| text.to_lowercase().contains(&keyword))
    }
}

/// A page of the nodes of the root cluster that fit all keywords, by their names, and whether there are more
/// (docs/protocol.md, "Auth calls").
pub(crate) fn list<'a>(nodes: &'a [Node], root: &str, keywords: &[String], limit: usize) -> (Vec<&'a Node>, bool) {
    let fits = |node: &&Node| node.cluster == root && keywords.iter().all(|keyword| node.contains(keyword));
    let mut found: Vec<_> = nodes.iter().filter(fits).collect();
    found.sort_by(|a, b| a.hostname.cmp(&b.hostname));
    let has_more = found.len() > limit;
    found.truncate(limit);
    (found, has_more)
}

/// Resolves a target. A leaf cluster without access is treated like one that does not exist.
pub(crate) fn find<'a>(
    nodes: &'a [Node],
    options: &Options,
    leaf_clusters: &[LeafCluster],
    target: &TargetHost,
) -> Result<&'a Node, Refusal> {
    let root = options.name.as_str();
    let (host, port) = target
        .host_port
        .rsplit_once(':')
        .ok_or_else(|| Refusal::bad_parameter("dial target contains an invalid hostport"))?;
    let cluster = if target.cluster.is_empty() { root } else { &target.cluster };
    if cluster != root && !leaf_clusters.iter().any(|leaf| leaf.name() == cluster && leaf.reachable) {
        return Err(Refusal::not_found(format!("looking up remote cluster \"{cluster}\"\n\tnot found")));
    }
    let mut nodes = nodes.iter().filter(|node| node.cluster == cluster);
    if let Some(node) = nodes.clone().find(|node| node.uuid == host) {
        return Ok(node);
    }
    if host.len() == 36 && host.bytes().filter(|byte| *byte == b'-').count() == 4 {
        return Err(Refusal::not_found(format!("unable to locate node matching UUID-like target {host}")));
    }
    let mut matching = nodes.by_ref().filter(|node| node.is_at(host, port, options.case_insensitive_routing));
    match (matching.next(), matching.next()) {
        (Some(node), None) => Ok(node),
        (Some(_), Some(_)) => Err(Refusal::not_found("ambiguous host could match multiple nodes")),
        (None, _) => Err(Refusal::connection_problem(format!("target host {host} is offline or does not exist"))),
    }
}
