//! Values that variables, flags and files have in common: each is parsed once, into a type that cannot hold an invalid
//! value.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::address::{ClusterName, HostPort};
use crate::invalid::Invalid;
use crate::text::sanitize;

/// A text that no `Debug` and no error prints. It is wiped when it is dropped.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The text itself, for the request to the cluster.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether the text looks as if a machine had made it, as `tctl tokens add` does: it may be a secret, although the name
    /// of a join token was asked for.
    pub(crate) fn looks_random(&self) -> bool {
        let is_random = |word: &str| {
            let all_of = |is: fn(&char) -> bool| word.chars().all(|c| is(&c));
            let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
            let is_mixed = has(char::is_ascii_digit) && has(char::is_ascii_alphabetic);
            word.len() >= 16 && (is_mixed || all_of(char::is_ascii_hexdigit)) && all_of(char::is_ascii_alphanumeric)
        };
        let is_uuid = self.0.len() >= 32 && self.0.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        is_uuid || self.0.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who can read the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privacy {
    Private,
    /// Everyone: claims, roles and logins are not shown.
    Public,
}

/// The name of a join token. It is not a secret if the join method is a platform's: the ID token admits, not the name
/// (docs/protocol.md, "Join token").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenName(String);

impl TokenName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const FORM: &str = "Give the name of the join token on the cluster: metadata.name of the token resource, \
                            for example example-bot. `tctl tokens ls` lists them.";
        if looks_like_an_id_token(text) {
            // Neither shown nor sent as a name: the cluster logs names.
            return Err(Invalid::new("is an ID token, not the name of a join token", FORM).hidden());
        }
        let port = |port: &str| port.parse::<u16>().is_ok();
        if text.contains("://") || text.rsplit_once(':').is_some_and(|(_, last)| port(last)) {
            return Err(Invalid::new(
                "looks like an address; were the proxy's address and the token's name swapped?",
                FORM,
            ));
        }
        let is_foreign = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'');
        if text.is_empty() || text.contains(is_foreign) {
            let bare = text.trim_matches(is_foreign);
            let remedy = match bare.is_empty() || bare.contains(is_foreign) {
                true => FORM.to_owned(),
                false => format!("Write `{bare}`."),
            };
            return Err(Invalid::new("has spaces or quotes in it", remedy));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where the pipe writes.
pub(crate) const DEFAULT_DESTINATION: &str = "./tbot-user";

/// The name of the join token that a run joins with. An invalid one is shown only if the join method says that names are
/// public.
pub(crate) fn join_token(text: &str, is_public: bool) -> Result<Secret, Invalid> {
    match TokenName::from_str(text) {
        Ok(_) => Ok(Secret::new(text)),
        Err(invalid) => Err(if is_public { invalid } else { invalid.hidden() }),
    }
}

/// A directory for the credentials. `~` and variables are refused because nothing expands them here: they would become
/// directories of that name.
pub(crate) fn destination(text: &str) -> Result<PathBuf, Invalid> {
    let Some((_, rest)) = text.split_at_checked(1).filter(|(first, _)| ["~", "$"].contains(first)) else {
        return Ok(PathBuf::from(text));
    };
    let name = rest.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("tbot-user");
    let remedy =
        format!("Write the path itself, relative to the working directory or absolute, such as ./{}.", sanitize(name),);
    Err(Invalid::new("nothing expands here", remedy))
}

/// Whether the text looks like a JWT, which people paste in the wrong place.
pub(crate) fn looks_like_an_id_token(text: &str) -> bool {
    text.starts_with("ey") && text.matches('.').count() == 2
}

pub(crate) fn cluster(text: &str) -> Result<ClusterName, Invalid> {
    const FORM: &str = "Write the name as `tsh clusters` shows it, without a scheme or a port.";
    if looks_like_an_id_token(text) {
        return Err(Invalid::new("is an ID token, not the name of a cluster", FORM).hidden());
    }
    text.parse().map_err(|()| {
        // An address has the name in it, or a host that is called like it.
        let addr = text.contains([':', '/']).then(|| text.parse::<HostPort>().ok()).flatten();
        let remedy =
            addr.map_or_else(|| FORM.to_owned(), |addr| format!("Write `{}`, if that is its name.", addr.host));
        Invalid::new("is not a valid cluster name", remedy)
    })
}

/// The lifetime of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ttl(pub(crate) Duration);

impl Ttl {
    pub(crate) const MIN: Self = Self(Duration::from_secs(60));
}

impl FromStr for Ttl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let ttl = duration(text)?;
        if ttl < Self::MIN.0 {
            return Err(Invalid::new("is less than a minute", "Give at least 1m; the usual 1h suits most steps."));
        }
        // The cluster cuts at 24 h, which is reported later. Far above that it is a mistake.
        if ttl > Duration::from_secs(30 * 86_400) {
            return Err(Invalid::new(
                "is more than 30 days",
                "Clusters allow 24h at most; the usual 1h suits most steps.",
            ));
        }
        Ok(Self(ttl))
    }
}

