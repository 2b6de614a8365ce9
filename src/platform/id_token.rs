//! ID tokens of CI systems: is one here, what does it say.
//!
//! One file per CI. Nothing here verifies a token, the cluster does; claims are read to explain a refusal, to name what
//! joins, and to fail early where the token cannot be good.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::error::{Exit, Explain};
use crate::text::sanitize;

/// What a CI's file says about an environment.
#[derive(Debug)]
pub(crate) enum Detection {
    /// This is not that CI.
    NotHere,
    /// It is, but there is no token that could be used.
    Unusable(Error),
    /// Here it is.
    Here(IdToken),
}

/// An ID token. There is no `Display` and no `Clone`; `Debug` shows nothing of it.
pub(crate) struct IdToken {
    text: Zeroizing<String>,
    claims: Claims,
}

impl IdToken {
    /// Reads the claims of a JWT. The signature is not looked at.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let payload = Base64UrlUnpadded::decode_vec(payload).ok()?;
        let claims = serde_json::from_slice(&payload).ok()?;
        Some(Self { text: Zeroizing::new(text.to_owned()), claims: Claims(claims) })
    }

    /// The token itself. For the request to the cluster and nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.text
    }

    /// What it says, unverified.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Why it cannot be used any more, if that is so.
    pub(crate) fn expired(&self, now: SystemTime) -> Option<Error> {
        let ago = now.duration_since(self.claims.expires()?).ok()?;
        Some(Error::Expired { ago: humantime::format_duration(Duration::from_secs(ago.as_secs())) })
    }
}

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdToken").finish_non_exhaustive()
    }
}

/// The claims of a token, unverified. Decoded leniently: CIs differ in what is text and what is not.
#[derive(Clone, Debug)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// A claim as text, fit for a log; `None` if it is missing, empty or no text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.literal(name).map(sanitize).filter(|text| !text.is_empty())
    }

    /// A claim as it stands in the token, for whoever compares it letter by letter; not fit for a log.
    pub(crate) fn literal(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The audiences, as they stand in the token: a text, or a list where the step names its own (bitbucket-pipes.md
    /// 3).
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.0.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// When the token expires, if it says so.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        let seconds = self.0.get("exp")?.as_f64().filter(|seconds| (0.0..1e11).contains(seconds))?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
    }
}

/// Why there is no usable ID token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No CI that we know.
    #[error("there is no ID token, and this is not a step of a CI system that teleport-pipe knows")]
    NoCi,
    /// Bitbucket Pipelines, but the step has no token.
    #[error("the step has no ID token: BITBUCKET_STEP_OIDC_TOKEN is not set")]
    Missing,
    /// The variable holds something else.
    #[error("{variable} is not an ID token (it is not a JWT)")]
    NotAJwt {
        /// The variable that should hold it.
        variable: &'static str,
    },
    /// It was one.
    #[error("the step's ID token expired {ago} ago")]
    Expired {
        /// How long ago.
        ago: humantime::FormattedDuration,
    },
}

impl Explain for Error {
    fn likely_cause(&self) -> Option<String> {
        Some(match self {
            Self::NoCi => "BITBUCKET_STEP_OIDC_TOKEN is not set, nor is BITBUCKET_BUILD_NUMBER.".to_owned(),
            Self::Missing => "The step does not say `oidc: true`.".to_owned(),
            Self::NotAJwt { variable } => {
                format!("{variable} was set by hand, or its value was changed on the way (quoting, `$`).")
            }
            Self::Expired { .. } => "The step ran for long before it came here, or the clock of the runner is ahead. \
                                     Bitbucket gives a step one token at its start, and no other later."
                .to_owned(),
        })
    }

    fn what_to_do(&self) -> String {
        match self {
            Self::NoCi => "In Bitbucket Pipelines: add `oidc: true` to the step. \
                           In a container of your own: hand BITBUCKET_STEP_OIDC_TOKEN on to it."
                .to_owned(),
            Self::Missing => "Add `oidc: true` to the step in bitbucket-pipelines.yml:\n\
                              - step:\n    oidc: true\n    script: ..."
                .to_owned(),
            Self::NotAJwt { .. } => "Do not set the variable; `oidc: true` in the step is enough.".to_owned(),
            Self::Expired { .. } => "Run the pipe early in the step, with a TTL that covers the rest of it.".to_owned(),
        }
    }

    fn exit(&self) -> Exit {
        Exit::NoIdToken
    }

    fn anchor(&self) -> &'static str {
        match self {
            Self::NoCi | Self::Missing => "there-is-no-id-token",
            Self::NotAJwt { .. } => "the-id-token-is-not-a-jwt",
            Self::Expired { .. } => "the-id-token-has-expired",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The claims in this JSON.
    pub(crate) fn claims(json: &str) -> Claims {
        Claims(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn debug_shows_nothing() {
        let payload = Base64UrlUnpadded::encode_string(br#"{"sub":"x"}"#);
        let token = IdToken::parse(&format!("header.{payload}.signature")).unwrap();
        assert_eq!(format!("{token:?}"), "IdToken { .. }");
    }

    #[test]
    fn what_is_no_jwt() {
        for text in ["", "abc", "a.b", "a.e30.c.d", "a.!!.c", "a.W10.c"] {
            assert!(IdToken::parse(text).is_none(), "{text}");
        }
        assert!(IdToken::parse("a.e30.c").is_some());
    }

    #[test]
    fn claims_are_read_leniently() {
        assert_eq!(claims(r#"{"aud":"a"}"#).audiences(), ["a"]);
        assert_eq!(claims(r#"{"aud":["a","b",3]}"#).audiences(), ["a", "b"]);
        assert!(claims(r#"{"aud":7}"#).audiences().is_empty());
        assert_eq!(claims(r#"{"branchName":""}"#).text("branchName"), None);
        assert_eq!(claims(r#"{"branchName":"a\u001b[2Jb"}"#).text("branchName").as_deref(), Some("a [2Jb"));
        assert_eq!(claims(r#"{"exp":-1}"#).expires(), None);
        assert_eq!(claims(r#"{"exp":1e300}"#).expires(), None);
    }
}
