//! `ssh_config`: the directives of tbot (docs/protocol.md, "ssh_config"), and others that make it strict and usable at
//! once (docs/decisions.md, 8):
//!
//! * our binary in the destination is the `ProxyCommand`, so nothing needs to be installed;
//! * only hosts with a certificate of the cluster's CA are accepted: `StrictHostKeyChecking yes`, no other known_hosts,
//!   and no keys learnt from a server;
//! * the key in the destination is the only one that is offered, and no agent of the user is asked or forwarded.

use std::fmt::Write as _;
use std::iter::zip;
use std::path::Path;

use super::clusters::subdomains;
use crate::address::{ClusterName, HostPort};
use crate::credentials::Authority;
use crate::error::{Advice, Exit, Explain};
use crate::output::Issued;
use crate::output_files::{BINARY, FIRST_LINE, KEY, KNOWN_HOSTS, SSH_CERTIFICATE, of_cluster};
use crate::shell;
use crate::text::sanitize;

/// The paths and addresses in an `ssh_config`.
pub(crate) struct Paths<'a> {
    pub(crate) destination: String,
    pub(crate) proxy: &'a HostPort,
    pub(crate) tls_routing: bool,
    pub(crate) upgrade: bool,
    /// Whether there is a `network.json`.
    pub(crate) network_file: bool,
    /// Whether the ProxyCommand has an agent for the proxy.
    pub(crate) agent: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the destination {path} cannot be named in an ssh_config: it contains {what}")]
pub(crate) struct UnnameableDestination {
    path: String,
    what: &'static str,
}

impl Explain for UnnameableDestination {
    fn advice(&self) -> Advice {
        Advice::new(
            Exit::BadInput,
            "the-destination-has-a-strange-name",
            "Choose a DESTINATION (--destination) of plain characters, such as ./tbot-user.",
        )
    }
}

/// The absolute destination as text that OpenSSH can parse. Inside double quotes there is no way to write a quote, a
/// backslash or a line break that all versions understand, and OpenSSH replaces `${` by a variable.
pub(crate) fn ssh_config_path(destination: &Path) -> Result<String, UnnameableDestination> {
    let refuse = |what| Err(UnnameableDestination { path: sanitize(&destination.display().to_string()), what });
    match destination.to_str() {
        None => refuse("bytes that are not UTF-8"),
        Some(text) if text.contains(['"', '\\']) => refuse("a double quote or a backslash"),
        Some(text) if text.contains("${") => refuse("`${`"),
        Some(text) if text.contains(char::is_control) => refuse("control characters"),
        Some(text) => Ok(text.to_owned()),
    }
}

impl<'a> Paths<'a> {
    pub(super) fn new(
        destination: &Path,
        issued: &'a Issued,
        network_file: bool,
        agent: bool,
    ) -> Result<Self, UnnameableDestination> {
        let Issued { ssh_proxy: proxy, tls_routing, upgrade, .. } = issued;
        let destination = ssh_config_path(destination)?;
        Ok(Self { destination, proxy, tls_routing: *tls_routing, upgrade: *upgrade, network_file, agent })
    }

    /// A path in double quotes. `%` begins a token in most directives that take paths.
    fn quoted(&self, file: &str) -> String {
        format!("\"{}/{file}\"", self.destination).replace('%', "%%")
    }

    /// The command that ssh passes to the shell. It is quoted for the shell, then for ssh's tokens. The values that ssh
    /// fills in are quoted, too, because older versions allow metacharacters in them (CVE-2023-51385).
    fn proxy_command(&self, cluster: &ClusterName) -> String {
        let shell = |text: &str| shell::quoted(text).replace('%', "%%");
        format!(
            "{} ssh-proxy-command --destination-dir={} --proxy-server={} --cluster={} {} {}{}{} \
             --resume --user='%r' --host='%h' --port='%p'",
            shell(&format!("{}/{}", self.destination, BINARY)),
            shell(&self.destination),
            shell(&self.proxy.to_string()),
            shell(cluster.as_str()),
            if self.tls_routing { "--tls-routing" } else { "--no-tls-routing" },
            if self.upgrade { "--connection-upgrade" } else { "--no-connection-upgrade" },
            if self.network_file { " --network-file" } else { "" },
            if self.agent { "" } else { " --no-agent" },
        )
    }

    fn identity(&self, known_hosts: &str, indent: &str) -> String {
        let lines = [
            format!("UserKnownHostsFile {}", self.quoted(known_hosts)),
            "GlobalKnownHostsFile /dev/null".to_owned(),
            "StrictHostKeyChecking yes".to_owned(),
            "UpdateHostKeys no".to_owned(),
            format!("IdentityFile {}", self.quoted(KEY)),
            format!("CertificateFile {}", self.quoted(SSH_CERTIFICATE)),
            "IdentitiesOnly yes".to_owned(),
            "IdentityAgent none".to_owned(),
            "ForwardAgent no".to_owned(),
        ];
        lines.iter().map(|line| format!("{indent}{line}\n")).collect()
    }

    fn connection(&self, cluster: &ClusterName, indent: &str) -> String {
        // Teleport's own nodes listen on 3022. OpenSSH nodes need `ssh -p`.
        format!("{indent}Port 3022\n{indent}ProxyCommand {}\n", self.proxy_command(cluster))
    }
}

/// The main file, for `ssh -F`: the nodes of all clusters, and the proxy itself, which belongs to the first cluster.
pub(crate) fn render(paths: &Paths<'_>, clusters: &[Authority]) -> String {
    let proxy_host = &paths.proxy.host;
    let mut text = format!("{FIRST_LINE}\n");
    for (n, (Authority { cluster, .. }, others)) in zip(clusters, subdomains(clusters)).enumerate() {
        // ssh uses the first value that it finds, so the nodes of other clusters must not match here.
        let others: String = others.iter().map(|other| format!(" !{other}")).collect();
        let hosts = patterns(cluster);
        let (identity, connection) = (paths.identity(KNOWN_HOSTS, "    "), paths.connection(cluster, "    "));
        let _ = match n {
            0 => write!(
                text,
                "\nHost {hosts} {proxy_host}{others}\n{identity}\nHost {hosts} !{proxy_host}{others}\n{connection}"
            ),
            _ => write!(text, "\nHost {hosts} !{proxy_host}{others}\n{identity}{connection}"),
        };
    }
    text
}

/// The patterns of the nodes of a cluster. ssh compares them by case, with the name as it was typed.
fn patterns(cluster: &ClusterName) -> String {
    let folded = cluster.as_str().to_ascii_lowercase();
    if folded == cluster.as_str() { format!("*.{cluster}") } else { format!("*.{cluster} *.{folded}") }
}

/// The file of one cluster, without `Host` lines, for an `Include` under another one.
pub(super) fn render_any_host(paths: &Paths<'_>, cluster: &ClusterName) -> String {
    let known_hosts = of_cluster(cluster.as_str(), KNOWN_HOSTS);
    format!("{FIRST_LINE}\n{}{}", paths.identity(&known_hosts, ""), paths.connection(cluster, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_ssh_cannot_parse_are_refused() {
        for path in ["/a\"b", "/a\\b", "/a${HOME}", "/a\nb"] {
            assert!(ssh_config_path(Path::new(path)).is_err(), "{path}");
        }
        assert!(ssh_config_path(Path::new("/opt/it's 100% mine/$x")).is_ok());
    }
}
