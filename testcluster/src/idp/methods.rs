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

/// The audience is not the cluster's name, but the same for all clusters.
const TELEPORT_AUDIENCE: &str = "teleport.cluster.local";

/// What most methods have in common.
const GENERAL: Method = Method {
    name: "",
    issuer: "",
    audience: None,
    checks_azp: true,
    context: None,
    mismatch: MISMATCH,
    fields: &[],
    claims: || json!({}),
};

const GITHUB: Method = Method {
    name: "github",
    issuer: "https://token.actions.githubusercontent.com",
    audience: Some(TELEPORT_AUDIENCE),
    context: Some("validating with oidc"),
    fields: &[
        ("sub", "sub", exact),
        ("repository", "repository", exact),
        ("repository_owner", "repository_owner", exact),
        ("workflow", "workflow", exact),
        ("environment", "environment", exact),
        ("actor", "actor", exact),
        ("ref", "ref", exact),
        ("ref_type", "ref_type", exact),
    ],
    claims: || {
        json!({
            "sub": "repo:acme/infrastructure:environment:production",
            "repository": "acme/infrastructure",
            "repository_owner": "acme",
            "repository_visibility": "private",
            "workflow": "deploy",
            "environment": "production",
            "actor": "alice",
            "ref": "refs/heads/main",
            "ref_type": "branch",
        })
    },
    ..GENERAL
};

const CIRCLECI: Method = Method {
    name: "circleci",
    issuer: "https://oidc.circleci.com/org/8c4c1b52-0d6d-4b06-9a7b-4a1d0a1f0c11",
    audience: Some("8c4c1b52-0d6d-4b06-9a7b-4a1d0a1f0c11"),
    fields: &[
        ("project_id", "oidc.circleci.com/project-id", exact),
        ("context_id", "oidc.circleci.com/context-ids", one_of),
    ],
    claims: || {
        json!({
            "sub": "org/8c4c1b52-0d6d-4b06-9a7b-4a1d0a1f0c11/project/2d5e3c8e-3f6f-4a6c-8b0a-6f9a4e0c7b12/user/alice",
            "oidc.circleci.com/project-id": "2d5e3c8e-3f6f-4a6c-8b0a-6f9a4e0c7b12",
            "oidc.circleci.com/context-ids": ["6b8f2c1a-7e7d-4d3b-9f4f-1c2d3e4f5a13"],
        })
    },
    ..GENERAL
};

const AZURE_DEVOPS: Method = Method {
    name: "azure_devops",
    issuer: "https://vstoken.dev.azure.com/0ca3ddd9-f0b0-4635-a98c-5866526961b6",
    audience: Some("api://AzureADTokenExchange"),
    context: Some("validating token"),
    mismatch: "id token claims failed to match any allow rules",
    fields: &[
        ("sub", "sub", exact),
        ("project_name", "sub", |wanted, sub| part_of_subject(sub, 1) == Some(wanted)),
        ("pipeline_name", "sub", |wanted, sub| part_of_subject(sub, 2) == Some(wanted)),
        ("project_id", "prj_id", exact),
        ("definition_id", "def_id", exact),
        ("repository_uri", "rpo_uri", exact),
        ("repository_version", "rpo_ver", exact),
        ("repository_ref", "rpo_ref", exact),
    ],
    claims: || {
        json!({
            "sub": "p://acme/infrastructure/deploy",
            "org_id": "0ca3ddd9-f0b0-4635-a98c-5866526961b6",
            "prj_id": "271ef6f7-5998-4b0a-86fb-4b54d9129990",
            "def_id": "1",
            "rpo_uri": "https://github.com/acme/infrastructure.git",
            "rpo_ver": "e6b9eb29a288b27a3a82cc19c48b9d94b80aff36",
            "rpo_ref": "refs/heads/main",
        })
    },
    ..GENERAL
};

/// `p://<organization>/<project>/<pipeline>`.
fn part_of_subject(sub: &Value, part: usize) -> Option<&str> {
    sub.as_str()?.strip_prefix("p://")?.split('/').nth(part)
}

const SPACELIFT: Method = Method {
    name: "spacelift",
    issuer: "https://acme.app.spacelift.io",
    audience: Some("acme.app.spacelift.io"),
    fields: &[
        ("space_id", "spaceId", exact),
        ("caller_id", "callerId", exact),
        ("caller_type", "callerType", exact),
        ("scope", "scope", exact),
    ],
    claims: || {
        json!({
            "sub": "space:root:stack:infrastructure:run_type:TRACKED:scope:write",
            "spaceId": "root",
            "callerType": "stack",
            "callerId": "infrastructure",
            "runType": "TRACKED",
            "scope": "write",
        })
    },
    ..GENERAL
};

