//! The resources as YAML for `tctl create`.

use super::files::{Directory, Files};
use super::resources::{LABEL, MAX_SESSION_TTL, Resources, comment};
use crate::output_files::{BOT_TOKEN_YAML, BOT_YAML, ROLE_YAML};
use crate::yaml::scalar;

/// The files, and what they hold, in the order in which they have to be created.
pub(super) fn files(resources: &Resources<'_>) -> Files {
    vec![(ROLE_YAML, role(resources)), (BOT_YAML, bot(resources)), (BOT_TOKEN_YAML, token(resources))]
}

/// What the step may do.
fn role(resources: &Resources<'_>) -> String {
    format!(
        "\
# role.yaml: what the step may do.
{}kind: role
version: v7
metadata:
  name: {}
spec:
  allow:
{}    logins: {}
{}    node_labels:
{}  options:
{}    max_session_ttl: {MAX_SESSION_TTL}
{}    port_forwarding: false
",
        comment("", resources.role_comment()),
        scalar::quoted(&resources.names.role),
        comment("    ", resources.logins_comment()),
        scalar::list(resources.logins()),
        comment("    ", &resources.labels_comment()),
        labels(resources),
        comment("    ", Resources::TTL_COMMENT),
        comment("    ", Resources::TUNNELS_COMMENT),
    )
}

fn labels(resources: &Resources<'_>) -> String {
    let mut yaml = String::new();
    for (key, values) in resources.labels() {
        let key = if key == LABEL { key.to_owned() } else { scalar::quoted(key) };
        let value = match &*values {
            [one] => scalar::quoted(one),
            several => scalar::list(several),
        };
        yaml += &format!("      {key}: {value}\n");
    }
    if resources.shows_last_resort() {
        yaml += &comment("      ", &format!("{}\n'*': '*'", Resources::LAST_RESORT));
    }
    yaml
}

/// Who the step is.
fn bot(resources: &Resources<'_>) -> String {
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
        scalar::quoted(&resources.names.bot),
        scalar::list([&resources.names.role]),
    )
}

/// Which steps are that bot.
fn token(resources: &Resources<'_>) -> String {
    let (names, rule) = (resources.names, resources.rule);
    format!(
        "\
# bot-token.yaml: which steps may be that bot.
{}
{}kind: token
version: v2
metadata:
  name: {}
spec:
  roles: [Bot]
  bot_name: {}
{}",
        rule.scope.comment,
        rule.to_complete(),
        scalar::quoted(&names.token),
        scalar::quoted(&names.bot),
        rule.yaml(),
    )
}

/// What to do with the files, as a comment.
pub(super) fn next(directory: Option<&Directory<'_>>) -> String {
    let path = |name: &str| directory.map_or_else(|| name.to_owned(), |directory| directory.file(name));
    let commands: String = [ROLE_YAML, BOT_YAML, BOT_TOKEN_YAML]
        .iter()
        .map(|name| format!("#   tctl create -f {}\n", path(name)))
        .collect();
    let (save, whole) = match directory {
        Some(_) => ("creates them in this order:", ""),
        None => (
            "saves each document as the file that it names, and creates them in this order:",
            "All of this text as one file works, too. ",
        ),
    };
    format!(
        "\
# The administrator of the cluster {save}
{commands}# {whole}With -f, a resource of the same name is replaced; without it, tctl stops.
"
    )
}
