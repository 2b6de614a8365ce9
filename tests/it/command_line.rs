//! What people type: commands, words of tbot, and mistakes.

use std::fmt::Write as _;

use expect_test::expect_file;
use testcluster::Testcluster;

use crate::harness::stories;
use crate::step::{Output, Step};

stories! {
    mistakes_are_explained,
    misspelt_values_get_the_nearest,
    help_is_printed_where_it_is_asked_for,
    without_arguments_in_a_shell_the_help_is_printed,
    a_missing_variable_is_explained_for_a_step_or_for_a_shell,
    join_is_what_the_pipe_does,
    join_takes_flags_instead_of_variables,
    errors_name_the_flag_that_was_given,
    flags_of_tbot_without_a_meaning_here_are_accepted,
    doctor_takes_the_address_as_an_argument,
    doctor_on_another_machine_reads_only_the_variables_of_the_network,
    inspect_takes_the_pipes_variables,
}

/// A machine that is not a step, without variables.
fn shell() -> Step {
    Step::empty().env("NO_COLOR", "1")
}

fn typed(step: &Step, line: &str) -> Output {
    step.product(&line.split_whitespace().collect::<Vec<_>>())
}

/// Each line ends with 2, prints nothing to stdout, and says where there is more.
fn mistakes_are_explained() {
    let lines = [
        // Files and services of tbot.
        "start --config-string=dmVyc2lvbjogdjI=",
        "start",
        "start legacy --destination-dir=/opt/machine-id",
        "start database --service=postgres --destination=./db",
        "start k8s/v2 --name-selector=prod",
        "start workload-identity-x509 --destination=./svid",
        "start ssh-multiplexer --destination=./ssh",
        "start noop --oneshot",
        "start identiy --oneshot",
        // Commands of tbot.
        "configure identity --destination=./x",
        "init --destination-dir=./x",
        "install systemd --write",
        "keypair create --storage=./x",
        "wait --diag-addr=127.0.0.1:3001",
        "db connect",
        "proxy app",
        "kube credentials",
        "copy-binaries /usr/local/bin",
        "tpm identify",
        "spiffe-inspect --path=unix:///x",
        // Flags of tbot.
        "start identity --oneshot --destination=./x --ca-pin=sha256:abc",
        "start identity --oneshot --destination=./x --insecure",
        "start identity --fips --oneshot --destination=./x",
        "start --destination-dir=./x --oneshot",
        "start identity --oneshot --registration-secret=abc",
        "start identity --oneshot --reader-user=deploy",
        "start identity --oneshot --destination=./x --log-format=json",
        // Misspelt words.
        "jion",
        "joins --token=x",
        "docter",
        "doctr example.teleport.sh:443",
        "clean-up",
        "inspekt",
        "completion bash",
        "man",
        "doctor --destinatoin=./x",
        "join --proxyserver=p:443",
        "start identity --oneshoot",
    ];
    let step = shell();
    let mut text = String::new();
    for line in lines {
        let output = typed(&step, line);
        assert_eq!((output.status, output.stdout.as_str()), (Some(2), ""), "{line}: {output:?}");
        let more = output.stderr.lines().last().unwrap();
        assert!(more.starts_with("        more: https://"), "{line}: {}", output.stderr);
        let _ = writeln!(text, "$ teleport-pipe {line}\n{}", step.scrubbed(&output.stderr));
    }
    expect_file!["golden/command_line.txt"].assert_eq(&text);
}

fn misspelt_values_get_the_nearest() {
    let cluster = Testcluster::start();
    for (variable, value, meant) in [
        ("ACTION", "jion", "join"),
        ("ACTION", "docter", "doctor"),
        ("ACTION", "clean-up", "cleanup"),
        ("LEAK_CHECK", "errror", "error"),
        ("LEAK_CHECK", "wran", "warn"),
        ("FORMAT", "jsno", "json"),
        ("FORMAT", "txt", "text"),
    ] {
        let output = Step::new(&cluster).env(variable, value).pipe();
        let expected = format!("error: {variable} is `{value}`, which is not ");
        assert!(output.status == Some(2) && output.stderr.contains(&expected), "{output:?}");
        assert!(output.stderr.contains(&format!("what to do: Did you mean `{meant}`? Write ")), "{output:?}");
    }
    for (scope, meant) in [("branhc", "branch"), ("deploymnet", "deployment"), ("repositry", "repository")] {
        let output = Step::new(&cluster).env("ACTION", "inspect").env("SCOPE", scope).pipe();
        assert!(output.status == Some(2) && output.stderr.contains(&format!("Did you mean `{meant}`?")), "{output:?}");
    }
    for (method, meant) in [("bitbuket", true), ("bitbucked", true), ("iam", false)] {
        let line =
            format!("start identity --oneshot --proxy-server=p --token=t --destination=d --join-method={method}");
        let output = typed(&shell(), &line);
        assert_eq!(output.status, Some(2), "{output:?}");
        assert_eq!(output.stderr.contains("Did you mean `bitbucket`? Write "), meant, "{output:?}");
    }
    let output = typed(&shell(), "doctor p --format=jsn");
    assert!(output.stderr.starts_with("error: --format is `jsn`, which is not text or json\n"), "{output:?}");
    assert!(output.stderr.contains("Did you mean `json`?") && output.status == Some(2), "{output:?}");
}

