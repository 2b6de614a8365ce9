//! CI systems and clouds whose ID tokens can join a cluster. Each is one `const` of data in one file; what is done with
//! the data is done here, in [`source`], [`id_token`] and [`rule`], for all of them alike.

mod azure_devops;
pub(crate) mod bitbucket;
mod circleci;
pub(crate) mod command;
pub(crate) mod endpoint;
mod env0;
mod gcp;
mod generic_oidc;
mod github;
mod gitlab;
pub(crate) mod id_token;
mod kubernetes;
pub(crate) mod rule;
pub(crate) mod source;
mod spacelift;
mod terraform_cloud;

use std::fmt::Write as _;
use std::path::Path;

pub(crate) use self::id_token::{Claims, Error, IdToken};
pub(crate) use self::source::{Found, OtherSource, Source, TokenSource};
use crate::choice::{either, meant};
use crate::environment::Environment;
use crate::error::Failure;
use crate::guard::{LeakCheck, RunningStep};
use crate::invalid::Invalid;
use crate::text::sanitize;
use crate::values::{Privacy, Ttl, looks_like_an_id_token};

/// Every platform.
pub(crate) const ALL: [&Platform; 11] = [
    &bitbucket::PLATFORM,
    &github::PLATFORM,
    &gitlab::PLATFORM,
    &circleci::PLATFORM,
    &azure_devops::PLATFORM,
    &spacelift::PLATFORM,
    &terraform_cloud::PLATFORM,
    &env0::PLATFORM,
    &kubernetes::PLATFORM,
    &gcp::PLATFORM,
    &generic_oidc::PLATFORM,
];

/// A CI system, or something else whose jobs have ID tokens.
pub(crate) struct Platform {
    /// As its users call it.
    pub(crate) name: &'static str,
    /// The join method of its ID tokens: `join_method` of a join token.
    pub(crate) method: &'static str,
    /// The first version of Teleport that knows the join method.
    pub(crate) since: [u32; 3],
    pub(crate) is_here: fn(&Environment) -> bool,
    /// Jobs of CI systems run on it, too: if one of those is found, that one is meant.
    pub(crate) runs_others: bool,
    pub(crate) source: Source,
    /// What names another place of the ID token.
    pub(crate) other_source: Option<OtherSource>,
    pub(crate) texts: Texts,
    /// Claims in the order in which a person compares them with a rule. The audience is shown before them.
    pub(crate) claims: &'static [&'static str],
    /// Claims that the ID token does not have under these names, made from those that it has, for texts and rules.
    pub(crate) derived_claims: &'static [(&'static str, Derive)],
    /// What the log calls the step: labels, variables with the names that people know, and the claims that say whether there
    /// is such a thing. The first is always named.
    pub(crate) summary: &'static [(&'static str, &'static str, &'static str)],
    /// Claims that every ID token of the platform has.
    pub(crate) required_claims: &'static [&'static str],
    /// How the audience begins that an ID token has by default.
    pub(crate) default_audience: &'static str,
    /// Fields of the join token that say whose ID tokens are accepted. A field `a.b` is `b` in the section `a`.
    pub(crate) provider_fields: &'static [(&'static str, ProviderField)],
    /// Fields of a rule that are lists.
    pub(crate) list_fields: &'static [&'static str],
    /// Whether the join token names claims and not fields of the method.
    pub(crate) has_conditions: bool,
    /// The narrowest first, without the widest.
    pub(crate) scopes: &'static [Scope],
    pub(crate) widest_scope: Scope,
    pub(crate) log_is_public: fn(&Environment) -> bool,
    /// Fails unless the step sees the directory, and no other step does.
    pub(crate) expect_in_step: fn(&Environment, &Path) -> Result<(), Failure>,
    /// Refuses what would hand the credentials to others than the step, before the network is touched. Calls the function
    /// with each warning.
    pub(crate) preflight: Preflight,
    /// The step to write after `inspect`, as the platform's own file has it.
    pub(crate) recipe: fn(&Environment, &Recipe<'_>) -> String,
}

/// Makes a claim of others.
type Derive = fn(&Claims) -> Option<String>;

type Preflight = fn(&Environment, &Path, Ttl, LeakCheck, &mut dyn FnMut(&str)) -> Result<RunningStep, Failure>;

