//! Verification of ID tokens (docs/protocol.md, "ID token checks").

use base64ct::{Base64UrlUnpadded, Encoding};
use rsa::pkcs1v15::Signature;
use rsa::signature::Verifier;
use serde_json::{Map, Value};

use super::IdentityProvider;
use super::methods::Method;
use crate::options::{AllowRule, JoinToken};
use crate::refusal::Refusal;

/// The tolerance of the server's clock in seconds, in both directions.
const TOLERANCE: f64 = 1.0;

/// The claims of a verified token.
#[derive(Clone, Debug)]
struct Claims(Map<String, Value>);

impl IdentityProvider {
    /// Verifies an ID token against a join token of this cluster. Texts and kinds of the errors are the servers': a
    /// token that cannot be verified is an untyped error, one that matches no rule is denied access.
    pub(crate) fn verify(&self, id_token: &str, token: &JoinToken, cluster: &str, now: u64) -> Result<(), Refusal> {
        let method = token.method;
        let issuer = token.issuer.as_deref().unwrap_or(method.issuer);
        let audience = token.audience.as_deref().or(method.audience).unwrap_or(cluster);
        let verified = if issuer == method.issuer {
            self.check(id_token, method, (issuer, audience), now as f64)
                .map_err(|text| format!("verifying token: {text}"))
        } else {
            Err(format!("discovering oidc document: no provider answers at {issuer}"))
        };
        let claims = verified.map_err(|text| {
            let refusal = Refusal::other(text);
            method.context.map_or(refusal.clone(), |context| refusal.wrapped(context))
        })?;
        if token.allow.iter().any(|rule| claims.match_rule(rule, method)) {
            Ok(())
        } else {
            Err(Refusal::access_denied(method.mismatch))
        }
    }

