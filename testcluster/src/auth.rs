//! The methods of `proto.AuthService` that a bot calls (docs/protocol.md, "Auth calls").

use std::sync::Arc;

use teleport_api::proto::auth_service_server::AuthService;
use teleport_api::proto::{Certs, GetRoleRequest, UserCertsRequest};
use teleport_api::types::{ImpersonateConditions, RoleConditions, RoleSpecV6, RoleV6};
use tonic::{Request, Response, Status};

use crate::authority::Identity;
use crate::cluster::{BOT_USER, Cluster};
use crate::hostile::Lie;
use crate::injection::{Exchange, NetworkFault, Point, inject};
use crate::issue;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::version;

#[derive(Debug)]
pub(crate) struct AuthApi {
    cluster: Arc<Cluster>,
}

impl AuthApi {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }
}

/// The connection of a call and the holder of its client certificate. A client whose version is too old is refused
/// (docs/protocol.md, "Client version").
pub(crate) fn caller<T>(cluster: &Cluster, request: &Request<T>) -> Result<(Peer, Identity), Status> {
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("no connection"))?;
    version::check(version::from_metadata(request.metadata()).as_deref(), &cluster.options.min_client_version)?;
    let identity = peer.identity().cloned().ok_or_else(|| Refusal::access_denied("client is not authenticated"))?;
    Ok((peer, identity))
}

#[tonic::async_trait]
impl AuthService for AuthApi {
    /// Returns a role to its holders.
    async fn get_role(&self, request: Request<GetRoleRequest>) -> Result<Response<RoleV6>, Status> {
        let (_, identity) = caller(&self.cluster, &request)?;
        let extensions = request.extensions().clone();
        inject(&self.cluster, &extensions, Point::Before(Exchange::GetRole)).await?;
        let name = request.into_inner().name;
        if !identity.roles.contains(&name) {
            return Err(Refusal::access_denied("access denied to perform action \"read\" on \"role\"").into());
        }
        let impersonate = if name == BOT_USER {
            let roles = match inject(&self.cluster, &extensions, Point::After(Exchange::GetRole)).await? {
                Some(NetworkFault::ManyRoles) => (0..100_000).map(|number| format!("role-{number:05}")).collect(),
                Some(_) => Vec::new(),
                None => self.cluster.options.impersonated.clone(),
            };
            let mut roles = roles;
            self.cluster.lies.apply(&mut roles, |lie| if let Lie::Roles(change) = lie { Some(change) } else { None });
            Some(ImpersonateConditions { roles })
        } else {
            self.cluster.role(&name)?;
            None
        };
        let spec = RoleSpecV6 { allow: Some(RoleConditions { impersonate }) };
        Ok(Response::new(RoleV6 { spec: Some(spec) }))
    }

    async fn generate_user_certs(&self, request: Request<UserCertsRequest>) -> Result<Response<Certs>, Status> {
        let (peer, identity) = caller(&self.cluster, &request)?;
        let extensions = request.extensions().clone();
        inject(&self.cluster, &extensions, Point::Before(Exchange::UserCerts)).await?;
        let certs = issue::generate(&self.cluster, &peer, &identity, &request.into_inner())?;
        inject(&self.cluster, &extensions, Point::After(Exchange::UserCerts)).await?;
        Ok(Response::new(certs))
    }
}
