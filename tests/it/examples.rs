//! Runs the files of `examples/` as Bitbucket runs them: the pipe with its variables, the other lines of the script in a
//! shell, and then the after-script. The leak check looks at each file with `LEAK_CHECK: error`, as the files say.
//!
//! Package managers and `psql` are replaced by programs that do nothing, or little. Every other program is real.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testcluster::{AllowRule, ForwardProxy, ForwardProxyBehavior, ForwardProxyKind, Testcluster};

use crate::clients::{free_port, serve};
use crate::example_file::{Item, items};
use crate::harness::stories;
use crate::machine::{ANSIBLE, FABRIC, PYTHON, RSYNC, UNPRIVILEGED, unprivileged_user};
use crate::output::Output;
use crate::platforms::job;
use crate::step::Step;

stories! {
    every_example_has_a_story_and_the_same_form,
    deploy_with_rsync_copies_the_site needs RSYNC,
    ansible_configures_a_node needs ANSIBLE,
    database_migration_reaches_the_database,
    many_hosts_keeps_every_exit_status,
    behind_a_proxy_works,
    non_root_step_works needs UNPRIVILEGED,
    fabric_deploys needs FABRIC,
    jobs_of_other_ci_systems_join_by_their_join_tokens,
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn pipelines(name: &str) -> String {
    fs::read_to_string(directory(name).join("bitbucket-pipelines.yml")).unwrap()
}

/// Programs that stand for those of the step's image.
const STUBS: [(&str, &str); 3] = [
    ("apk", "#!/bin/sh\n"),
    ("pip", "#!/bin/sh\n"),
    (
        "psql",
        "#!/bin/bash\necho \"$PGUSER $PGDATABASE $PGPASSWORD ${*: -1}\"\nexec cat <\"/dev/tcp/$PGHOST/$PGPORT\"\n",
    ),
];

/// A clone of a repository that has the files of an example.
struct Example {
    name: &'static str,
    step: Step,
    /// The programs of the step's image, and the directory `/srv/app` of the node.
    programs: tempfile::TempDir,
    there: tempfile::TempDir,
}

impl Example {
    /// Copies the example into the step, with the names of this cluster, and with the changes of the story.
    fn new(name: &'static str, cluster: &Testcluster, step: Step, changes: &[(&str, &str)]) -> Self {
        let step = step.without("PROXY_SERVER").without("TOKEN").env("DB_PASSWORD", "secret");
        let (programs, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (login, proxy) = (cluster.node_login(), cluster.proxy_addr());
        let there_name = there.path().display().to_string();
        let mut all = changes.to_vec();
        let (at, user) = (format!("{login}@"), format!("ansible_user={login}"));
        all.extend([("example.teleport.sh:443", proxy.as_str()), ("deploy@", &at), ("ansible_user=deploy", &user)]);
        all.extend([("/srv/app", there_name.as_str()), ("systemctl --user restart app", "echo restarted")]);
        copy(&directory(name), step.dir(), &all);
        let python = format!("#!/bin/sh\nexec {} -B \"$@\"\n", PYTHON.display());
        for (program, text) in STUBS.into_iter().chain([("python3", python.as_str())]) {
            let path = programs.path().join(program);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { name, step, programs, there }
    }

    /// Runs a part of the script.
    fn shell(&self, lines: &str) -> Output {
        let path = format!("PATH={}:$PATH\n", self.programs.path().display());
        self.step.run("bash", &["-e", "-c", &(path + lines)])
    }

    /// Runs the pipe with these variables. A value may be a variable of the step.
    fn pipe(&self, variables: &BTreeMap<String, String>) {
        let mut pipe = self.step.command(Step::binary(), &[]);
        for (name, value) in variables {
            pipe.env(name, value.strip_prefix('$').map_or(value.as_str(), |name| self.step.variable(name)));
        }
        let log = Output::run(&mut pipe).ok().stderr;
        assert!(!log.contains("warning"), "{}: {log}", self.name);
        assert!(!log.contains("guard"), "{}: {log}", self.name);
    }

    /// Runs all steps, and returns what their scripts print.
    fn run(&self, shell: impl Fn(&str) -> Output) -> String {
        let text = fs::read_to_string(self.step.dir().join("bitbucket-pipelines.yml")).unwrap();
        let mut printed = String::new();
        for (script, after) in items(&text, "script").into_iter().zip(items(&text, "after-script")) {
            let mut lines = String::new();
            for item in script {
                match item {
                    Item::Line(line) => lines += &(line + "\n"),
                    Item::Pipe(variables) => {
                        printed += &shell(&std::mem::take(&mut lines)).ok().stdout;
                        self.pipe(&variables);
                    }
                }
            }
            // One shell runs all lines after the pipe, as at Bitbucket.
            printed += &shell(&lines).ok().stdout;
            for item in after {
                let Item::Line(line) = item else { panic!("a pipe in the after-script of {}", self.name) };
                shell(&line).ok();
            }
        }
        assert!(!self.step.dir().join("tbot-user").exists());
        printed
    }

    /// Runs the example in a step that is like the one in the README.
    fn story(name: &'static str, changes: &[(&str, &str)]) -> (Self, String) {
        let cluster = Testcluster::start();
        let example = Self::new(name, &cluster, Step::new(&cluster), changes);
        let printed = example.run(|line| example.shell(line));
        (example, printed)
    }

    fn there(&self, name: &str) -> String {
        fs::read_to_string(self.there.path().join(name)).unwrap()
    }
}

/// Copies a directory of texts, with changes and with their permissions.
fn copy(from: &Path, to: &Path, changes: &[(&str, &str)]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied, changes);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = changes.iter().fold(text, |text, (original, replacement)| text.replace(original, replacement));
        fs::write(&copied, text).unwrap();
        fs::set_permissions(&copied, fs::metadata(&path).unwrap().permissions()).unwrap();
    }
}

fn every_example_has_a_story_and_the_same_form() {
    let stories: Vec<_> = stories().iter().map(|story| story.name().replace('_', "-")).collect();
    let readme = fs::read_to_string(directory("README.md")).unwrap();
    let names = fs::read_dir(directory("")).unwrap().map(|entry| entry.unwrap().path());
    let names: Vec<_> = names.filter(|path| path.join("bitbucket-pipelines.yml").is_file()).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names.iter().map(|path| path.file_name().unwrap().to_str().unwrap()) {
        assert!(stories.iter().any(|story| story.contains(&format!("::{name}-"))), "{name} has no story");
        assert!(readme.contains(&format!("* [{name}]({name}/bitbucket-pipelines.yml): ")), "{name}");
        let text = pipelines(name);
        let step = text.split("      - step:\n").find(|step| step.contains("- pipe: ")).unwrap();
        for line in
            ["deployment: production", "oidc: true", "script:", "after-script:\n            - rm -rf ./tbot-user\n"]
        {
            assert!(step.contains(&format!("\n          {line}")), "{name}: {line}");
        }
        for variable in
            ["PROXY_SERVER: 'example.teleport.sh:443'", "TOKEN: 'example-bot'", "LEAK_CHECK: 'error'", "TTL: '"]
        {
            assert!(step.contains(variable), "{name}: {variable}");
        }
    }
}

fn deploy_with_rsync_copies_the_site() {
    let (example, printed) = Example::story("deploy-with-rsync", &[]);
    assert_eq!(printed, "restarted\n");
    assert!(example.there("index.html").contains("Deployed by a pipeline"));
}

fn ansible_configures_a_node() {
    let (example, printed) = Example::story("ansible", &[]);
    assert!(printed.contains("changed=1"), "{printed}");
    assert_eq!(example.there("motd"), "Configured by a pipeline.\n");
}

fn database_migration_reaches_the_database() {
    let (database, local) = (format!("127.0.0.1:{}", serve("done\n")), free_port().to_string());
    // The path of a socket has a limit of length, and that of the clone directory is short enough.
    let changes = [("db.internal.example.com:5432", database.as_str()), ("15432", &local), ("/tmp/tunnel", "./tunnel")];
    let (_, printed) = Example::story("database-migration", &changes);
    let migration = |name: &str| format!("migrations/{name}\napp app secret migrations/{name}\ndone\n");
    assert_eq!(printed, migration("001-visits.sql") + &migration("002-index.sql"));
}

fn many_hosts_keeps_every_exit_status() {
    let cluster = Testcluster::start();
    let uuid = cluster.node_uuid().to_owned();
    let names = [("web-1.", "node."), ("web-2.", &format!("{uuid}.")), ("web-3.", "localhost.")];
    let example = Example::new("many-hosts", &cluster, Step::new(&cluster), &names);
    // The proxy of the testcluster knows its node by two names only.
    let [hosts, all] = ["hosts.txt", "all.txt"].map(|name| example.step.dir().join(name));
    fs::rename(&hosts, &all).unwrap();
    let text = fs::read_to_string(&all).unwrap();
    fs::write(
        &hosts,
        text.lines().filter(|line| !line.contains("localhost")).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    let login = cluster.node_login();
    let status = |status: u8, host: &str| format!("{status} {login}@{host}.example.teleport.sh");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let printed = example.run(|line| example.shell(line));
    let mut expected = vec![status(0, "node"), status(0, &uuid)];
    expected.sort();
    assert_eq!(sorted(&printed), expected);

    // The status of the command, and that of ssh.
    let mut pipe = example.step.command(Step::binary(), &[]);
    Output::run(pipe.env("PROXY_SERVER", cluster.proxy_addr()).env("TOKEN", cluster.token_name())).ok();
    let output = example.shell("./on-all-hosts all.txt 'echo trouble; exit 3'");
    assert_eq!(output.status, Some(1), "{output:?}");
    let mut expected = vec![status(3, "node"), status(3, &uuid), status(255, "localhost")];
    expected.sort();
    assert_eq!(sorted(&output.stdout), expected);
    for line in ["failed on 3 of 3 hosts:", &format!("{login}@node.example.teleport.sh: trouble")] {
        assert!(output.stderr.contains(line), "{output:?}");
    }
}

fn behind_a_proxy_works() {
    let cluster = Testcluster::builder().public_name("teleport.example.test").start();
    let forward_proxy = ForwardProxy::start(ForwardProxyKind::Http, ForwardProxyBehavior::Works);
    let step = Step::new(&cluster).without("SSL_CERT_FILE").env("HTTPS_PROXY", &forward_proxy.url());
    let example = Example::new("behind-a-proxy", &cluster, step, &[("# CA_FILE:", "CA_FILE:")]);
    fs::create_dir(example.step.dir().join("ci")).unwrap();
    fs::copy(cluster.web_ca_file(), example.step.dir().join("ci/company-ca.pem")).unwrap();
    let printed = example.run(|line| example.shell(line));
    assert!(printed.contains("load average"), "{printed}");
    assert!(forward_proxy.targets().len() > 1);
}

fn non_root_step_works() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    // As at Bitbucket, every user may write to the clone directory.
    fs::set_permissions(step.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let user = unprivileged_user();
    let uid = step.run(user[0], &[&user[1..], &["id", "-u"]].concat()).ok().stdout;
    let run_as = format!("run-as-user: {}", uid.trim_end());
    let example = Example::new("non-root-step", &cluster, step, &[("run-as-user: 1000", &run_as)]);
    let printed = example.run(|line| example.step.run(user[0], &[&user[1..], &["bash", "-e", "-c", line]].concat()));
    assert!(printed.contains("load average"), "{printed}");
}

fn fabric_deploys() {
    let (example, printed) = Example::story("fabric", &[]);
    assert_eq!(printed, "restarted\n");
    assert_eq!(example.there("app.conf"), "greeting = hello\n");
}

/// The line of the file that joins; GitHub Actions runs the pipe itself.
fn joining_line(file: &str) -> Option<&str> {
    let line = file.lines().find_map(|line| line.split_once("teleport-pipe join "))?.1;
    Some(line.trim_end_matches(['\'', '"']))
}

fn jobs_of_other_ci_systems_join_by_their_join_tokens() {
    for (name, file) in [
        ("github-actions", "deploy.yml"),
        ("gitlab-ci", ".gitlab-ci.yml"),
        ("circleci", "config.yml"),
        ("azure-devops", "azure-pipelines.yml"),
        ("jenkins", "Jenkinsfile"),
    ] {
        let token = fs::read_to_string(directory(name).join("bot-token.yaml")).unwrap();
        let token: Value = yaml_serde::from_str(&token).unwrap();
        let method = token["spec"]["join_method"].as_str().unwrap();
        let rules = token["spec"][method]["allow"].as_array().unwrap().iter().map(|rule| {
            let fields = rule.as_object().unwrap().iter();
            AllowRule::new(fields.map(|(field, value)| (field.clone(), value.as_str().unwrap().to_owned())))
        });
        let cluster = Testcluster::builder().join_method(method, rules.collect::<Vec<_>>()).start();
        let (step, _job) = job(&cluster, None);
        let text = fs::read_to_string(directory(name).join(file)).unwrap();
        assert!(text.contains("rm -rf ./tbot-user") && text.contains("ssh -F ./tbot-user/ssh_config "), "{name}");
        let output = match joining_line(&text) {
            Some(line) => {
                let line = line.replace("example.teleport.sh:443", &cluster.proxy_addr());
                step.product(&["join"].into_iter().chain(line.split_whitespace()).collect::<Vec<_>>())
            }
            None => step.pipe(),
        };
        assert_eq!(output.status, Some(0), "{name}: {}", output.stderr);
    }
}
