//! Faults strike, and the one-time ones once.

use std::time::{Duration, Instant};

use testcluster::{Fault, Testcluster};
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
    ] {
        let cluster = Testcluster::builder().fault(fault).start();
        assert_eq!([join_code(&cluster).await, join_code(&cluster).await], codes, "{fault:?}");
    }
    let cluster = Testcluster::builder().fault(Fault::CloseAfterOidcInit).start();
    assert_ne!(join_code(&cluster).await, Code::Ok);
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
    assert!(ssh.valid_principals().is_empty() && ssh.valid_before_time() < std::time::SystemTime::now());
}

#[tokio::test]
async fn hanging_is_not_answering() {
    let cluster = Testcluster::builder().fault(Fault::Hang).start();
    let dial = Dial::web(&cluster, &["http/1.1"]).connect(&cluster);
    assert!(tokio::time::timeout(Duration::from_millis(200), dial).await.is_err());
}

#[tokio::test]
async fn latency_counts_round_trips() {
    let cluster = Testcluster::builder().latency(Duration::from_millis(20)).start();
    let began = Instant::now();
    assert_eq!(http(&cluster, "GET /webapi/find", "").await.0, 200);
    // TCP, TLS 1.3, the request: three round trips of 40 ms.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(120) && took < Duration::from_millis(230), "{took:?}");
}
