//! Reads all steps of `bitbucket-pipelines.yml`, and of each step what the guard needs.
//!
//! Forms: docs/protocol.md, "Artifacts and caches" and "Pipeline file", and the published schema. Unknown parts are
//! skipped, and everything beside them is still read: Bitbucket validates the file, the guard does not.

use crate::yaml::{EqualKeys, Map, Node, Tree};

#[derive(Debug, Default)]
pub(super) struct Pipelines<'t> {
    pub(super) steps: Vec<Step<'t>>,
    /// Pipelines that are in other files or repositories.
    pub(super) imports: Vec<RunsFor<'t>>,
    pub(super) complete: bool,
}

/// A step, with what it inherits from the file.
#[derive(Debug, Default)]
pub(super) struct Step<'t> {
    pub(super) runs_for: RunsFor<'t>,
    /// The number in a parallel group, from 0, and the count of its steps.
    pub(super) parallel: Option<(usize, usize)>,
    pub(super) deployment: Option<&'t str>,
    pub(super) oidc: bool,
    /// Minutes and line.
    pub(super) max_time: Option<(u64, usize)>,
    pub(super) run_as_user: Option<u32>,
    pub(super) artifacts: Vec<Upload<'t>>,
    pub(super) caches: Vec<Cache<'t>>,
    pub(super) script: Vec<Command<'t>>,
    pub(super) after_script: Vec<Command<'t>>,
}

