//! `start` with a tbot.yaml, and with tbot's variables.

use std::fs;

use expect_test::expect_file;
use testcluster::{AllowRule, Role, Testcluster};

use crate::failure::report;
use crate::harness::stories;
use crate::platforms::job;
use crate::step::{Output, Step};

stories! {
    the_guides_files_work,
    several_outputs_have_their_own_roles_clusters_and_lifetimes,
    an_output_without_ssh_config_has_no_program,
    flags_and_variables_come_before_the_file,
    a_join_uri_replaces_three_settings,
    a_file_can_come_in_a_variable,
    onboarding_names_other_places_of_id_tokens,
    a_program_without_an_id_token_is_explained,
    what_is_wrong_with_a_file_is_explained,
    a_flag_for_start_is_refused_elsewhere,
    configure_prints_a_file_that_start_reads,
    noop_joins_and_writes_nothing,
    tbots_other_lines_work,
    the_tables_of_compatibility_are_true,
    called_as_tbot_it_prints_a_version_that_setup_actions_read,
}

/// Runs `start -c tbot.yaml` with this file, and further arguments.
fn start(step: &Step, yaml: &str, args: &[&str]) -> Output {
    fs::write(step.dir().join("tbot.yaml"), yaml).unwrap();
    step.product(&[&["start", "-c", "tbot.yaml"], args].concat())
}

/// A step whose environment does not say where the cluster is.
fn step(cluster: &Testcluster) -> Step {
    Step::new(cluster).without("PROXY_SERVER").without("TOKEN")
}

fn the_guides_files_work() {
    let cluster = Testcluster::start();
    let proxy = cluster.proxy_addr();
    // The Azure guide: a join without outputs, then one output by the guide for SSH.
    let base = format!(
        "version: v2\nproxy_server: {proxy}\nonboarding:\n  join_method: bitbucket\n  token: example-bot\n  azure :\n    \
         client_id: 22222222-2222-2222-2222-222222222222\nstorage:\n  type: memory\noneshot: true\n"
    );
    let step = step(&cluster);
    let output = start(&step, &format!("{base}# outputs will be filled in\noutputs: []\n"), &[]).ok();
    assert!(output.stderr.contains("there are no outputs"), "{}", output.stderr);
    let with_output =
        format!("{base}outputs:\n- type: identity\n  destination:\n    type: directory\n    path: ./machine-id\n");
    start(&step, &with_output, &[]).ok();
    let node = Step::node(&cluster);
    let hello = step.run("ssh", &["-F", "machine-id/ssh_config", &node, "hostname"]).ok();
    assert!(!hello.stdout.is_empty());
}

fn several_outputs_have_their_own_roles_clusters_and_lifetimes() {
    let cluster = Testcluster::builder()
        .role(Role::new("second-role", ["second"]))
        .impersonated_roles(["example-role", "second-role"])
        .leaf_cluster("leaf.example")
        .start();
    let yaml = format!(
        "version: v2\nproxy_server: {}\nonboarding: {{token: example-bot, join_method: bitbucket}}\noneshot: yes\n\
         credential_ttl: 30m\nrenewal_interval: 10m\nservices:\n  - type: identity\n    name: first\n    destination: \
         {{type: directory, path: first}}\n    roles: [second-role]\n  - type: identity\n    destination: &at\n      \
         type: directory\n      path: second\n    cluster: leaf.example\n    credential_ttl: 2h\n    renewal_interval: \
         1h\noutputs:\n",
        cluster.proxy_addr()
    );
    let step = step(&cluster);
    let output = start(&step, &yaml, &["--format=json"]).ok();
    let summary: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let text = summary.to_string();
    assert!(text.contains("second-role") && text.contains("leaf.example"), "{text}");
    let joins = cluster.calls().iter().filter(|call| call.name.ends_with("/Join")).count();
    assert_eq!(joins, 1);
    let certificate = |directory: &str| {
        let path = step.dir().join(directory).join("key-cert.pub");
        step.run("ssh-keygen", &["-L", "-f", path.to_str().unwrap()]).ok().stdout
    };
    assert!(certificate("first").contains("second") && !certificate("first").contains("example-role"));
    let missing = yaml.replace("roles: [second-role]", "roles: [other-role]");
    let output = start(&step, &missing, &[]);
    assert_eq!(output.status, Some(4), "{}", output.stderr);
    assert!(output.stderr.contains("does not have the role other-role"), "{}", output.stderr);
}

