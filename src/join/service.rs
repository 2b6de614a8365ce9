//! The join service: one stream of `teleport.join.v1.JoinService/Join` (teleport-join.md 3).

use std::cell::Cell;
use std::time::Duration;

use prost_types::Timestamp;
use rustls::pki_types::CertificateDer;
use teleport_api::teleport::join::v1 as wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use wire::join_request::Payload as Say;
use wire::join_response::Payload as Hear;
use wire::join_service_client::JoinServiceClient;

use super::{Attempt, Error, Joined, Outcome, Request, expires, oidc};
use crate::error::Retry;
use crate::keys::{KeyPair, Suite};
use crate::net;
use crate::retry::{Deadline, RetryAfter, SLOW, Transient, WaitingFor, retry};

/// How long a last message gets to be sent.
const PARTING: Duration = Duration::from_millis(500);

/// A failure, and whether the service had greeted us before.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub(crate) struct Failed {
    pub(crate) attempt: Attempt,
    pub(crate) greeted: bool,
}

impl Failed {
    /// The service, or the method in it, is not there: REST may be. A certificate error is none of these, the REST
    /// call would meet the same certificate.
    fn is_absence(&self) -> bool {
        match &self.attempt {
            Attempt::Grpc { code, .. } => *code == Code::Unimplemented,
            Attempt::Net(error) => {
                let elsewhere = matches!(
                    error,
                    net::Error::NoAlpn { .. }
                        | net::Error::NoUpgrade { .. }
                        | net::Error::NotGrpc { .. }
                        | net::Error::Tls { .. }
                );
                !self.greeted && (error.is_transient() || elsewhere)
            }
            _ => false,
        }
    }
}

impl Transient for Failed {
    fn retry(&self) -> Retry {
        if self.is_absence() { Retry::No } else { self.attempt.retry() }
    }

    fn retry_after(&mut self) -> Option<&mut RetryAfter> {
        self.attempt.retry_after()
    }
}

/// Joins, or finds that there is nobody to join by.
pub(super) async fn join(request: &Request<'_>) -> Result<Outcome, Error> {
    let greeted = Cell::new(false);
    let tries = || {
        retry("join", request.deadline, |deadline| {
            greeted.set(false);
            once(request, deadline, &greeted)
        })
    };
    // A load balancer that speaks HTTP/2 takes the connection, but knows nothing of gRPC: it says something else, or
    // nothing. The service may be behind it.
    let finds_balancer = || async {
        !greeted.get() && request.network.finds_balancer(request.proxy, request.deadline).await && !greeted.get()
    };
    let silence = async {
        tokio::time::sleep(SLOW).await;
        if !finds_balancer().await {
            std::future::pending().await
        }
    };
    let mut answer = tokio::select! {
        answer = tries() => Some(answer),
        () = silence => None,
    };
    if let Some(Err(Failed { attempt: Attempt::Net(error), .. })) = &answer
        && matches!(error, net::Error::NotGrpc { .. } | net::Error::Timeout { .. } | net::Error::Broken { .. })
        && finds_balancer().await
    {
        answer = None;
    }
    let answer = match answer {
        Some(answer) => answer,
        None => tries().await,
    };
    match answer {
        Ok(joined) => Ok(Outcome::Joined(joined)),
        // Without time left REST could only say that it had none.
        Err(failed) if failed.is_absence() && !request.deadline.is_over() => Ok(Outcome::NotThere(failed.attempt)),
        Err(failed) => Err(Error::new(failed.attempt, None)),
    }
}

/// Joins, where there is no other way to.
pub(super) async fn insist(request: &Request<'_>) -> Result<Joined, Attempt> {
    // As if it had greeted us already: no failure means that it is not there.
    let greeted = Cell::new(true);
    let joined = retry("join", request.deadline, |deadline| once(request, deadline, &greeted)).await;
    joined.map_err(|failed| failed.attempt)
}

