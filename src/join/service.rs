//! The join service: one stream of `teleport.join.v1.JoinService/Join` (docs/protocol.md, "Join service").

use std::cell::Cell;
use std::time::Duration;

use prost_types::Timestamp;
use rustls::pki_types::CertificateDer;
use teleport_api::teleport::join::v1 as wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use wire::join_request::Payload as ToServer;
use wire::join_response::Payload as FromServer;
use wire::join_service_client::JoinServiceClient;

use super::{Attempt, Error, Joined, Outcome, Request};
use crate::error::Retry;
use crate::keys::{KeyPair, Suite};
use crate::net;
use crate::retry::{Deadline, RetryAfter, SLOW, Transient, WaitingFor, retry};

/// The full name of the service.
pub(crate) const SERVICE: &str = "teleport.join.v1.JoinService";

/// How long the last message gets to be sent, before the connection is closed.
const LAST_MESSAGE: Duration = Duration::from_millis(500);

/// A failure, and how far the conversation had come.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub(crate) struct Failed {
    pub(crate) attempt: Attempt,
    pub(crate) progress: Progress,
}

/// How far the conversation with the join service has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// The service has greeted us, so it is there.
    pub(crate) greeted: bool,
    /// If the service is not there, the REST call is made.
    pub(crate) rest_follows: bool,
    /// The join token has been sent, and must not be sent again.
    pub(crate) spent: bool,
}

impl Failed {
    /// Whether the service, or the method in it, is not there: REST may be. After a certificate error it is not tried,
    /// because REST would meet the same certificate.
    fn is_absence(&self) -> bool {
        let Progress { greeted, rest_follows, spent } = self.progress;
        match &self.attempt {
            _ if spent => false,
            Attempt::Grpc { code, .. } => *code == Code::Unimplemented,
            Attempt::Net(error) => {
                let something_else_answers = matches!(
                    error,
                    net::Error::NoAlpn { .. }
                        | net::Error::NoUpgrade { .. }
                        | net::Error::NotGrpc { .. }
                        | net::Error::Tls { .. }
                );
                rest_follows && !greeted && (error.is_transient() || something_else_answers)
            }
            _ => false,
        }
    }
}

impl Transient for Failed {
    fn retry(&self) -> Retry {
        if self.progress.spent || self.is_absence() { Retry::No } else { self.attempt.retry() }
    }

    fn retry_after(&mut self) -> Option<&mut RetryAfter> {
        self.attempt.retry_after()
    }
}

/// Joins, or finds that the service is not there.
pub(super) async fn join(request: &Request<'_>) -> Result<Outcome, Error> {
    let progress = Cell::new(Progress { rest_follows: request.method.rest().is_some(), ..Progress::default() });
    let answer = match try_directly(request, &progress).await {
        FirstTry::Done(answer) => answer,
        FirstTry::BehindLoadBalancer => try_all(request, &progress).await,
    };
    match answer {
        Ok(joined) => Ok(Outcome::Joined(joined)),
        // Without time left, REST could only fail for lack of time.
        Err(failed) if failed.is_absence() && !request.deadline.is_over() => Ok(Outcome::NotThere(failed.attempt)),
        Err(failed) => Err(request.error(failed.attempt, None)),
    }
}

/// What the first round of attempts came to.
enum FirstTry {
    Done(Result<Joined, Failed>),
    /// A load balancer was found in front of the proxy. From now on connections are upgraded: try again.
    BehindLoadBalancer,
}