fn an_output_without_ssh_config_has_no_program() {
    let cluster = Testcluster::start();
    let step = step(&cluster);
    let yaml = format!(
        "version: v2\nproxy_server: {}\nonboarding: {{token: example-bot, join_method: bitbucket}}\noneshot: true\n\
         outputs:\n  - type: identity\n    ssh_config: off\n    destination: {{type: directory, path: ./tbot-user}}\n",
        cluster.proxy_addr()
    );
    start(&step, &yaml, &[]).ok();
    assert!(step.file("identity").exists() && step.file("key").exists());
    for absent in ["ssh_config", "known_hosts", "teleport-pipe"] {
        assert!(!step.file(absent).exists(), "{absent}");
    }
}

fn flags_and_variables_come_before_the_file() {
    let cluster = Testcluster::start();
    let yaml = "version: v2\nproxy_server: wrong.example:443\nonboarding: {token: wrong, join_method: bitbucket}\n\
                outputs: [{type: identity, destination: {type: directory, path: a}}]\n";
    let proxy = format!("--proxy-server={}", cluster.proxy_addr());
    let first = step(&cluster);
    start(&first, yaml, &[&proxy, "--token=example-bot", "--oneshot"]).ok();
    assert!(first.dir().join("a/ssh_config").exists());
    let second = step(&cluster).env("TELEPORT_PROXY", &cluster.proxy_addr()).env("TELEPORT_BOT_TOKEN", "example-bot");
    start(&second, yaml, &["--oneshot", "--destination-dir=b"]).ok();
    assert!(!second.dir().join("a").exists() && second.dir().join("b/ssh_config").exists());
    // An output of the command line comes beside those of the file.
    fs::write(second.dir().join("tbot.yaml"), yaml).unwrap();
    second.product(&["start", "identity", "-c", "tbot.yaml", "--oneshot", "--destination=./c"]).ok();
    assert!(second.dir().join("a/ssh_config").exists() && second.dir().join("c/ssh_config").exists());
}

fn a_join_uri_replaces_three_settings() {
    let cluster = Testcluster::start();
    let uri = format!("tbot+proxy+bitbucket://example-bot@{}", cluster.proxy_addr());
    let joined = step(&cluster);
    joined.product(&["start", "identity", "--oneshot", "--destination=a", &format!("--join-uri={uri}")]).ok();
    let yaml = format!(
        "version: v2\njoin_uri: {uri}\noneshot: true\noutputs: [{{type: identity, destination: {{type: directory, path: b}}}}]\n"
    );
    start(&joined, &yaml, &[]).ok();
    let uri = format!("--join-uri={uri}");
    let refused = |step: &Step, flag: &str, what: &str| {
        let output = step.product(&["start", "identity", "--oneshot", "--destination=c", &uri, flag]);
        assert_eq!(output.status, Some(2), "{}", output.stderr);
        let expected = format!("names {what}, which is set elsewhere, too");
        assert!(output.stderr.contains(&expected), "{flag}: {}", output.stderr);
    };
    refused(&joined, "--proxy-server=p.example", "the proxy");
    refused(&joined, "--token=other-bot", "the join token");
    refused(&joined, "--join-method=gitlab", "the join method");
    refused(&joined.env("TELEPORT_PROXY", "p.example"), "--no-insecure", "the proxy");
}

