//! The list of nodes: whose roles may see it, keywords and pages.

use teleport_api::proto::ListUnifiedResourcesRequest;
use teleport_api::types::SortBy;
use testcluster::Testcluster;
use tonic::Code;

use crate::client::{Bot, Key, user_certs};

fn request(limit: i32, keywords: &[&str]) -> ListUnifiedResourcesRequest {
    ListUnifiedResourcesRequest {
        kinds: vec!["node".into()],
        limit,
        search_keywords: keywords.iter().map(|keyword| (*keyword).to_owned()).collect(),
        sort_by: Some(SortBy { field: "name".into() }),
    }
}

/// The bot with the certificate of an output instead of its own.
async fn with_roles(cluster: &Testcluster) -> Bot {
    let mut bot = Bot::join(cluster).await;
    let mut auth = bot.auth(cluster).await.unwrap();
    let key = Key::new();
    let certs = auth.generate_user_certs(user_certs(cluster, &key)).await.unwrap().into_inner();
    bot.certificates.tls_cert = der(&certs.tls);
    Bot { key, ..bot }
}

fn der(pem: &[u8]) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nodes_are_listed_for_those_who_may_access_them() {
    let leaf = "leaf.example.com";
    let cluster =
        Testcluster::builder().node("DB-01").node("db-02").leaf_cluster(leaf).leaf_node(leaf, "db-03").start();
    let own = Bot::join(&cluster).await;
    let mut auth = own.auth(&cluster).await.unwrap();
    let answer = auth.list_unified_resources(request(0, &[])).await.unwrap().into_inner();
    assert!(answer.resources.is_empty() && answer.next_key.is_empty());

    let mut auth = with_roles(&cluster).await.auth(&cluster).await.unwrap();
    for (limit, keywords, expected, is_complete) in [
        (0, &[][..], &["DB-01", "db-02", "node"][..], true),
        (2, &[], &["DB-01", "db-02"], false),
        (2, &["dB"], &["DB-01", "db-02"], true),
        (9, &["db", "db-02"], &["db-02"], true),
        (9, &["127.0.0.1"], &["DB-01", "db-02", "node"], true),
        (9, &["nothing"], &[], true),
    ] {
        let answer = auth.list_unified_resources(request(limit, keywords)).await.unwrap().into_inner();
        let nodes = answer.resources.into_iter().map(|resource| resource.node.unwrap().spec.unwrap().hostname);
        assert_eq!(nodes.collect::<Vec<_>>(), expected, "{keywords:?}");
        assert_eq!(answer.next_key.is_empty(), is_complete, "{keywords:?}");
    }
    let uuid = cluster.uuids("DB-01")[0];
    let answer = auth.list_unified_resources(request(1, &[uuid])).await.unwrap().into_inner();
    assert_eq!(answer.resources[0].node.as_ref().unwrap().metadata.as_ref().unwrap().name, uuid);
    let refused = auth.list_unified_resources(request(-1, &[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
