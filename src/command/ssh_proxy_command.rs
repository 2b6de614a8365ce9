//! `ssh-proxy-command`: bytes between ssh and a node, through the proxy's transport service.
//!
//! Facts: teleport-ssh-proxy.md 1 and 2. The files beside `ssh_config` are read, and for the network what they do not
//! say from the environment. stdout carries SSH and nothing else.

use std::cell::LazyCell;
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use teleport_api::teleport::transport::v1::proxy_ssh_request::Frame as Out;
use teleport_api::teleport::transport::v1::proxy_ssh_response::Frame as In;
use teleport_api::teleport::transport::v1::transport_service_client::TransportServiceClient;
use teleport_api::teleport::transport::v1::{Frame, ProxySshRequest, ProxySshResponse, TargetHost};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::block_on;
use crate::address::HostPort;
use crate::cli::SshProxy;
use crate::environment::Environment;
use crate::error::{Exit, Explain, Failure};
use crate::invalid::Invalid;
use crate::net;
use crate::net::authorities::Authorities;
use crate::net::egress::Egress;
use crate::net::grpc::{self, code_name};
use crate::net::network::{Endpoint, Network};
use crate::net::tls::{ClientIdentity, Service, Trust};
use crate::net::upgrade::Upgrade;
use crate::output::identity::identity_file::{self, Identity};
use crate::output::identity::network_file::{self, NetworkFile};
use crate::retry::{Deadline, WaitingFor};
use crate::ssh_agent::Agent;
use crate::text::sanitize;
use crate::x509::X509;

/// How long the way to the node may take to open; the proxy dials the node meanwhile.
const OPENING: Duration = Duration::from_secs(30);

/// The same when ssh is gone meanwhile: long enough for the proxy's reason to come, should somebody still read it.
const ABANDONED: Duration = Duration::from_secs(5);

/// The largest frame that Teleport itself sends (teleport-ssh-proxy.md 2.3).
const FRAME: usize = 16 * 1024;

/// Frames under way between reading stdin and sending: enough to fill the window of a long link.
const FRAMES: usize = 16;

/// What is left to be sent after ssh is gone gets this long.
const PARTING: Duration = Duration::from_millis(250);

/// Opens the way and copies until either side ends.
///
/// # Errors
/// The identity cannot be used, or the node is not reached.
pub(crate) fn run(flags: &SshProxy, env: &Environment) -> Result<(), Failure> {
    let addr = flags.proxy_server.as_str();
    let proxy: HostPort = addr.parse().map_err(|invalid: Invalid| invalid.of("--proxy-server", addr))?;
    let path = flags.destination_dir.join("identity");
    let unreadable = |reason: String| Error::Identity { path: path.display().to_string(), reason };
    let bytes = zeroize::Zeroizing::new(std::fs::read(&path).map_err(|error| unreadable(error.to_string()))?);
    let identity = identity_file::parse(&bytes).map_err(|what| unreadable(format!("its {what} cannot be read")))?;
    // The session may last for hours; the text of the key need not.
    drop(bytes);
    let certificate = X509::from_der(&identity.certificate).map_err(|_| unreadable("no certificate".to_owned()))?;
    let kept = kept(&flags.destination_dir)?;
    if certificate.not_after() <= kept.clock.cluster_time(SystemTime::now()) {
        return Err(Error::Expired { at: humantime::format_rfc3339_seconds(certificate.not_after()) }.into());
    }
    let cluster = flags.cluster.clone().or_else(|| certificate.issuer_organization()).unwrap_or_default();
    let port = flags.port.as_deref().filter(|port| !port.is_empty()).unwrap_or("0");
    let target = TargetHost { host_port: format!("{}:{port}", clean(&flags.host, &proxy.host, &cluster)), cluster };
    // Separate ports are never behind a balancer for the web, whatever an old ssh_config says.
    let upgrade = if flags.connection_upgrade && flags.tls_routing { Upgrade::Always } else { Upgrade::Never };
    let network = network(kept, env, &proxy, upgrade)?;
    Ok(block_on(connect(&network, &proxy, identity, target))??)
}

