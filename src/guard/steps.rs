//! Which step of the file is the one that runs?
//!
//! Bitbucket tells a step neither its name nor its pipeline (bitbucket-pipes.md 5.4), so it is found by what it must
//! look like. A trait that no step has was misread, by us or in the file; it tells nothing then, and all steps stay.

use super::globs::{Matcher, Rules};
use super::pipelines_yaml::{Command, RunsFor, Step};
use crate::environment::Environment;

/// What our pipe, its image and its binary have in their name.
pub(super) const OUR_NAME: &str = "teleport-pipe";

/// The steps that could be the running one.
pub(super) fn candidates<'p, 't>(
    steps: &'p [Step<'t>],
    env: &Environment,
    has_token: bool,
    matcher: &Matcher,
) -> Vec<&'p Step<'t>> {
    let mut left: Vec<_> = steps.iter().filter(|step| step.runs_us()).collect();
    // A script in the repository may call us, and a step without a token of its own may only speak of us, as one that
    // builds our image.
    let hidden = left.is_empty() || (has_token && !left.iter().any(|step| step.oidc));
    if hidden {
        left.extend(steps.iter().filter(|step| step.oidc));
    }
    let push = Push::of(env, steps, matcher);
    narrow(&mut left, |step| push.starts(step.runs_for, matcher));
    let deployment = env.get("BITBUCKET_DEPLOYMENT_ENVIRONMENT").map(plain);
    narrow(&mut left, |step| step.deployment.map(plain) == deployment);
    let number = |name| env.get(name).and_then(|text| text.parse::<usize>().ok());
    let parallel = number("BITBUCKET_PARALLEL_STEP").zip(number("BITBUCKET_PARALLEL_STEP_COUNT"));
    narrow(&mut left, |step| step.parallel == parallel);
    if has_token && !hidden {
        narrow(&mut left, |step| step.oidc);
    }
    if !hidden {
        narrow(&mut left, |step| step.script.iter().any(|command| command.gives(env)));
    }
    left
}

/// Keeps the steps that have a trait, if there are some.
fn narrow<T: Copy>(left: &mut Vec<T>, has: impl Fn(T) -> bool) {
    let having: Vec<_> = left.iter().copied().filter(|step| has(*step)).collect();
    if !having.is_empty() {
        *left = having;
    }
}

/// Bitbucket has names of environments in several spellings.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl Step<'_> {
    fn runs_us(&self) -> bool {
        self.script.iter().chain(&self.after_script).any(|command| command.is_ours() && !command.is_cleanup())
    }
}

impl Command<'_> {
    /// Whether this runs teleport-pipe.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Shell(line) => line.contains(OUR_NAME),
            Self::Pipe { reference, .. } => reference.contains(OUR_NAME),
        }
    }

    /// Whether this makes teleport-pipe remove what it wrote.
    pub(super) fn is_cleanup(&self) -> bool {
        match self {
            Self::Shell(line) => line.split_whitespace().any(|word| word == "cleanup" || word == "ACTION=cleanup"),
            Self::Pipe { variables, .. } => variables.contains(&("ACTION", "cleanup")),
        }
    }

    /// Whether this could have given us the environment that we have: our pipe gets exactly the variables that its
    /// entry lists. Values that something is replaced in, and shell lines, could have given any.
    fn gives(&self, env: &Environment) -> bool {
        let Self::Pipe { variables, .. } = self else { return self.is_ours() && !self.is_cleanup() };
        let is_literal = |value: &str| !value.contains(['$', '\\', '`', '"', '\'']);
        let given = |(name, value): &(&str, &str)| !is_literal(value) || env.get(name).unwrap_or("") == value.trim();
        self.is_ours() && variables.iter().all(given)
    }
}

/// What started the pipeline.
struct Push<'e> {
    branch: Option<&'e str>,
    tag: Option<&'e str>,
    pull_request: bool,
    /// A pattern of `branches:` surely matches the branch.
    has_pipeline: bool,
}

impl<'e> Push<'e> {
    fn of(env: &'e Environment, steps: &[Step<'_>], matcher: &Matcher) -> Self {
        let branch = env.get("BITBUCKET_BRANCH");
        let is_for = |step: &Step<'_>| match (step.runs_for, branch) {
            (RunsFor::Branch(pattern), Some(branch)) => matcher.matches(pattern, branch, Rules::PLAIN),
            _ => false,
        };
        Self {
            branch,
            tag: env.get("BITBUCKET_TAG"),
            pull_request: env.get("BITBUCKET_PR_ID").is_some(),
            has_pipeline: steps.iter().any(is_for),
        }
    }

    /// Whether a pipeline could be the one that runs.
    fn starts(&self, runs_for: RunsFor<'_>, matcher: &Matcher) -> bool {
        let fits =
            |pattern: &str, name: Option<&str>| name.is_some_and(|name| matcher.matches(pattern, name, Rules::ANY));
        match runs_for {
            RunsFor::Default => self.tag.is_none() && !self.pull_request && !self.has_pipeline,
            RunsFor::Branch(pattern) => self.tag.is_none() && !self.pull_request && fits(pattern, self.branch),
            RunsFor::Tag(pattern) => fits(pattern, self.tag),
            RunsFor::PullRequest(pattern) => self.pull_request && fits(pattern, self.branch),
            RunsFor::Anything => true,
        }
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
        let pipelines = Pipelines::of(&tree);
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
        // `*` may cross or not.
        assert_eq!(found(ALL, &[branch("release/1/2")]), "default release");
        assert_eq!(found(ALL, &[branch("main"), ("BITBUCKET_PR_ID", "7")]), "pr");
        assert_eq!(found(ALL, &[("BITBUCKET_TAG", "v1")]), "tag");
        let custom = format!("{ALL}  custom: {{c: [{{step: {{artifacts: [custom], script: [teleport-pipe]}}}}]}}");
        assert_eq!(found(&custom, &[branch("main")]), "custom main");
        // Nothing is known: nothing is ruled out but what cannot be.
        assert_eq!(found(ALL, &[]), "default");
    }

    #[test]
    fn steps_that_call_us_go_before_those_with_oidc() {
        let steps = "
  default:
    - step: {artifacts: [plain], script: [make]}
    - step: {artifacts: [oidc], oidc: true, script: [./deploy]}
    - step: {artifacts: [cleanup], script: [teleport-pipe cleanup, {pipe: x/teleport-pipe:1, variables: {ACTION: cleanup}}]}
";
        assert_eq!(found(steps, &[]), "oidc");
        let ours = format!("{steps}    - step: {{artifacts: [ours], script: ['docker run x/teleport-pipe:1']}}");
        assert_eq!(found(&ours, &[]), "ours");
        // A step without `oidc` has no token.
        let both = format!("{ours}\n    - step: {{artifacts: [both], oidc: true, script: [teleport-pipe]}}");
        assert_eq!(found_with(&both, &[], true), "both");
        // Who speaks of us and has none may be given one, or another step runs us by a script.
        assert_eq!(found_with(&ours, &[], true), "oidc ours");
    }

    #[test]
    fn by_deployment_and_place_in_a_group() {
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
    fn by_the_variables_that_the_pipe_was_given() {
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
