//! One session: opens the stream to the node and copies bytes until either side ends. stdout carries SSH and nothing
//! else.

use std::cell::LazyCell;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use teleport_api::teleport::transport::v1::proxy_ssh_request::Frame as Out;
use teleport_api::teleport::transport::v1::proxy_ssh_response::Frame as In;
use teleport_api::teleport::transport::v1::transport_service_client::TransportServiceClient;
use teleport_api::teleport::transport::v1::{Frame, ProxySshRequest, ProxySshResponse, TargetHost};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::host_certificate::KeyExchange;
use super::pipes::{End, Pipes};
use super::target::{OtherName, Target};
use super::{Error, print};
use crate::address::HostPort;
use crate::auth::{Auth, NodeList};
use crate::error::for_ssh;
use crate::log;
use crate::net::grpc::Channel;
use crate::net::network::{Endpoint, Network};
use crate::net::tls::{ClientIdentity, Service, Trust};
use crate::output::identity::identity_file::Identity;
use crate::retry::{Deadline, WaitingFor};
use crate::ssh_agent::Agent;
use crate::text::sanitize;

/// The time to open the stream, in which the proxy dials the node.
const OPENING: Duration = Duration::from_secs(30);

/// The time to find a node whose name has another case.
const SEARCHING: Duration = Duration::from_secs(5);

/// The time that is left to open the stream once ssh has exited: enough to show the proxy's reason.
const OPENING_WITHOUT_SSH: Duration = Duration::from_secs(5);

/// The largest frame, in bytes: with the fields around it, it fits the 32 KiB for which servers in Go have buffers at hand
/// (docs/protocol.md, "Stream limits").
const MAX_FRAME: usize = 32 * 1024 - 16;

/// Frames between reading stdin and sending: enough to fill the window of a long link.
const FRAMES: usize = 16;

/// The most bytes that are read from ssh at once: about as many as a pipe has.
const CHUNK: usize = 2 * MAX_FRAME;

/// The time to send what is left once ssh has exited.
const DRAINING: Duration = Duration::from_millis(250);

/// Opens the stream and copies until either side ends. `agent_user` is the user on the node for whom the agent signs, if
/// it may.
pub(super) async fn run(
    network: &Network,
    proxy: &HostPort,
    identity: Identity,
    target: &Target,
    agent_user: Option<String>,
) -> Result<(), Error> {
    let deadline = Deadline::after(OPENING);
    let (key, ssh_certificate) = (identity.key.clone_key(), identity.ssh_certificate);
    let client = ClientIdentity { certificate: identity.certificate, key: identity.key };
    let trust = Trust::cluster(&identity.authorities, client);
    let endpoint =
        Endpoint { addr: proxy, service: Service::Transport, server_name: &proxy.host, trust: &trust, web_port: true };
    let channel = network.grpc(&endpoint, None, deadline).await?;

    let opening = Opening { channel, proxy, trust: &trust, target, deadline };
    let connecting = opening.connect();
    tokio::pin!(connecting);
    let Pipes { from_ssh, to_ssh, blocking: _blocking } = Pipes::open();
    // Reads from the beginning, to see whether ssh exits.
    let (queue_of_chunks, chunks) = mpsc::channel(FRAMES);
    let reading = tokio::spawn(read_chunks(from_ssh, queue_of_chunks));
    let Connected { node, requests, first, responses } = tokio::select! {
        connected = &mut connecting => connected?,
        _ = reading => {
            let connected = timeout(OPENING_WITHOUT_SSH, connecting).await;
            connected.map_err(|_| Error::from(awaited(&target.host_port())))??
        }
    };

    // ssh must not wait for the agent, so responses of the agent that cannot be queued are dropped.
    let (queue, agent_responses) = mpsc::channel(FRAMES);
    let began = Instant::now();
    let ssh_certificate = ssh_certificate.filter(|_| agent_user.is_some());
    let mut agent = LazyCell::new(|| Agent::new(&key, ssh_certificate, agent_user.unwrap_or_default(), began));
    let ask_agent = |bytes: &[u8]| {
        let responses = LazyCell::force_mut(&mut agent).as_mut().map(|agent| agent.receive(bytes)).unwrap_or_default();
        responses.chunks(MAX_FRAME).for_each(|payload| drop(queue.try_send(Bytes::copy_from_slice(payload))));
    };
    let sending_for_agent = send_for_agent(agent_responses, requests.downgrade());
    let sending = send(chunks, requests);
    let receiving = async {
        tokio::select! {
            ended = receive(first, responses, to_ssh, ask_agent, watch(target)) => ended,
            never = sending_for_agent => match never {},
        }
    };
    tokio::pin!(sending, receiving);
    tokio::select! {
        ended = &mut receiving => ended.map_err(|status| Error::from_status_of_session(&status, &node, proxy)),
        // ssh has exited. The stream cannot be closed in one direction only (docs/protocol.md, "Transport service"),
        // and nothing reads an error any more.
        () = &mut sending => {
            let _ = timeout(DRAINING, receiving).await;
            Ok(())
        }
        () = reader_closed(std::io::stdout()) => {
            let _ = timeout(DRAINING, async { tokio::join!(sending, receiving) }).await;
            Ok(())
        }
    }
}

