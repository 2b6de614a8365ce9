//! The limits of what comes from outside, so that neither a cluster nor a repository can use up time, memory or disk. What
//! is larger is refused with a sentence, before any work is done on it. What takes time in spite of them ends at the deadline
//! of the run. Sizes are in bytes.

use crate::error::{Advice, Exit, Explain};

// Answers of the cluster. A message of gRPC has at most 4 MiB, and as many fields as `teleport_api::codec` says.

/// An HTTP answer. Discovery has 2 KB, the certificates of a join have 20 KB.
pub(crate) const HTTP_ANSWER_SIZE: usize = 1 << 20;

/// Clusters: the root cluster and its leaf clusters. Each gets a `known_hosts` and an `ssh_config` of its own and is in those
/// of all and in `identity`.
pub(crate) const CLUSTERS: usize = 500;

/// Keys of one certificate authority. Without a rotation there is one for each Auth Service with a hardware module, during
/// a rotation twice as many.
pub(crate) const AUTHORITY_KEYS: usize = 32;

/// Certificate authorities in the answer to a join: those of the host CA, and of the user CA.
pub(crate) const JOIN_AUTHORITIES: usize = 2 * AUTHORITY_KEYS;

/// A certificate in DER. In one, 256 roles of 100 characters take 28 KB.
pub(crate) const CERTIFICATE_SIZE: usize = 64 << 10;

/// Roles that a bot may impersonate. All of them are in its certificates.
pub(crate) const ROLES: usize = 256;

/// Principals of an SSH certificate. OpenSSH refuses a certificate with more (sshkey.c, `SSHKEY_CERT_MAX_PRINCIPALS`).
pub(crate) const PRINCIPALS: usize = 256;

/// Nodes that are requested when the name of one is looked for. A name is a part of few others.
pub(crate) const LISTED_NODES: u16 = 100;

/// What a node sends to ssh before its host certificate ends. Teleport's nodes and OpenSSH send 2 to 4 KB. What is longer is
/// not looked at, and reaches ssh all the same.
pub(crate) const KEY_EXCHANGE_SIZE: usize = 64 << 10;

/// A line of a node before its first packet: that of the protocol's version, and others before it. OpenSSH accepts no longer
/// one (`SSH_MAX_BANNER_LEN`).
pub(crate) const GREETING_LINE_SIZE: usize = 8192;

/// The files of one output together, without the program. Those of 492 clusters with two short keys and long names come to
/// 2.6 MB, as `the_largest_cluster_that_is_accepted_is_written` in `tests/it/hostile.rs` prints.
pub(crate) const OUTPUT_SIZE: u64 = 4 << 20;

// Files that others may have written.

/// A file that holds an ID token. Those of service accounts have 1 to 2 KB.
pub(crate) const ID_TOKEN_SIZE: u64 = 64 << 10;

/// A tbot.yaml.
pub(crate) const TBOT_YAML_SIZE: u64 = 256 << 10;

/// A file that holds a join token.
pub(crate) const JOIN_TOKEN_SIZE: u64 = 4 << 10;

/// The event that started a job, in a file of its CI system. That of a push has 10 KB; none has more than 25 MB.
pub(crate) const EVENT_SIZE: u64 = 32 << 20;

/// A file of certificate authorities. Debian's has 220 KB; that of a company adds its own.
pub(crate) const CA_FILE_SIZE: u64 = 2 << 20;

/// The `identity` file, which may be tbot's: it has no limit for the clusters in it.
pub(crate) const IDENTITY_FILE_SIZE: u64 = 2 * OUTPUT_SIZE;

/// `network.json`. It may hold a file of certificate authorities, with two characters for each line break.
pub(crate) const NETWORK_FILE_SIZE: u64 = CA_FILE_SIZE + (1 << 20);

/// The program. It has 4 MB; a build for tests has 45 MB.
pub(crate) const PROGRAM_SIZE: u64 = 1 << 26;

/// Entries of a destination. A pipe's directory has fifteen and two for each cluster; tbot's command line may share the
/// directory with other programs, so the limit is generous. To list so many takes a fraction of a second.
pub(crate) const DIRECTORY_ENTRIES: usize = 1 << 16;

/// The record of what a run wrote. A line has less than 330 bytes, and what two runs over 500 clusters wrote has 2000.
pub(crate) const RECORD_SIZE: u64 = 2 << 20;

/// What a run digests in one destination, to see which files are ours: the program, and 32 MiB of other files. That takes
/// about a second.
pub(crate) const DIGESTED_SIZE: u64 = PROGRAM_SIZE + (32 << 20);

/// A file of the repository that is read for the leak check. 500 steps of ten lines of 40 characters come to 200 KB.
pub(crate) const REPOSITORY_FILE_SIZE: u64 = 384 << 10;

/// Steps of the matcher for all patterns of such a file: a tenth of a second.
pub(crate) const PATTERN_WORK: usize = 5_000_000;

/// A pattern. No path is longer.
pub(crate) const PATTERN_SIZE: usize = 4096;

/// Alternatives that the braces of one pattern may stand for.
pub(crate) const PATTERN_ALTERNATIVES: usize = 64;

/// Files of a step that its own commands write the ID token into. A warning about one of them says it all.
pub(crate) const TOKEN_FILES: usize = 50;

/// Characters of a YAML file that may begin or end a node. The parser keeps what is in brackets until they are closed, with up
/// to 500 bytes of memory for each of these characters.
pub(crate) const YAML_SEPARATORS: usize = 50_000;

/// Nodes of a YAML file. A pipeline of 500 steps has about ten thousand.
pub(crate) const YAML_NODES: usize = 100_000;

/// How deep the nodes of a YAML file are nested.
pub(crate) const YAML_DEPTH: usize = 64;

/// Visits to the nodes of a YAML file. An alias counts each time that it is followed.
pub(crate) const YAML_VISITS: usize = 300_000;

/// Fails if the cluster returned more than is accepted.
pub(crate) fn expect_at_most(most: usize, count: usize, what: &'static str) -> Result<(), TooMany> {
    if count <= most { Ok(()) } else { Err(TooMany { what, count, most }) }
}

/// The cluster does not behave like Teleport, or it is larger than any that is known.
#[derive(Debug, thiserror::Error)]
#[error("the cluster returned {count} {what}, and at most {most} are accepted")]
pub(crate) struct TooMany {
    pub(crate) what: &'static str,
    pub(crate) count: usize,
    pub(crate) most: usize,
}

impl Explain for TooMany {
    fn advice(&self) -> Advice {
        Advice::new(
            Exit::Refused,
            "the-cluster-returns-too-much",
            "Check that the proxy is the one you mean. Nothing was written. If your cluster really has that many, please \
             report it, so that the limit can be raised.",
        )
    }
}
