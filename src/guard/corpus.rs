//! Every file of `tests/leak-check`: a `bitbucket-pipelines.yml` whose first comments say what the check makes of it.
//!
//! ```text
//! # env: NAME=VALUE           a variable of the step
//! # file NAME: LINE           a line of another file in the clone directory
//! # keys: leak                whether keys or the ID token can leave the step: leak, or stay
//! # verdict: stop             what the check does by default: ok, may (a warning), or stop
//! # with error: stop          the same with LEAK_CHECK: error
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::values::DEFAULT_DESTINATION;

struct Case {
    name: String,
    text: String,
}

impl Case {
    fn all() -> Vec<Self> {
        let files = fs::read_dir(root().join("tests/leak-check")).unwrap();
        let mut all: Vec<_> = files
            .map(|file| file.unwrap().path())
            .map(|path| Self {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                text: fs::read_to_string(path).unwrap(),
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The values of a key in the first comments.
    fn values(&self, key: &str) -> Vec<&str> {
        let comments = self.text.lines().map_while(|line| line.strip_prefix("# "));
        comments.filter_map(|line| line.strip_prefix(key)).collect()
    }

    fn value(&self, key: &str) -> &str {
        let values = self.values(key);
        assert_eq!(values.len(), 1, "{}: `{key}`", self.name);
        values[0]
    }

    /// A clone directory with the file.
    fn clone(&self) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(FILE), &self.text).unwrap();
        let mut files = BTreeMap::<&str, String>::new();
        for (name, line) in self.values("file ").iter().map(|file| file.split_once(": ").unwrap()) {
            writeln!(files.entry(name).or_default(), "{line}").unwrap();
        }
        for (name, text) in files {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        temp
    }

    /// What the check makes of it, with its lines.
    fn check(&self, leak_check: LeakCheck) -> (&'static str, String) {
        let temp = self.clone();
        let path = temp.path().canonicalize().unwrap();
        let given = self.values("env: ");
        let given = given.iter().map(|variable| variable.split_once('=').unwrap());
        let of_a_pipe = [
            ("BITBUCKET_CLONE_DIR", path.to_str().unwrap()),
            ("BITBUCKET_PIPE_STORAGE_DIR", "/storage"),
            ("PROXY_SERVER", "example.teleport.sh:443"),
            ("TOKEN", "example-bot"),
        ];
        let env: Environment = of_a_pipe.into_iter().chain(given).collect();
        let destination = path.join(env.get("DESTINATION").unwrap_or(DEFAULT_DESTINATION));
        let destination: std::path::PathBuf = destination.components().collect();
        let mut guard = Guard {
            env: &env,
            has_token: true,
            clone_dir: CloneDir::new(&env, &destination).unwrap(),
            ttl: Ttl(Duration::from_secs(3600)),
            leak_check,
            matcher: Matcher::new(),
            warnings: Vec::new(),
        };
        let result = guard.check();
        let warnings = guard.warnings.join("\n");
        match result {
            Err(error) => ("stop", format!("{warnings}\n{error}")),
            Ok(_) if warnings.is_empty() => ("ok", warnings),
            Ok(_) => ("may", warnings),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_file_gets_its_verdict() {
    let mut wrong = String::new();
    for case in Case::all() {
        for (key, leak_check) in [("verdict: ", LeakCheck::Sure), ("with error: ", LeakCheck::Error)] {
            let ((verdict, lines), expected) = (case.check(leak_check), case.value(key));
            if verdict != expected {
                let _ = writeln!(wrong, "{}: {key}{verdict}, not {expected}\n{lines}", case.name);
            }
        }
        let (verdict, lines) = case.check(LeakCheck::Warn);
        assert_ne!(verdict, "stop", "{}: LEAK_CHECK is warn: {lines}", case.name);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What docs/leak-check.md says about the corpus: `--nocapture` shows the figures.
#[test]
fn the_document_has_the_figures_of_the_corpus() {
    let mut counts = BTreeMap::<(&str, &str, &str), usize>::new();
    let cases = Case::all();
    for case in &cases {
        let keys = case.value("keys: ");
        assert!(["leak", "stay"].contains(&keys), "{}", case.name);
        for (mode, leak_check) in [("default", LeakCheck::Sure), ("error", LeakCheck::Error)] {
            *counts.entry((mode, keys, case.check(leak_check).0)).or_default() += 1;
        }
    }
    let count = |mode, keys, verdict| counts.get(&(mode, keys, verdict)).copied().unwrap_or_default();
    let mut table = String::new();
    for (mode, name) in [("default", "not set"), ("error", "`error`")] {
        for keys in ["leak", "stay"] {
            let [stop, may, ok] = ["stop", "may", "ok"].map(|verdict| count(mode, keys, verdict));
            let _ = writeln!(table, "| {name} | {keys} | {stop} | {may} | {ok} |");
        }
    }
    println!("{} files\n{table}", cases.len());
    let document = fs::read_to_string(root().join("docs/leak-check.md")).unwrap();
    assert!(cases.len() >= 60 && document.contains(&format!("{} files", cases.len())), "{}", cases.len());
    assert!(document.contains(&table), "docs/leak-check.md needs:\n{table}");
}
