//! No output contains an ID token, a key or a certificate, at the highest verbosity, however a run ends.

use std::path::Path;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use testcluster::{Builder, Exchange, JoinService, Lie, Testcluster};

use crate::failure::Failure;
use crate::harness::stories;
use crate::machine::{STRACE, TIME, pipe_with};
use crate::step::{Output, Step};
use crate::{forward_proxy, guard, load_balancers, network, refusals};

stories! {
    a_successful_run_prints_no_secret,
    inspect_prints_no_secret,
    doctor_prints_no_secret,
    a_failed_run_prints_no_secret needs TIME,
    a_run_that_waits_for_another_prints_no_secret needs TIME,
    a_run_on_a_full_disk_prints_no_secret needs STRACE,
    a_token_as_a_wrong_argument_is_not_printed,
    no_program_is_started needs STRACE,
    no_piece_of_the_id_token_that_a_server_quotes_is_printed needs TIME,
    a_planted_secret_is_found,
}

/// Twelve characters of base64 are 72 bits, so a match is not a coincidence.
const WINDOW: usize = 12;

/// Texts of which no output may contain [`WINDOW`] successive characters.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// The ID tokens and the credentials of forward proxies in the variables of the step, also in base64.
    pub(crate) fn from_step(step: &Step) -> Self {
        let mut secrets = Self::default();
        step.values().filter(|value| value.starts_with("eyJ")).for_each(|token| secrets.add_token(token));
        let users = step.values().filter_map(|url| url.split_once("://")?.1.rsplit_once('@'));
        users.for_each(|(credentials, _)| secrets.add_credentials(credentials));
        secrets
    }

    fn add_token(&mut self, token: &str) {
        self.0.extend(token.split('.').map(str::to_owned));
        self.0.push(Base64::encode_string(token.as_bytes()));
        self.0.push(Base64UrlUnpadded::encode_string(token.as_bytes()));
        self.0.push(token.bytes().map(|byte| format!("{byte:02x}")).collect());
    }

    /// Adds `user:password` in three forms: as in a URL, plain, and as in a header.
    fn add_credentials(&mut self, encoded: &str) {
        let parts = encoded.split('%').collect::<Vec<_>>();
        let plain = parts.iter().skip(1).fold(parts[0].to_owned(), |plain, part| {
            plain + &char::from(u8::from_str_radix(&part[..2], 16).unwrap()).to_string() + &part[2..]
        });
        let passwords = [encoded, &plain].map(|text| text.split_once(':').unwrap().1.to_owned());
        self.0.extend(passwords);
        self.0.push(Base64::encode_string(plain.as_bytes()));
    }

    /// Adds the keys and certificates in the destination: all long words of base64.
    pub(crate) fn add_files(&mut self, directory: &Path) {
        for entry in std::fs::read_dir(directory).unwrap() {
            // The copy of the program is not a text.
            let Ok(text) = std::fs::read_to_string(entry.unwrap().path()) else { continue };
            let base64 = |word: &&str| word.len() >= 40 && word.chars().all(is_base64);
            self.0.extend(text.split(|c: char| !is_base64(c)).filter(base64).map(str::to_owned));
        }
    }

    /// Returns a piece of a secret that the text contains. The comparison ignores case, because host names lose it.
    fn find_in(&self, text: &str) -> Option<&str> {
        let text = text.to_lowercase();
        let windows = |secret| (0..=str::len(secret) - WINDOW).map(move |at| &secret[at..at + WINDOW]);
        let secrets = self.0.iter().filter(|secret| secret.len() >= WINDOW);
        secrets.flat_map(|secret| windows(secret)).find(|window| text.contains(&window.to_lowercase()))
    }

    #[track_caller]
    pub(crate) fn check(&self, output: &Output, what: &str) {
        for text in [&output.stdout, &output.stderr] {
            assert_eq!(self.find_in(text), None, "{what}:\n{text}");
            assert_eq!(suspicious(text), None, "{what}:\n{text}");
        }
    }
}

