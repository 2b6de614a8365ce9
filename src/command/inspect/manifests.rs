//! What a cluster needs so that a step can join: a role, a bot and a join token, as documents for `tctl create`.
//!
//! The forms are those of Teleport's guides. Every cluster that knows the join methods understands a role of version 7,
//! which allows as few nodes, logins and tunnels as possible.

use crate::environment::Environment;
use crate::platform::Scope;
use crate::platform::rule::Rule;
use crate::settings::default;
use crate::values::TokenName;
use crate::yaml::scalar;

/// The key of the label that a node must have. Its value names the repository.
const LABEL: &str = "deploy-from";

/// The login of steps if none is given.
const LOGIN: &str = "deploy";

/// The names of the resources.
pub(super) struct Names {
    token: String,
    bot: String,
    role: String,
    label: String,
}

impl Names {
    /// Names after the variables that tell the scope apart: `repository`, `repository-environment`, or the workspace. If
    /// the join token already has a name, such as `example-bot`, it names the others: `example`, `example-role`.
    pub(super) fn new(env: &Environment, scope: &Scope, token: Option<&TokenName>) -> Self {
        let parts = scope.named_by.iter().filter_map(|variable| env.get(variable));
        let parts: Vec<_> = parts.map(plain).filter(|part| !part.is_empty()).collect();
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
        }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }
}

/// The text without characters that have a meaning in a name, a label or a pattern of labels.
fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = text.chars().map(|c| if fits(c) { c } else { '-' }).take(60).collect();
    name.trim_matches(['-', '.']).to_owned()
}

/// `role.yaml`: what the step may do. Nothing, until a node has the label.
pub(super) fn role(names: &Names, logins: &[String]) -> String {
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
pub(super) fn bot(names: &Names) -> String {
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
pub(super) fn token(names: &Names, rule: &Rule) -> String {
    format!(
        "\
# bot-token.yaml: which steps may be that bot.
{}
kind: token
version: v2
metadata:
  name: {}
spec:
  roles: [Bot]
  bot_name: {}
{}",
        rule.scope.comment,
        scalar::quoted(&names.token),
        scalar::quoted(&names.bot),
        rule.yaml(),
    )
}

/// The line after the pipe; an example if the cluster is not known.
pub(super) fn command(cluster: Option<&str>, logins: &[String]) -> String {
    let login = logins.first().map_or(LOGIN, String::as_str);
    let cluster = cluster.unwrap_or("example.teleport.sh");
    format!("ssh -F {}/ssh_config {}@node.{cluster} uptime", default::DESTINATION, plain(login))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ALL;

    fn names(parts: &[&str], scope: &str, token: Option<&str>) -> String {
        let token = token.map(|token| token.parse().unwrap());
        // The scope that names most variables has all that there are.
        let variables = ALL[0].scopes[0].named_by.iter().copied().zip(parts.iter().copied());
        let names = Names::new(&variables.collect(), ALL[0].scope(scope).unwrap(), token.as_ref());
        assert_eq!(names.role, format!("{}-role", names.bot));
        format!("{} {} {}", names.token, names.bot, names.label)
    }

    #[test]
    fn resources_are_named_after_what_the_scope_admits() {
        let step = ["acme", "infra.x", "EU West"];
        assert_eq!(names(&step, "branch", None), "infra.x-bot infra.x acme/infra.x");
        assert_eq!(names(&step, "deployment", None), "infra.x-EU-West-bot infra.x-EU-West acme/infra.x/EU-West");
        assert_eq!(names(&step, "workspace", None), "acme-bot acme acme");
        assert_eq!(names(&step, "branch", Some("example-bot")), "example-bot example acme/infra.x");
        assert_eq!(names(&step, "branch", Some("a/*")), "a/* a acme/infra.x");
        assert_eq!(names(&[], "branch", None), "example-bot example example");
    }

    #[test]
    fn a_label_is_never_a_pattern() {
        for hostile in ["*", "^.*$", "{{internal.logins}}", "..", "\u{1b}[2J"] {
            let label = names(&[hostile, hostile], "repository", None).rsplit_once(' ').unwrap().1.to_owned();
            assert!(!label.contains(['*', '^', '$', '{', '}']) && !label.is_empty(), "{label}");
        }
    }
}
