//! The other end of a connection, as calls on it see it.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::authority::Identity;

/// Travels with each request, as an extension.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    connection: u64,
    identity: Option<Arc<Identity>>,
    close: Arc<Notify>,
}

impl Peer {
    pub(crate) fn new(connection: u64, identity: Option<Identity>) -> Self {
        Self { connection, identity: identity.map(Arc::new), close: Arc::default() }
    }

    /// Number of the connection.
    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// What the client certificate says.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Drops the connection, as if the network had.
    pub(crate) fn close(&self) {
        self.close.notify_one();
    }

    /// Ends when the connection is to be dropped.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }
}
