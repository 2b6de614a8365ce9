//! What the clients did: connections, calls and keys, in the order in which they happened. Tokens, keys and
//! certificates never get in here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::alpn::Route;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Time since the cluster started.
    pub at: Duration,
    /// Number of the connection, from 1.
    pub connection: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What can happen.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A ClientHello came in.
    Connection {
        /// Where its ALPN list leads; `None` when nobody serves any entry of it.
        route: Option<Route>,
        /// Server name.
        sni: Option<String>,
        /// ALPN names, in the client's order.
        offered: Vec<String>,
    },
    /// TLS is up.
    Handshake {
        /// The ALPN name that was agreed on.
        negotiated: Option<String>,
        /// Common name of the client certificate.
        client: Option<String>,
    },
    /// A connection was upgraded to a WebSocket.
    Upgrade {
        /// Its sub-protocol, `alpn` or `alpn-ping`.
        protocol: Option<String>,
        /// Number of the connection inside it.
        inside: u64,
    },
    /// The transport service has opened a connection to Auth.
    ProxyCluster {
        /// Number of the connection inside the call.
        inside: u64,
    },
    /// A WebSocket's client has sent a pong.
    Pong {
        /// Whether it has the payload of the proxy's pings.
        same: bool,
    },
    /// A WebSocket's client has sent what real proxies drop (teleport-ssh-proxy.md 3.2).
    WebSocketMistake(&'static str),
    /// The connection ended before it carried a call; the text says why.
    Refused(String),
    /// A call came in.
    Call {
        /// Number of the call, from 1.
        call: u64,
        /// `GET /webapi/find`, or the path of a gRPC method.
        name: String,
        /// gRPC metadata `version`, which the product leaves out.
        version: Option<String>,
        /// User agent.
        user_agent: Option<String>,
    },
    /// A call ended.
    Answered {
        /// The number of its `Call`.
        call: u64,
        /// The same name.
        name: String,
        /// HTTP status (`200`), or gRPC code (`Ok`, `PermissionDenied`, ...), or `Cancelled` when the client left.
        code: String,
    },
    /// A public key came with a call.
    Key {
        /// `join` or `issue`.
        during: &'static str,
        /// `tls` or `ssh`.
        usage: &'static str,
        /// `RSA-2048`, `P-256`, `Ed25519`.
        kind: String,
        /// `PKIX DER`, `PEM PUBLIC KEY`, `PEM RSA PUBLIC KEY`, `SSH wire`, `authorized_keys`.
        encoding: &'static str,
    },
    /// A client gave up a join and said why.
    GivingUp {
        /// Name of the reason.
        reason: String,
        /// Its own words.
        message: String,
    },
    /// Certificates were signed.
    Issued {
        /// `join` or `issue`.
        during: &'static str,
        /// The roles in them.
        roles: Vec<String>,
        /// Seconds until they expire.
        ttl: i64,
    },
    /// A client's agent has signed for a proxy that records sessions.
    AgentSigned {
        /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, `rsa-sha2-512`.
        algorithm: String,
    },
    /// The client of a connection through the transport service sent a frame without payload, which real servers take
    /// for an error (teleport-ssh-proxy.md 2.4).
    EmptyFrame,
    /// A connection to the node has ended; the payload bytes that went there and came back.
    Tunnel {
        /// Largest payload of a client's frame.
        largest_frame: usize,
        /// Bytes from the client.
        sent: u64,
        /// Bytes from the node.
        received: u64,
    },
}

/// A call and how it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The connection that carried it.
    pub connection: u64,
    /// `GET /webapi/find`, or the path of a gRPC method.
    pub name: String,
    /// Its code, when it has ended.
    pub code: Option<String>,
}

/// The record of a cluster.
#[derive(Debug)]
pub(crate) struct Record {
    began: Instant,
    events: Mutex<Vec<Event>>,
    connections: AtomicU64,
    calls: AtomicU64,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            events: Mutex::default(),
            connections: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn add(&self, connection: u64, kind: EventKind) {
        // A poisoned record is still a record.
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(Event { at: self.began.elapsed(), connection, kind });
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn clear(&self) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The calls among events, in the order in which they began.
pub(crate) fn calls(events: &[Event]) -> Vec<Call> {
    let code_of = |wanted: u64| {
        events.iter().find_map(|event| match &event.kind {
            EventKind::Answered { call, code, .. } if *call == wanted => Some(code.clone()),
            _ => None,
        })
    };
    let mut calls = Vec::new();
    for event in events {
        if let EventKind::Call { call, name, .. } = &event.kind {
            calls.push(Call { connection: event.connection, name: name.clone(), code: code_of(*call) });
        }
    }
    calls
}