/// The event that starts a pipeline, with the pattern that the name of the branch or tag matches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum RunsFor<'t> {
    /// A push to a branch that no pattern matches.
    Default,
    Branch(&'t str),
    Tag(&'t str),
    /// A pull request from a matching branch.
    PullRequest(&'t str),
    /// A person, a schedule, an event, another pipeline; on any branch.
    #[default]
    Anything,
}

/// Artifacts that are collected together.
#[derive(Debug, Default)]
pub(super) struct Upload<'t> {
    /// Patterns and their lines.
    pub(super) paths: Vec<(&'t str, usize)>,
    pub(super) ignored: Vec<&'t str>,
    /// How deep Bitbucket searches.
    pub(super) depth: Option<u64>,
    pub(super) on_failure_only: bool,
}

#[derive(Debug)]
pub(super) struct Cache<'t> {
    pub(super) name: &'t str,
    pub(super) path: &'t str,
    /// The line of the path, or of the use if Bitbucket defines the cache.
    pub(super) line: usize,
}

#[derive(Debug)]
pub(super) enum Command<'t> {
    Shell { text: &'t str, line: usize },
    Pipe { reference: &'t str, variables: Vec<(&'t str, &'t str)>, line: usize },
}

/// Caches that Bitbucket defines, and their paths. `docker` is missing because it stores images and no files.
const PREDEFINED: [(&str, &str); 8] = [
    ("composer", "~/.composer/cache"),
    ("dotnetcore", "~/.nuget/packages"),
    ("gradle", "~/.gradle/caches"),
    ("ivy2", "~/.ivy2/cache"),
    ("maven", "~/.m2/repository"),
    ("node", "node_modules"),
    ("pip", "~/.cache/pip"),
    ("sbt", "~/.sbt"),
];

impl<'t> Pipelines<'t> {
    /// Reads every document of the file, and in each the first and the last of equal keys: whatever Bitbucket reads is
    /// among the steps.
    pub(super) fn read(tree: &'t Tree<'_>) -> Self {
        let mut pipelines = Self::default();
        tree.roots(EqualKeys::Last).for_each(|root| pipelines.read_document(&root.map()));
        if tree.repeats_keys() {
            tree.roots(EqualKeys::First).for_each(|root| pipelines.read_document(&root.map()));
        }
        pipelines.complete = tree.is_within_limits();
        pipelines
    }

    fn read_document(&mut self, top: &Map<'t>) {
        let definitions = top.map("definitions");
        let options = top.map("options");
        let mut reader = Reader {
            oidc: options.get("oidc").is_some_and(has_oidc),
            max_time: options.get("max-time").and_then(minutes),
            run_as_user: top.get("image").and_then(run_as_user),
            caches: definitions.map("caches"),
            steps: Vec::new(),
            imports: Vec::new(),
            runs_for: RunsFor::Anything,
        };
        for (section, value) in top.map("pipelines").iter() {
            let mut each = |runs_for: fn(&'t str) -> RunsFor<'t>| {
                value.map().iter().for_each(|(pattern, list)| reader.pipeline(list, runs_for(pattern)));
            };
            match section {
                "default" => reader.pipeline(value, RunsFor::Default),
                "branches" => each(RunsFor::Branch),
                "tags" => each(RunsFor::Tag),
                "pull-requests" => each(RunsFor::PullRequest),
                // `custom`, and sections that may be added to Bitbucket.
                _ => each(|_| RunsFor::Anything),
            }
        }
        // Something is imported, but it is not known for what.
        if reader.imports.is_empty() && definitions.map("imports").iter().next().is_some() {
            reader.imports.push(RunsFor::Anything);
        }
        self.steps.extend(reader.steps);
        self.imports.extend(reader.imports);
    }
}

/// What steps inherit, and the steps that were read.
struct Reader<'t> {
    oidc: bool,
    max_time: Option<(u64, usize)>,
    run_as_user: Option<u32>,
    caches: Map<'t>,
    steps: Vec<Step<'t>>,
    imports: Vec<RunsFor<'t>>,
    /// The event that starts the pipeline which is being read.
    runs_for: RunsFor<'t>,
}

impl<'t> Reader<'t> {
    /// Reads a list of items, or a mapping with such a list (`steps:`) and other keys (`destinations:`), or an import.
    fn pipeline(&mut self, node: Node<'t>, runs_for: RunsFor<'t>) {
        let map = node.map();
        self.imports.extend(map.get("import").map(|_| runs_for));
        self.runs_for = runs_for;
        self.items(map.get("steps").unwrap_or(node), None, 0);
    }

    /// Reads steps and groups of steps. Groups in groups are not in Bitbucket's schema, but their steps are read
    /// anyway. `outer` is the deployment of the group around them.
    fn items(&mut self, list: Node<'t>, outer: Option<&'t str>, depth: usize) {
        const MAX_DEPTH: usize = 4;
        if depth > MAX_DEPTH {
            return;
        }
        for item in list.items() {
            // An alias of a list may be an item.
            self.items(item, outer, depth + 1);
            for (kind, value) in item.map().iter() {
                match kind {
                    "step" | "final" => self.step(&value.map(), outer),
                    "stage" => self.group(value, deployment(&value.map()).or(outer), depth),
                    "parallel" => self.parallel(value, outer, depth),
                    "import" => self.imports.push(self.runs_for),
                    _ => {}
                }
            }
        }
    }

    /// Reads a list of steps, or a mapping with `steps:`.
    fn group(&mut self, node: Node<'t>, outer: Option<&'t str>, depth: usize) {
        self.items(node.map().get("steps").unwrap_or(node), outer, depth + 1);
    }

    fn parallel(&mut self, node: Node<'t>, outer: Option<&'t str>, depth: usize) {
        let first = self.steps.len();
        self.group(node, outer, depth);
        let count = self.steps.len() - first;
        for (number, step) in self.steps[first..].iter_mut().enumerate() {
            step.parallel = Some((number, count));
        }
    }

    fn step(&mut self, step: &Map<'t>, outer: Option<&'t str>) {
        let image = step.get("image");
        let commands = |key| step.get(key).map(|list| commands(list, 0)).unwrap_or_default();
        let caches = step.get("caches").into_iter().flat_map(Node::one_or_more);
        let caches = caches.filter_map(|name| self.cache(name)).collect();
        self.steps.push(Step {
            runs_for: self.runs_for,
            parallel: None,
            deployment: deployment(step).or(outer),
            oidc: step.get("oidc").map_or(self.oidc, has_oidc),
            max_time: step.get("max-time").and_then(minutes).or(self.max_time),
            // If the step has its own image, the user is that of this image.
            run_as_user: image.map_or(self.run_as_user, run_as_user),
            artifacts: step.get("artifacts").map(uploads).unwrap_or_default(),
            caches,
            script: commands("script"),
            after_script: commands("after-script"),
        });
    }

    fn cache(&self, used: Node<'t>) -> Option<Cache<'t>> {
        let name = used.text()?;
        let Some(defined) = self.caches.get(name) else {
            let (_, path) = PREDEFINED.iter().find(|(predefined, _)| *predefined == name)?;
            return Some(Cache { name, path, line: used.line() });
        };
        let path = if defined.text().is_some() { defined } else { defined.map().get("path")? };
        Some(Cache { name, path: path.text()?, line: path.line() })
    }
}

fn deployment<'t>(map: &Map<'t>) -> Option<&'t str> {
    map.get("deployment").or_else(|| map.get("environment"))?.text()
}

/// The value is `true`, in a spelling of YAML 1.2 or 1.1, or a mapping with audiences.
fn has_oidc(node: Node<'_>) -> bool {
    let is_true = |text: &str| ["true", "yes", "on", "y"].iter().any(|word| text.eq_ignore_ascii_case(word));
    node.text().is_some_and(is_true) || node.map().iter().next().is_some()
}

fn minutes(node: Node<'_>) -> Option<(u64, usize)> {
    Some((node.text()?.parse().ok()?, node.line()))
}

fn run_as_user(image: Node<'_>) -> Option<u32> {
    image.map().get("run-as-user")?.text()?.parse().ok()
}

/// Reads a list of patterns, of objects or of both, or a mapping with `paths`, `upload` or both.
fn uploads(node: Node<'_>) -> Vec<Upload<'_>> {
    let mut uploads = Vec::new();
    let mut own = Upload::default();
    for item in node.one_or_more() {
        match item.text() {
            Some(pattern) => own.paths.push((pattern, item.line())),
            None => {
                let map = item.map();
                uploads.push(upload(&map));
                for object in map.get("upload").into_iter().flat_map(Node::one_or_more) {
                    uploads.push(match object.text() {
                        Some(pattern) => Upload { paths: vec![(pattern, object.line())], ..Upload::default() },
                        None => upload(&object.map()),
                    });
                }
            }
        }
    }
    uploads.push(own);
    uploads.retain(|upload| !upload.paths.is_empty());
    uploads
}

fn upload<'t>(map: &Map<'t>) -> Upload<'t> {
    let patterns =
        |key| map.get(key).into_iter().flat_map(Node::one_or_more).filter_map(|p| Some((p.text()?, p.line())));
    Upload {
        paths: patterns("paths").collect(),
        ignored: patterns("ignore-paths").map(|(pattern, _)| pattern).collect(),
        depth: map.get("depth").and_then(|depth| depth.text()?.parse().ok()),
        on_failure_only: map.get("capture-on").and_then(Node::text) == Some("failed"),
    }
}

