//! Fault injection: what happens, at which point of a run, and whether it passes.
//!
//! A [`Fault`](crate::Fault) is a defect of the cluster itself. A [`NetworkFault`] can happen to any exchange; a test
//! lists each as a [`FaultInjection`].

mod body;
mod call;
mod certificates;
mod response;
mod stream;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(crate) use body::FaultyBody;
pub(crate) use call::{CallFault, apply, inject};
pub(crate) use certificates::BadCertificates;
pub(crate) use response::inject_response;
pub(crate) use stream::{FaultyStream, StreamFaults};
pub use tonic::Code;

use crate::alpn::Route;

/// How long [`NetworkFault::Slow`] takes.
pub(crate) const SLOW: Duration = Duration::from_secs(10);

/// A request and its response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exchange {
    /// `GET /webapi/find`.
    Find,
    /// `POST /webapi/host/credentials`.
    RestJoin,
    /// The join service: `ClientInit` and `ServerInit`.
    ClientInit,
    /// The join service: `OIDCInit` and `Result`.
    OidcInit,
    /// The bot's own role.
    GetRole,
    /// The host CAs.
    HostAuthorities,
    /// The user CAs.
    UserAuthorities,
    /// User certificates.
    UserCerts,
    /// `ProxySSH`.
    Dial,
    /// The list of nodes.
    ListNodes,
}

/// A point of a run at which a fault can be injected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
    /// A connection was accepted, and nothing was read from it.
    Accept,
    /// The ClientHello of a connection to this service was read.
    Handshake(Route),
    /// The request has arrived and is not yet handled.
    Before(Exchange),
    /// The request is handled, and the response is not yet sent.
    After(Exchange),
}

/// What happens to a connection, a request or a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NetworkFault {
    /// Nothing listens on the port; if it happens once, for a second. Only at [`Point::Accept`].
    Refuse,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// All further bytes of the connection vanish, in both directions. Only for sessions.
    Blackhole,
    /// The response never comes.
    Stall,
    /// The response comes ten seconds late.
    Slow,
    /// The response cannot be decoded.
    Garbage,
    /// The response ends early.
    Truncated,
    /// The response has many megabytes.
    Oversized,
    /// An HTTP status with an HTML page, as a load balancer would respond.
    Page(u16),
    /// An HTTP status with an error body of Teleport's, and the seconds of `Retry-After`.
    Http(u16, Option<u32>),
    /// A gRPC status, and the seconds of `retry-after`.
    Status(Code, Option<u32>),
    /// HTTP/2 `RST_STREAM`.
    ResetStream,
    /// HTTP/2 `GOAWAY`; streams that are open are still served.
    GoAway,
    /// A valid certificate, but for another key.
    CertForOtherKey,
    /// A certificate that expired yesterday.
    CertExpired,
    /// A certificate for another name.
    CertForOtherName,
    /// A certificate of an unknown authority.
    CertOfOtherCa,
    /// An empty list of authorities or roles.
    EmptyList,
    /// A role that lists 100 000 roles.
    ManyRoles,
}

/// A fault to inject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FaultInjection {
    /// Where in a run.
    pub point: Point,
    /// What happens there.
    pub fault: NetworkFault,
    /// Whether it happens only the first time.
    pub once: bool,
}

/// The faults to inject, and those that were.
#[derive(Debug, Default)]
pub(crate) struct FaultInjector {
    injections: Vec<FaultInjection>,
    triggered: Mutex<Vec<FaultInjection>>,
}

impl FaultInjector {
    pub(crate) fn new(injections: Vec<FaultInjection>) -> Self {
        Self { injections, triggered: Mutex::default() }
    }

    /// The injection that refuses connections.
    pub(crate) fn refusal(&self) -> Option<FaultInjection> {
        self.injections.iter().copied().find(|injection| injection.fault == NetworkFault::Refuse)
    }

    /// The fault that happens at this point, now.
    pub(crate) fn trigger(&self, point: Point) -> Option<NetworkFault> {
        let mut triggered = self.triggered.lock().unwrap_or_else(PoisonError::into_inner);
        let injection = *self.injections.iter().find(|injection| {
            injection.point == point
                && injection.fault != NetworkFault::Refuse
                && !(injection.once && triggered.contains(injection))
        })?;
        triggered.push(injection);
        Some(injection.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_passes_happens_once() {
        let point = Point::Before(Exchange::Find);
        let injection = |fault, once| FaultInjection { point, fault, once };
        let injector =
            FaultInjector::new(vec![injection(NetworkFault::Reset, true), injection(NetworkFault::Stall, false)]);
        assert_eq!(injector.trigger(Point::Accept), None);
        let faults: Vec<_> = std::iter::repeat_with(|| injector.trigger(point)).take(3).collect();
        assert_eq!(faults, [Some(NetworkFault::Reset), Some(NetworkFault::Stall), Some(NetworkFault::Stall)]);
    }
}
