//! The programs that use the files: the commands of `docs/other-tools.md`, and that each of them refuses a host with a
//! certificate of another authority.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use testcluster::{Fault, Suite, Testcluster};

use crate::harness::stories;
use crate::machine::{ANSIBLE, ASYNCSSH, FABRIC, GIT, NAMES, NSS_WRAPPER, PYTHON, RSYNC};
use crate::recipes::{block, sh};
use crate::step::{Output, Step};

stories! {
    openssh_runs_commands_and_copies_files,
    a_node_has_a_short_name,
    a_tunnel_reaches_a_port_behind_the_node,
    a_host_behind_a_node_is_reached_through_it needs NAMES,
    rsync_copies_a_directory needs RSYNC,
    git_works_in_another_directory needs GIT,
    ansible_runs_a_playbook needs ANSIBLE,
    asyncssh_runs_a_command needs ASYNCSSH,
    fabric_and_paramiko_run_a_command needs FABRIC,
    openssh_refuses_a_host_of_another_authority needs RSYNC GIT,
    ansible_refuses_a_host_of_another_authority needs ANSIBLE,
    asyncssh_refuses_a_host_of_another_authority needs ASYNCSSH,
    fabric_and_paramiko_refuse_a_host_of_another_authority needs FABRIC,
    the_policy_for_paramiko_refuses_each_wrong_certificate needs FABRIC,
    paramiko_alone_fails_as_the_documents_say needs FABRIC,
}

const PAGE: &str = "docs/other-tools.md";

/// A step in which the pipe has run, and a directory on the node.
pub(crate) struct Client {
    cluster: Testcluster,
    step: Step,
    there: tempfile::TempDir,
}

impl Client {
    fn start() -> Self {
        Self::new(Testcluster::start())
    }

    /// One client for each kind of keys.
    fn with_each_suite() -> [Self; 2] {
        [Suite::Legacy, Suite::BalancedV1].map(|suite| Self::new(Testcluster::builder().suite(suite).start()))
    }

    /// The node has a certificate of another authority than the cluster's.
    fn with_another_authority() -> Self {
        Self::new(Testcluster::builder().fault(Fault::NodeCertOfOtherCa).start())
    }

    pub(crate) fn new(cluster: Testcluster) -> Self {
        let step = Step::new(&cluster).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        step.pipe().ok();
        Self { cluster, step, there: tempfile::tempdir().unwrap() }
    }

    /// A text of the documents with the names of this step.
    pub(crate) fn named(&self, text: &str) -> String {
        let login = self.cluster.node_login();
        text.replace("deploy@", &format!("{login}@"))
            .replace("-u deploy", &format!("-u {login}"))
            .replace("User deploy", &format!("User {login}"))
            .replace("\"deploy\"", &format!("{login:?}"))
            .replace("/srv/app/", &format!("{}/", self.there.path().display()))
            .replace("/srv/app.git", &format!("{}/app.git", self.there.path().display()))
            .replace("/opt/atlassian/pipelines/agent/build", self.step.dir().to_str().unwrap())
    }

    /// Runs the first block of shell commands after a heading of the page.
    fn run(&self, heading: &str) -> Output {
        sh(&self.step, &self.named(&block(PAGE, heading, "sh")))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.step.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn there(&self, name: &str) -> String {
        fs::read_to_string(self.there.path().join(name)).unwrap()
    }

    /// Runs a program of Python with the libraries, and with the files of `examples/fabric`.
    fn python(&self, program: &str) -> Output {
        self.write("program.py", &self.named(program));
        let fabric = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fabric/host_certificates.py");
        fs::copy(fabric, self.step.dir().join("host_certificates.py")).unwrap();
        self.step.run(PYTHON.to_str().unwrap(), &["-B", "program.py"])
    }
}

/// Listens at a free port, and answers each connection with this text.
pub(crate) fn serve(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            // The client may have left.
            let _left = connection.write_all(text.as_bytes());
        }
    });
    port
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn openssh_runs_commands_and_copies_files() {
    let client = Client::start();
    client.write("app.conf", "greeting = hello\n");
    assert!(client.run("## OpenSSH\n").ok().stdout.contains("load average"));
    assert_eq!(client.there("app.conf"), "greeting = hello\n");
    assert_eq!(fs::read_to_string(client.step.dir().join("copy.conf")).unwrap(), "greeting = hello\n");
}

