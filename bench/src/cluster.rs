//! A cluster, a step that has joined it, and ssh to its node by several clients.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testcluster::{ForwardProxy, ForwardProxyBehavior, ForwardProxyKind};

use crate::client::{Client, Route};
use crate::measurement::Measurement;
use crate::peer::Peer;
use crate::{delay_relay, tls_server};

const TLS_CERTIFICATE: &str = "tls-server.pem";

/// A cluster and the directory of a step.
#[derive(Debug)]
pub(crate) struct Cluster<'a> {
    measurement: &'a Measurement,
    pub(crate) peer: Peer,
    /// Good for many joins.
    id_token: String,
    route: Route,
    directory: PathBuf,
    forward_proxy: Option<ForwardProxy>,
    /// In front of the node.
    tls_server: SocketAddr,
    delay_relay: Option<String>,
}

impl<'a> Cluster<'a> {
    /// Starts a cluster that is reached by the route.
    pub(crate) fn start(measurement: &'a Measurement, route: Route, flags: &[&str]) -> io::Result<Self> {
        let directory = measurement.new_directory()?;
        let flags: Vec<&str> = route.flags().iter().chain(flags).copied().collect();
        let peer = Peer::start(&measurement.peer, &directory.join("state"), &flags)?;
        let forward_proxy = (route == Route::ForwardProxy)
            .then(|| ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works));
        let id_token = peer.id_token()?;
        let tls_server = tls_server::start(peer.sshd_addr()?, &directory.join(TLS_CERTIFICATE))?;
        Ok(Self { measurement, peer, id_token, route, directory, forward_proxy, tls_server, delay_relay: None })
    }

    /// Delays the connections of plain ssh to the node as the cluster delays those to itself.
    pub(crate) fn with_delay_to_node(mut self, one_way: std::time::Duration) -> io::Result<Self> {
        self.delay_relay = Some(delay_relay::start(self.peer.sshd_addr()?, one_way)?);
        Ok(self)
    }

    /// A program of a step, without our environment.
    fn step(&self, program: impl AsRef<OsStr>, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(directory).stdin(Stdio::null());
        command.env("SSL_CERT_FILE", self.peer.web_ca());
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(proxy) = &self.forward_proxy {
            command.env("HTTPS_PROXY", proxy.url());
        }
        command
    }

    /// A join by a client, whose usage goes to the file `usage` of the directory, and whose credentials go to `tbot-user`.
    pub(crate) fn join_command(&self, client: Client, directory: &Path) -> Command {
        let mut command = self.step(&self.measurement.program, directory);
        command.arg("measure").arg(directory.join("usage")).arg("--");
        command.env("BITBUCKET_STEP_OIDC_TOKEN", &self.id_token);
        let proxy = self.peer.text("proxy_addr");
        if client == Client::Go {
            command.arg(self.peer.program()).args(["selfjoin", "--dir", "tbot-user", "--proxy", proxy]);
        } else {
            command.arg(&self.measurement.binary).envs([
                ("PROXY_SERVER", proxy),
                ("TOKEN", "example-bot"),
                ("TTL", "2h"),
            ]);
        }
        command
    }

    /// Joins by teleport-pipe, for the sessions of all clients.
    pub(crate) fn join(self) -> io::Result<Self> {
        succeed(&mut self.join_command(Client::TeleportPipe, &self.directory))?;
        Ok(self)
    }

    fn credentials(&self) -> PathBuf {
        self.directory.join("tbot-user")
    }

    /// ssh to the node by a client. The usage of the ProxyCommand goes to the file.
    pub(crate) fn ssh(&self, client: Client, usage: Option<&Path>) -> io::Result<Command> {
        let program = self.measurement.program.display();
        let wrapper = usage.map(|file| format!("'{program}' measure '{}' -- ", file.display()));
        self.ssh_wrapped(client, wrapper.as_deref())
    }

    /// ssh to the node by a client, with words in front of the ProxyCommand.
    pub(crate) fn ssh_wrapped(&self, client: Client, wrapper: Option<&str>) -> io::Result<Command> {
        let config = self.credentials().join("ssh_config");
        let mut command = self.step("ssh", &self.directory);
        command.arg("-F").arg(&config);
        match self.proxy_command(client, &config)? {
            Some(_) if client == Client::TeleportPipe && wrapper.is_none() => {}
            Some(words) => {
                command.arg("-o").arg(format!("ProxyCommand={}{words}", wrapper.unwrap_or_default()));
            }
            None => {
                let sshd = self.node_addr()?;
                let (host, port) = sshd.split_once(':').unwrap_or_default();
                command.args(["-o", "ProxyCommand=none", "-o", &format!("HostName={host}")]);
                command.args(["-o", &format!("Port={port}"), "-o", &format!("HostKeyAlias={}", self.peer.node())]);
            }
        }
        command.arg(self.peer.target());
        Ok(command)
    }

    /// The address at which plain ssh reaches the node.
    fn node_addr(&self) -> io::Result<String> {
        self.delay_relay.clone().map_or_else(|| self.peer.sshd_addr(), Ok)
    }

    fn proxy_command(&self, client: Client, config: &Path) -> io::Result<Option<String>> {
        let program = self.measurement.program.display();
        Ok(Some(match client {
            Client::TeleportPipe => configured_proxy_command(&fs::read_to_string(config)?)?,
            Client::Go => self.go_proxy_command(),
            Client::TcpRelay => format!("'{program}' relay-tcp {}", self.peer.sshd_addr()?),
            Client::TlsRelay => {
                let certificate = self.directory.join(TLS_CERTIFICATE);
                format!("'{program}' relay-tls {} '{}'", self.tls_server, certificate.display())
            }
            Client::PlainSsh => return Ok(None),
        }))
    }

    /// As `selfjoin` writes it into its own `ssh_config`.
    fn go_proxy_command(&self) -> String {
        let is_separate = self.route == Route::SeparatePorts;
        format!(
            "'{}' proxycommand --dir='{}' --proxy='{}' --cluster='{}' --tls-routing={} --upgrade={} %h %p",
            self.peer.program().display(),
            self.credentials().display(),
            self.peer.text(if is_separate { "ssh_addr" } else { "proxy_addr" }),
            self.peer.text("cluster"),
            !is_separate,
            self.route == Route::Upgrade,
        )
    }
}

fn configured_proxy_command(config: &str) -> io::Result<String> {
    let command = config.lines().find_map(|line| line.trim().strip_prefix("ProxyCommand "));
    command.map(str::to_owned).ok_or_else(|| io::Error::other("ssh_config has no ProxyCommand"))
}

/// Runs a program to its end, and returns its standard output if that is not set to anything else.
pub(crate) fn succeed(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let printed = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{} {}: {}\n{printed}",
        command.get_program().display(),
        words.join(" "),
        output.status
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_command_is_found_in_the_configuration() {
        let command = configured_proxy_command("Host a\n    Port 3022\n    ProxyCommand 'a b' c\n").unwrap();
        assert_eq!(command, "'a b' c");
        assert!(configured_proxy_command("Host a\n").is_err());
    }

    #[test]
    fn a_failure_says_what_was_printed() {
        let error = succeed(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("why\n"), "{error}");
    }
}
