//! How connections leave this network: directly, or through a forward proxy that a variable names.
//!
//! "Proxy" alone always means Teleport's Proxy Service. Teleport's own clients decide in the same way whether a forward
//! proxy is used (docs/protocol.md, "Forward proxy", and golang.org/x/net/http/httpproxy, which they use), so that an
//! environment that works for them works here. The layers are [`dial`] to the forward proxy, TLS to it if its URL is
//! `https://`, then `connect` or `socks5`. The forward proxy resolves the cluster's name, which need not resolve here.

mod connect;
mod forward_proxy;
mod no_proxy;
mod socks5;

use self::forward_proxy::{Proxy, Scheme};
use self::no_proxy::NoProxy;
use super::error::egress::Error;
use super::tls::{self, Service, Trust};
use super::{Error as NetError, Stream, dial};
use crate::address::HostPort;
use crate::environment::Environment;
use crate::invalid;
use crate::retry::{Deadline, WaitingFor};
use crate::text::sanitize;

/// The variables that name a forward proxy. The first one that is set counts.
pub(crate) const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// The variables that list the hosts that bypass it. The first one that is set counts.
pub(crate) const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

#[derive(Clone, Debug, Default)]
pub(crate) struct Egress {
    proxy: Option<Proxy>,
    exempt: NoProxy,
}

impl Egress {
    /// Reads the environment. `ALL_PROXY` is not used, as in Teleport's own clients.
    pub(crate) fn from_environment(env: &Environment) -> Result<Self, invalid::Error> {
        // A web server sets HTTP_PROXY for its CGI programs if a client sends the header `Proxy`.
        let is_cgi = env.get("REQUEST_METHOD").is_some();
        let is_trusted = |name: &&str| !is_cgi || !name.eq_ignore_ascii_case("HTTP_PROXY");
        let named = PROXY_VARIABLES.into_iter().filter(is_trusted).find_map(|name| Some((name, env.get(name)?)));
        let proxy = named.map(|(name, text)| Proxy::parse(name, text)).transpose()?;
        let exempt = NO_PROXY_VARIABLES.into_iter().map(|name| env.list(name)).find(|list| !list.is_empty());
        Ok(Self { proxy, exempt: NoProxy(exempt.unwrap_or_default().join(",")) })
    }

    /// Restores what a file keeps: [`url`](Self::url) and [`exempt`](Self::exempt).
    pub(crate) fn from_file(url: &str, exempt: &str) -> Result<Self, invalid::Error> {
        Ok(Self { proxy: Some(Proxy::parse("network.json", url)?), exempt: NoProxy(exempt.to_owned()) })
    }

    /// The URL of the forward proxy with its credentials, which are secret.
    pub(crate) fn url(&self) -> Option<zeroize::Zeroizing<String>> {
        self.proxy.as_ref().map(Proxy::url)
    }

    /// The hosts that bypass it, as in `NO_PROXY`.
    pub(crate) fn exempt(&self) -> &str {
        &self.exempt.0
    }

    pub(crate) fn log_proxy(&self, addr: &HostPort) {
        self.useless_exemptions().for_each(|text| log::warn!(target: "variables", "{text}"));
        if let Some(proxy) = self.proxy_for(addr) {
            log::info!(target: "discover", "to {addr} through the forward proxy {proxy}");
        }
    }

    /// Warnings of the entries of `NO_PROXY` that no host matches. Without a forward proxy there is nothing to bypass.
    pub(crate) fn useless_exemptions(&self) -> impl Iterator<Item = String> {
        let useless = self.proxy.iter().flat_map(|_| self.exempt.useless());
        useless.map(|(entry, instead)| match entry.contains('@') {
            // A URL with credentials.
            true => {
                "NO_PROXY has an entry with `@` (not shown), which no host matches: write the name of a host".to_owned()
            }
            false => format!("NO_PROXY has `{}`, which no host matches: {instead}", sanitize(entry)),
        })
    }

    /// The forward proxy for this address without credentials; `None` if the connection is direct.
    pub(crate) fn proxy_name(&self, addr: &HostPort) -> Option<String> {
        self.proxy_for(addr).map(ToString::to_string)
    }

    /// Whether the forward proxy for this address speaks TLS.
    pub(crate) fn uses_tls(&self, addr: &HostPort) -> bool {
        self.proxy_for(addr).is_some_and(|proxy| proxy.scheme == Scheme::Https)
    }