/// Returns text that looks like a key or a certificate, even an unknown one.
fn suspicious(text: &str) -> Option<&str> {
    let labels = ["-----BEGIN", "-cert-v01@openssh.com"].into_iter().find(|label| text.contains(label));
    labels.or_else(|| text.split(|c: char| !is_base64(c)).find(|word| word.len() >= 48))
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}

/// The step with every variable that makes a program more verbose.
fn with_debug(step: Step) -> Step {
    step.env("DEBUG", "true").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full")
}

fn a_successful_run_prints_no_secret() {
    for service in [JoinService::Present, JoinService::Absent] {
        let cluster = Testcluster::builder().join_service(service).start();
        let step = with_debug(Step::new(&cluster));
        let mut secrets = Secrets::from_step(&step);
        let output = step.product(&["-d"]).ok();
        secrets.add_files(&step.dir().join("tbot-user"));
        assert!(secrets.0.iter().any(|secret| secret.starts_with("MI")), "the private key is among the secrets");
        secrets.check(&output, "the pipe");
        let output = step.ssh(&[&Step::node(&cluster), "true"]).ok();
        secrets.check(&output, "the ProxyCommand");
    }
}

fn inspect_prints_no_secret() {
    let cluster = Testcluster::start();
    // `inspect` prints claims, but not a token in a claim.
    let token = cluster.step_token();
    let claims = cluster.mint(|claims| {
        claims.insert("branchName".into(), token.clone().into());
        claims.insert("aud".into(), token.clone().into());
    });
    let step = with_debug(Step::new(&cluster)).env("ACTION", "inspect").env("BITBUCKET_STEP_OIDC_TOKEN", &claims);
    let mut secrets = Secrets::from_step(&step);
    secrets.add_token(&token);
    for step in [step, with_debug(Step::new(&cluster)).env("ACTION", "inspect").env("LOGINS", &token)] {
        let output = step.product(&["-d"]).ok();
        assert!(output.stdout.contains("kind: token"), "{}", output.stdout);
        secrets.check(&output, "inspect");
    }
}

fn doctor_prints_no_secret() {
    let cluster = Testcluster::start();
    let step = with_debug(Step::new(&cluster)).env("ACTION", "doctor");
    let mut secrets = Secrets::from_step(&step);
    secrets.0.push("pass-of-the-forward-proxy".to_owned());
    let proxied = with_debug(Step::new(&cluster)).env("ACTION", "doctor").env("TIMEOUT", "3s");
    let proxied = proxied
        .env("PROXY_SERVER", "name.invalid:443")
        .env("HTTPS_PROXY", "http://me:pass-of-the-forward-proxy@localhost:1");
    for (step, status) in [(step, 0), (proxied, 5)] {
        let output = step.product(&["-d"]);
        assert_eq!(output.status, Some(status), "{output:?}");
        assert!(output.stdout.contains("ID token           found"), "{}", output.stdout);
        secrets.check(&output, "doctor");
        // The claims of the token are not printed, either.
        assert!(!output.stdout.contains(testcluster::WORKSPACE_UUID), "{}", output.stdout);
    }
}

fn every_failure() -> Vec<Failure> {
    let mut all = refusals::variables();
    all.extend(refusals::flags());
    all.extend(guard::failures());
    all.extend(refusals::scopes());
    all.extend(refusals::id_tokens());
    all.extend(refusals::joins());
    all.extend(refusals::certificates());
    all.extend(network::permanent_failures());
    all.extend(load_balancers::permanent_failures());
    all.extend(network::retried_failures());
    all.extend(network::hanging_failures());
    all.extend(forward_proxy::permanent_failures());
    all.extend(forward_proxy::retried_failures());
    all.extend(forward_proxy::hanging_failures());
    all
}

