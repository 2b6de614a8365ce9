//! The calls of a run to the Auth Service, with the bot's own certificate, and the one call of `ssh-proxy-command`, with the
//! certificate of the output.
//!
//! There are two ways to it (docs/protocol.md, "Routes to Auth"): TLS through the proxy's web port, told apart by ALPN
//! (route A), and the transport service's `ProxyCluster` (route B), where the proxy has several ports or ALPN has no room
//! for the cluster's name.

use std::borrow::Cow;

use teleport_api::proto::auth_service_client::AuthServiceClient;
use teleport_api::proto::{Certs, GetRoleRequest, ListUnifiedResourcesRequest, UserCertsRequest};
use teleport_api::teleport::trust::v1::GetCertAuthoritiesRequest;
use teleport_api::teleport::trust::v1::trust_service_client::TrustServiceClient;
use teleport_api::types::{CertAuthorityV2, ServerV2, SortBy};
use tonic::{Code, Status};

use crate::address::{ClusterName, HostPort};
use crate::error::{Advice, Exit, Explain, Retry};
use crate::limits::{self, TooMany, expect_at_most};
use crate::net::Stream;
use crate::net::discovery::ClusterInfo;
use crate::net::grpc::{self, Channel, code_name, is_temporary};
use crate::net::network::{Endpoint, Network};
use crate::net::proxy_cluster;
use crate::net::tls::{self, Service, Trust};
use crate::retry::{Deadline, RetryAfter, Transient, WaitingFor};
use crate::text::sanitize;
use crate::{keys, net};

/// An entry of ALPN holds 255 bytes, and the cluster's name is in it as hex (docs/decisions.md, 3).
const LONGEST_NAME: usize = 109;

pub(crate) struct AuthRoute<'a> {
    pub(crate) network: &'a Network,
    /// The address that was configured.
    pub(crate) proxy: &'a HostPort,
    pub(crate) cluster: &'a ClusterInfo,
    pub(crate) trust: &'a Trust,
}

impl AuthRoute<'_> {
    /// The Auth Service of the cluster of this name at the web port (route A); `None` if there is no such route.
    pub(crate) fn endpoint<'a>(&'a self, name: &ClusterName, sni: &'a str) -> Option<Endpoint<'a>> {
        let (addr, service, trust) = (self.proxy, Service::Auth(name.clone()), self.trust);
        let has_route = self.cluster.tls_routing && name.as_str().len() <= LONGEST_NAME;
        has_route.then_some(Endpoint { addr, service, server_name: sni, trust, web_port: true })
    }

    /// Connects to the Auth Service of the cluster of this name. `dialled` is a connection to the proxy's web port that is
    /// already open.
    pub(crate) async fn connect(
        &self,
        dialled: Option<Stream>,
        name: &ClusterName,
        deadline: Deadline,
    ) -> Result<Auth, Error> {
        let addr = format!("the Auth Service of {name}");
        let channel = self.channel(dialled, name, deadline).await;
        Ok(Auth { channel: channel.map_err(|error| error.behind(self.proxy, &addr))?, addr, deadline })
    }

    async fn channel(
        &self,
        dialled: Option<Stream>,
        name: &ClusterName,
        deadline: Deadline,
    ) -> Result<Channel, net::Error> {
        let Self { network, proxy, cluster, trust } = *self;
        let sni = name.auth_sni();
        if let Some(endpoint) = self.endpoint(name, &sni) {
            return network.grpc(&endpoint, dialled, deadline).await;
        }
        // The address that ssh uses is in the certificate that is shown there. The configured one need not be.
        let addr = &cluster.ssh_proxy;
        let dialled = dialled.filter(|_| addr == proxy);
        let web_port = cluster.tls_routing;
        let endpoint = Endpoint { addr, service: Service::Transport, server_name: &addr.host, trust, web_port };
        let transport = network.grpc(&endpoint, dialled, deadline).await?;
        through_transport(&transport, proxy, name, trust, deadline).await
    }
}

