//! Configuration and start of a cluster.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::accounts::Accounts;
use crate::authority::{Authority, RsaKey, SigningKey, WebSigner, issue_web_certificate};
use crate::cluster::{Cluster, OwnPorts, Ports, now};
use crate::fault::{Fault, Faults};
use crate::hostile::{Lie, Lies};
use crate::idp::{IdentityProvider, methods};
use crate::injection::{BadCertificates, FaultInjection, FaultInjector};
use crate::layout::{Layout, LoadBalancer};
use crate::leaf_cluster::LeafCluster;
use crate::listener::{self, Port};
use crate::nodes;
use crate::options::{AllowRule, JoinService, Options, Role};
use crate::record::Record;
use crate::rotation::{Authorities, Phase, all};
use crate::sessions::Sessions;
use crate::suite::{KeyKind, Suite, SuiteInFind};
use crate::testcluster::Testcluster;
use crate::tls::{ALL_VERSIONS, HostCertificates, ServerCertificate, ServerConfigs, TLS_12};

/// The configuration of a cluster. By default it is an 18.2 cluster with `balanced-v1`, all services, and no faults.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    accounts: Accounts,
    options: Options,
}

impl Default for Builder {
    fn default() -> Self {
        let accounts = Accounts::detect();
        let options = Options::new(&accounts.logins(), accounts.usable_login());
        Self { accounts, options }
    }
}

impl Builder {
    /// The cluster's name; `example.teleport.sh` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// The address to listen on; 127.0.0.1 by default. Containers can reach the address of their bridge.
    pub fn listen(mut self, address: impl Into<IpAddr>) -> Self {
        self.options.address = address.into();
        self
    }

    /// The proxy's name in its certificates and in discovery; `localhost` by default. A test that sets another name has
    /// to make it resolve to the address.
    pub fn public_name(mut self, name: impl Into<String>) -> Self {
        self.options.public_name = name.into();
        self
    }

    /// The name that clients dial, if it is not the public one. It is in the web certificate, but neither in the host
    /// certificate nor in discovery.
    pub fn dialled_name(mut self, name: impl Into<String>) -> Self {
        self.options.dialled_name = Some(name.into());
        self
    }

