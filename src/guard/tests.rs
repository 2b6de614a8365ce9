//! The guard on a directory: its warnings and errors, and that no file takes it long.

use std::fs;
use std::time::{Duration, Instant};

use super::*;

/// A pipeline with a step that runs the pipe. `more` is appended.
fn pipelines(more: &str) -> String {
    format!(
        "pipelines:\n  default:\n    - step:\n        oidc: true\n        script: [pipe: x/teleport-pipe:1]\n{more}"
    )
}

/// The warnings about a directory with this `bitbucket-pipelines.yml`, and the result.
fn check(text: &str, leak_check: LeakCheck) -> (Vec<String>, Result<RunningStep, Error>) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().canonicalize().unwrap();
    fs::write(path.join(FILE), text).unwrap();
    let env = Environment::from_iter([("BITBUCKET_CLONE_DIR", path.to_str().unwrap())]);
    let clone_dir = CloneDir::new(&env, &path.join("tbot-user")).unwrap();
    let ttl = Ttl(Duration::from_secs(3600));
    let mut guard = Guard {
        env: &env,
        has_token: false,
        clone_dir,
        ttl,
        leak_check,
        matcher: Matcher::new(),
        warnings: Vec::new(),
    };
    let result = guard.check();
    (guard.warnings, result)
}

/// Files that are made to be slow, and a part of the warning about them.
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
    let shell = |text: &str| {
        let text = text.replace('\'', "''").replace('\n', "\n\n");
        let script = format!("script: [{{pipe: x/teleport-pipe:1}}, '{text}'], after-script: ['{text}']");
        format!("pipelines: {{default: [{{step: {{oidc: true, artifacts: ['**'], {script}}}}}]}}\n")
    };
    let half = 180_000;
    let mut nested = "rm -rf a".to_owned();
    while nested.len() < 50_000 {
        nested = format!("sh -c \"{}\"", nested.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let shared_script = format!("l: &l '{}'\n", "rm $a; ".repeat(20_000));
    let aliases = "    - step: {oidc: true, script: [*l], after-script: [*l], artifacts: ['**']}\n".repeat(2_000);
    vec![
        ("aliases", bomb + &pipelines(lists), ""),
        ("merges", merges + &pipelines("        <<: *m4999\n"), ""),
        ("steps", pipelines(&step.repeat(5_000)), ""),
        ("aliases of steps", format!("{shared}{}", pipelines(&"    - step: *s\n".repeat(25_000))), ""),
        ("patterns", patterns("*a*a*a*a*a*b", 14_000), "has too many entries or patterns"),
        ("a pattern", one_pattern(&"*a".repeat(190_000)), "has too many entries or patterns"),
        ("braces", one_pattern(&"{a,b}".repeat(1000)), "has too many entries or patterns"),
        ("open braces", one_pattern(&"{a,".repeat(20_000)), ""),
        ("classes", one_pattern(&"[".repeat(40_000)), "has too many entries or patterns"),
        ("warnings", patterns("*", 10_000), "has more lines like these"),
        ("shell", shell(&"rm -rf a;".repeat(half / 9)), ""),
        ("shell, one command", shell(&"rm ".repeat(half / 3)), ""),
        ("shell, quotes", shell(&"\"'".repeat(half / 3)), ""),
        ("shell, backslashes", shell(&"\\".repeat(half)), ""),
        ("shell, substitutions", shell(&"$(\"`${".repeat(half / 6)), ""),
        ("shell, here-documents", shell(&format!("cat {}\n{}", "<<E ".repeat(half / 8), "x\n".repeat(half / 8))), ""),
        ("shell, subshells", shell(&"(".repeat(half)), ""),
        ("shell, subshells that move", shell(&"(cd a;".repeat(half / 6)), ""),
        ("shell, assignments", shell(&"sudo A=1 ".repeat(half / 9)), ""),
        ("shell, braces", shell(&format!("rm -rf {}", "{a,{b,".repeat(half / 6))), ""),
        ("shell, many braces", shell(&"rm -rf {a,b}{a,b}{a,b};".repeat(half / 23)), ""),
        ("shell, pipes", shell(&"echo $BITBUCKET_STEP_OIDC_TOKEN | tee a > b;".repeat(half / 44)), ""),
        ("shell, uploads", shell(&"rsync . a:;docker build .;".repeat(half / 26)), "sends the whole clone directory"),
        ("shell, lists", shell(&format!("rsync . a: --exclude-from={FILE};").repeat(half / 52)), "too many entries"),
        ("shell, token files", shell(&(0..half / 20).map(|n| format!("env > {n};rm b c;")).collect::<String>()), ""),
        ("shell, scripts in scripts", shell(&nested), ""),
        ("shell, aliases", shared_script + &pipelines(&aliases), "has too many entries or patterns"),
        ("groups", one_pattern(&"@(a|".repeat(1000)), ""),
        ("groups that negate", patterns("!(a)!(b)!(c)**", 12_000), ""),
        ("equal keys", format!("{}pipelines: {{}}\n", pipelines("        artifacts: ['**']\n").repeat(2_000)), ""),
        ("documents", format!("{}---\n", pipelines("        artifacts: ['**']\n")).repeat(1_500), ""),
        ("deep", "[".repeat(380_000), "not checked"),
        ("deep in blocks", "- ".repeat(190_000), "nested deeper than 64 levels"),
        ("entries", "-\n".repeat(190_000), "more than 100000 entries"),
        ("large", " ".repeat(10_000_000), "larger than 384 KiB"),
        ("not YAML", "a: [\u{1b}[31m\n\"".to_owned(), "it is not valid YAML"),
        ("not text", "\u{0}\u{1}\u{fffd}".repeat(1000), "not checked"),
        ("empty", String::new(), ""),
    ]
}

/// The limit is for slow machines and builds that are not optimised; `--nocapture` shows the times.
#[test]
fn no_file_is_slow() {
    for (name, text, expected) in hostile() {
        let start = Instant::now();
        let (warnings, result) = check(&text, LeakCheck::Warn);
        let time = start.elapsed();
        println!("{name}: {} bytes, {time:?}, {} warnings", text.len(), warnings.len());
        assert!(result.is_ok() && time < Duration::from_secs(10), "{name}: {time:?}");
        let text_of_warnings = warnings.join("\n");
        assert!(
            text_of_warnings.contains(expected) && warnings.len() <= MAX_WARNINGS + 1,
            "{name}: {text_of_warnings}"
        );
        assert!(!text_of_warnings.contains('\u{1b}') && text_of_warnings.len() < 6_000, "{name}: {text_of_warnings}");
    }
}

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
    let (warnings, _) = check(broken, LeakCheck::Sure);
    assert!(warnings[0].contains("it is not valid YAML"), "an unknown alias: {warnings:?}");
    let broken = broken.replace("[*x]", "{? [a]: b}")
        + "    - step: {oidc: maybe, max-time: soon, caches: {a: b}, script: {x: y}, artifacts: [[x], {paths: {y: z}}]}
    - step: {script: [7, [teleport-pipe]], artifacts: [{paths: ~}, '**'], after-script: ~, max-time: -1}\n";
    let (warnings, result) = check(&broken, LeakCheck::Sure);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(matches!(result, Err(Error::Artifacts { sure: true, .. })), "{result:?}");
}

