//! What the benchmarks in bench/ measure of the library.

use std::path::Path;
use std::time::Duration;

use crate::address::HostPort;
use crate::credentials::{Authority, SshAuthority};
use crate::environment::Environment;
use crate::guard::{self, LeakCheck};
use crate::output::identity::{known_hosts, ssh_config};
use crate::values::Ttl;

/// The files that grow with the number of clusters.
pub struct Rendering {
    proxy: HostPort,
    authorities: Vec<Authority>,
}

impl Rendering {
    /// The root cluster and its leaf clusters. Each has a CA with this line of `authorized_keys`. Returns `None` if that
    /// does not parse.
    pub fn new(clusters: usize, key: &str) -> Option<Self> {
        let authority = |number: usize| {
            let cluster = format!("cluster-{number}.example.test").parse().ok()?;
            Some(Authority { cluster, ssh: vec![SshAuthority::parse(key)?], tls: Vec::new() })
        };
        let authorities = (0..clusters).map(authority).collect::<Option<_>>()?;
        Some(Self { proxy: "proxy.example.test:443".parse().ok()?, authorities })
    }

    pub fn known_hosts(&self) -> String {
        known_hosts::render(&self.proxy.host, &self.authorities)
    }

    pub fn ssh_config(&self) -> String {
        let paths = ssh_config::Paths {
            destination: "/clone/tbot-user".to_owned(),
            proxy: &self.proxy,
            tls_routing: true,
            upgrade: false,
            network_file: true,
            agent: true,
        };
        ssh_config::render(&paths, &self.authorities)
    }
}

/// The warnings of the leak check about a destination, in an environment of these variables.
pub fn leak_check(variables: &[(&str, &str)], destination: &Path) -> Vec<String> {
    let env = Environment::from_iter(variables.iter().copied());
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    let ttl = Ttl(Duration::from_secs(3600));
    // Only warnings are of interest; `Warn` makes no errors.
    let _ = guard::check(&env, true, destination, ttl, LeakCheck::Warn, &mut warn);
    warnings
}
