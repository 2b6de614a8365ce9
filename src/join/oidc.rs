//! What a join by ID token says after the greeting; the same for every CI whose method is of this family
//! (teleport-join.md 4.5).

use teleport_api::teleport::join::v1::{ClientParams, OidcInit, join_request::Payload};

use crate::platform::IdToken;

/// The message to the new join service. REST has the token as text in `id_token`.
pub(super) fn init(client_params: ClientParams, id_token: &IdToken) -> Payload {
    Payload::OidcInit(OidcInit { client_params: Some(client_params), id_token: id_token.reveal().as_bytes().to_vec() })
}
