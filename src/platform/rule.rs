//! The rule of a join token that admits a step, and how many other steps it admits (teleport-join.md 7).
//!
//! The cluster compares each value with its claim, letter by letter: UUIDs keep their braces.

use std::fmt::Write as _;

use crate::error::{Exit, Explain};
use crate::platform::Claims;
use crate::platform::Scope;
use crate::yaml::scalar;

/// What a join token has to say about ID tokens: whose they are, and which of them.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Whom it admits.
    pub(crate) scope: Scope,
    issuer: Option<String>,
    audience: Option<String>,
    allow: Vec<(&'static str, String)>,
}

/// The claim that a scope is about.
fn claim(scope: Scope) -> &'static str {
    match scope {
        Scope::Deployment => "deploymentEnvironmentUuid",
        Scope::Branch => "branchName",
        Scope::Repository => "repositoryUuid",
        Scope::Workspace => "workspaceUuid",
    }
}

/// The smallest scope that these claims have.
pub(crate) fn narrowest(claims: &Claims) -> Scope {
    let has = |scope: &Scope| claims.literal(claim(*scope)).is_some();
    [Scope::Deployment, Scope::Branch, Scope::Repository].into_iter().find(has).unwrap_or(Scope::Workspace)
}

impl Rule {
    /// The rule of this scope for a step with these claims.
    ///
    /// # Errors
    /// The step has nothing that the scope could be about.
    pub(crate) fn new(claims: &Claims, scope: Scope) -> Result<Self, NotThere> {
        match claims.literal(claim(scope)) {
            Some(_) => Ok(Self::of(claims, scope)),
            None => Err(NotThere { scope }),
        }
    }

    /// The rule that admits as few others as can be.
    pub(crate) fn narrowest(claims: &Claims) -> Self {
        Self::of(claims, narrowest(claims))
    }

    fn of(claims: &Claims, scope: Scope) -> Self {
        let owned = |text: &str| text.to_owned();
        let fields: &[(&'static str, Scope)] = match scope {
            // Which branches may deploy there is the environment's own setting.
            Scope::Deployment => &[WORKSPACE, REPOSITORY, ("deployment_environment_uuid", Scope::Deployment)],
            Scope::Branch => &[WORKSPACE, REPOSITORY, ("branch_name", Scope::Branch)],
            Scope::Repository => &[WORKSPACE, REPOSITORY],
            Scope::Workspace => &[WORKSPACE],
        };
        let allow = fields.iter().filter_map(|(field, of)| Some((*field, owned(claims.literal(claim(*of))?))));
        Self {
            scope,
            issuer: claims.literal("iss").map(owned),
            audience: audience(claims).map(owned),
            allow: allow.collect(),
        }
    }

    /// The same with placeholders for the values, for a log that everybody can read.
    #[must_use]
    pub(crate) fn without_values(self) -> Self {
        let placeholder = |name: &str| name.to_ascii_uppercase();
        Self {
            scope: self.scope,
            issuer: self.issuer.map(|_| placeholder("identity_provider_url")),
            audience: self.audience.map(|_| placeholder("audience")),
            allow: self.allow.into_iter().map(|(field, _)| (field, placeholder(field))).collect(),
        }
    }

    /// Its lines in the `spec` of a join token.
    pub(crate) fn yaml(&self) -> String {
        let mut yaml = String::from("  join_method: bitbucket\n  bitbucket:\n");
        for (field, value) in [("identity_provider_url", &self.issuer), ("audience", &self.audience)] {
            if let Some(value) = value {
                let _ = writeln!(yaml, "    {field}: {}", scalar::quoted(value));
            }
        }
        for (at, (field, value)) in self.allow.iter().enumerate() {
            let lead = if at == 0 { "    allow:\n      - " } else { "        " };
            let _ = writeln!(yaml, "{lead}{field}: {}", scalar::quoted(value));
        }
        yaml
    }
}

const WORKSPACE: (&str, Scope) = ("workspace_uuid", Scope::Workspace);
const REPOSITORY: (&str, Scope) = ("repository_uuid", Scope::Repository);

/// The audience to ask for. A token for several is accepted only with an authorized party among them, which then is the
/// one (teleport-join.md 4.1).
fn audience(claims: &Claims) -> Option<&str> {
    let audiences = claims.audiences();
    let party = claims.literal("azp").filter(|party| audiences.contains(party));
    party.or_else(|| audiences.first().copied())
}

/// Whether the cluster will refuse the token, since it is for several and says not for which.
pub(crate) fn is_for_too_many(claims: &Claims) -> bool {
    claims.audiences().len() > 1 && claims.literal("azp").is_none()
}

/// A scope that the step does not have.
#[derive(Debug, thiserror::Error)]
#[error("{}", match scope {
    Scope::Deployment => "SCOPE is deployment, but the step has no deployment environment",
    Scope::Branch => "SCOPE is branch, but the step's ID token names no branch",
    Scope::Repository => "SCOPE is repository, but the step's ID token names no repository",
    Scope::Workspace => "SCOPE is workspace, but the step's ID token names no workspace",
})]
pub(crate) struct NotThere {
    scope: Scope,
}

