//! Reaching the cluster. Layers from below: [`dial`], [`egress`], [`tls`], then [`http`] or [`grpc`] over it; a [`network`]
//! puts them together, [`discovery`] asks what the cluster is. Each layer takes and gives a [`Stream`].

pub mod authorities;
pub mod crypto;
pub mod dial;
pub mod discovery;
pub mod egress;
pub mod error;
pub mod grpc;
pub mod http;
pub mod network;
pub mod peeked_stream;
pub mod peer_chain;
pub mod proxy_cluster;
pub mod teleport_name_verifier;
pub mod tls;
pub mod upgrade;
pub mod websocket;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::error::Error;

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, whatever it runs over.
pub type Stream = Box<dyn Io>;