fn a_file_can_come_in_a_variable() {
    use base64ct::{Base64, Encoding as _};
    let cluster = Testcluster::start();
    let yaml = format!(
        "version: v2\nproxy_server: {}\nonboarding: {{token: example-bot, join_method: bitbucket}}\noneshot: true\n\
         outputs: [{{type: identity, destination: {{type: directory, path: a}}}}]\n",
        cluster.proxy_addr()
    );
    let encoded = Base64::encode_string(yaml.as_bytes());
    let joined = step(&cluster);
    joined.product(&["start", "--config-string", &encoded]).ok();
    let joined = step(&cluster).env("TBOT_CONFIG", &encoded);
    joined.product(&["start"]).ok();
    assert!(joined.dir().join("a/ssh_config").exists());
    let joined = step(&cluster).env("TBOT_CONFIG_PATH", "tbot.yaml");
    fs::write(joined.dir().join("tbot.yaml"), yaml).unwrap();
    joined.product(&["start"]).ok();
    assert!(joined.dir().join("a/ssh_config").exists());
}

fn onboarding_names_other_places_of_id_tokens() {
    for (method, rule, section) in [
        ("gitlab", ("project_path", "acme/*"), "gitlab: {token_env_var_name: MY_TOKEN}"),
        ("terraform_cloud", ("organization_name", "acme"), "terraform: {audience_tag: teleport}"),
        ("kubernetes", ("service_account", "ci:deploy"), "kubernetes: {token_path: ./token}"),
        ("generic_oidc", ("sub", "job:acme/infrastructure"), "generic_oidc: {env: MY_TOKEN}"),
        (
            "generic_oidc",
            ("sub", "job:acme/infrastructure"),
            "generic_oidc: {command: [printenv, MY_TOKEN], timeout: 20s}",
        ),
    ] {
        let cluster = Testcluster::builder().join_method(method, [AllowRule::new([rule])]).start();
        let token = cluster.step_token();
        let step = Step::outside(&cluster).without("PROXY_SERVER").without("TOKEN");
        let step = step.env("MY_TOKEN", &token).env("TFC_WORKLOAD_IDENTITY_TOKEN_TELEPORT", &token);
        fs::write(step.dir().join("token"), &token).unwrap();
        let yaml = format!(
            "version: v2\nproxy_server: {}\nonboarding:\n  token: example-bot\n  join_method: {method}\n  {section}\n\
             oneshot: true\noutputs: [{{type: identity, destination: {{type: directory, path: a}}}}]\n",
            cluster.proxy_addr()
        );
        let output = start(&step, &yaml, &[]);
        assert_eq!(output.status, Some(0), "{method}: {}", output.stderr);
        // A join token from elsewhere leaves the rest of the section as it is.
        let step = step.env("TELEPORT_BOT_TOKEN", "example-bot");
        let output = start(&step, &yaml.replace("token: example-bot", "token: other-bot"), &[]);
        assert_eq!(output.status, Some(0), "{method}: {}", output.stderr);
    }
}

fn a_program_without_an_id_token_is_explained() {
    let cluster = Testcluster::builder()
        .join_method("generic_oidc", [AllowRule::new([("sub", "job:acme/infrastructure")])])
        .start();
    for (command, reason) in [
        ("['false']", "exit status: 1"),
        ("[echo, hello]", "it did not print an ID token"),
        ("[/nowhere/program]", "No such file or directory"),
        ("sh -c false", "is not a list"),
        ("[sleep, '30']", "it was ended after 1s"),
    ] {
        let yaml = format!(
            "version: v2\nproxy_server: {}\nonboarding:\n  token: example-bot\n  join_method: generic_oidc\n  \
             generic_oidc: {{command: {command}, timeout: 1s}}\noneshot: true\noutputs: [{{type: identity, \
             destination: {{type: directory, path: a}}}}]\n",
            cluster.proxy_addr()
        );
        let step = Step::outside(&cluster).without("PROXY_SERVER").without("TOKEN");
        let output = start(&step, &yaml, &[]);
        if command.starts_with("sh ") {
            assert!(output.status == Some(2) && output.stderr.contains("is not a list"), "{}", output.stderr);
            continue;
        }
        assert_eq!(output.status, Some(3), "{command}: {}", output.stderr);
        assert!(output.stderr.contains(reason), "{command}: {}", output.stderr);
        assert!(output.stderr.contains("Run the program by hand"), "{command}: {}", output.stderr);
        assert!(!step.dir().join("a").exists(), "{command}");
    }
}

