//! Names that ssh writes in lower case and Teleport does not, names that are not in a host certificate, and logins that are
//! not in the credentials: the ProxyCommand says which command works, and that command works.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use expect_test::{ExpectFile, expect_file};
use testcluster::{
    Builder, Code, Exchange, Fault, FaultInjection, Layout, Lie, LoadBalancer, NetworkFault, Point, Suite, Testcluster,
};

use crate::harness::stories;
use crate::machine::TIME;
use crate::step::{Output, Step};

stories! {
    the_line_in_the_log_works_for_a_cluster_with_capital_letters,
    a_full_name_in_a_cluster_with_capital_letters_is_explained,
    a_leaf_cluster_with_capital_letters,
    a_node_with_capital_letters_is_found_by_its_bare_name,
    the_full_name_of_a_node_with_capital_letters_is_explained,
    a_node_and_a_cluster_with_capital_letters,
    a_search_takes_the_way_of_the_session,
    a_node_with_capital_letters_in_a_leaf_cluster_is_explained,
    two_nodes_that_differ_in_case_only_are_told_apart,
    several_nodes_of_one_name_are_named,
    a_proxy_that_ignores_case_needs_no_search,
    capital_letters_that_change_nothing,
    a_search_that_fails_leaves_a_general_hint,
    a_search_without_an_answer_ends_soon needs TIME,
    a_certificate_without_the_nodes_full_name_is_explained,
    the_certificate_is_read_whatever_key_exchange_is_negotiated,
    a_public_log_does_not_list_names_and_logins,
    a_login_that_the_credentials_do_not_allow_is_named,
    nothing_is_searched_for_a_node_that_is_found,
    a_hostile_node_changes_nothing_and_prints_nothing,
    a_hostile_list_of_nodes_does_no_harm,
}

struct Names {
    cluster: Testcluster,
    step: Step,
    /// What the pipe printed.
    log: String,
}

impl Names {
    fn start(cluster: Builder) -> Self {
        Self::with(cluster, |step| step)
    }

    fn with(cluster: Builder, change: impl FnOnce(Step) -> Step) -> Self {
        let cluster = cluster.start();
        let step = change(Step::new(&cluster));
        let log = step.pipe().ok().stderr;
        cluster.clear_record();
        Self { cluster, step, log }
    }

    fn ssh(&self, config: &str, host: &str) -> Output {
        let config = format!("tbot-user/{config}");
        let node = format!("{}@{host}", self.cluster.node_login());
        self.step.run("ssh", &["-F", &config, &node, "echo", "hello"])
    }

    #[track_caller]
    fn expect_hello(&self, config: &str, host: &str) {
        let output = self.ssh(config, host).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""), "{host}");
    }

    /// Expects one line of the ProxyCommand, and that ssh does not reach the node.
    #[track_caller]
    fn expect_line(&self, config: &str, host: &str, golden: &ExpectFile) -> String {
        let output = self.ssh(config, host);
        assert_eq!((output.status, output.stdout.as_str()), (Some(255), ""), "{}", output.stderr);
        let lines = proxy_command_lines(&output);
        let [line] = &lines[..] else { panic!("{}", output.stderr) };
        golden.assert_eq(&self.scrubbed(line));
        line.clone()
    }

    /// Expects that the command at the end of a line works, as it is.
    #[track_caller]
    fn expect_command_works(&self, line: &str) {
        let (_, command) = line.split_once(": ssh -F ").unwrap_or_else(|| panic!("{line}"));
        let output = self.step.run("sh", &["-c", &format!("ssh -F {command} echo hello")]).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""), "{line}");
    }

    /// Expects that the log names a command that works for this node.
    #[track_caller]
    fn expect_logged_command_works(&self, node: &str) {
        let next = self.log.lines().last().unwrap();
        // The bot's first login need not exist on this machine.
        let (_, host) = next.split_once('@').unwrap();
        let (options, _) = next.rsplit_once(' ').unwrap();
        let host = host.replace("<node>", node);
        let command = format!("{options} {}@{host} echo hello", self.cluster.node_login());
        let output = self.step.run("sh", &["-c", &command]).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""), "{next}");
    }

    fn searches(&self) -> usize {
        self.cluster.calls().iter().filter(|call| call.name.ends_with("/ListUnifiedResources")).count()
    }

    fn uuid(&self, hostname: &str) -> &str {
        self.cluster.uuids(hostname)[0]
    }

    /// Without what differs from run to run, and from machine to machine.
    fn scrubbed(&self, line: &str) -> String {
        let mut line = line.replace(&format!(" {}@", self.cluster.node_login()), " LOGIN@");
        for (n, uuid) in ["node", "leafnode", "DB-01", "Db-01", "db-01", "web"]
            .iter()
            .flat_map(|name| self.cluster.uuids(name).into_iter().enumerate().map(move |(n, uuid)| ((name, n), uuid)))
        {
            line = line.replace(uuid, &format!("UUID-{}-{}", n.0, n.1));
        }
        self.step.scrubbed(&line)
    }
}

