//! Rendering: pure functions from credentials to the bytes of files. Names, order and encodings are tbot's
//! (teleport-issue-and-outputs.md 4), so that whatever reads tbot's output reads ours.

pub(crate) mod clusters;
pub(crate) mod identity_file;
pub(crate) mod known_hosts;
pub(crate) mod network_file;
pub(crate) mod ssh_config;

use crate::credentials::{Authority, Credentials, SshAuthority};
use crate::destination::File;
use crate::keys;

/// The name of our binary's copy in the destination: the `ProxyCommand` of `ssh_config`.
pub(crate) const BINARY: &str = "teleport-pipe";

/// All files of the identity output but our binary, in the order in which they are to appear: what others need first,
/// keys and certificates beside each other, `ssh_config` last.
///
/// # Errors
/// The key cannot be encoded.
pub(crate) fn files(credentials: &Credentials, ssh: &ssh_config::Paths) -> Result<Vec<File>, keys::Error> {
    let authorities = &credentials.host_authorities;
    let with_files = clusters::with_files(authorities);
    let key = credentials.key.private_pem()?;
    let identity = identity_file::render(credentials, &key);
    let proxy_host = ssh.proxy.host.as_str();
    let mut files = vec![
        File::private("teleport-host-ca.crt", certificates(authorities)),
        File::private("teleport-user-ca.crt", certificates(&credentials.user_authorities)),
        File::private("known_hosts", known_hosts::render(proxy_host, authorities)),
    ];
    files.extend(with_files.iter().map(|authority| {
        File::private(format!("{}.known_hosts", authority.cluster), known_hosts::render_any_host(authority))
    }));
    files.extend([
        File::private("identity", identity),
        File::private("key.pub", credentials.key.authorized_key()?),
        File::private("tlscert", credentials.tls_certificate.pem()),
        File::private("key", key),
        File::private("key-cert.pub", credentials.ssh_certificate.clone() + "\n"),
    ]);
    files.extend(with_files.iter().map(|Authority { cluster, .. }| {
        File::private(format!("{cluster}.ssh_config"), ssh_config::render_any_host(ssh, cluster))
    }));
    files.push(File::private("ssh_config", ssh_config::render(ssh, authorities)));
    Ok(files)
}

fn certificates(authorities: &[Authority]) -> String {
    authorities.iter().flat_map(|authority| &authority.tls).map(crate::x509::X509::pem).collect()
}

/// An SSH authority's key as a known_hosts line for these host patterns. `type=host` stands in the comment column.
fn cert_authority(patterns: &str, key: &SshAuthority) -> String {
    format!("@cert-authority {patterns} {} type=host\n", key.as_str())
}
