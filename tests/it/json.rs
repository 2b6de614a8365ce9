//! `FORMAT: 'json'`: one document on stdout, which says what the text says, and has no secret.

use std::path::Path;

use serde_json::Value;
use testcluster::{Builder, Fault, JoinService, Testcluster};

use crate::harness::stories;
use crate::refusals::TOKEN;
use crate::secrets::Secrets;
use crate::step::{Output, Step};

stories! {
    the_checks_of_doctor_are_the_same_in_both_formats,
    the_result_of_a_join,
    a_public_log_hides_who_may_do_what,
    the_result_names_leaf_clusters_and_warnings,
    every_way_to_join_has_the_format,
    an_error_is_the_same_in_both_formats,
    a_masked_secret_leaves_the_document_whole,
    text_is_the_default_and_prints_nothing,
    the_examples_in_the_documents_have_the_fields,
}

/// The only document on stdout, in one line.
#[track_caller]
fn document(output: &Output) -> Value {
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// The lines of the text that the document stands for, without times.
fn as_text(document: &Value) -> String {
    let mut lines = String::new();
    let mut explained = Vec::new();
    for check in document["checks"].as_array().unwrap() {
        let (mark, found) = match text(check, "status") {
            "ok" => ("  ok", text(check, "found")),
            "skipped" => ("   -", text(check, "why")),
            "fail" => ("FAIL", text(&check["error"], "message")),
            other => panic!("{other}"),
        };
        lines += &format!("{mark}  {:<19}{found}\n", text(check, "name"));
        for warning in check["warnings"].as_array().into_iter().flatten() {
            lines += &format!("      warning: {}\n", warning.as_str().unwrap());
        }
        if check["error"].is_object() {
            let below = explanation(&check["error"]);
            if !explained.contains(&below) {
                lines.extend(below.lines().map(|line| format!("      {line}\n")));
                explained.push(below);
            }
        }
    }
    lines + text(&document["verdict"], "text") + "\n"
}

/// The lines below an error.
fn explanation(error: &Value) -> String {
    let mut lines = String::new();
    for (label, name) in [("likely cause", "cause"), ("what to do", "remedy"), ("more", "url")] {
        for (n, line) in error[name].as_str().unwrap_or_default().lines().enumerate() {
            let label = if n == 0 { format!("{label:>12}: ") } else { " ".repeat(14) };
            lines += &format!("{label}{line}\n");
        }
    }
    lines
}

fn without_times(text: &str) -> String {
    let line = |line: &str| {
        line.rsplit_once(" [").filter(|(_, end)| end.ends_with(" ms]")).map_or(line, |(head, _)| head).to_owned()
    };
    let words = |line: String| match line.split_once(" accepts after ") {
        Some((head, _)) => format!("{head} accepts"),
        None => line,
    };
    text.lines().map(|text| words(line(text)) + "\n").collect()
}

fn the_checks_of_doctor_are_the_same_in_both_formats() {
    let builder = Testcluster::builder;
    let untrusted = |step: Step| step.without("SSL_CERT_FILE");
    let with_unknown_file = |step: Step| {
        std::fs::create_dir(step.dir().join("tbot-user")).unwrap();
        std::fs::write(step.file("it's \u{202e} mine"), "").unwrap();
        step
    };
    type Change = fn(Step) -> Step;
    let cases: [(Builder, Change); 6] = [
        (builder(), |step| step),
        (builder(), untrusted),
        (builder(), with_unknown_file),
        (builder(), |step| step.without(TOKEN)),
        (builder().version("16.4.0").join_service(JoinService::Absent), |step| step),
        (builder().fault(Fault::FindHtml), |step| step),
    ];
    for (builder, change) in cases {
        let cluster = builder.start();
        let step = change(Step::new(&cluster).env("ACTION", "doctor"));
        let as_lines = step.pipe();
        let step = step.env("FORMAT", "json");
        let output = step.pipe();
        let document = document(&output);
        assert_eq!(without_times(&as_text(&document)), without_times(&as_lines.stdout));
        assert_eq!((output.status, &output.stderr), (as_lines.status, &as_lines.stderr));
        let verdict = &document["verdict"];
        assert_eq!(verdict["exit"].as_i64(), output.status.map(i64::from));
        assert_eq!(verdict["ok"].as_bool(), Some(output.status == Some(0)));
        let failed = document["checks"].as_array().unwrap().iter().find(|check| check["status"] == "fail");
        assert_eq!(failed.map(|check| &check["name"]).unwrap_or(&Value::Null), &verdict["fix_first"]);
        let exit = failed.map(|check| check["error"]["exit"].as_i64().unwrap());
        assert_eq!(exit.unwrap_or_default(), verdict["exit"].as_i64().unwrap());
        Secrets::from_step(&step).check(&output, "doctor in JSON");
    }
}

fn the_result_of_a_join() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster).env("FORMAT", "json").env("TTL", "2h");
    let output = step.pipe().ok();
    let document = document(&output);
    for (name, expected) in [
        ("version", env!("CARGO_PKG_VERSION")),
        ("cluster", "example.teleport.sh"),
        ("teleport_version", "18.2.0"),
        ("proxy", &cluster.proxy_addr()),
        ("bot", "bot-example"),
        ("destination", step.dir().join("tbot-user").to_str().unwrap()),
    ] {
        assert_eq!(text(&document, name), expected, "{document}");
    }
    assert_eq!(document["roles"], serde_json::json!(["example-role"]));
    assert!(document["logins"].as_array().unwrap().contains(&cluster.node_login().into()), "{document}");
    assert_eq!((&document["leaf_clusters"], &document["warnings"]), (&serde_json::json!([]), &serde_json::json!([])));
    let lifetime = document["ttl_seconds"].as_u64().unwrap();
    assert!((7100..=7200).contains(&lifetime), "{lifetime}");
    assert!(output.stderr.contains(&format!("valid until {}", text(&document, "expires"))), "{output:?}");
    // What the log says last is what to do next.
    assert_eq!(output.stderr.lines().last(), Some(text(&document, "next")));
    let files: Vec<_> = document["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(files.contains(&"ssh_config") && files.contains(&"key"), "{files:?}");
    assert!(files.iter().all(|file| step.file(file).is_file()), "{files:?}");
    let stages = &document["milliseconds"];
    for stage in ["preflight", "discover", "join", "certificates", "write"] {
        assert!(stages[stage].as_u64().unwrap() <= stages["total"].as_u64().unwrap(), "{stages}");
    }
    assert!(document.get("outputs").is_none(), "{document}");
    let mut secrets = Secrets::from_step(&step);
    secrets.add_files(&step.dir().join("tbot-user"));
    secrets.check(&output, "join in JSON");
}