/// A channel to the Auth Service of the cluster of this name inside of one to the transport service (route B).
async fn through_transport(
    transport: &Channel,
    proxy: &HostPort,
    name: &ClusterName,
    trust: &Trust,
    deadline: Deadline,
) -> Result<Channel, net::Error> {
    let stream = proxy_cluster::open(transport, name);
    let stream = tls::connect(stream, &name.auth_sni(), &Service::NestedAuth, trust, deadline).await?;
    Channel::new(stream, proxy).await
}

/// A connection to the Auth Service. Calls may run at the same time.
#[derive(Clone)]
pub(crate) struct Auth {
    channel: Channel,
    addr: String,
    deadline: Deadline,
}

/// A node of the cluster, by its names. Both come from the cluster as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) hostname: String,
    pub(crate) uuid: String,
}

/// Nodes that the roles of the identity may access.
#[derive(Debug)]
pub(crate) struct NodeList {
    pub(crate) nodes: Vec<Node>,
    /// Whether there are no more.
    pub(crate) is_complete: bool,
}

impl Auth {
    /// Connects through a connection to the transport service that is already open. This costs no TCP connection.
    pub(crate) async fn through_transport(
        transport: &Channel,
        proxy: &HostPort,
        name: &ClusterName,
        trust: &Trust,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let addr = format!("the Auth Service of {name}");
        let channel = through_transport(transport, proxy, name, trust, deadline).await;
        Ok(Self { channel: channel.map_err(|error| error.behind(proxy, &addr))?, addr, deadline })
    }

    /// The first nodes that have `keyword` in their names, addresses or labels, in any case.
    pub(crate) async fn search_nodes(&self, keyword: &str) -> Result<NodeList, Error> {
        let request = ListUnifiedResourcesRequest {
            kinds: vec!["node".to_owned()],
            limit: limits::LISTED_NODES.into(),
            search_keywords: vec![keyword.to_owned()],
            sort_by: Some(SortBy { field: "name".to_owned() }),
        };
        let mut client = AuthServiceClient::with_origin(self.channel.clone(), self.channel.origin());
        let answer = self.call("ListUnifiedResources", client.list_unified_resources(request)).await?;
        expect_at_most(limits::LISTED_NODES.into(), answer.resources.len(), "nodes")?;
        let nodes = answer.resources.into_iter().filter_map(|resource| Node::new(resource.node?)).collect();
        Ok(NodeList { nodes, is_complete: answer.next_key.is_empty() })
    }

    pub(crate) fn with_deadline(&self, deadline: Deadline) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The roles that the role of this name may impersonate. A bot's own role has the bot's user name
    /// (docs/protocol.md, "Issued certificates").
    pub(crate) async fn impersonated_roles(&self, own_role: &str) -> Result<Vec<String>, Error> {
        let request = GetRoleRequest { name: own_role.to_owned() };
        let mut client = AuthServiceClient::with_origin(self.channel.clone(), self.channel.origin());
        let role = self.call("GetRole", client.get_role(request)).await?;
        let impersonate = role.spec.and_then(|spec| spec.allow).and_then(|allow| allow.impersonate);
        Ok(impersonate.map(|conditions| conditions.roles).unwrap_or_default())
    }