fn a_node_has_a_short_name() {
    let client = Client::start();
    client.write("config", &client.named(&block(PAGE, "### An existing configuration", "sshconfig")));
    for host in ["web", &Step::node(&client.cluster)] {
        assert_eq!(client.step.run("ssh", &["-F", "config", host, "echo hello"]).ok().stdout, "hello\n", "{host}");
    }
}

fn a_tunnel_reaches_a_port_behind_the_node() {
    let client = Client::start();
    let (database, local) = (serve("the database\n"), free_port());
    let recipe = client.named(&block(PAGE, "### Tunnels", "sh"));
    let recipe = recipe
        .replace("db.internal.example.com:5432", &format!("127.0.0.1:{database}"))
        .replace("15432", &local.to_string())
        .replace("/tmp/tunnel", "./tunnel")
        .replace(&format!("psql -h 127.0.0.1 -p {local} -U app app"), &format!("cat </dev/tcp/127.0.0.1/{local}"));
    assert_eq!(sh(&client.step, &recipe).ok().stdout, "the database\n");
}

/// An SSH server that is not in the cluster. It accepts the bot's key for the login `other`.
struct OtherServer {
    sshd: Child,
    port: u16,
    host_key: String,
}

impl OtherServer {
    fn start(client: &Client) -> Self {
        let (directory, port) = (client.there.path().display(), free_port());
        client.step.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &format!("{directory}/key")]).ok();
        let id = |flag| client.step.run("id", &[flag]).ok().stdout.trim_end().to_owned();
        let account = format!("other:x:{}:{}::{directory}:/bin/sh\n", id("-u"), id("-g"));
        fs::write(client.there.path().join("passwd"), fs::read_to_string("/etc/passwd").unwrap() + &account).unwrap();
        let configuration = format!(
            "HostKey {directory}/key\nAuthorizedKeysFile {}\nPort {port}\nListenAddress 127.0.0.1\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n",
            client.step.file("key.pub").display()
        );
        let path = client.there.path().join("sshd_config");
        fs::write(&path, configuration).unwrap();
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.env("LD_PRELOAD", NSS_WRAPPER.as_ref().unwrap()).env("NSS_WRAPPER_GROUP", "/etc/group");
        sshd.env("NSS_WRAPPER_PASSWD", client.there.path().join("passwd"));
        let sshd = sshd.args(["-D", "-f"]).arg(&path).stderr(Stdio::null()).spawn().unwrap();
        Self { sshd, port, host_key: client.there("key.pub") }
    }
}

impl Drop for OtherServer {
    fn drop(&mut self) {
        self.sshd.kill().unwrap();
        self.sshd.wait().unwrap();
    }
}

fn a_host_behind_a_node_is_reached_through_it() {
    let client = Client::start();
    let server = OtherServer::start(&client);
    let host = format!("-p {} other@127.0.0.1", server.port);
    let recipe = client.named(&block(PAGE, "### Hosts behind a node", "sh"));
    let recipe = recipe.replace(&format!("{}@10.1.2.3", client.cluster.node_login()), &host);
    client.write("ci/known_hosts", "");
    let refused = sh(&client.step, &recipe);
    assert!(refused.status == Some(255) && refused.stderr.contains("Host key verification failed"), "{refused:?}");
    client.write("ci/known_hosts", &format!("[127.0.0.1]:{} {}", server.port, server.host_key));
    assert!(sh(&client.step, &recipe).ok().stdout.contains("load average"));
}

fn rsync_copies_a_directory() {
    let client = Client::start();
    client.write("dist/index.html", "hello\n");
    client.run("## rsync").ok();
    assert_eq!(client.there("index.html"), "hello\n");
}

fn git_works_in_another_directory() {
    let client = Client::start();
    let setup =
        "git init -q -b main . && git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m one";
    sh(&client.step, &client.named(&format!("git init -q --bare -b main /srv/app.git && {setup}"))).ok();
    client.run("## git").ok();
    let log = client.step.run("git", &["-C", "app", "log", "--format=%s"]).ok().stdout;
    assert_eq!(log, "one\n");
}

