//! Which proxy is connected to, and how: what every command that uses the network is told.

use std::path::{Path, PathBuf};

use super::Error;
use super::authorities::Authorities;
use super::egress::Egress;
use super::network::Network;
use super::tls::Trust;
use super::upgrade::{self, Upgrade};
use crate::address::HostPort;
use crate::environment::Environment;
use crate::error::Failure;
use crate::invalid;

#[derive(Debug)]
pub(crate) struct Connection {
    /// The cluster's proxy.
    pub(crate) addr: HostPort,
    pub(crate) upgrade: Upgrade,
    /// PEM file of certificate authorities to trust in addition to the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) egress: Egress,
}

impl Connection {
    /// The forward proxy, connection upgrades and, without `ca_file`, `SSL_CERT_FILE` come from the environment.
    pub(crate) fn new(addr: HostPort, ca_file: Option<&str>, env: &Environment) -> Result<Self, invalid::Error> {
        Ok(Self {
            upgrade: Upgrade::from_variable(env.get(upgrade::VARIABLE), &addr.to_string()),
            ca_file: ca_file.or(env.get("SSL_CERT_FILE")).map(PathBuf::from),
            egress: Egress::from_environment(env)?,
            addr,
        })
    }

    /// The certificate authorities of the file. A relative path starts at `working_dir`.
    pub(crate) fn authorities(&self, working_dir: &Path) -> Result<Authorities, Error> {
        Authorities::from_file(self.ca_file.as_ref().map(|path| working_dir.join(path)).as_deref())
    }

    pub(crate) fn network(&self, authorities: &Authorities) -> Network {
        Network::new(self.egress.clone(), Trust::web(authorities), self.upgrade)
    }
}

impl Network {
    /// The network without a cluster, as the environment describes it.
    pub(crate) fn without_cluster(env: &Environment, working_dir: &Path) -> Result<Self, Failure> {
        let ca_file = env.get("SSL_CERT_FILE").map(|path| working_dir.join(path));
        let authorities = Authorities::from_file(ca_file.as_deref())?;
        Ok(Self::new(Egress::from_environment(env)?, Trust::web(&authorities), Upgrade::Never))
    }
}
