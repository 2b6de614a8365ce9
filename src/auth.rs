//! The calls of a run to the Auth Service, with the bot's own certificate.
//!
//! There are two ways to it (docs/protocol.md, "Routes to Auth"): TLS through the proxy's web port, told apart by ALPN
//! (route A), and the transport service's `ProxyCluster` (route B), where the proxy has several ports or ALPN has no room
//! for the cluster's name.

use std::time::Duration;

use prost_types::Timestamp;
use teleport_api::proto::auth_service_client::AuthServiceClient;
use teleport_api::proto::{Certs, GetRoleRequest, UserCertsRequest};
use teleport_api::teleport::trust::v1::GetCertAuthoritiesRequest;
use teleport_api::teleport::trust::v1::trust_service_client::TrustServiceClient;
use teleport_api::types::CertAuthorityV2;
use tonic::{Code, Status};

use crate::address::ClusterName;
use crate::address::HostPort;
use crate::error::{Advice, Exit, Explain, Retry};
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

/// The way to a cluster's Auth Service through its proxy.
pub(crate) struct AuthRoute<'a> {
    pub(crate) network: &'a Network,
    /// The address that was configured.
    pub(crate) proxy: &'a HostPort,
    pub(crate) cluster: &'a ClusterInfo,
}

impl AuthRoute<'_> {
    /// The Auth Service of the cluster of this name at the web port (route A); `None` if there is no such route.
    pub(crate) fn endpoint<'a>(&'a self, name: &ClusterName, sni: &'a str, trust: &'a Trust) -> Option<Endpoint<'a>> {
        let endpoint = Endpoint {
            addr: self.proxy,
            service: Service::Auth(name.clone()),
            server_name: sni,
            trust,
            web_port: true,
        };
        (self.cluster.tls_routing && name.as_str().len() <= LONGEST_NAME).then_some(endpoint)
    }

    async fn connect(
        &self,
        dialled: Option<Stream>,
        name: &ClusterName,
        trust: &Trust,
        deadline: Deadline,
    ) -> Result<Channel, net::Error> {
        let Self { network, proxy, cluster } = *self;
        let sni = name.auth_sni();
        if let Some(endpoint) = self.endpoint(name, &sni, trust) {
            return network.grpc(&endpoint, dialled, deadline).await;
        }
        // The address that ssh uses is in the certificate that is shown there. The configured one need not be.
        let addr = &cluster.ssh_proxy;
        let dialled = dialled.filter(|_| addr == proxy);
        let web_port = cluster.tls_routing;
        let endpoint = Endpoint { addr, service: Service::Transport, server_name: &addr.host, trust, web_port };
        let transport = network.grpc(&endpoint, dialled, deadline).await?;
        let stream = proxy_cluster::open(&transport, name);
        let stream = tls::connect(stream, &sni, &Service::NestedAuth, trust, deadline).await?;
        Channel::new(stream, proxy).await
    }
}

/// A connection to the Auth Service. Calls may run at the same time.
#[derive(Clone)]
pub(crate) struct Auth {
    channel: Channel,
    addr: String,
    deadline: Deadline,
}

impl Auth {
    /// Connects to the Auth Service of the cluster of this name. `dialled` is a connection to the proxy's web port that is
    /// already open.
    pub(crate) async fn connect(
        route: &AuthRoute<'_>,
        dialled: Option<Stream>,
        cluster: &ClusterName,
        trust: &Trust,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let addr = format!("the Auth Service of {cluster}");
        let channel = route.connect(dialled, cluster, trust, deadline).await;
        Ok(Self { channel: channel.map_err(|error| error.behind(route.proxy, &addr))?, addr, deadline })
    }

    /// The same connection for calls until another deadline.
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

    /// User certificates that hold `roles` by impersonation. The server may cut `expires` without an error: the
    /// certificates show it.
    pub(crate) async fn user_certs(&self, request: UserCerts<'_>) -> Result<Certs, Error> {
        let cluster = request.cluster;
        let request = UserCertsRequest {
            username: request.user.to_owned(),
            expires: Some(Timestamp { seconds: request.expires.as_secs().cast_signed(), nanos: 0 }),
            route_to_cluster: request.cluster.to_string(),
            role_requests: request.roles.to_vec(),
            // Without it the request would renew the bot's own certificate, which gives access to nothing.
            use_role_requests: true,
            ssh_public_key: request.ssh_public_key.into_bytes(),
            tls_public_key: request.tls_public_key.into_bytes(),
        };
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
            call.await.map(tonic::Response::into_inner).map_err(|status| {
                match grpc::Refusal::from_status(&status, &self.addr) {
                    Ok(grpc::Refusal { code, message, retry_after }) => {
                        Error::Refused { method, code, message, retry_after, hidden: false }
                    }
                    Err(error) => Error::Net(error),
                }
            })
        };
        self.deadline.bound(awaited, answer).await
    }
}

