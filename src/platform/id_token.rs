//! An ID token and its claims.
//!
//! Nothing here verifies a token, the cluster does. Claims are read to explain a refusal, to name what joins, and to fail
//! early if the token cannot be accepted.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::Platform;
use super::endpoint::Refused;
use crate::error::{Advice, Exit, Explain};
use crate::net;
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
        let claims = Claims(serde_json::from_slice(&payload).ok()?).with_derived(platform);
        Some(Self { platform, text: Zeroizing::new(text.to_owned()), claims })
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

    /// A claim exactly as in the token, for a rule that is compared letter by letter; not fit for a log. A name that begins
    /// with `/` is a JSON pointer (RFC 6901). Of a list it is the first item.
    pub(crate) fn literal(&self, name: &str) -> Option<&str> {
        let value = match name.strip_prefix('/') {
            None => self.0.get(name)?,
            Some(path) => {
                let mut parts = path.split('/');
                parts.clone().skip(1).try_fold(self.0.get(parts.next()?)?, |value, part| value.get(part))?
            }
        };
        let value = value.as_array().map_or(value, |list| list.first().unwrap_or(&Value::Null));
        value.as_str().filter(|text| !text.is_empty())
    }

    /// With the claims that the platform derives.
    pub(super) fn with_derived(mut self, platform: &Platform) -> Self {
        for (name, derive) in platform.derived_claims {
            if let Some(value) = derive(&self) {
                self.0.entry(*name).or_insert(Value::String(value));
            }
        }
        self
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
    #[error("this may be {}", both(platforms))]
    Several { platforms: Vec<&'static Platform> },
    #[error("the {} has no ID token: {variable} is not set", platform.texts.unit)]
    Missing { platform: &'static Platform, variable: String },
    #[error("the {} has no ID token: no variable is named that holds it", platform.texts.unit)]
    NotNamed { platform: &'static Platform },
    #[error("the {} has no ID token: the program {} did not print one: {reason}", platform.texts.unit, sanitize(program))]
    Command { platform: &'static Platform, program: String, reason: String },
    #[error("the {} has no ID token: {} cannot be read ({source})", platform.texts.unit, sanitize(&path.display().to_string()))]
    File { platform: &'static Platform, path: PathBuf, source: io::Error },
    /// A variable, or a file.
    #[error("{place} is not an ID token (it is not a JWT)")]
    NotAJwt { platform: &'static Platform, place: String },
    #[error("the {} has no ID token: {variable} is not an HTTPS URL", platform.texts.unit)]
    NotAUrl { platform: &'static Platform, variable: &'static str },
    #[error("the {} has no ID token: {addr} did not issue one: {source}", platform.texts.unit)]
    Endpoint { platform: &'static Platform, addr: String, source: Refused },
    #[error("the {} has no ID token: the answer of {addr} holds none", platform.texts.unit)]
    NoTokenInAnswer { platform: &'static Platform, addr: String },
    #[error("the {}'s ID token expired {ago} ago", platform.texts.unit)]
    Expired { platform: &'static Platform, ago: humantime::FormattedDuration },
}

fn both(platforms: &[&'static Platform]) -> String {
    platforms.iter().map(|platform| platform.name).collect::<Vec<_>>().join(" and ")
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        let new = |anchor, remedy: Cow<'static, str>| Advice::new(Exit::NoIdToken, anchor, remedy);
        match self {
            Self::NoCi => {
                let remedies = super::ALL.map(|platform| platform.texts.get_a_token);
                let remedy = format!(
                    "{}\nIn a container of your own: pass the variables of the CI system on to it.\nWithout a CI system: set \
                     JOIN_METHOD: 'token' (--join-method=token), with a one-time token.",
                    remedies.join("\n")
                );
                new("there-is-no-id-token", remedy.into())
                    .cause("No variable of a CI system is set.")
            }
            Self::Several { platforms } => {
                let methods: Vec<_> = platforms.iter().map(|platform| platform.method).collect();
                let remedy = format!("Set JOIN_METHOD (--join-method) to {}.", crate::choice::either(&methods));
                Advice::new(Exit::BadInput, "there-are-several-ci-systems", remedy)
                    .cause("Variables of several CI systems are set, and each of them may have an ID token.")
            }
            Self::Command { .. } => {
                new("there-is-no-id-token", "Run the program by hand, as the same user and in the home directory: it has to print the ID token and nothing else, \
                     within `timeout`, and before the run's own deadline.".into())
                    .cause("The tbot.yaml names the program below `generic_oidc`.")
            }
            Self::Missing { platform, .. } | Self::File { platform, .. } | Self::NotNamed { platform } => {
                new("there-is-no-id-token", platform.texts.enable.into()).cause(platform.texts.no_token)
            }
            Self::NotAJwt { platform, place } => new("the-id-token-is-not-a-jwt", platform.texts.not_a_jwt.into())
                .cause(format!("{place} was set by hand, or its value was changed on the way (quoting, `$`).")),
            Self::NotAUrl { variable, .. } => {
                new("there-is-no-id-token", format!("Do not set {variable} by hand, and pass it on unchanged.").into())
                    .cause("It was changed on the way.")
            }
            Self::Endpoint { platform, source: Refused::Status { status: 400..=428 | 430..500, .. }, .. } => {
                new("the-token-endpoint-issues-no-id-token", platform.texts.enable.into()).cause(platform.texts.no_token)
            }
            Self::Endpoint {
                source: Refused::Net(error @ (net::Error::Egress(_) | net::Error::EgressUnreached { .. })),
                ..
            } => error.advice(),
            Self::Endpoint { .. } => Advice::new(
                Exit::Network,
                "the-token-endpoint-issues-no-id-token",
                "Run it again. If it keeps failing, look at the status page of the CI system, and at the network on the way.",
            )
            .cause("The endpoint of the CI system, or the way to it, has a problem."),
            Self::NoTokenInAnswer { .. } => new(
                "the-token-endpoint-issues-no-id-token",
                "Check whether a variable or a forward proxy leads to something else than the CI system.".into(),
            )
            .cause("Something else answers in the place of the CI system's endpoint."),
            Self::Expired { platform, .. } => {
                let remedy = "Run the pipe early in the step, with a TTL that covers the rest of the step.";
                new("the-id-token-has-expired", remedy.into()).cause(format!(
                    "The {} ran for a long time before the pipe, or the clock of the runner is ahead. {}",
                    platform.texts.unit, platform.texts.issued,
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
