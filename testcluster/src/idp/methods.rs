//! The join methods whose proof is an ID token, one row each (docs/protocol.md, "ID token checks", "Join token" and
//! "Other CIs").

use serde_json::{Value, json};

/// What a server demands of the ID tokens of a join method.
#[derive(Debug)]
pub(crate) struct Method {
    /// `join_method` of the join token and of the join service's messages.
    pub name: &'static str,
    /// The issuer, unless the join token names another one.
    pub issuer: &'static str,
    /// The audience, unless the join token names another one; `None` means the cluster's name.
    pub audience: Option<&'static str>,
    /// Whether `azp`, if present, has to be the audience.
    pub checks_azp: bool,
    /// What the server writes in front of an error of the verification.
    pub context: Option<&'static str>,
    /// The server's error if no allow rule matches.
    pub mismatch: &'static str,
    /// The fields of an allow rule.
    pub fields: &'static [Field],
    /// The claims of an ordinary job, without `iss`, `aud`, `iat` and `exp`.
    pub claims: fn() -> Value,
}

/// A field of an allow rule, the claim that it is compared with, and how.
pub(crate) type Field = (&'static str, &'static str, fn(wanted: &str, claim: &Value) -> bool);

const MISMATCH: &str = "id token claims did not match any allow rules";

/// UUID of the workspace. The braces are part of every UUID of Bitbucket.
pub const WORKSPACE_UUID: &str = "{8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4}";
/// UUID of the repository.
pub const REPOSITORY_UUID: &str = "{384f00e0-2c5b-4b0e-a0b3-5d7e91f3c6aa}";
/// UUID of the deployment environment of steps that have one.
pub const ENVIRONMENT_UUID: &str = "{7b1c9e52-8d34-4f6a-b1c7-0e5d2f8a4b93}";
pub(crate) const PIPELINE_UUID: &str = "{84a8ea4b-1d2e-4c3f-9a5b-6c7d8e9f0a1b}";
pub(crate) const STEP_UUID: &str = "{858c583a-4e5f-4a6b-8c7d-9e0f1a2b3c4d}";
pub(crate) const WORKSPACE: &str = "acme";
pub(crate) const REPOSITORY: &str = "infrastructure";
pub(crate) const BRANCH: &str = "main";

pub(crate) const BITBUCKET: Method = Method {
    name: "bitbucket",
    issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
    // The UUID of the workspace without its braces.
    audience: Some("ari:cloud:bitbucket::workspace/8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4"),
    checks_azp: true,
    context: None,
    mismatch: MISMATCH,
    fields: &[
        ("workspace_uuid", "workspaceUuid", exact),
        ("repository_uuid", "repositoryUuid", exact),
        ("deployment_environment_uuid", "deploymentEnvironmentUuid", exact),
        ("branch_name", "branchName", exact),
    ],
    claims: || {
        json!({
            "sub": format!("{REPOSITORY_UUID}:{STEP_UUID}"),
            "workspaceUuid": WORKSPACE_UUID,
            "repositoryUuid": REPOSITORY_UUID,
            "pipelineUuid": PIPELINE_UUID,
            "stepUuid": STEP_UUID,
            "branchName": BRANCH,
        })
    },
};

/// GitLab writes booleans as text, so that a rule's boolean is compared like any other text.
const GITLAB: Method = Method {
    name: "gitlab",
    issuer: "https://gitlab.com",
    audience: None,
    checks_azp: true,
    context: Some("validating with oidc"),
    mismatch: MISMATCH,
    fields: &[
        ("sub", "sub", glob),
        ("ref", "ref", glob),
        ("namespace_path", "namespace_path", glob),
        ("project_path", "project_path", glob),
        ("ref_type", "ref_type", exact),
        ("pipeline_source", "pipeline_source", exact),
        ("environment", "environment", exact),
        ("user_login", "user_login", exact),
        ("user_id", "user_id", exact),
        ("user_email", "user_email", exact),
        ("ci_config_sha", "ci_config_sha", exact),
        ("ci_config_ref_uri", "ci_config_ref_uri", exact),
        ("deployment_tier", "deployment_tier", exact),
        ("project_visibility", "project_visibility", exact),
        ("ref_protected", "ref_protected", exact),
        ("environment_protected", "environment_protected", exact),
    ],
    claims: || {
        json!({
            "sub": "project_path:acme/infrastructure:ref_type:branch:ref:main",
            "namespace_path": "acme",
            "project_path": "acme/infrastructure",
            "project_visibility": "private",
            "ref": "main",
            "ref_type": "branch",
            "ref_protected": "true",
            "pipeline_source": "push",
            "runner_id": 1,
            "user_id": "1",
            "user_login": "alice",
            "user_email": "alice@example.com",
            "ci_config_sha": "7f6b1a0c5d2e4f3a9b8c7d6e5f4a3b2c1d0e9f8a",
            "ci_config_ref_uri": "gitlab.com/acme/infrastructure//.gitlab-ci.yml@refs/heads/main",
        })
    },
};

/// The row of a join method.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    [&BITBUCKET, &GITLAB].into_iter().find(|method| method.name == name)
}

/// Case counts, and there are no patterns.
fn exact(wanted: &str, claim: &Value) -> bool {
    claim.as_str() == Some(wanted)
}

/// `*` stands for any text and `?` for any character.
fn glob(pattern: &str, claim: &Value) -> bool {
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            (['*', rest @ ..], []) => matches(rest, text),
            (['*', rest @ ..], [_, later @ ..]) => matches(rest, text) || matches(pattern, later),
            ([wanted, rest @ ..], [found, later @ ..]) => (*wanted == '?' || wanted == found) && matches(rest, later),
            ([_, ..], []) => false,
        }
    }
    let pattern: Vec<char> = pattern.chars().collect();
    claim.as_str().is_some_and(|text| matches(&pattern, &text.chars().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("acme/*", "acme/infrastructure", true),
            ("acme/*", "acme/a/b", true),
            ("*", "", true),
            ("v?.*", "v1.2", true),
            ("acme/*", "other/acme/x", false),
            ("main", "main2", false),
            ("ma?n", "man", false),
            ("a*b*c", "a-b-b-c", true),
        ] {
            assert_eq!(glob(pattern, &text.into()), expected, "{pattern} {text}");
        }
        assert!(!glob("*", &Value::Null));
    }
}
