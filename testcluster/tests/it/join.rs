//! Joining, by both services.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use testcluster::{AllowRule, EventKind, JoinService, Suite, SuiteInFind, Testcluster, WORKSPACE_UUID};
use tonic::Code;
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem};

use crate::client::{Bot, Key, client_init, http, join_with, oidc_init};

async fn refusal(cluster: &Testcluster, token: &str) -> (Code, String) {
    let status = join_with(cluster, client_init(cluster), oidc_init(&Key::new(), token)).await.err().unwrap();
    (status.code(), status.message().to_owned())
}

fn rest_request(cluster: &Testcluster, key: &Key, token: &str) -> String {
    let ssh = format!("{}\n", key.ssh.public_key().to_openssh().unwrap());
    json!({
        "hostID": "", "node_name": "", "role": "Bot", "token": cluster.token_name(),
        "additional_principals": null, "dns_names": null,
        "public_tls_key": Base64::encode_string(key.pem().as_bytes()),
        "public_ssh_key": Base64::encode_string(ssh.as_bytes()),
        "remote_addr": "", "ec2_id": null, "id_token": token, "bot_instance_id": "", "bot_generation": 0,
    })
    .to_string()
}

const REST: &str = "POST /webapi/host/credentials";

#[tokio::test]
async fn the_join_service_gives_a_bot_its_certificates() {
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    let certificate = Certificate::from_der(&bot.certificates.tls_cert).unwrap();
    assert!(bot.key.fits(&certificate));
    assert_eq!(certificate.tbs_certificate.issuer.to_string(), "CN=example.teleport.sh,O=example.teleport.sh");
    let ssh = ssh_key::Certificate::from_bytes(&bot.certificates.ssh_cert).unwrap();
    assert_eq!(ssh.key_id(), "bot-example");
    assert_eq!(ssh.public_key(), bot.key.ssh.public_key().key_data());
    assert_eq!((bot.certificates.tls_ca_certs.len(), bot.certificates.ssh_ca_keys.len()), (2, 2));
    let calls = cluster.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].name, "/teleport.join.v1.JoinService/Join");
    let keys: Vec<_> = cluster
        .record()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::Key { usage, kind, encoding, .. } => Some((usage, kind, encoding)),
            _ => None,
        })
        .collect();
    assert_eq!(keys, [("tls", "P-256".into(), "PKIX DER"), ("ssh", "P-256".into(), "SSH wire")]);
}

#[tokio::test]
async fn the_join_service_words_its_refusals_as_servers_do() {
    let cluster = Testcluster::builder().allow([AllowRule::workspace(WORKSPACE_UUID).branch("main")]).start();
    let wrapped = "verifying OIDC token\n\t";
    for (token, code, text) in [
        (cluster.mint_with_bad_signature(), Code::Unknown, "verifying token: invalid signature"),
        (cluster.mint(|claims| drop(claims.insert("exp".into(), 1.into()))), Code::Unknown, "token has expired"),
        (
            cluster.mint(|claims| drop(claims.insert("branchName".into(), "fork".into()))),
            Code::PermissionDenied,
            "id token claims did not match any allow rules",
        ),
    ] {
        let (found, message) = refusal(&cluster, &token).await;
        assert_eq!(found, code, "{message}");
        assert!(message.starts_with(wrapped) && message.contains(text), "{message}");
    }
    let key = Key::new();
    let good = cluster.step_token();
    let mut init = client_init(&cluster);
    init.token_name = "nope".into();
    let status = join_with(&cluster, init, oidc_init(&key, &good)).await.err().unwrap();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "token expired or not found"));
    let mut init = client_init(&cluster);
    init.join_method = Some("github".into());
    let status = join_with(&cluster, init, oidc_init(&key, &good)).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut oidc = oidc_init(&key, &good);
    if let Some(teleport_api::teleport::join::v1::client_params::Payload::BotParams(bot)) =
        oidc.client_params.as_mut().and_then(|params| params.payload.as_mut())
    {
        bot.expires = None;
    }
    let status = join_with(&cluster, client_init(&cluster), oidc).await.err().unwrap();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "Expires is required"));
}

#[tokio::test]
async fn older_clusters_lack_the_service_or_the_method() {
    let cluster = Testcluster::builder().join_service(JoinService::Absent).start();
    assert_eq!(refusal(&cluster, &cluster.step_token()).await.0, Code::Unimplemented);
    let cluster = Testcluster::builder().join_service(JoinService::WithoutBitbucket).start();
    let expected = (Code::Unimplemented, "join method bitbucket is not implemented".to_owned());
    assert_eq!(refusal(&cluster, &cluster.step_token()).await, expected);
}

#[tokio::test]
async fn the_rest_join_answers_in_text_forms() {
    let cluster = Testcluster::builder().suite(Suite::Legacy).start();
    let key = Key::new();
    let (status, body) = http(&cluster, REST, &rest_request(&cluster, &key, &cluster.step_token())).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let decoded = |value: &Value| String::from_utf8(Base64::decode_vec(value.as_str().unwrap()).unwrap()).unwrap();
    let tls = Certificate::from_pem(decoded(&answer["tls"])).unwrap();
    assert!(key.fits(&tls));
    let ssh = decoded(&answer["ssh"]);
    assert!(ssh.starts_with("ecdsa-sha2-nistp256-cert-v01@openssh.com ") && ssh.ends_with('\n'));
    assert!(decoded(&answer["tls_ca_certs"][1]).starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(decoded(&answer["ssh_ca_certs"][0]).starts_with("ssh-rsa "));
}

#[tokio::test]
async fn the_rest_join_refuses_by_status_and_text() {
    let cluster = Testcluster::start();
    let key = Key::new();
    let other = cluster.mint(|claims| drop(claims.insert("repositoryUuid".into(), "{x}".into())));
    let expired = cluster.mint(|claims| drop(claims.insert("exp".into(), 1.into())));
    for (body, status, text) in [
        (rest_request(&cluster, &key, &other), 403, "id token claims did not match any allow rules"),
        (rest_request(&cluster, &key, &expired), 500, "verifying token: token has expired"),
        (
            rest_request(&cluster, &key, &other).replace("example-bot", "nope"),
            403,
            "\"\" can not join the cluster with role \"Bot\", token expired or not found",
        ),
    ] {
        let (found, body) = http(&cluster, REST, &body).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((found, body["error"]["message"].as_str()), (status, Some(text)));
    }
    let cluster = Testcluster::builder().rest_join(false).start();
    assert_eq!(http(&cluster, REST, &rest_request(&cluster, &key, &cluster.step_token())).await.0, 404);
}

#[tokio::test]
async fn discovery_tells_where_and_what() {
    let found = async |cluster: &Testcluster| -> Value {
        let (status, body) = http(cluster, "GET /webapi/find", "").await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    };
    let cluster = Testcluster::start();
    let answer = found(&cluster).await;
    assert_eq!(answer["cluster_name"], "example.teleport.sh");
    assert_eq!(answer["proxy"]["ssh"]["public_addr"], cluster.proxy_addr());
    assert_eq!(answer["auth"]["signature_algorithm_suite"], "balanced-v1");
    let cluster = Testcluster::builder().suite(Suite::HsmV1).suite_in_find(SuiteInFind::Number).start();
    assert_eq!(found(&cluster).await["auth"]["signature_algorithm_suite"], 4);
    let cluster = Testcluster::builder().suite_in_find(SuiteInFind::Absent).start();
    assert_eq!(found(&cluster).await["auth"]["signature_algorithm_suite"], Value::Null);
    assert_eq!(http(&cluster, "GET /", "").await.0, 404);
}
