//! Why the outgoing proxy does not let us through. None of these knows its credentials.

use crate::error::{Advice, Exit, Explain, Retry};
use crate::net::protocol::Protocol;
use crate::retry::Transient;
use crate::text::sanitize;

/// Why there is no connection through the outgoing proxy. `proxy` is always its URL without credentials, and what named
/// it; `target` is `host:port`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It takes the question and never answers.
    #[error("the outgoing proxy {proxy} does not answer in time (waiting for its connection to {target})")]
    Late {
        /// Which one.
        proxy: String,
        /// Where to.
        target: String,
    },
    /// It goes away before it has answered.
    #[error("the connection to the outgoing proxy {proxy} broke ({reason})")]
    Broken {
        /// Which one.
        proxy: String,
        /// What the layer that saw it says.
        reason: String,
    },
    /// Something else listens there.
    #[error("the outgoing proxy {proxy} is not one of that kind ({found})")]
    NotAProxy {
        /// Which one.
        proxy: String,
        /// What it said instead.
        found: String,
    },
    /// 407, or SOCKS's way to say that.
    #[error("the outgoing proxy {proxy} {} ({said})", if *given { "does not accept the credentials" } else { "wants credentials" })]
    Credentials {
        /// Which one.
        proxy: String,
        /// Whether it was sent some.
        given: bool,
        /// Its words.
        said: String,
    },
    /// 407 without a way that we know.
    #[error("the outgoing proxy {proxy} wants to be signed in to by {schemes}, which is not supported")]
    SignIn {
        /// Which one.
        proxy: String,
        /// What it offers.
        schemes: String,
    },
    /// It could, but may not.
    #[error("the outgoing proxy {proxy} refuses a connection to {target} ({said})")]
    Refused {
        /// Which one.
        proxy: String,
        /// Where to.
        target: String,
        /// Its words.
        said: String,
    },
    /// It would, but cannot.
    #[error("the outgoing proxy {proxy} does not get through to {target} ({said})")]
    NoWay {
        /// Which one.
        proxy: String,
        /// Where to.
        target: String,
        /// Its words.
        said: String,
    },
}

impl Error {
    /// The error for a server whose first bytes are not those of a proxy.
    pub(crate) fn not_a_proxy(proxy: String, first: &[u8]) -> Self {
        let found = match Protocol::identify(first) {
            None => "it says nothing".to_owned(),
            Some(Protocol::Tls) => "it speaks TLS".to_owned(),
            Some(Protocol::Ssh) => "it speaks SSH".to_owned(),
            Some(Protocol::Http) => "it speaks HTTP".to_owned(),
            Some(Protocol::Socks5) => "it speaks SOCKS5".to_owned(),
            Some(Protocol::Unknown) => {
                let first = String::from_utf8_lossy(first.get(..40).unwrap_or(first));
                format!("it says `{}`", sanitize(&first))
            }
        };
        Self::NotAProxy { proxy, found }
    }
}

impl Transient for Error {
    fn retry(&self) -> Retry {
        self.advice().retry
    }
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        let network = |retry, anchor, cause: &'static str, remedy: &'static str| {
            Advice::new(Exit::Network, anchor, remedy).cause(cause).retry(retry)
        };
        match self {
            Self::Late { .. } => network(
                Retry::Yes,
                "the-outgoing-proxy-does-not-answer",
                "It hangs, or waits for the cluster, which does not answer it.",
                REACHES_CLUSTER,
            ),
            Self::Broken { .. } => network(
                Retry::Yes,
                "the-outgoing-proxy-breaks-off",
                "It was restarted, or does not take this runner for one of its own.",
                "Run the step again; if it keeps failing, ask whoever runs that proxy.",
            ),
            Self::NotAProxy { .. } => network(
                Retry::Once,
                "not-an-outgoing-proxy",
                "The URL has the port or the scheme of something else.",
                "Write the port and the scheme of the proxy: http:// for one that is spoken to in clear, https:// for \
                 one that speaks TLS, socks5:// for SOCKS5.",
            ),
            Self::Credentials { given: true, .. } => network(
                Retry::No,
                "the-outgoing-proxy-wants-credentials",
                "They are wrong or no longer valid, or a character in them needs to be written as %XX.",
                "Correct them in HTTPS_PROXY, a secured variable: `@` in them is %40, `:` is %3A, `/` is %2F, `%` is %25.",
            ),
            Self::Credentials { given: false, .. } => network(
                Retry::No,
                "the-outgoing-proxy-wants-credentials",
                "The URL has no user and no password in it.",
                "Write them into the URL, in front of the host, `user:password@`, and keep that in a secured variable.",
            ),
            Self::SignIn { .. } => network(
                Retry::No,
                "the-outgoing-proxy-wants-credentials",
                "The company signs people in by their own machines, which a runner is not.",
                "Ask whoever runs that proxy for a way in by Basic, or by the runner's address.",
            ),
            Self::Refused { .. } => network(
                Retry::No,
                "the-outgoing-proxy-refuses",
                "The company's rules do not allow that host, or not that port.",
                "Ask whoever runs that proxy to allow CONNECT to that host and port, without opening TLS.",
            ),
            Self::NoWay { .. } => network(
                Retry::Yes,
                "the-outgoing-proxy-does-not-get-through",
                "The cluster is down, or the name does not resolve where that proxy stands.",
                REACHES_CLUSTER,
            ),
        }
    }
}

const REACHES_CLUSTER: &str = "Ask whoever runs that proxy whether it gets through to the cluster. If this runner does \
                               without it, name the cluster in NO_PROXY.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_an_unknown_protocol_are_quoted() {
        let error = Error::not_a_proxy("p".to_owned(), b"220 mail\x1b[31m ready\r\n");
        assert!(error.to_string().ends_with("(it says `220 mail [31m ready`)"), "{error}");
    }
}
