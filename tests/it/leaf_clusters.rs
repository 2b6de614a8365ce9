//! Leaf clusters: their nodes, their files, certificates that are routed to one, and similar names.

use std::fs;

use expect_test::expect_file;
use testcluster::Testcluster;

use crate::harness::stories;
use crate::step::{Output, Step};

stories! {
    ssh_reaches_nodes_of_leaf_clusters_and_of_the_root_cluster,
    changed_files_of_a_removed_leaf_cluster_stay,
    a_public_log_does_not_name_leaf_clusters,
    certificates_can_be_routed_to_a_leaf_cluster,
    ssh_explains_a_leaf_cluster_that_no_role_may_access,
    similar_cluster_names_are_kept_apart,
    a_cluster_with_a_very_long_name_has_no_files_of_its_own,
    files_of_a_removed_leaf_cluster_are_removed,
}

const LEAF: &str = "leaf.example.com";

fn leaf_node(cluster: &Testcluster, leaf: &str) -> String {
    format!("{}@leafnode.{leaf}", cluster.node_login())
}

#[track_caller]
fn expect_hello(output: Output) {
    let output = output.ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""));
}

/// Expects that ssh reaches the node of the root cluster and the node of the leaf cluster.
#[track_caller]
fn expect_both_nodes(step: &Step, cluster: &Testcluster, leaf: &str) {
    expect_hello(step.ssh(&[&Step::node(cluster), "echo", "hello"]));
    expect_hello(step.ssh(&[&leaf_node(cluster, leaf), "echo", "hello"]));
}

fn ssh_reaches_nodes_of_leaf_clusters_and_of_the_root_cluster() {
    let cluster = Testcluster::builder().leaf_cluster(LEAF).leaf_cluster("a.example.com").start();
    let step = Step::new(&cluster);
    let log = step.pipe().ok().stderr;
    assert!(log.contains(" nodes of leaf clusters can be reached, too: a.example.com, leaf.example.com\n"), "{log}");
    assert!(log.ends_with("@<node>.example.teleport.sh\n"), "{log}");
    expect_both_nodes(&step, &cluster, LEAF);
    expect_hello(step.ssh(&[&leaf_node(&cluster, "a.example.com"), "echo", "hello"]));
    // Each cluster has its own files, in which every name is a node of that cluster.
    for (name, node) in [(cluster.name(), "node"), (LEAF, "leafnode"), ("a.example.com", "leafnode")] {
        let config = format!("tbot-user/{name}.ssh_config");
        let node = format!("{}@{node}", cluster.node_login());
        expect_hello(step.run("ssh", &["-F", &config, &node, "echo", "hello"]));
    }
    // The identity file has the CAs of all clusters. Only the root cluster's CA is trusted for the proxy.
    let identity = fs::read(step.file("identity")).unwrap();
    let all = String::from_utf8_lossy(&identity).matches("BEGIN CERTIFICATE").count() - 1;
    let for_the_proxy = teleport_pipe::parse_identity_file(&identity).ok().unwrap().authorities.len();
    assert_eq!((all, for_the_proxy), (3, 1));
    // A cleanup removes the files of all clusters.
    step.product(&["cleanup"]).ok();
    assert!(!step.dir().join("tbot-user").exists());
}

/// A run removes the files of a leaf cluster that is not trusted any more, but not a file that the user has changed.
fn changed_files_of_a_removed_leaf_cluster_stay() {
    let before = Testcluster::builder().leaf_cluster(LEAF).leaf_cluster("a.example.com").start();
    let step = Step::new(&before);
    step.pipe().ok();
    let changed = step.file("leaf.example.com.ssh_config");
    let text = fs::read_to_string(&changed).unwrap() + "User deploy\n";
    fs::write(&changed, &text).unwrap();
    let after = Testcluster::start();
    let step = step.env("PROXY_SERVER", &after.proxy_addr());
    let step = step.env("SSL_CERT_FILE", after.web_ca_file().to_str().unwrap());
    let step = step.env("BITBUCKET_STEP_OIDC_TOKEN", &after.step_token());
    step.pipe().ok();
    assert_eq!(fs::read_to_string(&changed).unwrap(), text);
    let exists = |name: &str| changed.with_file_name(name).exists();
    assert!(!exists("leaf.example.com.known_hosts") && !exists("a.example.com.ssh_config"));
}

fn a_public_log_does_not_name_leaf_clusters() {
    let cluster = Testcluster::builder().leaf_cluster(LEAF).start();
    let step = Step::new(&cluster).env("BITBUCKET_REPO_IS_PRIVATE", "false");
    let log = step.pipe().ok().stderr;
    assert!(!log.contains(LEAF), "{log}");
    expect_both_nodes(&step, &cluster, LEAF);
}

