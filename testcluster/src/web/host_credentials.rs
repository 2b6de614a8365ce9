//! `POST /webapi/host/credentials`, the join of older clusters (docs/protocol.md, "REST join").

use base64ct::{Base64, Encoding};
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::body::Incoming;
use prost_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::authority::pem;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::join::{self, BotCertificates, JoinParams};
use crate::peer::Peer;
use crate::public_key::{ssh_from_line, tls_from_pem};
use crate::refusal::Refusal;

const BODY_LIMIT: usize = 1 << 20;

/// Decodes the request, joins, and encodes the certificates.
pub(super) async fn join(cluster: &Cluster, peer: &Peer, request: Request<Incoming>) -> Result<Value, Refusal> {
    if cluster.faults.trigger(Fault::Rest500Once) {
        return Err(Refusal::other("internal error"));
    }
    let body = Limited::new(request.into_body(), BODY_LIMIT);
    let body = body.collect().await.map_err(|error| Refusal::bad_parameter(format!("request: {error}")))?.to_bytes();
    let fields: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|error| Refusal::bad_parameter(format!("request: {error}")))?;
    cluster.join_faults()?;
    let params = params(cluster, &fields)?;
    let certificates = join::register(cluster, peer, params)?;
    encode(&certificates)
}

/// Checks a request in the server's order and with its texts.
fn params(cluster: &Cluster, fields: &Map<String, Value>) -> Result<JoinParams, Refusal> {
    let token = text(fields, "token")?;
    let (node, role) = (text(fields, "node_name")?, text(fields, "role")?);
    if text(fields, "hostID")?.is_empty() && role != "Bot" {
        return Err(Refusal::bad_parameter("missing parameter HostID"));
    }
    if token.is_empty() {
        return Err(Refusal::bad_parameter("missing parameter Token"));
    }
    if !cluster.has_token(token) {
        let refusal = format!("\"{node}\" can not join the cluster with role \"{role}\", token expired or not found");
        return Err(Refusal::access_denied(refusal));
    }
    if role != "Bot" {
        return Err(Refusal::bad_parameter(format!("can not join the cluster, the token does not allow role {role}")));
    }
    let expires = match text(fields, "expires")? {
        "" => None,
        time => {
            let time: Timestamp =
                time.parse().map_err(|_| Refusal::bad_parameter(format!("request: bad time \"{time}\"")))?;
            Some(time.seconds)
        }
    };
    Ok(JoinParams {
        id_token: text(fields, "id_token")?.to_owned(),
        tls: tls_from_pem(&bytes(fields, "public_tls_key")?)?,
        ssh: ssh_from_line(&bytes(fields, "public_ssh_key")?)?,
        expires,
    })
}

/// A string. A value that is null or absent is empty.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refusal::bad_parameter(format!("request: {name} is not a string"))),
    }
}

/// Go encodes bytes in JSON as padded base64.
fn bytes(fields: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Refusal> {
    Base64::decode_vec(text(fields, name)?)
        .map_err(|_| Refusal::bad_parameter(format!("request: {name} is not base64")))
}

/// Base64 of PEM and of authorized_keys lines. The authorities' SSH "certificates" are public keys (docs/protocol.md,
/// "REST join").
fn encode(certificates: &BotCertificates) -> Result<Value, Refusal> {
    let base64 = |text: String| Base64::encode_string(text.as_bytes());
    let ssh = certificates.ssh.to_openssh().map_err(|error| Refusal::other(error.to_string()))?;
    Ok(json!({
        "ssh": base64(format!("{}\n", ssh.trim_end())),
        "tls": base64(pem(&certificates.tls)),
        "tls_ca_certs": certificates.tls_authorities.iter().map(|der| base64(pem(der))).collect::<Vec<_>>(),
        "ssh_ca_certs": certificates.authorities.iter().map(|ca| base64(ca.ssh_line())).collect::<Vec<_>>(),
    }))
}
