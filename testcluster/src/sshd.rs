//! A node: the system's own OpenSSH server, unprivileged where we are.
//!
//! Each connection gets an `sshd -i` of its own, which ends with its connection: nothing listens, nothing outlives the
//! cluster, however that ends. It trusts the root cluster's user CA and shows a certificate of its cluster's host CA.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::accounts::Accounts;

/// The node, ready to be dialled.
#[derive(Debug)]
pub(crate) struct Sshd {
    sshd: Option<PathBuf>,
    configuration: PathBuf,
    environment: Vec<(String, PathBuf)>,
}

/// What sshd shows, and whom it believes.
#[derive(Debug)]
pub(crate) struct SshdKeys<'a> {
    /// Certificate line.
    pub host_certificate: &'a str,
    /// authorized_keys lines.
    pub user_cas: &'a str,
}

impl Sshd {
    /// Writes sshd's files below `directory`, with an OpenSSH private key.
    pub(crate) fn prepare(directory: &Path, host_key: &str, accounts: &Accounts) -> io::Result<Self> {
        let private = |name: &str, text: &str| write_private(&directory.join(name), text);
        private("host_key", host_key)?;
        private("sshd_config", &configuration(directory))?;
        if accounts.is_root() {
            // sshd as root wants its directory for the separation of privileges; where it cannot be made, sshd's own
            // message in its log says so.
            let _exists = std::fs::create_dir_all("/run/sshd");
        }
        Ok(Self {
            sshd: find_sshd(),
            configuration: directory.join("sshd_config"),
            environment: accounts.environment(directory)?,
        })
    }

    /// Writes the files that change with the authorities; the next connection's sshd reads them.
    pub(crate) fn certify(&self, keys: &SshdKeys<'_>) -> io::Result<()> {
        let certificate = format!("{}\n", keys.host_certificate.trim_end());
        write_private(&self.configuration.with_file_name("host_key-cert.pub"), &certificate)?;
        write_private(&self.configuration.with_file_name("user_ca.pub"), keys.user_cas)
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
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
