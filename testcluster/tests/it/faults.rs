//! Defects of the cluster happen, and the one-time ones once.

use std::time::{Duration, Instant, SystemTime};

use teleport_api::teleport::trust::v1::GetCertAuthoritiesRequest;
use teleport_api::teleport::trust::v1::trust_service_client::TrustServiceClient;
use teleport_api::types::CertAuthorityV2;
use testcluster::{Fault, Testcluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::client::{Bot, Dial, Key, client_init, http, join_with, oidc_init, user_certs};

async fn join_code(cluster: &Testcluster) -> Code {
    let oidc = oidc_init(&Key::new(), &cluster.step_token());
    match join_with(cluster, client_init(cluster), oidc).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn faults_of_the_join() {
    for (fault, codes) in [
        (Fault::JoinUnavailableOnce, [Code::Unavailable, Code::Ok]),
        (Fault::RateLimitOnce, [Code::ResourceExhausted, Code::Ok]),
        (Fault::ErrorTextWithEscapes, [Code::PermissionDenied, Code::PermissionDenied]),
        (Fault::ResetOnce, [Code::Aborted, Code::Ok]),
        (Fault::WebCertExpired, [Code::Aborted, Code::Aborted]),
        (Fault::WebCertForOtherName, [Code::Aborted, Code::Aborted]),
        (Fault::RefuseAll, [Code::Aborted, Code::Aborted]),
        (Fault::Rest500Once, [Code::Ok, Code::Ok]),
    ] {
        let cluster = Testcluster::builder().fault(fault).start();
        assert_eq!([join_code(&cluster).await, join_code(&cluster).await], codes, "{fault:?}");
    }
    let cluster = Testcluster::builder().fault(Fault::CloseAfterOidcInit).start();
    assert_ne!(join_code(&cluster).await, Code::Ok);
    let cluster = Testcluster::builder().fault(Fault::JoinStalls).start();
    assert!(tokio::time::timeout(Duration::from_millis(300), join_code(&cluster)).await.is_err());
    let cluster = Testcluster::builder().fault(Fault::JoinCertForOtherKey).start();
    let bot = Bot::join(&cluster).await;
    let ssh = ssh_key::Certificate::from_bytes(&bot.certificates.ssh_cert).unwrap();
    assert_ne!(ssh.public_key(), bot.key.ssh.public_key().key_data());
    let cluster = Testcluster::builder().fault(Fault::Rest500Once).start();
    let rest = async || http(&cluster, "POST /webapi/host/credentials", "{}").await.0;
    assert_eq!((rest().await, rest().await), (500, 400));
}

#[tokio::test]
async fn faults_of_discovery() {
    let find = "GET /webapi/find";
    let cluster = Testcluster::builder().fault(Fault::FindHtml).start();
    let (status, body) = http(&cluster, find, "").await;
    assert!(status == 200 && body.starts_with("<!DOCTYPE html>"));
    let cluster = Testcluster::builder().fault(Fault::Find500).start();
    assert_eq!(http(&cluster, find, "").await.0, 500);
    let cluster = Testcluster::builder().fault(Fault::FindTruncated).start();
    let (status, body) = http(&cluster, find, "").await;
    assert!(status == 200 && body.contains("{\"auth\"") && !body.contains("tls_routing_enabled"), "{body}");
}

#[tokio::test]
async fn an_endless_response_does_not_end() {
    let cluster = Testcluster::builder().fault(Fault::FindEndless).start();
    let mut stream = Dial::web(&cluster, &["http/1.1"]).connect(&cluster).await.unwrap();
    stream.write_all(b"GET /webapi/find HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut megabytes = vec![0; 8 << 20];
    assert!(stream.read_exact(&mut megabytes).await.is_ok());
}

#[tokio::test]
async fn faults_of_auth() {
    let cluster = Testcluster::builder().fault(Fault::DropAuthConnectionOnce).fault(Fault::CertForOtherKey).start();
    let bot = Bot::join(&cluster).await;
    let request = user_certs(&cluster, &bot.key);
    let mut first = bot.auth(&cluster).await.unwrap();
    assert!(first.generate_user_certs(request.clone()).await.is_err());
    let mut second = bot.auth(&cluster).await.unwrap();
    let certs = second.generate_user_certs(request.clone()).await.unwrap().into_inner();
    let ssh = ssh_key::Certificate::from_openssh(std::str::from_utf8(&certs.ssh).unwrap()).unwrap();
    assert_ne!(ssh.public_key(), bot.key.ssh.public_key().key_data());

    let cluster = Testcluster::builder().fault(Fault::ExpiredUserCert).fault(Fault::NoPrincipals).start();
    let bot = Bot::join(&cluster).await;
    let certs = bot.auth(&cluster).await.unwrap().generate_user_certs(request).await.unwrap().into_inner();
    let ssh = ssh_key::Certificate::from_openssh(std::str::from_utf8(&certs.ssh).unwrap()).unwrap();
    assert!(ssh.valid_principals().is_empty() && ssh.valid_before_time() < SystemTime::now());
}

#[tokio::test]
async fn faults_of_lifetimes_and_authorities() {
    let long = Testcluster::builder()
        .fault(Fault::UserCertTtlLongerThanAsked)
        .fault(Fault::AuthUnavailableOnce)
        .fault(Fault::WrongHostCa)
        .start();
    let bot = Bot::join(&long).await;
    let mut auth = bot.auth(&long).await.unwrap();
    let request = user_certs(&long, &bot.key);
    assert_eq!(auth.generate_user_certs(request.clone()).await.err().unwrap().code(), Code::Unavailable);
    let certs = auth.generate_user_certs(request).await.unwrap().into_inner();
    let ssh = ssh_key::Certificate::from_openssh(std::str::from_utf8(&certs.ssh).unwrap()).unwrap();
    assert!(ssh.valid_before_time() > SystemTime::now() + Duration::from_secs(12 * 3600));
    let listed = host_authorities(&long, &bot).await;
    let key = listed[0].spec.clone().unwrap().active_keys.unwrap().ssh[0].public_key.clone();
    let key = ssh_key::PublicKey::from_openssh(std::str::from_utf8(&key).unwrap()).unwrap();
    assert!(!bot.certificates.ssh_ca_keys.contains(&key.to_bytes().unwrap()));
    let empty = Testcluster::builder().fault(Fault::EmptyCaList).start();
    let bot = Bot::join(&empty).await;
    assert!(host_authorities(&empty, &bot).await.is_empty());
}

async fn host_authorities(cluster: &Testcluster, bot: &Bot) -> Vec<CertAuthorityV2> {
    let channel = bot.auth_channel(cluster).await.unwrap();
    let mut trust = TrustServiceClient::with_origin(channel, "https://localhost".parse().unwrap());
    let request = GetCertAuthoritiesRequest { r#type: "host".into() };
    trust.get_cert_authorities(request).await.unwrap().into_inner().cert_authorities_v2
}

#[tokio::test]
async fn a_cluster_that_hangs_does_not_respond() {
    let cluster = Testcluster::builder().fault(Fault::Hang).start();
    let dial = Dial::web(&cluster, &["http/1.1"]).connect(&cluster);
    assert!(tokio::time::timeout(Duration::from_millis(200), dial).await.is_err());
}

#[tokio::test]
async fn latency_counts_round_trips() {
    let cluster = Testcluster::builder().latency(Duration::from_millis(20)).start();
    let began = Instant::now();
    assert_eq!(http(&cluster, "GET /webapi/find", "").await.0, 200);
    // TCP, TLS 1.3 and the request take a round trip of 40 ms each.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(120) && took < Duration::from_millis(230), "{took:?}");
}
