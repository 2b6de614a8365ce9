//! Reaching the cluster. Layers from below: [`dial`], [`way_out`], [`tls`], then [`http`] or [`grpc`] over it; a [`network`]
//! puts them together, [`discovery`] asks what the cluster is. Each layer takes and gives a [`Stream`].

pub mod any_teleport;
pub mod authorities;
pub mod beginning;
pub mod dial;
pub mod discovery;
pub mod error;
pub mod grpc;
pub mod http;
pub mod network;
pub mod proxy_cluster;
pub mod shown;
pub mod tls;
pub mod upgrade;
pub mod way_out;
pub mod websocket;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::error::Error;

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, whatever it runs over.
pub type Stream = Box<dyn Io>;
