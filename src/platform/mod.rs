//! CI systems whose ID tokens can join a cluster. Each is one `const` of data in one file; what is done with the data is
//! done here, in [`id_token`] and in [`rule`], for all of them alike.

pub(crate) mod bitbucket;
pub(crate) mod id_token;
pub(crate) mod rule;

use std::fmt::Write as _;
use std::path::Path;

pub(crate) use self::id_token::{Claims, Error, IdToken};
use crate::choice::{either, meant};
use crate::environment::Environment;
use crate::error::Failure;
use crate::guard::{LeakCheck, RunningStep};
use crate::invalid::Invalid;
use crate::text::sanitize;
use crate::values::{Privacy, Ttl, looks_like_an_id_token};

/// Every platform.
pub(crate) const ALL: [&Platform; 1] = [&bitbucket::PLATFORM];

/// A CI system.
pub(crate) struct Platform {
    /// As its users call it.
    pub(crate) name: &'static str,
    /// The join method of its ID tokens: `join_method` of a join token.
    pub(crate) method: &'static str,
    /// The first version of Teleport that knows the join method.
    pub(crate) since: [u32; 3],
    pub(crate) is_here: fn(&Environment) -> bool,
    pub(crate) source: Source,
    pub(crate) texts: Texts,
    /// Claims in the order in which a person compares them with a rule. The audience is shown before them.
    pub(crate) claims: &'static [&'static str],
    /// What the log calls the step: labels, variables with the names that people know, and the claims that say whether there
    /// is such a thing. The first is always named.
    pub(crate) summary: &'static [(&'static str, &'static str, &'static str)],
    /// Claims that every ID token of the platform has.
    pub(crate) required_claims: &'static [&'static str],
    /// How the audience begins that an ID token has by default.
    pub(crate) default_audience: &'static str,
    /// Fields of the join token that say whose ID tokens are accepted.
    pub(crate) provider_fields: &'static [(&'static str, ProviderField)],
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

type Preflight = fn(&Environment, &Path, Ttl, LeakCheck, &mut dyn FnMut(&str)) -> Result<RunningStep, Failure>;

/// Where the ID token is.
pub(crate) enum Source {
    /// In this environment variable.
    Variable(&'static str),
}

/// The platform's own words for what went wrong, and for what to do.
pub(crate) struct Texts {
    /// Which variables are missing if this is not recognized as the platform.
    pub(crate) not_here: &'static str,
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
    /// The join token that Teleport's guide names in the step, and the one that it creates.
    pub(crate) guides_tokens: Option<(&'static str, &'static str)>,
}

/// What a field of the join token is compared with.
#[derive(Clone, Copy)]
pub(crate) enum ProviderField {
    /// The claim `iss`.
    Issuer,
    /// The claim `aud`.
    Audience,
}

/// Which steps a join token admits.
pub(crate) struct Scope {
    /// As in `SCOPE`.
    pub(crate) name: &'static str,
    /// The claim that a step of this scope has.
    pub(crate) claim: &'static str,
    /// Fields of the rule, and the claims that the cluster compares them with.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// Variables that tell steps of this scope apart: `inspect` names the role, the bot and the token after them.
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
    pub(crate) token: &'a str,
    /// The line after the pipe.
    pub(crate) command: &'a str,
}

/// All ID tokens in the environment. They need not be valid, but have the form of one.
pub(crate) fn id_tokens(env: &Environment) -> impl Iterator<Item = &str> {
    let tokens = ALL.into_iter().filter_map(|platform| {
        let Source::Variable(variable) = platform.source;
        env.get(variable)
    });
    tokens.filter(|text| looks_like_an_id_token(text))
}

impl Platform {
    /// The ID token, or why there is none that could be used; `None` if this is not the platform. The token may have
    /// expired: only the caller knows by which clock.
    pub(crate) fn detect(&'static self, env: &Environment) -> Option<Result<IdToken, Error>> {
        let Source::Variable(variable) = self.source;
        match env.get(variable) {
            Some(text) => Some(IdToken::parse(self, text).ok_or(Error::NotAJwt { platform: self, variable })),
            None => (self.is_here)(env).then_some(Err(Error::Missing { platform: self, variable })),
        }
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

/// The ID token of the platform that this is.
pub(crate) fn detect(env: &Environment) -> Result<IdToken, Error> {
    ALL.into_iter().find_map(|platform| platform.detect(env)).unwrap_or(Err(Error::NoCi))
}

/// The platform with this join method.
pub(crate) fn by_method(method: &str) -> Option<&'static Platform> {
    ALL.into_iter().find(|platform| platform.method == method)
}

/// The join methods, for a sentence.
pub(crate) fn methods() -> String {
    either(&ALL.map(|platform| platform.method))
}

/// Whether this runs in a CI system, as far as its variables say.
pub(crate) fn is_ci(env: &Environment) -> bool {
    env.get("CI").is_some() || ALL.into_iter().any(|platform| platform.detect(env).is_some())
}

/// Returns `Public` if everyone can read the log, unless the person asks for debug information.
pub(crate) fn privacy(env: &Environment, debug: bool) -> Privacy {
    let is_public = ALL.into_iter().any(|platform| (platform.log_is_public)(env));
    if is_public && !debug { Privacy::Public } else { Privacy::Private }
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::bitbucket::tests::PUBLIC_LOG;
}