/// Files, each with one mistake.
const WRONG: [(&str, &str); 25] = [
    ("empty", ""),
    ("not YAML", "version: v2\noutputs: [\n"),
    ("a list", "- version: v2\n"),
    ("version 1", "auth_server: example.teleport.sh:443\ndestinations: []\n"),
    ("version 2 as a number", "version: 2\n"),
    ("a misspelt key", "version: v2\nproxy_servr: example.teleport.sh:443\n"),
    (
        "a misspelt key of an output",
        "version: v2\noutputs:\n  - type: identity\n    rols: [admin]\n    destination: {type: directory, path: a}\n",
    ),
    ("a key twice", "version: v2\noneshot: true\noneshot: false\n"),
    (
        "a name twice",
        "version: v2\noutputs:\n  - {type: identity, name: a, destination: {type: directory, path: a}}\n  - {type: identity, name: a, destination: {type: directory, path: b}}\n",
    ),
    ("another output", "version: v2\noutputs:\n  - type: kubernetes\n    kubernetes_cluster: a\n"),
    ("an unknown output", "version: v2\noutputs:\n  - type: identiti\n"),
    ("outputs that are a mapping", "version: v2\noutputs:\n  type: identity\n  a: b\n"),
    ("no destination", "version: v2\noutputs:\n  - type: identity\n"),
    ("no path", "version: v2\noutputs:\n  - type: identity\n    destination: {type: directory}\n"),
    (
        "a destination in Kubernetes",
        "version: v2\noutputs:\n  - type: identity\n    destination: {type: kubernetes_secret, name: a}\n",
    ),
    (
        "readers",
        "version: v2\noutputs:\n  - type: identity\n    destination: {type: directory, path: a, readers: [{user: b}]}\n",
    ),
    ("a lifetime in days", "version: v2\ncredential_ttl: 1d\n"),
    ("a lifetime without a unit", "version: v2\ncredential_ttl: 3600\n"),
    (
        "half a lifetime",
        "version: v2\noutputs:\n  - type: identity\n    destination: {type: directory, path: a}\n    credential_ttl: 1h\n",
    ),
    ("insecure", "version: v2\ninsecure: true\n"),
    ("pins", "version: v2\nonboarding:\n  ca_pins: [sha256:abc]\n"),
    ("another join method", "version: v2\nonboarding:\n  join_method: tpm\n"),
    ("an unknown join method", "version: v2\nonboarding:\n  join_method: bitbuket\n"),
    ("the address of the Auth Service", "version: v2\nauth_server: example.teleport.sh:3025\n"),
    ("not a join URI", "version: v2\njoin_uri: https://example.teleport.sh\n"),
];

fn what_is_wrong_with_a_file_is_explained() {
    let cluster = Testcluster::start();
    let step = step(&cluster);
    let mut all = String::new();
    for (case, yaml) in WRONG {
        let output = start(&step, yaml, &["--oneshot"]);
        assert_eq!(output.status, Some(2), "{case}: {}", output.stderr);
        all += &format!("=== {case}\n{}", report(&step, &output));
    }
    let output = step.product(&["start", "-c", "nowhere.yaml", "--oneshot"]);
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    all += &format!("=== no file\n{}", report(&step, &output));
    expect_file!["golden/tbot_yaml/wrong.txt"].assert_eq(&all);
    assert!(cluster.record().is_empty());
}

fn a_flag_for_start_is_refused_elsewhere() {
    let cluster = Testcluster::start();
    let output = step(&cluster).product(&["doctor", "-c", "tbot.yaml", "p.example"]);
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("--config is a flag of `start`"), "{}", output.stderr);
}