fn a_public_log_hides_who_may_do_what() {
    let cluster = Testcluster::builder().leaf_cluster("leaf.example.com").start();
    let step = Step::new(&cluster).env("FORMAT", "json").env("BITBUCKET_REPO_IS_PRIVATE", "false");
    let output = step.pipe().ok();
    let document = document(&output);
    for name in ["bot", "roles", "logins", "leaf_clusters"] {
        assert!(document.get(name).is_none(), "{document}");
    }
    for hidden in ["bot-example", "example-role", "leaf.example.com"] {
        assert!(!text(&document, "next").contains(hidden), "{document}");
        assert!(!document["files"].to_string().contains(hidden), "{document}");
    }
    assert!(text(&document, "next").contains(" <login>@<node>.example.teleport.sh"), "{document}");
    // With DEBUG, all of it is there.
    let shown = self::document(&step.env("DEBUG", "true").pipe().ok());
    assert!(
        shown["files"].to_string().contains("leaf.example.com.ssh_config") && shown["bot"] == "bot-example",
        "{shown}"
    );
}

fn the_result_names_leaf_clusters_and_warnings() {
    let cluster = Testcluster::builder().leaf_cluster("leaf.example.com").clock_offset(-30 * 60).start();
    let step = Step::new(&cluster).env("FORMAT", "json").env("CLUSTER", "leaf.example.com");
    let output = step.pipe().ok();
    let document = document(&output);
    assert_eq!(document["leaf_clusters"], serde_json::json!(["leaf.example.com"]));
    assert!(text(&document, "next").ends_with("@<node>.leaf.example.com"), "{document}");
    let warnings: Vec<_> = document["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(warnings.iter().any(|warning| warning.starts_with("the clock here is ")), "{warnings:?}");
    assert!(warnings.iter().all(|warning| output.stderr.contains(&format!("warning: {warning}"))), "{warnings:?}");
    assert_eq!(warnings.len(), output.stderr.matches("warning: ").count(), "{output:?}");
}

fn every_way_to_join_has_the_format() {
    let cluster = Testcluster::start();
    let step = Step::new(&cluster);
    let (proxy, token) =
        (format!("--proxy-server={}", cluster.proxy_addr()), format!("--token={}", cluster.token_name()));
    let identity = ["start", "identity", "--oneshot", "--destination=./creds", &proxy, &token];
    for args in
        [&["join", "--format=json"][..], &["join", "--format", "JSON"], &[&identity[..], &["--format=json"]].concat()]
    {
        let document = document(&step.product(args).ok());
        assert!(Path::new(text(&document, "destination")).is_absolute(), "{document}");
    }
    let document = document(&step.env("FORMAT", "json").product(&["join"]).ok());
    assert_eq!(document["cluster"], "example.teleport.sh");
}

/// The error in JSON and the error on stderr.
#[track_caller]
fn check_error(output: &Output, exit: i32) {
    assert_eq!(output.status, Some(exit), "{output:?}");
    let document = document(output);
    let error = &document["error"];
    assert_eq!(error["exit"], exit, "{output:?}");
    let lines = format!("error: {}\n{}", text(error, "message"), explanation(error));
    assert!(output.stderr.ends_with(&lines), "{lines}\n{output:?}");
}

fn an_error_is_the_same_in_both_formats() {
    let cluster = Testcluster::start();
    let step = || Step::new(&cluster).env("FORMAT", "json");
    check_error(&step().without("TOKEN").pipe(), 2);
    check_error(&step().env("TTL", "60").pipe(), 2);
    check_error(&step().env("ACTION", "doctor").without("PROXY_SERVER").pipe(), 2);
    check_error(&step().without(TOKEN).pipe(), 3);
    check_error(&step().env("TOKEN", "other").pipe(), 4);
    check_error(&step().env("PROXY_SERVER", "localhost:1").env("TIMEOUT", "2s").pipe(), 5);
    std::fs::write(step().dir().join("tbot-user"), "").unwrap();
    let occupied = step();
    std::fs::write(occupied.dir().join("tbot-user"), "").unwrap();
    check_error(&occupied.pipe(), 6);
    check_error(&Step::new(&cluster).product(&["join", "--format=json", "--timeout=0s"]), 2);
    check_error(&Step::empty().product(&["start", "-c", "tbot.yaml", "--format=json"]), 2);
    // The parser's own words have more lines.
    for line in [&["doctor", "--format", "json", "--no-such-flag"][..], &["jion", "--format=json"]] {
        let output = Step::empty().product(line);
        let document = document(&output);
        assert!(output.stderr.starts_with(&format!("error: {}\n", text(&document["error"], "message"))), "{output:?}");
        assert!(output.stderr.ends_with(&format!("more: {}\n", text(&document["error"], "url"))), "{output:?}");
    }
}

/// The credentials of a forward proxy may be the beginning of a key, or of an escape.
fn a_masked_secret_leaves_the_document_whole() {
    let cluster = Testcluster::start();
    for password in ["teleport_ver", "n%20%20%20%20join_me", "milliseconds%22"] {
        let url = format!("http://{password}:{password}@127.0.0.1:1");
        let step = Step::new(&cluster).env("FORMAT", "json").env("HTTPS_PROXY", &url);
        let result = document(&step.pipe().ok());
        assert!(result["teleport_version"].is_string() && result["milliseconds"].is_object(), "{result}");
    }
}

fn text_is_the_default_and_prints_nothing() {
    let cluster = Testcluster::start();
    assert_eq!(Step::new(&cluster).pipe().ok().stdout, "");
    assert_eq!(Step::new(&cluster).env("FORMAT", "Text").pipe().ok().stdout, "");
    let output = Step::new(&cluster).env("TTL", "60").env("FORMAT", "text").pipe();
    assert_eq!((output.status, output.stdout.as_str()), (Some(2), ""));
    // A format that does not exist is an error in text.
    let output = Step::new(&cluster).env("FORMAT", "xml").pipe();
    assert_eq!((output.status, output.stdout.as_str()), (Some(2), ""));
}

/// The names of all fields, with those of nested objects and of the items of lists.
fn fields(value: &Value, path: &str, found: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| fields(value, &format!("{path}.{name}"), found))
        }
        Value::Array(items) => {
            found.insert(format!("{path}[]"));
            items.iter().for_each(|item| fields(item, path, found));
        }
        Value::String(_) => drop(found.insert(format!("{path}: text"))),
        Value::Number(_) => drop(found.insert(format!("{path}: number"))),
        Value::Bool(_) => drop(found.insert(format!("{path}: boolean"))),
        Value::Null => panic!("{path} is null"),
    }
}

