//! The names of the files in a destination, and what each of them holds: the one list for those who write the files, who
//! look for leaks and who remove them.

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    PrivateKey,
    /// A certificate or a public key without its private key. It shows who the bot is and what the bot may do.
    Certificate,
    /// Settings of the network, with the password of a forward proxy if there is one.
    Network,
    /// Configuration, CA certificates and our program, which everyone may have.
    Public,
}

/// The copy of our program: the `ProxyCommand` of `ssh_config`.
pub(crate) const BINARY: &str = "teleport-pipe";
pub(crate) const HOST_CA: &str = "teleport-host-ca.crt";
pub(crate) const USER_CA: &str = "teleport-user-ca.crt";
pub(crate) const IDENTITY: &str = "identity";
pub(crate) const KEY: &str = "key";
pub(crate) const PUBLIC_KEY: &str = "key.pub";
pub(crate) const SSH_CERTIFICATE: &str = "key-cert.pub";
pub(crate) const TLS_CERTIFICATE: &str = "tlscert";
pub(crate) const KNOWN_HOSTS: &str = "known_hosts";
pub(crate) const SSH_CONFIG: &str = "ssh_config";
pub(crate) const NETWORK: &str = "network.json";
/// Keeps git from seeing anything in the destination.
pub(crate) const GITIGNORE: &str = ".gitignore";
/// What was written, with digests, and into which directory.
pub(crate) const RECORD: &str = ".teleport-pipe.sha256";

/// The names of incomplete files begin with this. What follows says which directory they were made in.
pub(crate) const TEMPORARY: &str = ".teleport-pipe.tmp.";

/// Our files and tbot's (docs/protocol.md, "Output files"). Each cluster has files of its own besides.
const FILES: [(&str, Class); 15] = [
    (IDENTITY, Class::PrivateKey),
    (KEY, Class::PrivateKey),
    (SSH_CERTIFICATE, Class::Certificate),
    (TLS_CERTIFICATE, Class::Certificate),
    (PUBLIC_KEY, Class::Certificate),
    (NETWORK, Class::Network),
    (HOST_CA, Class::Public),
    (USER_CA, Class::Public),
    (KNOWN_HOSTS, Class::Public),
    (SSH_CONFIG, Class::Public),
    (BINARY, Class::Public),
    (GITIGNORE, Class::Public),
    (RECORD, Class::Public),
    // Only tbot writes these.
    ("teleport-database-ca.crt", Class::Public),
    (".write-test", Class::Public),
];

/// The first line of the files of a single cluster. A later run recognizes them by this line.
pub(crate) const FIRST_LINE: &str = "# Written by teleport-pipe; the next run replaces it.";

/// What [`FIRST_LINE`] begins with in every version.
const MARK: &str = "# Written by teleport-pipe";

/// Resources of a cluster, which `inspect` writes to a directory of their own.
pub(crate) const ROLE_YAML: &str = "role.yaml";
pub(crate) const BOT_YAML: &str = "bot.yaml";
pub(crate) const BOT_TOKEN_YAML: &str = "bot-token.yaml";
pub(crate) const TELEPORT_TF: &str = "teleport.tf";

pub(crate) fn is_resource(name: &str) -> bool {
    [ROLE_YAML, BOT_YAML, BOT_TOKEN_YAML, TELEPORT_TF].contains(&name)
}

/// Whether a file of this name is ours or tbot's. The files of a single cluster have other names.
pub(crate) fn is_known(name: &str) -> bool {
    FILES.iter().any(|(known, _)| *known == name)
}

pub(crate) fn of_class(class: Class) -> impl Iterator<Item = &'static str> {
    FILES.into_iter().filter(move |(_, of)| *of == class).map(|(name, _)| name)
}

/// The name of a single cluster's own `known_hosts` or `ssh_config`.
pub(crate) fn of_cluster(cluster: &str, name: &str) -> String {
    format!("{cluster}.{name}")
}

/// Whether a file is one of a single cluster, by its name and its first line. tbot's files begin with a comment in words
/// of tbot's own, which names the cluster (docs/protocol.md, "known_hosts").
pub(crate) fn is_of_cluster(name: &str, first_line: impl FnOnce() -> Option<String>) -> bool {
    let cluster = [SSH_CONFIG, KNOWN_HOSTS].iter().find_map(|suffix| name.strip_suffix(suffix)?.strip_suffix('.'));
    let Some(cluster) = cluster.filter(|cluster| !cluster.is_empty()) else { return false };
    let line = first_line().unwrap_or_default();
    line.starts_with(MARK) || (line.starts_with('#') && line.contains(cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_of(name: &str, line: &str) -> bool {
        is_of_cluster(name, || Some(line.to_owned()))
    }

    #[test]
    fn files_of_a_cluster_are_known_by_their_first_line() {
        assert!(is_of("leaf.ssh_config", FIRST_LINE) && is_of("leaf.known_hosts", FIRST_LINE));
        assert!(is_of("leaf.known_hosts", "# Written by teleport-pipe, in the words of a later version"));
        let line = "# Begin generated Teleport configuration for root.example";
        assert!(is_of("root.example.ssh_config", line) && !is_of("leaf.ssh_config", line));
        assert!(!is_of(".ssh_config", FIRST_LINE) && !is_of("leaf_ssh_config", FIRST_LINE));
        assert!(!is_of("leaf.ssh_config", "Host leaf") && !is_of_cluster("leaf.ssh_config", || None));
    }
}
