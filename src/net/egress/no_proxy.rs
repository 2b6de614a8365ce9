//! `NO_PROXY`: the hosts that bypass the forward proxy, by the rules of Go's `httpproxy` package. They differ from those of
//! other programs. Blanks separate entries, too, as for curl: in Go, an entry with a blank in it matches nothing.

use std::net::IpAddr;

use crate::address::{HostPort, split_port};
use crate::invalid::expect_plain;

/// A list of names, addresses and networks, or `*`. Names and addresses may have a port. An entry that
/// cannot be parsed matches nothing; [`useless`](NoProxy::useless) finds those.
#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy(pub(super) String);

impl NoProxy {
    /// Whether this address bypasses the forward proxy. This machine always does.
    pub(super) fn contains(&self, addr: &HostPort) -> bool {
        let ip = addr.host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        addr.host == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback())
            || self.entries().any(|entry| matches(&entry.to_ascii_lowercase(), addr, ip))
    }

    fn entries(&self) -> impl Iterator<Item = &str> {
        self.0.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty())
    }

    /// The entries that no address matches, and what to write instead.
    pub(super) fn useless(&self) -> impl Iterator<Item = (&str, String)> {
        self.entries().filter_map(|entry| Some((entry, instead_of(entry)?)))
    }
}

/// What to write instead of an entry that no address matches; `None` if one may match.
fn instead_of(entry: &str) -> Option<String> {
    if entry == "*" {
        return None;
    }
    if let Err(invalid) = expect_plain(entry) {
        return Some(format!("it {invalid}"));
    }
    if entry.contains(';') {
        return Some("separate entries by commas".to_owned());
    }
    if let Some((_, rest)) = entry.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        return Some(format!("write `{host}` without a scheme and a path"));
    }
    if entry.starts_with(|c: char| c.is_ascii_digit()) && entry.contains('*') {
        return Some("write a network as `10.0.0.0/8`".to_owned());
    }
    let name = entry.strip_prefix("*.").unwrap_or(entry);
    if name.contains('*') {
        let domain = name.trim_start_matches('*').trim_start_matches('.');
        let is_name = domain.contains('.') && !domain.contains('*');
        let example = if is_name { domain } else { "example.com" };
        return Some(format!(
            "`*` stands alone or before the first dot: write `.{example}` for all names below {example}"
        ));
    }
    if let Some((network, bits)) = entry.split_once('/') {
        let width = network.parse::<IpAddr>().ok().map(|ip| if ip.is_ipv4() { 32 } else { 128 });
        let fits = width.is_some_and(|width| bits.parse::<u32>().is_ok_and(|bits| bits <= width));
        return (!fits).then(|| "write a network as `10.0.0.0/8`, and a host without a path".to_owned());
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let (host, port) = split_port(entry).unwrap_or((entry, None));
    let is_port = port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_empty = host.trim_matches(['*', '.']).is_empty();
    let fits = is_port && !is_empty && host.strip_prefix("*.").unwrap_or(host).chars().all(is_host);
    (!fits).then(|| "write the name of a host, an address, a network or `*`".to_owned())
}

fn matches(entry: &str, addr: &HostPort, ip: Option<IpAddr>) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return ip.is_some_and(|ip| is_within(ip, network, bits).unwrap_or(false));
    }
    let (host, port) = split_port(entry).unwrap_or((entry, None));
    if host.is_empty() || port.is_some_and(|port| !port.is_empty() && port.parse() != Ok(addr.port)) {
        return false;
    }
    if let Ok(listed) = host.parse::<IpAddr>() {
        return ip == Some(listed.to_canonical());
    }
    let is_below = |domain| addr.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    // `*.foo.com` is the same as `.foo.com`: the names below it, and not the name itself.
    match host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
        Some(domain) => is_below(domain),
        None => addr.host == host || is_below(host),
    }
}

