//! Which node a name means, and by which of its names ssh recognises it.

use testcluster::Testcluster;

use crate::harness::stories;
use crate::step::{Said, Step};

stories! {
    by_all_their_names,
    a_node_of_openssh_at_the_other_port,
    an_address_is_no_name_in_the_cluster,
}

struct Nodes {
    cluster: Testcluster,
    step: Step,
}

impl Nodes {
    fn start() -> Self {
        let cluster = Testcluster::builder().openssh_node().start();
        let step = Step::of(&cluster);
        step.pipe().ok();
        Self { cluster, step }
    }

    fn ssh(&self, config: &str, options: &[&str], host: &str) -> Said {
        let node = format!("{}@{host}", self.cluster.node_login());
        self.step.run("ssh", &[&["-F", config], options, &[&node, "echo", "hello"]].concat())
    }
}

/// For names in the cluster, and for any.
const MAIN: &str = "tbot-user/ssh_config";
const ANY: &str = "tbot-user/example.teleport.sh.ssh_config";

fn by_all_their_names() {
    let nodes = Nodes::start();
    let uuid = nodes.cluster.node_uuid();
    for (config, options, host) in [
        (MAIN, &[][..], "node.example.teleport.sh"),
        (MAIN, &[], &format!("{uuid}.example.teleport.sh")),
        (ANY, &[], "node"),
        (ANY, &[], uuid),
        // Which an address of this machine is both of the client and of the node.
        (ANY, &[], "127.0.0.1"),
        // Where OpenSSH listens, ssh is told; Port of the files is that of Teleport's nodes.
        (MAIN, &["-p", "22"], "openssh.example.teleport.sh"),
        (ANY, &["-p", "22"], "openssh"),
        (ANY, &["-p", "22"], "127.0.0.1"),
    ] {
        let said = nodes.ssh(config, options, host);
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("hello\n", ""), "{host} {options:?}");
    }
}

fn a_node_of_openssh_at_the_other_port() {
    let nodes = Nodes::start();
    let said = nodes.ssh(MAIN, &[], "openssh.example.teleport.sh");
    assert_eq!(said.status, Some(255));
    let hint = "no connection to node openssh:3022: ";
    let ours = said.stderr.lines().find(|line| line.contains(hint)).unwrap_or_else(|| panic!("{}", said.stderr));
    assert!(ours.ends_with("and -p 22 for a node of OpenSSH."), "{ours}");
}

fn an_address_is_no_name_in_the_cluster() {
    let nodes = Nodes::start();
    // The main file has no block for it, and nothing of it is used.
    let said = nodes.step.ssh(&["-G", "127.0.0.1"]).ok().stdout;
    assert!(!said.contains("tbot-user"), "{said}");
}
