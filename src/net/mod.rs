//! Reaching the cluster. Layers from below: [`dial`], [`egress`], [`tls`], then [`http`] or [`grpc`] over it; a [`network`]
//! puts them together, [`discovery`] asks what the cluster is. Each layer takes and gives a [`Stream`].

pub(crate) mod authorities;
pub(crate) mod crypto;
pub(crate) mod dial;
pub(crate) mod discovery;
pub(crate) mod egress;
pub(crate) mod error;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod network;
pub(crate) mod peeked_stream;
pub(crate) mod peer_chain;
pub(crate) mod protocol;
pub(crate) mod proxy_cluster;
pub(crate) mod teleport_name_verifier;
pub(crate) mod tls;
pub(crate) mod upgrade;
pub(crate) mod websocket;

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use self::error::Error;

/// Bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, whatever it runs over.
pub(crate) type Stream = Box<dyn Io>;
