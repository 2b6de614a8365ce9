//! `teleport.join.v1.JoinService`, as a proxy forwards it (docs/protocol.md, "Join service").

use std::sync::Arc;
use std::time::Duration;

use teleport_api::teleport::join::v1 as pb;
use teleport_api::teleport::join::v1::join_request::Payload as RequestPayload;
use teleport_api::teleport::join::v1::join_response::Payload as ResponsePayload;
use teleport_api::teleport::join::v1::join_service_server::JoinService;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::injection::{CallFault, Exchange, Point, apply, inject};
use crate::join::{self, BotCertificates, JoinParams};
use crate::options;
use crate::peer::Peer;
use crate::public_key::{ssh_from_wire, tls_from_der};
use crate::record::EventKind;
use crate::refusal::Refusal;
use crate::version;

/// How long a join may take, on the proxy and on Auth (docs/protocol.md, "Join service").
const LIMIT: Duration = Duration::from_secs(60);

type Responses = mpsc::Sender<Result<pb::JoinResponse, Status>>;

#[derive(Debug)]
pub(crate) struct JoinApi {
    cluster: Arc<Cluster>,
}

impl JoinApi {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }
}

#[tonic::async_trait]
impl JoinService for JoinApi {
    type JoinStream = ReceiverStream<Result<pb::JoinResponse, Status>>;

