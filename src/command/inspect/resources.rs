//! What a cluster needs so that a step can join: a role, a bot and a join token. Their comments, which are the same in
//! every format.
//!
//! The forms are those of Teleport's guides. Every cluster that knows the join methods understands a role of version 7,
//! which allows as few nodes, logins and tunnels as possible.

use crate::environment::Environment;
use crate::node_labels::NodeLabels;
use crate::platform::rule::Rule;
use crate::platform::{Claims, Scope};
use crate::settings::default;
use crate::values::TokenName;

/// The key of the label that a node must have if no labels are given. Its value names the repository.
pub(super) const LABEL: &str = "deploy-from";

/// The login of steps if none is given.
pub(super) const LOGIN: &str = "deploy";

pub(super) const MAX_SESSION_TTL: &str = default::TTL;

/// The role, the bot and the join token.
pub(super) struct Resources<'a> {
    pub(super) names: &'a Names,
    pub(super) logins: Given<&'a [String]>,
    pub(super) labels: Given<&'a NodeLabels>,
    pub(super) rule: &'a Rule,
}

/// A variable or flag.
#[derive(Clone, Copy)]
pub(super) enum Given<T> {
    Nothing,
    Value(T),
    /// A public log does not show whether it has a value, nor which.
    Hidden,
}

impl<T> Given<T> {
    pub(super) fn new(value: T, is_empty: bool, is_public: bool) -> Self {
        match (is_public, is_empty) {
            (true, _) => Self::Hidden,
            (false, true) => Self::Nothing,
            (false, false) => Self::Value(value),
        }
    }
}

impl Resources<'_> {
    pub(super) fn logins(&self) -> Vec<&str> {
        match self.logins {
            Given::Value(logins) => logins.iter().map(String::as_str).collect(),
            Given::Nothing | Given::Hidden => vec![LOGIN],
        }
    }

    /// The labels that a node must have: keys, each with its values.
    pub(super) fn labels(&self) -> Vec<(&str, Vec<&str>)> {
        match self.labels {
            Given::Value(labels) => {
                labels.iter().map(|(key, values)| (key, values.iter().map(String::as_str).collect())).collect()
            }
            Given::Nothing | Given::Hidden => vec![(LABEL, vec![&self.names.label])],
        }
    }

    /// The comment above the role.
    pub(super) fn role_comment(&self) -> &'static str {
        match self.labels {
            Given::Value(labels) if labels.match_every_node() => {
                "WARNING: it reaches EVERY node of the cluster, because NODE_LABELS (--node-labels) has *=*."
            }
            Given::Value(_) => {
                "It reaches the nodes that have all of the labels below, which are those of NODE_LABELS (--node-labels), and no\n\
                 others. If a label has several values, one of them is enough."
            }
            Given::Hidden => {
                "It reaches the nodes that have the label below and no others. That label is an example, because this log is\n\
                 public and does not show NODE_LABELS (--node-labels): put in your own."
            }
            Given::Nothing => {
                "It reaches the nodes that have the label below and no others, so none until some have it. Better set NODE_LABELS\n\
                 (--node-labels) to labels that your nodes have, such as 'env=prod', and run inspect again; `tctl nodes ls` shows\n\
                 them. Otherwise give nodes this label: `labels` below `ssh_service` in a node's teleport.yaml."
            }
        }
    }

    /// The comment above the logins.
    pub(super) fn logins_comment(&self) -> &'static str {
        match self.logins {
            Given::Value(_) => "Users on the node.",
            Given::Hidden => {
                "Users on the node. An example, because this log is public and does not show LOGINS: put in your own."
            }
            Given::Nothing => "Users on the node. An example: put in your own, or set LOGINS and run inspect again.",
        }
    }

    /// The comment above the labels; empty if there is nothing to say.
    pub(super) fn labels_comment(&self) -> String {
        let Given::Value(labels) = self.labels else { return String::new() };
        let keys = labels.keys_of_any_value().filter(|key| *key != "*");
        keys.map(|key| format!("WARNING: every value of the label {key} fits.\n")).collect()
    }

    /// Whether to show, as a comment below the label, how a role reaches every node.
    pub(super) fn shows_last_resort(&self) -> bool {
        matches!(self.labels, Given::Nothing)
    }

    /// The comment above that.
    pub(super) const LAST_RESORT: &'static str =
        "The last resort, in place of the label above. WARNING: with it the role reaches EVERY node of the cluster.";

    pub(super) const TTL_COMMENT: &'static str = "No certificate lives longer. A TTL above it is cut.";
    pub(super) const TUNNELS_COMMENT: &'static str = "No tunnels through the nodes.";
}

/// The lines of the text as comments.
pub(super) fn comment(indent: &str, text: &str) -> String {
    text.lines().map(|line| format!("{indent}# {line}\n")).collect()
}

/// The line after the pipe; an example if the cluster is not known.
pub(super) fn command(cluster: Option<&str>, login: &str) -> String {
    let cluster = cluster.unwrap_or("example.teleport.sh");
    format!("ssh -F {}/ssh_config {}@node.{cluster} uptime", default::DESTINATION, plain(login))
}

/// The names of the resources.
pub(super) struct Names {
    pub(super) token: String,
    pub(super) bot: String,
    pub(super) role: String,
    /// The value of the label that a node must have if no labels are given.
    label: String,
}

impl Names {
    /// Names after the variables that tell the scope apart: `repository`, `repository-environment`, or the workspace. If
    /// the join token already has a name, such as `example-bot`, it names the others: `example`, `example-role`.
    pub(super) fn new(env: &Environment, claims: &Claims, scope: &Scope, token: Option<&TokenName>) -> Self {
        let parts = scope.named_by.iter().filter_map(|name| env.get(name).or_else(|| claims.literal(name)));
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
}

/// The text without characters that have a meaning in a name, a label or a pattern of labels.
fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = text.chars().map(|c| if fits(c) { c } else { '-' }).take(60).collect();
    name.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ALL;
    use crate::platform::id_token::tests::claims;

    fn names(parts: &[&str], scope: &str, token: Option<&str>) -> String {
        let token = token.map(|token| token.parse().unwrap());
        // The scope that names most variables has all that there are.
        let variables = ALL[0].scopes[0].named_by.iter().copied().zip(parts.iter().copied());
        let names = Names::new(&variables.collect(), &claims("{}"), ALL[0].scope(scope).unwrap(), token.as_ref());
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
