//! What is reached without the outgoing proxy: `NO_PROXY` by the rules of Go's `httpproxy` package, which differ from
//! those of other programs.

use std::net::IpAddr;

use crate::address::{HostPort, split_port};

/// A list as it was given: names, addresses, networks, each but networks with or without a port, or `*`.
#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy(String);

impl NoProxy {
    /// What cannot be understood in it exempts nothing.
    pub(super) fn new(list: String) -> Self {
        Self(list)
    }

    /// The list.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this address is reached without. This machine always is.
    pub(super) fn has(&self, addr: &HostPort) -> bool {
        let ip = addr.host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        addr.host == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback())
            || self.0.split(',').any(|entry| exempts(&entry.trim().to_ascii_lowercase(), addr, ip))
    }
}

fn exempts(entry: &str, addr: &HostPort, ip: Option<IpAddr>) -> bool {
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
    // `*.foo.com` is another way to write `.foo.com`: what is below it, and not itself.
    match host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
        Some(domain) => is_below(domain),
        None => addr.host == host || is_below(host),
    }
}

/// Whether an address is in a network; `None` if that is none.
fn is_within(ip: IpAddr, network: &str, bits: &str) -> Option<bool> {
    let (network, bits) = (network.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let differ = ip.to_bits() ^ network.to_bits();
            Some(differ.checked_shr(u32::BITS.checked_sub(bits)?).unwrap_or(0) == 0)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let differ = ip.to_bits() ^ network.to_bits();
            Some(differ.checked_shr(u128::BITS.checked_sub(bits)?).unwrap_or(0) == 0)
        }
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether port 80 of a host is reached without, by this list.
    fn has(list: &str, host: &str) -> bool {
        NoProxy::new(list.to_owned()).has(&HostPort { host: host.to_owned(), port: 80 })
    }

    /// The cases of `proxy_test.go` in golang.org/x/net/http/httpproxy, but for names in other scripts: ours are ASCII.
    #[test]
    fn as_go_does_it() {
        const LIST: &str = "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, \
            10.0.0.0/30, 2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64";
        let without = [
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
        let through = [
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
        for host in without {
            assert!(has(LIST, host), "{host}");
        }
        for host in through {
            assert!(!has(LIST, host), "{host}");
        }
        for host in without.into_iter().chain(through) {
            assert!(has("*", host), "{host}");
        }
    }

    #[test]
    fn forms_and_their_edges() {
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
            ("one two", "one", false),
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
            // Whoever speaks of a network speaks of addresses, not of names that lead there.
            ("10.0.0.0/8", "ten.example.com", false),
            // One address, two ways to write it.
            ("::ffff:10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("", "::ffff:127.0.0.1", true),
            ("[2001:db8::1]", "2001:db8::1", true),
        ] {
            assert_eq!(has(list, host), expected, "{list:?} {host}");
        }
    }
}