async fn once(request: &Request<'_>, deadline: Deadline, greeted: &Cell<bool>) -> Result<Joined, Failed> {
    let talk = async {
        let (mut stream, greeting) = Conversation::open(request, deadline).await?;
        greeted.set(true);
        let suite = Suite::from_name(&greeting.signature_algorithm_suite);
        let key = KeyPair::generate_aside(suite).await?;
        // Discovery tries for itself, and this attempt is not over because that takes long: the time begins anew.
        let awaited = WaitingFor { addr: request.proxy.to_string(), what: "discovery" };
        let expires = request.deadline.bound(awaited, async { Ok::<_, Attempt>(expires(request).await) }).await?;
        stream.deadline = request.deadline.attempt("join");
        let params = bot_params(expires, &key)?;
        stream.say(oidc::init(params, request.id_token)).await;
        // The answer ends the join. The end of the stream is not awaited: behind a proxy it takes a minute unless the
        // client half-closes first (teleport-join.md 3.5); dropping the stream says that we are done.
        let certificates = stream.certificates().await?;
        joined(key, suite, certificates)
    };
    talk.await.map_err(|attempt| Failed { attempt, greeted: greeted.get() })
}

/// The stream, both directions.
struct Conversation {
    say: mpsc::Sender<wire::JoinRequest>,
    hear: Streaming<wire::JoinResponse>,
    addr: String,
    deadline: Deadline,
}

impl Conversation {
    /// Connects, introduces itself, and is greeted.
    async fn open(request: &Request<'_>, deadline: Deadline) -> Result<(Self, wire::ServerInit), Attempt> {
        let addr = request.proxy.to_string();
        let channel = request.network.join(request.proxy, deadline).await?;

        let (say, said) = mpsc::channel(2);
        let mut client = JoinServiceClient::with_origin(channel.clone(), channel.origin());
        let first = Say::ClientInit(wire::ClientInit {
            join_method: Some("bitbucket".to_owned()),
            token_name: request.token.as_str().to_owned(),
            system_role: "Bot".to_owned(),
        });
        // Before the stream opens, so that it goes out with the opening.
        let _ = say.send(wire::JoinRequest { payload: Some(first) }).await;
        let open = async { client.join(ReceiverStream::new(said)).await.map_err(|s| Attempt::from_status(&s, &addr)) };
        let hear = deadline.bound(awaited(&addr), open).await?.into_inner();
        let mut conversation = Self { say, hear, addr, deadline };
        match conversation.next().await? {
            Hear::Init(greeting) => Ok((conversation, greeting)),
            _ => Err(Attempt::Nonsense("it does not begin with a greeting")),
        }
    }

    /// Sends. That nobody takes it any more is not an error here: the status says why, and is read next
    /// (conformance FINDINGS 27).
    async fn say(&self, payload: Say) {
        let _ = self.say.send(wire::JoinRequest { payload: Some(payload) }).await;
    }

    async fn next(&mut self) -> Result<Hear, Attempt> {
        let Self { hear, addr, deadline, .. } = self;
        let addr = addr.as_str();
        let message = async { hear.message().await.map_err(|status| Attempt::from_status(&status, addr)) };
        let message = deadline.bound(awaited(addr), message).await?;
        message.and_then(|message| message.payload).ok_or(Attempt::Nonsense("it is empty"))
    }

    async fn certificates(&mut self) -> Result<wire::Certificates, Attempt> {
        match self.next().await? {
            Hear::Result(wire::Result { payload: Some(wire::result::Payload::BotResult(result)) }) => {
                result.certificates.ok_or(Attempt::Nonsense("it holds no certificates"))
            }
            Hear::Challenge(_) => {
                // Told to the cluster, so that its audit log has the reason.
                self.say(Say::GivingUp(wire::GivingUp {
                    reason: wire::giving_up::Reason::UnsupportedMessageType.into(),
                    msg: "a join by ID token expects no challenge".to_owned(),
                }))
                .await;
                // Nothing more is expected; waiting lets the message go out before the connection closes.
                let _ = tokio::time::timeout(PARTING, self.hear.message()).await;
                Err(Attempt::Nonsense("it is a challenge, which a join by ID token does not have"))
            }
            _ => Err(Attempt::Nonsense("it is no result for a bot")),
        }
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

fn joined(key: KeyPair, suite: Suite, certificates: wire::Certificates) -> Result<Joined, Attempt> {
    Ok(Joined {
        certificate: CertificateDer::from(certificates.tls_cert),
        authorities: certificates.tls_ca_certs.into_iter().map(CertificateDer::from).collect(),
        key,
        suite,
        service: "the join service",
    })
}
