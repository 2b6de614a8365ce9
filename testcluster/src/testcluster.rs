//! A running cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

use crate::builder::{Builder, host_certificates};
use crate::cluster::Cluster;
use crate::idp::IdentityProvider;
use crate::idp::methods::{REPOSITORY_UUID, WORKSPACE_UUID};
use crate::injection::NetworkFault;
use crate::job::{EndpointFault, Job};
use crate::layout;
use crate::nodes;
use crate::record::{self, Call, Event, EventKind};
use crate::rotation::Phase;
use crate::step;

/// A running cluster. Dropping it ends it, its connections and its sshd processes.
#[derive(Debug)]
pub struct Testcluster {
    cluster: Arc<Cluster>,
    runtime: Option<Runtime>,
    directory: TempDir,
    web_ca_file: PathBuf,
    login: String,
}

impl Testcluster {
    /// Starts a cluster with the default configuration.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Configures a cluster.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(
        cluster: Arc<Cluster>,
        runtime: Runtime,
        directory: TempDir,
        web_ca_file: PathBuf,
        login: String,
    ) -> Self {
        Self { cluster, runtime: Some(runtime), directory, web_ca_file, login }
    }

    /// The address of the proxy, or of the load balancer in front of it: `localhost:PORT` by default.
    pub fn proxy_addr(&self) -> String {
        let options = &self.cluster.options;
        layout::address(options.dialled_name.as_ref().unwrap_or(&options.public_name), self.port())
    }

    /// The web port of the proxy, or the port of the load balancer in front of it.
    pub fn port(&self) -> u16 {
        self.cluster.ports.web
    }

    /// The SSH port of the proxy, if ports are separate.
    pub fn ssh_port(&self) -> Option<u16> {
        self.cluster.ports.own.map(|own| own.ssh)
    }

    /// The port of reverse tunnels, if ports are separate.
    pub fn tunnel_port(&self) -> Option<u16> {
        self.cluster.ports.own.map(|own| own.tunnel)
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.cluster.options.name
    }

    /// PEM of the private authority that signed the web certificate, for `SSL_CERT_FILE`.
    pub fn web_ca_file(&self) -> &Path {
        &self.web_ca_file
    }

    /// The join token's name.
    pub fn token_name(&self) -> &str {
        &self.cluster.options.token.name
    }

    /// The bot's user name, which is also the name of its own role.
    pub fn bot_user(&self) -> &'static str {
        crate::cluster::BOT_USER
    }

    /// UUID of the step's workspace with braces.
    pub fn workspace_uuid(&self) -> &'static str {
        WORKSPACE_UUID
    }

    /// UUID of the step's repository with braces.
    pub fn repository_uuid(&self) -> &'static str {
        REPOSITORY_UUID
    }

    /// The node's host name for ssh, `node.<cluster>`.
    pub fn node_host(&self) -> String {
        format!("{}.{}", self.cluster.node().hostname, self.name())
    }

    /// The node's UUID.
    pub fn node_uuid(&self) -> &str {
        &self.cluster.node().uuid
    }

    /// The UUIDs of the nodes with this host name, of all clusters.
    pub fn uuids(&self, hostname: &str) -> Vec<&str> {
        let nodes = self.cluster.nodes.iter().filter(|node| node.hostname == hostname);
        nodes.map(|node| node.uuid.as_str()).collect()
    }

    /// The logins that `example-role` allows.
    pub fn logins(&self) -> Vec<String> {
        self.cluster.role("example-role").map(|role| role.logins.clone()).unwrap_or_default()
    }

    /// A login that works on this machine: `user` if Debian's `libnss-wrapper` is installed, else the current user.
    pub fn node_login(&self) -> &str {
        &self.login
    }

    /// The log of the node's sshd.
    pub fn node_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("sshd.log")).unwrap_or_default()
    }

    /// The claims of a valid ID token of the join method.
    pub fn claims(&self) -> Map<String, Value> {
        let Cluster { options, .. } = &*self.cluster;
        IdentityProvider::claims(options.token.method, &options.name, self.cluster.now())
    }

    /// A valid ID token.
    pub fn step_token(&self) -> String {
        self.mint(|_| {})
    }

    /// An ID token with changed claims, for example by `claims.remove("iat")` or `claims.insert("exp".into(),
    /// 1.into())`.
    pub fn mint(&self, change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.cluster.idp.sign(&claims)
    }

    /// An ID token with valid claims and the signature of another key.
    pub fn mint_with_bad_signature(&self) -> String {
        IdentityProvider::sign_with_other_key(&self.claims())
    }

    /// The `BITBUCKET_*` variables (and `CI`) of a step in `clone_dir`, with a valid ID token.
    pub fn step_env(&self, clone_dir: &Path) -> Vec<(String, String)> {
        step::environment(clone_dir, &self.step_token())
    }

    /// A job of the platform whose join method the join token has. Its files are in `directory`.
    ///
    /// # Panics
    ///
    /// If a file cannot be written, or no port is free.
    pub fn job(&self, directory: &Path, fault: Option<EndpointFault>) -> Job {
        Job::new(&self.cluster, directory, fault).expect("a directory that can be written, and a free port")
    }

    /// Whether a bot has joined with the one-time token.
    pub fn token_is_spent(&self) -> bool {
        self.cluster.token_is_spent.load(Ordering::SeqCst)
    }

    /// All events so far.
    pub fn record(&self) -> Vec<Event> {
        self.cluster.record.events()
    }

    /// All calls so far, in the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        record::calls(&self.record())
    }

    /// Blocks until an event has happened, for at most five seconds. The end of a connection is recorded only after the
    /// client has seen it.
    pub fn wait_for(&self, wanted: impl Fn(&EventKind) -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if self.record().iter().any(|event| wanted(&event.kind)) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Injects a fault into the open connections to nodes: `GoAway`, `Close`, `Reset` or `Blackhole`.
    pub fn disturb_sessions(&self, fault: NetworkFault) {
        self.cluster.sessions.inject(fault);
    }

    /// Enters a phase of a CA rotation.
    ///
    /// # Panics
    ///
    /// If the nodes' files cannot be written.
    pub fn enter(&self, phase: Phase) {
        let Cluster { options, authorities, leaf_clusters, nodes, server_configs, .. } = &*self.cluster;
        authorities.enter(phase);
        nodes::certify(nodes, options, leaf_clusters, authorities).expect("our temporary directory is writable");
        server_configs.replace_host_certificates(&host_certificates(options, authorities));
    }

    /// Clears the record.
    pub fn clear_record(&self) {
        self.cluster.record.clear();
    }
}

impl Drop for Testcluster {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        if Handle::try_current().is_ok() {
            // Blocking is not allowed inside another runtime.
            runtime.shutdown_background();
        } else {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}
