//! What the machine lets a test do: be root, be somebody else, mount, trace.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testcluster::Testcluster;

use crate::step::{Said, Step};

/// `nobody` of Debian: the one other user that is always there, and ssh wants its user to exist.
pub(crate) const NOBODY: u32 = 65534;

/// Says why a test is not run, once per test; `make test` counts these lines.
pub(crate) fn not_run<T>(reason: &str) -> Option<T> {
    // Past the test runner, which shows what passing tests print to nobody.
    let _ = writeln!(std::io::stderr(), "not run: {reason}");
    None
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Root, who can become somebody else.
pub(crate) fn root() -> Option<()> {
    if !is_root() {
        return not_run("needs root");
    }
    works("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups", "true"])
}

/// A strace that may trace.
pub(crate) fn strace() -> Option<()> {
    works("strace", &["-fqqq", "-o/dev/null", "--trace=fsync", "true"])
}

/// The pipe, but something happens at its system calls: `pipe_with(&step, "fsync", "error=ENOSPC:when=2")`.
pub(crate) fn pipe_with(step: &Step, call: &str, what: &str) -> Said {
    let [trace, inject] = [format!("--trace={call}"), format!("--inject={call}:{what}")];
    step.run("strace", &["-fqqq", "-o/dev/null", "--signal=none", &trace, &inject, "--", Step::binary()])
}

/// A step in which these names have these addresses, in this order; a name may have several.
pub(crate) fn with_names(step: Step, names: &[(&str, &str)]) -> Option<Step> {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let Some(wrapper) = libraries.map(|entry| entry.path().join("libnss_wrapper.so")).find(|path| path.exists()) else {
        return not_run("names need Debian's libnss-wrapper");
    };
    let hosts = step.dir().join("hosts");
    fs::write(&hosts, names.iter().map(|(name, address)| format!("{address} {name}\n")).collect::<String>()).unwrap();
    Some(step.env("LD_PRELOAD", wrapper.to_str().unwrap()).env("NSS_WRAPPER_HOSTS", hosts.to_str().unwrap()))
}

fn works(program: &str, args: &[&str]) -> Option<()> {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Some(()),
        Ok(_) => not_run(&format!("{program} may not do its work here")),
        Err(error) => not_run(&format!("{program}: {error}")),
    }
}

/// A step without privileges: where the tests are run by root, `nobody` runs its commands, in a clone directory like
/// Bitbucket's, which is root's and open to all.
pub(crate) struct Unprivileged {
    pub(crate) step: Step,
    user: Vec<&'static str>,
    binary: PathBuf,
}

impl Unprivileged {
    /// A step with the pipe's variables.
    pub(crate) fn step_of(cluster: &Testcluster) -> Option<Self> {
        let step = Step::of(cluster);
        if !is_root() {
            let step = step.scrub(format!("user {} ", rustix::process::geteuid()), "user UID ");
            return Some(Self { step, user: vec!["env"], binary: Step::binary().into() });
        }
        root()?;
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
        Some(Self { step, user, binary })
    }

    /// Any program.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Said {
        let args = [&self.user[1..], &[program], args].concat();
        self.step.run(self.user[0], &args)
    }

    /// The product as a pipe.
    pub(crate) fn pipe(&self) -> Said {
        self.run(self.binary.to_str().unwrap(), &[])
    }

    /// ssh says hello.
    #[track_caller]
    pub(crate) fn hello(&self, cluster: &Testcluster) {
        let args = ["-F", "./tbot-user/ssh_config", &Step::node(cluster), "echo", "hello"];
        let said = self.run("ssh", &args).ok();
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("hello\n", ""));
    }
}

/// A tmpfs, until it is dropped.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Makes the directory, too.
    pub(crate) fn at(path: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        match mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(&*options)) {
            Ok(()) => Some(Self(path)),
            Err(error) => not_run(&format!("cannot mount a tmpfs: {error}")),
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}
