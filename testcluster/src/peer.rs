//! The other end of a connection, as calls on it see it.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::authority::Identity;
use crate::injection::StreamFaults;

/// Travels with each request, as an extension.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    connection: u64,
    identity: Option<Arc<Identity>>,
    close: Arc<Notify>,
    goaway: Arc<Notify>,
    faults: Arc<StreamFaults>,
}

impl Peer {
    pub(crate) fn new(connection: u64, identity: Option<Identity>, faults: Arc<StreamFaults>) -> Self {
        Self { connection, identity: identity.map(Arc::new), close: Arc::default(), goaway: Arc::default(), faults }
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

    /// Drops the connection by a reset.
    pub(crate) fn reset(&self) {
        self.faults.reset();
        self.close();
    }

    /// Lets all bytes of the connection vanish.
    pub(crate) fn blackhole(&self) {
        self.faults.blackhole();
    }

    /// Says that the connection will end: HTTP/2's GOAWAY.
    pub(crate) fn go_away(&self) {
        self.goaway.notify_one();
    }

    /// Ends when that is to be said.
    pub(crate) async fn goaway(&self) {
        self.goaway.notified().await;
    }

    /// Ends when the connection is to be dropped.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }
}