fn the_examples_in_the_documents_have_the_fields() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md")).unwrap();
    let blocks: Vec<Value> = page
        .split("\n```json\n")
        .skip(1)
        .map(|block| serde_json::from_str(block.split_once("\n```").unwrap().0).unwrap())
        .collect();
    let cluster = Testcluster::builder().leaf_cluster("leaf.example.com").clock_offset(-30 * 60).start();
    let step = || Step::new(&cluster).env("FORMAT", "json");
    let joined = document(&step().pipe().ok());
    let refused = document(&step().env("TOKEN", "other").pipe());
    let step = step().env("ACTION", "doctor").env("CA_FILE", "no-such-file.pem");
    std::fs::write(step.dir().join("Dockerfile"), "FROM scratch\n").unwrap();
    let checked = document(&step.pipe());
    let names = |value: &Value| {
        let mut found = std::collections::BTreeSet::new();
        fields(value, "", &mut found);
        found
    };
    for (n, real) in [joined, refused, checked].iter().enumerate() {
        assert_eq!(names(&blocks[n]), names(real), "block {n} of docs/json.md");
        // Each name of a field has its row or its word in the text.
        for path in names(real) {
            let name = path.split([':', '[']).next().unwrap().rsplit('.').next().unwrap().to_owned();
            assert!(page.contains(&format!("`{name}`")), "docs/json.md does not explain `{name}`");
        }
    }
}
