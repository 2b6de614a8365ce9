//! Tests of the testcluster: its faults, routing, load balancers and join methods, with a small client.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests as well")]

mod balancer;
mod client;
mod faults;
mod join_methods;
mod layout;
mod nodes;
mod routing;
mod websocket;