    /// The proxy's ports; one for everything by default.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.options.layout = layout;
        self
    }

    /// Puts a load balancer in front of the web port.
    pub fn load_balancer(mut self, balancer: LoadBalancer) -> Self {
        self.options.load_balancer = Some(balancer);
        self
    }

    /// Time between the pings of an upgraded connection; 30 seconds by default.
    pub fn upgrade_ping(mut self, period: Duration) -> Self {
        self.options.upgrade_ping = period;
        self
    }

    /// Whether an upgraded connection sends WebSocket frames of a few bytes, in writes that do not end where frames
    /// end.
    pub fn small_websocket_frames(mut self, small_frames: bool) -> Self {
        self.options.small_websocket_frames = small_frames;
        self
    }

    /// Whether the server with the web certificate supports only TLS 1.2.
    pub fn tls_12_only(mut self, old: bool) -> Self {
        self.options.tls_12_only = old;
        self
    }

    /// The version in discovery; `18.2.0` by default. It does not change the services.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.options.version = version.into();
        self
    }

    /// The minimum client version; `17.0.0-aa` by default.
    pub fn min_client_version(mut self, version: impl Into<String>) -> Self {
        self.options.min_client_version = version.into();
        self
    }

    /// Signature suite; `balanced-v1` by default.
    pub fn suite(mut self, suite: Suite) -> Self {
        self.options.suite = suite;
        self
    }

    /// How discovery encodes the suite; as text by default.
    pub fn suite_in_find(mut self, form: SuiteInFind) -> Self {
        self.options.suite_in_find = form;
        self
    }

    /// What the join service supports.
    pub fn join_service(mut self, service: JoinService) -> Self {
        self.options.join_service = service;
        self
    }

    /// Whether `POST /webapi/host/credentials` exists; it does by default.
    pub fn rest_join(mut self, present: bool) -> Self {
        self.options.rest_join = present;
        self
    }

    /// The join token's name; `example-bot` by default.
    pub fn token_name(mut self, name: impl Into<String>) -> Self {
        self.options.token.name = name.into();
        self
    }

    /// The join token's method and allow rules; `bitbucket` by default. The method determines the claims of ID tokens,
    /// and the issuer and the audience that the cluster requires.
    ///
    /// # Panics
    ///
    /// If `idp::methods` has no row for the method, or the row has no such rule field.
    pub fn join_method(mut self, name: &str, rules: impl IntoIterator<Item = AllowRule>) -> Self {
        self.options.token.method =
            methods::find(name).unwrap_or_else(|| panic!("no row for the join method {name} in idp/methods.rs"));
        self.allow(rules)
    }

    /// The audience that the join token requires, instead of the method's own.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.options.token.audience = Some(audience.into());
        self
    }

    /// The issuer that the join token requires. Discovery succeeds only for the method's own issuer.
    pub fn identity_provider_url(mut self, url: impl Into<String>) -> Self {
        self.options.token.issuer = Some(url.into());
        self
    }

    /// The join token's allow rules, instead of the one for the step's workspace and repository.
    ///
    /// # Panics
    ///
    /// If the join method has no such rule field.
    pub fn allow(mut self, rules: impl IntoIterator<Item = AllowRule>) -> Self {
        let token = &mut self.options.token;
        token.allow = rules.into_iter().collect();
        for (name, _) in token.allow.iter().flat_map(AllowRule::fields) {
            let known = token.method.fields.iter().any(|(field, ..)| *field == name);
            assert!(known, "the join method {} has no rule field {name}", token.method.name);
        }
        self
    }

    /// The roles that the bot may impersonate; `example-role` by default. They need not exist.
    pub fn impersonated_roles<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.options.impersonated = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a role, or replaces the one of the same name. `example-role` and `other-role` exist by default.
    pub fn role(mut self, role: Role) -> Self {
        self.options.roles.retain(|existing| existing.name != role.name);
        self.options.roles.push(role);
        self
    }

    /// The phase of a CA rotation; [`Testcluster::enter`] changes it.
    pub fn rotation(mut self, phase: Phase) -> Self {
        self.options.phase = phase;
        self
    }

    /// Adds a leaf cluster that the bot's roles give access to, with a node `leafnode`.
    pub fn leaf_cluster(mut self, name: impl Into<String>) -> Self {
        self.options.leaf_clusters.push((name.into(), true));
        self
    }

    /// Adds a leaf cluster that no role of the bot gives access to.
    pub fn denied_leaf_cluster(mut self, name: impl Into<String>) -> Self {
        self.options.leaf_clusters.push((name.into(), false));
        self
    }

    /// Adds an agentless node `openssh` on port 22.
    pub fn openssh_node(mut self) -> Self {
        self.options.openssh_node = true;
        self
    }

    /// Adds a node with this host name to the root cluster. Several may have the same.
    pub fn node(mut self, hostname: impl Into<String>) -> Self {
        self.options.further_nodes.push((None, hostname.into()));
        self
    }

    /// Adds a node with this host name to a leaf cluster.
    pub fn leaf_node(mut self, leaf_cluster: impl Into<String>, hostname: impl Into<String>) -> Self {
        self.options.further_nodes.push((Some(leaf_cluster.into()), hostname.into()));
        self
    }

    /// Has the proxy find nodes whose names have capital letters by their names in lower case.
    pub fn case_insensitive_routing(mut self) -> Self {
        self.options.case_insensitive_routing = true;
        self
    }

    /// Whether nodes permit tunnels, such as `ssh -L`; they do by default.
    pub fn port_forwarding(mut self, permitted: bool) -> Self {
        self.options.port_forwarding = permitted;
        self
    }

    /// Has the proxy record sessions, for which it requests a signature of the client's agent before it connects.
    pub fn proxy_recording(mut self) -> Self {
        self.options.proxy_recording = true;
        self
    }

    /// The delay of every connection's bytes in each direction. A new connection takes a round trip.
    pub fn latency(mut self, one_way: Duration) -> Self {
        self.options.latency = one_way;
        self
    }

    /// The seconds by which the cluster's clock is ahead, or behind if negative. This clock is used for tokens,
    /// certificates and HTTP's `Date`; nodes use the system's clock.
    pub fn clock_offset(mut self, seconds: i64) -> Self {
        self.options.clock_offset = seconds;
        self
    }

    /// Adds a defect of the cluster.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.options.faults.insert(fault);
        self
    }

    /// Injects a fault at a point of a run.
    pub fn inject(mut self, injection: FaultInjection) -> Self {
        self.options.injections.push(injection);
        self
    }

    /// Adds a lie of a hostile cluster.
    pub fn lie(mut self, lie: Lie) -> Self {
        self.options.lies.push(lie);
        self
    }

    /// Starts the cluster on a thread pool of its own.
    ///
    /// # Panics
    ///
    /// If the address cannot be bound, or a temporary directory or a thread cannot be created.
    pub fn start(self) -> Testcluster {
        self.try_start().expect("an address with a free port, a temporary directory and threads")
    }

    fn try_start(self) -> io::Result<Testcluster> {
        let Self { accounts, options } = self;
        let directory = TempDir::with_prefix("testcluster-")?;
        let (web_socket, web_port) = free_port(options.address)?;
        let mut sockets = vec![(Port::Web, web_socket)];
        let mut ports = Ports { web: web_port, own: None };
        if options.layout != Layout::TlsRouting {
            let [(ssh_socket, ssh), (tunnel_socket, tunnel)] =
                [free_port(options.address)?, free_port(options.address)?];
            sockets.extend([(Port::Ssh, ssh_socket), (Port::Tunnel, tunnel_socket)]);
            ports.own = Some(OwnPorts { ssh, tunnel });
        }
        let authorities = Authorities::new(&options);
        let leaf_clusters = LeafCluster::all(&options);

        let (web_ca, web) = web_certificate(&options);
        let (other_web_ca, bad_certificates) = BadCertificates::new(&options, now(0));
        let web_ca_file = directory.path().join("web-ca.pem");
        std::fs::write(&web_ca_file, web_ca + &other_web_ca)?;
        let web_versions = if options.tls_12_only { TLS_12 } else { ALL_VERSIONS };
        let server_configs = ServerConfigs::new(&web, &host_certificates(&options, &authorities), web_versions);
        let nodes = nodes::prepare(&options, &leaf_clusters, directory.path(), &accounts)?;
        nodes::certify(&nodes, &options, &leaf_clusters, &authorities)?;

        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let faults = Faults::new(options.faults.clone());
        let refuse = faults.has(Fault::RefuseAll);
        let injector = FaultInjector::new(options.injections.clone());
        let refusal = injector.refusal();
        let lies = Lies::new(options.lies.clone());
        let (record, idp) = (Record::new(), IdentityProvider::new());
        let cluster = Cluster {
            options,
            faults,
            injector,
            lies,
            bad_certificates,
            sessions: Sessions::default(),
            record,
            idp,
            authorities,
            leaf_clusters,
            nodes,
            server_configs,
            ports,
            token_is_spent: false.into(),
        };
        let cluster = Arc::new(cluster);
        if refuse {
            runtime.spawn(async move {
                let _taken = sockets;
                std::future::pending::<()>().await;
            });
        } else {
            let _guard = runtime.enter();
            for (port, socket) in sockets {
                let cluster = Arc::clone(&cluster);
                match refusal {
                    None => drop(runtime.spawn(listener::listen(cluster, socket.listen(1024)?, port))),
                    Some(refusal) => drop(runtime.spawn(async move {
                        tokio::time::sleep(if refusal.once { REFUSING } else { Duration::MAX }).await;
                        if let Ok(listener) = socket.listen(1024) {
                            listener::listen(cluster, listener, port).await;
                        }
                    })),
                }
            }
        }
        Ok(Testcluster::new(cluster, runtime, directory, web_ca_file, accounts.usable_login()))
    }
}

