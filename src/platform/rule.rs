//! The rule of a join token that admits a step, and how many other steps it admits (docs/protocol.md, "Join token").
//!
//! The cluster compares each value with its claim letter by letter: UUIDs keep their braces.

use std::fmt::Write as _;

use super::{Claims, Platform, ProviderField, Scope};
use crate::error::{Advice, Exit, Explain};
use crate::yaml::scalar;

/// What a join token says about ID tokens: who issues them, and which of them it admits.
pub(crate) struct Rule {
    pub(crate) scope: &'static Scope,
    platform: &'static Platform,
    provider: Vec<(&'static str, String)>,
    allow: Vec<(&'static str, String)>,
}

impl Rule {
    /// The rule of this scope for a step with these claims; without a scope, the narrowest that the step has.
    ///
    /// # Errors
    /// The step lacks the claim of the scope.
    pub(crate) fn new(
        platform: &'static Platform,
        claims: &Claims,
        scope: Option<&'static Scope>,
    ) -> Result<Self, ScopeError> {
        if let Some(scope) = scope
            && claims.literal(scope.claim).is_none()
        {
            return Err(ScopeError { scope });
        }
        Ok(Self::from_claims(platform, claims, scope.unwrap_or_else(|| platform.narrowest_scope(claims))))
    }

    /// The narrowest rule that admits a step with these claims.
    pub(crate) fn narrowest(platform: &'static Platform, claims: &Claims) -> Self {
        Self::from_claims(platform, claims, platform.narrowest_scope(claims))
    }

    fn from_claims(platform: &'static Platform, claims: &Claims, scope: &'static Scope) -> Self {
        let provider = platform.provider_fields.iter().filter_map(|(field, is)| {
            let value = match is {
                ProviderField::Issuer => claims.literal("iss"),
                ProviderField::Audience => audience(claims),
                ProviderField::Claim(name) => claims.literal(name),
                ProviderField::Text(text) => Some(*text),
            };
            Some((*field, value?.to_owned()))
        });
        let allow = scope.fields.iter().filter_map(|(field, claim)| Some((*field, claims.literal(claim)?.to_owned())));
        Self { scope, platform, provider: provider.collect(), allow: allow.collect() }
    }

    /// The same rule with placeholders for the values, for a public log.
    #[must_use]
    pub(crate) fn without_values(&self) -> Self {
        let hide = |(field, _): &(&'static str, String)| (*field, field.to_ascii_uppercase());
        let is_text = |field: &str| {
            self.platform
                .provider_fields
                .iter()
                .any(|(name, is)| *name == field && matches!(is, ProviderField::Text(_)))
        };
        let provider = self.provider.iter().map(|field| if is_text(field.0) { field.clone() } else { hide(field) });
        Self { provider: provider.collect(), allow: self.allow.iter().map(hide).collect(), ..*self }
    }

    /// The join method, and the name of its section in the `spec` of a join token.
    pub(crate) fn method(&self) -> &'static str {
        self.platform.method
    }

    /// What a person has to add, in lines that begin with `# `; or empty.
    pub(crate) fn to_complete(&self) -> &'static str {
        self.platform.texts.to_complete
    }

    /// Fields that say who issues the ID tokens. A field `a.b` is `b` in the section `a`.
    pub(crate) fn provider(&self) -> &[(&'static str, String)] {
        &self.provider
    }

    /// Fields that an ID token must have, and whether each is a list.
    pub(crate) fn allow(&self) -> impl Iterator<Item = (&'static str, &str, bool)> {
        self.allow.iter().map(|(field, value)| (*field, value.as_str(), self.platform.list_fields.contains(field)))
    }

    /// Whether it consists of conditions for claims, in place of fields of the join method.
    pub(crate) fn has_conditions(&self) -> bool {
        self.platform.has_conditions
    }

    /// Whether nothing is compared, because the ID token lacks the claims. The cluster refuses such a join token.
    pub(crate) fn is_empty(&self) -> bool {
        self.allow.is_empty()
    }

    /// Its lines in the `spec` of a join token.
    pub(crate) fn yaml(&self) -> String {
        let mut yaml = format!("  join_method: {0}\n  {0}:\n", self.method());
        for (field, value) in &self.provider {
            let _ = match field.split_once('.') {
                None => writeln!(yaml, "    {field}: {}", scalar::quoted(value)),
                Some((section, field)) => writeln!(yaml, "    {section}:\n      {field}: {}", scalar::quoted(value)),
            };
        }
        if self.has_conditions() && !self.is_empty() {
            yaml.push_str("    allow_any:\n      - conditions:\n");
            for (claim, value, _) in self.allow() {
                let _ = writeln!(
                    yaml,
                    "          - attribute: {claim}\n            eq:\n              value: {}",
                    scalar::quoted(value)
                );
            }
            return yaml;
        }
        for (at, (field, value, is_list)) in self.allow().enumerate() {
            let lead = if at == 0 { "    allow:\n      - " } else { "        " };
            let value = if is_list { scalar::list([value]) } else { scalar::quoted(value) };
            let _ = writeln!(yaml, "{lead}{field}: {value}");
        }
        yaml
    }
}

/// The audience for the join token. The cluster accepts a token with several audiences only if an authorized party is
/// one of them, and then compares with that one (docs/protocol.md, "ID token checks").
fn audience(claims: &Claims) -> Option<&str> {
    let audiences = claims.audiences();
    let party = claims.literal("azp").filter(|party| audiences.contains(party));
    party.or_else(|| audiences.first().copied())
}

/// Whether the cluster will refuse the token because it has several audiences and no authorized party.
pub(crate) fn has_too_many_audiences(claims: &Claims) -> bool {
    claims.audiences().len() > 1 && claims.literal("azp").is_none()
}

/// The step does not have what the scope is about.
#[derive(thiserror::Error)]
#[error("SCOPE is {}, but {}", scope.name, scope.lacking)]
pub(crate) struct ScopeError {
    pub(crate) scope: &'static Scope,
}

impl std::fmt::Debug for ScopeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScopeError").field("scope", &self.scope.name).finish()
    }
}

impl Explain for ScopeError {
    fn advice(&self) -> Advice {
        Advice::new(Exit::BadInput, "the-step-does-not-have-that-scope", self.scope.remedy).cause(self.scope.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::id_token::tests::claims;

    #[test]
    fn one_audience_of_several() {
        let of = |json: &str| {
            let claims = claims(json);
            (audience(&claims).map(str::to_owned), has_too_many_audiences(&claims))
        };
        assert_eq!(of(r#"{"aud":["a, b","c"]}"#), (Some("a, b".to_owned()), true));
        assert_eq!(of(r#"{"aud":["a","c"],"azp":"c"}"#), (Some("c".to_owned()), false));
        assert_eq!(of(r#"{"aud":"a","azp":"z"}"#), (Some("a".to_owned()), false));
        assert_eq!(of("{}"), (None, false));
    }

    #[test]
    fn a_list_of_conditions_is_never_empty() {
        let platform = super::super::ALL.into_iter().find(|platform| platform.has_conditions).unwrap();
        let yaml = |json: &str| Rule::narrowest(platform, &claims(json)).yaml();
        assert!(yaml(r#"{"iss":"https://a.example","sub":"b"}"#).contains("conditions"));
        assert!(!yaml(r#"{"iss":"https://a.example"}"#).contains("conditions"));
    }
}