fn certificates_can_be_routed_to_a_leaf_cluster() {
    let cluster = Testcluster::builder().leaf_cluster(LEAF).start();
    let route = |step: &Step| {
        let certificate = step.run("ssh-keygen", &["-L", "-f", "tbot-user/key-cert.pub"]).ok().stdout;
        // ssh-keygen shows the values of unknown extensions in hex, with their length in front.
        let extension = certificate.lines().find(|line| line.contains("teleport-route-to-cluster")).unwrap().to_owned();
        let hex = |name: &str| name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        match (extension.contains(&hex(LEAF)), extension.contains(&hex(cluster.name()))) {
            (true, false) => "leaf",
            (false, true) => "root",
            other => panic!("{other:?}: {extension}"),
        }
    };

    let plain = Step::new(&cluster);
    plain.pipe().ok();
    assert_eq!(route(&plain), "root");

    let routed = Step::new(&cluster).env("CLUSTER", LEAF);
    let log = routed.pipe().ok().stderr;
    assert!(log.contains(", routed to leaf.example.com, valid for "), "{log}");
    assert!(log.ends_with("@<node>.leaf.example.com\n"), "{log}");
    assert_eq!(route(&routed), "leaf");
    expect_both_nodes(&routed, &cluster, LEAF);

    let by_flag = Step::new(&cluster).env("TELEPORT_PROXY", plain.variable("PROXY_SERVER"));
    let flags = ["--destination=./tbot-user", "--token=example-bot", "--oneshot", "--cluster", LEAF];
    by_flag.product(&[&["start", "identity"], &flags[..]].concat()).ok();
    assert_eq!(route(&by_flag), "leaf");

    // The name of the root cluster has no effect.
    let to_the_root = Step::new(&cluster).env("CLUSTER", cluster.name());
    let log = to_the_root.pipe().ok().stderr;
    assert!(!log.contains("routed to"), "{log}");
    assert_eq!(route(&to_the_root), "root");
}

fn ssh_explains_a_leaf_cluster_that_no_role_may_access() {
    let cluster = Testcluster::builder().denied_leaf_cluster(LEAF).start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    expect_hello(step.ssh(&[&Step::node(&cluster), "echo", "hello"]));
    let output = step.ssh(&[&leaf_node(&cluster, LEAF), "true"]);
    assert_eq!(output.status, Some(255));
    let lines: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("teleport-pipe: ")).collect();
    expect_file!["golden/proxy_command/leaf-cluster-denied.txt"].assert_eq(&step.scrubbed(&lines.join("\n")));
}

fn similar_cluster_names_are_kept_apart() {
    let nested = "leaf.example.teleport.sh";
    let cluster = Testcluster::builder().leaf_cluster(nested).leaf_cluster("sh").start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    for name in ["ssh_config", "known_hosts"] {
        let text = step.scrubbed(&fs::read_to_string(step.file(name)).unwrap());
        expect_file![format!("golden/rendered/leaf-clusters.{name}")].assert_eq(&text);
    }
    expect_both_nodes(&step, &cluster, nested);
    expect_hello(step.ssh(&[&leaf_node(&cluster, "sh"), "echo", "hello"]));
    // The CA of a cluster is trusted neither for the nodes of other clusters nor for the proxy.
    for (node, other) in [
        (Step::node(&cluster), format!("leafnode.{nested}")),
        (Step::node(&cluster), "leafnode.sh".to_owned()),
        (leaf_node(&cluster, nested), cluster.node_host()),
        (leaf_node(&cluster, "sh"), cluster.node_host()),
        (leaf_node(&cluster, "sh"), format!("leafnode.{nested}")),
        (leaf_node(&cluster, "sh"), "localhost".to_owned()),
    ] {
        let output = step.ssh(&["-o", &format!("HostKeyAlias={other}"), &node, "true"]);
        assert_eq!(output.status, Some(255));
        assert!(output.stderr.contains("Host key verification failed."), "{node} as {other}: {}", output.stderr);
    }
}

fn a_cluster_with_a_very_long_name_has_no_files_of_its_own() {
    // ssh itself does not accept much longer names: its limit is about 255 bytes.
    let (fits, too_long) = ("f".repeat(230), "t".repeat(231));
    let cluster = Testcluster::builder().leaf_cluster(&fits).leaf_cluster(&too_long).start();
    let step = Step::new(&cluster);
    let log = step.pipe().ok().stderr;
    assert!(log.contains(" warning: 1 of 3 clusters have no ssh_config and known_hosts of their own"), "{log}");
    for (name, has_files) in [(&fits, true), (&too_long, false)] {
        for file in ["ssh_config", "known_hosts"] {
            assert_eq!(step.file(&format!("{name}.{file}")).exists(), has_files, "{file} of {}", name.len());
        }
        expect_hello(step.ssh(&[&leaf_node(&cluster, name), "echo", "hello"]));
    }
}

fn files_of_a_removed_leaf_cluster_are_removed() {
    let before = Testcluster::builder().leaf_cluster(LEAF).start();
    let after = Testcluster::start();
    let step = Step::new(&before);
    step.pipe().ok();
    assert!(step.file("leaf.example.com.known_hosts").exists());
    let mine = step.file("mine.example.com.ssh_config");
    fs::copy(step.file("leaf.example.com.ssh_config"), &mine).unwrap();
    let step = step
        .env("PROXY_SERVER", &after.proxy_addr())
        .env("SSL_CERT_FILE", after.web_ca_file().to_str().unwrap())
        .env("BITBUCKET_STEP_OIDC_TOKEN", &after.step_token());
    step.pipe().ok();
    for file in ["ssh_config", "known_hosts"] {
        assert!(!step.file(&format!("leaf.example.com.{file}")).exists(), "{file}");
        assert!(step.file(&format!("example.teleport.sh.{file}")).exists(), "{file}");
    }
    // A file that no run has written stays.
    assert!(mine.exists());
}
