//! The identity provider of CI jobs.
//!
//! Tokens are signed (RS256) and verified like real ones. The provider's documents are not served: the cluster has the
//! provider's key in memory, where a real one would fetch `<issuer>/.well-known/openid-configuration` and the keys that
//! it points to.

pub(crate) mod methods;
mod verify;

use base64ct::{Base64UrlUnpadded, Encoding};
use rsa::pkcs1v15::{SigningKey, VerifyingKey};
use rsa::signature::{Keypair, SignatureEncoding, Signer};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::authority::{RsaKey, rsa_private_key};
use crate::idp::methods::Method;

const KEY_ID: &str = "testcluster-1";

/// Signs ID tokens.
#[derive(Debug)]
pub(crate) struct IdentityProvider {
    key: SigningKey<Sha256>,
}

impl IdentityProvider {
    pub(crate) fn new() -> Self {
        Self { key: SigningKey::new(rsa_private_key(RsaKey::IdentityProvider)) }
    }

    /// The claims of an ordinary job for a cluster, valid for an hour.
    pub(crate) fn claims(method: &Method, cluster: &str, now: u64) -> Map<String, Value> {
        let mut claims = (method.claims)();
        claims["iss"] = method.issuer.into();
        claims["aud"] = method.audience.unwrap_or(cluster).into();
        claims["iat"] = now.into();
        claims["exp"] = (now + 3600).into();
        match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        }
    }

    /// Signs claims without checking them.
    pub(crate) fn sign(&self, claims: &Map<String, Value>) -> String {
        Self::compact(&self.key, claims)
    }

    /// Signs claims with a key that is not the provider's.
    pub(crate) fn sign_with_other_key(claims: &Map<String, Value>) -> String {
        Self::compact(&SigningKey::new(rsa_private_key(RsaKey::Server)), claims)
    }

    fn compact(key: &SigningKey<Sha256>, claims: &Map<String, Value>) -> String {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}).to_string();
        let claims = Value::Object(claims.clone()).to_string();
        let encode = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = key.sign(signed.as_bytes()).to_bytes();
        format!("{signed}.{}", encode(&signature))
    }

    fn public(&self) -> VerifyingKey<Sha256> {
        self.key.verifying_key()
    }
}
