//! Why a join failed, as the words say that Teleport uses for it (docs/protocol.md, "Error answers", "Join service" and
//! "ID token checks").

use std::borrow::Cow;

use tonic::Code;

use super::method::{Admission, Hints};
use crate::error::{Advice, Exit, Explain, Retry};
use crate::net;
use crate::net::discovery::ClusterInfo;
use crate::net::grpc::{self, code_name, is_temporary};
use crate::retry::{RetryAfter, Transient, WaitingFor};
use crate::shell;

/// One service's failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Attempt {
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The join service answered with an error.
    #[error("{message} ({}){retry_after}", code_name(*code))]
    Grpc { code: Code, retry_after: RetryAfter, message: String },
    /// The proxy answered the REST call with an error.
    #[error("{message} (HTTP {status}){retry_after}")]
    Rest { status: u16, retry_after: RetryAfter, message: String },
    #[error("the answer to the join cannot be used: {0}")]
    Nonsense(&'static str),
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
        match grpc::Refusal::from_status(status, addr) {
            Ok(grpc::Refusal { code, message, retry_after }) => Self::Grpc { code, message, retry_after },
            Err(error) => Self::Net(error),
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
        matches!(self, Self::Grpc { retry_after, .. } | Self::Rest { retry_after, .. } if retry_after.too_late)
    }

    fn refusal(&self) -> Option<Refusal> {
        self.message().map(Refusal::from_message)
    }
}

