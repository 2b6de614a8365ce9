//! The calls of a run to the Auth Service, with the bot's own certificate.
//!
//! There are two ways to it (teleport-issue-and-outputs.md 1.5): TLS through the proxy's web port, told apart by ALPN
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
use crate::error::{Exit, Explain, Retry};
use crate::net::Stream;
use crate::net::discovery::ClusterInfo;
use crate::net::grpc::{Channel, broken, code_name, passes, retry_after_of};
use crate::net::network::{Endpoint, Network};
use crate::net::proxy_cluster;
use crate::net::tls::{self, Service, Trust};
use crate::retry::{Deadline, RetryAfter, Transient, WaitingFor};
use crate::text::{sanitize, sanitize_nested};
use crate::{keys, net};

/// An entry of ALPN holds 255 bytes, and the cluster's name is in it as hex (DESIGN.md decision 3).
const LONGEST_NAME: usize = 109;

/// From where a cluster's Auth Service is sought.
pub(crate) struct AuthRoute<'a> {
    /// How the proxy is reached.
    pub(crate) network: &'a Network,
    /// The proxy, as we were told.
    pub(crate) proxy: &'a HostPort,
    /// What the proxy says of itself.
    pub(crate) cluster: &'a ClusterInfo,
}

impl AuthRoute<'_> {
    /// What leads through the web port to the Auth Service of the cluster of this name, if that way is there.
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
        // The address that ssh uses: its name is in the certificate that is shown there, ours need not be.
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
    /// Goes to the Auth Service of the cluster of this name. `dialled` is a connection to the proxy's web port that is
    /// open already.
    ///
    /// # Errors
    /// It is not reached.
    pub(crate) async fn reach(
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

    /// The roles that the role of this name may impersonate. A bot's own role has the bot's user name
    /// (teleport-issue-and-outputs.md 3).
    ///
    /// # Errors
    /// The call fails.
    pub(crate) async fn impersonated_roles(&self, own_role: &str) -> Result<Vec<String>, Error> {
        let request = GetRoleRequest { name: own_role.to_owned() };
        let mut client = AuthServiceClient::with_origin(self.channel.clone(), self.channel.origin());
        let role = self.call("GetRole", client.get_role(request)).await?;
        let impersonate = role.spec.and_then(|spec| spec.allow).and_then(|allow| allow.impersonate);
        Ok(impersonate.map(|conditions| conditions.roles).unwrap_or_default())
    }

    /// The certificate authorities of a type (`host`, `user`): the root cluster's and those of trusted clusters.
    ///
    /// # Errors
    /// The call fails, or there is none.
    pub(crate) async fn authorities(&self, kind: &str) -> Result<Vec<CertAuthorityV2>, Error> {
        let request = GetCertAuthoritiesRequest { r#type: kind.to_owned() };
        let mut client = TrustServiceClient::with_origin(self.channel.clone(), self.channel.origin());
        let answer = self.call("GetCertAuthorities", client.get_cert_authorities(request)).await?;
        let list = answer.cert_authorities_v2;
        if list.is_empty() { Err(Error::NoAuthorities) } else { Ok(list) }
    }

    /// User certificates that hold `roles` by impersonation. The server cuts `expires` silently; what comes back says.
    ///
    /// # Errors
    /// The call fails.
    pub(crate) async fn user_certs(&self, request: UserCerts<'_>) -> Result<Certs, Error> {
        let cluster = request.cluster;
        let request = UserCertsRequest {
            username: request.user.to_owned(),
            expires: Some(Timestamp { seconds: request.expires.as_secs().cast_signed(), nanos: 0 }),
            route_to_cluster: request.cluster.to_string(),
            role_requests: request.roles.to_vec(),
            // Without it the request would renew the bot's own certificate, which has no access to anything.
            use_role_requests: true,
            ssh_public_key: request.ssh_public_key.into_bytes(),
            tls_public_key: request.tls_public_key.into_bytes(),
        };
        let mut client = AuthServiceClient::with_origin(self.channel.clone(), self.channel.origin());
        let answer = self.call("GenerateUserCerts", client.generate_user_certs(request)).await;
        // `remote cluster "…" is not found`, and without the `is` where it is there and no role reaches it.
        answer.map_err(|error| match error {
            Error::Refused { code: Code::NotFound, .. } if error.says("remote cluster") => {
                Error::ClosedCluster { cluster: cluster.clone() }
            }
            other => other,
        })
    }

    async fn call<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Error> {
        let awaited = WaitingFor { addr: self.addr.clone(), what: method };
        let answer = async {
            call.await.map(tonic::Response::into_inner).map_err(|status| match broken(&status, &self.addr) {
                Some(error) => Error::Net(error),
                None => {
                    let (code, message, retry_after) =
                        (status.code(), sanitize_nested(status.message()), retry_after_of(&status));
                    Error::Refused { method, code, message, retry_after, discreet: false }
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

/// What to ask certificates for.
pub(crate) struct UserCerts<'a> {
    /// The bot's user name.
    pub(crate) user: &'a str,
    /// The cluster that the certificates are routed to.
    pub(crate) cluster: &'a ClusterName,
    /// Roles to impersonate.
    pub(crate) roles: &'a [String],
    /// Since 1970.
    pub(crate) expires: Duration,
    /// authorized_keys line.
    pub(crate) ssh_public_key: String,
    /// PEM.
    pub(crate) tls_public_key: String,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The Auth Service was not reached.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The key could not be encoded.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// It said no.
    #[error("the Auth Service refused {method}: {} ({}){retry_after}", if *discreet { "what it said is shown with DEBUG only" } else { message.as_str() }, code_name(*code))]
    Refused {
        /// The call.
        method: &'static str,
        /// Its code.
        code: Code,
        /// Its words.
        message: String,
        /// When to come back.
        retry_after: RetryAfter,
        /// The log is public: do not show them.
        discreet: bool,
    },
    /// The certificates cannot be routed there: nobody knows that cluster.
    #[error("there is no cluster {cluster}")]
    UnknownCluster {
        /// As it was asked for.
        cluster: ClusterName,
        /// Those that there are; none where the log is public.
        known: Vec<String>,
    },
    /// The certificates cannot be routed there: no role of the bot reaches that cluster.
    #[error("the Auth Service gives the bot no certificates for the cluster {cluster}")]
    ClosedCluster {
        /// As it was asked for.
        cluster: ClusterName,
    },
    /// A list of authorities that cannot be empty is.
    #[error("the cluster names no certificate authorities")]
    NoAuthorities,
    /// The bot may impersonate nothing.
    #[error("the bot {bot} has no roles")]
    NoRoles {
        /// The bot's user name.
        bot: String,
    },
}

impl Error {
    /// The same error for a log that everybody can read.
    #[must_use]
    pub(crate) fn without_details(mut self) -> Self {
        match &mut self {
            Self::Refused { discreet, .. } => *discreet = true,
            Self::UnknownCluster { known, .. } => known.clear(),
            _ => {}
        }
        self
    }

    fn says(&self, text: &str) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains(text))
    }
}

impl Transient for Error {
    fn retry(&self) -> Retry {
        match self {
            Self::Net(error) => error.retry(),
            // Here `Internal` is a failure on the way or in the service, not an answer to what was asked.
            Self::Refused { code, .. } if passes(*code) || *code == Code::Internal => Retry::Yes,
            // Of several Auth Services one may not have heard of it yet.
            Self::NoRoles { .. } | Self::NoAuthorities => Retry::Once,
            Self::Refused { .. } | Self::UnknownCluster { .. } | Self::ClosedCluster { .. } | Self::Key(_) => Retry::No,
        }
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
    fn likely_cause(&self) -> Option<String> {
        Some(
            match self {
                Self::Net(error) => return Some(error.advice().cause.into_owned()).filter(|cause| !cause.is_empty()),
                Self::Key(_) | Self::NoAuthorities => return None,
                Self::NoRoles { .. } => "The bot was created with `roles: []`, as Teleport's guide shows first.",
                Self::UnknownCluster { .. } => "The name is not quite right, or that cluster is not trusted any more.",
                Self::ClosedCluster { .. } => "No role of the bot has `cluster_labels` that fit that cluster's labels.",
                Self::Refused { code: Code::NotFound, .. } => "A role that the bot may impersonate does not exist.",
                Self::Refused { .. } if self.says("lock targeting") => "The bot, its instance or its role is locked.",
                Self::Refused { .. } if self.says("ssh: no key found") => "The Auth Service is older than version 17.",
                Self::Refused { .. } => return None,
            }
            .to_owned(),
        )
    }

    fn what_to_do(&self) -> String {
        match self {
            Self::Net(error) => return error.what_to_do(),
            Self::Key(error) => return error.what_to_do(),
            Self::NoAuthorities => {
                "Run the step again; if it keeps failing, tell whoever runs the cluster: Teleport itself always names some."
            }
            Self::NoRoles { .. } => {
                "Give the bot the roles that the step needs: `tctl bots update <bot> --add-roles=<role>`, \
                 or `spec.roles` of its `kind: bot`."
            }
            Self::Refused { retry_after, .. } if retry_after.is_too_late() => RetryAfter::TOO_LATE,
            Self::UnknownCluster { known, .. } if known.is_empty() => {
                "Write CLUSTER (--cluster) as `tsh clusters` shows the name, or leave it out."
            }
            Self::UnknownCluster { known, .. } => {
                return format!("Write CLUSTER (--cluster) as one of {}, or leave it out.", sanitize(&known.join(", ")));
            }
            Self::ClosedCluster { .. } => {
                "Compare `tctl get rc` with `cluster_labels` of the bot's roles; or leave CLUSTER (--cluster) out."
            }
            Self::Refused { code: Code::NotFound, .. } => {
                "Create the role, or take it from the bot: `tctl get roles` and `tctl bots update <bot> --set-roles=...`."
            }
            Self::Refused { .. } if self.says("lock targeting") => "See `tctl get locks`, and remove the lock if its reason is gone.",
            Self::Refused { .. } if self.says("ssh: no key found") => "Update the cluster; `bitbucket` joining came with 17.0.2.",
            Self::Refused { .. } if self.is_transient() => "Run the step again; if it keeps failing, look at the Auth Service.",
            Self::Refused { .. } => "Ask whoever runs the cluster; its audit log has the request at this time.",
        }
        .to_owned()
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Net(error) => error.exit(),
            Self::Key(error) => error.exit(),
            Self::Refused { .. } if self.is_transient() => Exit::Network,
            Self::UnknownCluster { .. } => Exit::BadInput,
            Self::Refused { .. } | Self::NoRoles { .. } | Self::NoAuthorities | Self::ClosedCluster { .. } => {
                Exit::Refused
            }
        }
    }

    fn anchor(&self) -> &'static str {
        match self {
            Self::Net(error) => error.anchor(),
            Self::Key(error) => error.anchor(),
            Self::NoRoles { .. } => "the-bot-has-no-roles",
            Self::NoAuthorities => "the-certificates-are-not-right",
            Self::UnknownCluster { .. } | Self::ClosedCluster { .. } => "the-certificates-cannot-be-routed",
            Self::Refused { code: Code::NotFound, .. } => "a-role-does-not-exist",
            Self::Refused { .. } => "the-auth-service-refuses",
        }
    }
}
