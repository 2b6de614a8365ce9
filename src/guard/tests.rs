//! The guard on a directory: what it says, and that no file is a burden to it.

use std::fs;
use std::time::Instant;

use super::*;

/// A step that runs the pipe, with more in it.
fn pipelines(more: &str) -> String {
    format!(
        "pipelines:\n  default:\n    - step:\n        oidc: true\n        script: [pipe: x/teleport-pipe:1]\n{more}"
    )
}

/// What is said about a directory with this `bitbucket-pipelines.yml`, and how it ends.
fn look(text: &str, leak_check: LeakCheck) -> (Vec<String>, Result<RunningStep, Error>) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().canonicalize().unwrap();
    fs::write(path.join(FILE), text).unwrap();
    let env = Environment::from_iter([("BITBUCKET_CLONE_DIR", path.to_str().unwrap())]);
    let place = CloneDir::of(&env, &path.join("tbot-user")).unwrap();
    let ttl = Duration::from_secs(3600);
    let mut guard =
        Guard { env: &env, has_token: false, place, ttl, leak_check, matcher: Matcher::new(), warnings: Vec::new() };
    let result = guard.look();
    (guard.warnings, result)
}

/// Files that are made to be a burden, and what is said about them.
fn hostile() -> Vec<(&'static str, String, &'static str)> {
    let mut bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..40 {
        bomb += &format!("l{n}: &l{n} [{}]\n", format!("*l{}, ", n - 1).repeat(10));
    }
    let mut merges = "m0: &m0 {x: 1}\n".to_owned();
    for n in 1..5000 {
        merges += &format!("m{n}: &m{n} {{<<: [*m{0}, *m{0}], y{n}: 1}}\n", n - 1);
    }
    let one_pattern = |pattern: &str| pipelines(&format!("        artifacts: ['{pattern}']\n"));
    let patterns = |pattern: &str, count| {
        pipelines(&format!("        artifacts:\n{}", format!("          - '{pattern}'\n").repeat(count)))
    };
    let step = "    - step: {oidc: true, script: [teleport-pipe], artifacts: ['*a*a*a*']}\n";
    let shared = "s: &s {oidc: true, artifacts: ['*'], script: [teleport-pipe]}\n";
    let lists = "    - *l39\n    - step: {script: *l39, artifacts: *l39, after-script: *l39}\n";
    let long_line = format!("        after-script: ['{}']\n        artifacts: ['**']\n", "rm -rf a;".repeat(100_000));
    vec![
        ("aliases", bomb + &pipelines(lists), ""),
        ("merges", merges + &pipelines("        <<: *m4999\n"), ""),
        ("steps", pipelines(&step.repeat(8_000)), ""),
        (
            "aliases of steps",
            format!("{shared}{}", pipelines(&"    - step: *s\n".repeat(40_000))),
            "has too much in it",
        ),
        ("patterns", patterns("*a*a*a*a*a*b", 35_000), "has too much in it"),
        ("a pattern", one_pattern(&"*a".repeat(400_000)), "has too much in it"),
        ("braces", one_pattern(&"{a,b}".repeat(1000)), "has too much in it"),
        ("open braces", one_pattern(&"{a,".repeat(200_000)), ""),
        ("classes", one_pattern(&"[".repeat(500_000)), "has too much in it"),
        ("warnings", patterns("*", 10_000), "there are more lines like these"),
        ("shell", pipelines(&long_line), ""),
        ("deep", "[".repeat(500_000), "not checked"),
        ("deep in blocks", "- ".repeat(500_000), "nested deeper than 64 levels"),
        ("entries", "- a\n".repeat(200_000), "more than 100000 entries"),
        ("large", " ".repeat(10_000_000), "more than 1 MiB"),
        ("no YAML", "a: [\u{1b}[31m\n\"".to_owned(), "it is no YAML"),
        ("no text", "\u{0}\u{1}\u{fffd}".repeat(1000), "not checked"),
        ("empty", String::new(), ""),
    ]
}

