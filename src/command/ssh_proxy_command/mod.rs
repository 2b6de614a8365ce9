//! `ssh-proxy-command`: copies bytes between ssh and a node, through the proxy's transport service.
//!
//! Facts: docs/protocol.md, "ProxyCommand" and "Transport service". It reads the files beside `ssh_config`, and takes
//! the settings of the network that those do not have from the environment.

mod error;
mod host_certificate;
mod pipes;
mod session;
mod target;

use std::path::Path;
use std::time::SystemTime;

use self::host_certificate::Certificate;
use self::target::Target;
use super::block_on;
use crate::address::HostPort;
use crate::cli::SshProxyCommandFlags;
use crate::destination::Listing;
use crate::environment::Environment;
use crate::error::{Failure, for_ssh};
use crate::invalid::Invalid;
use crate::net::authorities::Authorities;
use crate::net::egress::Egress;
use crate::net::network::Network;
use crate::net::tls::Trust;
use crate::net::upgrade::Upgrade;
use crate::output::identity::identity_file;
use crate::output::identity::network_file::NetworkFile;
use crate::output_files::NETWORK;
use crate::text::{sanitize, sanitize_whole};
use crate::values::Privacy;
use crate::x509::X509;
use crate::{limits, log, platform, regular_file};

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
    let root_cluster = certificate.issuer_organization().unwrap_or_default();
    let target = target(flags, &proxy, root_cluster, platform::privacy(env, false));
    warn_of_login(&target, identity.ssh_certificate.as_deref());
    // A load balancer for the web port is never in front of separate ports, even if an old ssh_config says so.
    let upgrade = if flags.connection_upgrade && flags.tls_routing { Upgrade::Always } else { Upgrade::Never };
    let network = network(network_file, env, &proxy, upgrade)?;
    // An agent without a user lists nothing, so that a proxy which needs it fails at once.
    let agent_user = flags.user.clone().filter(|_| !flags.no_agent);
    Ok(block_on(session::run(&network, &proxy, identity, &target, agent_user))??)
}

fn target(flags: &SshProxyCommandFlags, proxy: &HostPort, root_cluster: String, privacy: Privacy) -> Target {
    let cluster = flags.cluster.clone().unwrap_or_else(|| root_cluster.clone());
    Target {
        host: flags.host.clone(),
        node: node_name(&flags.host, &proxy.host, &cluster).to_owned(),
        port: flags.port.clone().filter(|port| !port.is_empty()).unwrap_or_else(|| "0".to_owned()),
        user: flags.user.clone().filter(|user| !user.is_empty()),
        cluster,
        root_cluster,
        directory: flags.destination_dir.clone(),
        privacy,
    }
}

/// Says in one line if the credentials do not allow the login. The node decides, and ssh only says "Permission denied".
fn warn_of_login(target: &Target, certificate: Option<&[u8]>) {
    let (Some(user), Some(certificate)) = (&target.user, certificate.and_then(Certificate::parse)) else { return };
    // The other principals are Teleport's own (docs/protocol.md, "Issued certificates").
    let logins: Vec<_> =
        certificate.principals.iter().filter(|name| !name.starts_with("-teleport-")).cloned().collect();
    if logins.contains(user) {
        return;
    }
    let user = sanitize(user);
    let text = match target.privacy {
        _ if logins.is_empty() => format!("these credentials allow no login, and not {user}"),
        Privacy::Public => format!("these credentials do not allow the login {user}"),
        Privacy::Private => {
            let logins: Listing = logins.into_iter().collect();
            format!("these credentials allow the logins {logins}; not {user}")
        }
    };
    log::print(&for_ssh(&text, "the-node-denies-the-login"));
}

/// Prints one line among those of ssh.
fn print(text: &str) {
    log::print(&format!("teleport-pipe: {}\n", sanitize_whole(text)));
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
/// leaf cluster may, it is removed as a whole. ssh has written the name in lower case, and the cluster's need not be.
fn node_name<'a>(host: &'a str, proxy_host: &str, cluster: &str) -> &'a str {
    let without = |name: &'a str, suffix: &str| strip_suffix(name, suffix).and_then(|name| name.strip_suffix('.'));
    let is_subdomain = strip_suffix(cluster, proxy_host).is_some_and(|rest| rest.ends_with('.'));
    if is_subdomain && let Some(node) = without(host, cluster) {
        return node;
    }
    let host = without(host, proxy_host).unwrap_or(host);
    without(host, cluster).unwrap_or(host)
}

/// The text without a suffix, whose ASCII letters may have another case.
fn strip_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (start, end) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    end.eq_ignore_ascii_case(suffix).then_some(start)
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
        for (host, expected) in [
            ("node.corpprod", "node"),
            ("node.CorpProd", "node"),
            ("Node.CORPPROD.P.example", "Node"),
            ("a.corpprod.corpprod", "a.corpprod"),
            ("é.corpprod", "é"),
            ("éorpprod", "éorpprod"),
        ] {
            assert_eq!(node_name(host, "p.example", "CorpProd"), expected, "{host}");
        }
        assert_eq!(node_name("node.leaf.p.example", "p.example", "Leaf.P.example"), "node");
    }
}
