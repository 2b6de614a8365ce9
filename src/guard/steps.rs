//! Finds the running step in the file.
//!
//! A step knows neither its name nor its pipeline (docs/protocol.md, "Which step"), so the steps are compared with the
//! environment, property by property. A property that no step has is ignored, because it was misread by us or in the
//! file.

use super::actions::{Action, actions};
use super::globs::{Matcher, Rules};
use super::pipelines_yaml::{Pipelines, RunsFor, Step};
use super::reach;
use crate::environment::Environment;

/// The steps that could be the running one. `has_token` says whether the running step has an ID token.
pub(super) fn candidates<'p, 't>(
    steps: &'p [Step<'t>],
    env: &Environment,
    has_token: bool,
    matcher: &Matcher,
) -> Vec<&'p Step<'t>> {
    let mut candidates = could_run_us(steps, env, matcher);
    let event = Event::new(steps, env, matcher);
    narrow(&mut candidates, |(step, _)| event.starts(step.runs_for));
    let deployment = env.get("BITBUCKET_DEPLOYMENT_ENVIRONMENT").map(normalized);
    narrow(&mut candidates, |(step, _)| step.deployment.map(normalized) == deployment);
    let number = |name| env.get(name).and_then(|text| text.parse::<usize>().ok());
    let parallel = number("BITBUCKET_PARALLEL_STEP").zip(number("BITBUCKET_PARALLEL_STEP_COUNT"));
    narrow(&mut candidates, |(step, _)| step.parallel == parallel);
    // A step without `oidc` may get a token in another way if no step with `oidc` is likely.
    if has_token && candidates.iter().any(|(step, evidence)| step.oidc && evidence.is_named()) {
        narrow(&mut candidates, |(step, _)| step.oidc);
    }
    candidates.into_iter().map(|(step, _)| step).collect()
}

/// Whether the running pipeline could be one that is imported from another file.
pub(super) fn may_be_imported(pipelines: &Pipelines<'_>, env: &Environment, matcher: &Matcher) -> bool {
    let event = Event::new(&pipelines.steps, env, matcher);
    let is_known = pipelines.steps.iter().any(|step| event.starts(step.runs_for));
    pipelines.imports.iter().any(|runs_for| !is_known || event.starts(*runs_for))
}

/// Why a step may be the running one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// It runs our pipe, and the pipe's variables fit.
    Pipe,
    /// It has our name in a command.
    Command,
    /// It has our name, but with variables that do not fit.
    Misfit,
    /// It could run us by a command that does not name us.
    Unknown,
    None,
}

impl Evidence {
    fn new(step: &Step<'_>, env: &Environment, matcher: &Matcher) -> Self {
        let mut script = actions(&step.script, matcher);
        script.extend(actions(&step.after_script, matcher));
        let ours = || script.iter().filter(|action| action.writes_keys());
        let of = |action: &Action<'_>| match action {
            Action::Pipe { variables, .. } if fit(variables, env) => Self::Pipe,
            Action::Pipe { .. } => Self::Misfit,
            Action::Shell { .. } => Self::Command,
        };
        let runs_something =
            |action: &Action<'_>| matches!(action, Action::Shell { command, .. } if !command.only_prints());
        // The order is that of the variants.
        let best = ours().map(of).min_by_key(|evidence| *evidence as u8);
        best.unwrap_or(if script.iter().any(runs_something) { Self::Unknown } else { Self::None })
    }

    fn is_named(self) -> bool {
        matches!(self, Self::Pipe | Self::Command | Self::Misfit)
    }
}

/// The steps that run our program as far as the file shows. A pipe is always named in the file. Otherwise every step
/// with `oidc` may do it by a script, whatever other steps say.
fn could_run_us<'p, 't>(steps: &'p [Step<'t>], env: &Environment, matcher: &Matcher) -> Vec<(&'p Step<'t>, Evidence)> {
    let all: Vec<_> = steps.iter().map(|step| (step, Evidence::new(step, env, matcher))).collect();
    let is_found = reach::is_pipe(env) && all.iter().any(|(_, evidence)| *evidence == Evidence::Pipe);
    let mut could: Vec<_> = all
        .iter()
        .copied()
        .filter(|(step, evidence)| match evidence {
            Evidence::Pipe | Evidence::Command => true,
            Evidence::Unknown => step.oidc && !is_found,
            Evidence::Misfit | Evidence::None => false,
        })
        .collect();
    if could.is_empty() {
        could = all.into_iter().filter(|(step, evidence)| step.oidc || evidence.is_named()).collect();
    }
    could
}