fn a_failed_run_prints_no_secret() {
    for failure in every_failure() {
        let (_cluster, step) = failure.prepare();
        let step = match failure.name {
            "debug-maybe" => step,
            // More retries would not print other texts.
            _ if failure.exit == 5 => with_debug(step).env("TIMEOUT", "1s"),
            _ => with_debug(step),
        };
        // The error is printed as text, and as JSON where there is that format.
        let step = if failure.name.starts_with("scope-") { step } else { step.env("FORMAT", "json") };
        let output = failure.run(&step, &["-d"]);
        assert_eq!(output.status, Some(failure.exit), "{}: {}", failure.name, output.stderr);
        Secrets::from_step(&step).check(&output, failure.name);
    }
}

/// The cluster issues everything, and then the files cannot be written.
fn a_run_that_waits_for_another_prints_no_secret() {
    let cluster = Testcluster::start();
    let step = with_debug(Step::new(&cluster)).env("TIMEOUT", "12s");
    std::fs::create_dir(step.dir().join("tbot-user")).unwrap();
    let directory = std::fs::File::open(step.dir().join("tbot-user")).unwrap();
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let output = step.product(&["-d"]);
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    assert!(cluster.calls().iter().any(|call| call.name.ends_with("/GenerateUserCerts")));
    Secrets::from_step(&step).check(&output, "another run has the lock");
}

/// The files cannot be written, because the disk is full.
fn a_run_on_a_full_disk_prints_no_secret() {
    let cluster = Testcluster::start();
    let step = with_debug(Step::new(&cluster));
    let output = pipe_with(&step, "fsync", "error=ENOSPC:when=3");
    assert_eq!(output.status, Some(6), "{}", output.stderr);
    Secrets::from_step(&step).check(&output, "the disk is full");
}

fn a_token_as_a_wrong_argument_is_not_printed() {
    let cluster = Testcluster::start();
    let step = with_debug(Step::new(&cluster));
    let token = step.variable("BITBUCKET_STEP_OIDC_TOKEN").to_owned();
    let secrets = Secrets::from_step(&step);
    let run = |args: &[&str]| {
        let output = step.product(args);
        assert!(matches!(output.status, Some(2..=6)), "{args:?}: {output:?}");
        secrets.check(&output, "a token as a wrong argument");
    };
    run(&[&token]);
    run(&["start", &token]);
    run(&["start", "identity", &token]);
    run(&["start", "identity", &format!("--tokn={token}")]);
    let valid =
        ["--proxy-server=name.invalid", "--token=t", "--destination=./d", "--timeout=1s", "--join-method=bitbucket"];
    for flag in ["--proxy-server", "--token", "--destination", "--timeout", "--join-method", "--storage"] {
        let wrong = format!("{flag}={token}");
        let others = valid.iter().copied().filter(|other| !other.starts_with(flag));
        let args: Vec<_> = ["-d", "start", "identity", "--oneshot", &wrong].into_iter().chain(others).collect();
        run(&args);
    }
}

/// A child would inherit the environment, with the ID token in it. (Only the `command` of a tbot.yaml may.)
fn no_program_is_started() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    for args in [&[][..], &["inspect"], &["doctor"], &["cleanup"]] {
        let step = Step::new(&cluster).env("TELEPORT_PROXY", &cluster.proxy_addr());
        let trace = step.dir().join("trace");
        let strace = [
            "-fqqq",
            "--signal=none",
            "-o",
            trace.to_str().unwrap(),
            "-e",
            "trace=execve,execveat",
            "--",
            Step::binary(),
        ];
        step.run("strace", &[&strace, args].concat()).ok();
        let trace = std::fs::read_to_string(trace).unwrap();
        assert_eq!(trace.lines().count(), 1, "{args:?}: {trace}");
    }
    // What others see of the ProxyCommand is its command line, which is in this file.
    step.pipe().ok();
    let config = std::fs::read_to_string(step.file("ssh_config")).unwrap();
    assert_eq!(Secrets::from_step(&step).find_in(&config), None);
    assert_eq!(suspicious(&config), None);
}