#[test]
fn the_user_of_the_step() {
    let user = |more: &str| check(&pipelines(more), LeakCheck::Warn).1.unwrap().run_as_user;
    let other = "    - step: {oidc: true, script: [teleport-pipe]";
    assert_eq!(user("        image: {name: x, run-as-user: 1000}\n"), Some(1000));
    assert_eq!(user("        image: x\nimage: {name: x, run-as-user: 1000}\n"), None);
    assert_eq!(user("image: {name: x, run-as-user: 1000}\n"), Some(1000));
    assert_eq!(user(&format!("{other}}}\nimage: {{name: x, run-as-user: 7}}\n")), Some(7));
    assert_eq!(user(&format!("{other}, image: x}}\nimage: {{name: x, run-as-user: 7}}\n")), None);
    assert_eq!(user(""), None);
}

#[test]
fn leaks_that_end_a_run() {
    let ends = |more: &str, leak_check| check(&pipelines(more), leak_check).1.is_err();
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
        assert_eq!(check(&pipelines(more), LeakCheck::Warn).0.len(), warnings, "{more}");
    }
    // A step that was not read could be the running one.
    let many = |count| {
        let step = "    - step: &s {oidc: true, script: [teleport-pipe], artifacts: ['**']}\n".to_owned();
        format!("{sure}{step}{}", "    - step: *s\n".repeat(count))
    };
    assert!(ends(&many(1_000), LeakCheck::Sure));
    assert!(!ends(&many(40_000), LeakCheck::Sure));
    // The error names the sure one.
    let (_, result) = check(&pipelines("        artifacts: ['*', '**', 'k*']\n"), LeakCheck::Error);
    assert!(matches!(result, Err(Error::Artifacts { pattern, .. }) if pattern == "**"));
}