/// The deadline of a run: at least a second, at most a day.
pub(crate) fn timeout(text: &str) -> Result<Duration, Invalid> {
    let timeout = duration(text)?;
    match timeout.as_secs() {
        1..=86_400 => Ok(timeout),
        _ => Err(Invalid::new("is not between 1s and 24h", "The usual 60s suits most networks.")),
    }
}

/// A duration as people and Go write it: `90s`, `1h`, `1h30m`, `1h0m0s`.
fn duration(text: &str) -> Result<Duration, Invalid> {
    const FORM: &str = "Write a number and a unit, such as 90s, 30m, 1h or 1h30m.";
    if text.chars().all(|c| c.is_ascii_digit()) {
        let remedy = match text.parse() {
            Ok(1_u64..) => format!("Write `{text}s` for seconds or `{text}m` for minutes."),
            _ => FORM.to_owned(),
        };
        return Err(Invalid::new("has no unit", remedy));
    }
    let duration = humantime::parse_duration(text).map_err(|_| Invalid::new("is not a duration", FORM))?;
    // The parser reads M as months, people write it for minutes.
    match text.contains('M') {
        true => Err(Invalid::new("has the unit M", format!("Write `{}` for minutes.", text.replace('M', "m")))),
        false => Ok(duration),
    }
}

/// A boolean as the scripts of pipes compare it.
pub(crate) fn boolean(text: &str) -> Result<bool, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err(Invalid::new("is neither true nor false", "Write 'true' or 'false'.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_is_shown_only_if_the_join_method_says_that_its_name_is_public() {
        let secret = "hunter2 with spaces";
        let message = |is_public| join_token(secret, is_public).unwrap_err().named("TOKEN", secret).to_string();
        assert!(message(true).contains(secret) && !message(false).contains("hunter2"), "{}", message(false));
        let debug = format!("{:?}", join_token("hunter2", false).unwrap());
        assert_eq!(debug, "Secret(..)");
    }

    #[test]
    fn what_looks_random_may_be_a_secret() {
        for name in
            ["example-bot", "bot-example", "production-deployments-2026", "acme/infra", "b0t", "averyveryverylongname"]
        {
            assert!(!Secret::new(name).looks_random(), "{name}");
        }
        for secret in [
            "0123456789abcdef0123456789abcdef",
            "deadbeefdeadbeefdeadbeef",
            "1e3b3e7c-0c1d-4a3b-9f52-1c9a6f2b7d10",
            "bot-Xk29fjw0qLm38Zpq71",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        ] {
            assert!(Secret::new(secret).looks_random(), "{secret}");
        }
    }

    #[test]
    fn an_id_token_given_as_token_name_is_not_shown() {
        let jwt = "eyJhbGciOi.eyJzdWIi.c2ln";
        let error = jwt.parse::<TokenName>().unwrap_err().named("TOKEN", jwt);
        let text = crate::error::render(&error);
        assert!(text.contains("not the name of a join token") && !text.contains("eyJ"), "{text}");
    }

    #[test]
    fn durations() {
        assert_eq!("1h30m".parse::<Ttl>().unwrap().0.as_secs(), 5400);
        assert_eq!("1h0m0s".parse::<Ttl>().unwrap().0.as_secs(), 3600);
        for text in ["3600", "30s", "soon", "", "-1h", "30M", "31d", "9000y", "99999999999999999999h"] {
            assert!(text.parse::<Ttl>().is_err(), "{text}");
        }
        assert_eq!(timeout("90s").unwrap().as_secs(), 90);
        for text in ["0s", "25h", "60"] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans() {
        for text in ["true", "True", "YES", "1", "on"] {
            assert!(boolean(text).unwrap(), "{text}");
        }
        for text in ["false", "No", "0", "off"] {
            assert!(!boolean(text).unwrap(), "{text}");
        }
        assert!(boolean("ja").is_err());
    }
}
