//! Errors of Teleport's services: a kind has an HTTP status and a gRPC code (docs/protocol.md, "Error answers").

use tonic::{Code, Status};

/// Why the cluster refuses a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    BadParameter,
    AccessDenied,
    NotFound,
    LimitExceeded,
    NotImplemented,
    ConnectionProblem,
    Other,
}

impl Refusal {
    pub(crate) fn bad_parameter(message: impl Into<String>) -> Self {
        Self { kind: Kind::BadParameter, message: message.into() }
    }

    pub(crate) fn access_denied(message: impl Into<String>) -> Self {
        Self { kind: Kind::AccessDenied, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { kind: Kind::NotFound, message: message.into() }
    }

    pub(crate) fn limit_exceeded(message: impl Into<String>) -> Self {
        Self { kind: Kind::LimitExceeded, message: message.into() }
    }

    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self { kind: Kind::NotImplemented, message: message.into() }
    }

    pub(crate) fn connection_problem(message: impl Into<String>) -> Self {
        Self { kind: Kind::ConnectionProblem, message: message.into() }
    }

    /// An error without a type, such as those of token verification.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self { kind: Kind::Other, message: message.into() }
    }

    /// The same error inside an outer message. Nested messages are on a line each, indented by a tab.
    pub(crate) fn wrapped(self, outer: &str) -> Self {
        Self { kind: self.kind, message: format!("{outer}\n\t{}", self.message) }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn http_status(&self) -> u16 {
        match self.kind {
            Kind::BadParameter => 400,
            Kind::AccessDenied => 403,
            Kind::NotFound => 404,
            Kind::LimitExceeded => 429,
            Kind::Other => 500,
            Kind::NotImplemented => 501,
            Kind::ConnectionProblem => 504,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.kind {
            Kind::BadParameter => Code::InvalidArgument,
            Kind::AccessDenied => Code::PermissionDenied,
            Kind::NotFound => Code::NotFound,
            Kind::LimitExceeded => Code::ResourceExhausted,
            Kind::NotImplemented => Code::Unimplemented,
            Kind::ConnectionProblem => Code::Unavailable,
            Kind::Other => Code::Unknown,
        };
        Status::new(code, refusal.message)
    }
}
