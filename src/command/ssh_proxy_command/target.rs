//! The node that ssh was asked for, by which other names it is reached, and the lines that ssh's user can copy.
//!
//! ssh writes the names of hosts in lower case, and compares them by case with those in a host certificate. Teleport keeps
//! names of nodes and clusters as they are (docs/protocol.md, "Node names"; docs/decisions.md, 8).

use std::path::PathBuf;

use super::error::NODE_REMEDY;
use super::host_certificate::Certificate;
use crate::auth::{Node, NodeList};
use crate::destination::Listing;
use crate::output_files::{SSH_CONFIG, of_cluster};
use crate::shell;
use crate::text::sanitize;
use crate::values::Privacy;

/// The port of Teleport's nodes, which `ssh_config` has.
const DEFAULT_PORT: &str = "3022";

/// What ssh was asked for.
#[derive(Debug)]
pub(super) struct Target {
    /// As ssh gives it: the name that it compares with the host certificate.
    pub(super) host: String,
    /// The name without the cluster's.
    pub(super) node: String,
    pub(super) port: String,
    pub(super) user: Option<String>,
    /// The node's cluster.
    pub(super) cluster: String,
    /// The cluster that issued the credentials.
    pub(super) root_cluster: String,
    /// The directory with the credentials.
    pub(super) directory: PathBuf,
    /// Whether everyone may read what is printed.
    pub(super) privacy: Privacy,
}

/// What follows if the proxy does not find a node by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OtherName {
    /// There is one node of that name in another case, and its certificate fits the name that ssh checks.
    Dial(Node),
    /// What to do, for the error.
    Remedy(String),
    /// Nothing is known that helps.
    Nothing,
}

impl Target {
    /// For the proxy.
    pub(super) fn host_port(&self) -> String {
        format!("{}:{}", self.node, self.port)
    }

    /// Whether the proxy found several nodes, or none, of a name that may exist in another case. Returns `None` if the reason
    /// is another one. The words depend on the version (docs/protocol.md, "Versions").
    pub(super) fn not_found(&self, reason: &str) -> Option<bool> {
        let has_case = self.node.contains(|c: char| c.is_ascii_alphabetic()) && !is_uuid(&self.node);
        let is_ambiguous = reason.contains("ambiguous");
        let is_unknown =
            ["offline or does not exist", "not found in inventory"].iter().any(|text| reason.contains(text));
        (has_case && (is_ambiguous || is_unknown)).then_some(is_ambiguous)
    }

    /// Decides by the list of nodes; `None` if the cluster could not be asked.
    pub(super) fn other_name(&self, list: Option<NodeList>, is_ambiguous: bool) -> OtherName {
        let Some(NodeList { mut nodes, is_complete }) = list else { return self.unknown(is_ambiguous) };
        nodes.retain(|node| node.hostname.eq_ignore_ascii_case(&self.node) && is_uuid(&node.uuid));
        // A node may be listed twice.
        nodes.sort_by(|a, b| a.uuid.cmp(&b.uuid));
        nodes.dedup_by(|a, b| a.uuid == b.uuid);
        match &nodes[..] {
            [] => OtherName::Nothing,
            nodes if is_ambiguous && self.privacy == Privacy::Private => self.several("", nodes),
            _ if is_ambiguous => self.unknown(is_ambiguous),
            // Something else is wrong with the node of exactly this name.
            nodes if nodes.iter().any(|node| node.hostname == self.node) => OtherName::Nothing,
            // Teleport's host certificates have the bare name in lower case, but not with the cluster's name.
            [node] if is_complete && self.host == self.node => OtherName::Dial(node.clone()),
            // A public log does not show names of nodes besides the one that was typed.
            _ if self.privacy == Privacy::Public => self.unknown(is_ambiguous),
            [node] => self.by_uuid(&node.uuid, |line| {
                format!("{LOWER_CASE}, and the node is named {}. This reaches it: {line}", sanitize(&node.hostname))
            }),
            nodes => self.several("ssh writes names in lower case. ", nodes),
        }
    }

    fn several(&self, why: &str, nodes: &[Node]) -> OtherName {
        let names: Listing = nodes.iter().map(|node| format!("{} ({})", node.hostname, node.uuid)).collect();
        self.by_uuid(ANY_UUID, |line| {
            format!("{why}Nodes of this name are {names}. Each is reached by its UUID: {line}")
        })
    }