fn configure_prints_a_file_that_start_reads() {
    let cluster = Testcluster::start();
    let step = step(&cluster);
    let flags = [
        "configure",
        "identity",
        "--destination=./a",
        "--join-method=bitbucket",
        "--token=example-bot",
        "--certificate-ttl=1d",
        "--oneshot",
        &format!("--proxy-server={}", cluster.proxy_addr()),
    ];
    let printed = step.product(&flags).ok().stdout;
    expect_file!["golden/tbot_yaml/configure.txt"].assert_eq(&step.scrubbed(&printed));
    step.product(&[&flags[..], &["-o", "tbot.yaml"]].concat()).ok();
    assert_eq!(fs::read_to_string(step.dir().join("tbot.yaml")).unwrap(), printed);
    step.product(&["start", "-c", "tbot.yaml"]).ok();
    assert!(step.dir().join("a/ssh_config").exists());
    // Nothing is overwritten.
    assert_ne!(step.product(&[&flags[..], &["-o", "tbot.yaml"]].concat()).status, Some(0));
}

fn noop_joins_and_writes_nothing() {
    let cluster = Testcluster::start();
    let step = step(&cluster);
    let proxy = format!("--proxy-server={}", cluster.proxy_addr());
    let output = step.product(&["start", "noop", "--oneshot", &proxy, "--token=example-bot"]).ok();
    assert!(output.stderr.contains("there are no outputs"), "{}", output.stderr);
    assert_eq!(fs::read_dir(step.dir()).unwrap().count(), 0);
    assert!(cluster.calls().iter().any(|call| call.name.ends_with("/Join")));
}

fn tbots_other_lines_work() {
    let cluster = Testcluster::start();
    let proxy = cluster.proxy_addr();
    for line in [
        format!("-d start identity --oneshot --destination=a --proxy-server={proxy} --token=example-bot --no-insecure"),
        format!("start id --destination=file:///CLONE_DIR/a --auth-server={proxy} --token=example-bot --oneshot -d"),
        format!("start ssh --destination a --proxy-server {proxy} --token example-bot --oneshot --storage=/var/lib/b"),
        format!("start legacy --destination-dir=a --data-dir=b --proxy-server={proxy} --token=example-bot --oneshot"),
        format!("start --destination-dir=a --proxy-server={proxy} --token=example-bot --oneshot --log-format=text"),
        format!("start identity --destination=a --proxy-server={proxy} --token=example-bot --oneshot --diag-addr=x:1"),
    ] {
        let step = step(&cluster);
        let line = line.replace("/CLONE_DIR", step.dir().to_str().unwrap());
        let output = step.product(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(output.status, Some(0), "{line}: {}", output.stderr);
        assert!(step.dir().join("a/ssh_config").exists(), "{line}");
    }
    let (gitlab, _job) = {
        let cluster =
            Testcluster::builder().join_method("gitlab", [AllowRule::new([("project_path", "acme/*")])]).start();
        let (step, job) = job(&cluster, None);
        let proxy = cluster.proxy_addr();
        let args = ["start", "identity", "--oneshot", "--destination=a", "--join-method=gitlab", "--token=example-bot"];
        let output = step.product(&[&args[..], &[&format!("--proxy-server={proxy}")]].concat()).ok();
        (output, job)
    };
    assert!(gitlab.stderr.contains("GitLab CI"), "{}", gitlab.stderr);
}

/// The rows of a section of docs/compatibility.md: the words in backticks of the first cell, that cell, and the last one.
fn rows(section: &str) -> Vec<(Vec<String>, String, String)> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md")).unwrap();
    let body = text.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let lines = body.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let rows = lines.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let words = cells[0].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (words, cells[0].to_owned(), cells.last().unwrap().to_string())
    });
    rows.collect()
}

