//! What stories need of the machine, such as root, mounts, strace or a program.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testcluster::Testcluster;

use crate::harness::Need;
use crate::remapped;
use crate::step::{Output, Step};

/// Debian's least privileged user. It exists on every Debian, and ssh needs a user that exists.
pub(crate) const OTHER_USER: u32 = 65534;

/// Root, with the rights to change owners of files and to become another user.
pub(crate) static ROOT: Need = LazyLock::new(|| {
    if !is_root() {
        return Err("needs root".to_owned());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    chown(file.path(), Some(OTHER_USER), None)
        .map_err(|error| format!("root cannot change the owner of a file: {error}"))?;
    check_command("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups", "true"])
});

/// A user who is not root: the user who runs the tests, or a user that root can become.
pub(crate) static UNPRIVILEGED: Need = LazyLock::new(|| if is_root() { ROOT.clone() } else { Ok(()) });

/// The right to mount a file system.
pub(crate) static MOUNT: Need = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    Tmpfs::mount(directory.path().join("tmpfs"), "").map(drop).map_err(|error| format!("cannot mount a tmpfs: {error}"))
});

/// Root, with the right to make a user namespace with other users. They need to reach the machine's temporary directory.
pub(crate) static USER_NAMESPACE: Need = LazyLock::new(|| {
    ROOT.clone()?;
    let command = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).current_dir(std::env::temp_dir());
        command
    };
    let output = remapped::run(command, &["id", "-u"]);
    let is_root = output.stdout == "0\n";
    if is_root { Ok(()) } else { Err(format!("no user namespace with other users: {}", output.stderr.trim_end())) }
});

/// The rights to run a name server, and to give the product its own configuration of the resolver.
pub(crate) static RESOLVER: Need = LazyLock::new(|| {
    UdpSocket::bind("127.53.0.254:53").map_err(|error| format!("cannot listen at port 53: {error}"))?;
    let mounts = ["resolv.conf", "nsswitch.conf"].map(|name| format!("mount --bind /etc/{name} /etc/{name}"));
    check_command("unshare", &["--mount", "sh", "-c", &mounts.join(" && ")])
});

/// The path of Debian's libnss-wrapper, which gives names the addresses that a story needs.
pub(crate) static NSS_WRAPPER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    libraries.map(|entry| entry.path().join("libnss_wrapper.so")).find(|path| path.exists())
});
pub(crate) static NAMES: Need =
    LazyLock::new(|| NSS_WRAPPER.is_some().then_some(()).ok_or_else(|| "needs Debian's libnss-wrapper".to_owned()));

/// strace, with the right to trace.
pub(crate) static STRACE: Need =
    LazyLock::new(|| check_command("strace", &["-fqqq", "-o/dev/null", "--trace=fsync", "true"]));

/// The loopback address of IPv6.
pub(crate) static IPV6: Need = LazyLock::new(|| match UdpSocket::bind("[::1]:0") {
    Ok(_) => Ok(()),
    Err(error) => Err(format!("no IPv6: {error}")),
});

/// The right to write core files.
pub(crate) static CORE_FILES: Need = LazyLock::new(|| check_command("sh", &["-c", "ulimit -c unlimited"]));

pub(crate) static RSYNC: Need = LazyLock::new(|| check_command("rsync", &["--version"]));

/// Terraform or OpenTofu. No provider is needed.
pub(crate) static TERRAFORM: Need = LazyLock::new(|| terraform_program().map(drop));

/// The name of Terraform's or OpenTofu's program.
pub(crate) fn terraform_program() -> Result<&'static str, String> {
    let version = |program| check_command(program, &["version"]).map(|()| program);
    version("terraform").or_else(|_| version("tofu")).map_err(|error| format!("needs Terraform or OpenTofu: {error}"))
}

pub(crate) static GIT: Need = LazyLock::new(|| check_command("git", &["--version"]));

pub(crate) static ANSIBLE: Need = LazyLock::new(|| check_command("ansible-playbook", &["--version"]));

/// The Python that has SSH libraries: that of `tests/ssh-libraries` if it has run, else the machine's.
pub(crate) static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(Step::binary()).ancestors().nth(2).unwrap();
    let python = target.join("ssh-libraries/ready/bin/python");
    if python.exists() { python } else { PathBuf::from("python3") }
});

/// An asyncssh that knows certificates of RSA keys.
pub(crate) static ASYNCSSH: Need = LazyLock::new(|| {
    let program = "import asyncssh; assert [int(n) for n in asyncssh.__version__.split('.')] >= [2, 13], 'too old'";
    check_command(&*PYTHON, &["-c", program])
});