/// How the line with the URL of the page begins.
const MORE: &str = "teleport-pipe: more: https://";

/// The lines of the ProxyCommand among those of ssh, without the URLs.
fn proxy_command_lines(output: &Output) -> Vec<String> {
    let lines = output.stderr.lines().filter(|line| line.starts_with("teleport-pipe: "));
    lines.filter(|line| !line.starts_with(MORE)).map(str::to_owned).collect()
}

fn corp_prod() -> Builder {
    Testcluster::builder().name("CorpProd")
}

fn the_line_in_the_log_works_for_a_cluster_with_capital_letters() {
    let names = Names::start(corp_prod());
    assert!(names.log.contains("\nssh -F ./tbot-user/CorpProd.ssh_config "), "{}", names.log);
    names.expect_logged_command_works("node");
    names.expect_logged_command_works("NODE");
    // Without capital letters it is the line for the nodes of all clusters.
    let names = Names::start(Testcluster::builder());
    assert!(names.log.ends_with("@<node>.example.teleport.sh\n"), "{}", names.log);
    names.expect_logged_command_works("node");
}

fn a_full_name_in_a_cluster_with_capital_letters_is_explained() {
    let names = Names::start(corp_prod());
    let golden = expect_file!["golden/names/cluster.txt"];
    // ssh's patterns are compared with the name as it was typed.
    for host in ["node.CorpProd", "node.corpprod", "Node.CorpProd"] {
        let line = names.expect_line("ssh_config", host, &golden);
        names.expect_command_works(&line);
    }
    // ssh itself gives the reason, and the line of the ProxyCommand comes before it.
    let output = names.ssh("ssh_config", "node.CorpProd");
    assert!(output.stderr.starts_with("teleport-pipe: "), "{}", output.stderr);
    assert!(output.stderr.contains("Certificate invalid: name is not a listed principal"), "{}", output.stderr);
    // The UUID with the cluster's name is not accepted either.
    let host = format!("{}.CorpProd", names.uuid("node"));
    let line = names.expect_line("ssh_config", &host, &expect_file!["golden/names/cluster-uuid.txt"]);
    names.expect_command_works(&line);
}

fn a_leaf_cluster_with_capital_letters() {
    let leaf = "Leaf.Example.com";
    let names = Names::with(Testcluster::builder().leaf_cluster(leaf), |step| step.env("CLUSTER", leaf));
    assert!(names.log.contains("\nssh -F ./tbot-user/Leaf.Example.com.ssh_config "), "{}", names.log);
    names.expect_logged_command_works("leafnode");
    names.expect_hello("ssh_config", "node.example.teleport.sh");
    for host in ["leafnode.Leaf.Example.com", "leafnode.leaf.example.com"] {
        let line = names.expect_line("ssh_config", host, &expect_file!["golden/names/leaf-cluster.txt"]);
        names.expect_command_works(&line);
    }
}

fn a_node_with_capital_letters_is_found_by_its_bare_name() {
    let names = Names::start(Testcluster::builder().node("DB-01"));
    for host in ["DB-01", "db-01"] {
        let output = names.ssh("example.teleport.sh.ssh_config", host).ok();
        assert_eq!(output.stdout, "hello\n");
        expect_file!["golden/names/node-found.txt"].assert_eq(&names.scrubbed(&output.stderr));
    }
    assert_eq!(names.searches(), 2);
}

fn the_full_name_of_a_node_with_capital_letters_is_explained() {
    let names = Names::start(Testcluster::builder().node("DB-01"));
    let line = names.expect_line("ssh_config", "DB-01.example.teleport.sh", &expect_file!["golden/names/node.txt"]);
    assert_eq!(names.searches(), 1);
    names.expect_command_works(&line);
    // The port of the command line stays.
    let host = format!("{}@DB-01.example.teleport.sh", names.cluster.node_login());
    let output = names.step.ssh(&["-p", "22", &host, "true"]);
    assert!(output.stderr.contains("/ssh_config -p 22 "), "{}", output.stderr);
}

