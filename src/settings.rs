//! Everything a run needs to be told, parsed once into types that cannot hold nonsense.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::destination::{Foreign, Owner};
use crate::error::{Exit, Explain, foreign};
use crate::net::discovery::ClusterName;
use crate::net::upgrade::Upgrade;
use crate::net::way_out::WayOut;

/// What is to be done, by whichever way it was asked for.
#[derive(Debug)]
pub enum Action {
    /// Write credentials.
    Join(Settings),
    /// Show what a cluster needs to know of this step.
    Inspect(Inspection),
    /// Look at the way to the cluster.
    Doctor(Examination),
    /// Remove what was written to this directory, or to the one that this program lies in.
    Cleanup(Option<PathBuf>),
}

/// How one run is to go. The pipe's variables, the command line and (later) `tbot.yaml` all become this.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's proxy.
    pub proxy: ProxyAddr,
    /// Whether a load balancer in front of it wants connections to be upgraded.
    pub upgrade: Upgrade,
    /// The join token's name.
    pub token: TokenName,
    /// Where the credentials go; may be relative to the working directory.
    pub destination: PathBuf,
    /// What to do about files in the destination that are not ours.
    pub foreign: Foreign,
    /// Lifetime to ask for.
    pub ttl: Ttl,
    /// The cluster that the certificates are routed to, if not the root cluster.
    pub cluster: Option<ClusterName>,
    /// After this the run gives up.
    pub timeout: Duration,
    /// Who shall own what is written, if not whoever owns the place.
    pub owner: Option<Owner>,
    /// Web certificate authorities trusted besides the public ones (PEM file).
    pub ca_file: Option<PathBuf>,
    /// How connections leave this network.
    pub way_out: WayOut,
    /// The log is public (a public repository's pipeline): say nothing about claims, roles and logins.
    pub discreet: bool,
    /// What to do if artifacts or caches would take the credentials.
    pub leak_check: LeakCheck,
}

/// How a step is to be looked at, for whoever sets up the cluster's side.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The cluster's proxy, to be asked what the cluster is; without it nobody is.
    pub proxy: Option<ProxyAddr>,
    /// What the join token is to be called.
    pub token: Option<TokenName>,
    /// How wide the token's rule is to be; otherwise as narrow as the step allows.
    pub scope: Option<Scope>,
    /// The role's logins.
    pub logins: Vec<String>,
    /// After this discovery gives up.
    pub timeout: Duration,
    /// As of [`Settings`].
    pub ca_file: Option<PathBuf>,
    /// As of [`Settings`].
    pub way_out: WayOut,
    /// As of [`Settings`].
    pub discreet: bool,
}

/// What is to be looked at on the way to a cluster; each as of [`Settings`].
#[derive(Clone, Debug)]
pub struct Examination {
    /// The cluster's proxy.
    pub proxy: ProxyAddr,
    /// Whether a load balancer in front of it wants connections to be upgraded.
    pub upgrade: Upgrade,
    /// After this nothing is tried any more.
    pub timeout: Duration,
    /// Web certificate authorities besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// How connections leave this network.
    pub way_out: WayOut,
    /// Not even what kind of ID token there is.
    pub discreet: bool,
}

/// Who may use a join token: the smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Steps of one deployment environment.
    Deployment,
    /// Steps on one branch.
    Branch,
    /// Every step of the repository.
    Repository,
    /// Every step of every repository of the workspace.
    Workspace,
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.to_ascii_lowercase().as_str() {
            "deployment" => Ok(Self::Deployment),
            "branch" => Ok(Self::Branch),
            "repository" => Ok(Self::Repository),
            "workspace" => Ok(Self::Workspace),
            _ => Err(Invalid::new(
                "is no scope of a join token",
                "Write deployment, branch, repository or workspace; without it the narrowest is taken.",
            )),
        }
    }
}

/// Defaults that the pipe and the command line share.
pub mod default {
    /// Lifetime of the certificates.
    pub const TTL: &str = "1h";
    /// The deadline of a run.
    pub const TIMEOUT: &str = "60s";
    /// Where the pipe writes.
    pub const DESTINATION: &str = "./tbot-user";
}

