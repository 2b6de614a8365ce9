//! Connections to the cluster. The layers from below are [`dial`], [`egress`], [`tls`], and [`http`] or [`grpc`] over it. A
//! [`network`] puts them together, and [`discovery`] asks the proxy about its cluster. Each layer takes and returns a
//! [`Stream`].

pub(crate) mod authorities;
pub(crate) mod connection;
pub(crate) mod crypto;
pub(crate) mod dial;
pub(crate) mod discovery;
pub(crate) mod egress;
pub(crate) mod error;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod network;
mod peeked_stream;
pub(crate) mod peer_chain;
mod protocol;
pub(crate) mod proxy_cluster;
pub(crate) mod tls;
mod tls_stream;
pub(crate) mod upgrade;
mod verifier;
mod websocket;

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use self::error::Error;

/// Bytes in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of any layer.
pub(crate) type Stream = Box<dyn Io>;
