//! Runs commands from the documents.

use std::path::Path;
use std::process::Stdio;

use testcluster::{Fault, Testcluster};

use crate::harness::stories;
use crate::step::{Output, Step};
use crate::troubleshooting::{blocks, fits};

stories! {
    the_first_example_of_the_readme_works,
    every_file_is_documented,
    the_ssh_options_of_the_ssh_run_pipe_work,
    a_proxy_command_in_another_directory_works,
    another_directory_needs_an_absolute_path,
    a_moved_directory_can_be_used_again,
    a_shell_that_is_none_is_replaced,
    an_include_stands_at_the_top,
    an_image_without_ssh_says_so,
    a_forbidden_tunnel_is_reported_by_its_first_connection,
    a_leaf_node_with_a_certificate_of_another_authority_is_refused,
}

pub(crate) fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The first block of this language after `from`.
pub(crate) fn block(path: &str, from: &str, language: &str) -> String {
    let page = document(path);
    let (_, rest) = page.split_once(from).unwrap_or_else(|| panic!("{path}: no {from}"));
    let (_, block) = rest.split_once(&format!("\n```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Runs a line of the step's script in a shell like Bitbucket's.
pub(crate) fn sh(step: &Step, line: &str) -> Output {
    step.run("bash", &["-e", "-c", line])
}

fn the_first_example_of_the_readme_works() {
    let cluster = Testcluster::start();
    let snippet = block("README.md", "# Bitbucket Pipelines Pipe", "yaml");
    assert!(snippet.contains("oidc: true"));
    let (_, variables) = snippet.split_once("variables: {").unwrap();
    let (variables, rest) = variables.split_once('}').unwrap();

    let mut step = Step::new(&cluster).without("PROXY_SERVER").without("TOKEN");
    for variable in variables.split(',') {
        let (name, value) = variable.trim().split_once(": ").unwrap();
        let value = value.trim_matches('\'').replace("example.teleport.sh:443", &cluster.proxy_addr());
        step = step.env(name, &value);
    }
    step.pipe().ok();
    let script: Vec<_> = rest.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    assert_eq!(script.len(), 1, "{script:?}");
    assert_eq!(sh(&step, script[0]).ok().stdout, "hello world\n");
}

fn every_file_is_documented() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let page = document("docs/files-and-log.md");
    let (_, section) = page.split_once("## The files").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    for entry in std::fs::read_dir(step.dir().join("tbot-user")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.replace(cluster.name(), "<cluster>");
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
}

fn the_ssh_options_of_the_ssh_run_pipe_work() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    // The key of the repository's settings, which no node accepts.
    sh(&step, "ssh-keygen -q -t ed25519 -N '' -f pipelines_id").ok();
    let node = Step::node(&cluster);
    let options = "-A -tt -i ./pipelines_id -o 'StrictHostKeyChecking=no' -p 3022 -F ./tbot-user/ssh_config";
    let line = format!("ssh {options} {node} 'echo hello'");
    assert_eq!(sh(&step, &line).ok().stdout.trim_end(), "hello");
}

fn a_proxy_command_in_another_directory_works() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let recipe = block("docs/troubleshooting.md", "## The ProxyCommand cannot be executed", "sh");
    let copy = step.dir().join("copy").display().to_string();
    sh(&step, &recipe.replace("/tmp/teleport-pipe", &copy)).ok();
    // The file in the destination is not needed any more.
    std::fs::remove_file(step.file("teleport-pipe")).unwrap();
    let output = step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok();
    assert_eq!(output.stdout, "hello\n");
}

/// Asserts that a program printed a line that the section of `docs/troubleshooting.md` quotes.
#[track_caller]
fn expect_quoted(heading: &str, output: &Output) {
    let (_, others) = crate::troubleshooting::parts();
    let section = crate::troubleshooting::sections(&others)[&crate::troubleshooting::slug(heading)].clone();
    let quotes: Vec<_> = blocks(&section, &["text"]).into_iter().flat_map(str::lines).collect();
    let is_quoted = |line: &str| quotes.iter().any(|quote| fits(quote, line.trim_end()));
    assert!(output.stderr.lines().any(is_quoted), "{heading}: {output:?}");
}

/// The remedy of a section, for this cluster.
fn remedy(cluster: &Testcluster, heading: &str) -> String {
    let recipe = block("docs/troubleshooting.md", &format!("## {heading}\n"), "sh");
    recipe.replace("deploy@node.example.teleport.sh", &Step::node(cluster))
}

/// A step in which the pipe has run.
fn ready(cluster: &Testcluster) -> Step {
    let step = Step::new(cluster);
    step.pipe().ok();
    step
}

fn another_directory_needs_an_absolute_path() {
    let cluster = Testcluster::start();
    let step = ready(&cluster);
    let node = Step::node(&cluster);
    let heading = "The configuration is not found";
    std::fs::create_dir(step.dir().join("app")).unwrap();
    expect_quoted(heading, &sh(&step, &format!("cd app && ssh -F ./tbot-user/ssh_config {node} uptime")));
    let lines = remedy(&cluster, heading) + &format!("cd app && $(eval echo $GIT_SSH_COMMAND) {node} echo hello");
    assert!(sh(&step, &lines).ok().stdout.ends_with("hello\n"));
}

fn a_moved_directory_can_be_used_again() {
    let cluster = Testcluster::start();
    let (step, other) = (ready(&cluster), Step::new(&cluster));
    std::fs::rename(step.dir().join("tbot-user"), other.dir().join("tbot-user")).unwrap();
    let heading = "The directory was moved";
    for shell in ["/bin/sh", "/bin/bash"] {
        let line = format!("SHELL={shell} ssh -F tbot-user/ssh_config {} true", Step::node(&cluster));
        expect_quoted(heading, &sh(&other, &line));
    }
    sh(&other, &remedy(&cluster, heading)).ok();
    let root = format!("{}.ssh_config", cluster.name());
    for (config, host) in [("ssh_config", Step::node(&cluster)), (&root, format!("{}@node", cluster.node_login()))] {
        let line = format!("ssh -F tbot-user/{config} {host} echo hello");
        assert_eq!(sh(&other, &line).ok().stdout, "hello\n", "{config}");
    }
}

fn a_shell_that_is_none_is_replaced() {
    let cluster = Testcluster::start();
    let step = ready(&cluster).env("SHELL", "/bin/false");
    let heading = "SHELL is not a shell";
    let output = step.ssh(&[&Step::node(&cluster), "true"]);
    assert!(!output.stderr.contains("teleport-pipe"), "{output:?}");
    expect_quoted(heading, &output);
    assert!(sh(&step, &remedy(&cluster, heading)).ok().stdout.contains("load average"));
}

fn an_include_stands_at_the_top() {
    let cluster = Testcluster::start();
    let step = ready(&cluster);
    let path = step.dir().join("config");
    let include = format!("Include {}\n", step.file("ssh_config").display());
    let ssh = || step.run("ssh", &["-F", "config", &Step::node(&cluster), "echo", "hello"]);
    let heading = "An Include has no effect";
    std::fs::write(&path, format!("Host other\n    User other\n{include}")).unwrap();
    expect_quoted(heading, &ssh());
    std::fs::write(&path, "Host other\n    User other\n").unwrap();
    let recipe = remedy(&cluster, heading).replace("~/.ssh/config", "config").replace("ssh -G", "ssh -F config -G");
    assert!(sh(&step, &recipe).ok().stdout.contains("ssh-proxy-command"));
    assert_eq!(ssh().ok().stdout, "hello\n");
}

fn an_image_without_ssh_says_so() {
    let step = Step::empty();
    for shell in ["sh", "bash"] {
        let output = step.run(shell, &["-c", "PATH=/nowhere; ssh -F ./tbot-user/ssh_config deploy@node uptime"]);
        assert_eq!(output.status, Some(127), "{output:?}");
        // bash writes the line's number, too, if it runs a command line.
        let line = output.stderr.replace("line 1: ", "");
        expect_quoted("The image has no ssh", &Output { stderr: line, ..output });
    }
}

fn a_forbidden_tunnel_is_reported_by_its_first_connection() {
    let cluster = Testcluster::builder().port_forwarding(false).start();
    let step = ready(&cluster);
    let port = crate::clients::free_port();
    let forward = format!("127.0.0.1:{port}:127.0.0.1:1");
    let node = Step::node(&cluster);
    let config = ["-F", "tbot-user/ssh_config"];
    let args = [&config[..], &["-o", "ExitOnForwardFailure=yes", "-L", &forward, &node, "echo ready; cat"]].concat();
    let mut ssh = step.command("ssh", &args);
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(ssh.stdout.as_mut().unwrap(), &mut ready).unwrap();
    assert_eq!(&ready, b"ready\n", "the tunnel is not refused when it is made");
    let mut connection = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut connection, &mut received).unwrap();
    assert!(received.is_empty());
    drop(ssh.stdin.take());
    let output = ssh.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let heading = "The node permits no tunnel";
    let output = Output { status: output.status.code(), stdout, stderr };
    assert!(output.stderr.contains("administratively prohibited"), "{output:?}");
    expect_quoted(heading, &Output { stderr: output.stderr.replace("channel 2", "channel 1"), ..output });
    expect_quoted(heading, &step.ssh(&["-W", "127.0.0.1:1", &node]));
}

/// A proxy of the root cluster that records sessions presents such a certificate.
fn a_leaf_node_with_a_certificate_of_another_authority_is_refused() {
    let cluster = Testcluster::builder().leaf_cluster("leaf.example.com").fault(Fault::NodeCertOfOtherCa).start();
    let step = ready(&cluster);
    let output = step.ssh(&[&format!("{}@leafnode.leaf.example.com", cluster.node_login()), "true"]);
    let first = output.stderr.lines().next().unwrap().replace("leafnode.", "node.");
    expect_quoted("A leaf cluster behind a proxy that records", &Output { stderr: first, ..output });
}
