//! Artifacts, caches and images that would take the keys out of the step.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use testcluster::Testcluster;

use crate::doctor::expect_same;
use crate::failure::{Failure, check};
use crate::harness::stories;
use crate::step::{Output, Step};

stories! {
    keys_that_would_leak_end_the_run,
    the_run_ends_before_the_first_request,
    leak_check_may_be_warn_or_off,
    a_harmless_step_gets_no_warnings,
    keys_that_the_after_script_removes_are_a_warning,
    a_leak_is_an_error_only_if_every_possible_step_leaks,
    the_step_that_runs_is_found_by_its_branch,
    a_dockerfile_needs_a_dockerignore,
    a_long_step_needs_keys_with_a_long_lifetime,
    bitbucket_collects_test_reports_by_itself,
    imported_pipelines_are_a_warning,
    without_the_file_one_line_says_so,
    commands_that_send_the_clone_directory_are_a_warning,
    an_id_token_in_an_artifact_is_a_warning,
    only_a_regular_file_is_read,
    a_hostile_file_does_not_stop_the_run,
}

const FILE: &str = "bitbucket-pipelines.yml";

/// A pipeline with one step that runs the pipe. `more` is appended.
fn pipelines(more: &str) -> String {
    format!(
        "pipelines:
  default:
    - step:
        oidc: true
        script:
          - pipe: docker://ghcr.io/example/teleport-pipe:1.0.0
            variables: {{ PROXY_SERVER: $PROXY_SERVER, TOKEN: 'example-bot' }}
          - ssh -F ./tbot-user/ssh_config user@node.example echo hello
{more}"
    )
}

const ALL_FILES: &str = "        artifacts:\n          - dist/**\n          - \"**\"\n";

/// A step whose clone directory has a harmless `bitbucket-pipelines.yml`, as a clone has.
pub(crate) fn with_pipelines(step: Step) -> Step {
    with_file(step, FILE, &pipelines(""))
}

/// Writes a file into the clone directory.
fn with_file(step: Step, name: &str, text: &str) -> Step {
    fs::write(step.dir().join(name), text).unwrap();
    step
}

/// Runs that end with an error of the guard.
pub(crate) fn failures() -> Vec<Failure> {
    let stop =
        |name, more: &'static str| Failure::new(name, 2).with(move |step, _| with_file(step, FILE, &pipelines(more)));
    let strict = |name, more: &'static str| {
        Failure::new(name, 2).with(move |step, _| with_file(step.env("LEAK_CHECK", "error"), FILE, &pipelines(more)))
    };
    vec![
        stop("artifacts-take-everything", ALL_FILES),
        stop("artifacts-with-names", "        artifacts: [{name: a, type: scoped, paths: [x, 'tbot-user/**']}]\n"),
        stop(
            "artifacts-to-upload",
            "        artifacts:\n          upload:\n            - {name: a, paths: ['*/**']}\n",
        ),
        stop("cache-of-everything", "        caches: [all]\ndefinitions:\n  caches:\n    all: .\n"),
        strict("artifacts-may-take-keys", "        artifacts: ['*']\n"),
        strict(
            "cache-may-take-keys",
            "        caches: [all]\ndefinitions: {caches: {all: {key: {files: [x]}, path: tbot-user/key}}}\n",
        ),
        strict(
            "command-sends-the-keys",
            "          - rsync -a -e 'ssh -F ./tbot-user/ssh_config' ./ deploy@web.example:/var/www/site/\n",
        ),
        // Field 4: the run does not go on without the check.
        Failure::new("leak-check-without-a-file", 2).env("LEAK_CHECK", "error"),
        Failure::new("leak-check-of-an-import", 2).with(|step, _| {
            with_file(step.env("LEAK_CHECK", "error"), FILE, "pipelines: {default: {import: 'shared:main:deploy'}}")
        }),
        Failure::new("leak-check-of-a-broken-file", 2)
            .with(|step, _| with_file(step.env("LEAK_CHECK", "error"), FILE, "pipelines: [")),
        Failure::new("destination-outside-of-clone-directory", 2)
            .with(|step, _| step.env("DESTINATION", "/tmp/nowhere/keys").env("LEAK_CHECK", "off")),
        Failure::new("destination-in-pipe-storage", 2).with(|step, _| {
            let storage = format!("{}/keys", step.variable("BITBUCKET_PIPE_STORAGE_DIR"));
            step.env("DESTINATION", &storage).env("LEAK_CHECK", "off")
        }),
        stop(
            "artifacts-with-escapes",
            "        artifacts: [\"\\e[31m\\u202e{**,**}\", '**/*', 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln']\n",
        ),
    ]
}

