//! GitHub Actions: an endpoint of the runner issues ID tokens to jobs that have the permission `id-token: write`.
//!
//! Facts: docs/protocol.md, "Other CIs".

use std::path::Path;

use serde_json::Value;

use super::endpoint::Endpoint;
use super::{Claims, Platform, ProviderField, Recipe, Scope, Source, Texts, Warning};
use crate::environment::Environment;
use crate::limits::EVENT_SIZE;
use crate::regular_file;
use crate::yaml::scalar;

const ISSUER: &str = "https://token.actions.githubusercontent.com";

const REPOSITORY: (&str, &str) = ("repository", "repository");
const ENVIRONMENT: &str = "environment";

pub(super) const PLATFORM: Platform = Platform {
    name: "GitHub Actions",
    method: "github",
    is_here: |env| env.get("GITHUB_ACTIONS") == Some("true"),
    source: Source::Endpoint(Endpoint {
        variables: &["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"],
        url: |values| format!("{}&audience=teleport.cluster.local", values[0]),
        bearer: Some(1),
        accept: "application/json; api-version=2.0",
        member: Some("value"),
        ..Endpoint::GENERAL
    }),
    texts: Texts {
        get_a_token: "In GitHub Actions: add `permissions: id-token: write` to the job.",
        no_token: "The job does not have the permission `id-token: write`; jobs of pull requests from forks cannot have it.",
        enable: "Add the permission to the job. Other permissions that it needs have to be listed, too:\n\
                 permissions:\n  id-token: write\n  contents: read",
        issued: "GitHub issues one whenever it is asked, which lives for some minutes.",
        values: "in the repository's address, its settings under Environments, and the ref of the run",
        carried_out: "To download the files, upload that directory with `actions/upload-artifact`.",
        carried_out_in_public: "everyone can see artifacts of this repository: the files show whom the cluster lets in",
        file: ".github/workflows/deploy.yml",
        ..Texts::GENERAL
    },
    claims: &["iss", "sub", "repository", "repository_owner", ENVIRONMENT, "ref", "ref_type", "workflow", "actor"],
    derived_claims: &[("enterprise_server_host", enterprise_server_host), ("enterprise_slug", enterprise_slug)],
    summary: &[
        ("repository", "GITHUB_REPOSITORY", "repository"),
        ("ref", "GITHUB_REF_NAME", "ref"),
        (ENVIRONMENT, "", ENVIRONMENT),
    ],
    required_claims: &["iss", "repository", "ref"],
    default_audience: "teleport.cluster.local",
    provider_fields: &[
        ("enterprise_server_host", ProviderField::Claim("enterprise_server_host")),
        ("enterprise_slug", ProviderField::Claim("enterprise_slug")),
    ],
    scopes: &[
        Scope {
            name: ENVIRONMENT,
            claim: ENVIRONMENT,
            fields: &[REPOSITORY, (ENVIRONMENT, ENVIRONMENT)],
            named_by: &["GITHUB_REPOSITORY", ENVIRONMENT],
            comment: "\
# This repository's jobs with this environment. Which branches may deploy there is set in GitHub.",
            lacking: "the job has no environment",
            cause: "The job does not say `environment:`.",
            remedy: "Add `environment:` to the job, or leave SCOPE (--scope) out.",
            ..Scope::GENERAL
        },
        Scope {
            name: "ref",
            claim: "ref",
            fields: &[REPOSITORY, ("ref", "ref")],
            named_by: &["GITHUB_REPOSITORY"],
            comment: "\
# This repository's jobs on this branch or tag; another one needs another rule below `allow`. A job with `environment:`
# can have a rule for that alone: run inspect in it.",
            warning: Warning::IfNarrowerExists("every job on the ref, not only those of the environment"),
            lacking: "the job's ID token names no ref",
            cause: NOT_OF_GITHUB,
            ..Scope::GENERAL
        },
        Scope {
            name: "repository",
            claim: "repository",
            fields: &[REPOSITORY],
            named_by: &["GITHUB_REPOSITORY"],
            comment: "\
# EVERY job of this repository: everyone who can push to any branch of it can join. A job with `environment:` can have
# a rule for that alone: run inspect in it.",
            warning: Warning::Always("every branch of the repository: any contributor's workflow can join"),
            lacking: "the job's ID token names no repository",
            cause: NOT_OF_GITHUB,
            ..Scope::GENERAL
        },
    ],
    widest_scope: Scope {
        name: "owner",
        claim: "repository_owner",
        fields: &[("repository_owner", "repository_owner")],
        named_by: &["GITHUB_REPOSITORY_OWNER"],
        comment: "\
# EVERY job of EVERY repository of the owner: everyone who can push to any of them can join.",
        warning: Warning::Always("every repository of the owner: any contributor's workflow in one of them can join"),
        lacking: "the job's ID token names no owner",
        cause: NOT_OF_GITHUB,
        ..Scope::GENERAL
    },
    log_is_public,
    recipe,
    ..Platform::GENERAL
};

const NOT_OF_GITHUB: &str = "The ID token is not one of GitHub Actions.";

/// The host of a GitHub Enterprise Server, whose issuer is `https://<host>/_services/token`.
fn enterprise_server_host(claims: &Claims) -> Option<String> {
    let host = claims.literal("iss")?.strip_prefix("https://")?.strip_suffix("/_services/token")?;
    Some(host.to_owned())
}

/// The enterprise in the issuer, if it is set up to be there.
fn enterprise_slug(claims: &Claims) -> Option<String> {
    let slug = claims.literal("iss")?.strip_prefix(ISSUER)?.strip_prefix('/')?;
    Some(slug.to_owned())
}

/// Logs of repositories on github.com are public unless the event that started the run says that the repository is private.
fn log_is_public(env: &Environment) -> bool {
    let is_private = || {
        let event = regular_file::read(Path::new(env.get("GITHUB_EVENT_PATH")?), EVENT_SIZE).ok()?;
        serde_json::from_slice::<Value>(&event).ok()?.pointer("/repository/private")?.as_bool()
    };
    let is_hosted = env.get("GITHUB_SERVER_URL").is_none_or(|server| server == "https://github.com");
    PLATFORM.is_found(env) && is_hosted && is_private() != Some(true)
}

fn recipe(_: &Environment, Recipe { proxy, token, command, .. }: &Recipe<'_>) -> String {
    format!(
        "\
permissions:
  id-token: write
  contents: read
steps:
  - uses: docker://ghcr.io/ORGANISATION/teleport-pipe:{}
    env:
      PROXY_SERVER: {}
      TOKEN: {}
  - run: {}
",
        env!("CARGO_PKG_VERSION"),
        scalar::quoted(proxy),
        scalar::quoted(token),
        scalar::quoted(command),
    )
}