impl From<WaitingFor> for Error {
    fn from(awaited: WaitingFor) -> Self {
        Self::Net(awaited.into())
    }
}

/// A request for user certificates.
pub(crate) struct UserCerts<'a> {
    /// The bot's user name.
    pub(crate) user: &'a str,
    /// The cluster that the certificates are routed to.
    pub(crate) cluster: &'a ClusterName,
    /// Roles to impersonate.
    pub(crate) roles: &'a [String],
    /// Time since 1970.
    pub(crate) expires: Duration,
    /// A line of authorized_keys.
    pub(crate) ssh_public_key: String,
    /// PEM.
    pub(crate) tls_public_key: String,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error(transparent)]
    Key(#[from] keys::Error),
    #[error("the Auth Service refused {method}: {} ({}){retry_after}", shown(message, *hidden), code_name(*code))]
    Refused {
        method: &'static str,
        code: Code,
        message: String,
        retry_after: RetryAfter,
        /// The log is public, so the message is not shown.
        hidden: bool,
    },
    /// No cluster has the name that the certificates should be routed to.
    #[error("there is no cluster {cluster}")]
    UnknownCluster {
        cluster: ClusterName,
        /// Empty if the log is public.
        known: Vec<String>,
    },
    /// No role of the bot reaches the cluster that the certificates should be routed to.
    #[error("the Auth Service gives the bot no certificates for the cluster {cluster}")]
    ClosedCluster { cluster: ClusterName },
    #[error("the cluster names no certificate authorities")]
    NoAuthorities,
    /// The bot may impersonate no role.
    #[error("the bot {bot} has no roles")]
    NoRoles { bot: String },
}

fn shown(message: &str, hidden: bool) -> &str {
    if hidden { "what it said is shown with DEBUG only" } else { message }
}

impl Error {
    /// The same error for a public log.
    #[must_use]
    pub(crate) fn without_details(mut self) -> Self {
        match &mut self {
            Self::Refused { hidden, .. } => *hidden = true,
            Self::UnknownCluster { known, .. } => known.clear(),
            Self::Net(_) | Self::Key(_) | Self::ClosedCluster { .. } | Self::NoAuthorities | Self::NoRoles { .. } => {}
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
            Self::Refused { code, message, retry_after, .. } => refused(*code, message, *retry_after),
            Self::UnknownCluster { known, .. } => {
                let remedy = match known.is_empty() {
                    true => "Write CLUSTER (--cluster) as `tsh clusters` shows the name, or leave it out.".to_owned(),
                    false => {
                        format!("Write CLUSTER (--cluster) as one of {}, or leave it out.", sanitize(&known.join(", ")))
                    }
                };
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
            Self::NoRoles { .. } => Advice::new(
                Exit::Refused,
                "the-bot-has-no-roles",
                "Give the bot the roles that the step needs: `tctl bots update <bot> --add-roles=<role>`, \
                 or `spec.roles` of its `kind: bot`.",
            )
            .cause("The bot was created with `roles: []`, as Teleport's guide shows first.")
            .retry(Retry::Once),
        }
    }
}

/// What the Auth Service means by a refusal. `Internal` is a failure in the service or on the way to it, not an answer.
fn refused(code: Code, message: &str, retry_after: RetryAfter) -> Advice {
    let is_temporary = is_temporary(code) || code == Code::Internal;
    let (cause, remedy) = match code {
        Code::NotFound => (
            "A role that the bot may impersonate does not exist.",
            "Create the role, or take it from the bot: `tctl get roles` and `tctl bots update <bot> --set-roles=...`.",
        ),
        _ if message.contains("lock targeting") => (
            "The bot, its instance or its role is locked.",
            "See `tctl get locks`, and remove the lock if its reason is gone.",
        ),
        _ if message.contains("ssh: no key found") => {
            ("The Auth Service is older than version 17.", "Update the cluster to version 17.0.2 or newer.")
        }
        _ if is_temporary => ("", "Run the step again; if it keeps failing, check the Auth Service."),
        _ => ("", "Ask the administrator of the cluster; its audit log has the request at this time."),
    };
    let remedy = if retry_after.is_too_late() { RetryAfter::TOO_LATE } else { remedy };
    let anchor = if code == Code::NotFound { "a-role-does-not-exist" } else { "the-auth-service-refuses" };
    let (exit, retry) = if is_temporary { (Exit::Network, Retry::Yes) } else { (Exit::Refused, Retry::No) };
    Advice::new(exit, anchor, remedy).cause(cause).retry(retry)
}