fn help_is_printed_where_it_is_asked_for() {
    for (line, part) in [
        ("help", "Variables of the pipe"),
        ("--help", "Variables of the pipe"),
        ("-h", "Variables of the pipe"),
        ("help doctor", "Usage: teleport-pipe doctor [OPTIONS] [PROXY_SERVER]"),
        ("doctor --help", "--destination"),
        ("help join", "--certificate-ttl"),
        ("help start identity", "--oneshot"),
    ] {
        let output = typed(&shell(), line).ok();
        assert!(output.stdout.contains(part) && output.stderr.is_empty(), "{line}: {output:?}");
    }
}

fn without_arguments_in_a_shell_the_help_is_printed() {
    // Variables of other programs do not make it a pipe.
    for step in [shell(), shell().env("HTTPS_PROXY", "http://proxy.example:3128").env("NO_PROXY", "localhost")] {
        let output = step.pipe();
        assert_eq!((output.status, output.stdout.as_str()), (Some(2), ""), "{output:?}");
        let (help, error) = output.stderr.split_once("\nerror: ").unwrap();
        assert!(help.contains("Usage: teleport-pipe") && help.contains("PROXY_SERVER (*)"), "{help}");
        assert!(error.starts_with("there is nothing to do: "), "{error}");
        assert!(error.contains("teleport-pipe doctor example.teleport.sh:443\n"), "{error}");
    }
}

fn a_missing_variable_is_explained_for_a_step_or_for_a_shell() {
    let in_a_step = "Set it under `variables:` of the pipe, or in the environment:\n";
    let in_a_shell = "Set it in the environment, or add the flag to `teleport-pipe join` or `doctor`:\n";
    for (step, name, remedy) in [
        (shell().env("CI", "true"), "PROXY_SERVER", in_a_step),
        (shell().env("BITBUCKET_BUILD_NUMBER", "1").env("TOKEN", "t"), "PROXY_SERVER", in_a_step),
        (shell().env("CI", "true").env("TELEPORT_PROXY", "p"), "TOKEN", in_a_step),
        (shell().env("TOKEN", "example-bot"), "PROXY_SERVER", in_a_shell),
        (shell().env("PROXY_SERVER", "p"), "TOKEN", in_a_shell),
        (shell().env("TELEPORT_PROXY", "p"), "TOKEN", in_a_shell),
        (shell().env("ACTION", "doctor"), "PROXY_SERVER", in_a_shell),
    ] {
        let output = step.pipe();
        assert_eq!(output.status, Some(2), "{output:?}");
        assert!(output.stderr.starts_with(&format!("error: {name} is not set\n  what to do: {remedy}")), "{output:?}");
    }
    for line in ["join", "join --token=t", "doctor"] {
        let output = typed(&shell(), line);
        assert!(output.stderr.contains(in_a_shell) && output.status == Some(2), "{output:?}");
    }
}

fn join_is_what_the_pipe_does() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    let as_pipe = step.scrubbed(&step.pipe().ok().stderr);
    let files = || -> Vec<_> {
        let mut names: Vec<_> = step.file(".").read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let names = files();
    let as_command = step.scrubbed(&typed(&step, "join").ok().stderr);
    assert_eq!((as_command, files()), (as_pipe, names));
    // Unknown files are refused, as by the pipe. ACTION is not read.
    std::fs::write(step.file("mine"), "").unwrap();
    let output = typed(&step.env("ACTION", "cleanup"), "join");
    assert!(output.status == Some(6) && output.stderr.contains("mine"), "{output:?}");
}

fn join_takes_flags_instead_of_variables() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    let proxy = step.variable("PROXY_SERVER").to_owned();
    let step =
        step.env("PROXY_SERVER", "other.example").env("TOKEN", "other").env("DESTINATION", "other").env("TTL", "1s");
    let token = cluster.token_name();
    let line =
        format!("join --proxy-server={proxy} --token={token} --destination=creds --certificate-ttl=2h --timeout=30s");
    typed(&step, &line).ok();
    assert!(step.dir().join("creds/ssh_config").is_file() && !step.dir().join("other").exists());
}