fn keys_that_would_leak_end_the_run() {
    check(failures());
    // `doctor` finds the same.
    for failure in failures() {
        let (_cluster, step) = failure.prepare();
        expect_same(&step.product(&["doctor"]), &step.pipe());
    }
}

/// The warnings of the guard in a run that succeeds.
#[track_caller]
fn warnings_of(step: &Step) -> String {
    warnings(step, &step.pipe().ok())
}

fn warnings(step: &Step, output: &Output) -> String {
    let stderr = step.scrubbed(&output.stderr);
    stderr.lines().filter(|line| line.starts_with("guard ")).map(|line| format!("{line}\n")).collect()
}

fn the_run_ends_before_the_first_request() {
    let cluster = Testcluster::start();
    let step = with_file(Step::new(&cluster), FILE, &pipelines(ALL_FILES));
    assert_eq!(step.pipe().status, Some(2));
    assert!(cluster.record().is_empty(), "{:?}", cluster.record());
    assert!(!step.dir().join("tbot-user").exists());
}

fn leak_check_may_be_warn_or_off() {
    let cluster = Testcluster::start();
    let step = with_file(Step::new(&cluster), FILE, &pipelines(ALL_FILES));
    let step = step.env("LEAK_CHECK", "warn");
    let warned = "guard         warning: artifacts of the step take the keys in `tbot-user`: bitbucket-pipelines.yml:11: - \"**\"; \
                  exclude it with ignore-paths: ['tbot-user/**']\n";
    assert_eq!(warnings_of(&step), warned);
    assert_eq!(warnings_of(&step.env("LEAK_CHECK", "off")), "");

    // tbot's command line prints the same warning.
    let step = with_file(Step::new(&cluster), FILE, &pipelines(ALL_FILES));
    let proxy = format!("--proxy-server={}", cluster.proxy_addr());
    let token = format!("--token={}", cluster.token_name());
    let args = ["start", "identity", "--oneshot", "--destination=./tbot-user", &proxy, &token];
    assert_eq!(warnings(&step, &step.product(&args).ok()), warned);
}

fn a_harmless_step_gets_no_warnings() {
    let cluster = Testcluster::start();
    let harmless = "        artifacts: [dist/**, '**/*.xml']\n        caches: [node, pip]\n        max-time: 60\n";
    assert_eq!(warnings_of(&with_file(Step::new(&cluster), FILE, &pipelines(harmless))), "");
    let left_out = "        artifacts: {upload: [{name: a, paths: ['**'], ignore-paths: ['tbot-user/**']}]}\n";
    assert_eq!(warnings_of(&with_file(Step::new(&cluster), FILE, &pipelines(left_out))), "");
    // Outside of Bitbucket no artifacts are collected.
    let outside_of_bitbucket =
        with_file(Step::new(&cluster), FILE, &pipelines(ALL_FILES)).without("BITBUCKET_CLONE_DIR");
    assert_eq!(warnings_of(&outside_of_bitbucket), "");
}

