//! The identity output: pure functions from credentials to the bytes of files. Names, order and encodings are those of
//! tbot (docs/protocol.md, "Output files"), so that programs that read the output of tbot can read ours.

pub(crate) mod clusters;
pub(crate) mod identity_file;
pub(crate) mod known_hosts;
pub(crate) mod network_file;
pub(crate) mod ssh_config;

use std::path::Path;

use self::network_file::NetworkFile;
use super::{Issued, Output, Request};
use crate::address::ClusterName;
use crate::credentials::{Authority, Credentials, SshAuthority};
use crate::destination::File;
use crate::error::Failure;
use crate::keys;
use crate::limits::{self, expect_at_most};
use crate::output_files::{
    BINARY, HOST_CA, IDENTITY, KEY, KNOWN_HOSTS, NETWORK, PUBLIC_KEY, SSH_CERTIFICATE, SSH_CONFIG, TLS_CERTIFICATE,
    USER_CA, of_cluster,
};

/// The output `identity`: SSH credentials for OpenSSH, `tsh`, `tctl` and Teleport's API clients.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The leaf cluster that the certificates are routed to.
    pub(crate) cluster: Option<ClusterName>,
    /// Whether a proxy that records sessions may log in to nodes.
    pub(crate) agent: bool,
    /// Those of the bot's roles that the certificates have; all of them if there are none here.
    pub(crate) roles: Vec<String>,
    /// Whether there are files for OpenSSH.
    pub(crate) ssh_config: bool,
}

impl Output for Identity {
    fn request(&self) -> Request {
        Request { route: self.cluster.clone(), roles: self.roles.clone() }
    }

    fn program(&self) -> Option<&'static str> {
        self.ssh_config.then_some(BINARY)
    }

    fn check_directory(&self, directory: &Path) -> Result<(), Failure> {
        if self.ssh_config {
            ssh_config::ssh_config_path(directory)?;
        }
        Ok(())
    }

    fn render(&self, issued: &Issued, directory: &Path) -> Result<Vec<File>, Failure> {
        if !self.ssh_config {
            return Ok(without_ssh_config(&issued.credentials)?);
        }
        let network = NetworkFile {
            egress: Some(issued.egress.clone()),
            authorities: Some(issued.authorities.clone()),
            clock: issued.clock,
        };
        let network = network.render().map(|bytes| File::private(NETWORK, bytes));
        let paths = ssh_config::Paths::new(directory, issued, network.is_some(), self.agent)?;
        let files: Vec<File> = network.into_iter().chain(files(&issued.credentials, &paths)?).collect();
        expect_at_most(limits::OUTPUT_SIZE as usize, files.iter().map(File::size).sum(), "bytes for the files")?;
        Ok(files)
    }
}

/// The files for Teleport's own clients. Without an `ssh_config` the program is not needed either.
fn without_ssh_config(credentials: &Credentials) -> Result<Vec<File>, keys::Error> {
    let key = credentials.key.private_pem()?;
    Ok(vec![
        File::private(HOST_CA, certificates(&credentials.host_authorities)),
        File::private(USER_CA, certificates(&credentials.user_authorities)),
        File::private(IDENTITY, identity_file::render(credentials, &key)),
        File::private(PUBLIC_KEY, credentials.key.authorized_key()?),
        File::private(TLS_CERTIFICATE, credentials.tls_certificate.pem()),
        File::private(KEY, key),
        File::private(SSH_CERTIFICATE, credentials.ssh_certificate.clone() + "\n"),
    ])
}

/// All files except our binary, in the order in which they are to be written: files that others refer to first, keys
/// and certificates together, `ssh_config` last.
fn files(credentials: &Credentials, ssh: &ssh_config::Paths<'_>) -> Result<Vec<File>, keys::Error> {
    let authorities = &credentials.host_authorities;
    let with_files = clusters::with_files(authorities);
    let key = credentials.key.private_pem()?;
    let identity = identity_file::render(credentials, &key);
    let proxy_host = ssh.proxy.host.as_str();
    let mut files = vec![
        File::private(HOST_CA, certificates(authorities)),
        File::private(USER_CA, certificates(&credentials.user_authorities)),
        File::private(KNOWN_HOSTS, known_hosts::render(proxy_host, authorities)),
    ];
    files.extend(with_files.iter().map(|authority| {
        File::private(of_cluster(authority.cluster.as_str(), KNOWN_HOSTS), known_hosts::render_any_host(authority))
    }));
    files.extend([
        File::private(IDENTITY, identity),
        File::private(PUBLIC_KEY, credentials.key.authorized_key()?),
        File::private(TLS_CERTIFICATE, credentials.tls_certificate.pem()),
        File::private(KEY, key),
        File::private(SSH_CERTIFICATE, credentials.ssh_certificate.clone() + "\n"),
    ]);
    files.extend(with_files.iter().map(|Authority { cluster, .. }| {
        File::private(of_cluster(cluster.as_str(), SSH_CONFIG), ssh_config::render_any_host(ssh, cluster))
    }));
    files.push(File::private(SSH_CONFIG, ssh_config::render(ssh, authorities)));
    Ok(files)
}

fn certificates(authorities: &[Authority]) -> String {
    authorities.iter().flat_map(|authority| &authority.tls).map(crate::x509::X509::pem).collect()
}

/// The line of a `known_hosts` file that trusts a CA for these host patterns. `type=host` is in the comment column.
fn cert_authority(patterns: &str, key: &SshAuthority) -> String {
    format!("@cert-authority {patterns} {} type=host\n", key.line)
}
