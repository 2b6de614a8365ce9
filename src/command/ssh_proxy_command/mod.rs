//! `ssh-proxy-command`: copies bytes between ssh and a node, through the proxy's transport service.
//!
//! Facts: docs/protocol.md, "ProxyCommand" and "Transport service". It reads the files beside `ssh_config`, and takes
//! the settings of the network that those do not have from the environment.

mod error;
mod session;

use std::path::Path;
use std::time::SystemTime;

use teleport_api::teleport::transport::v1::TargetHost;

use super::block_on;
use crate::address::HostPort;
use crate::cli::SshProxyCommandFlags;
use crate::environment::Environment;
use crate::error::Failure;
use crate::invalid::Invalid;
use crate::net::authorities::Authorities;
use crate::net::egress::Egress;
use crate::net::network::Network;
use crate::net::tls::Trust;
use crate::net::upgrade::Upgrade;
use crate::output::identity::identity_file;
use crate::output::identity::network_file::NetworkFile;
use crate::output_files::NETWORK;
use crate::x509::X509;
use crate::{limits, regular_file};

pub(crate) use self::error::Error;

/// Connects ssh, on stdin and stdout, with the node until either side ends.
pub(crate) fn run(flags: &SshProxyCommandFlags, env: &Environment) -> Result<(), Failure> {
    let addr = flags.proxy_server.as_str();
    let proxy: HostPort = addr.parse().map_err(|invalid: Invalid| invalid.named("--proxy-server", addr))?;
    let path = flags.destination_dir.join("identity");
    let unusable = |reason: String| Error::Identity { path: path.display().to_string(), reason };
    let bytes = regular_file::read(&path, limits::IDENTITY_FILE_SIZE).map_err(|error| unusable(error.to_string()))?;
    let identity = identity_file::parse(&bytes).map_err(|what| unusable(format!("its {what} cannot be read")))?;
    // The session may last for hours. The text of the key is not needed that long.
    drop(bytes);
    let certificate =
        X509::from_der(&identity.certificate).map_err(|_| unusable("its TLS certificate cannot be read".to_owned()))?;
    let network_file =
        if flags.network_file { read_network_file(&flags.destination_dir)? } else { NetworkFile::default() };
    if certificate.not_after() <= network_file.clock.cluster_time(SystemTime::now()) {
        return Err(Error::Expired { at: humantime::format_rfc3339_seconds(certificate.not_after()) }.into());
    }
    let cluster = flags.cluster.clone().or_else(|| certificate.issuer_organization()).unwrap_or_default();
    let port = flags.port.as_deref().filter(|port| !port.is_empty()).unwrap_or("0");
    let target = TargetHost { host_port: format!("{}:{port}", node_name(&flags.host, &proxy.host, &cluster)), cluster };
    // A load balancer for the web port is never in front of separate ports, even if an old ssh_config says so.
    let upgrade = if flags.connection_upgrade && flags.tls_routing { Upgrade::Always } else { Upgrade::Never };
    let network = network(network_file, env, &proxy, upgrade)?;
    // An agent without a user lists nothing, so that a proxy which needs it fails at once.
    let agent_user = flags.user.clone().filter(|_| !flags.no_agent);
    Ok(block_on(session::run(&network, &proxy, identity, target, agent_user))??)
}

/// Reads the settings of the network that were stored with the credentials. A file that `ssh_config` does not mention is
/// not read: it decides where connections go, and anyone may have put it there.
fn read_network_file(destination: &Path) -> Result<NetworkFile, Error> {
    let path = destination.join(NETWORK);
    let unusable = |reason: String| Error::Network { path: path.display().to_string(), reason };
    match regular_file::read(&path, limits::NETWORK_FILE_SIZE) {
        Ok(bytes) => NetworkFile::parse(&bytes).map_err(unusable),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(NetworkFile::default()),
        Err(error) => Err(unusable(error.to_string())),
    }
}

fn network(file: NetworkFile, env: &Environment, proxy: &HostPort, upgrade: Upgrade) -> Result<Network, Failure> {
    let egress = file.egress.map_or_else(|| Egress::from_environment(env), Ok)?;
    let authorities = match file.authorities {
        Some(authorities) => authorities,
        // Only a load balancer and a forward proxy show a certificate of the web.
        None if upgrade == Upgrade::Always || egress.uses_tls(proxy) => {
            Authorities::from_file(env.get("SSL_CERT_FILE").map(Path::new))?
        }
        None => Authorities::default(),
    };
    Ok(Network::new(egress, Trust::web(&authorities), upgrade))
}

/// The node's name without the suffixes that the patterns of ssh_config demand: the proxy's host first, then the
/// cluster, each once (docs/protocol.md, "ProxyCommand"). If the cluster's name ends with the proxy's, as that of a
/// leaf cluster may, it is removed as a whole.
fn node_name<'a>(host: &'a str, proxy_host: &str, cluster: &str) -> &'a str {
    let without = |name: &'a str, suffix: &str| name.strip_suffix(suffix).and_then(|name| name.strip_suffix('.'));
    let is_subdomain = cluster.strip_suffix(proxy_host).is_some_and(|rest| rest.ends_with('.'));
    if is_subdomain && let Some(node) = without(host, cluster) {
        return node;
    }
    let host = without(host, proxy_host).unwrap_or(host);
    without(host, cluster).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suffix_is_removed_once() {
        for (host, expected) in [
            ("node.c.example", "node"),
            ("node", "node"),
            ("node.p.example", "node"),
            ("node.c.example.p.example", "node"),
            ("a.c.example.c.example", "a.c.example"),
            ("c.example", "c.example"),
            ("nodec.example", "nodec.example"),
        ] {
            assert_eq!(node_name(host, "p.example", "c.example"), expected, "{host}");
        }
        for (host, expected) in [
            ("node.leaf.p.example", "node"),
            ("node.p.example", "node"),
            ("leaf.p.example", "leaf"),
            ("node.aleaf.p.example", "node.aleaf"),
        ] {
            assert_eq!(node_name(host, "p.example", "leaf.p.example"), expected, "{host}");
        }
    }
}