    fn check(
        &self,
        token: &str,
        method: &Method,
        (issuer, audience): (&str, &str),
        now: f64,
    ) -> Result<Claims, String> {
        let malformed = || "token is malformed".to_owned();
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        let header = object(header).ok_or_else(malformed)?;
        let claims = Claims(object(payload).ok_or_else(malformed)?);
        if header.get("alg").and_then(Value::as_str) != Some("RS256") {
            return Err("signature algorithm not supported".into());
        }
        let found = claims.text("iss");
        if found != issuer {
            return Err(format!("issuer does not match: Expected: {issuer}, got: {found}"));
        }
        let audiences = claims.check_audience(audience)?;
        if method.checks_azp {
            claims.check_azp(audience, audiences)?;
        }
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
    /// A text claim; one that is absent is empty.
    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether every field that the rule sets matches its claim, with one of its values if it has several.
    fn match_rule(&self, rule: &AllowRule, method: &Method) -> bool {
        rule.fields().all(|(name, _)| {
            let field = method.fields.iter().find(|(field, ..)| *field == name);
            field.is_some_and(|(_, claim, matches)| {
                let claim = self.0.get(*claim).unwrap_or(&Value::Null);
                rule.fields().any(|(field, wanted)| field == name && matches(wanted, claim))
            })
        })
    }

    /// Returns the number of audiences.
    fn check_audience(&self, wanted: &str) -> Result<usize, String> {
        let audiences: Vec<&str> = match self.0.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if audiences.contains(&wanted) {
            Ok(audiences.len())
        } else {
            Err(format!("audience is not valid: Audience must contain client_id \"{wanted}\""))
        }
    }

    fn check_azp(&self, audience: &str, audiences: usize) -> Result<(), String> {
        let azp = self.text("azp");
        if azp.is_empty() && audiences > 1 {
            return Err(
                "authorized party is not set. If Token is valid for multiple audiences, azp must not be empty".into()
            );
        }
        if !azp.is_empty() && azp != audience {
            return Err(format!(
                "authorized party is not valid: azp \"{azp}\" must be equal to client_id \"{audience}\""
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
    use super::super::methods::{BITBUCKET, REPOSITORY_UUID, WORKSPACE_UUID, find};
    use super::*;

    const NOW: u64 = 1_763_690_000;
    const CLUSTER: &str = "example.teleport.sh";
    const MISMATCH: &str = "403 id token claims did not match any allow rules";

    fn token(method: &str, rule: &[(&str, &str)]) -> JoinToken {
        JoinToken {
            name: "example-bot".into(),
            method: find(method).unwrap(),
            issuer: None,
            audience: None,
            allow: vec![AllowRule::new(rule.iter().copied())],
        }
    }

    /// The result for an ordinary token with one changed claim.
    fn verdict(token: &JoinToken, change: Option<(&str, Value)>) -> String {
        let provider = IdentityProvider::new();
        let mut claims = IdentityProvider::claims(token.method, CLUSTER, NOW);
        claims.extend(change.map(|(name, value)| (name.to_owned(), value)));
        match provider.verify(&provider.sign(&claims), token, CLUSTER, NOW) {
            Ok(()) => "ok".to_owned(),
            Err(refusal) => format!("{} {}", refusal.http_status(), refusal.message()),
        }
    }

    fn bitbucket() -> JoinToken {
        token("bitbucket", &[("workspace_uuid", WORKSPACE_UUID), ("repository_uuid", REPOSITORY_UUID)])
    }

    #[test]
    fn bitbucket_tokens() {
        let other = "{00000000-0000-4000-8000-000000000000}";
        let bare = REPOSITORY_UUID.trim_matches(['{', '}']);
        let audience = BITBUCKET.audience.unwrap();
        assert_eq!(verdict(&bitbucket(), None), "ok");
        for (claim, value, expected) in [
            ("aud", Value::from(vec![audience]), "ok"),
            ("exp", Value::from(NOW + 2), "ok"),
            ("iat", Value::from(NOW + 1), "ok"),
            ("repositoryUuid", Value::from(other), MISMATCH),
            ("repositoryUuid", Value::from(bare), MISMATCH),
            ("workspaceUuid", Value::from(WORKSPACE_UUID.to_uppercase()), MISMATCH),
            ("exp", Value::from(NOW + 1), "500 verifying token: token has expired"),
            ("iat", Value::from(NOW + 2), "500 verifying token: issuedAt of token is in the future"),
            ("aud", Value::from("sts"), "500 verifying token: audience is not valid"),
            ("aud", Value::from(vec![audience, "sts"]), "500 verifying token: authorized party is not set"),
            ("azp", Value::from("sts"), "500 verifying token: authorized party is not valid"),
            ("iss", Value::from("https://elsewhere"), "500 verifying token: issuer does not match: Expected: https"),
            ("nonce", Value::from("n"), "500 verifying token: nonce does not match"),
        ] {
            let found = verdict(&bitbucket(), Some((claim, value.clone())));
            assert!(found.starts_with(expected), "{claim}={value}: {found}");
        }
    }

    #[test]
    fn gitlab_tokens() {
        let token = token("gitlab", &[("project_path", "acme/*"), ("ref_protected", "true"), ("ref", "mai?")]);
        assert_eq!(verdict(&token, None), "ok");
        let wrapped = "500 validating with oidc\n\tverifying token: ";
        for (claim, value, expected) in [
            ("project_path", "acme/other", "ok".to_owned()),
            ("project_path", "elsewhere/acme/other", MISMATCH.to_owned()),
            ("ref", "Main", MISMATCH.to_owned()),
            ("ref_protected", "false", MISMATCH.to_owned()),
            ("aud", "sts", format!("{wrapped}audience is not valid: Audience must contain client_id \"{CLUSTER}\"")),
            (
                "iss",
                "https://gitlab.example.com",
                format!("{wrapped}issuer does not match: Expected: https://gitlab.com"),
            ),
        ] {
            let found = verdict(&token, Some((claim, value.into())));
            assert!(found.starts_with(&expected), "{claim}={value}: {found}");
        }
    }

    #[test]
    fn a_rule_does_not_check_what_it_leaves_out() {
        assert_eq!(verdict(&token("gitlab", &[("sub", "project_path:acme/*"), ("environment", "")]), None), "ok");
        assert_eq!(verdict(&token("gitlab", &[("environment", "production")]), None), MISMATCH);
    }

    #[test]
    fn a_field_with_several_values_matches_one_of_them() {
        let token = token("gitlab", &[("ref", "release/*"), ("ref", "main"), ("project_path", "acme/*")]);
        assert_eq!(verdict(&token, None), "ok");
        assert_eq!(verdict(&token, Some(("ref", "release/1".into()))), "ok");
        assert_eq!(verdict(&token, Some(("ref", "feature".into()))), MISMATCH);
        assert_eq!(verdict(&token, Some(("project_path", "elsewhere/infrastructure".into()))), MISMATCH);
    }

    /// The ID tokens of Google Cloud have an `azp` that is not the audience.
    #[test]
    fn a_method_can_ignore_azp() {
        const IGNORES_AZP: Method = Method { checks_azp: false, ..BITBUCKET };
        let token = JoinToken { method: &IGNORES_AZP, ..bitbucket() };
        assert_eq!(verdict(&token, Some(("azp", "sts".into()))), "ok");
    }

    #[test]
    fn a_token_of_another_key_is_refused() {
        let id_token = IdentityProvider::sign_with_other_key(&IdentityProvider::claims(&BITBUCKET, CLUSTER, NOW));
        let refusal = IdentityProvider::new().verify(&id_token, &bitbucket(), CLUSTER, NOW).unwrap_err();
        assert_eq!((refusal.http_status(), refusal.message()), (500, "verifying token: invalid signature"));
    }
}
