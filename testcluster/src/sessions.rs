//! Connections to nodes that are open now, for weather in the middle of them.

use std::sync::{Mutex, PoisonError};

use crate::injection::NetworkFault;
use crate::peer::Peer;

/// Who is connected to the transport service.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Vec<Peer>>);

impl Sessions {
    pub(crate) fn add(&self, peer: &Peer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(peer.clone());
    }

    /// To all of them, those included that are gone.
    pub(crate) fn inject(&self, fault: NetworkFault) {
        for peer in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            match fault {
                NetworkFault::GoAway => peer.go_away(),
                NetworkFault::Reset => peer.reset(),
                NetworkFault::Blackhole => peer.blackhole(),
                _ => peer.close(),
            }
        }
    }
}
