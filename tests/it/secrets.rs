//! No secret in any output, at the highest verbosity, however a run ends: the ID token, keys, certificates.

use std::path::Path;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use testcluster::{JoinService, Testcluster};

use crate::failure::Failure;
use crate::harness::stories;
use crate::machine::{STRACE, TIME, pipe_with};
use crate::step::{Said, Step};
use crate::{forward_proxy, guard, load_balancers, network, refusals};

stories! {
    not_in_success,
    not_in_what_inspect_shows,
    not_in_what_doctor_shows,
    not_in_any_failure needs TIME,
    not_when_the_certificates_are_there needs TIME,
    not_when_the_disk_is_full needs STRACE,
    not_where_the_token_is_given_in_the_wrong_place,
    a_canary_is_seen,
}

/// Twelve characters of base64 are 72 bits: more than chance, and less than anybody would want to see.
const WINDOW: usize = 12;

/// Texts that must not be seen, not even [`WINDOW`] characters of them.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Every ID token in the variables of the step, and the same once more in base64.
    pub(crate) fn of(step: &Step) -> Self {
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
    }

    /// `user:password` as a URL has it, plain, and as a header has it.
    fn add_credentials(&mut self, encoded: &str) {
        let parts = encoded.split('%').collect::<Vec<_>>();
        let plain = parts.iter().skip(1).fold(parts[0].to_owned(), |plain, part| {
            plain + &char::from(u8::from_str_radix(&part[..2], 16).unwrap()).to_string() + &part[2..]
        });
        let passwords = [encoded, &plain].map(|text| text.split_once(':').unwrap().1.to_owned());
        self.0.extend(passwords);
        self.0.push(Base64::encode_string(plain.as_bytes()));
    }

    /// Everything in the destination's files that is base64 of some length: keys and certificates.
    fn add_files(&mut self, directory: &Path) {
        for entry in std::fs::read_dir(directory).unwrap() {
            // The copy of the program is no text.
            let Ok(text) = std::fs::read_to_string(entry.unwrap().path()) else { continue };
            let base64 = |word: &&str| word.len() >= 40 && word.chars().all(is_base64);
            self.0.extend(text.split(|c: char| !is_base64(c)).filter(base64).map(str::to_owned));
        }
    }

    /// A piece of a secret that is in the text. Upper and lower case do not matter: host names lose it.
    fn seen_in(&self, text: &str) -> Option<&str> {
        let text = text.to_lowercase();
        let windows = |secret| (0..=str::len(secret) - WINDOW).map(move |at| &secret[at..at + WINDOW]);
        let secrets = self.0.iter().filter(|secret| secret.len() >= WINDOW);
        secrets.flat_map(|secret| windows(secret)).find(|window| text.contains(&window.to_lowercase()))
    }

    #[track_caller]
    pub(crate) fn check(&self, said: &Said, what: &str) {
        for text in [&said.stdout, &said.stderr] {
            assert_eq!(self.seen_in(text), None, "{what}:\n{text}");
            assert_eq!(suspicious(text), None, "{what}:\n{text}");
        }
    }
}

/// What looks like a key or a certificate, whoever's it is.
fn suspicious(text: &str) -> Option<&str> {
    let labels = ["-----BEGIN", "-cert-v01@openssh.com"].into_iter().find(|label| text.contains(label));
    labels.or_else(|| text.split(|c: char| !is_base64(c)).find(|word| word.len() >= 48))
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}

/// The step as somebody in despair sets it up.
fn loud(step: Step) -> Step {
    step.env("DEBUG", "true").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full")
}

fn not_in_success() {
    for service in [JoinService::Present, JoinService::Absent] {
        let cluster = Testcluster::builder().join_service(service).start();
        let step = loud(Step::of(&cluster));
        let mut secrets = Secrets::of(&step);
        let said = step.product(&["-d"]).ok();
        secrets.add_files(&step.dir().join("tbot-user"));
        assert!(secrets.0.iter().any(|secret| secret.starts_with("MI")), "the private key is among the secrets");
        secrets.check(&said, "the pipe");
        let said = step.ssh(&[&Step::node(&cluster), "true"]).ok();
        secrets.check(&said, "the ProxyCommand");
    }
}

fn not_in_what_inspect_shows() {
    let cluster = Testcluster::start();
    // Its claims are shown; a token among them is not.
    let token = cluster.step_token();
    let claims = cluster.mint(|claims| {
        claims.insert("branchName".into(), token.clone().into());
        claims.insert("aud".into(), token.clone().into());
    });
    let step = loud(Step::of(&cluster)).env("ACTION", "inspect").env("BITBUCKET_STEP_OIDC_TOKEN", &claims);
    let mut secrets = Secrets::of(&step);
    secrets.add_token(&token);
    for step in [step, loud(Step::of(&cluster)).env("ACTION", "inspect").env("LOGINS", &token)] {
        let said = step.product(&["-d"]).ok();
        assert!(said.stdout.contains("kind: token"), "{}", said.stdout);
        secrets.check(&said, "inspect");
    }
}

