//! The client of a connection, for the handlers of its calls.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::authority::Identity;
use crate::injection::StreamFaults;

/// The client of a connection, and the means to end the connection. An extension of each request.
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

    /// The holder of the client certificate.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Closes the connection without a word of its protocol, as a failing network does.
    pub(crate) fn close(&self) {
        self.close.notify_one();
    }

    /// Resets the connection.
    pub(crate) fn reset(&self) {
        self.faults.reset();
        self.close();
    }

    /// Drops all further bytes of the connection.
    pub(crate) fn blackhole(&self) {
        self.faults.blackhole();
    }

    /// Has HTTP/2's GOAWAY sent.
    pub(crate) fn send_goaway(&self) {
        self.goaway.notify_one();
    }

    /// Completes when GOAWAY has to be sent.
    pub(crate) async fn goaway(&self) {
        self.goaway.notified().await;
    }

    /// Completes when the connection has to end.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }
}
