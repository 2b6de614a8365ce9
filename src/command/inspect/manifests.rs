//! What a cluster needs so that a step can join: a role, a bot and a join token, as documents for `tctl create`; and
//! the step that then joins. Pure functions from names and a rule to YAML.
//!
//! The forms are those of Teleport's guides. A role of version 7 is understood by every cluster that knows the join
//! method; nodes, logins and tunnels are as few as can be.

use std::fmt::Write as _;

use crate::environment::Environment;
use crate::platform::Scope;
use crate::platform::rule::Rule;
use crate::settings::default;
use crate::values::TokenName;
use crate::yaml::scalar;

/// The key of the label that a node must have. Its value names the repository.
const LABEL: &str = "deploy-from";

/// The user that steps log in as, unless told.
const LOGIN: &str = "deploy";

/// What the documents are called.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    token: String,
    bot: String,
    role: String,
    label: String,
    environment: Option<String>,
}

impl Names {
    /// Names for what the rule is about: `repository`, `repository-environment`, or the workspace. A join token that
    /// has a name already, as `example-bot`, names the others: `example`, `example-role`.
    pub(crate) fn new(env: &Environment, scope: Scope, token: Option<&TokenName>) -> Self {
        let slug = env.get("BITBUCKET_REPO_SLUG");
        let workspace = env.get("BITBUCKET_WORKSPACE");
        let environment = env.get("BITBUCKET_DEPLOYMENT_ENVIRONMENT").filter(|_| scope == Scope::Deployment);
        let parts = match scope {
            Scope::Workspace => [workspace, None, None],
            _ => [workspace, slug, environment],
        };
        let parts: Vec<_> = parts.into_iter().flatten().map(plain).filter(|part| !part.is_empty()).collect();
        let own = if parts.len() > 1 { &parts[1..] } else { &parts };
        let stem = match token {
            Some(token) => plain(token.as_str().strip_suffix("-bot").unwrap_or(token.as_str())),
            None => own.join("-"),
        };
        let stem = if stem.is_empty() { "example".to_owned() } else { stem };
        Self {
            token: token.map_or_else(|| format!("{stem}-bot"), |token| token.as_str().to_owned()),
            role: format!("{stem}-role"),
            label: if parts.is_empty() { stem.clone() } else { parts.join("/") },
            bot: stem,
            environment: environment.map(str::to_owned),
        }
    }
}

/// The text with nothing in it that a name, a label or a pattern of labels could mean something by.
fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = text.chars().map(|c| if fits(c) { c } else { '-' }).take(60).collect();
    name.trim_matches(['-', '.']).to_owned()
}

/// `role.yaml`: what the step may do. Nothing, until a node has the label.
pub(crate) fn role(names: &Names, logins: &[String]) -> String {
    let Names { role, label, .. } = names;
    let (hint, logins) = match logins {
        [] => (" An example: put in your own, or set LOGINS and run inspect again.", scalar::list([LOGIN])),
        given => ("", scalar::list(given)),
    };
    format!(
        "\
# role.yaml: what the step may do.
# It reaches the nodes that have the label below and no others, so none until you give it to some: `labels` below
# `ssh_service` in a node's teleport.yaml.
kind: role
version: v7
metadata:
  name: {}
spec:
  allow:
    # Users on the node.{hint}
    logins: {logins}
    node_labels:
      {LABEL}: {}
  options:
    # No certificate lives longer. A TTL above it is cut.
    max_session_ttl: {}
    # No tunnels through the nodes.
    port_forwarding: false
",
        scalar::quoted(role),
        scalar::quoted(label),
        default::TTL,
    )
}

/// `bot.yaml`: who the step is.
pub(crate) fn bot(names: &Names) -> String {
    format!(
        "\
# bot.yaml: who the step is.
kind: bot
version: v1
metadata:
  name: {}
spec:
  roles: {}
",
        scalar::quoted(&names.bot),
        scalar::list([&names.role]),
    )
}