/// Whether our environment can come from these variables of a pipe: a pipe gets exactly the variables that its entry
/// lists. A value in which something is substituted could be any.
fn fit(variables: &[(&str, &str)], env: &Environment) -> bool {
    let is_literal = |value: &str| !value.contains(['$', '\\', '`', '"', '\'']);
    variables.iter().all(|(name, value)| !is_literal(value) || env.get(name).unwrap_or("") == value.trim())
}

/// Keeps the steps with a property, if there are any.
fn narrow<T: Copy>(candidates: &mut Vec<T>, has: impl Fn(T) -> bool) {
    let having: Vec<_> = candidates.iter().copied().filter(|step| has(*step)).collect();
    if !having.is_empty() {
        *candidates = having;
    }
}

/// What has started the running pipeline.
struct Event<'e> {
    branch: Option<&'e str>,
    tag: Option<&'e str>,
    is_pull_request: bool,
    /// A pattern of `branches` matches, so that `default` does not run.
    has_branch_pipeline: bool,
    matcher: &'e Matcher,
}

impl<'e> Event<'e> {
    fn new(steps: &[Step<'_>], env: &'e Environment, matcher: &'e Matcher) -> Self {
        let (branch, tag) = (env.get("BITBUCKET_BRANCH"), env.get("BITBUCKET_TAG"));
        let is_pull_request = env.get("BITBUCKET_PR_ID").is_some();
        let mut event = Self { branch, tag, is_pull_request, has_branch_pipeline: false, matcher };
        let is_for_branch = |step: &Step<'_>| matches!(step.runs_for, RunsFor::Branch(pattern) if event.fits(pattern, branch, Rules::Strict));
        event.has_branch_pipeline = steps.iter().any(is_for_branch);
        event
    }

    /// Whether the event could have started a pipeline for `runs_for`.
    fn starts(&self, runs_for: RunsFor<'_>) -> bool {
        let is_push_to_branch = self.tag.is_none() && !self.is_pull_request;
        match runs_for {
            RunsFor::Default => is_push_to_branch && !self.has_branch_pipeline,
            RunsFor::Branch(pattern) => is_push_to_branch && self.fits(pattern, self.branch, Rules::Lenient),
            RunsFor::Tag(pattern) => self.fits(pattern, self.tag, Rules::Lenient),
            RunsFor::PullRequest(pattern) => self.is_pull_request && self.fits(pattern, self.branch, Rules::Lenient),
            RunsFor::Anything => true,
        }
    }

    fn fits(&self, pattern: &str, name: Option<&str>, rules: Rules) -> bool {
        name.is_some_and(|name| self.matcher.matches(pattern, name, rules))
    }
}

/// Bitbucket spells the names of environments in several ways.
fn normalized(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::pipelines_yaml::Pipelines;
    use crate::yaml::Tree;

    /// The first artifact of each candidate.
    fn found(pipelines: &str, env: &[(&str, &str)]) -> String {
        found_with(pipelines, env, false)
    }

    fn found_with(pipelines: &str, env: &[(&str, &str)], has_token: bool) -> String {
        let yaml = format!("pipelines:\n{pipelines}");
        let tree = Tree::parse(&yaml).unwrap();
        let pipelines = Pipelines::read(&tree);
        let env = env.iter().copied().collect();
        let steps = candidates(&pipelines.steps, &env, has_token, &Matcher::new());
        let mut names: Vec<_> = steps.iter().map(|step| step.artifacts[0].paths[0].0).collect();
        names.sort_unstable();
        names.join(" ")
    }

    const ALL: &str = "
  default: [{step: {artifacts: [default], script: [teleport-pipe]}}]
  branches:
    main: [{step: {artifacts: [main], script: [pipe: x/teleport-pipe:1]}}]
    'release/*': [{step: {artifacts: [release], script: [teleport-pipe]}}]
  tags: {'v*': [{step: {artifacts: [tag], script: [teleport-pipe]}}]}
  pull-requests: {'**': [{step: {artifacts: [pr], script: [teleport-pipe]}}]}
";

    #[test]
    fn by_branch_tag_and_pull_request() {
        let branch = |name| ("BITBUCKET_BRANCH", name);
        assert_eq!(found(ALL, &[branch("main")]), "main");
        assert_eq!(found(ALL, &[branch("feature/x")]), "default");
        assert_eq!(found(ALL, &[branch("release/1")]), "release");
        // It is not known whether `*` matches `/`.
        assert_eq!(found(ALL, &[branch("release/1/2")]), "default release");
        assert_eq!(found(ALL, &[branch("main"), ("BITBUCKET_PR_ID", "7")]), "pr");
        assert_eq!(found(ALL, &[("BITBUCKET_TAG", "v1")]), "tag");
        let custom = format!("{ALL}  custom: {{c: [{{step: {{artifacts: [custom], script: [teleport-pipe]}}}}]}}");
        assert_eq!(found(&custom, &[branch("main")]), "custom main");
        // Nothing is known about the event.
        assert_eq!(found(ALL, &[]), "default");
    }

    #[test]
    fn steps_that_run_teleport_pipe_go_before_those_with_oidc() {
        let steps = "
  default:
    - step: {artifacts: [plain], script: [make]}
    - step: {artifacts: [oidc], oidc: true, script: [./deploy]}
    - step: {artifacts: [cleanup], script: [teleport-pipe cleanup, {pipe: x/teleport-pipe:1, variables: {ACTION: cleanup}}]}
";
        assert_eq!(found(steps, &[]), "oidc");
        let ours = format!("{steps}    - step: {{artifacts: [ours], script: ['docker run x/teleport-pipe:1']}}");
        // F8.3: a step with `oidc` may run us by a script, whatever names another step has.
        assert_eq!(found(&ours, &[]), "oidc ours");
        assert_eq!(found(&ours, &[("BITBUCKET_PIPE_STORAGE_DIR", "/s")]), "oidc ours");
        let pipe =
            format!("{ours}\n    - step: {{artifacts: [pipe], oidc: true, script: [{{pipe: x/teleport-pipe:1}}]}}");
        assert_eq!(found_with(&pipe, &[("BITBUCKET_PIPE_STORAGE_DIR", "/s")], true), "pipe");
        assert_eq!(found_with(&pipe, &[], true), "oidc pipe");
        // A step without `oidc` has no token of its own.
        let both = format!("{ours}\n    - step: {{artifacts: [both], oidc: true, script: [teleport-pipe]}}");
        assert_eq!(found_with(&both, &[], true), "both oidc");
        // The step with the name may get a token in another way, or the other step may run a script.
        assert_eq!(found_with(&ours, &[], true), "oidc ours");
    }

    // F8.3: words about us in another step hide nothing, and a mirror can give the image another name.
    #[test]
    fn decoys_and_mirrors() {
        let decoy = "
  default:
    - step: {artifacts: [decoy], oidc: true, script: ['echo teleport-pipe', 'echo \"run teleport-pipe\" # teleport-pipe']}
";
        let with = |step: &str, env: &[(&str, &str)]| {
            found_with(&format!("{decoy}    - step: {{oidc: on, {step}}}\n"), env, true)
        };
        assert_eq!(with("artifacts: [real], script: [./join.sh]", &[]), "real");
        let mirror = "artifacts: [real], script: [{pipe: 'docker://registry.acme/tp:1', variables: {PROXY_SERVER: p, TOKEN: t}}]";
        assert_eq!(with(mirror, &[("PROXY_SERVER", "p"), ("TOKEN", "t")]), "real");
        let alone = found_with(decoy, &[], true);
        assert_eq!(alone, "decoy");
    }

    #[test]
    fn by_deployment_and_number_in_a_group() {
        let steps = "
  default:
    - step: {artifacts: [none], script: [teleport-pipe]}
    - step: {artifacts: [prod], deployment: Production EU, script: [teleport-pipe]}
    - parallel:
      - step: {artifacts: [p0], script: [teleport-pipe]}
      - step: {artifacts: [p1], script: [teleport-pipe]}
";
        assert_eq!(found(steps, &[]), "none");
        assert_eq!(found(steps, &[("BITBUCKET_DEPLOYMENT_ENVIRONMENT", "production-eu")]), "prod");
        let parallel = |number| [("BITBUCKET_PARALLEL_STEP", number), ("BITBUCKET_PARALLEL_STEP_COUNT", "2")];
        assert_eq!(found(steps, &parallel("1")), "p1");
        assert_eq!(found(steps, &parallel("5")), "none p0 p1");
    }

    #[test]
    fn by_the_variables_of_the_pipe() {
        let step = |name: &str, variables: &str| {
            format!(
                "    - step: {{artifacts: [{name}], script: [{{pipe: x/teleport-pipe:1, variables: {{{variables}}}}}]}}\n"
            )
        };
        let steps = [
            step("a", "TOKEN: bot-a, TTL: 1h"),
            step("b", "TOKEN: bot-b"),
            step("any", "TOKEN: $TOKEN"),
            step("inspect", "TOKEN: bot-b, ACTION: inspect"),
        ];
        let steps = format!("  default:\n{}", steps.concat());
        assert_eq!(found(&steps, &[("TOKEN", "bot-b")]), "any b");
        assert_eq!(found(&steps, &[("TOKEN", "bot-a"), ("TTL", "1h")]), "a any");
    }
}
