//! GitLab CI: a job that names an ID token below `id_tokens:` has it in that variable.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::{Claims, OtherSource, Platform, ProviderField, Recipe, Scope, Source, Texts, TokenSource, Warning};
use crate::environment::Environment;
use crate::values;
use crate::yaml::scalar;

const VARIABLE: &str = "TBOT_GITLAB_JWT";
const PROJECT: (&str, &str) = ("project_path", "project_path");
const ENVIRONMENT: &str = "environment";

pub(super) const PLATFORM: Platform = Platform {
    name: "GitLab CI",
    method: "gitlab",
    is_here: |env| env.get("GITLAB_CI").is_some(),
    source: Source::Variable(VARIABLE),
    other_source: Some(OtherSource {
        section: "gitlab",
        key: "token_env_var_name",
        command: None,
        is_parameter: true,
        source: |name| values::variable(name).map(TokenSource::Variable),
    }),
    texts: Texts {
        get_a_token: "In GitLab CI: add `id_tokens: TBOT_GITLAB_JWT: aud: <cluster>` to the job.",
        no_token: "The job names no ID token of that name below `id_tokens:`.",
        enable: "Add the ID token to the job. Its audience is the name of the cluster:\n\
                 id_tokens:\n  TBOT_GITLAB_JWT:\n    aud: example.teleport.sh",
        not_a_jwt: "Do not set the variable; `id_tokens:` in the job is enough.",
        issued: "GitLab issues it at the start of the job, and it lives as long as the job may take.",
        values: "the path of the project, and the job's branch or tag and environment",
        file: ".gitlab-ci.yml",
        ..Texts::GENERAL
    },
    claims: &[
        "iss",
        "sub",
        "project_path",
        "namespace_path",
        ENVIRONMENT,
        "ref",
        "ref_type",
        "ref_protected",
        "pipeline_source",
        "user_login",
    ],
    derived_claims: &[("domain", domain)],
    summary: &[
        ("project", "CI_PROJECT_PATH", "project_path"),
        ("ref", "CI_COMMIT_REF_NAME", "ref"),
        (ENVIRONMENT, "CI_ENVIRONMENT_NAME", ENVIRONMENT),
    ],
    required_claims: &["iss", "project_path", "ref"],
    provider_fields: &[("domain", ProviderField::Claim("domain"))],
    scopes: &[
        Scope {
            name: ENVIRONMENT,
            claim: ENVIRONMENT,
            fields: &[PROJECT, (ENVIRONMENT, ENVIRONMENT)],
            named_by: &["CI_PROJECT_NAMESPACE", "CI_PROJECT_NAME", "CI_ENVIRONMENT_NAME"],
            comment: "\
# This project's jobs with this environment. Who may deploy there is set in GitLab, if the environment is protected.",
            lacking: "the job has no environment",
            cause: "The job does not say `environment:`.",
            remedy: "Add `environment:` to the job, or leave SCOPE (--scope) out.",
            ..Scope::GENERAL
        },
        Scope {
            name: "ref",
            claim: "ref",
            fields: &[PROJECT, ("ref", "ref"), ("ref_type", "ref_type")],
            named_by: &["CI_PROJECT_NAMESPACE", "CI_PROJECT_NAME"],
            comment: "\
# This project's jobs on this branch or tag; another one needs another rule below `allow`. A job with `environment:` can
# have a rule for that alone: run inspect in it.",
            warning: Warning::IfNarrowerExists("every job on the ref, not only those of the environment"),
            lacking: "the job's ID token names no ref",
            cause: NOT_OF_GITLAB,
            ..Scope::GENERAL
        },
        Scope {
            name: "project",
            claim: "project_path",
            fields: &[PROJECT],
            named_by: &["CI_PROJECT_NAMESPACE", "CI_PROJECT_NAME"],
            comment: "\
# EVERY job of this project: everyone who can push to any branch of it can join.",
            warning: Warning::Always("every branch of the project: any contributor's job can join"),
            lacking: "the job's ID token names no project",
            cause: NOT_OF_GITLAB,
            ..Scope::GENERAL
        },
    ],
    widest_scope: Scope {
        name: "group",
        claim: "namespace_path",
        fields: &[("namespace_path", "namespace_path")],
        named_by: &["CI_PROJECT_NAMESPACE"],
        comment: "\
# EVERY job of EVERY project of the group: everyone who can push to any of them can join.",
        warning: Warning::Always("every project of the group: any contributor's job in one of them can join"),
        lacking: "the job's ID token names no group",
        cause: NOT_OF_GITLAB,
        ..Scope::GENERAL
    },
    log_is_public: |env| env.get("CI_PROJECT_VISIBILITY") == Some("public"),
    recipe,
    ..Platform::GENERAL
};

const NOT_OF_GITLAB: &str = "The ID token is not one of GitLab CI.";

/// The host of a GitLab of its own.
fn domain(claims: &Claims) -> Option<String> {
    let host = claims.literal("iss")?.strip_prefix("https://")?;
    (host != "gitlab.com").then(|| host.to_owned())
}

fn recipe(_: &Environment, Recipe { proxy, token, command, cluster, .. }: &Recipe<'_>) -> String {
    format!(
        "\
deploy:
  image: an image that has ssh
  id_tokens:
    {VARIABLE}:
      aud: {}
  script:
    - teleport-pipe join --proxy-server={} --token={}
    - {}
",
        scalar::quoted(cluster),
        crate::shell::word(proxy),
        crate::shell::word(token),
        scalar::quoted(command),
    )
}
