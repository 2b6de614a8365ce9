//! The way out of this network: straight to the address.

use super::{Error, Stream, dial};
use crate::retry::Deadline;
use crate::settings::ProxyAddr;

/// How connections leave this network.
#[derive(Clone, Debug, Default)]
pub struct WayOut;

impl WayOut {
    /// Bytes to and from this address.
    ///
    /// # Errors
    /// It is not reached.
    pub async fn connect(&self, addr: &ProxyAddr, deadline: Deadline) -> Result<Stream, Error> {
        Ok(Box::new(dial::connect(addr, deadline).await?))
    }
}
