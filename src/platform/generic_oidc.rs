//! Any other provider of ID tokens. Its jobs have no variable that tells them from others, so that a person names the
//! join method and the variable.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::{OtherSource, Platform, ProviderField, Recipe, Scope, Source, Texts, TokenSource};
use crate::environment::Environment;
use crate::values;

pub(super) const PLATFORM: Platform = Platform {
    name: "OpenID Connect",
    method: "generic_oidc",
    since: [18, 11, 0],
    source: Source::Named,
    other_source: Some(OtherSource {
        section: "generic_oidc",
        key: "env",
        command: Some(("command", "timeout")),
        is_parameter: false,
        source: |name| values::variable(name).map(TokenSource::Variable),
    }),
    texts: Texts {
        get_a_token: "From another provider of ID tokens: set JOIN_METHOD: 'generic_oidc', and ID_TOKEN_VARIABLE to the name of the \
                      variable.",
        no_token: "Nothing names the variable that holds it, or that variable is empty.",
        enable: "Name the variable that holds the ID token:\n\
                 JOIN_METHOD: 'generic_oidc'\nID_TOKEN_VARIABLE: 'MY_ID_TOKEN'\n\
                 or, in a tbot.yaml:\nonboarding:\n  join_method: generic_oidc\n  generic_oidc: {env: MY_ID_TOKEN}",
        not_a_jwt: "Let it hold the ID token itself, unchanged: three parts with a dot between them.",
        mismatch: "Claims of this job are not what the join token says under `must_match_fields:` or `allow_any:`.",
        file: "the script of the job",
        to_complete: "\
# Only the subject is compared. Add conditions for other claims that tell the job from others.\n",
        ..Texts::GENERAL
    },
    claims: &["iss", "sub"],
    summary: &[("subject", "", "sub")],
    provider_fields: &[("issuer", ProviderField::Issuer), ("audience", ProviderField::Audience)],
    has_conditions: true,
    widest_scope: Scope {
        name: "subject",
        claim: "sub",
        fields: &[("sub", "sub")],
        comment: "\
# Every job with this subject.",
        lacking: "the ID token has no subject",
        cause: "The provider leaves it out.",
        ..Scope::GENERAL
    },
    recipe,
    ..Platform::GENERAL
};

fn recipe(_: &Environment, Recipe { proxy, token, command, .. }: &Recipe<'_>) -> String {
    format!(
        "teleport-pipe join --join-method=generic_oidc --id-token-variable=MY_ID_TOKEN --proxy-server={} --token={}\n{command}\n",
        crate::shell::word(proxy),
        crate::shell::word(token),
    )
}
