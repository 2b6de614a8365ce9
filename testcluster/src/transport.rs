//! `teleport.transport.v1.TransportService`: connections to nodes (docs/protocol.md, "Transport service" and "Node
//! errors").

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use teleport_api::teleport::transport::v1 as pb;
use teleport_api::teleport::transport::v1::proxy_ssh_request::Frame as Sent;
use teleport_api::teleport::transport::v1::proxy_ssh_response::Frame as Received;
use teleport_api::teleport::transport::v1::transport_service_server::TransportService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::caller;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::injection::{Exchange, Point, inject};
use crate::nodes;
use crate::proxy_cluster;
use crate::record::EventKind;
use crate::recording::ClientAgent;
use crate::refusal::Refusal;

/// Largest payload that a server sends (docs/protocol.md, "Stream limits").
const CHUNK: usize = 16 * 1024;
/// How long a client's agent may take.
const AGENT_LIMIT: Duration = Duration::from_secs(20);
/// The first bytes that a client has to send to a node.
const PREFIX: &[u8] = b"SSH-2.0";

pub(crate) type Responses = mpsc::Sender<Result<pb::ProxySshResponse, Status>>;

#[derive(Debug)]
pub(crate) struct TransportApi {
    cluster: Arc<Cluster>,
}

impl TransportApi {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }
}

#[tonic::async_trait]
impl TransportService for TransportApi {
    type ProxySSHStream = ReceiverStream<Result<pb::ProxySshResponse, Status>>;
    type ProxyClusterStream = ReceiverStream<Result<pb::ProxyClusterResponse, Status>>;

