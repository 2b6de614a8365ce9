//! A step: a clone, a pipe, and the rest of the script.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testcluster::{Builder, Testcluster};

use crate::docker::{Output, copy_program, docker, gateway, program};
use crate::images;
use crate::pipe_line::{BUILD, PipeLine};
use crate::remapped;

/// The proxy's name in the containers.
pub(crate) const PROXY: &str = "proxy.example.teleport.sh";
const PIPELINES: &str = "pipelines:\n  default:\n    - step:\n        oidc: true\n        script:\n          \
                         - pipe: acme/teleport-pipe:1.0.0\n";

/// A cluster that containers can reach.
pub(crate) fn cluster() -> Testcluster {
    reachable(Testcluster::builder())
}

/// Starts a cluster so that containers can reach it.
pub(crate) fn reachable(builder: Builder) -> Testcluster {
    builder.listen(gateway()).public_name(PROXY).start()
}

/// A step with `oidc: true` whose script begins with the pipe.
pub(crate) struct Step {
    directory: TempDir,
    workdir: String,
    environment: BTreeMap<String, String>,
    variables: Vec<(String, String)>,
    user: String,
    network: Vec<String>,
    mount: &'static str,
}

impl Step {
    /// A clone of a repository. As at Bitbucket, it belongs to root, and every user may write to it (docs/protocol.md,
    /// "Owners and modes").
    pub(crate) fn new(cluster: &Testcluster) -> Self {
        let step = Self::without_clone(cluster);
        let git = |args: &[&str]| step.git(args).ok();
        fs::create_dir(step.path("sub")).unwrap();
        fs::write(step.path("sub/README.md"), "# Infrastructure\n").unwrap();
        fs::write(step.path("bitbucket-pipelines.yml"), PIPELINES).unwrap();
        git(&["init", "--quiet", "."]);
        git(&["add", "."]);
        git(&["-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "Add all files"]);
        fs::write(step.path(".git/info/exclude"), ".bitbucket/pipelines/generated\n").unwrap();
        Output::run(Command::new("chmod").args(["-R", "a+rwX"]).arg(step.clone_dir())).ok();
        step
    }

    /// A step with `clone: enabled: false`. The directory still has the CA file.
    pub(crate) fn without_clone(cluster: &Testcluster) -> Self {
        let directory = TempDir::with_prefix("agent-").unwrap();
        let mut step = Self {
            directory,
            workdir: BUILD.to_owned(),
            environment: cluster.step_env(Path::new(BUILD)).into_iter().collect(),
            variables: Vec::new(),
            user: "0:0".to_owned(),
            network: vec![format!("--add-host={PROXY}:{}", gateway())],
            mount: "",
        };
        for (name, value) in [
            ("BITBUCKET_SSH_KEY_FILE", "/opt/atlassian/pipelines/agent/ssh/id_rsa"),
            ("BITBUCKET_DOCKER_HOST_INTERNAL", "tcp://host.docker.internal:2375"),
            ("PIPELINES_JWT_TOKEN", "a-token-of-bitbuckets-own"),
            ("BITBUCKET_PIPELINES_VARIABLES_PATH", "/opt/atlassian/pipelines/agent/tmp/variables"),
            ("BITBUCKET_TEST_METADATA_FILE_PATH", "/opt/atlassian/pipelines/agent/tmp/metadata"),
        ] {
            step.environment.insert(name.to_owned(), value.to_owned());
        }
        fs::create_dir(step.directory.path().join("ssh")).unwrap();
        let storage = step.path(".bitbucket/pipelines/generated/pipeline/pipes/acme/teleport-pipe");
        fs::create_dir_all(storage).unwrap();
        fs::copy(cluster.web_ca_file(), step.path("ca.pem")).unwrap();
        fs::set_permissions(step.clone_dir(), fs::Permissions::from_mode(0o777)).unwrap();
        step.with("PROXY_SERVER", &cluster.proxy_addr())
            .with("TOKEN", cluster.token_name())
            .with("CA_FILE", &format!("{BUILD}/ca.pem"))
    }

    /// With this variable of the pipe.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this working directory, below the clone directory.
    pub(crate) fn cd(mut self, directory: &str) -> Self {
        self.workdir = format!("{BUILD}/{directory}");
        self
    }

    /// With another user of the step's image. The user need not exist there.
    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = user.to_owned();
        self
    }

    /// With these mount options of the clone directory.
    pub(crate) fn mounted(mut self, options: &'static str) -> Self {
        self.mount = options;
        self
    }

    /// With other options of the network.
    pub(crate) fn network(mut self, options: &[String]) -> Self {
        self.network = options.to_vec();
        self
    }

    /// The clone directory on this machine.
    pub(crate) fn clone_dir(&self) -> PathBuf {
        self.directory.path().join("build")
    }

    /// A path in the clone directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.clone_dir().join(name)
    }

    /// Runs the pipe.
    pub(crate) fn pipe(&self) -> Output {
        self.pipe_of(&images::PIPE)
    }

    /// Runs the pipe from another image. There may be options in front of the image's name.
    pub(crate) fn pipe_of(&self, image: &str) -> Output {
        let line = PipeLine {
            clone_dir: &self.clone_dir(),
            mount: self.mount,
            ssh_dir: &self.directory.path().join("ssh"),
            workdir: &self.workdir,
            environment: self.environment.keys().map(String::as_str).collect(),
            variables: &self.variables,
            network: &self.network,
            image,
        };
        self.shell(&line.text())
    }

