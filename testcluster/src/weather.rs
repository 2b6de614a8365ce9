//! Faults at every point of a run: at which point, what, how often.
//!
//! [`Fault`](crate::Fault) is what a cluster does wrong in a way of its own; weather is what can happen to any exchange.
//! A test sets a table of [`Weather`], one entry for each cell.

mod body;
mod call;
mod faces;
mod line;
mod reply;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(crate) use body::WeatherBody;
pub(crate) use call::{CallOrders, meets, takes};
pub(crate) use faces::BadFaces;
pub(crate) use line::{Line, Orders};
pub(crate) use reply::replies;
pub use tonic::Code;

use crate::alpn::Route;

/// How long [`Trouble::Slow`] takes.
pub(crate) const SLOW: Duration = Duration::from_secs(10);

/// Something that is asked for and answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exchange {
    /// `GET /webapi/find`.
    Find,
    /// `POST /webapi/host/credentials`.
    RestJoin,
    /// The join service: the client introduces itself and is greeted.
    Greeting,
    /// The join service: the ID token for certificates.
    Proof,
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
pub enum Trouble {
    /// Nobody listens; for a second if it is once. Only at [`Point::Accept`].
    Refuse,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Its bytes vanish from now on, in both directions. Only for sessions.
    Cut,
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
    /// An HTTP status with a page, as somebody in front of the proxy answers.
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
pub struct Weather {
    /// When.
    pub point: Point,
    /// What.
    pub trouble: Trouble,
    /// The first time only.
    pub once: bool,
}

/// The weather over a cluster, and which of it has passed.
#[derive(Debug, Default)]
pub(crate) struct Sky {
    weather: Vec<Weather>,
    passed: Mutex<Vec<Weather>>,
}

impl Sky {
    pub(crate) fn new(weather: Vec<Weather>) -> Self {
        Self { weather, passed: Mutex::default() }
    }

    /// Whether connections are refused: not at all, at first, or for good.
    pub(crate) fn refuses(&self) -> Option<Weather> {
        self.weather.iter().copied().find(|weather| weather.trouble == Trouble::Refuse)
    }

    /// What strikes now, if anything does.
    pub(crate) fn strikes(&self, point: Point) -> Option<Trouble> {
        let here = self.weather.iter().filter(|weather| weather.point == point && weather.trouble != Trouble::Refuse);
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let strikes = here.copied().find(|weather| !(weather.once && passed.contains(weather)))?;
        passed.push(strikes);
        Some(strikes.trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_strikes_once() {
        let point = Point::Before(Exchange::Find);
        let weather = |trouble, once| Weather { point, trouble, once };
        let sky = Sky::new(vec![weather(Trouble::Reset, true), weather(Trouble::Stall, false)]);
        assert_eq!(sky.strikes(Point::Accept), None);
        let strikes: Vec<_> = std::iter::repeat_with(|| sky.strikes(point)).take(3).collect();
        assert_eq!(strikes, [Some(Trouble::Reset), Some(Trouble::Stall), Some(Trouble::Stall)]);
    }
}
