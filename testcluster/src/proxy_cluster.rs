//! `ProxyCluster`: a connection to Auth inside a call of the transport service (docs/protocol.md, "Routes to Auth",
//! route B).

use std::sync::Arc;

use teleport_api::teleport::transport::v1 as pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::cluster::Cluster;
use crate::listener;
use crate::record::EventKind;
use crate::refusal::Refusal;

/// Largest payload that a server sends (docs/protocol.md, "Stream limits").
const CHUNK: usize = 16 * 1024;

pub(crate) type Responses = mpsc::Sender<Result<pb::ProxyClusterResponse, Status>>;

/// Copies frames between a client and Auth until either ends the connection. There is no response that says that Auth
/// was reached: the first frame already holds bytes of Auth.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    connection: u64,
    requests: Streaming<pb::ProxyClusterRequest>,
    responses: Responses,
) {
    if let Err(status) = connect(&cluster, connection, requests, &responses).await {
        // The client may have left.
        let _left = responses.send(Err(status)).await;
    }
}

async fn connect(
    cluster: &Arc<Cluster>,
    connection: u64,
    mut requests: Streaming<pb::ProxyClusterRequest>,
    responses: &Responses,
) -> Result<(), Status> {
    let first = requests.message().await?.ok_or_else(|| Refusal::bad_parameter("first frame is missing"))?;
    if first.cluster != cluster.options.name {
        let name = &first.cluster;
        return Err(Refusal::not_found(format!(
            "failed dialing cluster \"{name}\"\n\tcluster \"{name}\" is not found"
        ))
        .into());
    }
    let inside = cluster.record.next_connection();
    cluster.record.add(connection, EventKind::ProxyCluster { inside });
    let (near, far) = tokio::io::duplex(CHUNK * 4);
    tokio::spawn(listener::serve_auth(Arc::clone(cluster), Box::new(far), inside));
    let (from_auth, mut to_auth) = tokio::io::split(near);
    // The first message may already hold the first bytes.
    if let Some(frame) = first.frame {
        write(cluster, connection, &mut to_auth, &frame).await?;
    }
    let forward = async {
        while let Some(request) = requests.message().await? {
            let frame = request.frame.ok_or_else(|| Refusal::bad_parameter("received invalid frame"))?;
            write(cluster, connection, &mut to_auth, &frame).await?;
        }
        // The end of the client's stream ends the connection to Auth.
        Ok(())
    };
    tokio::select! {
        ended = forward => ended,
        () = send_back(from_auth, responses) => Ok(()),
        () = responses.closed() => Ok(()),
    }
}

async fn write(
    cluster: &Cluster,
    connection: u64,
    to_auth: &mut WriteHalf<DuplexStream>,
    frame: &pb::Frame,
) -> Result<(), Status> {
    if frame.payload.is_empty() {
        cluster.record.add(connection, EventKind::EmptyFrame);
        return Err(Refusal::bad_parameter("received invalid data from source").into());
    }
    // Auth may have closed the connection, which ends `send_back`.
    let _ended = to_auth.write_all(&frame.payload).await;
    Ok(())
}

async fn send_back(mut from_auth: ReadHalf<DuplexStream>, responses: &Responses) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from_auth.read(&mut buffer).await {
        let payload = buffer.get(..length).unwrap_or_default().to_vec();
        let response = pb::ProxyClusterResponse { frame: Some(pb::Frame { payload: payload.into() }) };
        if responses.send(Ok(response)).await.is_err() {
            break;
        }
    }
}
