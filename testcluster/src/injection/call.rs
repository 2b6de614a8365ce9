//! Faults of a gRPC call.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::{NetworkFault, Point, SLOW};
use crate::cluster::Cluster;
use crate::peer::Peer;

/// The fault that replaces the response of a call's handler. An extension of each request.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallFault(Arc<Mutex<Option<NetworkFault>>>);

impl CallFault {
    fn set(&self, fault: NetworkFault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    pub(crate) fn take(&self) -> Option<NetworkFault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Injects the fault of this point, if it has one. Returns when the call shall go on, with the fault if it concerns the
/// content of the response. An error is what the handler has to return.
pub(crate) async fn inject(
    cluster: &Cluster,
    extensions: &tonic::Extensions,
    point: Point,
) -> Result<Option<NetworkFault>, Status> {
    if let Point::Before(exchange) = point
        && let Some(text) = cluster.lies.refusal(exchange)
    {
        return Err(Status::permission_denied(text));
    }
    let Some(fault) = cluster.injector.trigger(point) else {
        return Ok(None);
    };
    let peer = extensions.get::<Peer>().ok_or_else(|| Status::internal("no connection"))?;
    let call_fault = extensions.get::<CallFault>().ok_or_else(|| Status::internal("no fault slot"))?;
    apply(fault, peer, call_fault).await
}

/// [`inject`] for a fault that was triggered.
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
            peer.send_goaway();
            return Ok(None);
        }
        NetworkFault::Status(code, wait) => return Err(status(code, wait)),
        NetworkFault::EmptyList | NetworkFault::ManyRoles => return Ok(Some(fault)),
        other => {
            call_fault.set(other);
            // The response is replaced, so the client does not see this.
            return Err(Status::aborted("on purpose"));
        }
    }
    std::future::pending().await
}

/// A status with Teleport's text.
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
