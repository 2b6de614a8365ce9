//! Connections to nodes that are open now, for weather in the middle of them.

use std::sync::{Mutex, PoisonError};

use crate::peer::Peer;
use crate::weather::Trouble;

/// Who is connected to the transport service.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Vec<Peer>>);

impl Sessions {
    pub(crate) fn add(&self, peer: &Peer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(peer.clone());
    }

    /// To all of them, those included that are gone.
    pub(crate) fn meet(&self, trouble: Trouble) {
        for peer in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            match trouble {
                Trouble::GoAway => peer.go_away(),
                Trouble::Reset => peer.reset(),
                Trouble::Cut => peer.cut(),
                _ => peer.close(),
            }
        }
    }
}
