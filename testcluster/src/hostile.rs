//! A hostile cluster: what it answers instead of the honest answer. Each test tells the lie that it needs, in any field, list,
//! size or stream, so that every feature can be attacked in the same way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use teleport_api::proto::Certs;
use teleport_api::types::CertAuthorityV2;

use crate::injection::Exchange;

/// Changes an honest answer.
pub type Change<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

/// A lie of the cluster.
#[derive(Clone)]
#[non_exhaustive]
pub enum Lie {
    /// About the body of `GET /webapi/find`.
    Find(Change<Value>),
    /// About the certificate authorities in the answer to a join, in DER.
    JoinAuthorities(Change<Vec<Vec<u8>>>),
    /// A gRPC method of this name answers with these bytes as its message, whatever it is asked.
    Message(&'static str, Vec<u8>),
    /// About the roles that the bot may impersonate.
    Roles(Change<Vec<String>>),
    /// About the list of host CAs.
    HostAuthorities(Change<Vec<CertAuthorityV2>>),
    /// About the list of user CAs.
    UserAuthorities(Change<Vec<CertAuthorityV2>>),
    /// About the principals of the SSH certificate, which is signed afterwards.
    Principals(Change<Vec<String>>),
    /// About the encoded user certificates.
    UserCerts(Change<Certs>),
    /// The call is refused with a text that is made of the ID token. A join is [`Exchange::OidcInit`], by both services.
    Refusal(Exchange, Arc<dyn Fn(&str) -> String + Send + Sync>),
    /// The HTTP request is answered with this status and this body, as JSON.
    Answer(Exchange, u16, String),
    /// The HTTP request is answered with a redirect to this address, which asks for the same method and body.
    Redirect(Exchange, String),
    /// Critical options of the SSH certificate.
    CriticalOptions(Vec<(&'static str, String)>),
    /// Bytes that are sent to the client's agent when a session begins, although the proxy does not record.
    Agent(Vec<u8>),
    /// Bytes that the node sends before its own, in frames of this size.
    Node(Vec<u8>, usize),
}

impl Lie {
    /// See [`Lie::Find`].
    pub fn find(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Find(Arc::new(change))
    }

    /// See [`Lie::JoinAuthorities`].
    pub fn join_authorities(change: impl Fn(&mut Vec<Vec<u8>>) + Send + Sync + 'static) -> Self {
        Self::JoinAuthorities(Arc::new(change))
    }

    /// See [`Lie::Roles`].
    pub fn roles(change: impl Fn(&mut Vec<String>) + Send + Sync + 'static) -> Self {
        Self::Roles(Arc::new(change))
    }

    /// See [`Lie::HostAuthorities`].
    pub fn host_authorities(change: impl Fn(&mut Vec<CertAuthorityV2>) + Send + Sync + 'static) -> Self {
        Self::HostAuthorities(Arc::new(change))
    }

    /// See [`Lie::UserAuthorities`].
    pub fn user_authorities(change: impl Fn(&mut Vec<CertAuthorityV2>) + Send + Sync + 'static) -> Self {
        Self::UserAuthorities(Arc::new(change))
    }

    /// See [`Lie::Principals`].
    pub fn principals(change: impl Fn(&mut Vec<String>) + Send + Sync + 'static) -> Self {
        Self::Principals(Arc::new(change))
    }

    /// See [`Lie::UserCerts`].
    pub fn user_certs(change: impl Fn(&mut Certs) + Send + Sync + 'static) -> Self {
        Self::UserCerts(Arc::new(change))
    }

    /// See [`Lie::Refusal`].
    pub fn refusal(exchange: Exchange, text: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::Refusal(exchange, Arc::new(text))
    }
}

impl fmt::Debug for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lie")
    }
}

/// The lies of a cluster, and the ID token that it was shown last.
#[derive(Debug, Default)]
pub(crate) struct Lies {
    lies: Vec<Lie>,
    id_token: Mutex<String>,
}

impl Lies {
    pub(crate) fn new(lies: Vec<Lie>) -> Self {
        Self { lies, id_token: Mutex::default() }
    }

    pub(crate) fn remember_id_token(&self, token: &str) {
        token.clone_into(&mut self.id_token.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Applies the lies that `select` finds among all.
    pub(crate) fn apply<T>(&self, answer: &mut T, select: impl Fn(&Lie) -> Option<&Change<T>>) {
        self.lies.iter().filter_map(select).for_each(|change| change(answer));
    }

    /// The text with which a call is refused.
    pub(crate) fn refusal(&self, refused: Exchange) -> Option<String> {
        let token = self.id_token.lock().unwrap_or_else(PoisonError::into_inner);
        self.lies.iter().find_map(|lie| match lie {
            Lie::Refusal(exchange, text) if *exchange == refused => Some(text(&token)),
            _ => None,
        })
    }

    /// What a node sends before its own bytes, in frames.
    pub(crate) fn node_bytes(&self) -> impl Iterator<Item = &[u8]> {
        let frames = self.lies.iter().filter_map(|lie| match lie {
            Lie::Node(bytes, size) => Some(bytes.chunks(*size)),
            _ => None,
        });
        frames.flatten()
    }

    /// The message that replaces the answer of a gRPC method.
    pub(crate) fn message(&self, method: &str) -> Option<&[u8]> {
        self.lies.iter().find_map(|lie| match lie {
            Lie::Message(name, bytes) if *name == method => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// The status and the body that an HTTP request is answered with.
    pub(crate) fn answer(&self, asked: Exchange) -> Option<(u16, &str)> {
        self.lies.iter().find_map(|lie| match lie {
            Lie::Answer(exchange, status, body) if *exchange == asked => Some((*status, body.as_str())),
            _ => None,
        })
    }

    /// Where an HTTP request is redirected.
    pub(crate) fn redirect(&self, asked: Exchange) -> Option<&str> {
        self.lies.iter().find_map(|lie| match lie {
            Lie::Redirect(exchange, location) if *exchange == asked => Some(location.as_str()),
            _ => None,
        })
    }

    /// The critical options of the SSH certificate.
    pub(crate) fn critical_options(&self) -> &[(&'static str, String)] {
        let options = self.lies.iter().find_map(|lie| match lie {
            Lie::CriticalOptions(options) => Some(options.as_slice()),
            _ => None,
        });
        options.unwrap_or_default()
    }

    /// What is sent to the client's agent.
    pub(crate) fn agent_bytes(&self) -> Option<&[u8]> {
        self.lies.iter().find_map(|lie| if let Lie::Agent(bytes) = lie { Some(bytes.as_slice()) } else { None })
    }
}
