//! What a cluster demands of an ID token (teleport-join.md 4.1).

use base64ct::{Base64UrlUnpadded, Encoding};
use rsa::pkcs1v15::Signature;
use rsa::signature::Verifier;
use serde_json::{Map, Value};

use super::{ISSUER, IdentityProvider};
use crate::options::{AllowRule, JoinRules};
use crate::refusal::Refusal;

/// The server's tolerance in seconds, both ways.
const TOLERANCE: f64 = 1.0;

/// The claims of a token that was verified.
#[derive(Clone, Debug)]
struct Claims(Map<String, Value>);

impl IdentityProvider {
    /// Verifies a token against the join token's rules. Texts and kinds of the errors are the servers': a token that
    /// cannot be verified is an untyped error, one that fits no rule is denied access.
    pub(crate) fn verify(&self, token: &str, rules: &JoinRules, now: u64) -> Result<(), Refusal> {
        if rules.issuer != ISSUER {
            return Err(Refusal::other(format!("discovering oidc document: no provider answers at {}", rules.issuer)));
        }
        let claims =
            self.check(token, rules, now as f64).map_err(|text| Refusal::other(format!("verifying token: {text}")))?;
        if rules.allow.iter().any(|rule| claims.fit(rule)) {
            Ok(())
        } else {
            Err(Refusal::access_denied("id token claims did not match any allow rules"))
        }
    }

    fn check(&self, token: &str, rules: &JoinRules, now: f64) -> Result<Claims, String> {
        let malformed = || "token is malformed".to_owned();
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        let header = object(header).ok_or_else(malformed)?;
        let claims = Claims(object(payload).ok_or_else(malformed)?);
        if header.get("alg").and_then(Value::as_str) != Some("RS256") {
            return Err("signature algorithm not supported".into());
        }
        let issuer = claims.text("iss");
        if issuer != rules.issuer {
            return Err(format!("issuer does not match: Expected: {}, got: {issuer}", rules.issuer));
        }
        claims.check_audience(&rules.audience)?;
        let signature = Base64UrlUnpadded::decode_vec(signature).map_err(|_| malformed())?;
        let genuine = Signature::try_from(signature.as_slice())
            .is_ok_and(|signature| self.public().verify(signed.as_bytes(), &signature).is_ok());
        if !genuine {
            return Err("invalid signature".into());
        }
        claims.check_times(now)?;
        if !claims.text("nonce").is_empty() {
            return Err("nonce does not match".into());
        }
        Ok(claims)
    }
}

impl Claims {
    /// A claim that is text, empty when absent.
    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Every field that a rule has must be equal to its claim: case and braces count, there are no patterns
    /// (teleport-join.md 7).
    fn fit(&self, rule: &AllowRule) -> bool {
        let equal = |wanted: &Option<String>, claim| wanted.as_deref().is_none_or(|wanted| wanted == self.text(claim));
        equal(&rule.workspace_uuid, "workspaceUuid")
            && equal(&rule.repository_uuid, "repositoryUuid")
            && equal(&rule.deployment_environment_uuid, "deploymentEnvironmentUuid")
            && equal(&rule.branch_name, "branchName")
    }

    fn check_audience(&self, wanted: &str) -> Result<(), String> {
        let audiences: Vec<&str> = match self.0.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !audiences.contains(&wanted) {
            return Err(format!("audience is not valid: Audience must contain client_id \"{wanted}\""));
        }
        let party = self.text("azp");
        if party.is_empty() && audiences.len() > 1 {
            return Err(
                "authorized party is not set. If Token is valid for multiple audiences, azp must not be empty".into()
            );
        }
        if !party.is_empty() && party != wanted {
            return Err(format!(
                "authorized party is not valid: azp \"{party}\" must be equal to client_id \"{wanted}\""
            ));
        }
        Ok(())
    }

    fn check_times(&self, now: f64) -> Result<(), String> {
        let number = |name| self.0.get(name).and_then(Value::as_f64);
        if number("exp").is_none_or(|expires| now + TOLERANCE >= expires) {
            return Err("token has expired".into());
        }
        match number("iat") {
            None => Err("issuedAt of token is missing".into()),
            Some(issued) if issued > now + TOLERANCE => {
                Err(format!("issuedAt of token is in the future: (iat: {issued}, now: {now})"))
            }
            Some(_) => Ok(()),
        }
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = Base64UrlUnpadded::decode_vec(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{AUDIENCE, REPOSITORY_UUID, WORKSPACE_UUID};
    use super::*;

    const NOW: u64 = 1_763_690_000;

    fn rules() -> JoinRules {
        JoinRules {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            allow: vec![AllowRule::workspace(WORKSPACE_UUID).repository(REPOSITORY_UUID)],
        }
    }

    fn verdict(change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let provider = IdentityProvider::new();
        let mut claims = IdentityProvider::claims(NOW);
        change(&mut claims);
        match provider.verify(&provider.sign(&claims), &rules(), NOW) {
            Ok(()) => "ok".to_owned(),
            Err(refusal) => format!("{} {}", refusal.http_status(), refusal.message()),
        }
    }

    fn with(name: &'static str, value: impl Into<Value>) -> impl FnOnce(&mut Map<String, Value>) {
        let value = value.into();
        move |claims| drop(claims.insert(name.into(), value))
    }

    #[test]
    fn claims_and_their_verdicts() {
        let other = "{00000000-0000-4000-8000-000000000000}";
        let bare = REPOSITORY_UUID.trim_matches(['{', '}']);
        assert_eq!(verdict(|_| {}), "ok");
        assert_eq!(verdict(with("aud", vec![AUDIENCE])), "ok");
        assert_eq!(verdict(with("exp", NOW + 2)), "ok");
        assert_eq!(verdict(with("iat", NOW + 1)), "ok");
        for (claim, value, expected) in [
            ("repositoryUuid", Value::from(other), "403 id token claims did not match any allow rules"),
            ("repositoryUuid", Value::from(bare), "403 id token claims did not match any allow rules"),
            ("workspaceUuid", Value::from(WORKSPACE_UUID.to_uppercase()), "403 id token claims did not match"),
            ("exp", Value::from(NOW + 1), "500 verifying token: token has expired"),
            ("iat", Value::from(NOW + 2), "500 verifying token: issuedAt of token is in the future"),
            ("aud", Value::from("sts"), "500 verifying token: audience is not valid"),
            ("aud", Value::from(vec![AUDIENCE, "sts"]), "500 verifying token: authorized party is not set"),
            ("azp", Value::from("sts"), "500 verifying token: authorized party is not valid"),
            ("iss", Value::from("https://elsewhere"), "500 verifying token: issuer does not match: Expected: https"),
            ("nonce", Value::from("n"), "500 verifying token: nonce does not match"),
        ] {
            let found = verdict(with(claim, value.clone()));
            assert!(found.starts_with(expected), "{claim}={value}: {found}");
        }
    }

    #[test]
    fn a_token_of_another_key_is_refused() {
        let token = IdentityProvider::sign_with_other_key(&IdentityProvider::claims(NOW));
        let refusal = IdentityProvider::new().verify(&token, &rules(), NOW).unwrap_err();
        assert_eq!((refusal.http_status(), refusal.message()), (500, "verifying token: invalid signature"));
    }
}
