//! What stories need of the machine: to be root, to become another user, to mount, to trace, a program.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testcluster::Testcluster;

use crate::harness::Need;
use crate::step::{Output, Step};

/// `nobody` of Debian: the one other user that is always there, and ssh wants its user to exist.
pub(crate) const NOBODY: u32 = 65534;

/// Root that can give files away and become another user.
pub(crate) static ROOT: Need = LazyLock::new(|| {
    if !is_root() {
        return Err("needs root".to_owned());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    chown(file.path(), Some(NOBODY), None).map_err(|error| format!("root cannot give files away: {error}"))?;
    probe("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups", "true"])
});

/// A user who is not root: the one who runs the tests, or one whom root can become.
pub(crate) static UNPRIVILEGED: Need = LazyLock::new(|| if is_root() { ROOT.clone() } else { Ok(()) });

/// Mounts, seen by every process.
pub(crate) static MOUNT: Need = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    Tmpfs::mount(directory.path().join("tmpfs"), "").map(drop).map_err(|error| format!("cannot mount a tmpfs: {error}"))
});

/// A name server of the test's own, and configuration files of the resolver that only the product sees.
pub(crate) static RESOLVER: Need = LazyLock::new(|| {
    UdpSocket::bind("127.53.0.254:53").map_err(|error| format!("cannot listen at port 53: {error}"))?;
    let mounts = ["resolv.conf", "nsswitch.conf"].map(|name| format!("mount --bind /etc/{name} /etc/{name}"));
    probe("unshare", &["--mount", "sh", "-c", &mounts.join(" && ")])
});

/// Names with addresses of the test's own: the path of Debian's libnss-wrapper.
static NSS_WRAPPER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    libraries.map(|entry| entry.path().join("libnss_wrapper.so")).find(|path| path.exists())
});
pub(crate) static NAMES: Need =
    LazyLock::new(|| NSS_WRAPPER.is_some().then_some(()).ok_or_else(|| "needs Debian's libnss-wrapper".to_owned()));

/// A strace that may trace.
pub(crate) static STRACE: Need = LazyLock::new(|| probe("strace", &["-fqqq", "-o/dev/null", "--trace=fsync", "true"]));

/// The loopback address of IPv6.
pub(crate) static IPV6: Need = LazyLock::new(|| match UdpSocket::bind("[::1]:0") {
    Ok(_) => Ok(()),
    Err(error) => Err(format!("no IPv6: {error}")),
});

pub(crate) static RSYNC: Need = LazyLock::new(|| probe("rsync", &["--version"]));

pub(crate) static GIT: Need = LazyLock::new(|| probe("git", &["--version"]));

/// More than some seconds of time: `make check` leaves these stories out.
pub(crate) static TIME: Need = LazyLock::new(|| match selection().as_deref() {
    Some("fast") => Err("not among the fast stories".to_owned()),
    _ => Ok(()),
});

/// A time that `make test` does not have either.
pub(crate) static BENCH: Need = LazyLock::new(|| match selection().as_deref() {
    Some("all") => Ok(()),
    _ => Err("benches/gigabyte runs it".to_owned()),
});

/// The stories that are wanted: `fast`, `all`, or those of `make test`.
fn selection() -> Option<String> {
    std::env::var("STORIES").ok()
}

/// Does a program do this here?
fn probe(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program} fails here: {}", stderr.trim_end())) }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The pipe, but something happens at its system calls: `pipe_with(&step, "fsync", "error=ENOSPC:when=2")`.
pub(crate) fn pipe_with(step: &Step, call: &str, what: &str) -> Output {
    let [trace, inject] = [format!("--trace={call}"), format!("--inject={call}:{what}")];
    step.run("strace", &["-fqqq", "-o/dev/null", "--signal=none", &trace, &inject, "--", Step::binary()])
}

/// A step in which these names have these addresses, in this order; a name may have several. Needs [`NAMES`].
pub(crate) fn with_names(step: Step, names: &[(&str, &str)]) -> Step {
    let wrapper = NSS_WRAPPER.as_ref().unwrap();
    let hosts = step.dir().join("hosts");
    fs::write(&hosts, names.iter().map(|(name, address)| format!("{address} {name}\n")).collect::<String>()).unwrap();
    step.env("LD_PRELOAD", wrapper.to_str().unwrap()).env("NSS_WRAPPER_HOSTS", hosts.to_str().unwrap())
}

/// A step without privileges: where the tests are run by root, `nobody` runs its commands, in a clone directory like
/// Bitbucket's, which is root's and open to all. Needs [`UNPRIVILEGED`].
pub(crate) struct Unprivileged {
    pub(crate) step: Step,
    user: Vec<&'static str>,
    binary: PathBuf,
}

impl Unprivileged {
    /// A step with the pipe's variables.
    pub(crate) fn new(cluster: &Testcluster) -> Self {
        let step = Step::new(cluster);
        if !is_root() {
            let step = step.scrub(format!("user {} ", rustix::process::geteuid()), "user UID ");
            return Self { step, user: vec!["env"], binary: Step::binary().into() };
        }
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        open(step.dir());
        // Where the build and the cluster keep theirs may be closed to others.
        let [binary, ca] = ["product", "web-ca.pem"].map(|name| step.dir().join(name));
        fs::copy(Step::binary(), &binary).unwrap();
        fs::copy(cluster.web_ca_file(), &ca).unwrap();
        open(&binary);
        open(&ca);
        let step = step.env("SSL_CERT_FILE", ca.to_str().unwrap()).scrub(format!("user {NOBODY} "), "user UID ");
        let user = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        Self { step, user, binary }
    }

    /// Any program.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Output {
        let args = [&self.user[1..], &[program], args].concat();
        self.step.run(self.user[0], &args)
    }

    /// The product as a pipe.
    pub(crate) fn pipe(&self) -> Output {
        self.run(self.binary.to_str().unwrap(), &[])
    }

    /// ssh says hello.
    #[track_caller]
    pub(crate) fn hello(&self, cluster: &Testcluster) {
        let args = ["-F", "./tbot-user/ssh_config", &Step::node(cluster), "echo", "hello"];
        let output = self.run("ssh", &args).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""));
    }
}

/// A tmpfs, until it is dropped. Needs [`MOUNT`].
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Makes the directory, too.
    pub(crate) fn at(path: PathBuf, options: &str) -> Self {
        Self::mount(path, options).unwrap()
    }

    fn mount(path: PathBuf, options: &str) -> rustix::io::Result<Self> {
        fs::create_dir(&path).unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(&*options))?;
        Ok(Self(path))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}
