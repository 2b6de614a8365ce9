//! The identity provider of the steps: ID tokens shaped like Bitbucket's (bitbucket-pipes.md 3).
//!
//! Tokens are really signed (RS256) and really verified. The provider's documents are not served: the cluster looks
//! the key set up in memory, under the issuer that the join token names, where a real one would fetch
//! `<issuer>/.well-known/openid-configuration` and the keys it points to.

mod verify;

use base64ct::{Base64UrlUnpadded, Encoding};
use rsa::pkcs1v15::{SigningKey, VerifyingKey};
use rsa::signature::{Keypair, SignatureEncoding, Signer};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::authority::{RsaKey, rsa_private_key};

/// UUID of the workspace, braces included as everywhere with Bitbucket.
pub const WORKSPACE_UUID: &str = "{8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4}";
/// UUID of the repository.
pub const REPOSITORY_UUID: &str = "{384f00e0-2c5b-4b0e-a0b3-5d7e91f3c6aa}";
/// UUID of the deployment environment of steps that have one.
pub const ENVIRONMENT_UUID: &str = "{7b1c9e52-8d34-4f6a-b1c7-0e5d2f8a4b93}";
pub(crate) const PIPELINE_UUID: &str = "{84a8ea4b-1d2e-4c3f-9a5b-6c7d8e9f0a1b}";
pub(crate) const STEP_UUID: &str = "{858c583a-4e5f-4a6b-8c7d-9e0f1a2b3c4d}";
pub(crate) const WORKSPACE: &str = "acme";
pub(crate) const REPOSITORY: &str = "infrastructure";
pub(crate) const BRANCH: &str = "main";
/// The issuer of the workspace's tokens; the join token's `identity_provider_url`.
pub const ISSUER: &str = "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc";
/// The default audience: the workspace's UUID without braces.
pub const AUDIENCE: &str = "ari:cloud:bitbucket::workspace/8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4";
const KEY_ID: &str = "testcluster-1";

/// Signs the tokens of steps.
#[derive(Debug)]
pub(crate) struct IdentityProvider {
    key: SigningKey<Sha256>,
}

impl IdentityProvider {
    pub(crate) fn new() -> Self {
        Self { key: SigningKey::new(rsa_private_key(RsaKey::IdentityProvider)) }
    }

    /// The claims of an ordinary step on the main branch, good for an hour.
    pub(crate) fn claims(now: u64) -> Map<String, Value> {
        let claims = json!({
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": format!("{REPOSITORY_UUID}:{STEP_UUID}"),
            "iat": now,
            "exp": now + 3600,
            "workspaceUuid": WORKSPACE_UUID,
            "repositoryUuid": REPOSITORY_UUID,
            "pipelineUuid": PIPELINE_UUID,
            "stepUuid": STEP_UUID,
            "branchName": BRANCH,
        });
        match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        }
    }

    /// Signs claims, whatever they are.
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
