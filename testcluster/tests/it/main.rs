//! The cluster, driven by a bot of the tests' own.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

mod auth;
mod balancer;
mod client;
mod faults;
mod join;
mod layout;
mod node;
mod routing;
mod websocket;
