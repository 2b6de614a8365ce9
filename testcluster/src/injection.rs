//! Faults at every point of a run: at which point, what, how often.
//!
//! [`Fault`](crate::Fault) is what a cluster does wrong in a way of its own; injection is what can happen to any exchange.
//! A test sets a table of [`FaultInjection`], one entry for each cell.

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

/// Something that is asked for and answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exchange {
    /// `GET /webapi/find`.
    Find,
    /// `POST /webapi/host/credentials`.
    RestJoin,
    /// The join service: the client introduces itself and is greeted.
    ClientInit,
    /// The join service: the ID token for certificates.
    OidcInit,
    /// The bot's own role.
    GetRole,
    /// The host CAs.
    HostAuthorities,
    /// The user CAs.
    UserAuthorities,
    /// User certificates.
    UserCerts,
    /// The way to a node.
    Dial,
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
    /// A connection came in, and nothing on it was read.
    Accept,
    /// The ClientHello of a connection to this service was read.
    Handshake(Route),
    /// The request is there, and nothing was done about it.
    Before(Exchange),
    /// What it asks for was done, and nothing was answered.
    After(Exchange),
}

/// What happens there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NetworkFault {
    /// Nobody listens; for a second if it is once. Only at [`Point::Accept`].
    Refuse,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Its bytes vanish from now on, in both directions. Only for sessions.
    Blackhole,
    /// Nothing happens any more.
    Stall,
    /// It goes on after ten seconds.
    Slow,
    /// An answer that makes no sense.
    Garbage,
    /// The first half of an answer.
    Truncated,
    /// An answer of many megabytes.
    Oversized,
    /// An HTTP status with a page, as somebody in front of the proxy responses.
    Page(u16),
    /// An HTTP status with an error body of Teleport's, and how many seconds to wait.
    Http(u16, Option<u32>),
    /// A gRPC status, and how many seconds to wait.
    Status(Code, Option<u32>),
    /// HTTP/2 ends the stream.
    ResetStream,
    /// HTTP/2 says that the connection will end; what was begun on it is answered.
    GoAway,
    /// A certificate that is good, but for another key.
    CertForOtherKey,
    /// A certificate that expired yesterday.
    CertExpired,
    /// A certificate for another name.
    CertForOtherName,
    /// A certificate of an authority that nobody knows.
    CertOfOtherCa,
    /// A list with nothing in it: authorities, roles.
    EmptyList,
    /// A role that lists 100 000 roles.
    ManyRoles,
}

/// One entry of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FaultInjection {
    /// When.
    pub point: Point,
    /// What.
    pub fault: NetworkFault,
    /// The first time only.
    pub once: bool,
}

/// The injection over a cluster, and which of it has triggered.
#[derive(Debug, Default)]
pub(crate) struct FaultInjector {
    injection: Vec<FaultInjection>,
    triggered: Mutex<Vec<FaultInjection>>,
}

impl FaultInjector {
    pub(crate) fn new(injection: Vec<FaultInjection>) -> Self {
        Self { injection, triggered: Mutex::default() }
    }

    /// Whether connections are refused: not at all, at first, or for good.
    pub(crate) fn refuses_connections(&self) -> Option<FaultInjection> {
        self.injection.iter().copied().find(|injection| injection.fault == NetworkFault::Refuse)
    }

    /// What injection now, if anything does.
    pub(crate) fn trigger(&self, point: Point) -> Option<NetworkFault> {
        let here = self
            .injection
            .iter()
            .filter(|injection| injection.point == point && injection.fault != NetworkFault::Refuse);
        let mut triggered = self.triggered.lock().unwrap_or_else(PoisonError::into_inner);
        let injection = here.copied().find(|injection| !(injection.once && triggered.contains(injection)))?;
        triggered.push(injection);
        Some(injection.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_strikes_once() {
        let point = Point::Before(Exchange::Find);
        let injection = |fault, once| FaultInjection { point, fault, once };
        let injector =
            FaultInjector::new(vec![injection(NetworkFault::Reset, true), injection(NetworkFault::Stall, false)]);
        assert_eq!(injector.trigger(Point::Accept), None);
        let injection: Vec<_> = std::iter::repeat_with(|| injector.trigger(point)).take(3).collect();
        assert_eq!(injection, [Some(NetworkFault::Reset), Some(NetworkFault::Stall), Some(NetworkFault::Stall)]);
    }
}
