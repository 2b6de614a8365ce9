//! Why a join failed, told by the words that Teleport uses for it (teleport-join.md 2.3, 3.5, 4.1).

use tonic::Code;

use crate::error::{Exit, Explain, Retry};
use crate::net;
use crate::net::grpc::{broken, code_name, passes, retry_after_of};
use crate::retry::{RetryAfter, Transient, WaitingFor};
use crate::text::sanitize_nested;

/// One service's failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Attempt {
    /// The service was not reached.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// gRPC: the join service answered with an error.
    #[error("{message} ({}){retry_after}", code_name(*code))]
    Grpc {
        /// Its code.
        code: Code,
        /// When to come back.
        retry_after: RetryAfter,
        /// Its words.
        message: String,
    },
    /// REST: the proxy answered with an error.
    #[error("{message} (HTTP {status}){retry_after}")]
    Rest {
        /// The HTTP status.
        status: u16,
        /// When to come back.
        retry_after: RetryAfter,
        /// The proxy's words.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("the answer to the join cannot be used: {0}")]
    Nonsense(&'static str),
    /// No key.
    #[error(transparent)]
    Key(#[from] crate::keys::Error),
}

impl From<WaitingFor> for Attempt {
    fn from(awaited: WaitingFor) -> Self {
        Self::Net(awaited.into())
    }
}

impl Attempt {
    /// The failure behind a gRPC status.
    pub(super) fn from_status(status: &tonic::Status, addr: &str) -> Self {
        match broken(status, addr) {
            Some(error) => Self::Net(error),
            None => {
                let message = sanitize_nested(status.message());
                Self::Grpc { code: status.code(), message, retry_after: retry_after_of(status) }
            }
        }
    }

    /// What the cluster said, if it said anything.
    fn message(&self) -> Option<&str> {
        match self {
            Self::Grpc { message, .. } | Self::Rest { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Not a refusal, but the wrong place to ask.
    fn is_absence(&self) -> bool {
        matches!(self, Self::Grpc { code: Code::Unimplemented, .. })
    }

    /// There is no REST call, or none any more: a page stands in its place.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Rest { status: 404, .. }) && self.refusal() == Some(Refusal::Other)
    }

    /// The cluster has said nothing against the step, only that it cannot answer now.
    fn is_passing(&self) -> bool {
        self.is_transient() && self.refusal() == Some(Refusal::Other)
    }

    /// The cluster wants to be asked again when there is no time left.
    fn is_too_late(&self) -> bool {
        matches!(self, Self::Grpc { retry_after, .. } | Self::Rest { retry_after, .. } if retry_after.is_too_late())
    }

    fn refusal(&self) -> Option<Refusal> {
        self.message().map(Refusal::from_message)
    }
}

impl Transient for Attempt {
    /// OIDC failures are `Unknown` and 500, too: those are final, the token was verified and refused
    /// (teleport-join.md 8.19).
    fn retry(&self) -> Retry {
        let open = matches!(self.refusal(), Some(Refusal::Other | Refusal::Keys));
        match self {
            Self::Net(error) => error.retry(),
            Self::Grpc { code: Code::Unknown | Code::Internal, .. } if open => Retry::Yes,
            Self::Grpc { code, .. } if passes(*code) => Retry::Yes,
            Self::Rest { status: 429, .. } => Retry::Yes,
            Self::Rest { status, .. } if *status >= 500 && *status != 501 && open => Retry::Yes,
            Self::Nonsense(_) => Retry::Once,
            Self::Grpc { .. } | Self::Rest { .. } | Self::Key(_) => Retry::No,
        }
    }

    fn retry_after(&mut self) -> Option<&mut RetryAfter> {
        match self {
            Self::Net(error) => error.retry_after(),
            Self::Grpc { retry_after, .. } | Self::Rest { retry_after, .. } => Some(retry_after),
            Self::Nonsense(_) | Self::Key(_) => None,
        }
    }
}

/// What the cluster means. Matched anywhere in the text: services put words in front (conformance FINDINGS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TokenName,
    Rule,
    Audience,
    Issuer,
    Expired,
    Future,
    Signature,
    Keys,
    Method,
    Role,
    Other,
}

impl Refusal {
    pub(crate) fn from_message(message: &str) -> Self {
        const TEXTS: &[(&str, Refusal)] = &[
            ("match any allow rules", Refusal::Rule),
            ("token expired or not found", Refusal::TokenName),
            ("token is not valid", Refusal::TokenName),
            ("does not allow role", Refusal::Role),
            ("audience", Refusal::Audience),
            ("authorized party", Refusal::Audience),
            ("issuer does not match", Refusal::Issuer),
            ("token has expired", Refusal::Expired),
            ("in the future", Refusal::Future),
            ("discovering oidc", Refusal::Keys),
            ("invalid signature", Refusal::Signature),
            ("signature algorithm", Refusal::Signature),
            ("only supports method", Refusal::Method),
            ("only valid for the", Refusal::Method),
            ("unsupported join method", Refusal::Method),
        ];
        let lower = message.to_lowercase();
        TEXTS.iter().find(|(text, _)| lower.contains(text)).map_or(Self::Other, |(_, refusal)| *refusal)
    }
}

/// A join that failed: the failure that says most, and the other service's, if there were two.
#[derive(Debug)]
pub(crate) struct Error {
    useful: Attempt,
    other: Option<Attempt>,
    advice: Option<Advice>,
}

/// What is shown beside a refusal that the join token could mend.
#[derive(Debug)]
struct Advice {
    claims: String,
    token_spec: String,
}

impl Error {
    /// Of two failures the more useful one comes first: the cluster's words before the network's, and a refusal that we
    /// understand before one that we do not. An `Unimplemented` says only that it was the wrong place to ask.
    pub(crate) fn new(last: Attempt, first: Option<Attempt>) -> Self {
        let use_of = |attempt: &Attempt| match (attempt, attempt.refusal()) {
            _ if attempt.is_absence() => 0,
            (Attempt::Rest { status: 404, .. }, _) => 1,
            (_, None) => 2,
            (_, Some(Refusal::Other)) => 3,
            _ => 4,
        };
        match first {
            Some(first) if use_of(&first) > use_of(&last) => Self { useful: first, other: Some(last), advice: None },
            other => Self { useful: last, other, advice: None },
        }
    }

    /// The cluster has neither service: the new one does not know us, and where the old one was there is a page.
    fn is_absence(&self) -> bool {
        self.useful.is_gone() && self.other.as_ref().is_some_and(Attempt::is_absence)
    }

    /// Adds what the ID token claims and what the token resource should say to admit it, to be shown beside a refusal
    /// that it would mend.
    #[must_use]
    pub(crate) fn with_advice(self, claims: String, token_spec: String) -> Self {
        Self { advice: Some(Advice { claims, token_spec }), ..self }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.useful {
            Attempt::Net(error) => write!(f, "{error}")?,
            Attempt::Key(error) => write!(f, "{error}")?,
            Attempt::Nonsense(_) => write!(f, "{}", self.useful)?,
            _ if self.is_absence() => {
                return f.write_str("the cluster has no service that joins by an ID token of Bitbucket");
            }
            // These quote claims of the token and what the rule wants.
            attempt if self.advice.is_none() && attempt.refusal() == Some(Refusal::Audience) => {
                write!(f, "the cluster refused the join: the audience of the ID token is not valid")?;
            }
            attempt if self.advice.is_none() && attempt.refusal() == Some(Refusal::Issuer) => {
                write!(f, "the cluster refused the join: the issuer of the ID token does not match")?;
            }
            attempt if attempt.is_passing() => write!(f, "the join failed: {attempt}")?,
            attempt => write!(f, "the cluster refused the join: {attempt}")?,
        }
        match &self.other {
            // It says nothing but that the cluster is of version 17, or of an early 18.
            Some(other) if other.is_absence() => Ok(()),
            Some(other) => write!(f, "; by the other join service: {other}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Explain for Error {
    fn likely_cause(&self) -> Option<String> {
        if self.is_absence() {
            return Some(
                "Teleport before 17.0.2 cannot do it; or something in front of the proxy blocks its API.".to_owned(),
            );
        }
        let refusal = match &self.useful {
            Attempt::Net(error) => return Some(error.advice().cause.into_owned()).filter(|cause| !cause.is_empty()),
            attempt => attempt.refusal()?,
        };
        let cause = match refusal {
            Refusal::TokenName => "TOKEN names no join token of this cluster, or one that has expired.",
            Refusal::Rule => {
                "No rule under `allow:` of the join token fits this step; values must be equal, braces included."
            }
            Refusal::Audience => "The join token's `audience` is not that of the step's ID token.",
            Refusal::Issuer => "The join token's `identity_provider_url` is not the issuer of the step's ID token.",
            Refusal::Expired => "The step's ID token expired on the way, or the cluster's clock is ahead.",
            Refusal::Future => "The cluster's clock is behind.",
            Refusal::Keys => "The cluster cannot reach `identity_provider_url` of the join token to fetch its keys.",
            Refusal::Signature => "The ID token was changed on the way, or was issued by somebody else.",
            Refusal::Method => "The join token is for another join method.",
            Refusal::Role => "The join token's `roles:` does not contain Bot.",
            Refusal::Other => return None,
        };
        Some(cause.to_owned())
    }

    fn what_to_do(&self) -> String {
        if self.is_absence() {
            return "Compare the version that the log shows with 17.0.2, and update the cluster if it is older. \
                    If it is not, ask whoever runs the cluster what stands in front of the proxy."
                .to_owned();
        }
        let refusal = match &self.useful {
            Attempt::Net(error) => return error.what_to_do(),
            Attempt::Key(error) => return error.what_to_do(),
            attempt => attempt.refusal().unwrap_or(Refusal::Other),
        };
        let paste = |text: &str| match &self.advice {
            Some(Advice { claims, token_spec }) => format!(
                "{text}\nThis step's ID token says (not verified here):\n{}\
                 It would be admitted by a join token (`kind: token`) with this in its spec:\n{}",
                indented(claims),
                indented(token_spec),
            ),
            None => format!(
                "{text}\nThis repository is public, and so is its log: \
                 set DEBUG: 'true' (-d) to see in it what would admit this step."
            ),
        };
        match refusal {
            Refusal::TokenName => {
                "Compare TOKEN (--token) with `tctl tokens ls`; it is metadata.name of a `kind: token`.".to_owned()
            }
            Refusal::Rule => paste("Compare with `tctl get token/<name>`, and add a rule with `tctl create -f`."),
            Refusal::Audience | Refusal::Issuer => paste("Correct the join token with `tctl create -f`."),
            Refusal::Expired => {
                "Run the pipe early in the step. If it was early, look at the clock of the Auth Service.".to_owned()
            }
            Refusal::Future => "Correct the clock of the Auth Service.".to_owned(),
            Refusal::Keys => {
                "Let the Auth Service reach it over HTTPS within 15 s, or correct the URL in the join token.".to_owned()
            }
            Refusal::Signature => {
                "Do not set BITBUCKET_STEP_OIDC_TOKEN by hand, and hand it on as it is, in one piece.".to_owned()
            }
            Refusal::Method => paste("Make a join token with `join_method: bitbucket`."),
            Refusal::Role => "Add `roles: [Bot]` to the spec of the join token.".to_owned(),
            Refusal::Other if self.useful.is_too_late() => RetryAfter::TOO_LATE.to_owned(),
            Refusal::Other if self.useful.is_passing() => {
                "Run the step again, later or fewer at once; if it keeps failing, ask whoever runs the cluster."
                    .to_owned()
            }
            Refusal::Other => {
                "Ask whoever runs the cluster; its audit log has the join attempt at this time.".to_owned()
            }
        }
    }

    fn exit(&self) -> Exit {
        match &self.useful {
            Attempt::Net(error) => error.exit(),
            Attempt::Key(error) => error.exit(),
            attempt if attempt.is_passing() => Exit::Network,
            _ => Exit::Refused,
        }
    }

    fn anchor(&self) -> &'static str {
        match &self.useful {
            Attempt::Net(error) => error.anchor(),
            Attempt::Key(error) => error.anchor(),
            _ if self.is_absence() => "no-way-to-join",
            attempt => match attempt.refusal().unwrap_or(Refusal::Other) {
                Refusal::TokenName => "the-join-token-is-not-known",
                Refusal::Rule => "no-allow-rule-fits",
                Refusal::Audience => "the-audience-is-wrong",
                Refusal::Issuer => "the-issuer-is-wrong",
                Refusal::Expired | Refusal::Future => "the-clocks-differ",
                Refusal::Keys => "the-cluster-cannot-reach-the-identity-provider",
                Refusal::Signature => "the-id-tokens-signature-is-wrong",
                Refusal::Method => "the-join-token-is-for-another-method",
                Refusal::Role => "the-join-token-lacks-the-role-bot",
                Refusal::Other => "the-cluster-refused-the-join",
            },
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(status: u16, message: &str) -> Attempt {
        Attempt::Rest { status, message: message.to_owned(), retry_after: RetryAfter::default() }
    }

    #[test]
    fn a_verified_and_refused_token_is_final_though_it_is_a_500() {
        assert!(!rest(500, "verifying token: token has expired").is_transient());
        assert!(rest(500, "internal error").is_transient());
        assert!(rest(429, "rate limit exceeded").is_transient());
        assert!(!rest(403, "token expired or not found").is_transient());
    }

    #[test]
    fn the_more_useful_failure_comes_first() {
        let unimplemented = || Attempt::from_status(&tonic::Status::unimplemented("unknown service"), "p:443");
        let text = Error::new(rest(403, "token expired or not found"), Some(unimplemented())).to_string();
        assert!(text.starts_with("the cluster refused the join: token expired"), "{text}");
        let text = Error::new(rest(404, "no"), Some(rest(403, "audience is not valid"))).to_string();
        assert!(text.starts_with("the cluster refused the join: the audience"), "{text}");
    }
}
