//! Runs commands from the documents.

use std::path::Path;

use testcluster::Testcluster;

use crate::harness::stories;
use crate::step::{Output, Step};

stories! {
    the_first_example_of_the_readme_works,
    every_file_is_documented,
    the_ssh_options_of_the_ssh_run_pipe_work,
    a_proxy_command_in_another_directory_works,
}

fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The first block of this language after `from`.
fn block(path: &str, from: &str, language: &str) -> String {
    let page = document(path);
    let (_, rest) = page.split_once(from).unwrap_or_else(|| panic!("{path}: no {from}"));
    let (_, block) = rest.split_once(&format!("\n```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Runs a line of the step's script in a shell like Bitbucket's.
fn sh(step: &Step, line: &str) -> Output {
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
