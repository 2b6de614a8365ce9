//! CircleCI: each job that uses a context has an ID token in a variable.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::{Claims, Platform, ProviderField, Recipe, Scope, Source, Texts, Warning};
use crate::environment::Environment;
use crate::yaml::scalar;

const PROJECT: &str = "oidc.circleci.com/project-id";
/// A list. A rule names one of them; that of the first is printed.
const CONTEXTS: &str = "oidc.circleci.com/context-ids";

pub(super) const PLATFORM: Platform = Platform {
    name: "CircleCI",
    method: "circleci",
    is_here: |env| env.get("CIRCLECI").is_some(),
    source: Source::Variable("CIRCLE_OIDC_TOKEN"),
    texts: Texts {
        get_a_token: "In CircleCI: let the job use a context.",
        no_token: "The job uses no context.",
        enable: "Name a context for the job, in the workflow:\nworkflows:\n  deploy:\n    jobs:\n      - deploy:\n          context: deploy",
        issued: "CircleCI issues it at the start of the job.",
        values: "in CircleCI, in the settings of the organization, of the project and under Contexts",
        file: ".circleci/config.yml",
        ..Texts::GENERAL
    },
    claims: &["iss", "sub", PROJECT, CONTEXTS],
    derived_claims: &[("organization_id", organization)],
    summary: &[("repository", "CIRCLE_PROJECT_REPONAME", PROJECT), ("context", "", CONTEXTS)],
    required_claims: &["iss", PROJECT],
    provider_fields: &[("organization_id", ProviderField::Claim("organization_id"))],
    scopes: &[
        Scope {
            name: "context",
            claim: CONTEXTS,
            fields: &[("project_id", PROJECT), ("context_id", CONTEXTS)],
            named_by: &["CIRCLE_PROJECT_USERNAME", "CIRCLE_PROJECT_REPONAME"],
            comment: "\
# This project's jobs that use this context. Who may use it is set in CircleCI. If the job uses several contexts, this is
# the first.",
            lacking: "the job uses no context",
            cause: "The job names no `context:`.",
            remedy: "Name a context for the job in the workflow, or leave SCOPE (--scope) out.",
            ..Scope::GENERAL
        },
    ],
    widest_scope: Scope {
        name: "project",
        claim: PROJECT,
        fields: &[("project_id", PROJECT)],
        named_by: &["CIRCLE_PROJECT_USERNAME", "CIRCLE_PROJECT_REPONAME"],
        comment: "\
# EVERY job of this project: everyone who can push to any branch of it can join. A job with a context can have a rule for
# that alone: run inspect in it.",
        warning: Warning::Always("every branch of the project: any contributor's job can join"),
        lacking: "the job's ID token names no project",
        cause: "The ID token is not one of CircleCI.",
        ..Scope::GENERAL
    },
    recipe,
    ..Platform::GENERAL
};

/// In the issuer, which is `https://oidc.circleci.com/org/<organization>`.
fn organization(claims: &Claims) -> Option<String> {
    Some(claims.literal("iss")?.rsplit_once("/org/")?.1.to_owned())
}

fn recipe(_: &Environment, Recipe { proxy, token, command, .. }: &Recipe<'_>) -> String {
    format!(
        "\
steps:
  - run: teleport-pipe join --proxy-server={} --token={}
  - run: {}
",
        crate::shell::word(proxy),
        crate::shell::word(token),
        scalar::quoted(command),
    )
}
