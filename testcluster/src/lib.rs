//! A Teleport cluster in one process, for teleport-pipe's tests and its demo.
//!
//! Real where it can be: TLS with ALPN routing on one loopback port, gRPC, X.509 and SSH certificate authorities, ID
//! tokens that are signed and verified, and for the last mile the system's own OpenSSH server. It rests on the fact
//! sheets named in the comments ("teleport-join.md 3.5") and shares no code with the product, so that a mistake in one
//! is not a mistake in both.
//!
//! ```no_run
//! let cluster = testcluster::Testcluster::builder().suite(testcluster::Suite::Legacy).start();
//! let environment = cluster.bitbucket_env(std::path::Path::new("/clone/dir"));
//! // ... run the product against cluster.proxy_addr(), with SSL_CERT_FILE=cluster.web_ca_file() ...
//! assert_eq!(cluster.calls()[0].name, "GET /webapi/find");
//! ```
//!
//! | | |
//! |---|---|
//! | `front`, `alpn`, `tls`, `latency` | the ports: which connection goes where, behind which certificate |
//! | `layout`, `balancer`, `upgrade`, `websocket` | a load balancer in front, and the way through it |
//! | `web`, `join`, `join_service` | discovery, the two ways to join |
//! | `auth`, `issue`, `trust` | Auth: the bot's role, user certificates, authorities |
//! | `transport`, `recording`, `nodes`, `node`, `accounts`, `leaf` | the way to a node, the nodes, leaf clusters |
//! | `proxy_cluster` | the way to Auth that goes through the transport service |
//! | `authority`, `rotation`, `idp`, `suite` | who signs what |
//! | `gateway` | a company's proxy on the way to a cluster |
//! | `weather` | faults at every point of a run |
//! | `builder`, `options`, `fault`, `record`, `step` | what tests set and see |

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
mod idp;
mod injection;
mod issue;
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
pub use idp::methods::{ENVIRONMENT_UUID, REPOSITORY_UUID, WORKSPACE_UUID};
pub use injection::{Code, Exchange, FaultInjection, NetworkFault, Point};
pub use layout::{BalancerAlpn, Layout, LoadBalancer};
pub use options::{AllowRule, JoinService, Role};
pub use record::{Call, Event, EventKind};
pub use rotation::Phase;
pub use sshd::missing_openssh;
pub use suite::{Suite, SuiteInFind};
pub use testcluster::Testcluster;