    async fn join(&self, request: Request<Streaming<pb::JoinRequest>>) -> Result<Response<Self::JoinStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("no connection"))?;
        inject(&self.cluster, request.extensions(), Point::Before(Exchange::ClientInit)).await?;
        let call_fault = request.extensions().get::<CallFault>().cloned().unwrap_or_default();
        let version = version::from_metadata(request.metadata());
        let (responses, stream) = mpsc::channel(4);
        let cluster = Arc::clone(&self.cluster);
        let mut attempt = Attempt { cluster, peer, requests: request.into_inner(), responses, call_fault };
        tokio::spawn(async move {
            let responses = attempt.responses.clone();
            let refused = match timeout(LIMIT, attempt.run(version.as_deref())).await {
                Ok(Ok(())) => None,
                Ok(Err(status)) => Some(status),
                Err(_) => Some(Status::resource_exhausted(
                    "join attempt timed out after 1m0s, terminating the stream on the proxy",
                )),
            };
            if let Some(status) = refused {
                // The client may have left.
                let _left = responses.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// One call of `Join`.
struct Attempt {
    cluster: Arc<Cluster>,
    peer: Peer,
    requests: Streaming<pb::JoinRequest>,
    responses: Responses,
    call_fault: CallFault,
}

impl Attempt {
    fn method(&self) -> &'static str {
        self.cluster.options.token.method.name
    }

    async fn run(&mut self, version: Option<&str>) -> Result<(), Status> {
        if self.cluster.faults.trigger(Fault::JoinUnavailableOnce) {
            return Err(Status::unavailable("auth service is not available"));
        }
        let RequestPayload::ClientInit(init) = self.receive().await? else {
            return Err(Refusal::bad_parameter("expected ClientInit").into());
        };
        if self.cluster.faults.has(Fault::JoinStalls) {
            self.responses.closed().await;
            return Ok(());
        }
        self.check_init(&init, version)?;
        self.send(ResponsePayload::Init(pb::ServerInit {
            join_method: self.method().into(),
            signature_algorithm_suite: self.cluster.options.suite.text().into(),
        }))
        .await;
        if self.cluster.options.join_service == options::JoinService::WithoutMethod {
            return Err(Refusal::not_implemented(format!("join method {} is not implemented", self.method())).into());
        }
        self.inject(Point::After(Exchange::ClientInit)).await?;
        let (client_params, id_token) = match self.receive().await? {
            RequestPayload::OidcInit(init) if !self.cluster.has_one_time_token() => (init.client_params, init.id_token),
            RequestPayload::TokenInit(init) if self.cluster.has_one_time_token() => (init.client_params, Vec::new()),
            _ => return Err(Refusal::bad_parameter("expected the init message of the join method").into()),
        };
        self.inject(Point::Before(Exchange::OidcInit)).await?;
        if self.cluster.faults.has(Fault::CloseAfterOidcInit) {
            self.peer.close();
            self.responses.closed().await;
            return Ok(());
        }
        let params = params(client_params, id_token)?;
        let certificates = {
            let certificates = join::register(&self.cluster, &self.peer, params);
            encode(&certificates.map_err(|refusal| refusal.wrapped("verifying OIDC token"))?)?
        };
        self.inject(Point::After(Exchange::OidcInit)).await?;
        self.send(ResponsePayload::Result(pb::Result {
            payload: Some(pb::result::Payload::BotResult(pb::BotResult { certificates: Some(certificates) })),
        }))
        .await;
        self.wait_for_half_close().await;
        Ok(())
    }

    /// Injects the fault of this point, if it has one. A fault ends with the client at the latest.
    async fn inject(&self, point: Point) -> Result<(), Status> {
        let Some(fault) = self.cluster.injector.trigger(point) else {
            return Ok(());
        };
        // The messages before the fault reach the client.
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::select! {
            met = apply(fault, &self.peer, &self.call_fault) => met.map(drop),
            () = self.responses.closed() => Err(Status::cancelled("the client has left")),
        }
    }

    /// Checks in the server's order: missing fields, the client's version, the token, its method, its role.
    fn check_init(&self, init: &pb::ClientInit, version: Option<&str>) -> Result<(), Refusal> {
        let options = &self.cluster.options;
        if init.token_name.is_empty() {
            return Err(Refusal::bad_parameter("TokenName is required"));
        }
        if init.system_role.is_empty() {
            return Err(Refusal::bad_parameter("SystemRole is required"));
        }
        version::check(version, &options.min_client_version)?;
        self.cluster.join_faults()?;
        if !self.cluster.has_token(&init.token_name) {
            return Err(Refusal::access_denied("token expired or not found"));
        }
        if let Some(method) = init.join_method.as_deref().filter(|method| *method != self.method()) {
            return Err(Refusal::bad_parameter(format!(
                "client requested join method {method}, provision token only supports method {}",
                self.method()
            )));
        }
        match init.system_role.as_str() {
            "Bot" => Ok(()),
            "Instance" => {
                Err(Refusal::bad_parameter("can not join the cluster, the token does not allow role Instance"))
            }
            role => Err(Refusal::not_implemented(format!("joining as role \"{role}\" is not implemented"))),
        }
    }

    async fn receive(&mut self) -> Result<RequestPayload, Status> {
        let aborted = || Refusal::bad_parameter("join attempt was aborted by the client");
        match self.requests.message().await?.ok_or_else(aborted)?.payload {
            None => Err(Refusal::bad_parameter("unknown request").into()),
            Some(RequestPayload::GivingUp(giving_up)) => {
                let reason = giving_up.reason().as_str_name().to_owned();
                let text = format!("client gave up on join attempt: {reason}: {}", giving_up.msg);
                let event = EventKind::GivingUp { reason, message: giving_up.msg };
                self.cluster.record.add(self.peer.connection(), event);
                Err(Refusal::bad_parameter(text).into())
            }
            Some(ask) => Ok(ask),
        }
    }

    async fn send(&self, payload: ResponsePayload) {
        // The client may have left, which the next `receive` or `closed` notices.
        let _left = self.responses.send(Ok(pb::JoinResponse { payload: Some(payload) })).await;
    }

    /// A proxy forwards the end of the stream only after the client has ended its side, or at the time limit
    /// (docs/protocol.md, "Join service").
    async fn wait_for_half_close(&mut self) {
        tokio::select! {
            () = self.responses.closed() => {}
            () = async { while let Ok(Some(_)) = self.requests.message().await {} } => {}
        }
    }
}

/// Decodes the parameters, whose keys are DER and SSH wire format (docs/protocol.md, "Join service").
fn params(params: Option<pb::ClientParams>, id_token: Vec<u8>) -> Result<JoinParams, Refusal> {
    let params = params.and_then(|params| params.payload);
    let Some(pb::client_params::Payload::BotParams(bot)) = params else {
        return Err(Refusal::bad_parameter("BotParams is required for role Bot"));
    };
    let expires = bot.expires.ok_or_else(|| Refusal::bad_parameter("Expires is required"))?;
    let keys = bot.public_keys.unwrap_or_default();
    let id_token =
        String::from_utf8(id_token).map_err(|_| Refusal::other("verifying OIDC token\n\ttoken is malformed"))?;
    Ok(JoinParams {
        id_token,
        tls: tls_from_der(&keys.public_tls_key)?,
        ssh: ssh_from_wire(&keys.public_ssh_key)?,
        expires: Some(expires.seconds),
    })
}

/// Encodes certificates in DER and SSH wire format (docs/protocol.md, "Join service").
fn encode(certificates: &BotCertificates<'_>) -> Result<pb::Certificates, Refusal> {
    let ssh_cert = certificates.ssh.to_bytes().map_err(|error| Refusal::other(error.to_string()))?;
    Ok(pb::Certificates {
        tls_cert: certificates.tls.clone(),
        tls_ca_certs: certificates.tls_authorities.clone(),
        ssh_cert,
        ssh_ca_keys: certificates.authorities.iter().map(|ca| ca.ssh_wire()).collect(),
    })
}
