//! The way out of this network: straight to the address, or through a proxy that was named.
//!
//! That one is called the outgoing proxy here, because Teleport has a proxy, too. Which one, and for what, is decided
//! as Teleport's own clients do (teleport-ssh-proxy.md 7, and golang.org/x/net/http/httpproxy, which they use), so that
//! an environment that works for them works here. The layers: [`dial`] to the outgoing proxy, TLS to it if its URL is
//! `https://`, then `connect` or `socks5`. It is given the cluster's name as it is: the name need not resolve here.

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

/// The variables that name an outgoing proxy; the first that is set counts.
pub(crate) const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// The variables that say what is reached without it; the first that is set counts.
pub(crate) const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The name under which errors mention what is read from a file.
const FROM_FILE: &str = "network.json";

/// How connections leave this network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Egress {
    proxy: Option<Proxy>,
    exempt: NoProxy,
}

impl Egress {
    /// What the environment says. `ALL_PROXY` says nothing, here as in Teleport's own clients.
    ///
    /// # Errors
    /// The variable that counts cannot be understood.
    pub(crate) fn from_environment(env: &Environment) -> Result<Self, invalid::Error> {
        // What a web server hands to its programs may come from whoever asked: then `Proxy: evil` is HTTP_PROXY.
        let is_cgi = env.get("REQUEST_METHOD").is_some();
        let believed = |name: &&str| !is_cgi || !name.eq_ignore_ascii_case("HTTP_PROXY");
        let named = PROXY_VARIABLES.into_iter().filter(believed).find_map(|name| Some((name, env.get(name)?)));
        let proxy = named.map(|(name, text)| Proxy::parse(name, text)).transpose()?;
        let exempt = NO_PROXY_VARIABLES.into_iter().map(|name| env.list(name)).find(|list| !list.is_empty());
        Ok(Self { proxy, exempt: NoProxy::new(exempt.unwrap_or_default().join(",")) })
    }

    /// What a file of ours keeps of it: [`url`](Self::url) and [`exempt`](Self::exempt).
    ///
    /// # Errors
    /// The URL cannot be understood.
    pub(crate) fn from_file(url: &str, exempt: &str) -> Result<Self, invalid::Error> {
        Ok(Self { proxy: Some(Proxy::parse(FROM_FILE, url)?), exempt: NoProxy::new(exempt.to_owned()) })
    }

    /// The outgoing proxy with its credentials, which are secret; `None` if there is none.
    pub(crate) fn url(&self) -> Option<zeroize::Zeroizing<String>> {
        self.proxy.as_ref().map(Proxy::url)
    }

    /// What is reached without it, as in `NO_PROXY`.
    pub(crate) fn exempt(&self) -> &str {
        self.exempt.as_str()
    }

    /// Says in the log by which outgoing proxy this address is reached, if by one.
    pub(crate) fn tell(&self, addr: &HostPort) {
        if let Some(proxy) = self.proxy_for(addr) {
            log::info!(target: "discover", "to {addr} by the outgoing proxy {proxy}");
        }
    }

    /// The outgoing proxy for this address, fit for a log; `None` if it is reached directly.
    pub(crate) fn through(&self, addr: &HostPort) -> Option<String> {
        self.proxy_for(addr).map(ToString::to_string)
    }

    /// Whether the outgoing proxy shows a web certificate on the way to this address.
    pub(crate) fn is_secured(&self, addr: &HostPort) -> bool {
        self.proxy_for(addr).is_some_and(|proxy| proxy.scheme == Scheme::Https)
    }

    /// Bytes to and from this address. `web` is who is believed where the outgoing proxy speaks TLS.
    ///
    /// # Errors
    /// It is not reached, or the outgoing proxy is not, or does not want to.
    pub(crate) async fn connect(&self, addr: &HostPort, web: &Trust, deadline: Deadline) -> Result<Stream, NetError> {
        let Some(proxy) = self.proxy_for(addr) else {
            return Ok(Box::new(dial::connect(addr, deadline).await?));
        };
        let unreached = |source| NetError::EgressUnreached { proxy: proxy.to_string(), source: Box::new(source) };
        let stream = proxy.reach(web, deadline).await.map_err(unreached)?;
        let asking = async {
            match proxy.scheme {
                Scheme::Http | Scheme::Https => connect::ask(stream, proxy, addr).await,
                Scheme::Socks5 => socks5::ask(stream, proxy, addr).await,
            }
        };
        let awaited = WaitingFor { addr: proxy.addr.to_string(), what: "its connection to the cluster" };
        let asking = async { Ok(asking.await) };
        let answer = deadline.bound(awaited, asking).await;
        let late = |_: WaitingFor| Error::Late { proxy: proxy.to_string(), target: addr.to_string() };
        Ok(answer.map_err(late).flatten()?)
    }

    fn proxy_for(&self, addr: &HostPort) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| !self.exempt.has(addr))
    }
}

impl Proxy {
    /// A connection to the outgoing proxy itself.
    async fn reach(&self, web: &Trust, deadline: Deadline) -> Result<Stream, NetError> {
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

    fn through(variables: &[(&'static str, &'static str)]) -> Option<String> {
        egress(variables).proxy_for(&"example.teleport.sh:443".parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn which_variable_counts() {
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
            // As a program of a web server.
            (&[("HTTP_PROXY", "c"), ("REQUEST_METHOD", "GET")], None),
            (&[("http_proxy", "d"), ("REQUEST_METHOD", "GET")], None),
            (&[("HTTPS_PROXY", "a"), ("HTTP_PROXY", "c"), ("REQUEST_METHOD", "GET")], Some("a")),
        ] {
            let found = through(variables);
            let host = found.as_deref().map(|text| text.strip_prefix("http://").unwrap().split(':').next().unwrap());
            assert_eq!(host, proxy, "{variables:?}");
        }
    }

    #[test]
    fn a_file_keeps_all_of_it() {
        let given = egress(&[("https_proxy", "https://me%40x:p%3A%2Fw%00@p.example"), ("NO_PROXY", " a, .b:80")]);
        let kept = Egress::from_file(&given.url().unwrap(), given.exempt()).unwrap();
        assert_eq!((kept.url(), kept.exempt()), (given.url(), "a,.b:80"));
        let cluster = "example.teleport.sh:443".parse().unwrap();
        assert_eq!(kept.proxy_for(&cluster).unwrap().to_string(), "https://p.example:443 (network.json)");
        assert!(kept.is_secured(&cluster) && !kept.is_secured(&"a:1".parse().unwrap()));
    }

    #[test]
    fn debug_shows_no_credentials() {
        let shown = format!("{:?}", egress(&[("HTTPS_PROXY", "http://somebody:s3cret@p.example:3128")]));
        assert!(shown.contains("p.example") && !shown.contains("s3cret") && !shown.contains("somebody"), "{shown}");
    }
}
