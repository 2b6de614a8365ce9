//! Joining with an ID token of a platform (docs/protocol.md, "Join service"). The platforms differ in their ID tokens
//! only.

use std::time::SystemTime;

use teleport_api::teleport::join::v1::{ClientParams, OidcInit, join_request::Payload};

use super::method::{Admission, Hints, Method, Rest};
use crate::error::Failure;
use crate::platform::IdToken;
use crate::platform::rule::Rule;

pub(crate) struct Oidc {
    pub(crate) id_token: IdToken,
}

impl Method for Oidc {
    fn join_method(&self) -> &'static str {
        self.id_token.platform().method
    }

    fn expired(&self, now: SystemTime) -> Option<Failure> {
        self.id_token.expired(now).map(Failure::from)
    }

    fn init(&self, params: ClientParams) -> Payload {
        let id_token = self.id_token.reveal().as_bytes().to_vec();
        Payload::OidcInit(OidcInit { client_params: Some(params), id_token })
    }

    fn rest(&self) -> Option<Rest<'_>> {
        Some(Rest { id_token: self.id_token.reveal() })
    }

    fn hints(&self) -> Hints {
        let (platform, claims) = (self.id_token.platform(), self.id_token.claims());
        Hints {
            method: platform.method,
            proof: platform.proof(),
            since: platform.since,
            changed: platform.texts.changed,
            guides_tokens: platform.texts.guides_tokens,
            token_name: None,
            admission: Some(Admission {
                claims: platform.listing(claims),
                token_spec: format!("spec:\n{}", Rule::narrowest(platform, claims).yaml()),
            }),
        }
    }
}
