//! Routing by ALPN, negotiated names, and client certificates.

use testcluster::{EventKind, Route, Testcluster};
use tokio::io::AsyncReadExt;

use crate::client::{Bot, Dial, auth_names};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_client_determines_the_route_and_the_server_the_negotiated_name() {
    let cluster = Testcluster::start();
    for (offered, route, negotiated) in [
        (&["http/1.1"][..], Route::Web, Some("http/1.1")),
        (&["h2", "http/1.1"], Route::Web, Some("http/1.1")),
        (&[], Route::Web, None),
        (&["teleport-proxy-grpc", "h2"], Route::Join, Some("h2")),
        (&["teleport-proxy-grpc"], Route::Join, Some("teleport-proxy-grpc")),
        (&["teleport-proxy-grpc", "h2", "http/1.1"], Route::Join, Some("http/1.1")),
        (&["teleport-reversetunnel"], Route::ReverseTunnel, Some("teleport-reversetunnel")),
    ] {
        cluster.clear_record();
        let stream = Dial::web(&cluster, offered).connect(&cluster).await.unwrap();
        let found = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(found.as_deref(), negotiated, "{offered:?}");
        let connection = cluster.record().into_iter().find_map(|event| match event.kind {
            EventKind::Connection { route, sni, offered } => Some((route, sni, offered)),
            _ => None,
        });
        let offered = offered.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(connection, Some((Some(route), Some("localhost".to_owned()), offered)));
    }
    assert!(Dial::web(&cluster, &["nonsense"]).connect(&cluster).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn auth_and_transport_require_a_client_certificate_and_auth_requires_h2() {
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    let (sni, auth) = auth_names(cluster.name());
    // The bot trusts the cluster's authorities only, so it would refuse the web certificate.
    for (name, alpn, good) in [
        (sni.as_str(), &[auth.as_str(), "h2"][..], true),
        ("teleport.cluster.local", &[&auth, "h2"], true),
        (&sni, &[&auth], false),
        ("localhost", &["teleport-proxy-ssh-grpc", "h2"], true),
        ("localhost", &["h2", "teleport-proxy-ssh-grpc"], false),
    ] {
        assert_eq!(bot.dial(name, alpn).connect(&cluster).await.is_ok(), good, "{name} {alpn:?}");
    }
    let mut anonymous = bot.dial("localhost", &["teleport-proxy-ssh-grpc", "h2"]);
    anonymous.identity = None;
    // In TLS 1.3 the client sees the server's alert at its first read.
    let mut stream = anonymous.connect(&cluster).await.unwrap();
    let refused = stream.read_u8().await.unwrap_err();
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn auth_accepts_one_client_certificate_and_no_chain() {
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    let (sni, auth) = auth_names(cluster.name());
    let names = [auth.as_str(), "h2"];
    let mut dial = bot.dial(&sni, &names);
    let authority = dial.roots[0].clone();
    dial.identity.as_mut().unwrap().0.push(authority);
    let mut stream = dial.connect(&cluster).await.unwrap();
    assert!(stream.read_u8().await.is_err());
    let refused = EventKind::Refused("client chain of 2 certificates".into());
    assert!(cluster.wait_for(|kind| *kind == refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_offers_http_1_cannot_reach_the_join_service() {
    let cluster = Testcluster::start();
    let dial = Dial::web(&cluster, &["teleport-proxy-grpc", "h2", "http/1.1"]);
    let mut stream = dial.connect(&cluster).await.unwrap();
    assert!(stream.read_u8().await.is_err(), "the server closes the connection");
    assert!(cluster.wait_for(|kind| matches!(kind, EventKind::Refused(text) if text.contains("http/1.1"))));
}