/// What the run that wrote the credentials knew of the network.
fn kept(destination: &Path) -> Result<NetworkFile, Error> {
    let path = destination.join(network_file::NAME);
    let unusable = |reason: String| Error::Network { path: path.display().to_string(), reason };
    match std::fs::read(&path).map(zeroize::Zeroizing::new) {
        Ok(bytes) => NetworkFile::parse(&bytes).map_err(unusable),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(NetworkFile::default()),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// The network as that run knew it; what it did not keep, as the environment says.
fn network(kept: NetworkFile, env: &Environment, proxy: &HostPort, upgrade: Upgrade) -> Result<Network, Failure> {
    let egress = kept.egress.map_or_else(|| Egress::from_environment(env), Ok)?;
    let authorities = match kept.authorities {
        Some(authorities) => authorities,
        // Nobody else is asked for a web certificate.
        None if upgrade == Upgrade::Always || egress.uses_tls(proxy) => {
            Authorities::from_file(env.get("SSL_CERT_FILE").map(Path::new))?
        }
        None => Authorities::default(),
    };
    Ok(Network::new(egress, Trust::web(&authorities), upgrade))
}

/// The node's name without the suffixes that ssh_config patterns demand: the proxy's host first, then the cluster, once
/// each (teleport-ssh-proxy.md 1.3). Where the cluster's name ends with the proxy's, as a leaf's may, it goes as a whole.
fn clean<'a>(host: &'a str, proxy_host: &str, cluster: &str) -> &'a str {
    let without = |name: &'a str, suffix: &str| name.strip_suffix(suffix).and_then(|name| name.strip_suffix('.'));
    let is_beneath = cluster.strip_suffix(proxy_host).is_some_and(|rest| rest.ends_with('.'));
    match without(host, cluster).filter(|_| is_beneath) {
        Some(node) => node,
        None => {
            let host = without(host, proxy_host).unwrap_or(host);
            without(host, cluster).unwrap_or(host)
        }
    }
}

async fn connect(network: &Network, proxy: &HostPort, identity: Identity, target: TargetHost) -> Result<(), Error> {
    let deadline = Deadline::after(OPENING);
    let (key, ssh_certificate) = (identity.key.clone_key(), identity.ssh_certificate);
    let client = ClientIdentity { certificate: identity.certificate, key: identity.key };
    let trust = Trust::cluster(&identity.authorities, client);
    let endpoint =
        Endpoint { addr: proxy, service: Service::Transport, server_name: &proxy.host, trust: &trust, web_port: true };
    let channel = network.grpc(&endpoint, None, deadline).await?;

    let name = target.host_port.clone();
    let (frames, out) = mpsc::channel(FRAMES);
    // The target alone: a frame in the same message would be lost (conformance FINDINGS 16).
    let _ = frames.send(ProxySshRequest { dial_target: Some(target), frame: None }).await;
    let mut client = TransportServiceClient::with_origin(channel.clone(), channel.origin());
    let explain = |status: Status| Error::of(&status, &name, proxy);
    let opening = async {
        let mut answers = client.proxy_ssh(ReceiverStream::new(out)).await.map_err(explain)?.into_inner();
        let first = answers.message().await.map_err(explain)?;
        // Any first message means "connected", even an empty one.
        Ok((first.ok_or_else(|| Error::Node { name: name.clone(), reason: "it hung up".to_owned() })?, answers))
    };
    let awaited = || WaitingFor { addr: name.clone(), what: "a connection to the node" };
    let opening = deadline.bound(awaited(), opening);
    let (chunks, read) = mpsc::channel(FRAMES);
    let reading = read_chunks(tokio::io::stdin(), chunks);
    tokio::pin!(opening, reading);
    let (opened, all_read) = tokio::select! {
        opened = &mut opening => (opened, false),
        // ssh is gone before there was a way: not worth the whole wait.
        () = &mut reading => {
            let opened = tokio::time::timeout(ABANDONED, opening).await;
            (opened.unwrap_or_else(|_| Err(Error::from(awaited()))), true)
        }
    };
    let (first, answers) = opened?;

    // ssh must not wait for the agent: if its answers cannot be sent, they are not.
    let (signed, to_be_sent) = mpsc::channel(FRAMES);
    let answering = send_answers(to_be_sent, frames.downgrade());
    let mut agent = LazyCell::new(|| Agent::new(&key, ssh_certificate));
    let ask_agent = |question: &[u8]| {
        let answers = LazyCell::force_mut(&mut agent).as_mut().map(|agent| agent.take(question)).unwrap_or_default();
        answers.chunks(FRAME).for_each(|payload| drop(signed.try_send(payload.to_vec())));
    };
    let up = async {
        let reading = async {
            if !all_read {
                reading.await
            }
        };
        tokio::join!(reading, send(read, frames))
    };
    let down = async {
        tokio::select! {
            ended = receive(first, answers, tokio::io::stdout(), ask_agent) => ended,
            never = answering => match never {},
        }
    };
    tokio::pin!(up, down);
    // ssh is gone. There is no half-close: the stream ends for both (teleport-ssh-proxy.md 2.4), and whatever comes of
    // that, nobody is left to be told.
    tokio::select! {
        _ = &mut up => {
            let _ = tokio::time::timeout(PARTING, down).await;
        }
        () = nobody_reads(std::io::stdout()) => {
            let parting = async { tokio::join!(up, down) };
            let _ = tokio::time::timeout(PARTING, parting).await;
        }
        ended = &mut down => return ended.map_err(|status| Error::ended(&status, &name, proxy)),
    }
    Ok(())
}

