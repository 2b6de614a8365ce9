//! Joining with an ID token of a platform (docs/protocol.md, "Join service"). The platforms differ in their ID tokens
//! only.

use std::cell::OnceCell;
use std::time::SystemTime;

use teleport_api::teleport::join::v1::{ClientParams, OidcInit, join_request::Payload};

use super::method::{Admission, BoxFuture, Hints, Method, Rest};
use crate::error::Failure;
use crate::net::network::Network;
use crate::platform::rule::Rule;
use crate::platform::{Found, IdToken};
use crate::retry::Deadline;

pub(crate) struct Oidc<'a> {
    found: Found,
    /// The ID token that was requested.
    issued: OnceCell<IdToken>,
    on_issued: Box<dyn Fn(&IdToken) + 'a>,
}

impl<'a> Oidc<'a> {
    /// `on_issued` is called with an ID token that has to be requested.
    pub(crate) fn new(found: Found, on_issued: impl Fn(&IdToken) + 'a) -> Self {
        Self { found, issued: OnceCell::new(), on_issued: Box::new(on_issued) }
    }

    fn id_token(&self) -> Option<&IdToken> {
        self.found.id_token().or_else(|| self.issued.get())
    }

    /// The text of the ID token. The join waits until there is one.
    fn text(&self) -> &str {
        self.id_token().map(IdToken::reveal).unwrap_or_default()
    }
}

impl Method for Oidc<'_> {
    fn join_method(&self) -> &'static str {
        self.found.platform().method
    }

    fn prepare<'b>(&'b self, network: &'b Network, deadline: Deadline) -> BoxFuture<'b, Result<(), Failure>> {
        Box::pin(async move {
            let Found::Pending(platform, pending) = &self.found else { return Ok(()) };
            let token = pending.issue(platform, network, deadline).await?;
            (self.on_issued)(self.issued.get_or_init(|| token));
            Ok(())
        })
    }

    fn expired(&self, now: SystemTime) -> Option<Failure> {
        self.id_token()?.expired(now).map(Failure::from)
    }

    fn init(&self, params: ClientParams) -> Payload {
        Payload::OidcInit(OidcInit { client_params: Some(params), id_token: self.text().as_bytes().to_vec() })
    }

    fn rest(&self) -> Option<Rest<'_>> {
        Some(Rest { id_token: self.text() })
    }

    fn hints(&self) -> Hints {
        let platform = self.found.platform();
        Hints {
            method: platform.method,
            proof: platform.proof(),
            since: platform.since,
            unit: platform.texts.unit,
            changed: platform.texts.changed,
            mismatch: platform.texts.mismatch,
            guides_tokens: platform.texts.guides_tokens,
            token_name: None,
            is_secret: false,
            is_public: false,
            admission: self.id_token().map(IdToken::claims).map(|claims| Admission {
                claims: platform.listing(claims),
                token_spec: format!("spec:\n{}", Rule::narrowest(platform, claims).yaml()),
            }),
        }
    }
}
