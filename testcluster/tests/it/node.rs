//! The last mile: the system's own `ssh`, through the transport service, to the system's own `sshd`.

use std::process::{Output, Stdio};
use std::time::Duration;

use teleport_api::teleport::transport::v1 as pb;
use teleport_api::teleport::transport::v1::proxy_ssh_request::Frame as Sent;
use teleport_api::teleport::transport::v1::proxy_ssh_response::Frame as Received;
use teleport_api::teleport::transport::v1::transport_service_client::TransportServiceClient;
use testcluster::{EventKind, Fault, Suite, Testcluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::client::{Bot, Key, user_certs};

type Stream = (mpsc::Sender<pb::ProxySshRequest>, Streaming<pb::ProxySshResponse>);

fn frame(payload: &[u8]) -> pb::ProxySshRequest {
    pb::ProxySshRequest { dial_target: None, frame: Some(Sent::Ssh(pb::Frame { payload: payload.into() })) }
}

/// Dials a target and takes the details.
async fn dial(cluster: &Testcluster, bot: &Bot, target: &str) -> Result<Stream, Status> {
    let channel = bot.dial("localhost", &["teleport-proxy-ssh-grpc", "h2"]).grpc(cluster).await.unwrap();
    let mut transport = TransportServiceClient::with_origin(channel, "https://localhost".parse().unwrap());
    let (requests, stream) = mpsc::channel(4);
    let target = pb::TargetHost { host_port: target.into(), cluster: cluster.name().into() };
    requests.send(pb::ProxySshRequest { dial_target: Some(target), frame: None }).await.unwrap();
    let mut answers = transport.proxy_ssh(ReceiverStream::new(stream)).await?.into_inner();
    let first = answers.message().await?.unwrap();
    assert!(first.details.is_some() && first.frame.is_none());
    Ok((requests, answers))
}

/// Copies between a local connection, which ssh made, and a stream.
async fn bridge(listener: TcpListener, (requests, mut answers): Stream) {
    let (connection, _) = listener.accept().await.unwrap();
    let (mut read, mut write) = connection.into_split();
    let sending = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            if requests.send(frame(&buffer[..length])).await.is_err() {
                break;
            }
        }
    };
    let receiving = async {
        while let Ok(Some(answer)) = answers.message().await {
            if let Some(Received::Ssh(pb::Frame { payload })) = answer.frame {
                write.write_all(&payload).await.unwrap();
            }
        }
    };
    tokio::select! { () = sending => {}, () = receiving => {} }
}

/// Runs ssh with fresh certificates and strict checking of the host, as `login`.
async fn ssh(cluster: &Testcluster, login: &str, command: &str) -> Output {
    let bot = Bot::join(cluster).await;
    let key = Key::new();
    let request = user_certs(cluster, &key);
    let certs = bot.auth(cluster).await.unwrap().generate_user_certs(request).await.unwrap().into_inner();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    key.ssh.write_openssh_file(&file("key"), ssh_key::LineEnding::LF).unwrap();
    std::fs::write(file("key-cert.pub"), &certs.ssh).unwrap();
    let authorities: String = bot.certificates.ssh_ca_keys[1..]
        .iter()
        .map(|wire| ssh_key::PublicKey::from_bytes(wire).unwrap().to_openssh().unwrap())
        .map(|line| format!("@cert-authority *.{} {line}\n", cluster.name()))
        .collect();
    std::fs::write(file("known_hosts"), authorities).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = dial(cluster, &bot, "node:3022").await.unwrap();
    let ssh = tokio::process::Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", file("known_hosts").display()))
        .arg("-o")
        .arg(format!("HostKeyAlias={}", cluster.node_host()))
        .arg("-i")
        .arg(file("key"))
        .args(["-p", &port.to_string(), "-l", login, "127.0.0.1", command])
        .stdin(Stdio::null())
        .output();
    let (output, ()) = tokio::join!(ssh, bridge(listener, stream));
    output.unwrap()
}

fn has_openssh() -> bool {
    let missing = testcluster::missing_openssh();
    if let Some(remedy) = missing {
        // Past the test runner, which shows what passing tests print to nobody.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("not run: {remedy}\n").as_bytes());
    }
    missing.is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ssh_logs_in_under_every_suite() {
    if !has_openssh() {
        return;
    }
    for suite in [Suite::Legacy, Suite::BalancedV1, Suite::HsmV1] {
        let cluster = Testcluster::builder().suite(suite).start();
        let output = ssh(&cluster, cluster.node_login(), "echo hello world").await;
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "hello world\n",
            "{suite:?}: {output:?} {}",
            cluster.node_log()
        );
        assert!(cluster.wait_for(
            |kind| matches!(kind, EventKind::Tunnel { sent, received, .. } if *sent > 1000 && *received > 1000)
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ssh_refuses_and_is_refused() {
    if !has_openssh() {
        return;
    }
    let cluster = Testcluster::start();
    let output = ssh(&cluster, "nobody", "true").await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    let cluster = Testcluster::builder().fault(Fault::NodeCertOfOtherCa).start();
    let output = ssh(&cluster, cluster.node_login(), "true").await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("Host key verification failed"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn targets_are_resolved_or_refused() {
    if !has_openssh() {
        return;
    }
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    for target in ["node:3022".to_owned(), "node:0".to_owned(), format!("{}:0", cluster.node_uuid())] {
        assert!(dial(&cluster, &bot, &target).await.is_ok(), "{target}");
    }
    let unknown = dial(&cluster, &bot, "elsewhere:3022").await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable);
    assert!(unknown.message().contains("target host elsewhere is offline or does not exist"));
    assert_eq!(dial(&cluster, &bot, "node").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(dial(&cluster, &bot, "node:22").await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_dial_can_stall() {
    let cluster = Testcluster::builder().fault(Fault::DialStalls).start();
    let bot = Bot::join(&cluster).await;
    let dial = dial(&cluster, &bot, "node:0");
    assert!(tokio::time::timeout(Duration::from_millis(300), dial).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_ssh_is_forwarded_and_empty_frames_are_errors() {
    if !has_openssh() {
        return;
    }
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    let end = async |payload: &[u8]| -> Status {
        let (requests, mut answers) = dial(&cluster, &bot, "node:0").await.unwrap();
        requests.send(frame(payload)).await.unwrap();
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    };
    let http = end(b"GET / HTTP/1.1\r\n").await;
    assert_eq!((http.code(), http.message()), (Code::PermissionDenied, "required prefix \"SSH-2.0\" was not found"));
    assert_eq!(end(b"").await.code(), Code::InvalidArgument);
    assert!(cluster.wait_for(|kind| *kind == EventKind::EmptyFrame));
    // The node hangs up on a version it does not know; its end of file is a good end of the call.
    assert_eq!(end(b"SSH-2.0\r\nnonsense").await.code(), Code::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sessions_end_with_the_cluster() {
    if !has_openssh() {
        return;
    }
    let cluster = Testcluster::start();
    let bot = Bot::join(&cluster).await;
    let (_requests, mut answers) = dial(&cluster, &bot, "node:0").await.unwrap();
    assert!(answers.message().await.unwrap().is_some(), "sshd introduces itself");
    drop(cluster);
    let end = async { while let Ok(Some(_)) = answers.message().await {} };
    assert!(tokio::time::timeout(Duration::from_secs(3), end).await.is_ok());
}