fn keys_that_the_after_script_removes_are_a_warning() {
    let cluster = Testcluster::start();
    for line in ["rm -rf ./tbot-user", "./tbot-user/teleport-pipe cleanup"] {
        let more = format!("        artifacts: ['**']\n        after-script:\n          - {line}\n");
        let step = with_file(Step::new(&cluster), FILE, &pipelines(&more)).env("LEAK_CHECK", "error");
        let warned = warnings_of(&step);
        assert!(warned.contains("['**']; unless the after-script removes them\n"), "{warned}");
    }
    let more = "        artifacts: ['**']\n        after-script: [./cleanup.sh]\n";
    let warned = warnings_of(&with_file(Step::new(&cluster), FILE, &pipelines(more)));
    assert!(warned.contains("may take") && warned.ends_with("ignore-paths: ['tbot-user/**']\n"), "{warned}");
    let more = "        artifacts: ['**']\n        after-script: [rm -rf ./other]\n";
    assert_eq!(with_file(Step::new(&cluster), FILE, &pipelines(more)).pipe().status, Some(2));
}

fn a_leak_is_an_error_only_if_every_possible_step_leaks() {
    let cluster = Testcluster::start();
    let one = "        artifacts: ['**']\n    - step: {oidc: true, script: [teleport-pipe]}\n";
    let step = with_file(Step::new(&cluster), FILE, &pipelines(one));
    let warned = warnings_of(&step);
    assert!(warned.contains("artifacts of the step may take the keys") && warned.contains(":9: "), "{warned}");
    let both = "        artifacts: ['**']\n    - step: {oidc: true, script: [teleport-pipe], artifacts: ['**/*']}\n";
    assert_eq!(with_file(step, FILE, &pipelines(both)).pipe().status, Some(2));
}

fn the_step_that_runs_is_found_by_its_branch() {
    let cluster = Testcluster::start();
    let branch = Step::new(&cluster).variable("BITBUCKET_BRANCH").to_owned();
    let step = |pattern: &str, artifacts: &str| {
        let default = pipelines("        artifacts: [x]\n");
        let branch = format!(
            "  branches:\n    '{pattern}': [{{step: {{script: [teleport-pipe], artifacts: ['{artifacts}']}}}}]\n"
        );
        with_file(Step::new(&cluster), FILE, &(default + &branch))
    };
    assert_eq!(step(&branch, "**").pipe().status, Some(2));
    assert_eq!(warnings_of(&step("other/*", "**")), "");
}

fn a_dockerfile_needs_a_dockerignore() {
    let cluster = Testcluster::start();
    let step = with_file(Step::new(&cluster), "Dockerfile", "FROM scratch\nCOPY . .\n");
    let step = with_pipelines(step);
    let warned = warnings_of(&step);
    assert!(warned.ends_with("add this line to .dockerignore: tbot-user\n"), "{warned}");
    assert_eq!(warnings_of(&with_file(step, ".dockerignore", "node_modules\ntbot-user\n")), "");
}

fn a_long_step_needs_keys_with_a_long_lifetime() {
    let cluster = Testcluster::start();
    let step = with_file(Step::new(&cluster), FILE, &pipelines("        max-time: 90\n"));
    assert_eq!(
        warnings_of(&step),
        "guard         warning: the step may run for 90 minutes, but the keys are valid for 1h (TTL): \
         bitbucket-pipelines.yml:9: max-time: 90; if it does, set TTL: '90m'\n"
    );
    assert_eq!(warnings_of(&step.env("TTL", "90m")), "");
}

fn bitbucket_collects_test_reports_by_itself() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("DESTINATION", "build/test-results");
    fs::create_dir(step.dir().join("build")).unwrap();
    let warned = warnings_of(&step);
    assert!(warned.contains("the destination `build/test-results` is in test-results"), "{warned}");
}

fn imported_pipelines_are_a_warning() {
    let cluster = Testcluster::start();
    let step = with_file(Step::new(&cluster), FILE, "pipelines: {default: {import: 'shared:main:deploy'}}");
    let warned = warnings_of(&step);
    assert!(warned.contains("this step is not in bitbucket-pipelines.yml, which imports other files"), "{warned}");
}

