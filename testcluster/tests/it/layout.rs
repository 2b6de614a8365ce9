//! Separate ports, names and TLS versions.

use rustls::ProtocolVersion;
use serde_json::Value;
use teleport_api::proto::GetRoleRequest;
use teleport_api::proto::auth_service_client::AuthServiceClient;
use teleport_api::teleport::transport::v1 as pb;
use teleport_api::teleport::transport::v1::transport_service_client::TransportServiceClient;
use testcluster::{EventKind, Layout, Testcluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::client::{Bot, Dial, http};

const TRANSPORT: &[&str] = &["teleport-proxy-ssh-grpc", "h2"];

/// A call of `ProxyCluster` on a connection to this port.
async fn proxy_cluster(
    cluster: &Testcluster,
    bot: &Bot,
    port: u16,
    first: pb::ProxyClusterRequest,
) -> (mpsc::Sender<pb::ProxyClusterRequest>, Streaming<pb::ProxyClusterResponse>) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let channel = bot.dial("localhost", TRANSPORT).grpc_over(stream).await.unwrap();
    let mut transport = TransportServiceClient::with_origin(channel, "https://localhost".parse().unwrap());
    let (requests, stream) = mpsc::channel(4);
    requests.send(first).await.unwrap();
    let responses = transport.proxy_cluster(ReceiverStream::new(stream)).await.unwrap().into_inner();
    assert!(cluster.calls().iter().any(|call| call.name.ends_with("/ProxyCluster")));
    (requests, responses)
}

fn frame(payload: &[u8]) -> pb::ProxyClusterRequest {
    pb::ProxyClusterRequest { cluster: String::new(), frame: Some(pb::Frame { payload: payload.to_vec().into() }) }
}

/// The connection to Auth inside such a call.
async fn auth_stream(cluster: &Testcluster, bot: &Bot, port: u16) -> DuplexStream {
    let first = pb::ProxyClusterRequest { cluster: cluster.name().into(), frame: None };
    let (requests, mut responses) = proxy_cluster(cluster, bot, port, first).await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut read, mut write) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            requests.send(frame(&buffer[..length])).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok(Some(response)) = responses.message().await {
            write.write_all(&response.frame.unwrap().payload).await.unwrap();
        }
    });
    near
}

/// The bot's roles according to Auth, called through `ProxyCluster` on this port.
async fn roles(cluster: &Testcluster, bot: &Bot, port: u16) -> Vec<String> {
    let stream = auth_stream(cluster, bot, port).await;
    let channel = bot.dial("teleport.cluster.local", &["h2"]).grpc_over(stream).await.unwrap();
    let mut auth = AuthServiceClient::with_origin(channel, "https://localhost".parse().unwrap());
    let role = auth.get_role(GetRoleRequest { name: cluster.bot_user().into() }).await.unwrap().into_inner();
    role.spec.unwrap().allow.unwrap().impersonate.unwrap().roles
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn separate_ports_are_in_discovery_and_serve_their_routes() {
    for auth_on_web in [false, true] {
        let cluster = Testcluster::builder().layout(Layout::SeparatePorts { auth_on_web }).start();
        let [ssh, tunnel] = [cluster.ssh_port(), cluster.tunnel_port()].map(Option::unwrap);
        let found: Value = serde_json::from_str(&http(&cluster, "GET /webapi/find", "").await.1).unwrap();
        assert_eq!(found["proxy"]["tls_routing_enabled"], false);
        for (key, address) in [
            ("public_addr", cluster.proxy_addr()),
            ("ssh_public_addr", format!("localhost:{ssh}")),
            ("ssh_tunnel_public_addr", format!("localhost:{tunnel}")),
            ("listen_addr", format!("127.0.0.1:{ssh}")),
            ("tunnel_listen_addr", format!("127.0.0.1:{tunnel}")),
            ("web_listen_addr", format!("127.0.0.1:{}", cluster.port())),
        ] {
            assert_eq!(found["proxy"]["ssh"][key], address, "{key}");
        }

        let bot = Bot::join(&cluster).await;
        // The web port does not route to the transport service, so it has the web certificate, which the bot does not
        // trust.
        assert!(bot.dial("localhost", TRANSPORT).connect(&cluster).await.is_err());
        assert_eq!(bot.auth(&cluster).await.is_ok(), auth_on_web);
        assert_eq!(roles(&cluster, &bot, ssh).await, ["example-role"]);
        assert!(cluster.record().iter().any(|event| matches!(event.kind, EventKind::ProxyCluster { .. })));

        let mut stream = TcpStream::connect(("127.0.0.1", tunnel)).await.unwrap();
        let mut line = [0; 16];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"SSH-2.0-Teleport");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_empty_frame_is_recorded() {
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    let first = pb::ProxyClusterRequest { cluster: cluster.name().into(), frame: None };
    let (requests, mut responses) = proxy_cluster(&cluster, &bot, cluster.port(), first).await;
    requests.send(frame(b"")).await.unwrap();
    assert_eq!(responses.message().await.unwrap_err().code(), Code::InvalidArgument);
    assert!(cluster.wait_for(|kind| *kind == EventKind::EmptyFrame));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_dialled_name_can_differ_from_the_public_one() {
    let cluster = Testcluster::builder().public_name("proxy.example.com").dialled_name("localhost").start();
    assert_eq!(cluster.proxy_addr(), format!("localhost:{}", cluster.port()));
    let (_, body) = http(&cluster, "GET /webapi/find", "").await;
    assert!(body.contains(&format!(r#""public_addr":"proxy.example.com:{}""#, cluster.port())), "{body}");
    let bot = Bot::join(&cluster).await;
    for (name, good) in [("proxy.example.com", true), ("teleport.cluster.local", true), ("localhost", false)] {
        assert_eq!(bot.dial(name, TRANSPORT).connect(&cluster).await.is_ok(), good, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_web_can_be_limited_to_tls_1_2() {
    for (old, version) in [(false, ProtocolVersion::TLSv1_3), (true, ProtocolVersion::TLSv1_2)] {
        let cluster = Testcluster::builder().tls_12_only(old).start();
        let stream = Dial::web(&cluster, &["http/1.1"]).connect(&cluster).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version));
        let bot = Bot::join(&cluster).await;
        assert!(bot.auth(&cluster).await.is_ok());
    }
}
