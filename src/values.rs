//! Values that variables, flags and files have in common: each is parsed once, into a type that cannot hold an invalid
//! value.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::address::{ClusterName, HostPort};
use crate::invalid::{Invalid, may_be_secret};
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

    /// Whether the text is like the names that people give: words of letters in one case, and short numbers, joined by
    /// `-`, `.`, `_` or `/`. A text that is not like this may be a secret in the wrong variable. (A pass phrase of words is
    /// like a name.)
    pub(crate) fn looks_like_a_name(&self) -> bool {
        let is_word = |word: &str| {
            let (letters, digits) =
                (word.matches(|c: char| c.is_ascii_alphabetic()), word.matches(|c: char| c.is_ascii_digit()));
            let (letters, digits) = (letters.count(), digits.count());
            let rest = word.get(1..).unwrap_or_default();
            let has_one_case = word == word.to_ascii_uppercase() || rest == rest.to_ascii_lowercase();
            let is_hex = word.len() >= 8 && word.chars().all(|c| c.is_ascii_hexdigit());
            let is_short = if letters == 0 { digits <= 8 } else { digits == 0 || word.len() <= 6 };
            !word.is_empty() && letters + digits == word.len() && has_one_case && is_short && (letters == 0 || !is_hex)
        };
        self.0.len() <= 64 && self.0.split(['-', '.', '_', '/']).all(is_word)
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
            let remedy = match Secret::new(bare).looks_like_a_name() {
                true => format!("Write `{bare}`."),
                false => FORM.to_owned(),
            };
            return Err(Invalid::new("has spaces or quotes in it", remedy));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where the pipe writes.
pub(crate) const DEFAULT_DESTINATION: &str = "./tbot-user";

/// The join token that a run joins with.
#[derive(Debug)]
pub(crate) enum JoinToken {
    /// Its name, which is the secret itself with the method `token`.
    Name(Secret),
    /// The file that holds it.
    File(PathBuf),
}

/// The name of the join token that a run joins with, or the absolute path of a file that holds it.
pub(crate) fn join_token(text: &str) -> Result<JoinToken, Invalid> {
    match text.starts_with('/') && !text.contains(char::is_whitespace) {
        true => Ok(JoinToken::File(text.into())),
        false => token_name(text).map(JoinToken::Name),
    }
}

/// The name of the join token that a run joins with. What is not like a name is not printed from now on, even if a server
/// quotes it: it may be a secret in the wrong variable.
pub(crate) fn token_name(text: &str) -> Result<Secret, Invalid> {
    TokenName::from_str(text)?;
    let token = Secret::new(text);
    if !token.looks_like_a_name() {
        crate::log::hide(text);
    }
    Ok(token)
}

/// A directory for the credentials: a path, or `file:///path` as tbot takes it. `~` and variables are refused because
/// nothing expands them here: they would become directories of that name.
pub(crate) fn destination(text: &str) -> Result<PathBuf, Invalid> {
    const FORM: &str = "Write the path itself, relative to the working directory or absolute, such as ./tbot-user.";
    match text.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => return Ok(PathBuf::from(path)),
        Some(("file", _)) => {
            let reason = "names a host instead of an absolute path";
            return Err(Invalid::new(reason, "Write file:///path with three slashes."));
        }
        Some((scheme, _)) => {
            return Err(Invalid::new(
                format!("is a destination of the kind {}://", sanitize(scheme)),
                "Give a directory.",
            ));
        }
        None => {}
    }
    let Some((_, rest)) = text.split_at_checked(1).filter(|(first, _)| ["~", "$"].contains(first)) else {
        return Ok(PathBuf::from(text));
    };
    let remedy = match rest.rsplit('/').next().filter(|name| !name.is_empty()) {
        Some(name) => FORM.replace("tbot-user", &sanitize(name)),
        None => FORM.to_owned(),
    };
    Err(Invalid::new("nothing expands here", remedy))
}

/// Whether the text looks like a JWT, which people paste in the wrong place.
pub(crate) fn looks_like_an_id_token(text: &str) -> bool {
    text.starts_with("ey") && text.matches('.').count() == 2
}

/// The name of an environment variable.
pub(crate) fn variable(text: &str) -> Result<String, Invalid> {
    const FORM: &str = "Write the name of the variable, such as MY_ID_TOKEN, and not its value.";
    if looks_like_an_id_token(text) {
        return Err(Invalid::new("is an ID token, not the name of a variable", FORM).hidden());
    }
    // The error of a variable that is not set would show it.
    let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !may_be_secret(text);
    match is_name {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("is not the name of a variable", FORM).hidden()),
    }
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