    /// Connects to this address. `web` is for a forward proxy that speaks TLS.
    pub(crate) async fn connect(&self, addr: &HostPort, web: &Trust, deadline: Deadline) -> Result<Stream, NetError> {
        let Some(proxy) = self.proxy_for(addr) else {
            return Ok(Box::new(dial::connect(addr, deadline).await?));
        };
        let unreached = |source| NetError::EgressUnreached { proxy: proxy.to_string(), source: Box::new(source) };
        let stream = proxy.dial(web, deadline).await.map_err(unreached)?;
        let connecting = async {
            Ok(match proxy.scheme {
                Scheme::Http | Scheme::Https => connect::connect(stream, proxy, addr).await,
                Scheme::Socks5 => socks5::connect(stream, proxy, addr).await,
            })
        };
        let waiting_for = WaitingFor { addr: proxy.addr.to_string(), what: "its connection to the cluster" };
        let answer = deadline.bound(waiting_for, connecting).await;
        let timeout = |_: WaitingFor| Error::Timeout { proxy: proxy.to_string(), target: addr.to_string() };
        Ok(answer.map_err(timeout).flatten()?)
    }

    fn proxy_for(&self, addr: &HostPort) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| !self.exempt.contains(addr))
    }
}

impl Proxy {
    async fn dial(&self, web: &Trust, deadline: Deadline) -> Result<Stream, NetError> {
        let stream = dial::connect(&self.addr, deadline).await?;
        match self.scheme {
            Scheme::Https => tls::connect(stream, &self.addr.host, &Service::Web, web, deadline).await,
            Scheme::Http | Scheme::Socks5 => Ok(Box::new(stream)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(variables: &[(&'static str, &'static str)]) -> Egress {
        Egress::from_environment(&variables.iter().copied().collect()).unwrap()
    }

    fn proxy_for(variables: &[(&'static str, &'static str)]) -> Option<String> {
        egress(variables).proxy_for(&"example.teleport.sh:443".parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        for (variables, proxy) in [
            (&[][..], None),
            (&[("ALL_PROXY", "p")], None),
            (&[("FTP_PROXY", "p")], None),
            (&[("http_proxy", "d"), ("HTTP_PROXY", "c"), ("https_proxy", "b"), ("HTTPS_PROXY", "a")], Some("a")),
            (&[("http_proxy", "d"), ("HTTP_PROXY", "c"), ("https_proxy", "b"), ("HTTPS_PROXY", "")], Some("b")),
            (&[("http_proxy", "d"), ("HTTP_PROXY", "c")], Some("c")),
            (&[("http_proxy", "d")], Some("d")),
            (&[("HTTPS_PROXY", "a"), ("NO_PROXY", "teleport.sh")], None),
            (&[("HTTPS_PROXY", "a"), ("no_proxy", "other, teleport.sh")], None),
            (&[("HTTPS_PROXY", "a"), ("no_proxy", "teleport.sh"), ("NO_PROXY", "other")], Some("a")),
            (
                &[("HTTPS_PROXY", "a"), ("NO_PROXY_COUNT", "2"), ("NO_PROXY_0", "x"), ("NO_PROXY_1", "teleport.sh")],
                None,
            ),
            // As a CGI program.
            (&[("HTTP_PROXY", "c"), ("REQUEST_METHOD", "GET")], None),
            (&[("http_proxy", "d"), ("REQUEST_METHOD", "GET")], None),
            (&[("HTTPS_PROXY", "a"), ("HTTP_PROXY", "c"), ("REQUEST_METHOD", "GET")], Some("a")),
        ] {
            let found = proxy_for(variables);
            let host = found.as_deref().map(|text| text.strip_prefix("http://").unwrap().split(':').next().unwrap());
            assert_eq!(host, proxy, "{variables:?}");
        }
    }

    #[test]
    fn a_file_restores_everything() {
        let given = egress(&[("https_proxy", "https://me%40x:p%3A%2Fw%00@p.example"), ("NO_PROXY", " a, .b:80")]);
        let kept = Egress::from_file(&given.url().unwrap(), given.exempt()).unwrap();
        assert_eq!((kept.url(), kept.exempt()), (given.url(), "a,.b:80"));
        let cluster = "example.teleport.sh:443".parse().unwrap();
        assert_eq!(kept.proxy_for(&cluster).unwrap().to_string(), "https://p.example:443 (network.json)");
        assert!(kept.uses_tls(&cluster) && !kept.uses_tls(&"a:1".parse().unwrap()));
    }

    #[test]
    fn debug_does_not_show_credentials() {
        let shown = format!("{:?}", egress(&[("HTTPS_PROXY", "http://alice:s3cret@p.example:3128")]));
        assert!(shown.contains("p.example") && !shown.contains("s3cret") && !shown.contains("alice"), "{shown}");
    }
}
