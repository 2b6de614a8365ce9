//! Joining with a one-time token: a secret that the cluster deletes when a bot has joined with it (docs/protocol.md, "Join
//! service").

use std::io;
use std::path::{Path, PathBuf};

use teleport_api::teleport::join::v1::{ClientParams, TokenInit, join_request::Payload};

use super::method::{Hints, Method, Rest};
use crate::error::{Advice, Exit, Explain, Failure};
use crate::limits::JOIN_TOKEN_SIZE;
use crate::regular_file;
use crate::text::sanitize;
use crate::values::{Secret, token_name};

/// The name of the method.
pub(crate) const NAME: &str = "token";

pub(crate) struct OneTimeToken;

impl Method for OneTimeToken {
    fn join_method(&self) -> &'static str {
        NAME
    }

    fn init(&self, params: ClientParams) -> Payload {
        Payload::TokenInit(TokenInit { client_params: Some(params) })
    }

    fn rest(&self) -> Option<Rest<'_>> {
        Some(Rest { id_token: "" })
    }

    fn may_repeat(&self) -> bool {
        false
    }

    fn hints(&self) -> Hints {
        Hints {
            method: NAME,
            proof: "a one-time token".to_owned(),
            since: [17, 0, 0],
            unit: "step",
            changed: "Create a new one-time token with `tctl bots instances add <bot>`, and pass it on unchanged.",
            mismatch: "",
            guides_tokens: None,
            token_name: None,
            is_secret: true,
            is_public: false,
            admission: None,
        }
    }
}

/// The join token in a file, without blanks around it.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub(crate) fn read(path: &Path) -> Result<Secret, Failure> {
    let unreadable = |source| FileError { path: path.to_owned(), source };
    let bytes = regular_file::read(path, JOIN_TOKEN_SIZE).map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    Ok(token_name(text).map_err(|invalid| invalid.hidden().named("the join token in the file", text))?)
}

/// The file of a join token cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the join token cannot be read from {} ({source})", sanitize(&path.display().to_string()))]
pub(crate) struct FileError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl Explain for FileError {
    fn advice(&self) -> Advice {
        let remedy = "Write the name of the join token itself, or the absolute path of a file that this user can read.";
        Advice::new(Exit::BadInput, "a-variable-or-flag-is-wrong", remedy)
            .cause("TOKEN (--token) begins with `/`, so that it is the path of a file.")
    }
}