impl Explain for NotThere {
    fn likely_cause(&self) -> Option<String> {
        let cause = match self.scope {
            Scope::Deployment => "The step does not say `deployment:`.",
            Scope::Branch => "The pipeline runs for a tag.",
            Scope::Repository | Scope::Workspace => "The ID token is not one of Bitbucket Pipelines.",
        };
        Some(cause.to_owned())
    }

    fn what_to_do(&self) -> String {
        match self.scope {
            Scope::Deployment => {
                "Add `deployment:` to the step in bitbucket-pipelines.yml, or leave SCOPE (--scope) out:\n\
                 - step:\n    oidc: true\n    deployment: production\n    script: ..."
            }
            Scope::Branch => "Run it for a branch; or add `deployment:` to the step, and leave SCOPE (--scope) out.",
            Scope::Repository | Scope::Workspace => "Leave SCOPE (--scope) out.",
        }
        .to_owned()
    }

    fn exit(&self) -> Exit {
        Exit::BadInput
    }

    fn anchor(&self) -> &'static str {
        "the-step-does-not-have-that-scope"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::id_token::tests::claims;

    const ALL: &str = r#"{"iss":"https://idp","aud":["ari:x"],"workspaceUuid":"{w}","repositoryUuid":"{r}",
                          "branchName":"it's","deploymentEnvironmentUuid":"{d}"}"#;

    #[test]
    fn the_rule_is_as_narrow_as_the_step() {
        expect_test::expect![[r"
            spec:
              join_method: bitbucket
              bitbucket:
                identity_provider_url: 'https://idp'
                audience: 'ari:x'
                allow:
                  - workspace_uuid: '{w}'
                    repository_uuid: '{r}'
                    deployment_environment_uuid: '{d}'
        "]]
        .assert_eq(&format!("spec:\n{}", Rule::narrowest(&claims(ALL)).yaml()));
        let branch = Rule::narrowest(&claims(r#"{"repositoryUuid":"{r}","branchName":"it's"}"#)).yaml();
        assert!(branch.ends_with("allow:\n      - repository_uuid: '{r}'\n        branch_name: 'it''s'\n"), "{branch}");
    }

    #[test]
    fn wider_scopes_have_fewer_fields() {
        let fields = |scope| {
            let rule = Rule::new(&claims(ALL), scope).unwrap();
            rule.allow.iter().map(|(field, _)| *field).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(fields(Scope::Branch), "workspace_uuid repository_uuid branch_name");
        assert_eq!(fields(Scope::Repository), "workspace_uuid repository_uuid");
        assert_eq!(fields(Scope::Workspace), "workspace_uuid");
    }

    #[test]
    fn a_scope_that_is_not_there() {
        let tag = claims(r#"{"workspaceUuid":"{w}","repositoryUuid":"{r}"}"#);
        assert_eq!(narrowest(&tag), Scope::Repository);
        for scope in [Scope::Deployment, Scope::Branch] {
            assert!(Rule::new(&tag, scope).is_err());
        }
        assert_eq!(narrowest(&claims("{}")), Scope::Workspace);
    }

    #[test]
    fn one_audience_of_several() {
        let of = |json: &str| (Rule::narrowest(&claims(json)).audience, is_for_too_many(&claims(json)));
        assert_eq!(of(r#"{"aud":["a, b","c"]}"#), (Some("a, b".to_owned()), true));
        assert_eq!(of(r#"{"aud":["a","c"],"azp":"c"}"#), (Some("c".to_owned()), false));
        assert_eq!(of(r#"{"aud":"a","azp":"z"}"#), (Some("a".to_owned()), false));
        assert_eq!(of("{}"), (None, false));
    }

    #[test]
    fn placeholders_hide_every_value() {
        let yaml = Rule::narrowest(&claims(ALL)).without_values().yaml();
        for value in ["idp", "ari:x", "{w}", "{r}", "{d}"] {
            assert!(!yaml.contains(value), "{yaml}");
        }
        assert!(yaml.contains("workspace_uuid: 'WORKSPACE_UUID'"), "{yaml}");
    }
}