fn errors_name_the_flag_that_was_given() {
    let step = shell().env("PROXY_SERVER", "p").env("TOKEN", "t");
    for (line, error) in [
        ("join --certificate-ttl=60", "--certificate-ttl is `60`, which has no unit"),
        ("join --timeout=0s", "--timeout is `0s`, which is not between"),
        ("join --destination=~/x", "--destination is `~/x`, which "),
        ("doctor http://p", "the argument is `http://p`, which "),
        ("doctor --proxy-server=http://p", "--proxy-server is `http://p`, which "),
        ("doctor p --format=yaml", "--format is `yaml`, which is not text or json"),
    ] {
        let output = typed(&step, line);
        assert!(
            output.status == Some(2) && output.stderr.starts_with(&format!("error: {error}")),
            "{line}: {output:?}"
        );
    }
    let output = typed(&step.env("TTL", "60"), "join --timeout=9s");
    assert!(output.stderr.starts_with("error: TTL is `60`, which has no unit"), "{output:?}");
}

fn flags_of_tbot_without_a_meaning_here_are_accepted() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    let (proxy, token) = (step.variable("PROXY_SERVER").to_owned(), cluster.token_name());
    let line = format!("start identity --oneshot --destination=./creds --proxy-server={proxy} --token={token}");
    for more in ["--no-anonymous-telemetry", "--anonymous-telemetry --renewal-interval=20m", "--log-format=text"] {
        typed(&step, &format!("{line} {more}")).ok();
    }
}

fn doctor_takes_the_address_as_an_argument() {
    let cluster = Testcluster::start();
    let ca = cluster.web_ca_file().to_str().unwrap().to_owned();
    let (step, proxy) = (shell().env("SSL_CERT_FILE", &ca), cluster.proxy_addr());
    for line in [format!("doctor {proxy}"), format!("doctor {proxy} --proxy-server={proxy}")] {
        let output = typed(&step, &line).ok();
        assert!(output.stdout.contains(&format!(", checking {proxy}\n")), "{output:?}");
        assert!(output.stdout.contains("   -  destination        not looked at: neither --destination"), "{output:?}");
    }
    // The argument counts before the variable.
    typed(&step.env("PROXY_SERVER", "p.invalid"), &format!("doctor {proxy}")).ok();
    for other in ["p:1", "other.example:443"] {
        let output = typed(&shell(), &format!("doctor {proxy} --proxy-server={other}"));
        let error = format!("error: --proxy-server is `{other}`, which differs from the argument `{proxy}`\n");
        assert!(output.status == Some(2) && output.stderr.starts_with(&error), "{output:?}");
    }
}

fn doctor_on_another_machine_reads_only_the_variables_of_the_network() {
    let cluster = Testcluster::start();
    let ca = cluster.web_ca_file().to_str().unwrap().to_owned();
    let variables = [
        ("TTL", "3600"),
        ("TIMEOUT", "30"),
        ("TOKEN", "a b"),
        ("FORMAT", "pretty"),
        ("CLUSTER", "a b"),
        ("SSH_AGENT", "/tmp/agent"),
        ("DEBUG", "app:*"),
    ];
    let step = variables.into_iter().fold(shell(), |step, (name, value)| step.env(name, value));
    let step = step.env("PROXY_SERVER", &cluster.proxy_addr()).env("CA_FILE", &ca);
    let output = step.product(&["doctor"]).ok();
    assert!(output.stdout.contains("Everything up to the join works."), "{}", output.stdout);
    // In a step they are the pipe's.
    let output = step.env("CI", "true").product(&["doctor"]);
    assert_eq!(output.status, Some(2), "{}", output.stderr);
}

fn inspect_takes_the_pipes_variables() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("LOGINS", "ops").env("NODE_LABELS", "env=prod").env("SCOPE", "workspace");
    let output = step.product(&["inspect"]).ok();
    assert!(output.stdout.contains("logins: ['ops']") && output.stdout.contains("'env': 'prod'"), "{}", output.stdout);
    assert!(output.stdout.contains(" answered:\n"), "{}", output.stdout);
    let output = step.product(&["inspect", "--logins=a", "--logins=b,c", "--node-labels=x=y"]).ok();
    assert!(output.stdout.contains("['a', 'b', 'c']") && !output.stdout.contains("prod"), "{}", output.stdout);
    for logins in ["${LOGINS}", "deploy backup", "deploy;rm -rf /", "-l"] {
        let output = Step::new(&cluster).env("ACTION", "inspect").env("LOGINS", logins).pipe();
        assert!(output.status == Some(2) && output.stderr.contains("error: LOGINS is "), "{logins}: {}", output.stderr);
    }
}