    /// The certificate authorities of a type (`host`, `user`): the root cluster's and those of trusted clusters.
    pub(crate) async fn authorities(&self, kind: &str) -> Result<Vec<CertAuthorityV2>, Error> {
        let request = GetCertAuthoritiesRequest { r#type: kind.to_owned() };
        let mut client = TrustServiceClient::with_origin(self.channel.clone(), self.channel.origin());
        let answer = self.call("GetCertAuthorities", client.get_cert_authorities(request)).await?;
        let list = answer.cert_authorities_v2;
        if list.is_empty() { Err(Error::NoAuthorities) } else { Ok(list) }
    }

    /// User certificates for `cluster`, which is that of the request.
    pub(crate) async fn user_certs(&self, request: UserCertsRequest, cluster: &ClusterName) -> Result<Certs, Error> {
        let mut client = AuthServiceClient::with_origin(self.channel.clone(), self.channel.origin());
        let answer = self.call("GenerateUserCerts", client.generate_user_certs(request)).await;
        // `remote cluster "…" not found`, or `is not found` if the cluster does not exist.
        answer.map_err(|error| match &error {
            Error::Refused { code: Code::NotFound, message, .. } if message.contains("remote cluster") => {
                Error::ClosedCluster { cluster: cluster.clone() }
            }
            _ => error,
        })
    }

    async fn call<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Error> {
        let awaited = WaitingFor { addr: self.addr.clone(), what: method };
        let answer = async {
            let answer = call.await.map_err(|status| grpc::Refusal::from_status(&status, &self.addr));
            answer.map(tonic::Response::into_inner).map_err(|refusal| match refusal {
                Ok(grpc::Refusal { code, message, retry_after }) => {
                    Error::Refused { method, code, message, retry_after, hidden: false, bot: None }
                }
                Err(error) => Error::Net(error),
            })
        };
        self.deadline.bound(awaited, answer).await
    }
}

impl Node {
    fn new(server: ServerV2) -> Option<Self> {
        Some(Self { hostname: server.spec?.hostname, uuid: server.metadata?.name })
    }
}

impl From<WaitingFor> for Error {
    fn from(awaited: WaitingFor) -> Self {
        Self::Net(awaited.into())
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error(transparent)]
    Key(#[from] keys::Error),
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("the Auth Service refused {method}: {} ({}){retry_after}", shown(message, *hidden), code_name(*code))]
    Refused {
        method: &'static str,
        code: Code,
        message: String,
        retry_after: RetryAfter,
        /// The log is public, so the message is not shown.
        hidden: bool,
        /// The bot's user name, if it is known.
        bot: Option<String>,
    },
    #[error("there is no cluster {cluster}")]
    UnknownCluster {
        cluster: ClusterName,
        /// Empty if the log is public.
        known: Vec<String>,
    },
    #[error("the Auth Service gives the bot no certificates for the cluster {cluster}")]
    ClosedCluster { cluster: ClusterName },
    #[error("the cluster names no certificate authorities")]
    NoAuthorities,
    /// `bot` is its user name.
    #[error("the bot {} has no roles", bot_name(bot))]
    NoRoles { bot: String },
    /// An output asks for a role that is not the bot's.
    #[error("the bot {} does not have the role {role}", bot_name(bot))]
    NotARole { bot: String, role: String },
}

/// The name of a bot as `tctl` takes it, from its user name (docs/protocol.md, "Bot certificate").
fn bot_name(user: &str) -> &str {
    user.strip_prefix("bot-").unwrap_or(user)
}

fn shown(message: &str, hidden: bool) -> &str {
    if hidden { "what it said is shown with DEBUG only" } else { message }
}

impl Error {
    /// Adds the bot that the error is about, by its user name.
    #[must_use]
    pub(crate) fn about(mut self, user: &str) -> Self {
        if let Self::Refused { bot, .. } = &mut self {
            *bot = Some(sanitize(user));
        }
        self
    }

    /// The same error for a public log.
    #[must_use]
    pub(crate) fn without_details(mut self) -> Self {
        match &mut self {
            Self::Refused { hidden, bot, .. } => {
                *hidden = true;
                *bot = None;
            }
            Self::UnknownCluster { known, .. } => known.clear(),
            Self::Net(_)
            | Self::Key(_)
            | Self::TooMany(_)
            | Self::ClosedCluster { .. }
            | Self::NoAuthorities
            | Self::NoRoles { .. }
            | Self::NotARole { .. } => {}
        }
        self
    }
}

impl Transient for Error {
    fn retry(&self) -> Retry {
        self.advice().retry
    }