impl Platform {
    /// What most platforms have in common. A platform replaces what differs.
    const GENERAL: Self = Self {
        name: "",
        method: "",
        since: [17, 0, 0],
        is_here: |_| false,
        runs_others: false,
        source: Source::Variable(""),
        other_source: None,
        texts: Texts::GENERAL,
        claims: &[],
        derived_claims: &[],
        summary: &[],
        required_claims: &["iss", "sub"],
        default_audience: "",
        provider_fields: &[],
        list_fields: &[],
        has_conditions: false,
        scopes: &[],
        widest_scope: Scope::GENERAL,
        log_is_public: |_| false,
        expect_in_step: |_, _| Ok(()),
        preflight: |_, _, _, _, _| Ok(RunningStep::elsewhere()),
        recipe: |_, _| String::new(),
    };
}

/// The platform's own words for what went wrong, and for what to do.
pub(crate) struct Texts {
    /// What runs: "step", "job".
    pub(crate) unit: &'static str,
    /// How to get an ID token where none is found.
    pub(crate) get_a_token: &'static str,
    /// Why a step of the platform has no ID token.
    pub(crate) no_token: &'static str,
    /// What to add to the step.
    pub(crate) enable: &'static str,
    /// What to do if the ID token is not a JWT.
    pub(crate) not_a_jwt: &'static str,
    /// What to do if the signature of the ID token is wrong.
    pub(crate) changed: &'static str,
    /// Why the cluster refuses claims.
    pub(crate) mismatch: &'static str,
    /// When the platform issues ID tokens.
    pub(crate) issued: &'static str,
    /// Where a person finds the values that `inspect` does not show in a public log.
    pub(crate) values: &'static str,
    /// What `inspect` says of values that the platform hides in its log, in lines for a comment.
    pub(crate) masked: &'static str,
    /// How a directory gets out of the step, in lines for a comment.
    pub(crate) carried_out: &'static str,
    /// The warning if everyone would see that directory.
    pub(crate) carried_out_in_public: &'static str,
    /// The file that holds the step.
    pub(crate) file: &'static str,
    /// What a person has to add to the join token that `inspect` prints, in lines that begin with `# `; or empty.
    pub(crate) to_complete: &'static str,
    /// The join token that Teleport's guide names in the step, and the one that it creates.
    pub(crate) guides_tokens: Option<(&'static str, &'static str)>,
}

impl Texts {
    const GENERAL: Self = Self {
        unit: "job",
        get_a_token: "",
        no_token: "",
        enable: "",
        not_a_jwt: "Do not set it by hand, and pass it on unchanged, in one piece.",
        changed: "Pass the ID token on unchanged, in one piece.",
        mismatch: "No rule under `allow:` of the join token fits this job; values must be equal, letter by letter.",
        issued: "ID tokens live for a short time.",
        values: "those of the claims of the ID token",
        masked: "",
        carried_out: "To download the files, keep that directory as an artifact of the job.",
        carried_out_in_public: "everyone can see the artifacts of this job: the files show whom the cluster lets in",
        file: "",
        to_complete: "",
        guides_tokens: None,
    };
}

/// What a field of the join token holds.
#[derive(Clone, Copy)]
pub(crate) enum ProviderField {
    /// The claim `iss`.
    Issuer,
    /// The claim `aud`.
    Audience,
    /// This claim, if there is one.
    Claim(&'static str),
    /// This text.
    Text(&'static str),
}

/// Which steps a join token admits.
pub(crate) struct Scope {
    /// As in `SCOPE`.
    pub(crate) name: &'static str,
    /// The claim that a step of this scope has.
    pub(crate) claim: &'static str,
    /// Fields of the rule, and the claims that the cluster compares them with.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// Variables that tell steps of this scope apart, or claims: `inspect` names the role, the bot and the token after them.
    pub(crate) named_by: &'static [&'static str],
    /// The comment above the join token, in lines that begin with `# `.
    pub(crate) comment: &'static str,
    pub(crate) warning: Warning,
    /// What the step lacks if it has no such claim; completes "SCOPE is x, but ...".
    pub(crate) lacking: &'static str,
    /// Why the step lacks it.
    pub(crate) cause: &'static str,
    pub(crate) remedy: &'static str,
}

impl Scope {
    const GENERAL: Self = Self {
        name: "",
        claim: "",
        fields: &[],
        named_by: &[],
        comment: "",
        warning: Warning::Never,
        lacking: "",
        cause: "",
        remedy: "Leave SCOPE (--scope) out.",
    };
}

/// When `inspect` warns of a scope, and of what; completes "the join token admits ...".
#[derive(Clone, Copy)]
pub(crate) enum Warning {
    Never,
    IfNarrowerExists(&'static str),
    Always(&'static str),
}

/// What the step to write consists of.
pub(crate) struct Recipe<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) proxy: &'a str,
    /// The name of the cluster.
    pub(crate) cluster: &'a str,
    pub(crate) token: &'a str,
    /// The line after the pipe.
    pub(crate) command: &'a str,
}

/// All ID tokens in the environment, which have the form of one and need not be valid, and all that ID tokens can be had
/// for.
pub(crate) fn secrets(env: &Environment) -> impl Iterator<Item = &str> {
    let id_tokens = env.names().filter_map(|name| env.get(name)).filter(|text| looks_like_an_id_token(text));
    id_tokens.chain(ALL.into_iter().filter_map(|platform| platform.source.secret(env)))
}

impl Platform {
    /// Whether this is the platform, as far as its variables say.
    fn is_found(&self, env: &Environment) -> bool {
        (self.is_here)(env) || self.source.is_in(env)
    }

