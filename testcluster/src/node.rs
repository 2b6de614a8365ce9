//! The cluster's node: the system's own OpenSSH server, unprivileged where we are.
//!
//! Each connection gets an `sshd -i` of its own, which ends with its connection: nothing listens, nothing outlives the
//! cluster, however that ends. It trusts the cluster's user CA and shows a certificate of the host CA.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::accounts::Accounts;

const HOSTNAME: &str = "node";

/// The node, ready to be dialled.
#[derive(Debug)]
pub(crate) struct Node {
    uuid: String,
    sshd: Option<PathBuf>,
    configuration: PathBuf,
    environment: Vec<(String, PathBuf)>,
}

/// What sshd is given.
#[derive(Debug)]
pub(crate) struct NodeKeys<'a> {
    /// OpenSSH private key.
    pub host_key: &'a str,
    /// Certificate line.
    pub host_certificate: &'a str,
    /// authorized_keys line.
    pub user_ca: &'a str,
}

impl Node {
    /// Writes sshd's files below `directory`.
    pub(crate) fn prepare(directory: &Path, uuid: &str, keys: &NodeKeys<'_>, accounts: &Accounts) -> io::Result<Self> {
        let private = |name: &str, text: &str| write_private(&directory.join(name), text);
        private("host_key", keys.host_key)?;
        private("host_key-cert.pub", &format!("{}\n", keys.host_certificate.trim_end()))?;
        private("user_ca.pub", keys.user_ca)?;
        private("sshd_config", &configuration(directory))?;
        if accounts.is_root() {
            // sshd as root wants its directory for the separation of privileges; where it cannot be made, sshd's own
            // message in its log says so.
            let _exists = std::fs::create_dir_all("/run/sshd");
        }
        Ok(Self {
            uuid: uuid.to_owned(),
            sshd: find_sshd(),
            configuration: directory.join("sshd_config"),
            environment: accounts.environment(directory)?,
        })
    }

    pub(crate) fn uuid(&self) -> &str {
        &self.uuid
    }

    pub(crate) fn hostname(&self) -> &'static str {
        HOSTNAME
    }

    /// Starts an sshd for one connection; it is killed when the child is dropped.
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

/// A TCP connection of its own, so that sessions see an address and not a socket without a name.
async fn loopback_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (ours, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (ours, (theirs, address)) = (ours?, accepted?);
    if address != ours.local_addr()? {
        return Err(io::Error::other("somebody else connected"));
    }
    ours.set_nodelay(true)?;
    theirs.set_nodelay(true)?;
    Ok((ours, theirs))
}

/// The first sshd of the places where systems keep it; it has to be called by its absolute path.
fn find_sshd() -> Option<PathBuf> {
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

/// What to do about a machine without OpenSSH; `None` where both of its halves are installed.
pub fn missing_openssh() -> Option<&'static str> {
    let has_ssh = std::process::Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_ok();
    (find_sshd().is_none() || !has_ssh).then_some("apt-get install openssh-server openssh-client")
}

/// Certificates of the user CA are the only way in.
fn configuration(directory: &Path) -> String {
    let directory = directory.display();
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
         PrintLastLog no\n\
         LogLevel VERBOSE\n\
         Subsystem sftp internal-sftp\n\
         MaxSessions 100\n"
    )
}

/// sshd refuses keys that others may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