/// Looks at the first bytes of a node, up to its host certificate. If ssh is going to refuse that because of its names,
/// says so.
fn watch(target: &Target) -> impl FnMut(&[u8]) {
    let mut exchange = Some(KeyExchange::default());
    move |bytes| {
        if let Some(ControlFlow::Break(found)) = exchange.as_mut().map(|exchange| exchange.receive(bytes)) {
            exchange = None;
            // Before ssh gets the bytes, since it ends at once if it refuses them.
            if let Some(text) = found.and_then(|certificate| target.refused_certificate(&certificate)) {
                log::print(&for_ssh(&text, "the-name-is-not-a-listed-principal"));
            }
        }
    }
}

fn awaited(node: &str) -> WaitingFor {
    WaitingFor { addr: node.to_owned(), what: "a connection to the node" }
}

/// What is needed to open the stream to the node.
struct Opening<'a> {
    channel: Channel,
    proxy: &'a HostPort,
    trust: &'a Trust,
    target: &'a Target,
    deadline: Deadline,
}

/// The open stream to a node.
struct Connected {
    /// As the proxy was asked for it.
    node: String,
    requests: mpsc::Sender<ProxySshRequest>,
    first: ProxySshResponse,
    responses: Streaming<ProxySshResponse>,
}

impl Opening<'_> {
    /// Connects to the node. If the proxy does not find it by its name, one call asks the cluster for nodes of that name in
    /// any case.
    async fn connect(&self) -> Result<Connected, Error> {
        let (name, reason) = match self.dial(self.target.host_port()).await {
            Err(Error::Node { name, reason, .. }) => (name, reason),
            other => return other,
        };
        let other_name = match self.target.not_found(&reason) {
            Some(is_ambiguous) => self.target.other_name(self.search().await, is_ambiguous),
            None => OtherName::Nothing,
        };
        match other_name {
            OtherName::Dial(node) => {
                print(&format!(
                    "ssh writes names in lower case, and the node is named {}: connecting to its UUID, {}",
                    sanitize(&node.hostname),
                    node.uuid,
                ));
                self.dial(format!("{}:0", node.uuid)).await
            }
            OtherName::Remedy(remedy) => Err(Error::Node { name, reason, remedy: Some(remedy) }),
            OtherName::Nothing => Err(Error::Node { name, reason, remedy: None }),
        }
    }

    async fn dial(&self, node: String) -> Result<Connected, Error> {
        let (requests, stream) = mpsc::channel(FRAMES);
        let target = TargetHost { host_port: node.clone(), cluster: self.target.cluster.clone() };
        // The target alone: a frame in the same message would be lost (docs/protocol.md, "Transport service").
        let _ = requests.send(ProxySshRequest { dial_target: Some(target), frame: None }).await;
        let client = TransportServiceClient::with_origin(self.channel.clone(), self.channel.origin());
        let opening = self.deadline.bound(awaited(&node), open(client, stream, &node, self.proxy));
        let (first, responses) = opening.await?;
        Ok(Connected { node, requests, first, responses })
    }

    /// Asks the Auth Service for the nodes, through the connection that is open. The list has those that the roles of the
    /// credentials may access. Only the root cluster is asked, whose authorities the credentials have.
    async fn search(&self) -> Option<NodeList> {
        let Self { channel, proxy, trust, target, .. } = self;
        if target.cluster != target.root_cluster {
            return None;
        }
        let cluster = target.cluster.parse().ok()?;
        let deadline = Deadline::after(SEARCHING.min(self.deadline.left()));
        let searching = async {
            let auth = Auth::through_transport(channel, proxy, &cluster, trust, deadline).await?;
            auth.search_nodes(&target.node).await
        };
        // The error of the node is the one that matters.
        searching.await.ok()
    }
}

