//! `teleport.trust.v1.TrustService`: the public keys of the authorities (docs/protocol.md, "Auth calls").

use std::sync::Arc;

use teleport_api::teleport::trust::v1::trust_service_server::TrustService;
use teleport_api::teleport::trust::v1::{GetCertAuthoritiesRequest, GetCertAuthoritiesResponse};
use teleport_api::types::{CaKeySet, CertAuthoritySpecV2, CertAuthorityV2, SshKeyPair, TlsKeyPair};
use tonic::{Request, Response, Status};

use crate::auth::caller;
use crate::authority::Authority;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::hostile::Lie;
use crate::injection::{Exchange, NetworkFault, Point, inject};
use crate::rotation::Trusted;

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
        inject(cluster, &extensions, Point::Before(exchange)).await?;
        let list = match kind.as_str() {
            _ if cluster.faults.has(Fault::EmptyCaList) => Vec::new(),
            "host" if cluster.faults.has(Fault::WrongHostCa) => vec![public((&cluster.other_ca(), None))],
            // Sorted by name as in Teleport's backend, so that the root cluster is not always the first.
            "host" => {
                let leaf_clusters = cluster.leaf_clusters.iter().map(|leaf| public((&leaf.host_ca, None)));
                let mut all: Vec<_> = leaf_clusters.chain([public(cluster.authorities.host())]).collect();
                all.sort_by_key(|authority| authority.spec.as_ref().map(|spec| spec.cluster_name.clone()));
                all
            }
            "user" => vec![public(cluster.authorities.user())],
            // This cluster has no authorities of other types (databases, JWT).
            _ => Vec::new(),
        };
        let list = match inject(cluster, &extensions, Point::After(exchange)).await? {
            Some(NetworkFault::EmptyList) => Vec::new(),
            _ => list,
        };
        let mut list = list;
        cluster.lies.apply(&mut list, |lie| match (lie, kind.as_str()) {
            (Lie::HostAuthorities(change), "host") | (Lie::UserAuthorities(change), "user") => Some(change),
            _ => None,
        });
        Ok(Response::new(GetCertAuthoritiesResponse { cert_authorities_v2: list }))
    }
}

fn public((active, additional): Trusted<'_>) -> CertAuthorityV2 {
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
