//! `teleport.trust.v1.TrustService`: the public halves of the authorities (teleport-issue-and-outputs.md 2.2).

use std::sync::Arc;

use teleport_api::teleport::trust::v1::trust_service_server::TrustService;
use teleport_api::teleport::trust::v1::{GetCertAuthoritiesRequest, GetCertAuthoritiesResponse};
use teleport_api::types::{CaKeySet, CertAuthoritySpecV2, CertAuthorityV2, SshKeyPair, TlsKeyPair};
use tonic::{Request, Response, Status};

use crate::auth::caller;
use crate::authority::Authority;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::weather::{Exchange, Point, Trouble, meets};

/// The service.
#[derive(Debug)]
pub(crate) struct TrustApi {
    cluster: Arc<Cluster>,
}

impl TrustApi {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }
}

#[tonic::async_trait]
impl TrustService for TrustApi {
    async fn get_cert_authorities(
        &self,
        request: Request<GetCertAuthoritiesRequest>,
    ) -> Result<Response<GetCertAuthoritiesResponse>, Status> {
        let cluster = &self.cluster;
        caller(cluster, &request)?;
        let extensions = request.extensions().clone();
        let kind = request.into_inner().r#type;
        let exchange = if kind == "host" { Exchange::HostAuthorities } else { Exchange::UserAuthorities };
        meets(cluster, &extensions, Point::Before(exchange)).await?;
        let list = match kind.as_str() {
            _ if cluster.faults.has(Fault::EmptyCaList) => Vec::new(),
            "host" if cluster.faults.has(Fault::WrongHostCa) => vec![public(&cluster.foreign_ca(), None)],
            "host" => vec![public(&cluster.host_ca, cluster.next_host_ca.as_ref())],
            "user" => vec![public(&cluster.user_ca, None)],
            // Databases, JWT and so on: this cluster has none of those.
            _ => Vec::new(),
        };
        let list = match meets(cluster, &extensions, Point::After(exchange)).await? {
            Some(Trouble::EmptyList) => Vec::new(),
            _ => list,
        };
        Ok(Response::new(GetCertAuthoritiesResponse { cert_authorities_v2: list }))
    }
}

fn public(active: &Authority, additional: Option<&Authority>) -> CertAuthorityV2 {
    CertAuthorityV2 {
        spec: Some(CertAuthoritySpecV2 {
            cluster_name: active.cluster().into(),
            active_keys: Some(keys(active)),
            additional_trusted_keys: Some(additional.map(keys).unwrap_or_default()),
        }),
    }
}

fn keys(authority: &Authority) -> CaKeySet {
    CaKeySet {
        ssh: vec![SshKeyPair { public_key: authority.ssh_line().into_bytes() }],
        tls: vec![TlsKeyPair { cert: authority.pem().into_bytes() }],
    }
}
