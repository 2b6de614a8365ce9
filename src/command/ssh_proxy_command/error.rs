//! Why ssh gets no connection to the node. ssh itself only says that the connection was closed.

use std::borrow::Cow;

use tonic::{Code, Status};

use crate::address::HostPort;
use crate::error::{Advice, Exit, Explain};
use crate::net;
use crate::net::grpc::{Refusal, code_name};
use crate::retry::WaitingFor;
use crate::text::sanitize;

/// `name` is the node as the proxy was asked for it, `reason` is the proxy's message or, for a file, what is wrong with
/// it. The reason never quotes the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error("{path} cannot be used ({reason})")]
    Identity { path: String, reason: String },
    /// The file with the settings of the network.
    #[error("{path} cannot be used ({reason})")]
    Network { path: String, reason: String },
    #[error("the credentials expired at {at}")]
    Expired { at: humantime::Rfc3339Timestamp },
    /// The proxy cannot reach the node.
    #[error("no connection to node {name}: {reason}")]
    Node {
        name: String,
        reason: String,
        /// What to do, if the cluster's list of nodes shows that.
        remedy: Option<String>,
    },
    /// The proxy does not allow this connection, or not now.
    #[error("the proxy refused a connection to node {name}: {reason} ({})", code_name(*code))]
    Refused { name: String, reason: String, code: Code },
    /// The session was open.
    #[error("the connection to node {name} ended: {reason}")]
    Ended { name: String, reason: String },
}

/// The remedy if nothing else is known of a node that the proxy does not find.
pub(super) const NODE_REMEDY: &str =
    "Compare the name with `tsh ls`: <node>.<cluster>. A node that runs OpenSSH needs -p 22.";

impl From<WaitingFor> for Error {
    fn from(awaited: WaitingFor) -> Self {
        Self::Net(awaited.into())
    }
}

impl Error {
    /// The error of a call that opens a session.
    pub(super) fn from_status(status: &Status, node: &str, proxy: &HostPort) -> Self {
        let name = sanitize(node);
        match Refusal::from_status(status, &proxy.to_string()) {
            Err(error) => Self::Net(error),
            Ok(Refusal { code, message: reason, .. }) => match code {
                // An unknown or absent node has any of these codes, depending on the version (docs/protocol.md, "Node
                // errors").
                Code::Unavailable | Code::NotFound | Code::Unknown => Self::Node { name, reason, remedy: None },
                code => Self::Refused { name, reason, code },
            },
        }
    }

    /// The error of a call whose session was open.
    pub(super) fn from_status_of_session(status: &Status, node: &str, proxy: &HostPort) -> Self {
        match Self::from_status(status, node, proxy) {
            Self::Node { name, reason, .. } => Self::Ended { name, reason },
            other => other,
        }
    }
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        let no_connection = |exit, remedy: Cow<'static, str>| Advice::new(exit, "no-connection-to-the-node", remedy);
        match self {
            // ssh's output has room for one line, which has no likely cause.
            Self::Net(error) => error.advice().cause(""),
            Self::Identity { .. } => Advice::new(
                Exit::BadInput,
                "the-identity-cannot-be-used",
                "Run teleport-pipe first in this step, and do not move its directory.",
            ),
            Self::Network { .. } => Advice::new(
                Exit::BadInput,
                "what-was-kept-of-the-network-cannot-be-used",
                "Run teleport-pipe again in this step. Only teleport-pipe writes that file.",
            ),
            Self::Expired { .. } => Advice::new(
                Exit::Refused,
                "the-credentials-have-expired",
                "Run teleport-pipe again, or set a longer TTL.",
            ),
            Self::Node { reason, .. } if reason.contains("remote cluster") => no_connection(
                Exit::Refused,
                "Compare the name with `tsh clusters`, and `cluster_labels` of the bot's roles with the labels of the leaf \
                 cluster.".into(),
            ),
            Self::Node { remedy, .. } => no_connection(
                Exit::Refused,
                remedy.clone().map_or(Cow::Borrowed(NODE_REMEDY), Cow::Owned),
            ),
            Self::Refused { code: Code::ResourceExhausted, .. } => {
                no_connection(Exit::Network, "Run fewer connections at once, or try again later.".into())
            }
            Self::Refused { .. } => no_connection(
                Exit::Refused,
                "Ask the cluster's administrators which nodes and logins the bot's roles allow.".into(),
            ),
            Self::Ended { .. } => Advice::new(
                Exit::Network,
                "the-connection-broke",
                "Run the command again. If it keeps failing, look at the proxy's log at that time.",
            ),
        }
    }
}
