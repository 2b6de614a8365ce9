//! The cluster, driven by a bot of the tests' own.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

mod balancer;
mod client;
mod faults;
mod join_methods;
mod layout;
mod routing;
mod websocket;