    /// The step in a few words, for the log.
    pub(crate) fn summary(&self, claims: &Claims, env: &Environment) -> String {
        let mut parts = Vec::new();
        for (label, variable, claim) in self.summary {
            match claims.text(claim) {
                Some(value) => parts.push(format!("{label} {}", env.get(variable).map_or(value, sanitize))),
                None if parts.is_empty() => parts.push(format!("{label} unknown")),
                None => {}
            }
        }
        parts.join(", ")
    }

    /// The claims, one per line, for a person who compares them with a rule.
    pub(crate) fn listing(&self, claims: &Claims) -> String {
        let none = || "(none)".to_owned();
        let audiences: Vec<_> = claims.audiences().into_iter().map(sanitize).collect();
        let audiences = if audiences.is_empty() { none() } else { audiences.join(", ") };
        let mut text = format!("aud: {audiences}\n");
        for name in self.claims {
            let _ = writeln!(text, "{name}: {}", claims.text(name).unwrap_or_else(none));
        }
        text
    }

    /// The first version of Teleport that knows the join method, as people write it.
    pub(crate) fn since(&self) -> String {
        self.since.map(|number| number.to_string()).join(".")
    }

    /// What proves to the cluster that the step may join.
    pub(crate) fn proof(&self) -> String {
        format!("an ID token of {}", self.name)
    }