const PLAYBOOK: &str = "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.raw: echo hello from $0\n";

fn ansible_runs_a_playbook() {
    let client = Client::start();
    client.write("site.yml", PLAYBOOK);
    let output = client.run("## Ansible").ok();
    assert!(output.stdout.contains("changed=1"), "{output:?}");
}

fn asyncssh_runs_a_command() {
    for client in Client::with_each_suite() {
        let output = client.python(&block(PAGE, "## asyncssh", "python")).ok();
        assert!(output.stdout.contains("load average"), "{output:?}");
    }
}

/// The two programs of the page: with Fabric, and with Paramiko alone.
fn programs_with_paramiko() -> [String; 2] {
    [block(PAGE, "## Paramiko and Fabric", "python"), block(PAGE, "With Paramiko alone", "python")]
}

fn fabric_and_paramiko_run_a_command() {
    for client in Client::with_each_suite() {
        for program in programs_with_paramiko() {
            let output = client.python(&program).ok();
            assert!(output.stdout.contains("load average"), "{output:?}");
        }
    }
}

// Hosts of another authority.

fn openssh_refuses_a_host_of_another_authority() {
    let client = Client::with_another_authority();
    client.write("dist/index.html", "hello\n");
    client.write("app.conf", "hello\n");
    let local = free_port();
    let tunnel =
        block(PAGE, "### Tunnels", "sh").replace("15432", &local.to_string()).replace("/tmp/tunnel", "./tunnel");
    let copies = block(PAGE, "## OpenSSH\n", "sh");
    let mut lines: Vec<_> = copies.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3);
    lines.extend([block(PAGE, "## rsync", "sh"), tunnel, block(PAGE, "### Hosts behind a node", "sh")]);
    lines
        .push(block(PAGE, "## git", "sh").lines().filter(|line| !line.contains("push")).collect::<Vec<_>>().join("\n"));
    for line in lines {
        let output = sh(&client.step, &client.named(&line));
        assert_ne!(output.status, Some(0), "{line}");
        assert!(output.stderr.contains("Host key verification failed"), "{line}: {output:?}");
    }
}

fn ansible_refuses_a_host_of_another_authority() {
    let client = Client::with_another_authority();
    client.write("site.yml", PLAYBOOK);
    let output = client.run("## Ansible");
    assert_eq!(output.status, Some(4), "{output:?}");
    assert!(output.stdout.contains("Host key verification failed"), "{output:?}");
}

fn asyncssh_refuses_a_host_of_another_authority() {
    let client = Client::with_another_authority();
    let output = client.python(&block(PAGE, "## asyncssh", "python"));
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(output.stderr.contains("HostKeyNotVerifiable: Host CA key is not trusted"), "{output:?}");
}

fn fabric_and_paramiko_refuse_a_host_of_another_authority() {
    let client = Client::with_another_authority();
    for program in programs_with_paramiko() {
        let output = client.python(&program);
        assert_eq!(output.status, Some(1), "{output:?}");
        assert!(output.stderr.contains("its certificate is not signed by a trusted authority"), "{output:?}");
    }
}

fn the_policy_for_paramiko_refuses_each_wrong_certificate() {
    let client = Client::start();
    let output = client.python(include_str!("host_certificates.py")).ok();
    assert_eq!(output.stdout, "10 certificates\n");
}

fn paramiko_alone_fails_as_the_documents_say() {
    let client = Client::start();
    let section =
        crate::troubleshooting::sections(&crate::troubleshooting::parts().1)["paramiko-cannot-use-the-files"].clone();
    for (program, quote) in [
        ("SSHClient().load_host_keys('tbot-user/known_hosts')", "InvalidHostKey: ('@cert-authority "),
        ("ECDSAKey.from_private_key_file('tbot-user/key')", "SSHException: not a valid EC private key file"),
        ("Ed25519Key.from_private_key_file('tbot-user/key')", "SSHException: not a valid OPENSSH private key file"),
    ] {
        let output = client.python(&format!("import paramiko\nparamiko.{program}\n"));
        assert!(output.stderr.contains(quote), "{output:?}");
        assert!(section.contains(quote), "{quote}");
    }
}