/// What a server makes of the ID token: two texts, because a text of a server is cut after 300 characters.
fn quotes(token: &str, first: bool) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let (payload, signature) = (&parts[1][40..60], &parts[2][..20]);
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    match first {
        true => [
            signature.to_owned(),
            payload.to_owned(),
            token[4..30].to_owned(),
            signature.to_uppercase(),
            signature.chars().rev().collect(),
            format!("{signature}.{payload}"),
        ]
        .join(" "),
        false => [
            hex(signature),
            hex(payload).to_uppercase(),
            Base64::encode_string(signature.as_bytes()),
            Base64UrlUnpadded::encode_string(&payload.as_bytes()[1..]),
            signature.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        ]
        .join(" "),
    }
}

/// Runs of twelve characters of the token that are in the text, plain or encoded.
fn pieces(token: &str, text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let windows = token.as_bytes().windows(12);
    let forms = windows.flat_map(|window| {
        let plain = std::str::from_utf8(window).unwrap().to_lowercase();
        let hex: String = window.iter().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = window.iter().map(|byte| format!("%{byte:02x}")).collect();
        let base64 = Base64::encode_string(window).to_lowercase();
        let reversed = plain.chars().rev().collect();
        [plain, reversed, hex, percent, base64]
    });
    forms.filter(|form| text.contains(form)).collect()
}

/// F11: the log of a step has more readers than the cluster, which knows the token anyway.
fn no_piece_of_the_id_token_that_a_server_quotes_is_printed() {
    let by_rest: fn(Builder) -> Builder = |cluster| cluster.join_service(JoinService::Absent);
    let honest: fn(Builder) -> Builder = |cluster| cluster;
    for (exchange, change) in [
        (Exchange::Find, honest),
        (Exchange::OidcInit, honest),
        (Exchange::OidcInit, by_rest),
        (Exchange::GetRole, honest),
        (Exchange::HostAuthorities, honest),
        (Exchange::UserCerts, honest),
    ] {
        for first in [true, false] {
            let cluster = Testcluster::builder();
            // Discovery may come before the join, so that the cluster does not know the token yet: it is minted outside.
            let known = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
            let shared = known.clone();
            let lie = Lie::refusal(exchange, move |_| format!("no: {}", quotes(&shared.lock().unwrap(), first)));
            let cluster = change(cluster).lie(lie).start();
            let step = Step::new(&cluster).env("DEBUG", "true").env("TIMEOUT", "20s");
            let token = step.variable("BITBUCKET_STEP_OIDC_TOKEN").to_owned();
            known.lock().unwrap().clone_from(&token);
            let output = step.pipe();
            assert!(output.status != Some(0) && output.stderr.contains("no: "), "{exchange:?}: {}", output.stderr);
            assert_eq!(pieces(&token, &output.stderr), [""; 0], "{exchange:?} {first}: {}", output.stderr);
        }
    }
}

/// The other tests would find a leak.
fn a_planted_secret_is_found() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    let token = step.variable("BITBUCKET_STEP_OIDC_TOKEN");
    let mut secrets = Secrets::from_step(&step);
    let log = step.pipe().ok().stderr;
    let planted = |canary: &str| format!("{log}(debug) {canary} was sent\n");
    assert_eq!(secrets.find_in(&planted("nothing")), None);
    for (at, part) in token.split('.').enumerate() {
        assert!(secrets.find_in(&planted(&part[20..20 + WINDOW])).is_some(), "part {at}");
        assert!(secrets.find_in(&planted(&part.to_lowercase())).is_some(), "part {at} as a host name");
    }
    assert!(secrets.find_in(&planted(&Base64::encode_string(token.as_bytes()))).is_some());

    let key = std::fs::read_to_string(step.file("key")).unwrap();
    let body = key.lines().nth(2).unwrap();
    assert_eq!(secrets.find_in(&planted(body)), None);
    assert!(suspicious(&planted(body)).is_some() && suspicious(&planted("nothing")).is_none());
    secrets.add_files(&step.dir().join("tbot-user"));
    assert!(secrets.find_in(&planted(&body[..WINDOW])).is_some());
    let certificate = std::fs::read_to_string(step.file("key-cert.pub")).unwrap();
    let body = certificate.split(' ').nth(1).unwrap();
    assert!(secrets.find_in(&planted(&body[200..200 + WINDOW])).is_some());
}
