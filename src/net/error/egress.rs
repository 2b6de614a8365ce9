//! Why the forward proxy does not connect us. No error contains its credentials.

use super::{network, once};
use crate::error::{Advice, Explain, Retry};
use crate::net::protocol::Protocol;
use crate::text::sanitize;

/// Why there is no connection through the forward proxy. `proxy` is its URL without credentials, and the variable that
/// names it; `target` is `host:port`; `answer` is that of the proxy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the forward proxy {proxy} does not answer in time (waiting for its connection to {target})")]
    Timeout { proxy: String, target: String },
    #[error("the connection to the forward proxy {proxy} broke ({reason})")]
    Broken { proxy: String, reason: String },
    #[error("the server at {proxy} is not a forward proxy of that kind ({found})")]
    NotAProxy { proxy: String, found: String },
    /// 407, or what SOCKS5 has for it. `given` is whether the URL has credentials.
    #[error("the forward proxy {proxy} {} ({answer})", if *given { "does not accept the credentials" } else { "requires credentials" })]
    Credentials { proxy: String, given: bool, answer: String },
    #[error("the forward proxy {proxy} requires authentication by {schemes}, which is not supported")]
    AuthScheme { proxy: String, schemes: String },
    #[error("the forward proxy {proxy} refuses a connection to {target} ({answer})")]
    Refused { proxy: String, target: String, answer: String },
    #[error("the forward proxy {proxy} cannot reach {target} ({answer})")]
    Unreachable { proxy: String, target: String, answer: String },
    /// After a success the first bytes are not TLS. Completes "it is {found}".
    #[error(
        "the forward proxy {proxy} says that it has connected to {target}, but what answers is {found} instead of TLS"
    )]
    Intercepted { proxy: String, target: String, found: String },
}

impl Error {
    /// The error for a server whose first bytes are not those of a proxy.
    pub(crate) fn not_a_proxy(proxy: String, first: &[u8]) -> Self {
        let found = match Protocol::identify(first) {
            None => "it says nothing",
            Some(Protocol::Tls) => "it speaks TLS",
            Some(Protocol::Ssh) => "it speaks SSH",
            Some(Protocol::Http) => "it speaks HTTP",
            Some(Protocol::Socks5) => "it speaks SOCKS5",
            Some(Protocol::Unknown) => {
                let first = String::from_utf8_lossy(first.get(..40).unwrap_or(first));
                &format!("it says `{}`", sanitize(&first))
            }
        };
        Self::NotAProxy { proxy, found: found.to_owned() }
    }
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        match self {
            Self::Timeout { .. } => network(
                Retry::Yes,
                "the-outgoing-proxy-does-not-answer",
                "It hangs, or it waits for the cluster, which does not answer.",
                CHECK_PROXY,
            ),
            Self::Broken { .. } => network(
                Retry::Yes,
                "the-outgoing-proxy-breaks-off",
                "It was restarted, or it does not serve this runner.",
                "Run the step again; if it keeps failing, ask the administrators of that proxy.",
            ),
            Self::NotAProxy { .. } => once(
                "not-an-outgoing-proxy",
                "The URL has the port or the scheme of another service.",
                "Write the port and the scheme of the proxy: http:// for one that is spoken to in clear, https:// for \
                 one that speaks TLS, socks5:// for SOCKS5.",
            ),
            Self::Credentials { given: true, .. } => network(
                Retry::No,
                "the-outgoing-proxy-wants-credentials",
                "They are wrong or no longer valid, or a character in them has to be written as %XX.",
                "Correct them in HTTPS_PROXY, a secured variable: `@` in them is %40, `:` is %3A, `/` is %2F, `%` is %25.",
            ),
            Self::Credentials { given: false, .. } => network(
                Retry::No,
                "the-outgoing-proxy-wants-credentials",
                "The URL has no user and no password in it.",
                "Write `user:password@` in front of the host in the URL, and keep the URL in a secured variable.",
            ),
            Self::AuthScheme { .. } => network(
                Retry::No,
                "the-outgoing-proxy-wants-credentials",
                "The proxy authenticates domain-joined machines; a CI runner is not one.",
                "Ask the administrators of that proxy to admit the runner by Basic authentication or by its address.",
            ),
            Self::Refused { .. } => network(
                Retry::No,
                "the-outgoing-proxy-refuses",
                "The company's rules do not allow that host or that port.",
                "Ask the administrators of that proxy to allow CONNECT to that host and port, without intercepting TLS.",
            ),
            Self::Intercepted { .. } => once(
                "the-outgoing-proxy-answers-itself",
                "The proxy answers itself, mostly with a page that says why it blocks the address; or the port is that of \
                 another service.",
                "Ask the administrators of that proxy to allow CONNECT to that host and port. Check the port of \
                 PROXY_SERVER (--proxy-server), too.",
            ),
            Self::Unreachable { .. } => network(
                Retry::Yes,
                "the-outgoing-proxy-does-not-get-through",
                "The cluster is down, or its name does not resolve in the network of that proxy.",
                CHECK_PROXY,
            ),
        }
    }
}

const CHECK_PROXY: &str = "Ask the administrators of that proxy whether it can reach the cluster. If this runner does \
                               not need it, name the cluster in NO_PROXY.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_an_unknown_protocol_are_quoted() {
        let error = Error::not_a_proxy("p".to_owned(), b"220 mail\x1b[31m ready\r\n");
        assert!(error.to_string().ends_with("(it says `220 mail [31m ready`)"), "{error}");
    }
}