impl Transient for Attempt {
    /// OIDC failures are `Unknown` and 500, too: those are final, the token was verified and refused
    /// (docs/protocol.md, "ID token checks").
    fn retry(&self) -> Retry {
        let open = matches!(self.refusal(), Some(Refusal::Other | Refusal::Keys));
        match self {
            Self::Net(error) => error.retry(),
            Self::Grpc { code: Code::Unknown | Code::Internal, .. } if open => Retry::Yes,
            Self::Grpc { code, .. } if is_temporary(*code) => Retry::Yes,
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

/// What the cluster means. Matched anywhere in the text: services put words in front (docs/protocol.md, "Error
/// answers").
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

/// A join that failed: the more useful failure, and that of the other service if both were asked.
#[derive(Debug)]
pub(crate) struct Error {
    useful: Attempt,
    other: Option<Attempt>,
    hints: Hints,
    /// The cluster's version; empty if it is not known.
    version: String,
    too_old: Option<TooOld>,
}

/// A cluster whose version does not have the join method.
#[derive(Debug, thiserror::Error)]
#[error("the cluster is Teleport {version}, which cannot join by {proof}")]
pub(crate) struct TooOld {
    pub(crate) version: String,
    /// What proves that this may join.
    pub(crate) proof: String,
    /// The first version that knows the method.
    pub(crate) since: [u32; 3],
}

impl TooOld {
    /// Returns `None` if the cluster knows the method, or if its version is not known.
    pub(crate) fn check(cluster: &ClusterInfo, since: [u32; 3], proof: &str) -> Option<Self> {
        let this = || Self { version: cluster.version.clone(), proof: proof.to_owned(), since };
        cluster.is_older_than(since).then(this)
    }
}

impl Explain for TooOld {
    fn advice(&self) -> Advice {
        let remedy = format!("Update the cluster to {} or newer.", release(self.since));
        Advice::new(Exit::Refused, "no-way-to-join", remedy)
    }
}

fn release(numbers: [u32; 3]) -> String {
    numbers.map(|number| number.to_string()).join(".")
}

impl Error {
    /// Of two failures the more useful one comes first: the cluster's words before the network's, and a refusal that is
    /// known before one that is not. An `Unimplemented` says only that this was not the service to ask.
    pub(crate) fn new(last: Attempt, first: Option<Attempt>, hints: Hints) -> Self {
        let usefulness = |attempt: &Attempt| match (attempt, attempt.refusal()) {
            _ if attempt.is_absence() => 0,
            (Attempt::Rest { status: 404, .. }, _) => 1,
            (_, None) => 2,
            (_, Some(Refusal::Other)) => 3,
            _ => 4,
        };
        let (useful, other) = match first {
            Some(first) if usefulness(&first) > usefulness(&last) => (first, Some(last)),
            first => (last, first),
        };
        Self { useful, other, hints, version: String::new(), too_old: None }
    }

    /// Adds what discovery says about the cluster's version.
    pub(crate) fn at(self, cluster: &ClusterInfo) -> Self {
        let too_old = TooOld::check(cluster, self.hints.since, &self.hints.proof);
        Self { version: cluster.version.clone(), too_old, ..self }
    }

    /// The version, if it is the reason: the cluster has no service that knows the method, says that it does not, or has no
    /// such join token. It cannot have one of a method that it does not know.
    fn too_old(&self) -> Option<&TooOld> {
        let is_reason =
            || self.is_absence() || matches!(self.useful.refusal(), Some(Refusal::Method | Refusal::TokenName));
        self.too_old.as_ref().filter(|_| is_reason())
    }

    /// Whether the cluster has neither service: the join service does not know the method, and REST answers with a page.
    fn is_absence(&self) -> bool {
        self.useful.is_gone() && self.other.as_ref().is_some_and(Attempt::is_absence)
    }

    /// The remedy, and what would admit this step.
    fn with_admission(&self, remedy: &str) -> Cow<'static, str> {
        let text = match &self.hints.admission {
            Some(Admission { claims, token_spec }) => format!(
                "{remedy}\nThis {}'s ID token says (not verified here):\n{}\
                 A join token (`kind: token`) with this in its spec would admit it:\n{}",
                self.hints.unit,
                indented(claims),
                indented(token_spec),
            ),
            None if self.hints.is_public => format!(
                "{remedy}\nThis repository is public, and so is its log: \
                 set DEBUG: 'true' (-d) to see in it what would admit this {}.",
                self.hints.unit,
            ),
            None => return remedy.to_owned().into(),
        };
        text.into()
    }

    /// The cluster is new enough, as far as is known.
    fn advice_if_absent(&self) -> Advice {
        let since = release(self.hints.since);
        let ask = "Ask the administrator of the cluster what is in front of the proxy";
        let (cause, remedy) = match &*self.version {
            "" => (
                format!("Teleport before {since} cannot do it; or something in front of the proxy blocks its API."),
                format!("{ask}, and whether the cluster is {since} or newer: it does not say its version."),
            ),
            version => (
                format!(
                    "The cluster is Teleport {version}, which can do it, but something in front of the proxy blocks its API."
                ),
                format!("{ask}: it has to pass /webapi/host/credentials and gRPC on."),
            ),
        };
        Advice::new(Exit::Refused, "no-way-to-join", remedy).cause(cause)
    }

    fn refusal_advice(&self, refusal: Refusal) -> Advice {
        let correct = || self.with_admission("Correct the join token with `tctl create -f`.");
        let (anchor, cause, remedy): (_, _, Cow<'static, str>) = match refusal {
            Refusal::TokenName if self.hints.is_secret => (
                "the-join-token-is-not-known",
                "It has expired, or a bot has joined with it already.",
                self.hints.changed.into(),
            ),
            Refusal::TokenName => ("the-join-token-is-not-known", self.why_unknown(), self.remedy_of_unknown().into()),
            Refusal::Rule => (
                "no-allow-rule-fits",
                self.hints.mismatch,
                self.with_admission(&format!(
                    "Compare with `tctl get token/{}`, and add a rule with `tctl create -f`.",
                    self.hints.token_name.as_deref().map_or_else(|| "<name>".to_owned(), shell::word),
                )),
            ),
            Refusal::Audience => (
                "the-audience-is-wrong",
                "The audience of the ID token is not the one that the join token demands.",
                correct(),
            ),
            Refusal::Issuer => (
                "the-issuer-is-wrong",
                "The issuer of the ID token is not the one that the join token demands.",
                correct(),
            ),
            Refusal::Expired => (
                "the-clocks-differ",
                "The step's ID token expired on the way, or the cluster's clock is ahead.",
                "Run the pipe early in the step. If it was early, check the clock of the Auth Service.".into(),
            ),
            Refusal::Future => {
                ("the-clocks-differ", "The cluster's clock is behind.", "Correct the clock of the Auth Service.".into())
            }
            Refusal::Keys => (
                "the-cluster-cannot-reach-the-identity-provider",
                "The cluster cannot reach the issuer that the join token names, to fetch its keys.",
                "Let the Auth Service reach it over HTTPS within 15 s, or correct the URL in the join token.".into(),
            ),
            Refusal::Signature => (
                "the-id-tokens-signature-is-wrong",
                "The ID token was changed on the way, or another issuer signed it.",
                self.hints.changed.into(),
            ),
            Refusal::Method => (
                "the-join-token-is-for-another-method",
                "The join token is for another join method.",
                self.with_admission(&format!("Create a join token with `join_method: {}`.", self.hints.method)),
            ),
            Refusal::Role => (
                "the-join-token-lacks-the-role-bot",
                "The join token's `roles:` does not contain Bot.",
                "Add `roles: [Bot]` to the spec of the join token.".into(),
            ),
            Refusal::Other => ("the-cluster-refused-the-join", "", self.remedy_of_other().into()),
        };
        let exit = if self.useful.is_passing() { Exit::Network } else { Exit::Refused };
        Advice::new(exit, anchor, remedy).cause(cause)
    }

    /// Whether the join token is the one that Teleport's guide names, but does not create.
    fn is_guides_slip(&self) -> bool {
        self.hints.guides_tokens.is_some_and(|(named, _)| self.hints.token_name.as_deref() == Some(named))
    }

    fn why_unknown(&self) -> &'static str {
        if self.is_guides_slip() {
            "Teleport's guide has two names for the join token: one in the step, and one where it creates it."
        } else {
            "TOKEN names no join token of this cluster, or one that has expired."
        }
    }

    fn remedy_of_unknown(&self) -> String {
        const COMPARE: &str = "with `tctl tokens ls`; it is metadata.name of a `kind: token`.";
        match self.hints.guides_tokens {
            Some((_, created)) if self.is_guides_slip() => {
                format!("Write TOKEN: '{created}' (--token={created}), if you followed the guide. Or compare {COMPARE}")
            }
            _ => format!("Compare TOKEN (--token) {COMPARE}"),
        }
    }

    fn remedy_of_other(&self) -> &'static str {
        match &self.useful {
            attempt if attempt.is_too_late() => RetryAfter::TOO_LATE,
            attempt if attempt.is_passing() => {
                "Run the step again, later or fewer at once; if it keeps failing, ask the administrator of the cluster."
            }
            _ => "Ask the administrator of the cluster; its audit log has the join attempt at this time.",
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(too_old) = self.too_old() {
            return write!(f, "{too_old}");
        }
        // Refusals of the audience and the issuer quote claims of the token and what the rule demands.
        let hides_quotes = self.hints.is_public;
        match &self.useful {
            Attempt::Net(_) | Attempt::Key(_) | Attempt::Nonsense(_) => write!(f, "{}", self.useful)?,
            _ if self.is_absence() => {
                return write!(f, "the cluster has no service that joins by {}", self.hints.proof);
            }
            attempt if hides_quotes && attempt.refusal() == Some(Refusal::Audience) => {
                write!(f, "the cluster refused the join: the audience of the ID token is not valid")?;
            }
            attempt if hides_quotes && attempt.refusal() == Some(Refusal::Issuer) => {
                write!(f, "the cluster refused the join: the issuer of the ID token does not match")?;
            }
            attempt if attempt.refusal() == Some(Refusal::TokenName) => match &self.hints.token_name {
                Some(name) => write!(f, "the cluster has no valid join token `{name}`: {attempt}")?,
                None if self.hints.is_secret => write!(f, "the cluster does not have that one-time token: {attempt}")?,
                None => write!(f, "the cluster has no valid join token of the name in TOKEN (not shown): {attempt}")?,
            },
            attempt if attempt.is_passing() => write!(f, "the join failed: {attempt}")?,
            attempt => write!(f, "the cluster refused the join: {attempt}")?,
        }
        match &self.other {
            // It says only that the cluster is of version 17, or of an early 18.
            Some(other) if other.is_absence() => Ok(()),
            Some(other) => write!(f, "; by the other join service: {other}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Explain for Error {
    fn advice(&self) -> Advice {
        if let Some(too_old) = self.too_old() {
            return too_old.advice();
        }
        match &self.useful {
            Attempt::Net(error) => error.advice(),
            Attempt::Key(error) => error.advice(),
            _ if self.is_absence() => self.advice_if_absent(),
            attempt => self.refusal_advice(attempt.refusal().unwrap_or(Refusal::Other)),
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
        let text = Error::new(rest(403, "token expired or not found"), Some(unimplemented()), Hints::sample(false))
            .to_string();
        assert!(text.contains("of the name in TOKEN (not shown): token expired"), "{text}");
        let text =
            Error::new(rest(404, "no"), Some(rest(403, "audience is not valid")), Hints::sample(false)).to_string();
        assert!(text.starts_with("the cluster refused the join: the audience"), "{text}");
    }
}
