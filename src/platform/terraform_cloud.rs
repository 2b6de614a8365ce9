//! HCP Terraform, which was Terraform Cloud, and Terraform Enterprise: a run of a workspace that asks for it has an ID token in
//! a variable.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::{Claims, OtherSource, Platform, ProviderField, Recipe, Scope, Source, Texts, TokenSource, Warning};
use crate::environment::Environment;
use crate::values;

const VARIABLE: &str = "TFC_WORKLOAD_IDENTITY_TOKEN";

const ORGANIZATION: (&str, &str) = ("organization_id", "terraform_organization_id");
const PROJECT: (&str, &str) = ("project_id", "terraform_project_id");
const WORKSPACE: (&str, &str) = ("workspace_id", "terraform_workspace_id");
const PHASE: &str = "terraform_run_phase";

pub(super) const PLATFORM: Platform = Platform {
    name: "HCP Terraform",
    method: "terraform_cloud",
    is_here: |env| env.get("TFC_RUN_ID").is_some(),
    source: Source::Variable(VARIABLE),
    other_source: Some(OtherSource {
        section: "terraform",
        key: "audience_tag",
        command: None,
        is_parameter: true,
        source: |tag| {
            values::variable(tag).map(|tag| TokenSource::Variable(format!("{VARIABLE}_{}", tag.to_ascii_uppercase())))
        },
    }),
    texts: Texts {
        unit: "run",
        get_a_token: "In HCP Terraform: set the variable TFC_WORKLOAD_IDENTITY_AUDIENCE of the workspace.",
        no_token: "The workspace has no audience for ID tokens.",
        enable: "Set an environment variable of the workspace, with the name of the cluster:\n\
                 TFC_WORKLOAD_IDENTITY_AUDIENCE = example.teleport.sh",
        issued: "HCP Terraform issues it at the start of each plan and apply.",
        values: "in HCP Terraform, in the settings of the workspace",
        file: "a script of the workspace",
        ..Texts::GENERAL
    },
    claims: &[
        "iss",
        "sub",
        "terraform_organization_id",
        "terraform_organization_name",
        "terraform_project_id",
        "terraform_project_name",
        "terraform_workspace_id",
        "terraform_workspace_name",
        PHASE,
    ],
    derived_claims: &[("hostname", hostname)],
    summary: &[
        ("workspace", "TFC_WORKSPACE_NAME", "terraform_workspace_name"),
        ("project", "TFC_PROJECT_NAME", "terraform_project_name"),
    ],
    required_claims: &["iss", "terraform_organization_id", "terraform_workspace_id"],
    provider_fields: &[("hostname", ProviderField::Claim("hostname")), ("audience", ProviderField::Audience)],
    scopes: &[
        Scope {
            name: "phase",
            claim: PHASE,
            fields: &[ORGANIZATION, PROJECT, WORKSPACE, ("run_phase", PHASE)],
            named_by: &["terraform_workspace_name"],
            comment: "\
# Runs of this workspace in this phase: everyone who can open a pull request starts plans, but applies need approval.",
            lacking: "the run's ID token names no phase",
            cause: NOT_OF_TERRAFORM,
            ..Scope::GENERAL
        },
        Scope {
            name: "workspace",
            claim: "terraform_workspace_id",
            fields: &[ORGANIZATION, PROJECT, WORKSPACE],
            named_by: &["terraform_workspace_name"],
            comment: "\
# EVERY run of this workspace, also plans of pull requests.",
            warning: Warning::Always("plans of the workspace, too: everyone who can open a pull request can join"),
            lacking: "the run's ID token names no workspace",
            cause: NOT_OF_TERRAFORM,
            ..Scope::GENERAL
        },
    ],
    widest_scope: Scope {
        name: "project",
        claim: "terraform_project_id",
        fields: &[ORGANIZATION, PROJECT],
        named_by: &["terraform_project_name"],
        comment: "\
# EVERY run of EVERY workspace of the project.",
        warning: Warning::Always("every workspace of the project: any contributor's run of one of them can join"),
        lacking: "the run's ID token names no project",
        cause: NOT_OF_TERRAFORM,
        ..Scope::GENERAL
    },
    recipe,
    ..Platform::GENERAL
};

const NOT_OF_TERRAFORM: &str = "The ID token is not one of HCP Terraform.";

/// The host of a Terraform Enterprise.
fn hostname(claims: &Claims) -> Option<String> {
    let host = claims.literal("iss")?.strip_prefix("https://")?;
    (host != "app.terraform.io").then(|| host.to_owned())
}

fn recipe(_: &Environment, Recipe { proxy, token, command, .. }: &Recipe<'_>) -> String {
    format!(
        "teleport-pipe join --proxy-server={} --token={}\n{command}\n",
        crate::shell::word(proxy),
        crate::shell::word(token),
    )
}
