//! The SSH server of a node: the system's OpenSSH, which runs as the current user.
//!
//! Each connection gets its own `sshd -i`, which ends with the connection. So nothing listens, and no process outlives
//! the cluster, however the cluster ends. The server trusts the root cluster's user CA and has a certificate of the
//! host CA.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::accounts::Accounts;

/// The program, its configuration and its environment.
#[derive(Debug)]
pub(crate) struct Sshd {
    sshd: Option<PathBuf>,
    configuration: PathBuf,
    environment: Vec<(String, PathBuf)>,
}

/// The certificate and the trusted authorities of sshd.
#[derive(Debug)]
pub(crate) struct SshdKeys<'a> {
    /// One line, as in `key-cert.pub`.
    pub host_certificate: &'a str,
    /// Lines in the format of authorized_keys.
    pub user_cas: &'a str,
}

impl Sshd {
    /// Writes sshd's files into `directory`. The host key is an OpenSSH private key.
    pub(crate) fn prepare(
        directory: &Path,
        host_key: &str,
        accounts: &Accounts,
        port_forwarding: bool,
    ) -> io::Result<Self> {
        let private = |name: &str, text: &str| write_private(&directory.join(name), text);
        private("host_key", host_key)?;
        private("sshd_config", &configuration(directory, port_forwarding))?;
        if accounts.is_root() {
            // As root, sshd needs this directory for privilege separation. If it cannot be created, sshd's log says so.
            let _exists = std::fs::create_dir_all("/run/sshd");
        }
        Ok(Self {
            sshd: find_sshd(),
            configuration: directory.join("sshd_config"),
            environment: accounts.environment(directory)?,
        })
    }

    /// Writes the files that change with the authorities. The next connection uses them.
    pub(crate) fn certify(&self, keys: &SshdKeys<'_>) -> io::Result<()> {
        let certificate = format!("{}\n", keys.host_certificate.trim_end());
        write_private(&self.configuration.with_file_name("host_key-cert.pub"), &certificate)?;
        write_private(&self.configuration.with_file_name("user_ca.pub"), keys.user_cas)
    }

    /// Starts sshd for one connection. It is killed when the child is dropped.
    pub(crate) async fn dial(&self) -> io::Result<(TcpStream, Child)> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no sshd: apt-get install openssh-server");
        let sshd = self.sshd.as_ref().ok_or_else(missing)?;
        let (ours, theirs) = loopback_pair().await?;
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        let child = Command::new(sshd)
            .args(["-i", "-f"])
            .arg(&self.configuration)
            .arg("-E")
            .arg(self.configuration.with_file_name("sshd.log"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok((ours, child))
    }
}

/// A TCP connection, because sshd logs the client's address and a socket pair has none.
async fn loopback_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (ours, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (ours, (theirs, address)) = (ours?, accepted?);
    if address != ours.local_addr()? {
        return Err(io::Error::other("another process connected"));
    }
    ours.set_nodelay(true)?;
    theirs.set_nodelay(true)?;
    Ok((ours, theirs))
}

/// sshd refuses to start if it is not called by its absolute path.
fn find_sshd() -> Option<PathBuf> {
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

/// The command that installs OpenSSH. `None` if client and server are already installed.
pub fn missing_openssh() -> Option<&'static str> {
    let has_ssh = std::process::Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_ok();
    (find_sshd().is_none() || !has_ssh).then_some("apt-get install openssh-server openssh-client")
}

/// Only certificates of the user CA can log in.
fn configuration(directory: &Path, port_forwarding: bool) -> String {
    let directory = directory.display();
    let forwarding = if port_forwarding { "yes" } else { "no" };
    format!(
        "HostKey {directory}/host_key\n\
         HostCertificate {directory}/host_key-cert.pub\n\
         TrustedUserCAKeys {directory}/user_ca.pub\n\
         AuthorizedKeysFile none\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin yes\n\
         UsePAM no\n\
         StrictModes no\n\
         PidFile none\n\
         PrintMotd no\n\
         AllowTcpForwarding {forwarding}\n\
         PrintLastLog no\n\
         LogLevel VERBOSE\n\
         Subsystem sftp internal-sftp\n\
         MaxSessions 100\n"
    )
}

/// Writes a file with mode 0600; sshd refuses keys that other users may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
