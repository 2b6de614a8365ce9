//! The shared state of a cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::authority::{Authority, RsaKey};
use crate::fault::{Fault, Faults};
use crate::hostile::Lies;
use crate::idp::IdentityProvider;
use crate::idp::methods::TOKEN;
use crate::injection::{BadCertificates, FaultInjector};
use crate::leaf_cluster::LeafCluster;
use crate::nodes::Node;
use crate::options::{Options, Role};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::rotation::Authorities;
use crate::sessions::Sessions;
use crate::tls::ServerConfigs;

/// The bot's name; its user and its own role are `bot-example`.
pub(crate) const BOT: &str = "example";
pub(crate) const BOT_USER: &str = "bot-example";

#[derive(Debug)]
pub(crate) struct Cluster {
    pub options: Options,
    pub faults: Faults,
    pub injector: FaultInjector,
    pub lies: Lies,
    pub bad_certificates: BadCertificates,
    pub sessions: Sessions,
    pub record: Record,
    pub idp: IdentityProvider,
    pub authorities: Authorities,
    pub leaf_clusters: Vec<LeafCluster>,
    /// The root cluster's node is the first one.
    pub nodes: Vec<Node>,
    pub server_configs: ServerConfigs,
    pub ports: Ports,
    /// Whether a bot has joined with the one-time token, which is deleted then.
    pub token_is_spent: AtomicBool,
}

/// The ports that it listens on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// The proxy's only port, its web port, or the port of the load balancer in front of it.
    pub web: u16,
    /// The other ports, if ports are separate.
    pub own: Option<OwnPorts>,
}

/// The ports for SSH and for reverse tunnels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnPorts {
    pub ssh: u16,
    pub tunnel: u16,
}

impl Cluster {
    /// The cluster's clock, in seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        now(self.options.clock_offset)
    }

    /// Whether this is the name of the join token, which exists.
    pub(crate) fn has_token(&self, name: &str) -> bool {
        name == self.options.token.name && !self.token_is_spent.load(Ordering::SeqCst)
    }

    /// Whether the join token is a one-time token.
    pub(crate) fn has_one_time_token(&self) -> bool {
        self.options.token.method.name == TOKEN.name
    }

    pub(crate) fn role(&self, name: &str) -> Result<&Role, Refusal> {
        let role = self.options.roles.iter().find(|role| role.name == name);
        role.ok_or_else(|| Refusal::not_found(format!("role {name} is not found")))
    }

    /// The root cluster's node.
    pub(crate) fn node(&self) -> &Node {
        self.nodes.first().expect("a cluster has a node")
    }

    pub(crate) fn leaf_cluster(&self, name: &str) -> Option<&LeafCluster> {
        self.leaf_clusters.iter().find(|leaf| leaf.name() == name)
    }

    /// The defects that concern both kinds of join.
    pub(crate) fn join_faults(&self) -> Result<(), Refusal> {
        if self.faults.has(Fault::ErrorTextWithEscapes) {
            return Err(Refusal::access_denied(
                "denied by \u{1b}[2J\u{1b}[31mpolicy\u{7}\r\nsecond \u{9b}31mline\u{202e}",
            ));
        }
        if self.faults.trigger(Fault::RateLimitOnce) {
            return Err(Refusal::limit_exceeded("rate limit exceeded"));
        }
        Ok(())
    }

    /// An authority that the cluster does not trust.
    pub(crate) fn other_ca(&self) -> Authority {
        Authority::new(&self.options.name, self.options.suite, RsaKey::Server, self.now())
    }
}

/// The time in seconds since 1970, moved by an offset.
pub(crate) fn now(offset: i64) -> u64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    seconds.saturating_add_signed(offset)
}