/// Whether `ip` lies in `network/bits`. Returns `None` if the network does not parse.
fn is_within(ip: IpAddr, network: &str, bits: &str) -> Option<bool> {
    let (network, bits) = (network.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
    let (width, differ) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (u32::BITS, u128::from(ip.to_bits() ^ network.to_bits())),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (u128::BITS, ip.to_bits() ^ network.to_bits()),
        _ => return Some(false),
    };
    Some(differ.checked_shr(width.checked_sub(bits)?).unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether port 80 of a host bypasses the forward proxy.
    fn contains(list: &str, host: &str) -> bool {
        NoProxy(list.to_owned()).contains(&HostPort { host: host.to_owned(), port: 80 })
    }

    #[test]
    fn entries_that_never_match_are_found() {
        let useless =
            |list: &str| NoProxy(list.to_owned()).useless().map(|(_, why)| why).collect::<Vec<_>>().join("\n");
        for (entry, part) in [
            ("a.example;b.example", "by commas"),
            ("https://proxy.example/x", "write `proxy.example` without"),
            ("proxy.*", "write `.example.com`"),
            ("*corp.example", "write `.corp.example` for all names below corp.example"),
            ("exam*.com", "`*` stands alone"),
            ("**", "`*` stands alone"),
            ("10.0.0/8", "`10.0.0.0/8`"),
            ("10.0.0.0/33", "`10.0.0.0/8`"),
            ("host.example/path", "without a path"),
            ("host:port", "name of a host"),
            ("'host.example'", "name of a host"),
            ("host\u{200b}.example", "it has an invisible character (U+200B) after `host`"),
            ("$NO_PROXY", "name of a variable"),
            ("https://x;b", "by commas"),
            ("10.*", "`10.0.0.0/8`"),
            (":443", "name of a host"),
            ("*.", "name of a host"),
            (".", "name of a host"),
        ] {
            assert!(useless(entry).contains(part), "{entry}: {}", useless(entry));
        }
        const FINE: &str =
            "*, a.example b.example,.c.example, *.d.example, e:80, e:, 10.0.0.0/8 10.1.2.3 ::1 [::1]:443 fe80::/10";
        assert_eq!(useless(FINE), "");
    }

    /// The cases of `proxy_test.go` in golang.org/x/net/http/httpproxy, without names in other scripts: ours are ASCII.
    #[test]
    fn go_has_the_same_results() {
        const LIST: &str = "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, \
            10.0.0.0/30, 2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64";
        let direct = [
            "localhost",
            "127.0.0.1",
            "127.0.0.2",
            "::1",
            "192.168.1.1",
            "192.168.1.3",
            "10.0.0.2",
            "2001:db8::52:0:1",
            "2001:db8::52:0:3",
            "2002:db8:a::123",
            "www.barbaz.net",
            "foobar.com",
            "www.foobar.com",
            "nested.wildcard.io",
        ];
        let proxied = [
            "::2",
            "192.168.1.2",
            "192.168.1.4",
            "2001:db8::52:0:2",
            "fe80::424b:c8be:1643:a1b6",
            "barbaz.net",
            "foofoobar.com",
            "baz.com",
            "localhost.net",
            "local.localhost",
            "barbarbaz.net",
            "wildcard.io",
            "awildcard.io",
        ];
        for host in direct {
            assert!(contains(LIST, host), "{host}");
        }
        for host in proxied {
            assert!(!contains(LIST, host), "{host}");
        }
        for host in direct.into_iter().chain(proxied) {
            assert!(contains("*", host), "{host}");
        }
    }

    #[test]
    fn forms_of_an_entry() {
        for (list, host, expected) in [
            ("", "example.com", false),
            (":1", "example.com", false),
            (" , ,", "example.com", false),
            ("example.com", "example.com", true),
            ("Example.COM", "example.com", true),
            (".example.com", "example.com", false),
            ("ample.com", "example.com", false),
            ("example.com:80", "example.com", true),
            ("example.com:443", "example.com", false),
            (".example.com:80", "a.b.example.com", true),
            ("*.example.com:443", "a.example.com", false),
            ("example.com:", "example.com", true),
            ("*example.com", "example.com", false),
            ("exam*.com", "example.com", false),
            ("https://example.com", "example.com", false),
            ("one,two ,\tthree", "three", true),
            ("one two", "one", true),
            ("one two", "two", true),
            // Networks.
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0/8", "10.0.0.1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/127", "2001:db8::1", true),
            ("2001:db8::/127", "2001:db8::2", false),
            // A network matches addresses, not names that resolve to them.
            ("10.0.0.0/8", "ten.example.com", false),
            // Two forms of one address.
            ("::ffff:10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("", "::ffff:127.0.0.1", true),
            ("[2001:db8::1]", "2001:db8::1", true),
        ] {
            assert_eq!(contains(list, host), expected, "{list:?} {host}");
        }
    }
}
