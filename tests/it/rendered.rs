//! The contents of the files, and how OpenSSH reads them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use expect_test::expect_file;
use testcluster::{Role, Testcluster};

use crate::harness::stories;
use crate::step::Step;

stories! {
    every_file_is_rendered,
    ssh_keygen_reads_keys_and_certificates,
    known_hosts_has_the_cluster_and_no_other_host,
    ssh_understands_paths_with_special_characters,
    the_proxy_itself_is_reached_without_the_proxy_command,
    the_files_of_a_cluster_can_be_included,
    a_destination_that_cannot_be_written_in_an_ssh_config_is_refused,
}

/// Text without the parts that differ from run to run, and without the contents of PEM blocks.
fn scrubbed(step: &Step, text: &str) -> String {
    let mut shown = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("-----END ") {
            shown.push_str("BODY\n");
            inside = false;
        }
        if !inside {
            shown.push_str(line);
            shown.push('\n');
        }
        inside |= line.starts_with("-----BEGIN ");
    }
    step.scrubbed(&shown)
}

fn every_file_is_rendered() {
    let cluster = Testcluster::builder().role(Role::new("example-role", ["deploy", "backup"])).start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let mut names = Vec::new();
    for entry in fs::read_dir(step.dir().join("tbot-user")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if name == "teleport-pipe" { 0o700 } else { 0o600 }, "{name}");
        names.push(name);
    }
    let mode = fs::metadata(step.dir().join("tbot-user")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o700);

    let text = |name: &str| {
        let bytes = fs::read(step.file(name)).unwrap();
        assert!(bytes.ends_with(b"\n"), "{name}");
        scrubbed(&step, &String::from_utf8(bytes).unwrap())
    };
    // As a golden file it would make git ignore the others.
    assert_eq!(text(".gitignore"), "*\n");
    assert!(fs::read(step.file("teleport-pipe")).unwrap() == fs::read(Step::binary()).unwrap());
    expect_file!["golden/rendered/identity"].assert_eq(&text("identity"));
    expect_file!["golden/rendered/key"].assert_eq(&text("key"));
    expect_file!["golden/rendered/key.pub"].assert_eq(&text("key.pub"));
    expect_file!["golden/rendered/key-cert.pub"].assert_eq(&text("key-cert.pub"));
    expect_file!["golden/rendered/tlscert"].assert_eq(&text("tlscert"));
    expect_file!["golden/rendered/teleport-host-ca.crt"].assert_eq(&text("teleport-host-ca.crt"));
    expect_file!["golden/rendered/teleport-user-ca.crt"].assert_eq(&text("teleport-user-ca.crt"));
    expect_file!["golden/rendered/known_hosts"].assert_eq(&text("known_hosts"));
    expect_file!["golden/rendered/cluster.known_hosts"].assert_eq(&text("example.teleport.sh.known_hosts"));
    expect_file!["golden/rendered/ssh_config"].assert_eq(&text("ssh_config"));
    expect_file!["golden/rendered/cluster.ssh_config"].assert_eq(&text("example.teleport.sh.ssh_config"));
    // The CA of the cluster's web certificate, and nothing else.
    let ca = fs::read_to_string(cluster.web_ca_file()).unwrap().replace('\n', "\\n");
    assert_eq!(text("network.json"), format!("{{\n  \"ca\": \"{ca}\"\n}}\n"));
    assert_eq!(names.len(), 15, "{names:?}");
}

fn ssh_keygen_reads_keys_and_certificates() {
    for suite in [testcluster::Suite::BalancedV1, testcluster::Suite::Legacy] {
        let role = Role::new("example-role", ["deploy", "backup"]);
        let cluster = Testcluster::builder().suite(suite).role(role).start();
        let step = Step::new(&cluster);
        step.pipe().ok();
        let keygen = |args: &[&str]| step.run("ssh-keygen", args).ok().stdout;
        let public = fs::read_to_string(step.file("key.pub")).unwrap();
        assert_eq!(keygen(&["-y", "-f", "tbot-user/key"]), public);
        assert_eq!(keygen(&["-y", "-f", "tbot-user/identity"]), public);

        let certificate = keygen(&["-L", "-f", "tbot-user/key-cert.pub"]);
        let lines: Vec<_> = certificate.lines().map(str::trim).collect();
        let from = lines.iter().position(|line| *line == "Principals:").unwrap();
        assert_eq!(lines[from + 1..from + 4], ["deploy", "backup", "-teleport-internal-join"], "{certificate}");
        let fingerprint = |file: &str| keygen(&["-l", "-f", file]).split(' ').nth(1).unwrap().to_owned();
        let expected = fingerprint("tbot-user/key.pub");
        assert!(lines.iter().any(|line| line.starts_with("Public key:") && line.ends_with(&expected)), "{certificate}");
    }
}