/// Reads the entries of a script. A list in it, such as an alias of a list, belongs to the script.
fn commands(list: Node<'_>, depth: usize) -> Vec<Command<'_>> {
    const MAX_DEPTH: usize = 4;
    let mut all = Vec::new();
    for entry in list.one_or_more() {
        all.extend(entry.text().map(|text| Command::Shell { text, line: entry.line() }));
        let map = entry.map();
        if let Some(reference) = map.get("pipe").and_then(Node::text) {
            let variables = map.map("variables");
            let variables = variables.iter().filter_map(|(name, value)| Some((name, value.text()?))).collect();
            all.push(Command::Pipe { reference, variables, line: entry.line() });
        }
        if depth < MAX_DEPTH && entry.items().next().is_some() {
            all.extend(commands(entry, depth + 1));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(artifacts: &str) -> Vec<String> {
        let yaml = format!("pipelines: {{default: [{{step: {{artifacts: {artifacts}}}}}]}}");
        let tree = Tree::parse(&yaml).unwrap();
        let pipelines = Pipelines::read(&tree);
        assert_eq!(pipelines.steps.len(), 1, "{yaml}");
        let uploads = &pipelines.steps[0].artifacts;
        let mut patterns: Vec<_> = uploads.iter().flat_map(|u| &u.paths).map(|(p, _)| (*p).to_owned()).collect();
        patterns.sort();
        patterns
    }

    #[test]
    fn every_form_of_artifacts() {
        for form in [
            "[a, b]",
            "[{name: n, type: scoped, paths: [a, b]}]",
            "[a, {name: n, paths: [b]}]",
            "{paths: [a, b]}",
            "{download: false, paths: [a], upload: [{name: n, paths: [b], unknown: {x: [y]}}]}",
            "{upload: [a, {name: n, paths: b, type: test-reports}]}",
            "{upload: [7, {paths: 8}], paths: [a, b, {c: d}, [e]]}",
        ] {
            let found = patterns(form);
            let found: Vec<_> = found.iter().filter(|p| !["7", "8"].contains(&p.as_str())).collect();
            assert_eq!(found, ["a", "b"], "{form}");
        }
        assert!(patterns("~").is_empty() && patterns("{download: true}").is_empty());
        assert_eq!(patterns("a"), ["a"]);
    }

    const EVERYTHING: &str = r"
image: {name: x, run-as-user: 1000}
options: {max-time: 30, oidc: {audiences: [a]}}
definitions:
  caches:
    own: ./own
    keyed: {key: {files: [x]}, path: /keyed}
    node: other
    broken: [1]
  steps:
    - step: &base
        artifacts: [anchored]
        max-time: 90
    - &list
      - step: {name: in-list, artifacts: [listed]}
pipelines:
  default:
    - step: {<<: *base, name: merged, image: plain, oidc: false}
    - parallel:
      - step: {artifacts: [parallel-0]}
      - step: {artifacts: [parallel-1]}
    - parallel:
        fail-fast: true
        steps:
          - step: {<<: [*base, {caches: [own, keyed, node, pip, broken, unknown, docker]}]}
    - *list
    - stage:
        deployment: prod
        steps:
          - step: {artifacts: [staged]}
          - parallel: {steps: [{step: {artifacts: [staged-parallel]}}]}
    - variables: [{name: x}]
    - final: {artifacts: [final]}
    - nonsense
    - step: nonsense
  branches:
    'main': [{step: {artifacts: [branch]}}]
    'imported': {import: 'repo:ref:pipeline'}
  tags: {'v*': [{step: {artifacts: [tag], deployment: staging}}]}
  pull-requests:
    '**': [{step: {artifacts: [pr]}}]
    'x': {destinations: [main], steps: [{step: {artifacts: [pr-destination]}}]}
  custom:
    manual: [{variables: [{name: x}]}, {step: {type: pipeline, custom: other}}, {step: {artifacts: [custom]}}]
";

    #[test]
    fn steps_are_found_everywhere() {
        let tree = Tree::parse(EVERYTHING).unwrap();
        let pipelines = Pipelines::read(&tree);
        assert!(matches!(pipelines.imports[..], [RunsFor::Branch("imported")]) && pipelines.complete);
        let first = |s: &Step<'_>| s.artifacts.first().map_or("-".to_owned(), |u| u.paths[0].0.to_owned());
        let mut all: Vec<_> = pipelines.steps.iter().map(first).collect();
        all.sort();
        let expected = "- - anchored anchored branch custom final listed parallel-0 parallel-1 pr pr-destination staged \
                        staged-parallel tag";
        assert_eq!(all.join(" "), expected);
        let step = |name: &str| pipelines.steps.iter().find(|s| first(s) == name).unwrap();
        assert_eq!(step("parallel-1").parallel, Some((1, 2)));
        assert_eq!((step("staged").deployment, step("staged").parallel), (Some("prod"), None));
        assert_eq!(step("staged-parallel").parallel, Some((0, 1)));
        assert_eq!(step("tag").deployment, Some("staging"));
        assert_eq!(
            (step("final").run_as_user, step("final").max_time.unwrap().0, step("final").oidc),
            (Some(1000), 30, true)
        );
        let merged = pipelines.steps.iter().find(|s| s.max_time.is_some_and(|(m, _)| m == 90)).unwrap();
        assert_eq!((merged.run_as_user, merged.oidc), (None, false));
        let caches = pipelines.steps.iter().find(|s| !s.caches.is_empty()).unwrap();
        let caches: Vec<_> = caches.caches.iter().map(|c| (c.name, c.path)).collect();
        assert_eq!(caches, [("own", "./own"), ("keyed", "/keyed"), ("node", "other"), ("pip", "~/.cache/pip")]);
    }

    #[test]
    fn scripts() {
        let yaml = "lines: &lines [c, d]
pipelines: {default: [{step: {script: [a, {pipe: p, variables: {X: '1', Y: [z]}}, *lines,
            {agent: x}, 3], after-script: e}}]}";
        let tree = Tree::parse(yaml).unwrap();
        let pipelines = Pipelines::read(&tree);
        let text = |command: &Command<'_>| match command {
            Command::Shell { text, line } => format!("{line}:{text}"),
            Command::Pipe { reference, variables, line } => format!("{line}:{reference}{variables:?}"),
        };
        let all = |commands: &[Command<'_>]| commands.iter().map(text).collect::<Vec<_>>().join(" ");
        assert_eq!(all(&pipelines.steps[0].script), r#"2:a 2:p[("X", "1")] 1:c 1:d 3:3"#);
        assert_eq!(all(&pipelines.steps[0].after_script), "3:e");
    }

    // F8.4, F8.6: other parsers read other documents and other ones of equal keys.
    #[test]
    fn all_readings_of_a_file() {
        let all = |yaml: &str| {
            let tree = Tree::parse(yaml).unwrap();
            let steps = Pipelines::read(&tree).steps;
            steps.iter().map(|step| (step.artifacts[0].paths[0].0.to_owned(), step.oidc)).collect::<Vec<_>>()
        };
        let step = |step: &str| format!("pipelines: {{default: [{{step: {{{step}}}}}]}}\n");
        let read = all(&step("artifacts: [a], oidc: no, artifacts: [b], artifacts: [c], oidc: On"));
        assert_eq!(read, [("c".to_owned(), true), ("a".to_owned(), false)]);
        let read = all(&format!("{}---\n{}", step("artifacts: [a]"), step("artifacts: [b], oidc: yes")));
        assert_eq!(read, [("a".to_owned(), false), ("b".to_owned(), true)]);
    }
}