/// Binds a port without listening on it, so that no other cluster gets it.
fn free_port(address: IpAddr) -> io::Result<(TcpSocket, u16)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(address, 0))?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// How long connections are refused if that happens once.
const REFUSING: Duration = Duration::from_secs(1);

/// Names in the proxy's host certificate besides the public one (docs/protocol.md, "Two trust domains").
const PROXY_NAMES: [&str; 4] = ["127.0.0.1", "::1", "*.teleport.cluster.local", "teleport.cluster.local"];

/// The certificates of Auth and the transport service, and the authorities of their clients.
pub(crate) fn host_certificates<'a>(options: &Options, authorities: &'a Authorities) -> HostCertificates<'a> {
    let host_ca = authorities.server_ca();
    HostCertificates {
        auth: host_certificate(options, host_ca, "Auth", &["*.teleport.cluster.local", "teleport.cluster.local"]),
        proxy: host_certificate(options, host_ca, "Proxy", &[&[&*options.public_name], &PROXY_NAMES[..]].concat()),
        user_cas: all(authorities.user()).collect(),
        clock_offset: options.clock_offset,
    }
}

/// A certificate of the host CA for a server of the cluster.
fn host_certificate(options: &Options, host_ca: &Authority, kind: &str, names: &[&str]) -> ServerCertificate {
    let key = SigningKey::new(options.suite.tls_authority(), RsaKey::Server);
    ServerCertificate { certificate: host_ca.issue_server(&key, kind, names, now(options.clock_offset)), key }
}

/// The PEM of a private authority, and the web certificate that it signed.
fn web_certificate(options: &Options) -> (String, ServerCertificate) {
    const DAY: u64 = 24 * 3600;
    let now = now(0);
    let address = options.address.to_string();
    let dialled = options.dialled_name.as_ref().unwrap_or(&options.public_name);
    let names: &[&str] = if options.faults.contains(&Fault::WebCertForOtherName) {
        &["elsewhere.example.com"]
    } else {
        &[dialled, &options.public_name, &address]
    };
    let has = |fault| options.faults.contains(&fault);
    let lifetime = match (has(Fault::WebCertExpired), has(Fault::WebCertNotYetValid)) {
        (true, _) => (now - 90 * DAY, now - DAY),
        (_, true) => (now + DAY, now + 90 * DAY),
        _ => (now - DAY, now + 90 * DAY),
    };
    let signer = match (has(Fault::WebCertSelfSigned), has(Fault::WebCertOfInspector)) {
        (true, _) => WebSigner::SelfSigned,
        (_, true) => WebSigner::Authority("Zscaler Inc.", "Zscaler Root CA"),
        _ => WebSigner::Authority("Testcluster", "Testcluster Web CA"),
    };
    let key = SigningKey::new(KeyKind::P256, RsaKey::Server);
    let (authority, certificate) = issue_web_certificate(signer, &key, names, now, lifetime);
    (authority, ServerCertificate { certificate, key })
}
