//! Google Cloud: the metadata server of a virtual machine issues ID tokens for the machine's service account.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::endpoint::Endpoint;
use super::{Platform, Recipe, Scope, Source, Texts, Warning};
use crate::environment::Environment;

const PROJECT: &str = "/google/compute_engine/project_id";

pub(super) const PLATFORM: Platform = Platform {
    name: "Google Cloud",
    method: "gcp",
    runs_others: true,
    source: Source::Endpoint(Endpoint {
        variables: &["GCE_METADATA_HOST"],
        otherwise: Some("metadata.google.internal"),
        url: |values| {
            let path = "computeMetadata/v1/instance/service-accounts/default/identity";
            format!("http://{}/{path}?audience=teleport.cluster.local&format=full&licenses=FALSE", values[0])
        },
        header: Some(("metadata-flavor", "Google")),
        accept: "*/*",
        is_direct: true,
        ..Endpoint::GENERAL
    }),
    texts: Texts {
        unit: "machine",
        get_a_token: "On a machine of Google Cloud: set JOIN_METHOD: 'gcp' (--join-method=gcp).",
        no_token: "This is not a machine of Google Cloud, or it has no service account.",
        enable: "Attach a service account to the machine.",
        issued: "The metadata server issues one whenever it is asked, for an hour.",
        values: "the machine's project and service account",
        carried_out: "The files stay on the machine.",
        file: "the machine's script",
        ..Texts::GENERAL
    },
    claims: &["iss", "sub", "email", PROJECT, "/google/compute_engine/zone", "/google/compute_engine/instance_name"],
    summary: &[("project", "", PROJECT), ("service account", "", "email")],
    required_claims: &["iss", "email"],
    default_audience: "teleport.cluster.local",
    list_fields: &["project_ids", "locations", "service_accounts"],
    scopes: &[Scope {
        name: "service-account",
        claim: "email",
        fields: &[("project_ids", PROJECT), ("service_accounts", "email")],
        named_by: &[PROJECT],
        comment: "\
# Machines of this project with this service account.",
        lacking: "the machine has no service account",
        cause: NOT_OF_GOOGLE,
        ..Scope::GENERAL
    }],
    widest_scope: Scope {
        name: "project",
        claim: PROJECT,
        fields: &[("project_ids", PROJECT)],
        named_by: &[PROJECT],
        comment: "\
# EVERY machine of this project.",
        warning: Warning::Always("every machine of the project"),
        lacking: "the ID token names no project",
        cause: NOT_OF_GOOGLE,
        ..Scope::GENERAL
    },
    recipe,
    ..Platform::GENERAL
};

const NOT_OF_GOOGLE: &str = "The ID token is not one of a machine of Google Cloud.";

fn recipe(_: &Environment, Recipe { proxy, token, command, .. }: &Recipe<'_>) -> String {
    format!(
        "teleport-pipe join --join-method=gcp --proxy-server={} --token={}\n{command}\n",
        crate::shell::word(proxy),
        crate::shell::word(token),
    )
}
