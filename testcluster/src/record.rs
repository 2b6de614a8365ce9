//! The record of what clients did: connections, calls and kinds of keys, in order. It never holds tokens, keys or
//! certificates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::alpn::Route;

/// An entry of the record.
#[derive(Clone, Debug)]
pub struct Event {
    /// Time since the cluster started.
    pub at: Duration,
    /// Number of the connection, from 1.
    pub connection: u64,
    /// What happened.
    pub kind: EventKind,
}

/// The kinds of entries.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A ClientHello arrived.
    Connection {
        /// The route of its ALPN list; `None` if no name of the list is served.
        route: Option<Route>,
        /// Server name.
        sni: Option<String>,
        /// ALPN names, in the client's order.
        offered: Vec<String>,
    },
    /// A TLS handshake succeeded.
    Handshake {
        /// The negotiated ALPN name.
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
    /// The client of a WebSocket has sent a pong.
    Pong {
        /// Whether it has the payload of the proxy's pings.
        same: bool,
    },
    /// The client of a WebSocket has sent a frame that real proxies drop (docs/protocol.md, "Connection upgrade").
    WebSocketMistake(&'static str),
    /// The connection was closed before it carried a call, for this reason.
    Refused(String),
    /// A call began.
    Call {
        /// Number of the call, from 1.
        call: u64,
        /// `GET /webapi/find`, or the path of a gRPC method.
        name: String,
        /// gRPC metadata `version`, which the product does not send.
        version: Option<String>,
        /// User agent.
        user_agent: Option<String>,
    },
    /// A call ended.
    Answered {
        /// The number of its `Call`.
        call: u64,
        /// The name of its `Call`.
        name: String,
        /// HTTP status (`200`), gRPC code (`Ok`, `PermissionDenied`), or `Cancelled` if the client left.
        code: String,
    },
    /// A call had a public key.
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
    /// A client has sent `GivingUp`.
    GivingUp {
        /// Name of the reason.
        reason: String,
        /// The message of the client.
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
    /// A client's agent has signed a login for a proxy that records sessions.
    AgentSigned {
        /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, `rsa-sha2-512`.
        algorithm: String,
    },
    /// The client of the transport service has sent a frame without payload, which is an error for real servers
    /// (docs/protocol.md, "Transport service").
    EmptyFrame,
    /// A connection to a node has ended.
    Tunnel {
        /// Largest payload of a client's frame.
        largest_frame: usize,
        /// Payload bytes from the client.
        sent: u64,
        /// Payload bytes from the node.
        received: u64,
        /// Bytes from the client's agent.
        agent: u64,
    },
}

/// A call and how it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The connection that carried it.
    pub connection: u64,
    /// `GET /webapi/find`, or the path of a gRPC method.
    pub name: String,
    /// Its code; `None` if it has not ended.
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
