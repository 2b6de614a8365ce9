//! Bitbucket Pipelines: the step's token is in its environment, if the step says `oidc: true`.
//!
//! Facts: bitbucket-pipes.md 2.3 and 3; what the cluster demands of the token: teleport-join.md 4.1 and 7.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::{Claims, Detection, Error, IdToken};
use crate::environment::Environment;

/// The variable that holds the step's ID token.
pub const VARIABLE: &str = "BITBUCKET_STEP_OIDC_TOKEN";

/// Looks for the step's token. A token that has expired by our clock is unusable, the cluster allows one second.
pub fn detect(env: &Environment, now: SystemTime) -> Detection {
    let Some(text) = env.get(VARIABLE) else {
        return match env.get("BITBUCKET_BUILD_NUMBER") {
            Some(_) => Detection::Unusable(Error::Missing),
            None => Detection::NotHere,
        };
    };
    let Some(token) = IdToken::parse(text) else {
        return Detection::Unusable(Error::NotAJwt { variable: VARIABLE });
    };
    match token.claims().expires().map(|expires| now.duration_since(expires)) {
        Some(Ok(ago)) => {
            let ago = humantime::format_duration(std::time::Duration::from_secs(ago.as_secs()));
            Detection::Unusable(Error::Expired { ago })
        }
        _ => Detection::Here(token),
    }
}

/// Whether everybody can read the step's log.
pub fn log_is_public(env: &Environment) -> bool {
    env.get("BITBUCKET_REPO_IS_PRIVATE") == Some("false")
}

/// The step in a few words, for the log.
pub fn summary(claims: &Claims) -> String {
    let mut text = format!("repository {}", claims.text("repositoryUuid").unwrap_or_else(|| "unknown".to_owned()));
    for (label, claim) in [("branch", "branchName"), ("deployment", "deploymentEnvironmentUuid")] {
        if let Some(value) = claims.text(claim) {
            let _ = write!(text, ", {label} {value}");
        }
    }
    text
}

/// What the token says, a line a claim, for the person who compares it with a rule.
pub fn listing(claims: &Claims) -> String {
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
    let mut text = format!("aud: {}\n", claims.audiences().join(", "));
    for name in NAMES {
        let _ = writeln!(text, "{name}: {}", claims.text(name).unwrap_or_else(|| "(none)".to_owned()));
    }
    text
}

/// The part of a `kind: token` that would admit a step with these claims, narrowest rule first: what a person pastes
/// after comparing. UUIDs keep their braces, they are part of the value (teleport-join.md 7).
pub fn token_spec(claims: &Claims) -> String {
    let mut yaml = String::from("spec:\n  join_method: bitbucket\n  bitbucket:\n");
    let mut field = |indent: &str, key: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(yaml, "{indent}{key}: '{}'", value.replace('\'', "''"));
        }
    };
    field("    ", "identity_provider_url", claims.text("iss"));
    field("    ", "audience", claims.audiences().into_iter().next());
    let allow = yaml.len();
    let mut field = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            let lead = if yaml.len() == allow { "    allow:\n      - " } else { "        " };
            let _ = writeln!(yaml, "{lead}{key}: '{}'", value.replace('\'', "''"));
        }
    };
    field("workspace_uuid", claims.text("workspaceUuid"));
    field("repository_uuid", claims.text("repositoryUuid"));
    match claims.text("deploymentEnvironmentUuid") {
        Some(uuid) => field("deployment_environment_uuid", Some(uuid)),
        None => field("branch_name", claims.text("branchName")),
    }
    yaml
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64ct::{Base64UrlUnpadded, Encoding as _};

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", Base64UrlUnpadded::encode_string(claims.as_bytes()))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn detect_with(variables: &[(&str, &str)]) -> Detection {
        detect(&variables.iter().copied().collect(), at(1000))
    }

    #[test]
    fn three_answers() {
        assert!(matches!(detect_with(&[]), Detection::NotHere));
        assert!(matches!(detect_with(&[("BITBUCKET_BUILD_NUMBER", "7")]), Detection::Unusable(Error::Missing)));
        assert!(matches!(detect_with(&[(VARIABLE, "nope")]), Detection::Unusable(Error::NotAJwt { .. })));
        let expired = jwt(r#"{"exp":1000}"#);
        assert!(matches!(detect_with(&[(VARIABLE, &expired)]), Detection::Unusable(Error::Expired { .. })));
        let good = jwt(r#"{"exp":1001}"#);
        assert!(matches!(detect_with(&[(VARIABLE, &good)]), Detection::Here(_)));
    }

    #[test]
    fn a_token_without_expiry_is_the_clusters_business() {
        assert!(matches!(detect_with(&[(VARIABLE, &jwt("{}"))]), Detection::Here(_)));
    }

    #[test]
    fn the_rule_is_as_narrow_as_the_step() {
        let claims = |json: &str| IdToken::parse(&jwt(json)).unwrap().claims().clone();
        let all = r#"{"iss":"https://idp","aud":["ari:x"],"workspaceUuid":"{w}","repositoryUuid":"{r}",
                      "branchName":"it's","deploymentEnvironmentUuid":"{d}"}"#;
        expect_test::expect![[r"
            spec:
              join_method: bitbucket
              bitbucket:
                identity_provider_url: 'https://idp'
                audience: 'ari:x'
                allow:
                  - workspace_uuid: '{w}'
                    repository_uuid: '{r}'
                    deployment_environment_uuid: '{d}'
        "]]
        .assert_eq(&token_spec(&claims(all)));
        let branch = token_spec(&claims(r#"{"repositoryUuid":"{r}","branchName":"it's"}"#));
        assert!(branch.ends_with("allow:\n      - repository_uuid: '{r}'\n        branch_name: 'it''s'\n"), "{branch}");
    }

    #[test]
    fn only_a_repository_known_to_be_public_has_a_public_log() {
        let env = |value: &str| Environment::from_iter([("BITBUCKET_REPO_IS_PRIVATE", value)]);
        assert!(log_is_public(&env("false")));
        assert!(!log_is_public(&env("true")) && !log_is_public(&Environment::default()));
    }
}
