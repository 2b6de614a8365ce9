//! Bitbucket Pipelines: the step's ID token is in its environment if the step says `oidc: true`.
//!
//! Facts: docs/protocol.md, "Pipe variables" and "Bitbucket ID tokens"; what the cluster demands of the token:
//! docs/protocol.md, "ID token checks" and "Join token".

use std::fmt::Write as _;
use std::path::Path;

use super::{Platform, ProviderField, Recipe, Scope, Source, Texts, Warning};
use crate::environment::Environment;
use crate::error::Failure;
use crate::guard::{self, LeakCheck, RunningStep};
use crate::values::DEFAULT_DESTINATION;
use crate::values::Ttl;
use crate::yaml::scalar;

const VARIABLE: &str = "BITBUCKET_STEP_OIDC_TOKEN";
const WORKSPACE: &str = "BITBUCKET_WORKSPACE";
const REPOSITORY: &str = "BITBUCKET_REPO_SLUG";
const ENVIRONMENT: &str = "BITBUCKET_DEPLOYMENT_ENVIRONMENT";

const WORKSPACE_FIELD: (&str, &str) = ("workspace_uuid", "workspaceUuid");
const REPOSITORY_FIELD: (&str, &str) = ("repository_uuid", "repositoryUuid");

const DEPLOYMENT: &str = "deployment";

pub(super) const PLATFORM: Platform = Platform {
    name: "Bitbucket Pipelines",
    method: "bitbucket",
    since: [17, 0, 2],
    is_here: |env| env.get("BITBUCKET_BUILD_NUMBER").is_some(),
    source: Source::Variable(VARIABLE),
    texts: Texts {
        unit: "step",
        get_a_token: "In Bitbucket Pipelines: add `oidc: true` to the step.",
        no_token: "The step does not say `oidc: true`.",
        enable: "Add `oidc: true` to the step in bitbucket-pipelines.yml:\n\
                 - step:\n    oidc: true\n    script: ...",
        not_a_jwt: "Do not set the variable; `oidc: true` in the step is enough.",
        changed: "Do not set BITBUCKET_STEP_OIDC_TOKEN by hand, and pass it on unchanged, in one piece.",
        mismatch: "No rule under `allow:` of the join token fits this step; values must be equal, braces included.",
        issued: "Bitbucket issues one token to a step, at its start.",
        values: "in Bitbucket, in the repository's settings, under OpenID Connect, and a branch is that of the pipeline",
        masked: "\
If you see `$TOKEN` or another `$NAME` below in place of a value, that variable is secured, and Bitbucket hid its value
in this log. Write the value there before you create anything, or make the variable not secured and run inspect again:
names of tokens, logins and labels are not secrets.",
        carried_out: "\
The commands after the pipe see that directory. To download it, name it under `artifacts:` of the step.",
        carried_out_in_public: "this repository is public, and so are its artifacts: the files show whom the cluster lets in",
        file: "bitbucket-pipelines.yml",
        guides_tokens: Some(("bot-bitbucket", "example-bot")),
        ..Texts::GENERAL
    },
    claims: &[
        "iss",
        "sub",
        "workspaceUuid",
        "repositoryUuid",
        "pipelineUuid",
        "stepUuid",
        "branchName",
        "deploymentEnvironmentUuid",
    ],
    summary: &[
        ("repository", "BITBUCKET_REPO_FULL_NAME", "repositoryUuid"),
        ("branch", "BITBUCKET_BRANCH", "branchName"),
        (DEPLOYMENT, ENVIRONMENT, "deploymentEnvironmentUuid"),
    ],
    required_claims: &["iss", "workspaceUuid", "repositoryUuid"],
    default_audience: "ari:cloud:bitbucket::workspace/",
    provider_fields: &[("identity_provider_url", ProviderField::Issuer), ("audience", ProviderField::Audience)],
    scopes: &[
        Scope {
            name: DEPLOYMENT,
            claim: "deploymentEnvironmentUuid",
            // Which branches may deploy there is a setting of the environment.
            fields: &[WORKSPACE_FIELD, REPOSITORY_FIELD, ("deployment_environment_uuid", "deploymentEnvironmentUuid")],
            named_by: &[WORKSPACE, REPOSITORY, ENVIRONMENT],
            comment: "\
# This repository's steps with this deployment environment. Which branches may deploy there is set in Bitbucket.",
            warning: Warning::Never,
            lacking: "the step has no deployment environment",
            cause: "The step does not say `deployment:`.",
            remedy: "Add `deployment:` to the step in bitbucket-pipelines.yml, or leave SCOPE (--scope) out:\n\
                     - step:\n    oidc: true\n    deployment: production\n    script: ...",
        },
        Scope {
            name: "branch",
            claim: "branchName",
            fields: &[WORKSPACE_FIELD, REPOSITORY_FIELD, ("branch_name", "branchName")],
            named_by: &[WORKSPACE, REPOSITORY],
            comment: "\
# This repository's steps on this branch; another branch needs another rule below `allow`. A step with `deployment:`
# can have a rule for that alone: run inspect in it.",
            warning: Warning::IfNarrowerExists(
                "every step on the branch, not only those of the deployment environment",
            ),
            lacking: "the step's ID token names no branch",
            cause: "The pipeline runs for a tag.",
            remedy: "Run it for a branch; or add `deployment:` to the step, and leave SCOPE (--scope) out.",
        },
        Scope {
            name: "repository",
            claim: "repositoryUuid",
            fields: &[WORKSPACE_FIELD, REPOSITORY_FIELD],
            named_by: &[WORKSPACE, REPOSITORY],
            comment: "\
# EVERY step of this repository: everyone who can push to any branch of it can join. A step with `deployment:` can have
# a rule for that alone: run inspect in it.",
            warning: Warning::Always("every branch of the repository: any contributor's pipeline can join"),
            lacking: "the step's ID token names no repository",
            cause: NOT_OF_BITBUCKET,
            remedy: "Leave SCOPE (--scope) out.",
        },
    ],
    widest_scope: Scope {
        name: "workspace",
        claim: "workspaceUuid",
        fields: &[WORKSPACE_FIELD],
        named_by: &[WORKSPACE],
        comment: "\
# EVERY step of EVERY repository of the workspace: everyone who can push to any of them can join.",
        warning: Warning::Always(
            "every repository of the workspace: any contributor's pipeline in one of them can join",
        ),
        lacking: "the step's ID token names no workspace",
        cause: NOT_OF_BITBUCKET,
        remedy: "Leave SCOPE (--scope) out.",
    },
    log_is_public: |env| env.get("BITBUCKET_REPO_IS_PRIVATE") == Some("false"),
    expect_in_step: |env, destination| Ok(guard::expect_in_step(env, destination)?),
    preflight,
    recipe,
    ..Platform::GENERAL
};