fn known_hosts_has_the_cluster_and_no_other_host() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let has = |host: &str, file: &str| {
        let output = step.run("ssh-keygen", &["-F", host, "-f", &format!("tbot-user/{file}")]);
        assert!(output.stdout.contains("CA") == (output.status == Some(0)), "{output:?}");
        output.status == Some(0)
    };
    for host in ["example.teleport.sh", "node.example.teleport.sh", "a.b.example.teleport.sh", "localhost"] {
        assert!(has(host, "known_hosts"), "{host}");
    }
    for host in ["teleport.sh", "node", "nodeexample.teleport.sh", "example.teleport.sh.evil.example", "github.com"] {
        assert!(!has(host, "known_hosts"), "{host}");
        assert!(has(host, "example.teleport.sh.known_hosts"), "{host}");
    }

    let node = Step::node(&cluster);
    step.ssh(&["-o", "HostKeyAlias=node.example.teleport.sh", &node, "true"]).ok();
    let output = step.ssh(&["-o", "HostKeyAlias=github.com", &node, "true"]);
    assert_eq!(output.status, Some(255));
    assert!(output.stderr.contains("host key is known for github.com"), "{}", output.stderr);
    assert!(output.stderr.contains("Host key verification failed."), "{}", output.stderr);
}

/// A destination with all characters that have a meaning for a shell, in an ssh_config or in ssh's tokens.
const SPECIAL: &str = "it's 100% $HOME; #1 %h ~ *?/tbot & user`id`";

fn ssh_understands_paths_with_special_characters() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("DESTINATION", SPECIAL);
    step.pipe().ok();
    let directory = step.dir().canonicalize().unwrap().join(SPECIAL);
    let directory = directory.to_str().unwrap();
    let config = format!("{directory}/ssh_config");
    let output = step.run("ssh", &["-F", &config, &Step::node(&cluster), "echo", "hello"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""));

    let effective = step.run("ssh", &["-G", "-F", &config, &Step::node(&cluster)]).ok().stdout;
    let effective: BTreeMap<_, _> = effective.lines().filter_map(|line| line.split_once(' ')).collect();
    // ssh expands the rest later.
    let path = |name: &str| effective[name].replace("%%", "%");
    assert_eq!(path("identityfile"), format!("{directory}/key"));
    assert_eq!(path("certificatefile"), format!("{directory}/key-cert.pub"));
    assert_eq!(path("userknownhostsfile"), format!("{directory}/known_hosts"));
    assert_eq!(effective["globalknownhostsfile"], "/dev/null");
    assert_eq!(effective["stricthostkeychecking"], "true");
    assert_eq!(effective["updatehostkeys"], "false");
    assert_eq!(effective["identitiesonly"], "yes");
    assert_eq!(effective["port"], "3022");
    let quoted = directory.replace('\'', r#"'"'"'"#);
    let command = path("proxycommand");
    assert!(command.starts_with(&format!("'{quoted}/teleport-pipe' ssh-proxy-command ")), "{command}");
    assert!(command.contains(&format!(" --destination-dir='{quoted}' ")), "{command}");
    assert!(command.ends_with(" --user='%r' --host='%h' --port='%p'"), "{command}");
}

fn the_proxy_itself_is_reached_without_the_proxy_command() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let effective = |host: &str| step.ssh(&["-G", host]).ok().stdout;
    assert!(!effective("localhost").contains("proxycommand"));
    assert!(effective("localhost").contains("tbot-user/known_hosts"));
    assert!(effective("node.example.teleport.sh").contains("proxycommand"));
    // Hosts outside of the cluster are left alone.
    assert!(!effective("github.com").contains("tbot-user"));
}

fn the_files_of_a_cluster_can_be_included() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let include = step.file("example.teleport.sh.ssh_config");
    fs::write(step.dir().join("config"), format!("Host *\n    Include \"{}\"\n", include.display())).unwrap();
    for host in ["node".to_owned(), cluster.node_host(), cluster.node_uuid().to_owned()] {
        let node = format!("{}@{host}", cluster.node_login());
        let output = step.run("ssh", &["-F", "config", &node, "echo", "hello"]).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""), "{host}");
    }
}

fn a_destination_that_cannot_be_written_in_an_ssh_config_is_refused() {
    let cluster = Testcluster::start();
    for (destination, golden) in [
        ("a\"b", expect_file!["golden/rendered/quote.log"]),
        ("a\\b", expect_file!["golden/rendered/backslash.log"]),
        ("a${HOME}", expect_file!["golden/rendered/variable.log"]),
    ] {
        let step = Step::new(&cluster).env("DESTINATION", destination);
        let output = step.pipe();
        assert_eq!((output.status, output.stdout.as_str()), (Some(2), ""), "{}", output.stderr);
        golden.assert_eq(&step.scrubbed(&output.stderr));
        assert_eq!(fs::read_dir(step.dir()).unwrap().count(), 0);
    }
    assert!(cluster.record().is_empty());
}