fn not_in_what_doctor_shows() {
    let cluster = Testcluster::start();
    let step = loud(Step::of(&cluster)).env("ACTION", "doctor");
    let mut secrets = Secrets::of(&step);
    secrets.0.push("pass-of-the-gateway".to_owned());
    let behind = loud(Step::of(&cluster)).env("ACTION", "doctor").env("TIMEOUT", "3s");
    let behind =
        behind.env("PROXY_SERVER", "name.invalid:443").env("HTTPS_PROXY", "http://me:pass-of-the-gateway@localhost:1");
    for (step, status) in [(step, 0), (behind, 5)] {
        let said = step.product(&["-d"]);
        assert_eq!(said.status, Some(status), "{said:?}");
        assert!(said.stdout.contains("ID token           found"), "{}", said.stdout);
        secrets.check(&said, "doctor");
        // Nor what the token says.
        assert!(!said.stdout.contains(testcluster::WORKSPACE_UUID), "{}", said.stdout);
    }
}

fn every_failure() -> Vec<Failure> {
    let mut all = refusals::variables();
    all.extend(refusals::flags());
    all.extend(guard::stops());
    all.extend(refusals::scopes());
    all.extend(refusals::id_tokens());
    all.extend(refusals::joins());
    all.extend(refusals::certificates());
    all.extend(network::final_ones());
    all.extend(load_balancers::final_ones());
    all.extend(network::stubborn_ones());
    all.extend(network::silent_ones());
    all.extend(forward_proxy::final_ones());
    all.extend(forward_proxy::stubborn_ones());
    all.extend(forward_proxy::silent_ones());
    all
}

fn not_in_any_failure() {
    for failure in every_failure() {
        let (_cluster, step) = failure.prepare();
        let step = match failure.name {
            "debug-maybe" => step,
            // Seconds of trying again would add nothing.
            _ if failure.exit == 5 => loud(step).env("TIMEOUT", "1s"),
            _ => loud(step),
        };
        let said = failure.run(&step, &["-d"]);
        assert_eq!(said.status, Some(failure.exit), "{}: {}", failure.name, said.stderr);
        Secrets::of(&step).check(&said, failure.name);
    }
}

/// Everything was issued, and then it cannot be written.
fn not_when_the_certificates_are_there() {
    let cluster = Testcluster::start();
    let step = loud(Step::of(&cluster)).env("TIMEOUT", "12s");
    std::fs::create_dir(step.dir().join("tbot-user")).unwrap();
    let directory = std::fs::File::open(step.dir().join("tbot-user")).unwrap();
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let said = step.product(&["-d"]);
    assert_eq!(said.status, Some(6), "{}", said.stderr);
    assert!(cluster.calls().iter().any(|call| call.name.ends_with("/GenerateUserCerts")));
    Secrets::of(&step).check(&said, "another run has the lock");
}

/// The same, on a disk that is full.
fn not_when_the_disk_is_full() {
    let cluster = Testcluster::start();
    let step = loud(Step::of(&cluster));
    let said = pipe_with(&step, "fsync", "error=ENOSPC:when=3");
    assert_eq!(said.status, Some(6), "{}", said.stderr);
    Secrets::of(&step).check(&said, "the disk is full");
}

fn not_where_the_token_is_given_in_the_wrong_place() {
    let cluster = Testcluster::start();
    let step = loud(Step::of(&cluster));
    let token = step.variable("BITBUCKET_STEP_OIDC_TOKEN").to_owned();
    let secrets = Secrets::of(&step);
    let run = |args: &[&str]| {
        let said = step.product(args);
        assert!(matches!(said.status, Some(2..=6)), "{args:?}: {said:?}");
        secrets.check(&said, "a token in the wrong place");
    };
    run(&[&token]);
    run(&["start", &token]);
    run(&["start", "identity", &token]);
    run(&["start", "identity", &format!("--tokn={token}")]);
    let good =
        ["--proxy-server=name.invalid", "--token=t", "--destination=./d", "--timeout=1s", "--join-method=bitbucket"];
    for flag in ["--proxy-server", "--token", "--destination", "--timeout", "--join-method", "--storage"] {
        let wrong = format!("{flag}={token}");
        let others = good.iter().copied().filter(|good| !good.starts_with(flag));
        let args: Vec<_> = ["-d", "start", "identity", "--oneshot", &wrong].into_iter().chain(others).collect();
        run(&args);
    }
}

/// What these tests rest on: a leak would be found.
fn a_canary_is_seen() {
    let cluster = Testcluster::start();
    let step = Step::of(&cluster);
    let token = step.variable("BITBUCKET_STEP_OIDC_TOKEN");
    let mut secrets = Secrets::of(&step);
    let log = step.pipe().ok().stderr;
    let planted = |canary: &str| format!("{log}(debug) {canary} was sent\n");
    assert_eq!(secrets.seen_in(&planted("nothing")), None);
    for (at, part) in token.split('.').enumerate() {
        assert!(secrets.seen_in(&planted(&part[20..20 + WINDOW])).is_some(), "part {at}");
        assert!(secrets.seen_in(&planted(&part.to_lowercase())).is_some(), "part {at} as a host name");
    }
    assert!(secrets.seen_in(&planted(&Base64::encode_string(token.as_bytes()))).is_some());

    let key = std::fs::read_to_string(step.output("key")).unwrap();
    let body = key.lines().nth(2).unwrap();
    assert_eq!(secrets.seen_in(&planted(body)), None);
    assert!(suspicious(&planted(body)).is_some() && suspicious(&planted("nothing")).is_none());
    secrets.add_files(&step.dir().join("tbot-user"));
    assert!(secrets.seen_in(&planted(&body[..WINDOW])).is_some());
    let certificate = std::fs::read_to_string(step.output("key-cert.pub")).unwrap();
    let body = certificate.split(' ').nth(1).unwrap();
    assert!(secrets.seen_in(&planted(&body[200..200 + WINDOW])).is_some());
}
