//! FaultInjection in the middle of a gRPC call.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::{NetworkFault, Point, SLOW};
use crate::cluster::Cluster;
use crate::peer::Peer;

/// What is to become of the answer of a call, in place of what its handler says. Travels with each request, as an
/// extension.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallFault(Arc<Mutex<Option<NetworkFault>>>);

impl CallFault {
    fn give(&self, fault: NetworkFault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// The order, once.
    pub(crate) fn take(&self) -> Option<NetworkFault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Goes on, late perhaps, or ends the call.
///
/// # Errors
/// What the handler is to answer; nobody gets to see it where there is an order for the body.
pub(crate) async fn inject(
    cluster: &Cluster,
    extensions: &tonic::Extensions,
    point: Point,
) -> Result<Option<NetworkFault>, Status> {
    let Some(fault) = cluster.injector.trigger(point) else {
        return Ok(None);
    };
    let peer = extensions.get::<Peer>().ok_or_else(|| Status::internal("no connection"))?;
    let call_fault = extensions.get::<CallFault>().ok_or_else(|| Status::internal("no call_fault"))?;
    apply(fault, peer, call_fault).await
}

/// The same for fault that has struck. What is not about the call but about what it says is handed back.
///
/// # Errors
/// As above.
pub(crate) async fn apply(
    fault: NetworkFault,
    peer: &Peer,
    call_fault: &CallFault,
) -> Result<Option<NetworkFault>, Status> {
    match fault {
        NetworkFault::Close => peer.close(),
        NetworkFault::Reset => peer.reset(),
        NetworkFault::Stall => {}
        NetworkFault::Slow => {
            tokio::time::sleep(SLOW).await;
            return Ok(None);
        }
        NetworkFault::GoAway => {
            peer.go_away();
            return Ok(None);
        }
        NetworkFault::Status(code, wait) => return Err(status(code, wait)),
        NetworkFault::EmptyList | NetworkFault::ManyRoles => return Ok(Some(fault)),
        other => {
            call_fault.give(other);
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