const TERRAFORM_CLOUD: Method = Method {
    name: "terraform_cloud",
    issuer: "https://app.terraform.io",
    fields: &[
        ("organization_id", "terraform_organization_id", exact),
        ("organization_name", "terraform_organization_name", exact),
        ("project_id", "terraform_project_id", exact),
        ("project_name", "terraform_project_name", exact),
        ("workspace_id", "terraform_workspace_id", exact),
        ("workspace_name", "terraform_workspace_name", exact),
        ("run_phase", "terraform_run_phase", exact),
    ],
    claims: || {
        json!({
            "sub": "organization:acme:project:ops:workspace:infrastructure:run_phase:apply",
            "terraform_organization_id": "org-abcd1234",
            "terraform_organization_name": "acme",
            "terraform_project_id": "prj-abcd1234",
            "terraform_project_name": "ops",
            "terraform_workspace_id": "ws-abcd1234",
            "terraform_workspace_name": "infrastructure",
            "terraform_run_phase": "apply",
        })
    },
    ..GENERAL
};

const ENV0: Method = Method {
    name: "env0",
    issuer: "https://login.app.env0.com/",
    audience: Some("https://app.env0.com"),
    // It names the user of the organization, who is not the audience.
    checks_azp: false,
    fields: &[
        ("organization_id", "organizationId", exact),
        ("project_id", "projectId", exact),
        ("project_name", "projectName", exact),
        ("template_id", "templateId", exact),
        ("template_name", "templateName", exact),
        ("environment_id", "environmentId", exact),
        ("environment_name", "environmentName", exact),
        ("workspace_name", "workspaceName", exact),
        ("deployment_type", "deploymentType", exact),
        ("deployer_email", "deployerEmail", exact),
        ("env0_tag", "env0Tag", exact),
    ],
    claims: || {
        json!({
            "sub": "auth0|4711",
            "organizationId": "b8c0c5c2-2f8e-4f6f-9f0d-5b1d2c3e4f14",
            "projectId": "5b44fa6d-ecfd-40ab-8e69-14d6fe7c638c",
            "projectName": "ops",
            "templateId": "dc9808e2-44d3-48dd-b12a-31a08927ee6e",
            "templateName": "infrastructure",
            "environmentId": "9c3ca3cf-870d-4db4-9c60-5adf37faab45",
            "environmentName": "production",
            "workspaceName": "production-1",
            "deploymentType": "deploy",
            "deployerEmail": "alice@example.com",
            "env0Tag": "",
        })
    },
    ..GENERAL
};

/// With the keys of the cluster in the join token.
const KUBERNETES: Method = Method {
    name: "kubernetes",
    issuer: "https://kubernetes.default.svc.cluster.local",
    context: Some("reviewing kubernetes token with static_jwks"),
    mismatch: "kubernetes token did not match any allow rules",
    fields: &[("service_account", "sub", |wanted, sub| {
        sub.as_str().and_then(|sub| sub.strip_prefix("system:serviceaccount:")) == Some(wanted)
    })],
    claims: || {
        json!({
            "sub": "system:serviceaccount:ci:deploy",
            "kubernetes.io": {
                "namespace": "ci",
                "pod": {"name": "deploy-0"},
                "serviceaccount": {"name": "deploy"},
            },
        })
    },
    ..GENERAL
};

const GCP: Method = Method {
    name: "gcp",
    issuer: "https://accounts.google.com",
    audience: Some(TELEPORT_AUDIENCE),
    checks_azp: false,
    context: Some("validating token"),
    fields: &[
        ("project_ids", "google", |wanted, google| google["compute_engine"]["project_id"] == wanted),
        ("locations", "google", |wanted, google| {
            google["compute_engine"]["zone"]
                .as_str()
                .is_some_and(|zone| zone == wanted || zone.starts_with(&format!("{wanted}-")))
        }),
        ("service_accounts", "email", exact),
    ],
    claims: || {
        json!({
            "sub": "107517467455664443766",
            "azp": "107517467455664443766",
            "email": "deploy@acme-123456.iam.gserviceaccount.com",
            "google": {"compute_engine": {
                "project_id": "acme-123456",
                "zone": "us-west1-b",
                "instance_name": "builder",
            }},
        })
    },
    ..GENERAL
};

/// Any other provider. The join token names its issuer, its audience and the claims.
const GENERIC_OIDC: Method = Method {
    name: "generic_oidc",
    issuer: "https://oidc.example.com",
    audience: Some("teleport.example.com"),
    fields: &[("sub", "sub", exact)],
    claims: || json!({"sub": "job:acme/infrastructure"}),
    ..GENERAL
};

/// A one-time token: the name of the join token is its secret, and there is no ID token.
pub(crate) const TOKEN: Method = Method { name: "token", ..GENERAL };

const ALL: [&Method; 12] = [
    &BITBUCKET,
    &GITHUB,
    &GITLAB,
    &CIRCLECI,
    &AZURE_DEVOPS,
    &SPACELIFT,
    &TERRAFORM_CLOUD,
    &ENV0,
    &KUBERNETES,
    &GCP,
    &GENERIC_OIDC,
    &TOKEN,
];

/// The row of a join method.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    ALL.into_iter().find(|method| method.name == name)
}

/// The fields that a rule of this join method may have.
///
/// # Panics
/// There is no such method.
pub fn rule_fields(name: &str) -> impl Iterator<Item = &'static str> {
    find(name).expect("a join method").fields.iter().map(|(field, ..)| *field)
}

/// One item of a list.
fn one_of(wanted: &str, claim: &Value) -> bool {
    claim.as_array().is_some_and(|list| list.iter().any(|item| item.as_str() == Some(wanted)))
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
