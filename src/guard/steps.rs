//! Finds the running step in the file.
//!
//! A step knows neither its name nor its pipeline (docs/protocol.md, "Which step"), so the steps are compared with the
//! environment, property by property. A property that no step has is ignored, because it was misread by us or in the
//! file.

use super::globs::{Matcher, Rules};
use super::pipelines_yaml::{Command, RunsFor, Step};
use crate::environment::Environment;

/// Part of the names of our pipe, its image and its binary.
pub(super) const PROGRAM: &str = "teleport-pipe";

/// The steps that could be the running one. `has_token` says whether the running step has an ID token.
pub(super) fn candidates<'p, 't>(
    steps: &'p [Step<'t>],
    env: &Environment,
    has_token: bool,
    matcher: &Matcher,
) -> Vec<&'p Step<'t>> {
    let runs_pipe = |step: &&Step<'_>| step.script.iter().chain(&step.after_script).any(Command::writes_keys);
    let mut candidates: Vec<_> = steps.iter().filter(runs_pipe).collect();
    // A script in the repository may run teleport-pipe. And a step without a token may contain the name for another
    // reason, for example because it builds the image.
    let is_indirect = candidates.is_empty() || (has_token && !candidates.iter().any(|step| step.oidc));
    if is_indirect {
        candidates.extend(steps.iter().filter(|step| step.oidc));
    }
    narrow_by_event(&mut candidates, steps, env, matcher);
    let deployment = env.get("BITBUCKET_DEPLOYMENT_ENVIRONMENT").map(normalized);
    narrow(&mut candidates, |step| step.deployment.map(normalized) == deployment);
    let number = |name| env.get(name).and_then(|text| text.parse::<usize>().ok());
    let parallel = number("BITBUCKET_PARALLEL_STEP").zip(number("BITBUCKET_PARALLEL_STEP_COUNT"));
    narrow(&mut candidates, |step| step.parallel == parallel);
    if !is_indirect {
        narrow(&mut candidates, |step| step.oidc || !has_token);
        narrow(&mut candidates, |step| step.script.iter().any(|command| command.could_set(env)));
    }
    candidates
}

/// Keeps the steps with a property, if there are any.
fn narrow<T: Copy>(candidates: &mut Vec<T>, has: impl Fn(T) -> bool) {
    let having: Vec<_> = candidates.iter().copied().filter(|step| has(*step)).collect();
    if !having.is_empty() {
        *candidates = having;
    }
}

/// Keeps the steps of pipelines that the event could have started, if there are any.
fn narrow_by_event(candidates: &mut Vec<&Step<'_>>, steps: &[Step<'_>], env: &Environment, matcher: &Matcher) {
    let (branch, tag) = (env.get("BITBUCKET_BRANCH"), env.get("BITBUCKET_TAG"));
    let is_pull_request = env.get("BITBUCKET_PR_ID").is_some();
    let is_push_to_branch = tag.is_none() && !is_pull_request;
    let fits =
        |pattern: &str, name: Option<&str>, rules| name.is_some_and(|name| matcher.matches(pattern, name, rules));
    let is_for_branch =
        |step: &Step<'_>| matches!(step.runs_for, RunsFor::Branch(pattern) if fits(pattern, branch, Rules::Strict));
    let has_branch_pipeline = steps.iter().any(is_for_branch);
    narrow(candidates, |step| match step.runs_for {
        RunsFor::Default => is_push_to_branch && !has_branch_pipeline,
        RunsFor::Branch(pattern) => is_push_to_branch && fits(pattern, branch, Rules::Lenient),
        RunsFor::Tag(pattern) => fits(pattern, tag, Rules::Lenient),
        RunsFor::PullRequest(pattern) => is_pull_request && fits(pattern, branch, Rules::Lenient),
        RunsFor::Anything => true,
    });
}

/// Bitbucket spells the names of environments in several ways.
fn normalized(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl Command<'_> {
    pub(super) fn is_teleport_pipe(&self) -> bool {
        match self {
            Self::Shell(line) => line.contains(PROGRAM),
            Self::Pipe { reference, .. } => reference.contains(PROGRAM),
        }
    }

    pub(super) fn is_cleanup(&self) -> bool {
        match self {
            Self::Shell(line) => line.split_whitespace().any(|word| word == "cleanup" || word == "ACTION=cleanup"),
            Self::Pipe { variables, .. } => variables.contains(&("ACTION", "cleanup")),
        }
    }

    pub(super) fn writes_keys(&self) -> bool {
        self.is_teleport_pipe() && !self.is_cleanup()
    }

    /// Whether this command could have set our environment: our pipe gets exactly the variables that its entry lists. A
    /// value in which something is substituted, and a shell line, could have set any.
    fn could_set(&self, env: &Environment) -> bool {
        let Self::Pipe { variables, .. } = self else { return self.writes_keys() };
        let is_literal = |value: &str| !value.contains(['$', '\\', '`', '"', '\'']);
        let given = |(name, value): &(&str, &str)| !is_literal(value) || env.get(name).unwrap_or("") == value.trim();
        self.is_teleport_pipe() && variables.iter().all(given)
    }
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
        assert_eq!(found(&ours, &[]), "ours");
        // A step without `oidc` has no token of its own.
        let both = format!("{ours}\n    - step: {{artifacts: [both], oidc: true, script: [teleport-pipe]}}");
        assert_eq!(found_with(&both, &[], true), "both");
        // The step with the name may get a token in another way, or the other step may run a script.
        assert_eq!(found_with(&ours, &[], true), "oidc ours");
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
