//! Endpoints that issue ID tokens (docs/protocol.md, "Other CIs").
//!
//! They are asked over the same connections as the cluster: forward proxies, certificate authorities and deadlines hold
//! for them, too. `ureq` is not used for them, because it would bring all of these a second time (docs/decisions.md, 1).

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderName};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Error, IdToken, Platform};
use crate::address::HostPort;
use crate::environment::Environment;
use crate::error::Retry;
use crate::net::http::{Answer, Call};
use crate::net::network::Network;
use crate::net::{self, discovery::error_message};
use crate::retry::{Deadline, RetryAfter, Transient, retry};

/// How an endpoint is asked.
pub(crate) struct Endpoint {
    /// The variables that it needs, the one that only this platform has first.
    pub(super) variables: &'static [&'static str],
    /// The value of the first variable, if it may be unset.
    pub(super) otherwise: Option<&'static str>,
    /// The URL to ask, from the variables' values in their order.
    pub(super) url: fn(&[&str]) -> String,
    /// Which of the variables is sent as `Authorization: Bearer`.
    pub(super) bearer: Option<usize>,
    /// A header that it demands, in lower case.
    pub(super) header: Option<(&'static str, &'static str)>,
    pub(super) accept: &'static str,
    pub(super) is_post: bool,
    /// Whether it is a metadata service, which is never reached through a forward proxy.
    pub(super) is_direct: bool,
    /// The member of the JSON that holds the ID token; `None` if the body is the ID token itself.
    pub(super) member: Option<&'static str>,
}

/// A request for an ID token.
pub(crate) struct TokenRequest {
    addr: HostPort,
    is_https: bool,
    path: Zeroizing<String>,
    authorization: Option<Zeroizing<String>>,
    endpoint: &'static Endpoint,
}

/// Shows the host only.
impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(super) const GENERAL: Self = Self {
        variables: &[],
        otherwise: None,
        url: |_| String::new(),
        bearer: None,
        header: None,
        accept: "application/json",
        is_post: false,
        is_direct: false,
        member: None,
    };

    /// The access token that is sent to it.
    pub(super) fn secret<'a>(&self, env: &'a Environment) -> Option<&'a str> {
        env.get(self.variables.get(self.bearer?)?)
    }

    pub(super) fn is_in(&self, env: &Environment) -> bool {
        self.variables.first().is_some_and(|variable| env.get(variable).is_some())
    }

    /// # Errors
    /// A variable is missing, or the URL is not one.
    pub(super) fn request(
        &'static self,
        platform: &'static Platform,
        env: &Environment,
    ) -> Result<TokenRequest, Error> {
        let missing = |variable: &str| Error::Missing { platform, variable: variable.to_owned() };
        let values = self.variables.iter().enumerate().map(|(at, variable)| {
            env.get(variable).or(self.otherwise.filter(|_| at == 0)).ok_or_else(|| missing(variable))
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let url = Zeroizing::new((self.url)(&values));
        let invalid = || Error::NotAUrl { platform, variable: self.variables.first().copied().unwrap_or_default() };
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let (host, is_https) = (uri.host().ok_or_else(invalid)?, uri.scheme_str() == Some("https"));
        let is_here =
            host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        // An access token is sent in clear on this machine only.
        if !is_https && (uri.scheme_str() != Some("http") || (self.bearer.is_some() && !is_here)) {
            return Err(invalid());
        }
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(TokenRequest {
            addr: HostPort { host: host.trim_matches(['[', ']']).to_owned(), port },
            is_https,
            path: Zeroizing::new(path.to_owned()),
            authorization: self.bearer.map(|at| Zeroizing::new(format!("Bearer {}", values[at]))),
            endpoint: self,
        })
    }
}

impl TokenRequest {
    /// Requests the ID token.
    ///
    /// # Errors
    /// The endpoint is not reached, or its answer is not an ID token.
    pub(crate) async fn send(
        &self,
        platform: &'static Platform,
        network: &Network,
        deadline: Deadline,
    ) -> Result<IdToken, Error> {
        let answer = retry("token", deadline, |deadline| self.once(network, deadline)).await;
        let answer = answer.map_err(|source| Error::Endpoint { platform, addr: self.addr.to_string(), source })?;
        self.read(platform, &answer)
    }

    async fn once(&self, network: &Network, deadline: Deadline) -> Result<Answer, Refused> {
        let mut http = match self.is_https {
            true => network.web(&self.addr, deadline).await?,
            false => network.plain_http(&self.addr, self.endpoint.is_direct, deadline).await?,
        };
        let authorization = self.authorization.iter().map(|value| (AUTHORIZATION, value.as_str()));
        let header = self.endpoint.header.map(|(name, value)| (HeaderName::from_static(name), value));
        let headers: Vec<_> = authorization.chain(header).collect();
        let (accept, is_post) = (self.endpoint.accept, self.endpoint.is_post);
        let call = Call { path: &self.path, is_post, json: None, accept, headers: &headers };
        let answer = http.call(call, deadline).await?;
        let message = || error_message(&answer.body);
        match answer.status {
            200 => Ok(answer),
            status => Err(Refused::Status { status, message: message(), retry_after: answer.retry_after }),
        }
    }

    fn read(&self, platform: &'static Platform, answer: &Answer) -> Result<IdToken, Error> {
        let body = Zeroizing::new(String::from_utf8_lossy(&answer.body).into_owned());
        let text: Option<Cow<'_, str>> = match self.endpoint.member {
            None => Some(body.trim().into()),
            Some(member) => {
                let json = serde_json::from_str::<Value>(&body).ok();
                json.and_then(|json| Some(json.get(member)?.as_str()?.to_owned().into()))
            }
        };
        let text = text.map(|text| Zeroizing::new(text.into_owned())).filter(|text| !text.is_empty());
        let without = || Error::NoTokenInAnswer { platform, addr: self.addr.to_string() };
        let text = text.ok_or_else(without)?;
        crate::log::hide(&text);
        IdToken::parse(platform, &text).ok_or_else(without)
    }
}

/// Why an endpoint issued no ID token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error("{message} (HTTP {status}){retry_after}")]
    Status { status: u16, message: String, retry_after: RetryAfter },
}

impl Transient for Refused {
    fn retry(&self) -> Retry {
        match self {
            Self::Net(error) => error.retry(),
            Self::Status { status: 429 | 500.., .. } => Retry::Yes,
            Self::Status { .. } => Retry::No,
        }
    }

    fn retry_after(&mut self) -> Option<&mut RetryAfter> {
        match self {
            Self::Net(error) => error.retry_after(),
            Self::Status { retry_after, .. } => Some(retry_after),
        }
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn an_access_token_is_sent_in_clear_on_this_machine_only() {
        let request = |url: &str| {
            let env = [("ACTIONS_ID_TOKEN_REQUEST_URL", url), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret")];
            let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
            let platform = crate::platform::ALL.into_iter().find(|platform| platform.method == "github").unwrap();
            platform.find(None, &env).is_ok()
        };
        for url in
            ["https://a.example/token?b", "http://127.0.0.1:80/token?b", "http://[::1]/?b", "http://localhost/?b"]
        {
            assert!(request(url), "{url}");
        }
        for url in ["http://a.example/token?b", "http://127.0.0.1.example/?b", "ftp://localhost/?b", "/token?b", ""] {
            assert!(!request(url), "{url}");
        }
    }
}
