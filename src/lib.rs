//! Joins a Teleport cluster from a CI step and writes short-lived SSH credentials.
//!
//! The map; data walks from top to bottom, a module knows those below it:
//!
//! * [`cli`], [`pipe`]: the command line and the pipe's variables become [`settings`];
//! * [`command`]: one module per thing a person asks for; `command::join` reads like the README;
//! * `manifests`: what the cluster's side of a join looks like, in YAML with every `scalar` quoted;
//! * [`platform`]: which CI is this, and what is its ID token;
//! * [`guard`]: would artifacts or caches of the step take the credentials? It reads [`yaml`];
//! * [`join`]: an ID token becomes the [`bot_identity`]'s own identity; [`auth`]: that becomes certificates with roles;
//! * [`credentials`]: what came back, checked; [`output`]: rendered; [`destination`]: written, whole or not at all;
//! * [`net`]: discovery, TCP, TLS, HTTP and gRPC; every call has a [`retry::Deadline`]; [`clock`]: what time it is there;
//! * [`keys`], [`x509`], [`ssh_agent`]: keys and certificates; [`error`], [`log`], [`shell`]: what a person reads and
//!   types.

pub mod address;
pub mod auth;
pub mod bot_identity;
pub mod cli;
pub mod clock;
pub mod command;
pub mod credentials;
pub mod destination;
pub mod environment;
pub mod error;
pub mod guard;
pub mod host;
pub mod invalid;
pub mod join;
pub mod keys;
pub mod log;
pub mod net;
pub mod output;
pub mod pipe;
pub mod platform;
pub mod retry;
pub mod settings;
pub mod shell;
pub mod ssh_agent;
pub mod text;
pub mod values;
pub mod x509;
pub mod yaml;
