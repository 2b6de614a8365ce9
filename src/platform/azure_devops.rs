//! Azure DevOps: an endpoint of the organization issues ID tokens to jobs that pass their access token on.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::endpoint::Endpoint;
use super::{Claims, Platform, ProviderField, Recipe, Scope, Source, Texts, Warning};
use crate::environment::Environment;
use crate::yaml::scalar;

const PROJECT: (&str, &str) = ("project_name", "project_name");
const PIPELINE: (&str, &str) = ("pipeline_name", "pipeline_name");

pub(super) const PLATFORM: Platform = Platform {
    name: "Azure DevOps",
    method: "azure_devops",
    since: [17, 5, 0],
    is_here: |env| env.get("TF_BUILD").is_some(),
    source: Source::Endpoint(Endpoint {
        variables: &["SYSTEM_OIDCREQUESTURI", "SYSTEM_ACCESSTOKEN"],
        url: |values| format!("{}?api-version=7.1", values[0]),
        bearer: Some(1),
        header: Some(("content-type", "application/json")),
        is_post: true,
        member: Some("oidcToken"),
        ..Endpoint::GENERAL
    }),
    texts: Texts {
        get_a_token: "In Azure DevOps: pass `SYSTEM_ACCESSTOKEN: $(System.AccessToken)` on to the step.",
        no_token: "The step does not pass the job's access token on.",
        enable: "Pass it on in the `env:` of the step:\nenv:\n  SYSTEM_ACCESSTOKEN: $(System.AccessToken)",
        issued: "Azure DevOps issues one whenever it is asked, which lives for some minutes.",
        values: "in the address of the project, and in the name of the pipeline",
        carried_out: "To download the files, publish that directory with `PublishPipelineArtifact`.",
        file: "azure-pipelines.yml",
        ..Texts::GENERAL
    },
    claims: &["iss", "sub", "org_id", "prj_id", "def_id", "rpo_uri", "rpo_ref", "project_name", "pipeline_name"],
    derived_claims: &[("project_name", project_name), ("pipeline_name", pipeline_name)],
    summary: &[
        ("project", "SYSTEM_TEAMPROJECT", "project_name"),
        ("pipeline", "BUILD_DEFINITIONNAME", "pipeline_name"),
    ],
    required_claims: &["iss", "sub", "org_id"],
    default_audience: "api://AzureADTokenExchange",
    provider_fields: &[("organization_id", ProviderField::Claim("org_id"))],
    scopes: &[
        Scope {
            name: "ref",
            claim: "rpo_ref",
            fields: &[PROJECT, PIPELINE, ("repository_uri", "rpo_uri"), ("repository_ref", "rpo_ref")],
            named_by: &["SYSTEM_TEAMPROJECT", "BUILD_DEFINITIONNAME"],
            comment: "\
# This pipeline's runs for this branch of its repository; another branch needs another rule below `allow`.",
            lacking: "the job's ID token names no ref",
            cause: NOT_OF_AZURE,
            ..Scope::GENERAL
        },
        Scope {
            name: "pipeline",
            claim: "pipeline_name",
            fields: &[PROJECT, PIPELINE],
            named_by: &["SYSTEM_TEAMPROJECT", "BUILD_DEFINITIONNAME"],
            comment: "\
# EVERY run of this pipeline: everyone who can push to any branch of its repository can join.",
            warning: Warning::Always("every branch of the pipeline's repository: any contributor's run can join"),
            lacking: "the job's ID token names no pipeline",
            cause: NOT_OF_AZURE,
            ..Scope::GENERAL
        },
    ],
    widest_scope: Scope {
        name: "project",
        claim: "project_name",
        fields: &[PROJECT],
        named_by: &["SYSTEM_TEAMPROJECT"],
        comment: "\
# EVERY run of EVERY pipeline of the project: everyone who can push to any of its repositories can join.",
        warning: Warning::Always("every pipeline of the project: any contributor's run of one of them can join"),
        lacking: "the job's ID token names no project",
        cause: NOT_OF_AZURE,
        ..Scope::GENERAL
    },
    recipe,
    ..Platform::GENERAL
};

const NOT_OF_AZURE: &str = "The ID token is not one of Azure DevOps.";

/// The subject is `p://<organization>/<project>/<pipeline>`, and the cluster compares its parts.
fn part_of_subject(claims: &Claims, part: usize) -> Option<String> {
    let parts: Vec<_> = claims.literal("sub")?.strip_prefix("p://")?.split('/').collect();
    let [_, _, _] = parts.as_slice() else { return None };
    Some(parts[part].to_owned())
}

fn project_name(claims: &Claims) -> Option<String> {
    part_of_subject(claims, 1)
}

fn pipeline_name(claims: &Claims) -> Option<String> {
    part_of_subject(claims, 2)
}

fn recipe(_: &Environment, Recipe { proxy, token, command, .. }: &Recipe<'_>) -> String {
    format!(
        "\
steps:
  - script: teleport-pipe join --proxy-server={} --token={}
    env:
      SYSTEM_ACCESSTOKEN: $(System.AccessToken)
  - script: {}
",
        crate::shell::word(proxy),
        crate::shell::word(token),
        scalar::quoted(command),
    )
}
