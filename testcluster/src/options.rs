//! The options of a cluster.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::alpn::Route;
use crate::fault::Fault;
use crate::hostile::Lie;
use crate::idp::methods::{self, Method};
use crate::injection::FaultInjection;
use crate::layout::{Backend, Layout, LoadBalancer};
use crate::rotation::Phase;
use crate::suite::{Suite, SuiteInFind};

/// What the join service supports (docs/protocol.md, "Versions").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JoinService {
    /// It supports the join token's method, as in later 18.x.
    Present,
    /// The service is `Unimplemented`, as in 17.x.
    Absent,
    /// The join token's method is `Unimplemented` after `ServerInit`, as in early 18.x.
    WithoutMethod,
}

/// An allow rule of the join token. Its fields have the names of `spec.<method>.allow` (docs/protocol.md, "Join
/// token").
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowRule(Vec<(String, String)>);

impl AllowRule {
    /// A rule with these fields. A field that occurs several times is a list.
    pub fn new<N: Into<String>, V: Into<String>>(fields: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The fields that are not empty; an empty field is the same as an absent one.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A role of the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// The logins that it allows.
    pub logins: Vec<String>,
    /// `max_session_ttl`; the default is 30 hours (docs/protocol.md, "Issued certificates").
    pub max_session_ttl: Duration,
}

impl Role {
    /// A role with these logins.
    pub fn new<L: Into<String>>(name: impl Into<String>, logins: impl IntoIterator<Item = L>) -> Self {
        Self {
            name: name.into(),
            logins: logins.into_iter().map(Into::into).collect(),
            max_session_ttl: Duration::from_secs(30 * 3600),
        }
    }

    /// The same role with another `max_session_ttl`.
    #[must_use]
    pub fn max_session_ttl(mut self, ttl: Duration) -> Self {
        self.max_session_ttl = ttl;
        self
    }
}

/// The join token.
#[derive(Clone, Debug)]
pub(crate) struct JoinToken {
    pub name: String,
    pub method: &'static Method,
    /// Replaces the method's.
    pub issuer: Option<String>,
    /// Replaces the method's.
    pub audience: Option<String>,
    pub allow: Vec<AllowRule>,
}

/// All options.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub name: String,
    pub address: IpAddr,
    pub public_name: String,
    pub dialled_name: Option<String>,
    pub layout: Layout,
    pub load_balancer: Option<LoadBalancer>,
    pub upgrade_ping: Duration,
    pub small_websocket_frames: bool,
    pub tls_12_only: bool,
    pub version: String,
    pub min_client_version: String,
    pub suite: Suite,
    pub suite_in_find: SuiteInFind,
    pub join_service: JoinService,
    pub rest_join: bool,
    pub token: JoinToken,
    pub impersonated: Vec<String>,
    pub roles: Vec<Role>,
    pub phase: Phase,
    /// Names, and whether the bot's roles give access to them.
    pub leaf_clusters: Vec<(String, bool)>,
    pub openssh_node: bool,
    /// The cluster, if it is not the root cluster, and the host name.
    pub further_nodes: Vec<(Option<String>, String)>,
    pub case_insensitive_routing: bool,
    pub port_forwarding: bool,
    pub proxy_recording: bool,
    pub latency: Duration,
    pub clock_offset: i64,
    pub faults: HashSet<Fault>,
    pub injections: Vec<FaultInjection>,
    pub lies: Vec<Lie>,
    /// The login on nodes that the machine's sshd accepts.
    pub node_login: String,
}

impl Options {
    /// Whether the proxy supports connection upgrades. Without TLS there is no ALPN routing to upgrade to.
    pub(crate) fn has_upgrade(&self) -> bool {
        self.load_balancer.is_none_or(|balancer| balancer.backend != Backend::PlainHttp)
    }

    /// Whether the web port serves a route.
    pub(crate) fn web_port_serves(&self, route: Route) -> bool {
        match (self.layout, route) {
            (Layout::TlsRouting, _) | (_, Route::Web | Route::Join) => true,
            (Layout::SeparatePorts { auth_on_web }, Route::Auth) => auth_on_web,
            (Layout::SeparatePorts { .. }, Route::Transport | Route::ReverseTunnel | Route::LoadBalancer) => false,
        }
    }

    /// An 18.2 cluster that the steps of one repository can join, with a role that allows `logins`.
    pub(crate) fn new(logins: &[String], node_login: String) -> Self {
        Self {
            name: "example.teleport.sh".into(),
            address: Ipv4Addr::LOCALHOST.into(),
            public_name: "localhost".into(),
            dialled_name: None,
            layout: Layout::TlsRouting,
            load_balancer: None,
            // Teleport's default (docs/protocol.md, "Connection upgrade").
            upgrade_ping: Duration::from_secs(30),
            small_websocket_frames: false,
            tls_12_only: false,
            version: "18.2.0".into(),
            min_client_version: "17.0.0-aa".into(),
            suite: Suite::BalancedV1,
            suite_in_find: SuiteInFind::Text,
            join_service: JoinService::Present,
            rest_join: true,
            token: JoinToken {
                name: "example-bot".into(),
                method: &methods::BITBUCKET,
                issuer: None,
                audience: None,
                allow: vec![AllowRule::new([
                    ("workspace_uuid", methods::WORKSPACE_UUID),
                    ("repository_uuid", methods::REPOSITORY_UUID),
                ])],
            },
            impersonated: vec!["example-role".into()],
            roles: vec![Role::new("example-role", logins), Role::new("other-role", ["guest"])],
            phase: Phase::Standby,
            leaf_clusters: Vec::new(),
            openssh_node: false,
            further_nodes: Vec::new(),
            case_insensitive_routing: false,
            port_forwarding: true,
            proxy_recording: false,
            latency: Duration::ZERO,
            clock_offset: 0,
            faults: HashSet::new(),
            injections: Vec::new(),
            lies: Vec::new(),
            node_login,
        }
    }
}
