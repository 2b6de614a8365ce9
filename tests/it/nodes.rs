//! The names of nodes: which node ssh reaches by a name, and which names match its host certificate.

use testcluster::Testcluster;

use crate::harness::stories;
use crate::step::{Output, Step};

stories! {
    a_node_has_several_names,
    the_error_names_the_port_of_openssh_nodes,
    an_address_is_not_a_name_in_the_cluster,
}

struct Nodes {
    cluster: Testcluster,
    step: Step,
}

impl Nodes {
    fn start() -> Self {
        let cluster = Testcluster::builder().openssh_node().start();
        let step = Step::new(&cluster);
        step.pipe().ok();
        Self { cluster, step }
    }

    fn ssh(&self, config: &str, options: &[&str], host: &str) -> Output {
        let node = format!("{}@{host}", self.cluster.node_login());
        self.step.run("ssh", &[&["-F", config], options, &[&node, "echo", "hello"]].concat())
    }
}

/// The file for names in the cluster, and the file for any names.
const MAIN: &str = "tbot-user/ssh_config";
const ANY: &str = "tbot-user/example.teleport.sh.ssh_config";

fn a_node_has_several_names() {
    let nodes = Nodes::start();
    let uuid = nodes.cluster.node_uuid();
    for (config, options, host) in [
        (MAIN, &[][..], "node.example.teleport.sh"),
        (MAIN, &[], &format!("{uuid}.example.teleport.sh")),
        (ANY, &[], "node"),
        (ANY, &[], uuid),
        // An address of this machine, on which both the client and the node run.
        (ANY, &[], "127.0.0.1"),
        // A node that runs OpenSSH needs its port. The files have the port of Teleport's nodes.
        (MAIN, &["-p", "22"], "openssh.example.teleport.sh"),
        (ANY, &["-p", "22"], "openssh"),
        (ANY, &["-p", "22"], "127.0.0.1"),
    ] {
        let output = nodes.ssh(config, options, host);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""), "{host} {options:?}");
    }
}

fn the_error_names_the_port_of_openssh_nodes() {
    let nodes = Nodes::start();
    let output = nodes.ssh(MAIN, &[], "openssh.example.teleport.sh");
    assert_eq!(output.status, Some(255));
    let hint = "no connection to node openssh:3022: ";
    let line =
        output.stderr.lines().find(|printed| printed.contains(hint)).unwrap_or_else(|| panic!("{}", output.stderr));
    assert!(line.contains(" A node that runs OpenSSH needs -p 22. More: https://"), "{line}");
}

fn an_address_is_not_a_name_in_the_cluster() {
    let nodes = Nodes::start();
    // The main file has no block for it.
    let config = nodes.step.ssh(&["-G", "127.0.0.1"]).ok().stdout;
    assert!(!config.contains("tbot-user"), "{config}");
}