/// Field 4: a step with `clone: enabled: false` has no file.
fn without_the_file_one_line_says_so() {
    let cluster = Testcluster::start();
    let line = "guard         not checked: there is no bitbucket-pipelines.yml here (`clone: enabled: false`?)\n";
    assert_eq!(warnings_of(&Step::new(&cluster)), line);
    assert_eq!(warnings_of(&Step::new(&cluster).env("LEAK_CHECK", "warn")), line);
    assert_eq!(warnings_of(&Step::new(&cluster).env("LEAK_CHECK", "off")), "");
    assert_eq!(warnings_of(&Step::new(&cluster).without("BITBUCKET_CLONE_DIR")), "");
}

/// Field 7
fn commands_that_send_the_clone_directory_are_a_warning() {
    let cluster = Testcluster::start();
    let more = "          - rsync -a -e 'ssh -F ./tbot-user/ssh_config' ./ deploy@web.example:/var/www/site/\n";
    assert_eq!(
        warnings_of(&with_file(Step::new(&cluster), FILE, &pipelines(more))),
        "guard         warning: `rsync` sends the whole clone directory, and the keys in `tbot-user` with it: \
         bitbucket-pipelines.yml:9: - rsync -a -e 'ssh -F ./tbot-user/ssh_config' ./ deploy@web.example:/var/www/site/; \
         add --exclude=/tbot-user to it\n"
    );
    let more = more.replace("-a ", "-a --filter=':- .gitignore' ");
    assert_eq!(warnings_of(&with_file(Step::new(&cluster), FILE, &pipelines(&more))), "");
}

fn an_id_token_in_an_artifact_is_a_warning() {
    let cluster = Testcluster::start();
    let more = "          - echo $BITBUCKET_STEP_OIDC_TOKEN > token.txt\n        artifacts: ['*.txt']\n";
    let step = with_file(Step::new(&cluster).env("LEAK_CHECK", "error"), FILE, &pipelines(more));
    assert_eq!(
        warnings_of(&step),
        "guard         warning: artifacts of the step may take the ID token in `token.txt` (line 9): \
         bitbucket-pipelines.yml:10: artifacts: ['*.txt']; remove the file in the script, or write it outside of the clone \
         directory\n"
    );
}

fn only_a_regular_file_is_read() {
    let cluster = Testcluster::start();
    let unchecked = "guard         warning: bitbucket-pipelines.yml: it is not a regular file; artifacts and caches of this step \
                     were not checked\n";
    let step = with_file(Step::new(&cluster), "other.yml", &pipelines(ALL_FILES));
    symlink("other.yml", step.dir().join(FILE)).unwrap();
    assert_eq!(warnings_of(&step), unchecked);
    let step = Step::new(&cluster);
    mknodat(CWD, step.dir().join(FILE), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(warnings_of(&step), unchecked);
    let step = Step::new(&cluster);
    fs::create_dir(step.dir().join(FILE)).unwrap();
    assert_eq!(warnings_of(&step), unchecked);
}

/// A hostile file in a complete run. The unit tests of the guard have more such files.
fn a_hostile_file_does_not_stop_the_run() {
    let cluster = Testcluster::start();
    let mut bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..40 {
        bomb += &format!("l{n}: &l{n} [{}]\n", format!("*l{}, ", n - 1).repeat(10));
    }
    bomb += &pipelines(&format!("        artifacts: ['{}']\n", "*a".repeat(150_000)));
    for (text, expected) in [
        (bomb, "bitbucket-pipelines.yml has too many entries or patterns: not all artifacts and caches were checked\n"),
        ("a: 1\n".repeat(2_000_000), "it is larger than 384 KiB; artifacts and caches of this step were not checked\n"),
        (
            "- ".repeat(190_000),
            "it is nested deeper than 64 levels; artifacts and caches of this step were not checked\n",
        ),
        ("a: [\u{1b}[31m".to_owned(), "; artifacts and caches of this step were not checked\n"),
    ] {
        let step = with_file(Step::new(&cluster), FILE, &text);
        let start = Instant::now();
        let warned = warnings_of(&step);
        assert!(warned.ends_with(expected) && !warned.contains('\u{1b}'), "{warned}");
        assert!(start.elapsed() < Duration::from_secs(40), "{:?}: {warned}", start.elapsed());
    }
}