/// The limit is for slow machines and builds that are not optimised; `--nocapture` shows the times.
#[test]
fn no_file_is_a_burden() {
    for (name, text, expected) in hostile() {
        let start = Instant::now();
        let (warnings, result) = look(&text, LeakCheck::Warn);
        let time = start.elapsed();
        println!("{name}: {} bytes, {time:?}, {} warnings", text.len(), warnings.len());
        assert!(result.is_ok() && time < Duration::from_secs(10), "{name}: {time:?}");
        let said = warnings.join("\n");
        assert!(said.contains(expected) && warnings.len() <= MOST_WARNINGS + 1, "{name}: {said}");
        assert!(!said.contains('\u{1b}') && said.len() < 6_000, "{name}: {said}");
    }
}

/// The worst reading of a file: each step, each limit.
#[test]
fn broken_parts_hide_nothing() {
    let broken = "
options: nonsense
definitions: {caches: [x], imports: 7}
image: {run-as-user: me}
pipelines:
  tags: [x]
  branches: nonsense
  default:
    - nonsense: [*x]
";
    let (warnings, _) = look(broken, LeakCheck::Sure);
    assert!(warnings[0].contains("it is no YAML"), "an alias of nothing: {warnings:?}");
    let broken = broken.replace("[*x]", "{? [a]: b}")
        + "    - step: {oidc: maybe, max-time: soon, caches: {a: b}, script: {x: y}, artifacts: [[x], {paths: {y: z}}]}
    - step: {script: [7, [teleport-pipe]], artifacts: [{paths: ~}, '**'], after-script: ~, max-time: -1}\n";
    let (warnings, result) = look(&broken, LeakCheck::Sure);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(matches!(result, Err(Error::Artifacts { sure: true, .. })), "{result:?}");
}

#[test]
fn the_user_of_the_step() {
    let user = |more: &str| look(&pipelines(more), LeakCheck::Warn).1.unwrap().run_as_user;
    let other = "    - step: {oidc: true, script: [teleport-pipe]";
    assert_eq!(user("        image: {name: x, run-as-user: 1000}\n"), Some(1000));
    assert_eq!(user("        image: x\nimage: {name: x, run-as-user: 1000}\n"), None);
    assert_eq!(user("image: {name: x, run-as-user: 1000}\n"), Some(1000));
    assert_eq!(user(&format!("{other}}}\nimage: {{name: x, run-as-user: 7}}\n")), Some(7));
    assert_eq!(user(&format!("{other}, image: x}}\nimage: {{name: x, run-as-user: 7}}\n")), None);
    assert_eq!(user(""), None);
}

#[test]
fn what_ends_a_run() {
    let ends = |more: &str, leak_check| look(&pipelines(more), leak_check).1.is_err();
    let [sure, possible] = ["        artifacts: ['**']\n", "        artifacts: ['*']\n"];
    let removed = format!("{sure}        after-script: [rm -rf tbot-user]\n");
    let opaque = format!("{sure}        after-script: [./cleanup.sh]\n");
    let imports = format!("{sure}  custom: {{c: {{import: 'shared:main:deploy'}}}}\n");
    let other_step = format!("{sure}    - step: {{oidc: true, script: [teleport-pipe]}}\n");
    let removed_or_not = format!("{removed}    - step: {{oidc: true, script: [teleport-pipe], artifacts: ['**']}}\n");
    for (more, by_default, strictly, warnings) in [
        (sure, true, true, 1),
        (possible, false, true, 1),
        (&*removed, false, false, 1),
        (&*opaque, false, true, 1),
        (&*imports, false, true, 1),
        (&*other_step, false, true, 1),
        (&*removed_or_not, false, true, 2),
    ] {
        assert_eq!(ends(more, LeakCheck::Sure), by_default, "{more}");
        assert_eq!(ends(more, LeakCheck::Error), strictly, "{more}");
        assert!(!ends(more, LeakCheck::Warn), "{more}");
        assert_eq!(look(&pipelines(more), LeakCheck::Warn).0.len(), warnings, "{more}");
    }
    // Steps that were not seen could be the one.
    let many = |count| {
        let step = "    - step: &s {oidc: true, script: [teleport-pipe], artifacts: ['**']}\n".to_owned();
        format!("{sure}{step}{}", "    - step: *s\n".repeat(count))
    };
    assert!(ends(&many(1_000), LeakCheck::Sure));
    assert!(!ends(&many(40_000), LeakCheck::Sure));
    // The sure one is told, wherever it stands.
    let (_, result) = look(&pipelines("        artifacts: ['*', '**', 'k*']\n"), LeakCheck::Error);
    assert!(matches!(result, Err(Error::Artifacts { pattern, .. }) if pattern == "**"));
}