/// `bot-token.yaml`: which steps are that bot.
pub(crate) fn token(names: &Names, rule: &Rule) -> String {
    let whom = match rule.scope {
        Scope::Deployment => {
            "\
# This repository's steps with this deployment environment. Which branches may deploy there is set in Bitbucket."
        }
        Scope::Branch => {
            "\
# This repository's steps on this branch; another branch takes another rule below `allow`. A step with `deployment:`
# can have a rule for that alone: run inspect in it."
        }
        Scope::Repository => {
            "\
# EVERY step of this repository: whoever can push to any branch of it can join. A step with `deployment:` can have a
# rule for that alone: run inspect in it."
        }
        Scope::Workspace => {
            "\
# EVERY step of EVERY repository of the workspace: whoever can push to any of them can join."
        }
    };
    format!(
        "\
# bot-token.yaml: which steps may be that bot.
{whom}
kind: token
version: v2
metadata:
  name: {}
spec:
  roles: [Bot]
  bot_name: {}
{}",
        scalar::quoted(&names.token),
        scalar::quoted(&names.bot),
        rule.yaml(),
    )
}

/// The step that joins, for `bitbucket-pipelines.yml`; where the proxy or the cluster is not known, an example.
pub(crate) fn step(names: &Names, proxy: Option<&str>, cluster: Option<&str>, logins: &[String]) -> String {
    let login = logins.first().map_or(LOGIN, String::as_str);
    let mut yaml = String::from("- step:\n    oidc: true\n");
    if let Some(environment) = &names.environment {
        let _ = writeln!(yaml, "    deployment: {}", scalar::quoted(environment));
    }
    let _ = write!(
        yaml,
        "    script:
      - pipe: ORGANISATION/teleport-pipe:{}
        variables:
          PROXY_SERVER: {}
          TOKEN: {}
      - {}
",
        env!("CARGO_PKG_VERSION"),
        scalar::quoted(proxy.unwrap_or("example.teleport.sh:443")),
        scalar::quoted(&names.token),
        scalar::quoted(&format!(
            "ssh -F {}/ssh_config {}@node.{} uptime",
            default::DESTINATION,
            plain(login),
            cluster.unwrap_or("example.teleport.sh"),
        )),
    );
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(variables: &[(&str, &str)], scope: Scope, token: Option<&str>) -> String {
        let token = token.map(|token| token.parse().unwrap());
        let names = Names::new(&variables.iter().copied().collect(), scope, token.as_ref());
        assert_eq!(names.role, format!("{}-role", names.bot));
        format!("{} {} {}", names.token, names.bot, names.label)
    }

    #[test]
    fn names_say_what_they_are_for() {
        let step = [
            ("BITBUCKET_WORKSPACE", "acme"),
            ("BITBUCKET_REPO_SLUG", "infra.x"),
            ("BITBUCKET_DEPLOYMENT_ENVIRONMENT", "EU West"),
        ];
        assert_eq!(names(&step, Scope::Branch, None), "infra.x-bot infra.x acme/infra.x");
        assert_eq!(names(&step, Scope::Deployment, None), "infra.x-EU-West-bot infra.x-EU-West acme/infra.x/EU-West");
        assert_eq!(names(&step, Scope::Workspace, None), "acme-bot acme acme");
        assert_eq!(names(&step, Scope::Branch, Some("example-bot")), "example-bot example acme/infra.x");
        assert_eq!(names(&step, Scope::Branch, Some("a/*")), "a/* a acme/infra.x");
        assert_eq!(names(&[], Scope::Branch, None), "example-bot example example");
    }

    #[test]
    fn no_label_is_a_pattern() {
        for hostile in ["*", "^.*$", "{{internal.logins}}", "..", "\u{1b}[2J"] {
            let step = [("BITBUCKET_WORKSPACE", hostile), ("BITBUCKET_REPO_SLUG", hostile)];
            let label = names(&step, Scope::Repository, None).rsplit_once(' ').unwrap().1.to_owned();
            assert!(!label.contains(['*', '^', '$', '{', '}']) && !label.is_empty(), "{label}");
        }
    }
}
