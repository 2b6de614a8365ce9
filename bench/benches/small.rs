//! What grows with its input: `known_hosts` and `ssh_config` with the number of leaf clusters, the identity file with the
//! number of CAs, and the leak check with the size of `bitbucket-pipelines.yml`.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use teleport_pipe::benchmarks::{Rendering, leak_check};
use teleport_pipe::parse_identity_file;

/// The leak check does not read a larger file.
const LIMIT: usize = 384 << 10;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEChAfPkFWHZ6uJFdNwjNdpKVqIrCJSbjKPjbGG7OV";

fn measure<I, O>(criterion: &mut Criterion, name: &str, size: usize, input: &I, function: impl Fn(&I) -> O) {
    criterion.bench_with_input(BenchmarkId::new(name, size), input, |bencher, input| {
        bencher.iter(|| function(black_box(input)));
    });
}

fn render(criterion: &mut Criterion) {
    // teleport-pipe refuses more than 500 clusters.
    for clusters in [1, 10, 100, 500] {
        let rendering = Rendering::new(clusters, KEY).expect("the names and the key are valid");
        measure(criterion, "known_hosts, clusters", clusters, &rendering, Rendering::known_hosts);
        measure(criterion, "ssh_config, clusters", clusters, &rendering, Rendering::ssh_config);
    }
}

fn parse(criterion: &mut Criterion) {
    for authorities in [1, 10, 100] {
        let text = identity(authorities);
        parse_identity_file(text.as_bytes()).map(drop).expect("it is an identity file");
        let parse = |text: &String| parse_identity_file(text.as_bytes()).map(drop);
        measure(criterion, "identity, CAs", authorities, &text, parse);
    }
}

/// A key, its certificate, and the certificates of CAs.
fn identity(authorities: usize) -> String {
    let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).expect("ring makes keys");
    let client = made("client");
    let mut text = client.signing_key.serialize_pem() + &client.cert.pem();
    for _ in 0..authorities {
        text += &made("authority").cert.pem();
    }
    text
}

fn guard(criterion: &mut Criterion) {
    for steps in [1, 10, 100, 1000, 1575, 40_000] {
        let text = pipelines(steps);
        let name =
            if text.len() > LIMIT { "leak check, bytes (not read: more than 384 KiB)" } else { "leak check, bytes" };
        let directory = tempfile::tempdir().expect("there is a temporary directory");
        let clone_dir = directory.path().canonicalize().expect("it has a path");
        fs::write(clone_dir.join("bitbucket-pipelines.yml"), &text).expect("it can be written");
        let variables = [("BITBUCKET_CLONE_DIR", clone_dir.to_str().expect("it is UTF-8"))];
        let destination = clone_dir.join("tbot-user");
        measure(criterion, name, text.len(), &destination, |destination| leak_check(&variables, destination));
    }
}

/// A pipeline of which each step runs the pipe.
fn pipelines(steps: usize) -> String {
    let mut text = "pipelines:\n  default:\n".to_owned();
    for number in 0..steps {
        write!(
            text,
            "    - step:\n        name: Deploy {number}\n        oidc: true\n        artifacts: ['dist/**']\n        script:\n          \
             - pipe: ORGANISATION/teleport-pipe:1.0.0\n          - rsync -a dist/ user@node:/srv/{number}\n          \
             - ./smoke-test --url https://node/{number}\n"
        )
        .expect("a string takes everything");
    }
    text
}

criterion_group!(benches, render, parse, guard);
criterion_main!(benches);