/// Host and port of the proxy, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddr {
    /// Name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for ProxyAddr {
    type Err = Invalid;

    /// `host`, `host:port`, `[v6]:port`; `https://` in front and a `/` behind are what people paste, and understood.
    /// Without a port it is 443, where Teleport Cloud and TLS routing live.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const FORM: &str = "Write it as host:port, for example example.teleport.sh:443.";
        let bare = text.strip_prefix("https://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        if let Some((scheme, _)) = bare.split_once("://") {
            return Err(Invalid::new(format!("has the scheme {}://", foreign(scheme)), FORM));
        }
        if bare.contains(['"', '\'']) {
            return Err(Invalid::new("has quotes in it", FORM));
        }
        if bare.contains('/') {
            return Err(Invalid::new("has a path", FORM));
        }
        if bare.contains('@') {
            return Err(Invalid::new("has a user in it", FORM));
        }
        let (host, port) = split_port(bare).ok_or_else(|| Invalid::new("is not a host with a port", FORM))?;
        let port = match port {
            None => 443,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                Invalid::new(format!("has the port `{}`, which is not a number from 1 to 65535", foreign(port)), FORM)
            })?,
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        // DNS has no longer names and labels, but an ID token is one: it must not be asked for.
        let too_long = host.len() > 253 || host.split('.').any(|label| label.len() > 63);
        if host.is_empty()
            || too_long
            || !host.chars().all(fits)
            || (host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err())
        {
            return Err(Invalid::new("is not a host name or an address", FORM));
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

/// Host and, if there is one, port. A bare IPv6 address has colons but no port.
pub(crate) fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').filter(|(host, _)| host.parse::<std::net::Ipv6Addr>().is_ok())?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => Some((host, Some(port))),
        _ => Some((text, None)),
    }
}

/// `host:port`, an IPv6 host in brackets.
impl fmt::Display for ProxyAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The name of a join token. With a delegated join method it is public, not a secret (teleport-join.md 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenName(String);

impl TokenName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const FORM: &str = "Give the name of the join token on the cluster: metadata.name of the token resource, \
                            for example example-bot. `tctl tokens ls` lists them.";
        if is_like_an_id_token(text) {
            // Never shown, never sent on as a name: the name travels in clear and is logged by the cluster.
            return Err(Invalid::new("is an ID token, not the name of a join token", FORM).hidden());
        }
        let port = |port: &str| port.parse::<u16>().is_ok();
        if text.contains("://") || text.rsplit_once(':').is_some_and(|(_, last)| port(last)) {
            return Err(Invalid::new(
                "looks like an address; were the proxy's address and the token's name swapped?",
                FORM,
            ));
        }
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'')) {
            return Err(Invalid::new("has spaces or quotes in it", FORM));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A directory for the credentials. Nothing here expands what a shell would: it would become a directory of that name.
///
/// # Errors
/// It begins with `~` or a variable.
pub fn destination(text: &str) -> Result<PathBuf, Invalid> {
    match text.starts_with(['~', '$']) {
        true => Err(Invalid::new(
            "nothing expands here",
            "Write the path itself, relative to the working directory or absolute, such as ./tbot-user.",
        )),
        false => Ok(PathBuf::from(text)),
    }
}

/// Whether it looks like a JWT, given in the wrong place.
fn is_like_an_id_token(text: &str) -> bool {
    text.starts_with("ey") && text.matches('.').count() == 2
}

/// The name of a cluster.
///
/// # Errors
/// No cluster can have that name.
pub fn cluster(text: &str) -> Result<ClusterName, Invalid> {
    const FORM: &str = "Write the name as `tsh clusters` shows it, without a scheme or a port.";
    if is_like_an_id_token(text) {
        return Err(Invalid::new("is an ID token, not the name of a cluster", FORM).hidden());
    }
    text.parse().map_err(|()| Invalid::new("is no name of a cluster", FORM))
}

/// How long certificates shall live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(pub Duration);

impl FromStr for Ttl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let ttl = duration(text)?;
        if ttl < Duration::from_secs(60) {
            return Err(Invalid::new("is less than a minute", "Give at least 1m; the usual 1h suits most steps."));
        }
        // The cluster cuts at 24 h and says so by what it issues; far beyond that it is a slip.
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
pub fn timeout(text: &str) -> Result<Duration, Invalid> {
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
        return Err(Invalid::new("has no unit", FORM));
    }
    let duration = humantime::parse_duration(text).map_err(|_| Invalid::new("is not a duration", FORM))?;
    // To the parser M is months, to whoever writes it, minutes.
    match text.contains('M') {
        true => Err(Invalid::new("has the unit M", FORM)),
        false => Ok(duration),
    }
}

/// A boolean as people write it (bitbucket-pipes.md 2.3: scripts compare with all of these).
pub fn boolean(text: &str) -> Result<bool, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err(Invalid::new("is neither true nor false", "Write 'true' or 'false'.")),
    }
}

