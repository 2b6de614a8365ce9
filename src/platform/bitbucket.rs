//! Bitbucket Pipelines: the step's token is in its environment, if the step says `oidc: true`.
//!
//! Facts: bitbucket-pipes.md 2.3 and 3; what the cluster demands of the token: teleport-join.md 4.1 and 7.

use std::fmt::Write as _;

use super::rule::Rule;
use super::{Claims, Detection, Error, IdToken};
use crate::environment::Environment;
use crate::text::sanitize;

/// The variable that holds the step's ID token.
pub(crate) const VARIABLE: &str = "BITBUCKET_STEP_OIDC_TOKEN";

/// Looks for the step's token. It may have expired: by which clock is for the caller to say.
pub(crate) fn detect(env: &Environment) -> Detection {
    match env.get(VARIABLE).map(IdToken::parse) {
        Some(Some(token)) => Detection::Here(token),
        Some(None) => Detection::Unusable(Error::NotAJwt { variable: VARIABLE }),
        None if env.get("BITBUCKET_BUILD_NUMBER").is_some() => Detection::Unusable(Error::Missing),
        None => Detection::NotHere,
    }
}

/// Whether everybody can read the step's log.
pub(crate) fn log_is_public(env: &Environment) -> bool {
    env.get("BITBUCKET_REPO_IS_PRIVATE") == Some("false")
}

/// The step in a few words, for the log.
pub(crate) fn summary(claims: &Claims) -> String {
    let mut text = format!("repository {}", claims.text("repositoryUuid").unwrap_or_else(|| "unknown".to_owned()));
    for (label, claim) in [("branch", "branchName"), ("deployment", "deploymentEnvironmentUuid")] {
        if let Some(value) = claims.text(claim) {
            let _ = write!(text, ", {label} {value}");
        }
    }
    text
}

/// What the token says, a line a claim, for the person who compares it with a rule.
pub(crate) fn listing(claims: &Claims) -> String {
    const NAMES: [&str; 8] = [
        "iss",
        "sub",
        "workspaceUuid",
        "repositoryUuid",
        "pipelineUuid",
        "stepUuid",
        "branchName",
        "deploymentEnvironmentUuid",
    ];
    let audiences: Vec<_> = claims.audiences().into_iter().map(sanitize).collect();
    let mut text = format!("aud: {}\n", if audiences.is_empty() { "(none)".to_owned() } else { audiences.join(", ") });
    for name in NAMES {
        let _ = writeln!(text, "{name}: {}", claims.text(name).unwrap_or_else(|| "(none)".to_owned()));
    }
    text
}

/// The part of a `kind: token` that would admit a step with these claims and as few others as can be: what a person
/// pastes after comparing.
pub(crate) fn token_spec(claims: &Claims) -> String {
    format!("spec:\n{}", Rule::narrowest(claims).yaml())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use base64ct::{Base64UrlUnpadded, Encoding as _};

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", Base64UrlUnpadded::encode_string(claims.as_bytes()))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn detect_with(variables: &[(&str, &str)]) -> Detection {
        detect(&variables.iter().copied().collect())
    }

    #[test]
    fn three_answers() {
        assert!(matches!(detect_with(&[]), Detection::NotHere));
        assert!(matches!(detect_with(&[("BITBUCKET_BUILD_NUMBER", "7")]), Detection::Unusable(Error::Missing)));
        assert!(matches!(detect_with(&[(VARIABLE, "nope")]), Detection::Unusable(Error::NotAJwt { .. })));
    }

    #[test]
    fn a_token_without_expiry_is_the_clusters_business() {
        let expired = |claims| match detect_with(&[(VARIABLE, &jwt(claims))]) {
            Detection::Here(token) => token.expired(at(1000)).is_some(),
            other => panic!("{other:?}"),
        };
        assert!(expired(r#"{"exp":1000}"#));
        assert!(!expired(r#"{"exp":1001}"#) && !expired("{}"));
    }

    #[test]
    fn only_a_repository_known_to_be_public_has_a_public_log() {
        let env = |value: &str| Environment::from_iter([("BITBUCKET_REPO_IS_PRIVATE", value)]);
        assert!(log_is_public(&env("false")));
        assert!(!log_is_public(&env("true")) && !log_is_public(&Environment::default()));
    }
}
