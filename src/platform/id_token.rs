//! An ID token and its claims.
//!
//! Nothing here verifies a token, the cluster does. Claims are read to explain a refusal, to name what joins, and to fail
//! early if the token cannot be accepted.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Platform, Texts};
use crate::error::{Advice, Exit, Explain};
use crate::text::sanitize;

/// An ID token. There is no `Display` and no `Clone`; `Debug` shows nothing of it.
pub(crate) struct IdToken {
    platform: &'static Platform,
    text: Zeroizing<String>,
    claims: Claims,
}

impl IdToken {
    /// Reads the claims of a JWT. The signature is not looked at.
    pub(super) fn parse(platform: &'static Platform, text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let payload = Base64UrlUnpadded::decode_vec(payload).ok()?;
        let claims = serde_json::from_slice(&payload).ok()?;
        Some(Self { platform, text: Zeroizing::new(text.to_owned()), claims: Claims(claims) })
    }

    /// The platform that issued it.
    pub(crate) fn platform(&self) -> &'static Platform {
        self.platform
    }

    /// The token itself. For the request to the cluster and nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.text
    }

    /// The claims, not verified.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The error of an expired token; `None` if it has not expired.
    pub(crate) fn expired(&self, now: SystemTime) -> Option<Error> {
        let ago = now.duration_since(self.claims.expires()?).ok()?;
        Some(Error::Expired {
            platform: self.platform,
            ago: humantime::format_duration(Duration::from_secs(ago.as_secs())),
        })
    }
}

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdToken").finish_non_exhaustive()
    }
}

/// The claims of a token, not verified. CI systems differ in which claims are text.
#[derive(Clone, Debug)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// A claim as text, fit for a log; `None` if it is missing, empty or not text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.literal(name).map(sanitize).filter(|text| !text.is_empty())
    }

    /// A claim exactly as in the token, for a rule that is compared letter by letter; not fit for a log.
    pub(crate) fn literal(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The audiences exactly as in the token: one text, or a list (RFC 7519, section 4.1.3).
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
    #[error("there is no ID token, and this is not a step of a CI system that teleport-pipe knows")]
    NoCi,
    #[error("the step has no ID token: {variable} is not set")]
    Missing { platform: &'static Platform, variable: &'static str },
    #[error("{variable} is not an ID token (it is not a JWT)")]
    NotAJwt { platform: &'static Platform, variable: &'static str },
    #[error("the step's ID token expired {ago} ago")]
    Expired { platform: &'static Platform, ago: humantime::FormattedDuration },
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        let new = |anchor, remedy: Cow<'static, str>| Advice::new(Exit::NoIdToken, anchor, remedy);
        let texts_of_all =
            |text: fn(&Texts) -> &'static str| super::ALL.map(|platform| text(&platform.texts)).join("\n");
        match self {
            Self::NoCi => new("there-is-no-id-token", texts_of_all(|texts| texts.get_a_token).into())
                .cause(texts_of_all(|texts| texts.not_here)),
            Self::Missing { platform, .. } => {
                new("there-is-no-id-token", platform.texts.enable.into()).cause(platform.texts.no_token)
            }
            Self::NotAJwt { platform, variable } => new("the-id-token-is-not-a-jwt", platform.texts.not_a_jwt.into())
                .cause(format!("{variable} was set by hand, or its value was changed on the way (quoting, `$`).")),
            Self::Expired { platform, .. } => {
                let remedy = "Run the pipe early in the step, with a TTL that covers the rest of the step.";
                new("the-id-token-has-expired", remedy.into()).cause(format!(
                    "The step ran for a long time before the pipe, or the clock of the runner is ahead. {}",
                    platform.texts.issued,
                ))
            }
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
    fn debug_does_not_show_the_token() {
        let payload = Base64UrlUnpadded::encode_string(br#"{"sub":"x"}"#);
        let token = IdToken::parse(crate::platform::ALL[0], &format!("header.{payload}.signature")).unwrap();
        assert_eq!(format!("{token:?}"), "IdToken { .. }");
    }

    #[test]
    fn texts_that_are_not_a_jwt() {
        for text in ["", "abc", "a.b", "a.e30.c.d", "a.!!.c", "a.W10.c"] {
            assert!(IdToken::parse(crate::platform::ALL[0], text).is_none(), "{text}");
        }
        assert!(IdToken::parse(crate::platform::ALL[0], "a.e30.c").is_some());
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