    fn retry_after(&mut self) -> Option<&mut RetryAfter> {
        match self {
            Self::Net(error) => error.retry_after(),
            Self::Refused { retry_after, .. } => Some(retry_after),
            _ => None,
        }
    }
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        match self {
            Self::Net(error) => error.advice(),
            Self::Key(error) => error.advice(),
            Self::TooMany(error) => error.advice(),
            Self::Refused { code, message, retry_after, bot, .. } => {
                refused(*code, message, *retry_after, bot.as_deref().map_or("<bot>", bot_name))
            }
            Self::UnknownCluster { known, .. } => {
                let name = match known.is_empty() {
                    true => "`tsh clusters` shows the name".to_owned(),
                    false => format!("one of {}", sanitize(&known.join(", "))),
                };
                let remedy = format!("Write CLUSTER (--cluster) as {name}, or leave it out.");
                Advice::new(Exit::BadInput, "the-certificates-cannot-be-routed", remedy)
                    .cause("The name is misspelled, or that cluster is no longer trusted.")
            }
            Self::ClosedCluster { .. } => Advice::new(
                Exit::Refused,
                "the-certificates-cannot-be-routed",
                "Compare `tctl get rc` with `cluster_labels` of the bot's roles; or leave CLUSTER (--cluster) out.",
            )
            .cause("No role of the bot has `cluster_labels` that fit that cluster's labels."),
            Self::NoAuthorities => Advice::new(
                Exit::Refused,
                "the-certificates-are-not-right",
                "Run the step again; if it keeps failing, tell the administrator of the cluster: Teleport itself always \
                 names some.",
            )
            // Of several Auth Services one may not know them yet.
            .retry(Retry::Once),
            Self::NotARole { bot, role } => Advice::new(
                Exit::Refused,
                "the-bot-has-no-roles",
                format!(
                    "Give the bot the role, `tctl bots update {} --add-roles={role}`, or take it out of `roles` of the output.",
                    bot_name(bot),
                ),
            ),
            Self::NoRoles { bot } => Advice::new(
                Exit::Refused,
                "the-bot-has-no-roles",
                format!(
                    "Give the bot the roles that the step needs: `tctl bots update {} --add-roles=<role>`, \
                     or `spec.roles` of its `kind: bot`.",
                    bot_name(bot),
                ),
            )
            .cause("The bot was created with `roles: []`, as Teleport's guide shows first.")
            .retry(Retry::Once),
        }
    }
}

/// What the Auth Service means by a refusal. `Internal` is a failure in the service or on the way to it, not an answer.
fn refused(code: Code, message: &str, retry_after: RetryAfter, bot: &str) -> Advice {
    let is_temporary = is_temporary(code) || code == Code::Internal;
    let (cause, remedy): (_, Cow<'static, str>) = match code {
        Code::NotFound => (
            "A role that the bot may impersonate does not exist.",
            format!("Create the role, or take it from the bot: `tctl get roles` and `tctl bots update {bot} --set-roles=...`.")
                .into(),
        ),
        _ if message.contains("lock targeting") => (
            "The bot, its instance or its role is locked.",
            "See `tctl get locks`, and remove the lock if its reason is gone.".into(),
        ),
        _ if message.contains("ssh: no key found") => {
            ("The Auth Service is older than version 17.", "Update the cluster to version 17.0.2 or newer.".into())
        }
        _ if is_temporary => ("", "Run the step again; if it keeps failing, check the Auth Service.".into()),
        _ => ("", "Ask the administrator of the cluster; its audit log has the request at this time.".into()),
    };
    let remedy = if retry_after.too_late { RetryAfter::TOO_LATE.into() } else { remedy };
    let anchor = if code == Code::NotFound { "a-role-does-not-exist" } else { "the-auth-service-refuses" };
    let (exit, retry) = if is_temporary { (Exit::Network, Retry::Yes) } else { (Exit::Refused, Retry::No) };
    Advice::new(exit, anchor, remedy).cause(cause).retry(retry)
}
