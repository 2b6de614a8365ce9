//! A Teleport cluster in one process, for teleport-pipe's tests and its demo.
//!
//! It is real where it can be: TLS with ALPN routing on one loopback port, gRPC, X.509 and SSH certificate authorities,
//! ID tokens that are signed and verified, and the system's own OpenSSH server as a node. It is based on the facts that
//! the comments cite (docs/protocol.md), and shares no code with the product, so that a mistake in one is not a
//! mistake in both.
//!
//! ```no_run
//! let cluster = testcluster::Testcluster::builder().suite(testcluster::Suite::Legacy).start();
//! let environment = cluster.step_env(std::path::Path::new("/clone/dir"));
//! // ... run the product against cluster.proxy_addr(), with SSL_CERT_FILE=cluster.web_ca_file() ...
//! assert_eq!(cluster.calls()[0].name, "GET /webapi/find");
//! ```
//!
//! | | |
//! |---|---|
//! | `builder`, `options`, `testcluster`, `record`, `step` | what tests configure and read |
//! | `listener`, `alpn`, `tls`, `latency` | the ports: routing and TLS |
//! | `layout`, `balancer`, `upgrade`, `websocket` | load balancers, and connection upgrades through them |
//! | `web`, `join`, `join_service` | discovery, and the two ways to join |
//! | `idp`, `job` | ID tokens: a row for each join method; the jobs that have them |
//! | `auth`, `issue`, `trust` | Auth: the bot's role, user certificates, authorities |
//! | `transport`, `proxy_cluster`, `recording` | connections to nodes, and to Auth, through the transport service |
//! | `nodes`, `sshd`, `accounts`, `leaf_cluster` | nodes and leaf clusters |
//! | `authority`, `rotation`, `suite` | certificate authorities |
//! | `forward_proxy` | a forward proxy between the client and the cluster |
//! | `fault`, `injection`, `hostile` | defects of the cluster, faults at every point of a run, and lies in every answer |

mod accounts;
mod alpn;
mod auth;
mod authority;
mod balancer;
mod builder;
mod cluster;
mod fault;
mod forward_proxy;
mod grpc;
mod hostile;
mod idp;
mod injection;
mod issue;
mod job;
mod join;
mod join_service;
mod latency;
mod layout;
mod leaf_cluster;
mod listener;
mod nodes;
mod options;
mod peer;
mod proxy_cluster;
mod public_key;
mod record;
mod recording;
mod refusal;
mod rotation;
mod sessions;
mod sshd;
mod step;
mod suite;
mod testcluster;
mod tls;
mod transport;
mod trust;
mod upgrade;
mod version;
mod web;
mod websocket;

pub use alpn::Route;
pub use builder::Builder;
pub use fault::Fault;
pub use forward_proxy::{ForwardProxy, ForwardProxyBehavior, ForwardProxyKind};
pub use hostile::{Change, Lie};
pub use idp::methods::{ENVIRONMENT_UUID, REPOSITORY_UUID, WORKSPACE_UUID, rule_fields};
pub use injection::{Code, Exchange, FaultInjection, NetworkFault, Point};
pub use job::{EndpointFault, Job};
pub use layout::{BalancerAlpn, Layout, LoadBalancer};
pub use options::{AllowRule, JoinService, Role};
pub use record::{Call, Event, EventKind};
pub use rotation::Phase;
pub use sshd::missing_openssh;
pub use suite::{Suite, SuiteInFind};
pub use testcluster::Testcluster;