/// A login on nodes, as a role allows it: a name, or a template such as `{{internal.logins}}`.
pub(crate) fn login(text: &str) -> Result<String, Invalid> {
    let is_template = text.starts_with("{{") && text.ends_with("}}");
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '\\' | '+');
    match text.chars().find(|c| !fits(*c)).filter(|_| !is_template) {
        None if text.starts_with('-') => {
            Err(Invalid::new("begins with a hyphen", "A login is the name of a user on the nodes."))
        }
        None => Ok(text.to_owned()),
        Some(' ') => Err(Invalid::new(
            "has a blank in it",
            format!(
                "Separate logins by commas: '{}'.",
                sanitize(&text.split_whitespace().collect::<Vec<_>>().join(","))
            ),
        )),
        Some(c) => Err(Invalid::new(
            format!("has a `{c}` in it"),
            "A login is the name of a user on the nodes, such as deploy, or a template such as {{internal.logins}}.",
        )),
    }
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
    fn what_is_not_like_a_name_may_be_a_secret() {
        for name in [
            "example-bot",
            "bot-example",
            "exampel-bot",
            "production-deployments-2026",
            "acme/infra",
            "Example_Bot.v2",
            "k8s-EU-west1",
            "averyveryverylongname",
        ] {
            assert!(Secret::new(name).looks_like_a_name(), "{name}");
        }
        for secret in [
            "0123456789abcdef0123456789abcdef",
            "deadbeefcafe",
            "1e3b3e7c-0c1d-4a3b-9f52-1c9a6f2b7d10",
            "bot-Xk29fjw0qLm38Zpq71",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "xoxb-17653672481-19874698323-pdFwrfgb",
            "glpat-AbC-dEfGh_iJkL9mNoPq",
            "Tr0ub4dor&3",
            "hunter2hunter2",
            "c2VjcmV0Cg==",
        ] {
            assert!(!Secret::new(secret).looks_like_a_name(), "{secret}");
        }
        assert_eq!(format!("{:?}", token_name("hunter2").unwrap()), "Secret(..)");
    }

    #[test]
    fn an_invalid_token_that_may_be_a_secret_is_not_shown() {
        for (text, secret) in [
            ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0\naaaaaaaaaaaaaaaaaaaaaaaaaaaa.c2ln-_xxxxxxxxxxxxxx", "aaaa"),
            ("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----", "MIGHAgEA"),
            ("Bearer ghp_16C7e42F292c6912E7710c838347Ae178B4a", "ghp_"),
            ("\"ghp_16C7e42F292c6912E7710c838347Ae178B4a\"", "ghp_"),
            ("4c2e0d5b8f6a41d7a1c93e0b5d7f2a68:443", "4c2e"),
            ("postgres://app:S3cretPassw0rd@db:5432/x", "S3cret"),
            ("ghp_16C7e42F292c6912\u{200b}E7710c838347Ae178B4a", "ghp_"),
        ] {
            let invalid = crate::invalid::expect_plain(text).and_then(|()| join_token(text)).unwrap_err();
            let text = crate::error::render(&invalid.named("TOKEN", text));
            assert!(text.starts_with("error: TOKEN is (not shown), which ") && !text.contains(secret), "{text}");
        }
        let shown = crate::error::render(&join_token("'example-bot'").unwrap_err().named("TOKEN", "'example-bot'"));
        assert!(shown.contains("TOKEN is `'example-bot'`") && shown.contains("Write `example-bot`."), "{shown}");
    }

    #[test]
    fn an_id_token_given_as_token_name_is_not_shown() {
        let jwt = "eyJhbGciOi.eyJzdWIi.c2ln";
        let error = jwt.parse::<TokenName>().unwrap_err().named("TOKEN", jwt);
        let text = crate::error::render(&error);
        assert!(text.contains("not the name of a join token") && !text.contains("eyJ"), "{text}");
    }

    #[test]
    fn logins() {
        for text in ["deploy", "first.last_2-x", "me@example.com", "CORP\\deploy", "{{external.username}}", "дмитрий"]
        {
            assert!(login(text).is_ok(), "{text}");
        }
        for text in ["deploy backup", "deploy;rm", "-x", "'deploy'", "{{x", "a/b", "$(id)", "*"] {
            assert!(login(text).is_err(), "{text}");
        }
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
