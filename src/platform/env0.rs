//! env zero: a deployment has an ID token in a variable, if the organization allows it.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::{Platform, Recipe, Scope, Source, Texts, Warning};
use crate::environment::Environment;

const ORGANIZATION: (&str, &str) = ("organization_id", "organizationId");
const PROJECT: (&str, &str) = ("project_id", "projectId");
const ENVIRONMENT: (&str, &str) = ("environment_id", "environmentId");

pub(super) const PLATFORM: Platform = Platform {
    name: "env zero",
    method: "env0",
    since: [18, 4, 0],
    is_here: |env| env.get("ENV0_DEPLOYMENT_LOG_ID").is_some(),
    source: Source::Variable("ENV0_OIDC_TOKEN"),
    texts: Texts {
        unit: "deployment",
        get_a_token: "In env zero: enable OIDC in the policies of the organization.",
        no_token: "The organization does not enable ID tokens for deployments.",
        enable: "Enable OIDC in the policies of the organization.",
        issued: "env zero issues it at the start of the deployment, for 24 hours.",
        values: "in env zero, in the addresses of the organization, the project and the environment",
        file: "env0.yml",
        ..Texts::GENERAL
    },
    claims: &[
        "iss",
        "organizationId",
        "projectId",
        "projectName",
        "templateName",
        "environmentId",
        "environmentName",
        "workspaceName",
        "deploymentType",
        "deployerEmail",
        "env0Tag",
    ],
    summary: &[
        ("environment", "ENV0_ENVIRONMENT_NAME", "environmentName"),
        ("project", "ENV0_PROJECT_NAME", "projectName"),
    ],
    required_claims: &["iss", "organizationId", "projectId"],
    default_audience: "https://",
    scopes: &[
        Scope {
            name: "type",
            claim: "deploymentType",
            fields: &[ORGANIZATION, PROJECT, ENVIRONMENT, ("deployment_type", "deploymentType")],
            named_by: &["projectName", "environmentName"],
            comment: "\
# Deployments of this environment of this type: `deploy` needs an approval, if env zero is set up so, and `prPlan` none.",
            lacking: "the deployment's ID token names no type",
            cause: NOT_OF_ENV0,
            ..Scope::GENERAL
        },
        Scope {
            name: "environment",
            claim: "environmentId",
            fields: &[ORGANIZATION, PROJECT, ENVIRONMENT],
            named_by: &["projectName", "environmentName"],
            comment: "\
# EVERY deployment of this environment, also plans of pull requests.",
            warning: Warning::Always("plans of the environment, too: everyone who can open a pull request can join"),
            lacking: "the deployment's ID token names no environment",
            cause: NOT_OF_ENV0,
            ..Scope::GENERAL
        },
    ],
    widest_scope: Scope {
        name: "project",
        claim: "projectId",
        fields: &[ORGANIZATION, PROJECT],
        named_by: &["projectName"],
        comment: "\
# EVERY deployment of EVERY environment of the project.",
        warning: Warning::Always(
            "every environment of the project: any contributor's deployment of one of them can join",
        ),
        lacking: "the deployment's ID token names no project",
        cause: NOT_OF_ENV0,
        ..Scope::GENERAL
    },
    recipe,
    ..Platform::GENERAL
};

const NOT_OF_ENV0: &str = "The ID token is not one of env zero.";

fn recipe(_: &Environment, Recipe { proxy, token, command, .. }: &Recipe<'_>) -> String {
    format!(
        "\
version: 2
deploy:
  steps:
    terraformApply:
      after:
        - teleport-pipe join --proxy-server={} --token={}
        - {command}
",
        crate::shell::word(proxy),
        crate::shell::word(token),
    )
}