    /// Runs the program of the image with other users than the step has, as an engine with `--userns-remap` does. That is
    /// a setting of the whole engine, so that this takes the place of the engine.
    pub(crate) fn remapped_pipe(&self) -> Output {
        let root = self.directory.path().join("root");
        for directory in ["proc", "etc", &BUILD[1..]] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        // The other users have to reach the root.
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("etc/hosts"), format!("{} {PROXY}\n", gateway())).unwrap();
        copy_program(&images::PIPE, &root.join("teleport-pipe"));
        let mounts = "mount --bind \"$0\" \"$1$2\"; mount --rbind /proc \"$1/proc\"; shift 2; exec \"$@\"";
        let command = |program: &str, args: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-euc", mounts]).arg(self.clone_dir()).arg(&root).args([BUILD, program]);
            command.args(args).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
            command.envs(&self.environment).envs(self.variables.iter().map(|(name, value)| (name, value)));
            command
        };
        let root = root.to_str().unwrap();
        remapped::run(command, &["unshare", "--root", root, "--wd", &self.workdir, "/teleport-pipe"])
    }

    /// Runs the line of an emulator, with the paths and the network of this machine.
    pub(crate) fn emulated(&self, line: &str) -> Output {
        let source = |from: &str, to: &Path| (format!("--volume={from}:"), format!("--volume={}:", to.display()));
        let (build, ssh) = (source(BUILD, &self.clone_dir()), self.directory.path().join("ssh"));
        let ssh = source("/opt/atlassian/pipelines/agent/ssh", &ssh);
        let docker = source("/opt/atlassian/pipelines/bin/docker", Path::new(&program("docker")));
        let run = ("docker run ".to_owned(), format!("docker run {} ", self.network.join(" ")));
        let workdir = ("--workdir=$(pwd)".to_owned(), format!("--workdir={}", self.workdir));
        let line = [build, ssh, docker, run, workdir].iter().fold(line.to_owned(), |line, (original, replacement)| {
            assert!(line.contains(original), "{original}: {line}");
            line.replacen(original, replacement, 1)
        });
        self.shell(&line)
    }

    /// The pipe's variables.
    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Runs a line of the step's script, with its environment.
    fn shell(&self, line: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-euc", line]).envs(&self.environment);
        // The client uses the engine of this machine, and not that in the step's variable.
        shell.env_remove("DOCKER_HOST").envs(std::env::var_os("DOCKER_HOST").map(|host| ("DOCKER_HOST", host)));
        Output::run(&mut shell)
    }

    /// Runs the rest of the step's script, in the step's image.
    pub(crate) fn script(&self, text: &str) -> Output {
        self.script_with(&[], text)
    }

    /// Like [`script`](Self::script), with more options for the container.
    pub(crate) fn script_with(&self, more: &[&str], text: &str) -> Output {
        let volume = format!("--volume={}:{BUILD}{}", self.clone_dir().display(), self.mount);
        let network: Vec<&str> = self.network.iter().map(String::as_str).collect();
        let run = ["run", "--rm", &volume, "--workdir", &self.workdir, "--user", &self.user];
        docker(&[&run, &network[..], more, &[*images::STEP, "sh", "-euc", text]].concat())
    }

    /// Runs the program of the image in the step itself, as its user, with the pipe's variables as environment.
    pub(crate) fn program_in_the_step(&self) -> Output {
        copy_program(&images::PIPE, &self.path("program"));
        let variables = self.variables.iter().map(|(name, value)| (name, value)).chain(&self.environment);
        let options: Vec<_> = variables.map(|(name, value)| format!("--env={name}={value}")).collect();
        self.script_with(&options.iter().map(String::as_str).collect::<Vec<_>>(), "./program")
    }

    /// Runs the second line of the README's example.
    #[track_caller]
    pub(crate) fn hello(&self, cluster: &Testcluster) {
        let output = self.script(&Self::ssh(cluster)).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello world\n", ""));
    }

    /// The second line of the README's example.
    pub(crate) fn ssh(cluster: &Testcluster) -> String {
        let (login, host) = (cluster.node_login(), cluster.node_host());
        format!("ssh -F ./tbot-user/ssh_config {login}@{host} echo \"hello world\"")
    }

    /// Runs `git` in the clone, which may belong to another user.
    pub(crate) fn git(&self, args: &[&str]) -> Output {
        let mut git = Command::new("git");
        Output::run(git.args(["-c", "safe.directory=*", "-C"]).arg(self.clone_dir()).args(args))
    }

    /// All entries below the clone directory except for the destination and `.git`, with mode, owner and content.
    pub(crate) fn other_files(&self) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
        let mut all = BTreeMap::new();
        let mut open = vec![self.clone_dir()];
        while let Some(path) = open.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            if path.ends_with("tbot-user") || path.ends_with(".git") {
                continue;
            }
            let mut content = Vec::new();
            if meta.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                content = fs::read(&path).unwrap();
            }
            all.insert(path, (meta.mode(), meta.uid(), content));
        }
        all
    }
}