fn a_node_and_a_cluster_with_capital_letters() {
    let names = Names::start(corp_prod().node("DB-01"));
    let line = names.expect_line("ssh_config", "DB-01.CorpProd", &expect_file!["golden/names/node-and-cluster.txt"]);
    names.expect_command_works(&line);
    assert_eq!(names.ssh("CorpProd.ssh_config", "DB-01").ok().stdout, "hello\n");
}

/// Whatever is in front of the proxy, a search opens no connection besides that of the session.
fn a_search_takes_the_way_of_the_session() {
    for cluster in [
        Testcluster::builder().layout(Layout::SeparatePorts { auth_on_web: false }),
        Testcluster::builder().load_balancer(LoadBalancer::new()),
        Testcluster::builder().name("c".repeat(120)),
    ] {
        let names = Names::start(cluster.node("DB-01"));
        let output = names.ssh(&format!("{}.ssh_config", names.cluster.name()), "DB-01").ok();
        assert_eq!(output.stdout, "hello\n");
        expect_file!["golden/names/node-found.txt"].assert_eq(&names.scrubbed(&output.stderr));
        let dials = names.cluster.calls().into_iter().filter(|call| call.name.ends_with("/ProxySSH"));
        let connections: BTreeSet<_> = dials.map(|call| call.connection).collect();
        assert_eq!(connections.len(), 1);
    }
}

/// The Auth Service of a leaf cluster is not asked.
fn a_node_with_capital_letters_in_a_leaf_cluster_is_explained() {
    let leaf = "leaf.example.com";
    let names = Names::start(Testcluster::builder().leaf_cluster(leaf).leaf_node(leaf, "DB-01"));
    let line = names.expect_line("ssh_config", "DB-01.leaf.example.com", &expect_file!["golden/names/leaf-node.txt"]);
    assert_eq!(names.searches(), 0);
    names.expect_command_works(&line.replace("<uuid>", names.uuid("DB-01")));
}

fn two_nodes_that_differ_in_case_only_are_told_apart() {
    let names = Names::start(Testcluster::builder().node("DB-01").node("Db-01"));
    let line =
        names.expect_line("ssh_config", "db-01.example.teleport.sh", &expect_file!["golden/names/two-nodes.txt"]);
    for name in ["DB-01", "Db-01"] {
        assert!(line.contains(&format!("{name} ({})", names.uuid(name))), "{line}");
        names.expect_command_works(&line.replace("<uuid>", names.uuid(name)));
    }
    // The bare name does not choose one of them.
    names.expect_line("example.teleport.sh.ssh_config", "DB-01", &expect_file!["golden/names/two-nodes.txt"]);
    // The node of the very name is the one that is meant.
    let names = Names::start(Testcluster::builder().node("DB-01").node("db-01"));
    names.expect_hello("ssh_config", "db-01.example.teleport.sh");
}

fn several_nodes_of_one_name_are_named() {
    let names = Names::start(Testcluster::builder().node("web").node("web"));
    let output = names.ssh("ssh_config", "web.example.teleport.sh");
    let [line] = &proxy_command_lines(&output)[..] else { panic!("{}", output.stderr) };
    let uuids = names.cluster.uuids("web");
    assert!(line.contains("ambiguous host could match multiple nodes. Nodes of this name are web ("), "{line}");
    for uuid in uuids {
        assert!(line.contains(&format!("web ({uuid})")), "{line}");
        names.expect_command_works(&line.replace("<uuid>", uuid));
    }
}

fn a_proxy_that_ignores_case_needs_no_search() {
    let names = Names::start(Testcluster::builder().node("DB-01").case_insensitive_routing());
    names.expect_hello("example.teleport.sh.ssh_config", "DB-01");
    // The certificate has the name in lower case, but not with the cluster's.
    let host = "DB-01.example.teleport.sh";
    let line = names.expect_line("ssh_config", host, &expect_file!["golden/names/node-by-proxy.txt"]);
    names.expect_command_works(&line);
    assert_eq!(names.searches(), 0);
}

fn capital_letters_that_change_nothing() {
    let address = |step: Step| {
        let address = step.variable("PROXY_SERVER").replace("localhost", "LocalHost");
        step.env("PROXY_SERVER", &address)
    };
    let names = Names::with(Testcluster::builder(), address);
    names.expect_hello("ssh_config", "NODE.example.teleport.sh");
    names.expect_hello("example.teleport.sh.ssh_config", "Node");
    names.expect_hello("example.teleport.sh.ssh_config", "Node.Example.Teleport.SH");
    assert_eq!(names.searches(), 0);
}