    fn unknown(&self, is_ambiguous: bool) -> OtherName {
        self.by_uuid(ANY_UUID, |line| match is_ambiguous {
            true => format!("A node is reached by its UUID, which `tsh ls -v` shows: {line}"),
            false => format!(
                "{NODE_REMEDY} {LOWER_CASE}; a node whose name has capital letters is reached by its UUID: {line}"
            ),
        })
    }

    fn by_uuid(&self, uuid: &str, remedy: impl FnOnce(String) -> String) -> OtherName {
        self.line_by_uuid(uuid).map_or(OtherName::Nothing, |line| OtherName::Remedy(remedy(line)))
    }

    /// One line if ssh is going to refuse this certificate because of its names.
    pub(super) fn refused_certificate(&self, certificate: &Certificate) -> Option<String> {
        let (host, principals) = (&self.host, &certificate.principals);
        if !certificate.is_for_hosts() || principals.is_empty() || certificate.has(host) {
            return None;
        }
        let names = match self.privacy {
            Privacy::Public => String::new(),
            Privacy::Private => format!(", but for {}", listed(principals)),
        };
        let why = if certificate.has_in_any_case(host) {
            " ssh writes names in lower case, and does not accept the same name with capital letters."
        } else if self.is_of_teleport_18_2(certificate) {
            " Nodes that joined with Teleport 18.2.2 to 18.2.7 have such certificates; updating the node cures it."
        } else {
            ""
        };
        let line = self.line_for(certificate).unwrap_or_default();
        Some(format!("the node's certificate is not for {host}, the name that ssh checks{names}.{why}{line}"))
    }

    /// The command for which ssh accepts this certificate. ssh verifies that it is what it claims to be. But if it has another
    /// name than was asked for, only a person can say whether it is the right node's.
    fn line_for(&self, certificate: &Certificate) -> Option<String> {
        if let Some(line) =
            Some(&self.node).filter(|node| certificate.has(node)).and_then(|node| self.with_own_config(node))
        {
            return Some(format!(" This reaches it: {line}"));
        }
        let is_meant = certificate.has_in_any_case(&self.host) || certificate.has_in_any_case(&self.node);
        let lead = if is_meant { "This reaches it" } else { "If it is the node that you mean" };
        let bare = certificate.principals.iter().find(|name| is_uuid(name));
        let line = self.line_by_full_uuid(certificate).or_else(|| self.with_own_config(bare?))?;
        Some(format!(" {lead}: {line}"))
    }

    /// The certificate has all names but that of the node with its cluster (docs/protocol.md, "Versions").
    fn is_of_teleport_18_2(&self, certificate: &Certificate) -> bool {
        let is_full = self.host == format!("{}.{}", self.node, self.cluster);
        is_full && certificate.has(&self.node) && self.line_by_full_uuid(certificate).is_some()
    }

    /// A line with the name `<uuid>.<cluster>` of a certificate, if ssh leaves that as it is.
    fn line_by_full_uuid(&self, Certificate { principals, .. }: &Certificate) -> Option<String> {
        if self.has_capitals() {
            return None;
        }
        let uuids = principals.iter().filter_map(|name| name.strip_suffix(&self.cluster)?.strip_suffix('.'));
        self.line_by_uuid(uuids.into_iter().find(|uuid| is_uuid(uuid))?)
    }

    /// A line that reaches the node with this UUID.
    fn line_by_uuid(&self, uuid: &str) -> Option<String> {
        match self.has_capitals() {
            true => self.with_own_config(uuid),
            false => Some(self.line(SSH_CONFIG, &format!("{uuid}.{}", self.cluster))),
        }
    }

    /// A line with the cluster's own `ssh_config`, in which names do not end with the cluster's.
    fn with_own_config(&self, name: &str) -> Option<String> {
        let file = of_cluster(&self.cluster, SSH_CONFIG);
        self.directory.join(&file).exists().then(|| self.line(&file, name))
    }