const NOT_OF_BITBUCKET: &str = "The ID token is not one of Bitbucket Pipelines.";

fn preflight(
    env: &Environment,
    destination: &Path,
    ttl: Ttl,
    leak_check: LeakCheck,
    warn: &mut dyn FnMut(&str),
) -> Result<RunningStep, Failure> {
    guard::expect_in_step(env, destination)?;
    // Without an ID token the run has ended before.
    let has_token = true;
    Ok(guard::check(env, has_token, destination, ttl, leak_check, warn)?)
}

fn recipe(env: &Environment, Recipe { scope, proxy, token, command, .. }: &Recipe<'_>) -> String {
    let mut yaml = String::from("- step:\n    oidc: true\n");
    if let Some(environment) = env.get(ENVIRONMENT).filter(|_| scope.name == DEPLOYMENT) {
        let _ = writeln!(yaml, "    deployment: {}", scalar::quoted(environment));
    }
    let _ = write!(
        yaml,
        "    script:
      - pipe: ORGANISATION/teleport-pipe:{}
        variables:
          PROXY_SERVER: {}
          TOKEN: {}
      - {}
    after-script:
      - rm -rf {}
",
        env!("CARGO_PKG_VERSION"),
        scalar::quoted(proxy),
        scalar::quoted(token),
        scalar::quoted(command),
        DEFAULT_DESTINATION,
    );
    yaml
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime};

    use base64ct::{Base64UrlUnpadded, Encoding as _};

    use super::*;
    use crate::platform::id_token::tests::claims;
    use crate::platform::rule::Rule;
    use crate::platform::{Error, Found, privacy};
    use crate::values::Privacy;

    /// A variable that says that everyone can read the log.
    pub(crate) const PUBLIC_LOG: (&str, &str) = ("BITBUCKET_REPO_IS_PRIVATE", "false");

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", Base64UrlUnpadded::encode_string(claims.as_bytes()))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn find_with(variables: &[(&str, &str)]) -> Result<Found, Error> {
        crate::platform::ALL[0].find(None, &variables.iter().copied().collect())
    }

    #[test]
    fn a_step_has_no_token_an_unusable_one_or_one() {
        assert!(matches!(find_with(&[("BITBUCKET_BUILD_NUMBER", "7")]), Err(Error::Missing { .. })));
        assert!(matches!(find_with(&[(VARIABLE, "nope")]), Err(Error::NotAJwt { .. })));
        assert!(matches!(find_with(&[(VARIABLE, &jwt("{}"))]), Ok(Found::IdToken(_))));
    }

    #[test]
    fn a_token_without_expiry_is_left_to_the_cluster() {
        let expired = |claims| {
            let found = find_with(&[(VARIABLE, &jwt(claims))]).unwrap();
            found.id_token().unwrap().expired(at(1000)).is_some()
        };
        assert!(expired(r#"{"exp":1000}"#));
        assert!(!expired(r#"{"exp":1001}"#) && !expired("{}"));
    }

    #[test]
    fn only_a_repository_known_to_be_public_has_a_public_log() {
        let of = |value: &str| privacy(&Environment::from_iter([("BITBUCKET_REPO_IS_PRIVATE", value)]), false);
        assert_eq!((of("false"), of("true"), of("")), (Privacy::Public, Privacy::Private, Privacy::Private));
    }

    const ALL_CLAIMS: &str = r#"{"iss":"https://idp","aud":["ari:x"],"workspaceUuid":"{w}","repositoryUuid":"{r}",
                                 "branchName":"it's","deploymentEnvironmentUuid":"{d}"}"#;

    fn rule(json: &str, scope: Option<&str>) -> Option<Rule> {
        let platform = crate::platform::ALL[0];
        let scope = scope.map(|name| platform.scope(name).unwrap());
        Rule::new(platform, &claims(json), scope).ok()
    }

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
        .assert_eq(&format!("spec:\n{}", rule(ALL_CLAIMS, None).unwrap().yaml()));
        let branch = rule(r#"{"repositoryUuid":"{r}","branchName":"it's"}"#, None).unwrap().yaml();
        assert!(branch.ends_with("allow:\n      - repository_uuid: '{r}'\n        branch_name: 'it''s'\n"), "{branch}");
    }

    #[test]
    fn wider_scopes_have_fewer_fields() {
        let fields = |scope| {
            let yaml = rule(ALL_CLAIMS, Some(scope)).unwrap().yaml();
            let allow = yaml.split_once("allow:\n").unwrap().1;
            allow
                .lines()
                .map(|line| line.trim_start_matches([' ', '-']).split(':').next().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(fields("Branch"), "workspace_uuid repository_uuid branch_name");
        assert_eq!(fields("repository"), "workspace_uuid repository_uuid");
        assert_eq!(fields("workspace"), "workspace_uuid");
    }

    #[test]
    fn a_scope_that_the_step_does_not_have() {
        const TAG: &str = r#"{"workspaceUuid":"{w}","repositoryUuid":"{r}"}"#;
        assert_eq!(rule(TAG, None).unwrap().scope.name, "repository");
        assert!(rule(TAG, Some("deployment")).is_none() && rule(TAG, Some("branch")).is_none());
        assert_eq!(rule("{}", None).unwrap().scope.name, "workspace");
    }

    #[test]
    fn placeholders_hide_every_value() {
        let yaml = rule(ALL_CLAIMS, None).unwrap().without_values().yaml();
        for value in ["idp", "ari:x", "{w}", "{r}", "{d}"] {
            assert!(!yaml.contains(value), "{yaml}");
        }
        assert!(yaml.contains("workspace_uuid: 'WORKSPACE_UUID'"), "{yaml}");
    }
}
