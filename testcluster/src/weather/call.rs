//! Weather in the middle of a gRPC call.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::{Point, SLOW, Trouble};
use crate::cluster::Cluster;
use crate::peer::Peer;

/// What is to become of the answer of a call, in place of what its handler says. Travels with each request, as an
/// extension.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOrders(Arc<Mutex<Option<Trouble>>>);

impl CallOrders {
    fn give(&self, trouble: Trouble) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    /// The order, once.
    pub(crate) fn take(&self) -> Option<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Goes on, late perhaps, or ends the call.
///
/// # Errors
/// What the handler is to answer; nobody gets to see it where there is an order for the body.
pub(crate) async fn meets(
    cluster: &Cluster,
    extensions: &tonic::Extensions,
    point: Point,
) -> Result<Option<Trouble>, Status> {
    let Some(trouble) = cluster.weather.strikes(point) else {
        return Ok(None);
    };
    let peer = extensions.get::<Peer>().ok_or_else(|| Status::internal("no connection"))?;
    let orders = extensions.get::<CallOrders>().ok_or_else(|| Status::internal("no orders"))?;
    takes(trouble, peer, orders).await
}

/// The same for trouble that has struck. What is not about the call but about what it says is handed back.
///
/// # Errors
/// As above.
pub(crate) async fn takes(trouble: Trouble, peer: &Peer, orders: &CallOrders) -> Result<Option<Trouble>, Status> {
    match trouble {
        Trouble::Close => peer.close(),
        Trouble::Reset => peer.reset(),
        Trouble::Stall => {}
        Trouble::Slow => {
            tokio::time::sleep(SLOW).await;
            return Ok(None);
        }
        Trouble::GoAway => {
            peer.go_away();
            return Ok(None);
        }
        Trouble::Status(code, wait) => return Err(status(code, wait)),
        Trouble::EmptyList | Trouble::ManyRoles => return Ok(Some(trouble)),
        other => {
            orders.give(other);
            return Err(Status::aborted("on purpose"));
        }
    }
    std::future::pending().await
}

/// In the words that Teleport has for it.
fn status(code: Code, wait: Option<u32>) -> Status {
    let text = match code {
        Code::ResourceExhausted => "rate limit exceeded",
        Code::Unavailable => "auth service is not available",
        _ => "something is wrong",
    };
    let mut metadata = MetadataMap::new();
    if let Some(wait) = wait {
        metadata.insert("retry-after", wait.into());
    }
    Status::with_metadata(code, text, metadata)
}
