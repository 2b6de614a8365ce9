//! Load balancers: ALPN, what they forward, and connection upgrades through them.

use std::time::Duration;

use serde_json::Value;
use teleport_api::proto::GetRoleRequest;
use teleport_api::proto::auth_service_client::AuthServiceClient;
use testcluster::{BalancerAlpn, EventKind, LoadBalancer, Route, Testcluster};
use tokio::io::AsyncWriteExt;
use tonic::Code;

use crate::client::{Bot, Dial, Key, auth_names, client_init, http, join_over, join_with, oidc_init};
use crate::websocket;

fn cluster_behind(balancer: LoadBalancer) -> Testcluster {
    Testcluster::builder().load_balancer(balancer).start()
}

/// A bot that joined through an upgrade. It does not have the host CA yet, so it does not verify the proxy.
async fn join_upgraded(cluster: &Testcluster) -> Bot {
    let key = Key::new();
    let stream = websocket::upgraded(cluster, "alpn").await;
    let channel = Dial::unverified(&["teleport-proxy-grpc", "h2"]).grpc_over(stream).await.unwrap();
    let certificates = join_over(channel, client_init(cluster), oidc_init(&key, &cluster.step_token())).await.unwrap();
    Bot { key, certificates }
}

/// Requests the bot's role from Auth inside an upgrade.
async fn auth_upgraded(cluster: &Testcluster, bot: &Bot) {
    let (sni, alpn) = auth_names(cluster.name());
    let stream = websocket::upgraded(cluster, "alpn-ping").await;
    let channel = bot.dial(&sni, &[&alpn, "h2"]).grpc_over(stream).await.unwrap();
    let mut auth = AuthServiceClient::with_origin(channel, "https://localhost".parse().unwrap());
    let role = auth.get_role(GetRoleRequest { name: cluster.bot_user().into() }).await.unwrap().into_inner();
    assert_eq!(role.spec.unwrap().allow.unwrap().impersonate.unwrap().roles, ["example-role"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn alpn_of_each_kind() {
    const PROBE: &[&str] = &["teleport-reversetunnel"];
    const JOIN: &[&str] = &["teleport-proxy-grpc", "h2"];
    const WEB: &[&str] = &["http/1.1"];
    for (alpn, probe, join, web) in [
        (BalancerAlpn::Ignored, Ok(None), Ok(None), Ok(None)),
        (BalancerAlpn::Refused, Err(()), Err(()), Ok(Some("http/1.1"))),
        (BalancerAlpn::H2As464, Ok(None), Ok(Some("h2")), Ok(Some("http/1.1"))),
        (BalancerAlpn::H2As502, Err(()), Ok(Some("h2")), Ok(Some("http/1.1"))),
    ] {
        let cluster = cluster_behind(LoadBalancer::new().alpn(alpn));
        for (offered, expected) in [(PROBE, probe), (JOIN, join), (WEB, web), (&[], Ok(None))] {
            let found = Dial::web(&cluster, offered).connect(&cluster).await;
            if let Err(error) = &found {
                assert!(error.to_string().contains("NoApplicationProtocol"), "{alpn:?}: {error}");
            }
            let found = found.as_ref().map(|stream| stream.get_ref().1.alpn_protocol()).map_err(drop);
            assert_eq!(found, expected.map(|name| name.map(str::as_bytes)), "{alpn:?} {offered:?}");
        }
        let routes: Vec<_> = cluster
            .record()
            .into_iter()
            .filter_map(|event| match event.kind {
                EventKind::Connection { route, .. } => route,
                _ => None,
            })
            .collect();
        assert_eq!(routes, [Route::LoadBalancer; 4]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn http_requests_are_forwarded_and_grpc_is_not() {
    for (alpn, code) in [(BalancerAlpn::H2As464, "464"), (BalancerAlpn::H2As502, "502")] {
        let cluster = cluster_behind(LoadBalancer::new().alpn(alpn));
        let (status, body) = http(&cluster, "GET /webapi/find", "").await;
        let found: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, found["proxy"]["ssh"]["public_addr"].as_str()), (200, Some(&*cluster.proxy_addr())));
        assert_ne!(found["proxy"]["ssh"]["web_listen_addr"], found["proxy"]["ssh"]["public_addr"]);
        let refused = join_with(&cluster, client_init(&cluster), oidc_init(&Key::new(), "")).await.err().unwrap();
        // The code that tonic derives from the HTTP status.
        assert_ne!(refused.code(), Code::Ok);
        let call = cluster.calls().pop().unwrap();
        assert_eq!((call.name.as_str(), call.code.as_deref()), ("POST /teleport.join.v1.JoinService/Join", Some(code)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upgrade_leads_to_all_routes_and_has_the_host_certificate() {
    let cluster = cluster_behind(LoadBalancer::new());
    let bot = join_upgraded(&cluster).await;
    auth_upgraded(&cluster, &bot).await;
    // The certificate is verified by the cluster's authorities, with a name that all host certificates have.
    for alpn in [&["teleport-proxy-grpc", "h2"][..], &["http/1.1"], &["teleport-reversetunnel"]] {
        let mut dial = bot.dial("teleport.cluster.local", alpn);
        dial.identity = None;
        let stream = websocket::upgraded(&cluster, "alpn").await;
        assert!(dial.connect_over(stream).await.is_ok(), "{alpn:?}");
    }
    let web = Dial::web(&cluster, &["teleport-proxy-grpc", "h2"]);
    let stream = websocket::upgraded(&cluster, "alpn").await;
    assert!(web.connect_over(stream).await.is_err(), "the web certificate is not used inside an upgrade");

    let record = cluster.record();
    let (outside, inside) = record
        .iter()
        .find_map(|event| match &event.kind {
            EventKind::Upgrade { protocol, inside } if protocol.as_deref() == Some("alpn") => {
                Some((event.connection, *inside))
            }
            _ => None,
        })
        .unwrap();
    let route_of = |number| {
        record.iter().find_map(|event| match &event.kind {
            EventKind::Connection { route, .. } if event.connection == number => *route,
            _ => None,
        })
    };
    assert_eq!((route_of(outside), route_of(inside)), (Some(Route::LoadBalancer), Some(Route::Join)));
    assert!(!record.iter().any(|event| matches!(event.kind, EventKind::WebSocketMistake(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_alpn_ping_has_pings_and_frames_of_the_client_are_recorded() {
    let cluster =
        Testcluster::builder().load_balancer(LoadBalancer::new()).upgrade_ping(Duration::from_millis(10)).start();
    let _stream = websocket::upgraded(&cluster, "alpn-ping").await;
    assert!(cluster.wait_for(|kind| *kind == EventKind::Pong { same: true }));
    let mut quiet = websocket::raw(&cluster, "alpn").await;
    let ping = tokio::time::timeout(Duration::from_millis(100), websocket::frame(&mut quiet)).await;
    assert!(ping.is_err(), "{ping:?}");
    let mut wrong = websocket::raw(&cluster, "alpn-ping").await;
    assert_eq!(websocket::frame(&mut wrong).await.unwrap(), (9, b"teleport".to_vec()));
    wrong.write_all(&websocket::masked(0x8a, b"else")).await.unwrap();
    assert!(cluster.wait_for(|kind| *kind == EventKind::Pong { same: false }));
    wrong.write_all(&websocket::masked(0x89, b"ping")).await.unwrap();
    assert!(cluster.wait_for(|kind| *kind == EventKind::WebSocketMistake("ping of the client")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn some_load_balancers_do_not_forward_upgrades() {
    for balancer in [LoadBalancer::new().strips_upgrades(), LoadBalancer::new().plain_http_proxy()] {
        let cluster = cluster_behind(balancer);
        let (head, _) = websocket::request(&cluster, "alpn").await;
        assert!(head.starts_with("http/1.1 404 "), "{balancer:?}: {head}");
        assert_eq!(http(&cluster, "GET /webapi/find", "").await.0, 200);
        let body = r#"{"hostID": "", "token": "none", "role": "Bot"}"#;
        let (status, _) = http(&cluster, "POST /webapi/host/credentials", body).await;
        assert!(status != 404 && status >= 400, "{status}");
    }
}
