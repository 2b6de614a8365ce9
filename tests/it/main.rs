//! User stories, against a [`testcluster`]: the real binary, real TLS, real gRPC, the system's own OpenSSH.
//!
//! Each file is one story. `step.rs` is what they share. What is printed or rendered is held against `golden/`;
//! `UPDATE_EXPECT=1 cargo test --test it` writes it anew.

#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod balancers;
mod cleanup;
mod clock;
mod doctor;
mod documented;
mod failure;
mod faults;
mod guard;
mod inspect;
mod killed;
mod layouts;
mod leafs;
mod machine;
mod main_job;
mod metadata;
mod network;
mod nodes;
mod place;
mod proxy_command;
mod recipes;
mod recording;
mod refusals;
mod rendered;
mod resolver;
mod rotation;
mod said;
mod secrets;
mod ssh_weather;
mod step;
mod troubleshooting;
mod way_out;