    fn line(&self, file: &str, host: &str) -> String {
        let config = shell::word(&self.directory.join(file).display().to_string());
        let port = match self.port.as_str() {
            "0" | DEFAULT_PORT => String::new(),
            port => format!(" -p {}", shell::word(port)),
        };
        let user = self.user.as_deref().map_or_else(|| "<login>".to_owned(), shell::word);
        // A placeholder is not quoted.
        let host = if host.starts_with(ANY_UUID) { host.to_owned() } else { shell::word(host) };
        format!("ssh -F {config}{port} {user}@{host}")
    }

    /// Whether ssh changes the cluster's name.
    fn has_capitals(&self) -> bool {
        self.cluster.contains(|c: char| c.is_ascii_uppercase())
    }
}

/// Names of a certificate, in its order. Those that every node's certificate has come last.
fn listed(principals: &[String]) -> String {
    let (local, own): (Vec<_>, Vec<_>) = principals.iter().partition(|name| LOOPBACK.contains(&name.as_str()));
    let names = own.into_iter().chain(local).take(NAMES);
    let shown = sanitize(&names.map(|name| sanitize(name)).collect::<Vec<_>>().join(", "));
    match principals.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

/// Names of a certificate that are shown: as many as a node's has that does not have several addresses.
const NAMES: usize = 8;

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const LOWER_CASE: &str = "ssh writes names in lower case";
/// Stands for the UUID that a person has to fill in.
const ANY_UUID: &str = "<uuid>";

/// Whether this is the UUID of a node, in lower case, as Teleport writes it.
fn is_uuid(text: &str) -> bool {
    let is_right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "8b0d0c6e-1111-4000-8000-00000000000a";
    const OTHER: &str = "8b0d0c6e-2222-4000-8000-00000000000b";

    fn target(host: &str, node: &str, cluster: &str) -> Target {
        Target {
            host: host.to_owned(),
            node: node.to_owned(),
            port: "3022".to_owned(),
            user: Some("deploy".to_owned()),
            cluster: cluster.to_owned(),
            root_cluster: cluster.to_owned(),
            directory: PathBuf::from("/nowhere"),
            privacy: Privacy::Private,
        }
    }

    fn list(nodes: &[(&str, &str)], is_complete: bool) -> Option<NodeList> {
        let node =
            |(hostname, uuid): &(&str, &str)| Node { hostname: (*hostname).to_owned(), uuid: (*uuid).to_owned() };
        Some(NodeList { nodes: nodes.iter().map(node).collect(), is_complete })
    }

    fn certificate(principals: &[&str]) -> Certificate {
        Certificate::for_host(principals)
    }

    #[test]
    fn the_words_of_all_versions_are_known() {
        let found = target("db", "db", "c");
        for (reason, expected) in [
            ("failed to dial target host: target host db is offline or does not exist", Some(false)),
            (
                "failed to dial target host: direct dialing to nodes not found in inventory is not supported",
                Some(false),
            ),
            ("ambiguous host could match multiple nodes", Some(true)),
            ("err-node-is-ambiguous", Some(true)),
            ("looking up remote cluster \"c\": not found", None),
            ("the proxy closed the stream", None),
        ] {
            assert_eq!(found.not_found(reason), expected, "{reason}");
            assert_eq!(target("10.0.0.1", "10.0.0.1", "c").not_found(reason), None);
            assert_eq!(target(UUID, UUID, "c").not_found(reason), None);
        }
    }

    #[test]
    fn one_node_of_the_name_is_dialled_if_its_certificate_fits() {
        let bare = target("db-01", "db-01", "c");
        let found = [("DB-01", UUID), ("db-010", OTHER)];
        let node = Node { hostname: "DB-01".to_owned(), uuid: UUID.to_owned() };
        assert_eq!(bare.other_name(list(&found, true), false), OtherName::Dial(node));
        let line = format!(
            "ssh writes names in lower case, and the node is named DB-01. This reaches it: \
             ssh -F /nowhere/ssh_config deploy@{UUID}.c"
        );
        // There may be more nodes of the name.
        assert_eq!(bare.other_name(list(&found, false), false), OtherName::Remedy(line.clone()));
        let full = target("db-01.c", "db-01", "c");
        assert_eq!(full.other_name(list(&found, true), false), OtherName::Remedy(line));
    }

    #[test]
    fn a_node_of_the_very_name_is_not_replaced_by_another() {
        let target = target("db-01", "db-01", "c");
        assert_eq!(target.other_name(list(&[("DB-01", UUID), ("db-01", OTHER)], true), false), OtherName::Nothing);
        assert_eq!(target.other_name(list(&[("db-010", UUID)], true), false), OtherName::Nothing);
        // Not from Teleport, and not for a command line.
        assert_eq!(target.other_name(list(&[("DB-01", "$(id)")], true), false), OtherName::Nothing);
    }

    #[test]
    fn several_nodes_are_named_by_their_uuids() {
        let target = target("db-01", "db-01", "c");
        for (nodes, is_ambiguous) in
            [([("DB-01", UUID), ("Db-01", OTHER)], false), ([("db-01", UUID), ("db-01", OTHER)], true)]
        {
            let OtherName::Remedy(text) = target.other_name(list(&nodes, true), is_ambiguous) else {
                panic!("no remedy")
            };
            assert!(text.contains(UUID) && text.contains(OTHER), "{text}");
            assert!(text.ends_with(": ssh -F /nowhere/ssh_config deploy@<uuid>.c"), "{text}");
            assert_eq!(text.contains("lower case"), !is_ambiguous);
        }
        let many: Vec<_> = (0..100).map(|n| format!("8b0d0c6e-1111-4000-8000-{n:012}")).collect();
        let many: Vec<_> = many.iter().map(|uuid| ("DB-01\u{1b}", uuid.as_str())).collect();
        let own = Target { node: "db-01\u{1b}".to_owned(), ..target };
        let OtherName::Remedy(text) = own.other_name(list(&many, true), false) else { panic!("no remedy") };
        assert!(text.contains(", and 92 more") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn ports_and_words_of_the_line_are_quoted() {
        let target = Target { port: "22".to_owned(), user: Some("a b".to_owned()), ..target("n", "n", "c") };
        assert_eq!(target.line_by_uuid(UUID).unwrap(), format!("ssh -F /nowhere/ssh_config -p 22 'a b'@{UUID}.c"));
    }

    #[test]
    fn certificates_that_ssh_accepts_are_not_mentioned() {
        let target = target("node.c", "node", "c");
        for names in [&["a", "node.c"][..], &[]] {
            assert_eq!(target.refused_certificate(&certificate(names)), None);
        }
    }

    #[test]
    fn certificates_of_18_2_are_explained() {
        let target = target("node.c", "node", "c");
        let uuid = format!("{UUID}.c");
        let text = target.refused_certificate(&certificate(&["node", UUID, &uuid])).unwrap();
        assert!(text.contains(" 18.2.2 to 18.2.7 ") && text.ends_with(&format!(" deploy@{uuid}")), "{text}");
        let alias = Target { host: "alias".to_owned(), node: "alias".to_owned(), ..target };
        let text = alias.refused_certificate(&certificate(&["node", &uuid])).unwrap();
        assert!(!text.contains("18.2") && text.contains(". If it is the node that you mean: ssh -F "), "{text}");
        assert!(text.ends_with(&format!(" deploy@{uuid}")), "{text}");
        let text = alias.refused_certificate(&certificate(&["x"])).unwrap();
        assert_eq!(text, "the node's certificate is not for alias, the name that ssh checks, but for x.");
        let public = Target { privacy: Privacy::Public, ..alias };
        let text = public.refused_certificate(&certificate(&["10.0.0.1"])).unwrap();
        assert_eq!(text, "the node's certificate is not for alias, the name that ssh checks.");
    }

    #[test]
    fn a_cluster_with_capital_letters_has_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["node.CorpProd", "node", UUID];
        let corp = Target { directory: directory.path().to_owned(), ..target("node.corpprod", "node", "CorpProd") };
        let text = corp.refused_certificate(&certificate(&names)).unwrap();
        assert!(
            text.ends_with(" ssh writes names in lower case, and does not accept the same name with capital letters."),
            "{text}"
        );
        std::fs::write(directory.path().join("CorpProd.ssh_config"), "").unwrap();
        let text = corp.refused_certificate(&certificate(&names)).unwrap();
        assert!(text.ends_with("/CorpProd.ssh_config deploy@node"), "{text}");
        let text = corp.refused_certificate(&certificate(&["NODE.CorpProd", "NODE", UUID])).unwrap();
        assert!(text.ends_with(&format!("/CorpProd.ssh_config deploy@{UUID}")), "{text}");
    }
}
