//! Addresses of hosts, and names of clusters.

use std::fmt;
use std::str::FromStr;

use crate::invalid::Invalid;
use crate::text::sanitize;

/// Host and port of the proxy, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// Name, IPv4 address, or IPv6 address without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = Invalid;

    /// `host`, `host:port`, `[v6]:port`; `https://` in front and a `/` behind are what people paste, and understood.
    /// Without a port it is 443, where Teleport Cloud and TLS routing live.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |reason: &str| Err(Invalid::new(reason, corrected(text)));
        let bare = text.strip_prefix("https://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        if bare.contains(['"', '\'']) {
            return invalid("has quotes in it");
        }
        if let Some((scheme, _)) = bare.split_once("://") {
            return invalid(&format!("has the scheme {}://", sanitize(scheme)));
        }
        if bare.contains('/') {
            return invalid("has a path");
        }
        if bare.contains('@') {
            return invalid("has a user in it");
        }
        let Some((host, port)) = split_port(bare) else { return invalid("is not a host with a port") };
        let port = match port.map(|port| (port, port.parse())) {
            None => 443,
            Some((_, Ok(number @ 1..))) => number,
            Some((port, _)) => {
                return invalid(&format!("has `{}` for a port, not a number from 1 to 65535", sanitize(port)));
            }
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        // DNS has no longer names and labels, but an ID token is one: it must not be asked for.
        let too_long = host.len() > 253 || host.split('.').any(|label| label.len() > 63);
        if host.is_empty()
            || too_long
            || !host.chars().all(fits)
            || (host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err())
        {
            return invalid("is not a host name or an address");
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

/// What to write instead of an address that is not valid: the address in it, if it has one.
fn corrected(text: &str) -> String {
    let bare = text.replace(['"', '\''], "");
    // The port of another scheme is another service's.
    let bare = match bare.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some(_) => "",
        None => &bare,
    };
    let bare = bare.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = bare.rsplit_once('@').map_or(bare, |(_, host)| host);
    match (bare != text).then(|| bare.parse::<HostPort>()) {
        Some(Ok(addr)) if addr.port != 80 => format!("Write `{addr}`."),
        _ => "Write it as host:port, for example example.teleport.sh:443.".to_owned(),
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
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A cluster's name: becomes part of host names, file names and patterns, so it is checked once, here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterName(String);

impl ClusterName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its Auth Service in ALPN: lower-case hex, so that it is one label and matches the wildcard of the
    /// certificate (docs/protocol.md, "Auth Service").
    pub(crate) fn auth_server_name(&self) -> String {
        let hex: String = self.0.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}.teleport.cluster.local")
    }

    /// The name of its Auth Service in SNI. The hex label passes the 63 bytes of a DNS label when the name has 32 or
    /// more; then it is the name that all Auth certificates share (docs/decisions.md, 3).
    pub(crate) fn auth_sni(&self) -> String {
        match self.0.len() {
            0..=31 => self.auth_server_name(),
            _ => "teleport.cluster.local".to_owned(),
        }
    }
}

impl FromStr for ClusterName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let has_labels = text.split('.').all(|label| !label.is_empty());
        let good = (1..=253).contains(&text.len()) && text.chars().all(fits) && has_labels && !text.starts_with('-');
        good.then(|| Self(text.to_owned())).ok_or(())
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Result<String, String> {
        text.parse::<HostPort>().map(|addr| addr.to_string()).map_err(|invalid| invalid.to_string())
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
    fn the_address_in_an_invalid_text_is_named() {
        for (text, addr) in [
            ("https://host.example/web/login", "host.example:443"),
            ("http://localhost:40211", "localhost:40211"),
            ("'localhost:40211'", "localhost:40211"),
            ("\"https://Host.example:3080/\"", "host.example:3080"),
            ("me@host.example", "host.example:443"),
            ("host.example/?x#y", "host.example:443"),
        ] {
            assert_eq!(corrected(text), format!("Write `{addr}`."), "{text}");
        }
        for text in ["http://host.example:80", "ssh://host.example:3023", "x:port", "a b", "", "/", "\"\"", "http:///x"]
        {
            assert!(corrected(text).starts_with("Write it as "), "{text}");
        }
    }
}