/// What to do if artifacts or caches of the step would take the credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeakCheck {
    /// Nothing was said: stop if they surely would, else warn.
    #[default]
    Sure,
    /// Stop if they could.
    Error,
    /// Warn.
    Warn,
    /// Do not look.
    Off,
}

impl FromStr for LeakCheck {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.to_ascii_lowercase().as_str() {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "off" => Ok(Self::Off),
            _ => {
                Err(Invalid::new("is none of error, warn and off", "Write 'error', 'warn' or 'off', or leave it out."))
            }
        }
    }
}

/// Why a text is not what it should be; whoever knows the variable's or flag's name adds it with [`Invalid::of`].
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Invalid {
    reason: String,
    remedy: &'static str,
    hidden: bool,
}

impl Invalid {
    /// `reason` completes «X is set to `…`, which …».
    pub fn new(reason: impl Into<String>, remedy: &'static str) -> Self {
        Self { reason: reason.into(), remedy, hidden: false }
    }

    /// The text may be a secret: do not show it.
    pub(crate) fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The error about the variable or flag `name` with this text.
    pub fn of(self, name: &'static str, text: &str) -> Error {
        let value = if self.hidden { "(not shown)".to_owned() } else { format!("`{}`", foreign(text)) };
        Error::Invalid { name, value, reason: self.reason, remedy: self.remedy }
    }
}

/// What is wrong with what we were told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A required variable or flag is not there.
    #[error("{name} is not set")]
    Missing {
        /// The variable or flag.
        name: &'static str,
        /// An example of a value.
        example: &'static str,
    },
    /// A value cannot be understood.
    #[error("{name} is {value}, which {reason}")]
    Invalid {
        /// The variable or flag.
        name: &'static str,
        /// The value, fit to be shown.
        value: String,
        /// Completes «… which».
        reason: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// Something that tbot can do and we cannot.
    #[error("{what} is not supported")]
    Unsupported {
        /// The flag or value.
        what: String,
        /// What to do instead.
        instead: &'static str,
    },
}

impl Explain for Error {
    fn what_to_do(&self) -> String {
        match self {
            Self::Missing { name, example } if name.starts_with('-') => format!("Add {name}={example}."),
            Self::Missing { name, example } => {
                format!("Set it under `variables:` of the pipe, or in the environment:\n{name}: '{example}'")
            }
            Self::Invalid { remedy, .. } => (*remedy).to_owned(),
            Self::Unsupported { instead, .. } => (*instead).to_owned(),
        }
    }

    fn exit(&self) -> Exit {
        Exit::BadInput
    }

    fn anchor(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "a-variable-or-flag-is-missing",
            Self::Invalid { .. } => "a-variable-or-flag-is-wrong",
            Self::Unsupported { .. } => "something-of-tbots-is-not-supported",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Result<String, String> {
        text.parse::<ProxyAddr>().map(|addr| addr.to_string()).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn proxy_addresses_and_the_usual_slips() {
        for (text, addr) in [
            ("example.teleport.sh:443", "example.teleport.sh:443"),
            ("example.teleport.sh", "example.teleport.sh:443"),
            ("https://Example.teleport.sh", "example.teleport.sh:443"),
            ("https://example.teleport.sh:3080/", "example.teleport.sh:3080"),
            ("10.0.0.1:3080", "10.0.0.1:3080"),
            ("[::1]:3080", "[::1]:3080"),
            ("[::1]", "[::1]:443"),
            ("::1", "[::1]:443"),
        ] {
            assert_eq!(proxy(text).as_deref(), Ok(addr), "{text}");
        }
        for text in [
            "",
            ":443",
            "http://x:80",
            "x:0",
            "x:70000",
            "x:port",
            "x/web",
            "me@x:443",
            "a b:443",
            "[::1",
            "a:b:c",
            "x:443\u{7}",
            "[nope]:1",
            "\"x:443\"",
            &format!("{}.example:443", "x".repeat(64)),
        ] {
            assert!(proxy(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_token_given_as_token_name_is_not_shown() {
        let jwt = "eyJhbGciOi.eyJzdWIi.c2ln";
        let error = jwt.parse::<TokenName>().unwrap_err().of("TOKEN", jwt);
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
    fn leak_checks() {
        assert_eq!("Warn".parse::<LeakCheck>().unwrap(), LeakCheck::Warn);
        assert!("false".parse::<LeakCheck>().is_err());
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