/// Ends when nobody has the other end of a pipe any more: ssh is gone. Where the way takes no bytes any more, its end
/// is not seen by reading, behind all that it has said before. Never ends for a file. The pipe itself stays as it is,
/// blocking.
async fn nobody_reads(stream: impl AsFd) {
    if let Ok(fd) = stream.as_fd().try_clone_to_owned()
        && let Ok(watched) = pipe::Sender::from_owned_fd_unchecked(fd)
        && watched.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// What ssh says, in pieces that fit a frame. Ends with ssh's end: begun before the way is open, so that this is
/// noticed.
async fn read_chunks(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; FRAME];
    loop {
        match from.read(&mut buffer).await {
            // An empty frame would be an error to the other side: the end is the end of the stream.
            Ok(0) | Err(_) => return,
            // The other end of the channel lives as long as this future.
            Ok(length) => drop(to.send(buffer[..length].to_vec()).await),
        }
    }
}

/// To the node. Ends with ssh's end, and with nothing else: when nobody takes frames any more, the node has ended, and
/// may have said things before that are still on their way to ssh.
async fn send(mut from: mpsc::Receiver<Vec<u8>>, to: mpsc::Sender<ProxySshRequest>) {
    while let Some(payload) = from.recv().await {
        let frame = Some(Out::Ssh(Frame { payload }));
        if to.send(ProxySshRequest { dial_target: None, frame }).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The agent's answers, to a proxy that asks; most never do. Ends with nothing.
async fn send_answers(mut from: mpsc::Receiver<Vec<u8>>, to: mpsc::WeakSender<ProxySshRequest>) -> Infallible {
    while let Some(payload) = from.recv().await {
        let frame = Some(Out::Agent(Frame { payload }));
        // Where the other side takes nothing any more, the session ends by that.
        if let Some(to) = to.upgrade() {
            let _ = to.send(ProxySshRequest { dial_target: None, frame }).await;
        }
    }
    std::future::pending().await
}

/// From the node to ssh. Ends well with the node's end, and when ssh does not listen any more.
async fn receive(
    first: ProxySshResponse,
    mut from: Streaming<ProxySshResponse>,
    mut to: impl AsyncWrite + Unpin,
    mut ask_agent: impl FnMut(&[u8]),
) -> Result<(), Status> {
    let mut next = Some(first);
    while let Some(message) = next {
        match message.frame {
            Some(In::Ssh(Frame { payload })) => {
                let written = async {
                    to.write_all(&payload).await?;
                    to.flush().await
                };
                if written.await.is_err() {
                    return Ok(());
                }
            }
            Some(In::Agent(Frame { payload })) => ask_agent(&payload),
            None => {}
        }
        next = match from.message().await {
            Ok(message) => message,
            Err(status) if is_end(&status) => None,
            Err(status) => return Err(status),
        };
    }
    Ok(())
}

/// Whether a status is how a stream ends that one side has left. A reset without an error reaches us as a stream that
/// ended without a status.
fn is_end(status: &Status) -> bool {
    status.code() == Code::Cancelled || status.message().contains("missing grpc-status trailer")
}

/// Why there is no way to the node. ssh itself says only that the connection was closed, so this is the diagnosis.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The proxy was not reached, or the connection broke.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The file with our identity.
    #[error("{path} cannot be used ({reason})")]
    Identity {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The file with what was kept of the network.
    #[error("{path} cannot be used ({reason})")]
    Network {
        /// The file.
        path: String,
        /// What is wrong, without a word of what is in it.
        reason: String,
    },
    /// Known before dialling.
    #[error("the credentials expired at {at}")]
    Expired {
        /// When.
        at: humantime::Rfc3339Timestamp,
    },
    /// The proxy has no way to the node.
    #[error("no connection to node {name}: {reason}")]
    Node {
        /// What was asked for.
        name: String,
        /// The proxy's words.
        reason: String,
    },
    /// The proxy does not let this bot go there, or not now.
    #[error("the proxy refused a connection to node {name}: {reason} ({})", code_name(*code))]
    Refused {
        /// What was asked for.
        name: String,
        /// The proxy's words.
        reason: String,
        /// Its code.
        code: Code,
    },
    /// In the middle of a session.
    #[error("the connection to node {name} ended: {reason}")]
    Ended {
        /// What was asked for.
        name: String,
        /// The proxy's words.
        reason: String,
    },
}

impl From<WaitingFor> for Error {
    fn from(awaited: WaitingFor) -> Self {
        Self::Net(awaited.into())
    }
}

impl Error {
    fn of(status: &Status, node: &str, proxy: &HostPort) -> Self {
        match grpc::Refusal::from_status(status, &proxy.to_string()) {
            Err(error) => Self::Net(error),
            Ok(grpc::Refusal { code, message: reason, .. }) => {
                let name = sanitize(node);
                match code {
                    // An unknown or absent node is any of these, by version (teleport-ssh-proxy.md 2.5).
                    Code::Unavailable | Code::NotFound | Code::Unknown => Self::Node { name, reason },
                    code => Self::Refused { name, reason, code },
                }
            }
        }
    }

    /// The same for a session that was open.
    fn ended(status: &Status, node: &str, proxy: &HostPort) -> Self {
        match Self::of(status, node, proxy) {
            Self::Node { name, reason } => Self::Ended { name, reason },
            other => other,
        }
    }
}

impl Explain for Error {
    fn what_to_do(&self) -> String {
        match self {
            Self::Net(error) => return error.what_to_do(),
            Self::Identity { .. } => "Run teleport-pipe first, in this step, and keep its directory where it is.",
            Self::Network { .. } => "Run teleport-pipe again, in this step; nothing else writes that file.",
            Self::Expired { .. } => "Run teleport-pipe again, or ask for a longer TTL.",
            Self::Node { reason, .. } if reason.contains("remote cluster") => {
                "Compare with `tsh clusters`, and `cluster_labels` of the bot's roles with those of the leaf cluster."
            }
            Self::Node { .. } => "Compare with `tsh ls`: <node>.<cluster>, and -p 22 for a node of OpenSSH.",
            Self::Refused { code: Code::ResourceExhausted, .. } => "Run fewer connections at once, or try again later.",
            Self::Refused { .. } => "Ask whoever runs the cluster which nodes and logins the bot's roles allow.",
            Self::Ended { .. } => "Run the command again; if it keeps failing, look at the proxy's log at that time.",
        }
        .to_owned()
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Net(error) => error.exit(),
            Self::Identity { .. } | Self::Network { .. } => Exit::BadInput,
            Self::Ended { .. } | Self::Refused { code: Code::ResourceExhausted, .. } => Exit::Network,
            Self::Expired { .. } | Self::Node { .. } | Self::Refused { .. } => Exit::Refused,
        }
    }

    fn anchor(&self) -> &'static str {
        match self {
            Self::Net(error) => error.anchor(),
            Self::Identity { .. } => "the-identity-cannot-be-used",
            Self::Network { .. } => "what-was-kept-of-the-network-cannot-be-used",
            Self::Expired { .. } => "the-credentials-have-expired",
            Self::Node { .. } | Self::Refused { .. } => "no-connection-to-the-node",
            Self::Ended { .. } => "the-connection-broke",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_go_once_each() {
        for (host, expected) in [
            ("node.c.example", "node"),
            ("node", "node"),
            ("node.p.example", "node"),
            ("node.c.example.p.example", "node"),
            ("a.c.example.c.example", "a.c.example"),
            ("c.example", "c.example"),
            ("nodec.example", "nodec.example"),
        ] {
            assert_eq!(clean(host, "p.example", "c.example"), expected, "{host}");
        }
        for (host, expected) in [
            ("node.leaf.p.example", "node"),
            ("node.p.example", "node"),
            ("leaf.p.example", "leaf"),
            ("node.aleaf.p.example", "node.aleaf"),
        ] {
            assert_eq!(clean(host, "p.example", "leaf.p.example"), expected, "{host}");
        }
    }
}
