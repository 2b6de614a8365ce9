//! Spacelift: every run has an ID token in a variable.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::{Claims, Platform, ProviderField, Recipe, Scope, Source, Texts, Warning};
use crate::environment::Environment;

const SPACE: (&str, &str) = ("space_id", "spaceId");
const CALLER_TYPE: (&str, &str) = ("caller_type", "callerType");
const CALLER: (&str, &str) = ("caller_id", "callerId");

pub(super) const PLATFORM: Platform = Platform {
    name: "Spacelift",
    method: "spacelift",
    source: Source::Variable("SPACELIFT_OIDC_TOKEN"),
    texts: Texts {
        unit: "run",
        get_a_token: "In Spacelift: every run of a paid plan has one.",
        no_token: "The account has no ID tokens, or a hook has unset the variable.",
        enable: "Pass SPACELIFT_OIDC_TOKEN on to teleport-pipe; Spacelift sets it in every run.",
        issued: "Spacelift issues it at the start of the run.",
        values: "in Spacelift, in the settings of the stack and of its space",
        file: "a `before_apply` hook of the stack",
        ..Texts::GENERAL
    },
    claims: &["iss", "sub", "spaceId", "callerType", "callerId", "runType", "scope"],
    derived_claims: &[("hostname", hostname)],
    summary: &[("stack", "", "callerId"), ("space", "", "spaceId")],
    required_claims: &["iss", "spaceId", "callerId"],
    provider_fields: &[("hostname", ProviderField::Claim("hostname"))],
    scopes: &[
        Scope {
            name: "scope",
            claim: "scope",
            fields: &[SPACE, CALLER_TYPE, CALLER, ("scope", "scope")],
            named_by: &["callerId"],
            comment: "\
# Runs of this stack or module that may do as much as this one: `read` is for proposed runs, `write` for tracked ones.",
            lacking: "the run's ID token has no scope",
            cause: NOT_OF_SPACELIFT,
            ..Scope::GENERAL
        },
        Scope {
            name: "caller",
            claim: "callerId",
            fields: &[SPACE, CALLER_TYPE, CALLER],
            named_by: &["callerId"],
            comment: "\
# EVERY run of this stack or module, also those that are only proposed.",
            warning: Warning::Always("proposed runs of the stack, too: everyone who can open a pull request can join"),
            lacking: "the run's ID token names no stack",
            cause: NOT_OF_SPACELIFT,
            ..Scope::GENERAL
        },
    ],
    widest_scope: Scope {
        name: "space",
        claim: "spaceId",
        fields: &[SPACE],
        named_by: &["spaceId"],
        comment: "\
# EVERY run of EVERY stack and module of the space.",
        warning: Warning::Always("every stack of the space: any contributor's run of one of them can join"),
        lacking: "the run's ID token names no space",
        cause: NOT_OF_SPACELIFT,
        ..Scope::GENERAL
    },
    recipe,
    ..Platform::GENERAL
};

const NOT_OF_SPACELIFT: &str = "The ID token is not one of Spacelift.";

/// The account, such as `example.app.spacelift.io`.
fn hostname(claims: &Claims) -> Option<String> {
    Some(claims.literal("iss")?.strip_prefix("https://")?.to_owned())
}

fn recipe(_: &Environment, Recipe { proxy, token, command, .. }: &Recipe<'_>) -> String {
    format!(
        "teleport-pipe join --proxy-server={} --token={}\n{command}\n",
        crate::shell::word(proxy),
        crate::shell::word(token),
    )
}
