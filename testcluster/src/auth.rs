//! The methods of `proto.AuthService` that a bot calls (docs/protocol.md, "Auth calls").

use std::sync::Arc;

use teleport_api::proto::auth_service_server::AuthService;
use teleport_api::proto::{
    Certs, GetRoleRequest, ListUnifiedResourcesRequest, ListUnifiedResourcesResponse, PaginatedResource,
    UserCertsRequest,
};
use teleport_api::types::{
    ImpersonateConditions, Metadata, RoleConditions, RoleSpecV6, RoleV6, ServerSpecV2, ServerV2,
};
use tonic::{Request, Response, Status};

use crate::authority::Identity;
use crate::cluster::{BOT_USER, Cluster};
use crate::hostile::Lie;
use crate::injection::{Exchange, NetworkFault, Point, inject};
use crate::issue;
use crate::nodes::{self, Node};
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

    /// Lists the nodes that the caller's roles may access: none for the bot's own role, all for the others. Does not return
    /// later pages.
    async fn list_unified_resources(
        &self,
        request: Request<ListUnifiedResourcesRequest>,
    ) -> Result<Response<ListUnifiedResourcesResponse>, Status> {
        let (_, identity) = caller(&self.cluster, &request)?;
        let extensions = request.extensions().clone();
        inject(&self.cluster, &extensions, Point::Before(Exchange::ListNodes)).await?;
        let request = request.into_inner();
        let limit = match usize::try_from(request.limit) {
            Ok(0) => DEFAULT_PAGE,
            Ok(limit) => limit,
            Err(_) => return Err(Refusal::bad_parameter("negative parameter: limit").into()),
        };
        if request.sort_by.is_some_and(|sort| sort.field != "name") {
            return Err(Refusal::not_implemented("sorting by that field is not supported").into());
        }
        let is_wanted = request.kinds.is_empty() || request.kinds.iter().any(|kind| kind == "node");
        let may_see = is_wanted && !identity.impersonator.is_empty();
        let all = if may_see { self.cluster.nodes.as_slice() } else { &[] };
        let (page, has_more) = nodes::list(all, &self.cluster.options.name, &request.search_keywords, limit);
        let resources = page.into_iter().map(|node| PaginatedResource { node: Some(server(node)) }).collect();
        let next_key = if has_more { "more".to_owned() } else { String::new() };
        Ok(Response::new(ListUnifiedResourcesResponse { resources, next_key }))
    }
}

/// The size of a page if the request has none.
const DEFAULT_PAGE: usize = 1000;

fn server(node: &Node) -> ServerV2 {
    let metadata = Some(Metadata { name: node.uuid.clone() });
    ServerV2 { metadata, spec: Some(ServerSpecV2 { hostname: node.hostname.clone() }) }
}