/// Tries without knowing whether a load balancer is in front of the proxy. One that speaks HTTP/2 and not gRPC takes the
/// connection, and gives another answer or none; then it is looked for.
async fn try_directly(request: &Request<'_>, progress: &Cell<Progress>) -> FirstTry {
    let finds_load_balancer = || async {
        !progress.get().greeted
            && request.network.finds_balancer(request.proxy, request.deadline).await
            && !progress.get().greeted
    };
    if !request.method.may_repeat() {
        // The first attempt is the only one, so the load balancer must be known before it, and whether the service is there.
        finds_load_balancer().await;
        let answer = match expect_service(request, progress).await {
            Ok(()) => try_all(request, progress).await,
            Err(failed) => Err(failed),
        };
        return FirstTry::Done(answer);
    }
    let no_answer = async {
        tokio::time::sleep(SLOW).await;
        if !finds_load_balancer().await {
            std::future::pending().await
        }
    };
    let answer = tokio::select! {
        answer = try_all(request, progress) => answer,
        () = no_answer => return FirstTry::BehindLoadBalancer,
    };
    let may_be_load_balancer = |attempt: &Attempt| {
        matches!(
            attempt,
            Attempt::Net(net::Error::NotGrpc { .. } | net::Error::Timeout { .. } | net::Error::Broken { .. })
        )
    };
    match answer {
        Err(failed) if may_be_load_balancer(&failed.attempt) && finds_load_balancer().await => {
            FirstTry::BehindLoadBalancer
        }
        answer => FirstTry::Done(answer),
    }
}

/// Fails if the service is not there, by a call that has no meaning.
async fn expect_service(request: &Request<'_>, progress: &Cell<Progress>) -> Result<(), Failed> {
    let asking = |deadline| async move {
        let addr = request.proxy.to_string();
        let mut channel = request.network.join(request.proxy, deadline).await?;
        let status = channel.probe(SERVICE, &addr, deadline).await?;
        match status.message().contains("unknown service") {
            true => Err(Attempt::from_status(&status, &addr)),
            false => Ok(()),
        }
    };
    let asking = |deadline| async move {
        asking(deadline).await.map_err(|attempt: Attempt| Failed { attempt, progress: progress.get() })
    };
    retry("join", request.deadline, asking).await
}

async fn try_all(request: &Request<'_>, progress: &Cell<Progress>) -> Result<Joined, Failed> {
    retry("join", request.deadline, |deadline| {
        progress.set(Progress { greeted: false, ..progress.get() });
        once(request, deadline, progress)
    })
    .await
}

/// Joins if there is no other way to.
pub(super) async fn insist(request: &Request<'_>) -> Result<Joined, Attempt> {
    let progress = Cell::new(Progress::default());
    let joined = retry("join", request.deadline, |deadline| once(request, deadline, &progress)).await;
    joined.map_err(|failed| failed.attempt)
}

async fn once(request: &Request<'_>, deadline: Deadline, progress: &Cell<Progress>) -> Result<Joined, Failed> {
    converse(request, deadline, progress).await.map_err(|attempt| Failed { attempt, progress: progress.get() })
}

async fn converse(request: &Request<'_>, deadline: Deadline, progress: &Cell<Progress>) -> Result<Joined, Attempt> {
    let (mut stream, greeting) = Conversation::open(request, deadline, progress).await?;
    progress.set(Progress { greeted: true, ..progress.get() });
    let suite = Suite::from_name(&greeting.signature_algorithm_suite);
    let key = KeyPair::generate_in_background(suite).await?;
    // Discovery, and what issues the proof, have attempts of their own. This attempt does not end because they take long: its
    // time begins anew.
    request.proof().await;
    let awaited = WaitingFor { addr: request.proxy.to_string(), what: "discovery" };
    let expires = request.deadline.bound(awaited, async { Ok::<_, Attempt>(request.expires().await) }).await?;
    stream.deadline = request.deadline.attempt("join");
    stream.send(request.method.init(bot_params(expires, &key)?)).await;
    // The result ends the join. The end of the stream is not awaited: behind a proxy it takes a minute unless the client
    // half-closes first (docs/protocol.md, "Join service"). Dropping the stream tells the service that we are done.
    let certificates = stream.certificates(request).await?;
    Ok(Joined {
        certificate: CertificateDer::from(certificates.tls_cert),
        authorities: certificates.tls_ca_certs.into_iter().map(CertificateDer::from).collect(),
        key,
        suite,
        service: "the join service",
    })
}

/// The stream, both directions.
struct Conversation {
    requests: mpsc::Sender<wire::JoinRequest>,
    responses: Streaming<wire::JoinResponse>,
    addr: String,
    deadline: Deadline,
}