    async fn proxy_cluster(
        &self,
        request: Request<Streaming<pb::ProxyClusterRequest>>,
    ) -> Result<Response<Self::ProxyClusterStream>, Status> {
        let (peer, _) = caller(&self.cluster, &request)?;
        let (responses, stream) = mpsc::channel(4);
        let cluster = Arc::clone(&self.cluster);
        tokio::spawn(proxy_cluster::run(cluster, peer.connection(), request.into_inner(), responses));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn proxy_ssh(
        &self,
        request: Request<Streaming<pb::ProxySshRequest>>,
    ) -> Result<Response<Self::ProxySSHStream>, Status> {
        let (peer, _) = caller(&self.cluster, &request)?;
        self.cluster.sessions.add(&peer);
        let extensions = request.extensions().clone();
        inject(&self.cluster, &extensions, Point::Before(Exchange::Dial)).await?;
        let (responses, stream) = mpsc::channel(4);
        let tunnel = Tunnel { cluster: Arc::clone(&self.cluster), connection: peer.connection(), responses };
        tokio::spawn(tunnel.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A connection to a node.
struct Tunnel {
    cluster: Arc<Cluster>,
    connection: u64,
    responses: Responses,
}

/// What the client has sent to the node.
#[derive(Default)]
struct Traffic {
    first: Vec<u8>,
    largest_frame: usize,
    sent: u64,
    agent: u64,
}

impl Tunnel {
    async fn run(self, requests: Streaming<pb::ProxySshRequest>) {
        if let Err(status) = self.connect(requests).await {
            // The client may have left.
            let _left = self.responses.send(Err(status)).await;
        }
    }

    async fn connect(&self, mut requests: Streaming<pb::ProxySshRequest>) -> Result<(), Status> {
        let missing = || Refusal::bad_parameter("first frame must contain a dial target");
        let first = requests.message().await?.ok_or_else(missing)?;
        let target = first.dial_target.ok_or_else(missing)?;
        if first.frame.is_some() {
            // Real servers silently drop such a frame, and ssh hangs. An error shows the client's mistake.
            return Err(Refusal::bad_parameter("a frame beside the dial target is not forwarded").into());
        }
        let Cluster { nodes, options, leaf_clusters, .. } = &*self.cluster;
        let found = nodes::find(nodes, options, leaf_clusters, &target);
        let node = found.map_err(|refusal| refusal.wrapped("failed to dial target host"))?;
        if self.cluster.faults.has(Fault::DialStalls) {
            self.responses.closed().await;
            return Ok(());
        }
        let dialled = node.sshd().dial().await;
        // The child is killed when this call ends.
        let (node, _sshd) =
            dialled.map_err(|error| Status::unavailable(format!("failed to dial target host\n\t{error}")))?;
        self.respond(pb::ProxySshResponse { details: Some(pb::ClusterDetails { fips_enabled: false }), frame: None })
            .await;

        let mut waiting = VecDeque::new();
        if options.proxy_recording {
            let (requests, responses) = (&mut requests, &self.responses);
            let mut agent = ClientAgent { requests, responses, received: Vec::new(), others: VecDeque::new() };
            let timed_out = |_| Refusal::access_denied("the agent does not respond");
            let checked = timeout(AGENT_LIMIT, agent.check(&self.cluster)).await;
            let algorithm = checked.map_err(timed_out)??;
            waiting = agent.others;
            self.cluster.record.add(self.connection, EventKind::AgentSigned { algorithm });
        }

        for payload in self.cluster.lies.agent_bytes().unwrap_or_default().chunks(CHUNK) {
            let frame = Some(Received::Agent(pb::Frame { payload: payload.to_vec().into() }));
            self.respond(pb::ProxySshResponse { details: None, frame }).await;
        }

        for payload in self.cluster.lies.node_bytes() {
            let frame = Some(Received::Ssh(pb::Frame { payload: payload.to_vec().into() }));
            self.respond(pb::ProxySshResponse { details: None, frame }).await;
        }

        let (from_node, to_node) = node.into_split();
        let mut traffic = Traffic::default();
        let mut received = 0;
        let ended = tokio::select! {
            ended = forward(&mut requests, waiting, to_node, &mut traffic) => ended,
            () = self.send_back(from_node, &mut received) => Ok(()),
            // If the client leaves, the node's process ends as well.
            () = self.responses.closed() => Ok(()),
        };
        if matches!(&ended, Err(status) if status.message() == EMPTY_FRAME) {
            self.cluster.record.add(self.connection, EventKind::EmptyFrame);
        }
        let Traffic { largest_frame, sent, agent, .. } = traffic;
        self.cluster.record.add(self.connection, EventKind::Tunnel { largest_frame, sent, received, agent });
        ended
    }

    async fn respond(&self, response: pb::ProxySshResponse) {
        // The client may have left, which ends the call.
        let _left = self.responses.send(Ok(response)).await;
    }

    /// The end of the node's stream ends the call with OK.
    async fn send_back(&self, mut from_node: OwnedReadHalf, received: &mut u64) {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_node.read(&mut buffer).await {
            *received += length as u64;
            let payload = buffer.get(..length).unwrap_or_default().to_vec();
            let frame = Some(Received::Ssh(pb::Frame { payload: payload.into() }));
            self.respond(pb::ProxySshResponse { details: None, frame }).await;
        }
    }
}

const EMPTY_FRAME: &str = "received invalid data from source";

/// Forwards frames to the node, those in `waiting` first. The end of the client's stream is not forwarded: the session
/// ends when the client leaves.
async fn forward(
    requests: &mut Streaming<pb::ProxySshRequest>,
    mut waiting: VecDeque<pb::ProxySshRequest>,
    mut to_node: OwnedWriteHalf,
    traffic: &mut Traffic,
) -> Result<(), Status> {
    loop {
        let next = match waiting.pop_front() {
            None => requests.message().await?,
            waiting => waiting,
        };
        let Some(request) = next else { break };
        // Agent frames, which are counted, and unknown frames are skipped.
        let payload = match request.frame {
            Some(Sent::Ssh(pb::Frame { payload })) => payload,
            Some(Sent::Agent(pb::Frame { payload })) => {
                traffic.agent += payload.len() as u64;
                continue;
            }
            None => continue,
        };
        if payload.is_empty() {
            return Err(Refusal::bad_parameter(EMPTY_FRAME).into());
        }
        traffic.largest_frame = traffic.largest_frame.max(payload.len());
        traffic.sent += payload.len() as u64;
        let missing = PREFIX.len().saturating_sub(traffic.first.len());
        traffic.first.extend(payload.iter().take(missing));
        if !PREFIX.starts_with(&traffic.first) {
            return Err(Refusal::access_denied("required prefix \"SSH-2.0\" was not found").into());
        }
        if to_node.write_all(&payload).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}
