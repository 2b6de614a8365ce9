//! Session recording at the proxy (docs/protocol.md, "Session recording"). A real proxy terminates SSH and logs in to
//! the node with signatures that it requests from the client's agent. Here the signatures are checked, and SSH is
//! forwarded to the node.

use std::collections::VecDeque;

use rand_core::{OsRng, RngCore};
use rsa::signature::Verifier;
use ssh_key::{Algorithm, Certificate, HashAlg, Signature};
use teleport_api::teleport::transport::v1 as pb;
use teleport_api::teleport::transport::v1::proxy_ssh_request::Frame as Sent;
use teleport_api::teleport::transport::v1::proxy_ssh_response::Frame as Received;
use tonic::{Status, Streaming};

use crate::cluster::Cluster;
use crate::refusal::Refusal;
use crate::rotation::all;
use crate::transport::Responses;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const REMOVE_ALL_IDENTITIES: u8 = 19;
const RSA_SHA2_512: u32 = 4;
const USERAUTH_REQUEST: u8 = 50;

/// The agent of a client.
pub(crate) struct ClientAgent<'a> {
    pub requests: &'a mut Streaming<pb::ProxySshRequest>,
    pub responses: &'a Responses,
    /// Bytes of the agent's responses that are not yet read.
    pub received: Vec<u8>,
    /// Frames of the client that are not the agent's.
    pub others: VecDeque<pb::ProxySshRequest>,
}

impl ClientAgent<'_> {
    /// Checks that the agent has the key of a certificate of this cluster, and that it signs logins of its user and nothing else.
    /// Returns the name of the signature algorithm.
    pub(crate) async fn check(&mut self, cluster: &Cluster) -> Result<String, Status> {
        let wrong = |what: &str| Refusal::access_denied(format!("the agent {what}"));
        if self.call(&[REMOVE_ALL_IDENTITIES]).await? != [FAILURE] {
            return Err(wrong("removes its keys").into());
        }
        let list = self.call(&[REQUEST_IDENTITIES]).await?;
        let blob = match list.strip_prefix(&[IDENTITIES_ANSWER, 0, 0, 0, 1]).and_then(string) {
            Some((blob, comment)) if matches!(string(comment), Some((_, []))) => blob,
            _ => return Err(wrong("does not list one key").into()),
        };
        let certificate = Certificate::from_bytes(blob).map_err(|_| wrong("lists no certificate"))?;
        let known: Vec<_> =
            all(cluster.authorities.user()).map(|ca| ca.ssh_public().fingerprint(HashAlg::Sha256)).collect();
        certificate.validate_at(cluster.now(), &known).map_err(|_| wrong("has a certificate of another authority"))?;

        // What TLS 1.3 has a client sign (RFC 8446, section 4.4.3).
        let tls = [&[b' '; 64][..], b"TLS 1.3, client CertificateVerify\0", &[0; 32]].concat();
        let key = certificate.public_key();
        let flags = if matches!(key.algorithm(), Algorithm::Rsa { .. }) { RSA_SHA2_512 } else { 0 };
        if self.call(&sign_request(blob, &tls, flags)).await? != [FAILURE] {
            return Err(wrong("signs data that is not a login").into());
        }
        for user in ["", "someone-else", "-teleport-internal-join"] {
            if self.call(&sign_request(blob, &login(user, blob), flags)).await? != [FAILURE] {
                return Err(wrong("signs a login of another user").into());
            }
        }
        let data = login(&cluster.options.node_login, blob);
        let response = self.call(&sign_request(blob, &data, flags)).await?;
        let signature = match response.strip_prefix(&[SIGN_RESPONSE]).and_then(string) {
            Some((signature, [])) => {
                Signature::try_from(signature).map_err(|_| wrong("returns an invalid signature"))?
            }
            _ => return Err(wrong("does not sign").into()),
        };
        Verifier::<Signature>::verify(key, &data, &signature).map_err(|_| wrong("returns a wrong signature"))?;
        Ok(signature.algorithm().to_string())
    }

    /// Sends a request and returns the response. Frames do not end where messages end.
    async fn call(&mut self, request: &[u8]) -> Result<Vec<u8>, Status> {
        let gone = || Status::cancelled("the client has left");
        let mut message = Vec::new();
        put(&mut message, request);
        for piece in message.chunks(3) {
            let frame = Some(Received::Agent(pb::Frame { payload: piece.to_vec().into() }));
            self.responses.send(Ok(pb::ProxySshResponse { details: None, frame })).await.map_err(|_| gone())?;
        }
        loop {
            if let Some((response, rest)) = string(&self.received) {
                let (response, rest) = (response.to_vec(), rest.to_vec());
                self.received = rest;
                return Ok(response);
            }
            let request = self.requests.message().await?.ok_or_else(gone)?;
            match request.frame {
                Some(Sent::Agent(pb::Frame { payload })) => self.received.extend(payload),
                _ => self.others.push_back(request),
            }
        }
    }
}

fn sign_request(key: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
    let mut request = vec![SIGN_REQUEST];
    put(&mut request, key);
    put(&mut request, data);
    request.extend(flags.to_be_bytes());
    request
}

/// What a client signs to log in (RFC 4252, section 7).
fn login(user: &str, key: &[u8]) -> Vec<u8> {
    let mut session = [0; 32];
    OsRng.fill_bytes(&mut session);
    let mut data = Vec::new();
    put(&mut data, &session);
    data.push(USERAUTH_REQUEST);
    for text in [user, "ssh-connection", "publickey"] {
        put(&mut data, text.as_bytes());
    }
    data.push(1);
    // The agent does not read the name of the algorithm.
    put(&mut data, b"any");
    put(&mut data, key);
    data
}

fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend(bytes);
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