    fn all_scopes(&'static self) -> impl Iterator<Item = &'static Scope> {
        self.scopes.iter().chain([&self.widest_scope])
    }

    /// The scope of this name.
    pub(crate) fn scope(&'static self, name: &str) -> Result<&'static Scope, Invalid> {
        self.all_scopes().find(|scope| scope.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<_> = self.all_scopes().map(|scope| scope.name).collect();
            let remedy = format!("{}Write {}; without it the narrowest is taken.", meant(name, &names), either(&names));
            Invalid::new("is not a scope of a join token", remedy)
        })
    }

    /// The narrowest scope that these claims have.
    pub(crate) fn narrowest_scope(&'static self, claims: &Claims) -> &'static Scope {
        self.all_scopes().find(|scope| claims.literal(scope.claim).is_some()).unwrap_or(&self.widest_scope)
    }
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every platform that this may be.
pub(crate) fn all_found(env: &Environment) -> impl Iterator<Item = &'static Platform> {
    ALL.into_iter().filter(|platform| platform.is_found(env))
}

/// Refuses what would hand the credentials to others than the step: the preflight of every platform that this may be.
pub(crate) fn preflight(
    env: &Environment,
    directory: &Path,
    ttl: Ttl,
    leak_check: LeakCheck,
    warn: &mut dyn FnMut(&str),
) -> Result<Option<RunningStep>, Failure> {
    let mut step = None;
    for platform in all_found(env) {
        let found = (platform.preflight)(env, directory, ttl, leak_check, warn)?;
        // The one that checks something says more.
        if step.is_none() || !found.is_elsewhere() {
            step = Some(found);
        }
    }
    Ok(step)
}

/// The platform that this is.
///
/// # Errors
/// It is none, or it may be several.
pub(crate) fn detect(env: &Environment) -> Result<&'static Platform, Error> {
    let (machines, systems): (Vec<_>, Vec<_>) = all_found(env).partition(|platform| platform.runs_others);
    match if systems.is_empty() { machines } else { systems }.as_slice() {
        [] => Err(Error::NoCi),
        [platform] => Ok(platform),
        several => Err(Error::Several { platforms: several.to_vec() }),
    }
}

/// The ID token of this platform, or else of the one that this is; or how to get it.
pub(crate) fn find(
    platform: Option<&'static Platform>,
    source: Option<&TokenSource>,
    env: &Environment,
) -> Result<Found, Error> {
    let platform = platform.map_or_else(|| detect(env), Ok)?;
    platform.find(source, env)
}

/// Whether this runs in a CI system, as far as its variables say.
pub(crate) fn is_ci(env: &Environment) -> bool {
    let is_found = |platform: &Platform| !platform.runs_others && platform.is_found(env);
    env.get("CI").is_some() || ALL.into_iter().any(is_found)
}

/// Returns `Public` if everyone can read the log, unless the person asks for debug information.
pub(crate) fn privacy(env: &Environment, debug: bool) -> Privacy {
    let is_public = ALL.into_iter().any(|platform| (platform.log_is_public)(env));
    if is_public && !debug { Privacy::Public } else { Privacy::Private }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    pub(crate) use super::bitbucket::tests::PUBLIC_LOG;
    use super::*;

    #[test]
    fn every_platform_has_its_texts() {
        for platform in ALL {
            let Texts {
                unit, get_a_token, no_token, enable, not_a_jwt, changed, mismatch, issued, values, file, ..
            } = &platform.texts;
            for text in [unit, get_a_token, no_token, enable, not_a_jwt, changed, mismatch, issued, values, file] {
                assert!(!text.is_empty(), "{platform:?}");
            }
            assert!(platform.all_scopes().all(|scope| scope.comment.starts_with("# ") && !scope.lacking.is_empty()));
        }
        let methods: BTreeSet<_> = ALL.iter().map(|platform| platform.method).collect();
        assert_eq!(methods.len(), ALL.len());
    }

    /// A person compares the listing of claims with the rule.
    #[test]
    fn claims_of_rules_are_listed() {
        for platform in ALL {
            let derived = platform.derived_claims.iter().map(|(name, _)| *name);
            let listed: BTreeSet<_> = platform.claims.iter().copied().chain(derived).collect();
            for scope in platform.all_scopes() {
                assert!(scope.fields.iter().all(|(_, claim)| listed.contains(claim)), "{platform:?} {}", scope.name);
                assert!(listed.contains(scope.claim), "{platform:?} {}", scope.name);
            }
        }
    }

    #[test]
    fn wider_scopes_have_fewer_fields() {
        for platform in ALL {
            let counts: Vec<_> = platform.all_scopes().map(|scope| scope.fields.len()).collect();
            assert!(counts.last() == counts.iter().min() && counts.iter().all(|count| *count > 0), "{counts:?}");
        }
    }

    fn found(variables: &[(&str, &str)]) -> Result<&'static str, String> {
        let platform = detect(&variables.iter().copied().collect()).map(|platform| platform.name);
        platform.map_err(|error| error.to_string())
    }

    #[test]
    fn platforms_differ_by_their_variables() {
        assert_eq!(found(&[("GITLAB_CI", "true")]), Ok("GitLab CI"));
        assert_eq!(found(&[("CIRCLE_OIDC_TOKEN", "x")]), Ok("CircleCI"));
        assert_eq!(found(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]), Ok("Kubernetes"));
        assert_eq!(found(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("GITLAB_CI", "true")]), Ok("GitLab CI"));
        let two = found(&[("GITLAB_CI", "true"), ("GITHUB_ACTIONS", "true")]);
        assert_eq!(two, Err("this may be GitHub Actions and GitLab CI".to_owned()));
        assert!(found(&[("CI", "true")]).is_err());
    }

    #[test]
    fn what_an_id_token_can_be_had_for_is_a_secret() {
        let env = Environment::from_iter([
            ("SYSTEM_ACCESSTOKEN", "a"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "b"),
            ("MY_TOKEN", "eyJ.eyJ.c"),
            ("OTHER", "d"),
        ]);
        let mut secrets: Vec<_> = secrets(&env).collect();
        secrets.sort_unstable();
        assert_eq!(secrets, ["a", "b", "eyJ.eyJ.c"]);
    }
}