fn unavailable(fault: NetworkFault) -> Builder {
    let injection = FaultInjection { point: Point::Before(Exchange::ListNodes), fault, once: false };
    Testcluster::builder().node("DB-01").inject(injection)
}

fn a_search_that_fails_leaves_a_general_hint() {
    for fault in [NetworkFault::Status(Code::PermissionDenied, None), NetworkFault::Close, NetworkFault::Garbage] {
        let names = Names::start(unavailable(fault));
        let host = "DB-01.example.teleport.sh";
        let line = names.expect_line("ssh_config", host, &expect_file!["golden/names/not-searched.txt"]);
        names.expect_command_works(&line.replace("<uuid>", names.uuid("DB-01")));
    }
}

fn a_search_without_an_answer_ends_soon() {
    let names = Names::start(unavailable(NetworkFault::Stall));
    let began = Instant::now();
    let host = "DB-01.example.teleport.sh";
    names.expect_line("ssh_config", host, &expect_file!["golden/names/not-searched.txt"]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

fn a_certificate_without_the_nodes_full_name_is_explained() {
    let names = Names::start(Testcluster::builder().fault(Fault::NodeCertWithoutFullName));
    let line = names.expect_line("ssh_config", "node.example.teleport.sh", &expect_file!["golden/names/18.2.txt"]);
    names.expect_command_works(&line);
    names.expect_hello("example.teleport.sh.ssh_config", "node");
}

fn the_certificate_is_read_whatever_key_exchange_is_negotiated() {
    let algorithms = Output::run(std::process::Command::new("ssh").args(["-Q", "kex"])).ok().stdout;
    let wanted = |name: &&str| !name.ends_with("sha1") && !name.starts_with("ecdh-sha2-nistp5");
    for suite in [Suite::BalancedV1, Suite::FipsV1, Suite::Legacy] {
        let names = Names::start(corp_prod().suite(suite));
        let node = format!("{}@node.CorpProd", names.cluster.node_login());
        let mut negotiated = 0;
        for name in algorithms.lines().filter(wanted) {
            let output = names.step.ssh(&["-o", &format!("KexAlgorithms={name}"), &node, "true"]);
            // The server of OpenSSH 10 does not offer all that its client has.
            if output.stderr.contains("no matching key exchange method found") {
                continue;
            }
            negotiated += 1;
            assert!(
                output.stderr.starts_with("teleport-pipe: the node's certificate is not for"),
                "{name}: {}",
                output.stderr
            );
        }
        assert!(negotiated >= 5, "{negotiated} of {algorithms}");
    }
}

fn in_public(step: Step) -> Step {
    step.env("BITBUCKET_REPO_IS_PRIVATE", "false")
}

fn a_public_log_does_not_list_names_and_logins() {
    let names = Names::with(corp_prod(), in_public);
    let line = names.expect_line("ssh_config", "node.CorpProd", &expect_file!["golden/names/public.txt"]);
    names.expect_command_works(&line);
    let output = names.step.ssh(&["guest@node.CorpProd", "true"]);
    assert!(
        output.stderr.starts_with("teleport-pipe: these credentials do not allow the login guest\n"),
        "{}",
        output.stderr
    );
}

fn a_login_that_the_credentials_do_not_allow_is_named() {
    let names = Names::start(Testcluster::builder().lie(Lie::principals(|principals| {
        principals.extend(["a\u{1b}[31m\u{202e}b".to_owned(), "-teleport-more".to_owned()]);
    })));
    let output = names.step.ssh(&["guest@node.example.teleport.sh", "true"]);
    assert_eq!(output.status, Some(255));
    let logins = [names.cluster.logins(), vec!["a [31m b".to_owned()]].concat();
    let mut logins: Vec<_> = logins.iter().map(String::as_str).collect();
    logins.sort_unstable();
    logins.dedup();
    let expected = format!("teleport-pipe: these credentials allow the logins {}; not guest\n", logins.join(", "));
    assert!(output.stderr.starts_with(&expected), "{expected}{}", output.stderr);
    assert!(output.stderr.contains("Permission denied (publickey)"), "{}", output.stderr);
    names.expect_hello("ssh_config", "node.example.teleport.sh");
}

/// A session costs no call more than before.
fn nothing_is_searched_for_a_node_that_is_found() {
    let names = Names::start(corp_prod());
    names.expect_hello("CorpProd.ssh_config", "node");
    let calls: Vec<_> = names.cluster.calls().into_iter().map(|call| call.name).collect();
    assert_eq!(calls, ["/teleport.transport.v1.TransportService/ProxySSH"]);
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// The first bytes of a session of SSH in which the node shows a host certificate of these principals.
fn key_exchange(principals: &[&[u8]]) -> Vec<u8> {
    let names: Vec<u8> = principals.iter().flat_map(|name| string(name)).collect();
    let certificate = [
        &string(b"ssh-ed25519-cert-v01@openssh.com")[..],
        &string(&[0; 32]),
        &string(&[0; 32]),
        &[0; 8],
        &[0, 0, 0, 2],
        &string(b""),
        &string(&names),
    ];
    let reply = [&[4, 31][..], &string(&certificate.concat()), &[0; 4]].concat();
    [b"SSH-2.0-Teleport\r\n".to_vec(), string(&reply)].concat()
}

/// What the ProxyCommand prints to stdout and stderr if a node sends these bytes.
fn received(bytes: &[u8], frame: usize) -> (Vec<u8>, String) {
    let cluster = Testcluster::builder().lie(Lie::Node(bytes.to_vec(), frame)).start();
    let step = Step::new(&cluster);
    step.pipe().ok();
    let args = ["ssh-proxy-command", "--destination-dir=tbot-user", "--tls-routing", "--port=3022"];
    let mut command = step.command("./tbot-user/teleport-pipe", &args);
    command.args([format!("--proxy-server={}", cluster.proxy_addr()), format!("--cluster={}", cluster.name())]);
    let uuid = cluster.node_uuid();
    command.arg(format!("--host={uuid}"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"SSH-2.0-x\r\n").unwrap();
    let mut first = vec![0; bytes.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    (first, String::from_utf8(output.stderr).unwrap())
}

fn a_hostile_node_changes_nothing_and_prints_nothing() {
    let names: Vec<_> = (0..200).map(|n| format!("\u{1b}[2J\u{202e}name-{n}\r\n").into_bytes()).collect();
    let names: Vec<_> = names.iter().map(Vec::as_slice).collect();
    let long = [&[b'x'; 50_000][..], &[0xff, 0xfe]];
    let huge = [b"SSH-2.0-x\r\n".to_vec(), vec![0xff; 200_000]].concat();
    for (bytes, frame) in [
        (vec![0; 200_000], 16 << 10),
        (huge, 16 << 10),
        (b"SSH-2.0-x\r\n\0\0\0\x02".to_vec(), 1),
        (key_exchange(&names), 1),
        (key_exchange(&names), 16 << 10),
        (key_exchange(&long), 1000),
    ] {
        let (stdout, stderr) = received(&bytes, frame);
        assert!(stdout == bytes, "{} bytes", bytes.len());
        assert!(stderr.lines().count() <= 2 && stderr.len() < 1700, "{stderr}");
        assert!(!stderr.contains(['\u{1b}', '\r', '\u{202e}']), "{stderr:?}");
    }
    let (_, stderr) = received(&key_exchange(&names), 7);
    assert!(stderr.contains("[2J name-0, ") && stderr.contains(", and 192 more."), "{stderr}");
}

/// A node in the answer to the search.
fn listed(hostname: &[u8], uuid: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, length][..], bytes].concat()
    };
    let server = [field(4, &field(1, uuid)), field(5, &field(3, hostname))].concat();
    field(1, &field(3, &server))
}

fn a_hostile_list_of_nodes_does_no_harm() {
    let uuid = b"8b0d0c6e-1111-4000-8000-00000000000a";
    let general = "is reached by its UUID: ssh -F ";
    for (what, message, expected) in [
        ("nonsense", vec![0xff; 100], general),
        ("a million nodes", [0x0a, 0].repeat(1 << 20), general),
        ("200 nodes", listed(b"DB-01", uuid).repeat(200), general),
        ("a command", listed(b"DB-01", b"$(reboot)"), "A node that runs OpenSSH needs -p 22."),
        ("escapes", listed(b"DB-01\x1b[2J\n", uuid), "A node that runs OpenSSH needs -p 22."),
    ] {
        let lie = Lie::Message("ListUnifiedResources", message);
        let names = Names::start(Testcluster::builder().lie(lie));
        let output = names.ssh("ssh_config", "DB-01.example.teleport.sh");
        let [line] = &proxy_command_lines(&output)[..] else { panic!("{what}: {}", output.stderr) };
        assert!(line.contains(expected) && !line.contains("reboot"), "{what}: {line}");
        assert!(!output.stderr.contains('\u{1b}'), "{what}: {:?}", output.stderr);
    }
}
