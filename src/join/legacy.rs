//! The older join: `POST /webapi/host/credentials` (docs/protocol.md, "REST join"). v17 knows only this one.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding as _};
use hyper::body::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::method::Rest;
use super::{Attempt, Joined, Request};
use crate::address::HostPort;
use crate::keys::{KeyPair, Suite};
use crate::net;
use crate::net::discovery::error_message;
use crate::net::http::{Answer, Http};
use crate::retry::retry;

/// Every key but `expires` is always sent, as Teleport's own client does.
#[derive(Serialize)]
struct Body<'a> {
    /// Empty for a bot. Camel case, unlike the others.
    #[serde(rename = "hostID")]
    host_id: &'static str,
    node_name: &'static str,
    role: &'static str,
    token: &'a str,
    additional_principals: [&'static str; 0],
    dns_names: [&'static str; 0],
    /// Base64 of PEM.
    public_tls_key: String,
    /// Base64 of an authorized_keys line.
    public_ssh_key: String,
    remote_addr: &'static str,
    ec2_id: Option<()>,
    id_token: &'a str,
    /// RFC 3339.
    expires: String,
    bot_instance_id: &'static str,
    bot_generation: i32,
}

/// Base64 of what `proto.Certs` has; the SSH half is not needed.
#[derive(Deserialize)]
struct Certs {
    tls: String,
    #[serde(default)]
    tls_ca_certs: Vec<String>,
}

/// Joins. The first attempt uses the connection of discovery, later ones their own.
pub(super) async fn join(request: &Request<'_>, suite: Suite, http: Http) -> Result<Joined, Attempt> {
    let key = KeyPair::generate_in_background(suite).await?;
    request.proof().await;
    let expires = request.expires().await;
    let rest = request.method.rest().ok_or(Attempt::Nonsense("there is no older way to join by this method"))?;
    let body = body(request, &rest, &key, expires)?;
    let open = Cell::new(Some(http));
    let once = |deadline| {
        let (open, body) = (open.take(), body.clone());
        async move {
            let mut http = match open {
                Some(http) => http,
                None => request.network.web(request.proxy, deadline).await?,
            };
            read(request.proxy, &http.send("/webapi/host/credentials", Some(body), deadline).await?)
        }
    };
    let certs = match request.method.may_repeat() {
        true => retry("join", request.deadline, once).await?,
        false => once(request.deadline.attempt("join")).await?,
    };
    let certificate = der(&certs.tls)?;
    let authorities = certs.tls_ca_certs.iter().map(|text| der(text)).collect::<Result<_, _>>()?;
    Ok(Joined { key, suite, certificate, authorities, service: "REST" })
}

/// The request, in one buffer that is wiped when the last attempt is over.
fn body(request: &Request<'_>, rest: &Rest<'_>, key: &KeyPair, expires: Duration) -> Result<Bytes, Attempt> {
    let body = Body {
        host_id: "",
        node_name: "",
        role: "Bot",
        token: request.token.reveal(),
        additional_principals: [],
        dns_names: [],
        public_tls_key: Base64::encode_string(key.public_pem()?.as_bytes()),
        public_ssh_key: Base64::encode_string(key.authorized_key()?.as_bytes()),
        remote_addr: "",
        ec2_id: None,
        id_token: rest.id_token,
        expires: humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + expires).to_string(),
        bot_instance_id: "",
        bot_generation: 0,
    };
    // Large enough not to grow: a buffer that grows leaves copies of the ID token behind.
    let mut json = Zeroizing::new(Vec::with_capacity(4096 + rest.id_token.len()));
    serde_json::to_writer(&mut *json, &body).map_err(|_| Attempt::Nonsense("the request cannot be written"))?;
    Ok(Bytes::from_owner(json))
}

fn read(proxy: &HostPort, answer: &Answer) -> Result<Certs, Attempt> {
    match answer.status {
        200 => serde_json::from_slice(&answer.body).map_err(|_| {
            let reason = "it is not JSON with certificates".to_owned();
            Attempt::Net(net::Error::Garbled { addr: proxy.to_string(), reason })
        }),
        status => {
            let message = error_message(&answer.body);
            Err(Attempt::Rest { status, message, retry_after: answer.retry_after })
        }
    }
}

/// DER of base64 of PEM.
fn der(text: &str) -> Result<CertificateDer<'static>, Attempt> {
    let pem = Base64::decode_vec(text).map_err(|_| Attempt::Nonsense("a certificate is not base64"))?;
    CertificateDer::from_pem_slice(&pem).map_err(|_| Attempt::Nonsense("a certificate is not PEM"))
}