fn the_tables_of_compatibility_are_true() {
    let step = Step::empty();
    let run = |line: &str| step.product(&line.split_whitespace().collect::<Vec<_>>());
    let is_refused = |verdict: &str| verdict.starts_with("refused") || verdict.starts_with("planned");
    for (commands, _, verdict) in rows("Commands") {
        for command in commands {
            let output = run(&format!("{command}{}", if is_refused(&verdict) { "" } else { " --help" }));
            let expected = if is_refused(&verdict) { 2 } else { 0 };
            assert_eq!(output.status, Some(expected), "{command}: {output:?}");
            assert_eq!(
                output.stderr.contains("of tbot is not supported"),
                is_refused(&verdict),
                "{command}: {output:?}"
            );
        }
    }
    for (flags, _, verdict) in rows("Flags") {
        for flag in flags.iter().filter(|flag| flag.starts_with('-')) {
            let lines = ["start identity", "start"].into_iter().flat_map(|start| {
                [format!("{start} {flag}"), format!("{start} {flag}=1h"), format!("{start} {flag} 1h")]
            });
            let is_known = |line: String| {
                let output = run(&line);
                let unknown =
                    ["unexpected argument", "unexpected value", "a value is required", "of tbot is not supported"];
                !unknown.iter().any(|words| output.stderr.contains(words))
            };
            assert_eq!(lines.into_iter().any(is_known), !is_refused(&verdict), "{flag}: {verdict}");
        }
    }
    for (keys, cell, verdict) in rows("tbot.yaml") {
        for key in keys.iter().map(|key| key.split(':').next().unwrap()) {
            let destination = "destination: {type: directory, path: a}";
            let yaml = match key.split_once('.') {
                Some((section, key)) => format!("version: v2\n{section}:\n  {key}: [a]\n"),
                None if cell.starts_with("of an output") && key == "type" => continue,
                None if cell.starts_with("of an output") && key == "destination" => continue,
                None if cell.starts_with("of an output") => {
                    format!("version: v2\noutputs:\n  - type: identity\n    {destination}\n    {key}: [a]\n")
                }
                None if cell.starts_with("of a destination") && key == "type" => continue,
                None if cell.starts_with("of a destination") => format!(
                    "version: v2\noutputs:\n  - type: identity\n    destination:\n      type: directory\n      {}{key}: [a]\n",
                    if key == "path" { "" } else { "path: a\n      " },
                ),
                None if key == "version" => continue,
                None => format!("version: v2\n{key}: [a]\n"),
            };
            let output = start(&step, &yaml, &["--oneshot"]);
            assert_eq!(output.status, Some(2), "{key}: {output:?}");
            assert!(!output.stderr.contains("unknown key"), "{key}: {output:?}");
            if verdict == "refused" {
                assert!(output.stderr.contains("is not supported"), "{key}: {output:?}");
            }
        }
    }
    for (types, _, verdict) in rows("Types of services and outputs") {
        for of in types {
            for list in ["services", "outputs"] {
                let yaml = format!("version: v2\n{list}:\n  - type: {of}\n");
                let output = start(&step, &yaml, &["--oneshot"]);
                assert_eq!(output.status, Some(2), "{of}: {output:?}");
                let refused = output.stderr.contains(&format!("tbot.yaml, line 3: the output `{of}` is not supported"));
                assert_eq!(refused, is_refused(&verdict), "{of}: {output:?}");
            }
        }
    }
    for (methods, _, verdict) in rows("Join methods") {
        for method in methods {
            let output = run(&format!("start identity --oneshot --destination=d --token=t --join-method={method}"));
            let refused = output.stderr.contains("is a join method of tbot that teleport-pipe does not have");
            assert_eq!(refused, is_refused(&verdict), "{method}: {output:?}");
        }
    }
}

fn called_as_tbot_it_prints_a_version_that_setup_actions_read() {
    let step = Step::empty();
    std::os::unix::fs::symlink(Step::binary(), step.dir().join("tbot")).unwrap();
    let output = step.run("./tbot", &["version"]).ok();
    let version = output.stdout.strip_prefix("Teleport ").unwrap().split(' ').next().unwrap();
    assert_eq!(version, concat!("v", env!("CARGO_PKG_VERSION")));
    assert!(step.product(&["version"]).ok().stdout.starts_with("teleport-pipe v"));
}
