//! The open connections to nodes, for faults in the middle of a session.

use std::sync::{Mutex, PoisonError};

use crate::injection::NetworkFault;
use crate::peer::Peer;

/// The clients of the transport service.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Vec<Peer>>);

impl Sessions {
    pub(crate) fn add(&self, peer: &Peer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(peer.clone());
    }

    /// Injects a fault into all connections. It has no effect on those that have ended.
    pub(crate) fn inject(&self, fault: NetworkFault) {
        for peer in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            match fault {
                NetworkFault::GoAway => peer.send_goaway(),
                NetworkFault::Reset => peer.reset(),
                NetworkFault::Blackhole => peer.blackhole(),
                _ => peer.close(),
            }
        }
    }
}