/// Fabric, with the Paramiko whose messages the documents quote, and a `cryptography` that can verify SSH certificates.
pub(crate) static FABRIC: Need = LazyLock::new(|| {
    let program = "import fabric, paramiko; assert paramiko.__version__ >= '4'; \
                   from cryptography.hazmat.primitives.serialization import load_ssh_public_identity";
    check_command(&*PYTHON, &["-c", program])
});

/// More than some seconds of time. `make check` leaves these stories out.
pub(crate) static TIME: Need = LazyLock::new(|| match selection().as_deref() {
    Some("fast") => Err("not among the fast stories".to_owned()),
    _ => Ok(()),
});

/// More time than `make test` has.
pub(crate) static BENCH: Need = LazyLock::new(|| match selection().as_deref() {
    Some("all") => Ok(()),
    _ => Err("STORIES=all runs it".to_owned()),
});

/// Which stories to run: `fast`, `all`, or by default those of `make test`.
fn selection() -> Option<String> {
    std::env::var("STORIES").ok()
}

/// Returns an error if this command fails on this machine.
fn check_command(program: impl AsRef<Path>, args: &[&str]) -> Result<(), String> {
    let program = program.as_ref();
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The last line of a traceback is the error.
    let reason = stderr.lines().last().unwrap_or_default();
    if output.status.success() { Ok(()) } else { Err(format!("{} fails here: {reason}", program.display())) }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the pipe and injects a fault into its system calls, as in `pipe_with(&step, "fsync", "error=ENOSPC:when=2")`.
pub(crate) fn pipe_with(step: &Step, call: &str, what: &str) -> Output {
    let [trace, inject] = [format!("--trace={call}"), format!("--inject={call}:{what}")];
    step.run("strace", &["-fqqq", "-o/dev/null", "--signal=none", &trace, &inject, "--", Step::binary()])
}

/// A step in which these names have these addresses, in this order. A name may have several addresses. Needs [`NAMES`].
pub(crate) fn with_names(step: Step, names: &[(&str, &str)]) -> Step {
    let wrapper = NSS_WRAPPER.as_ref().unwrap();
    let hosts = step.dir().join("hosts");
    fs::write(&hosts, names.iter().map(|(name, address)| format!("{address} {name}\n")).collect::<String>()).unwrap();
    step.env("LD_PRELOAD", wrapper.to_str().unwrap()).env("NSS_WRAPPER_HOSTS", hosts.to_str().unwrap())
}

/// The command that runs another one without privileges: as [`OTHER_USER`] if root runs the tests.
pub(crate) fn unprivileged_user() -> Vec<&'static str> {
    if is_root() { vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] } else { vec!["env"] }
}

/// A step without privileges. If root runs the tests, [`OTHER_USER`] runs the commands of the step, in a clone
/// directory like Bitbucket's, which belongs to root and which every user may write to. Needs [`UNPRIVILEGED`].
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
            return Self { step, user: unprivileged_user(), binary: Step::binary().into() };
        }
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        open(step.dir());
        // The other user may not read the directories of the build and of the cluster.
        let [binary, ca] = ["product", "web-ca.pem"].map(|name| step.dir().join(name));
        fs::copy(Step::binary(), &binary).unwrap();
        fs::copy(cluster.web_ca_file(), &ca).unwrap();
        open(&binary);
        open(&ca);
        let step = step.env("SSL_CERT_FILE", ca.to_str().unwrap()).scrub(format!("user {OTHER_USER} "), "user UID ");
        Self { step, user: unprivileged_user(), binary }
    }

    /// The product as a pipe, for stories that start it themselves.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let args = [&self.user[1..], &[self.binary.to_str().unwrap()], args].concat();
        self.step.command(self.user[0], &args)
    }

    /// Runs a program as that user.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Output {
        let args = [&self.user[1..], &[program], args].concat();
        self.step.run(self.user[0], &args)
    }

    /// Runs the product as a pipe.
    pub(crate) fn pipe(&self) -> Output {
        self.run(self.binary.to_str().unwrap(), &[])
    }

    /// Runs `echo hello` on the node, by ssh.
    #[track_caller]
    pub(crate) fn hello(&self, cluster: &Testcluster) {
        let args = ["-F", "./tbot-user/ssh_config", &Step::node(cluster), "echo", "hello"];
        let output = self.run("ssh", &args).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""));
    }
}

/// A tmpfs that is unmounted on drop. Needs [`MOUNT`].
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Creates the directory, too.
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
