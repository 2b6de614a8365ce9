//! Auth: the bot's role, user certificates, authorities.

use std::time::Duration;

use teleport_api::proto::{GetRoleRequest, UserCertsRequest};
use teleport_api::teleport::trust::v1::GetCertAuthoritiesRequest;
use teleport_api::teleport::trust::v1::trust_service_client::TrustServiceClient;
use testcluster::{EventKind, Phase, Role, Suite, Testcluster};
use tonic::{Code, Request, Status};
use x509_cert::Certificate;
use x509_cert::der::{DecodePem, Encode};

use crate::client::{Bot, Key, auth_names, in_seconds, user_certs};

#[tokio::test]
async fn the_bot_gets_certificates_with_the_roles_of_its_own_role() {
    for suite in [Suite::Legacy, Suite::BalancedV1, Suite::FipsV1] {
        let cluster = Testcluster::builder().suite(suite).start();
        let bot = Bot::join(&cluster).await;
        let mut auth = bot.auth(&cluster).await.unwrap();
        let role = auth.get_role(GetRoleRequest { name: cluster.bot_user().into() }).await.unwrap().into_inner();
        let roles = role.spec.unwrap().allow.unwrap().impersonate.unwrap().roles;
        assert_eq!(roles, ["example-role"]);
        let key = Key::new();
        let certs = auth.generate_user_certs(user_certs(&cluster, &key)).await.unwrap().into_inner();
        let tls = Certificate::from_pem(&certs.tls).unwrap();
        assert!(key.fits(&tls));
        let ssh = ssh_key::Certificate::from_openssh(std::str::from_utf8(&certs.ssh).unwrap()).unwrap();
        let mut principals = cluster.logins();
        principals.push("-teleport-internal-join".into());
        assert_eq!(ssh.valid_principals(), principals);
        assert_eq!(ssh.extensions()["teleport-roles"], r#"{"roles":["example-role"],"version":"v1"}"#);
        assert_eq!((certs.tls_ca_certs.len(), certs.ssh_ca_certs.len()), (1, 1));
    }
}

async fn ask(bot: &Bot, cluster: &Testcluster, change: impl FnOnce(&mut UserCertsRequest)) -> Result<u64, Status> {
    let mut request = user_certs(cluster, &bot.key);
    change(&mut request);
    let certs = bot.auth(cluster).await.unwrap().generate_user_certs(request).await?.into_inner();
    let ssh = ssh_key::Certificate::from_openssh(std::str::from_utf8(&certs.ssh).unwrap()).unwrap();
    Ok(ssh.valid_before())
}

#[tokio::test]
async fn lifetimes_are_cut_without_a_word() {
    let short = Role::new("short-role", ["user"]).max_session_ttl(Duration::from_secs(600));
    let cluster = Testcluster::builder().role(short).impersonated_roles(["example-role", "short-role"]).start();
    let bot = Bot::join(&cluster).await;
    let two_days = |request: &mut UserCertsRequest| request.expires = Some(in_seconds(48 * 3600));
    let near = |found: u64, expected: i64| found.abs_diff(in_seconds(expected).seconds as u64) <= 2;
    let day = ask(&bot, &cluster, two_days).await.unwrap();
    assert!(near(day, 24 * 3600), "{day}");
    let role = ask(&bot, &cluster, |request| {
        two_days(request);
        request.role_requests.push("short-role".into());
    })
    .await
    .unwrap();
    assert!(near(role, 600), "{role}");
}

#[tokio::test]
async fn requests_are_refused_for_what_is_wrong_with_them() {
    let cluster = Testcluster::builder().impersonated_roles(["example-role", "gone"]).start();
    let bot = Bot::join(&cluster).await;
    let code = |result: Result<u64, Status>| result.unwrap_err().code();
    let none = ask(&bot, &cluster, |request| request.role_requests.clear()).await;
    assert_eq!(code(none), Code::InvalidArgument);
    let other = ask(&bot, &cluster, |request| request.role_requests = vec!["other-role".into()]).await;
    assert_eq!(code(other), Code::PermissionDenied);
    let gone = ask(&bot, &cluster, |request| request.role_requests = vec!["gone".into()]).await.unwrap_err();
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, "role gone is not found"));
    let name = ask(&bot, &cluster, |request| request.username = "alice".into()).await;
    assert_eq!(code(name), Code::PermissionDenied);
    let past = ask(&bot, &cluster, |request| request.expires = None).await;
    assert_eq!(code(past), Code::PermissionDenied);
}

#[tokio::test]
async fn an_impersonated_certificate_gets_no_further_ones() {
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    let key = Key::new();
    let certs = bot.auth(&cluster).await.unwrap().generate_user_certs(user_certs(&cluster, &key)).await.unwrap();
    let der = Certificate::from_pem(certs.into_inner().tls).unwrap().to_der().unwrap();
    let (sni, alpn) = auth_names(cluster.name());
    let channel = bot.dial_as(&sni, &[&alpn, "h2"], der, &key).grpc(&cluster).await.unwrap();
    let origin = "https://localhost".parse().unwrap();
    let mut auth = teleport_api::proto::auth_service_client::AuthServiceClient::with_origin(channel, origin);
    let status = auth.generate_user_certs(user_certs(&cluster, &key)).await.err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn authorities_are_listed_with_those_to_come() {
    let cluster = Testcluster::builder().rotation(Phase::UpdateServers).start();
    let bot = Bot::join(&cluster).await;
    let channel = bot.auth_channel(&cluster).await.unwrap();
    let mut trust = TrustServiceClient::with_origin(channel, "https://localhost".parse().unwrap());
    let request = GetCertAuthoritiesRequest { r#type: "host".into() };
    let list = trust.get_cert_authorities(request).await.unwrap().into_inner().cert_authorities_v2;
    let spec = list[0].spec.clone().unwrap();
    assert_eq!(spec.cluster_name, "example.teleport.sh");
    let (active, next) = (spec.active_keys.unwrap(), spec.additional_trusted_keys.unwrap());
    assert_ne!(active.ssh[0].public_key, next.ssh[0].public_key);
    assert!(next.tls[0].cert.starts_with(b"-----BEGIN CERTIFICATE-----\n"));
}

#[tokio::test]
async fn a_version_is_not_needed_but_must_be_good() {
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    let mut auth = bot.auth(&cluster).await.unwrap();
    for (version, good) in [("18.1.0", true), ("15.0.0", false), ("teleport-pipe/1.0", false)] {
        let mut request = Request::new(GetRoleRequest { name: cluster.bot_user().into() });
        request.metadata_mut().insert("version", version.parse().unwrap());
        assert_eq!(auth.get_role(request).await.is_ok(), good, "{version}");
    }
    let versions = cluster.record().into_iter().filter_map(|event| match event.kind {
        EventKind::Call { version, .. } => version,
        _ => None,
    });
    assert_eq!(versions.count(), 3);
}