async fn open(
    mut client: TransportServiceClient<Channel>,
    requests: mpsc::Receiver<ProxySshRequest>,
    node: &str,
    proxy: &HostPort,
) -> Result<(ProxySshResponse, Streaming<ProxySshResponse>), Error> {
    let error = |status: Status| Error::from_status(&status, node, proxy);
    let mut responses = client.proxy_ssh(ReceiverStream::new(requests)).await.map_err(error)?.into_inner();
    // Any first message means "connected", even an empty one.
    let first = responses.message().await.map_err(error)?;
    let closed =
        || Error::Node { name: sanitize(node), reason: "the proxy closed the stream".to_owned(), remedy: None };
    Ok((first.ok_or_else(closed)?, responses))
}

/// Completes when the other end of a pipe is closed, which means that ssh has exited. Needed because the end of stdin
/// is not seen while the proxy accepts no bytes. Never completes for a file.
async fn reader_closed(stream: impl AsFd) {
    if let Ok(fd) = stream.as_fd().try_clone_to_owned()
        && let Ok(pipe) = pipe::Sender::from_owned_fd_unchecked(fd)
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Reads from ssh, in pieces that fit a frame. Completes when ssh has closed its end.
async fn read_chunks(mut from: End<impl AsyncRead + Unpin>, to: mpsc::Sender<Bytes>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        // An empty frame would be an error for the proxy. The end of the stream says the same.
        let Ok(length @ 1..) = from.stream.read_buf(&mut buffer).await else { return };
        from.count(length);
        while !buffer.is_empty() {
            let payload = buffer.split_to(buffer.len().min(MAX_FRAME)).freeze();
            if to.send(payload).await.is_err() {
                return;
            }
        }
    }
}

/// Sends to the node. Completes only when ssh has closed its end: if the proxy accepts no more frames, the node has
/// ended, and its last bytes may still be on their way to ssh.
async fn send(mut from: mpsc::Receiver<Bytes>, to: mpsc::Sender<ProxySshRequest>) {
    while let Some(payload) = from.recv().await {
        let frame = Some(Out::Ssh(Frame { payload }));
        if to.send(ProxySshRequest { dial_target: None, frame }).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Sends the agent's responses. Never completes.
async fn send_for_agent(mut from: mpsc::Receiver<Bytes>, to: mpsc::WeakSender<ProxySshRequest>) -> Infallible {
    while let Some(payload) = from.recv().await {
        let frame = Some(Out::Agent(Frame { payload }));
        if let Some(to) = to.upgrade() {
            // If this fails the session has ended.
            let _ = to.send(ProxySshRequest { dial_target: None, frame }).await;
        }
    }
    std::future::pending().await
}

/// Copies from the node to ssh until the node ends the stream or ssh closes its end. `look` sees the bytes before ssh does.
async fn receive(
    first: ProxySshResponse,
    mut from: Streaming<ProxySshResponse>,
    mut to: End<impl AsyncWrite + Unpin>,
    mut ask_agent: impl FnMut(&[u8]),
    mut look: impl FnMut(&[u8]),
) -> Result<(), Status> {
    let mut next = Some(first);
    while let Some(message) = next {
        match message.frame {
            Some(In::Ssh(Frame { payload })) => {
                look(&payload);
                let is_closed = to.stream.write_all(&payload).await.is_err() || to.stream.flush().await.is_err();
                if is_closed {
                    return Ok(());
                }
                to.count(payload.len());
            }
            Some(In::Agent(Frame { payload })) => ask_agent(&payload),
            None => {}
        }
        next = from.message().await.or_else(|status| if is_end(&status) { Ok(None) } else { Err(status) })?;
    }
    Ok(())
}

/// Whether a status is that of a stream which one side has left. A reset without an error looks like a stream that
/// ended without a status.
fn is_end(status: &Status) -> bool {
    status.code() == Code::Cancelled || status.message().contains("missing grpc-status trailer")
}