impl Conversation {
    /// Connects, sends the name of the join token, and waits for the greeting.
    async fn open(
        request: &Request<'_>,
        deadline: Deadline,
        progress: &Cell<Progress>,
    ) -> Result<(Self, wire::ServerInit), Attempt> {
        let addr = request.proxy.to_string();
        let channel = request.network.join(request.proxy, deadline).await?;

        let (requests, receiver) = mpsc::channel(2);
        let mut client = JoinServiceClient::with_origin(channel.clone(), channel.origin());
        let first = ToServer::ClientInit(wire::ClientInit {
            join_method: Some(request.method.join_method().to_owned()),
            token_name: request.token.reveal().to_owned(),
            system_role: "Bot".to_owned(),
        });
        progress.set(Progress { spent: !request.method.may_repeat(), ..progress.get() });
        // Sent before the stream opens, so that it goes out with the opening.
        let _ = requests.send(wire::JoinRequest { payload: Some(first) }).await;
        let open =
            async { client.join(ReceiverStream::new(receiver)).await.map_err(|s| Attempt::from_status(&s, &addr)) };
        let responses = deadline.bound(awaited(&addr), open).await?.into_inner();
        let mut conversation = Self { requests, responses, addr, deadline };
        match conversation.next().await? {
            FromServer::Init(greeting) => Ok((conversation, greeting)),
            _ => Err(Attempt::Nonsense("it does not begin with a greeting")),
        }
    }

    /// A failure to send is not an error here: the status says why, and is read next (docs/protocol.md, "Join
    /// service").
    async fn send(&self, payload: ToServer) {
        let _ = self.requests.send(wire::JoinRequest { payload: Some(payload) }).await;
    }

    async fn next(&mut self) -> Result<FromServer, Attempt> {
        let Self { responses, addr, deadline, .. } = self;
        let addr = addr.as_str();
        let message = async { responses.message().await.map_err(|status| Attempt::from_status(&status, addr)) };
        let message = deadline.bound(awaited(addr), message).await?;
        message.and_then(|message| message.payload).ok_or(Attempt::Nonsense("it is empty"))
    }

    /// Answers challenges until the certificates come.
    async fn certificates(&mut self, request: &Request<'_>) -> Result<wire::Certificates, Attempt> {
        loop {
            match self.next().await? {
                FromServer::Result(wire::Result { payload: Some(wire::result::Payload::BotResult(result)) }) => {
                    return result.certificates.ok_or(Attempt::Nonsense("it holds no certificates"));
                }
                FromServer::Challenge(challenge) => match request.method.solve(challenge) {
                    Some(solution) => self.send(solution).await,
                    None => return Err(self.give_up().await),
                },
                _ => return Err(Attempt::Nonsense("it is not a result for a bot")),
            }
        }
    }

    /// Tells the cluster, so that its audit log has the reason.
    async fn give_up(&mut self) -> Attempt {
        self.send(ToServer::GivingUp(wire::GivingUp {
            reason: wire::giving_up::Reason::UnsupportedMessageType.into(),
            msg: "this join method expects no challenge".to_owned(),
        }))
        .await;
        // Nothing more is expected. Waiting lets the message go out before the connection closes.
        let _ = tokio::time::timeout(LAST_MESSAGE, self.responses.message()).await;
        Attempt::Nonsense("it is a challenge, which this join method does not have")
    }
}

fn awaited(addr: &str) -> WaitingFor {
    WaitingFor { addr: addr.to_owned(), what: "the join service" }
}

fn bot_params(expires: Duration, key: &KeyPair) -> Result<wire::ClientParams, Attempt> {
    let bot = wire::BotParams {
        public_keys: Some(wire::PublicKeys {
            public_tls_key: key.public_der()?,
            public_ssh_key: key.public_ssh_wire()?,
        }),
        expires: Some(Timestamp { seconds: expires.as_secs().cast_signed(), nanos: 0 }),
    };
    Ok(wire::ClientParams { payload: Some(wire::client_params::Payload::BotParams(bot)) })
}
