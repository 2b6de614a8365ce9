//! The resources for Teleport's Terraform provider (docs/protocol.md, "Terraform provider").

use super::files::{Directory, Files};
use super::resources::{MAX_SESSION_TTL, Resources, comment};
use crate::hcl::{arguments, identifier, list, quoted};
use crate::output_files::TELEPORT_TF;

/// Where Terraform finds the provider.
const PROVIDER: &str = "terraform.releases.teleport.dev/gravitational/teleport";

/// The file. One resource names another by a reference, so that Terraform creates them in the right order.
pub(super) fn files(resources: &Resources<'_>) -> Files {
    vec![(TELEPORT_TF, format!("{}\n{}\n{}", role(resources), bot(resources), token(resources)))]
}

/// What the step may do.
fn role(resources: &Resources<'_>) -> String {
    let name = &resources.names.role;
    format!(
        "\
# What the step may do.
{}resource \"teleport_role\" {} {{
  version = \"v7\"
  metadata = {{
    name = {}
  }}
  spec = {{
    allow = {{
{}      logins = {}
{}      node_labels = {{
{}      }}
    }}
    options = {{
{}      max_session_ttl = {}
{}      port_forwarding = false
    }}
  }}
}}
",
        comment("", resources.role_comment()),
        quoted(&identifier(name)),
        quoted(name),
        comment("      ", resources.logins_comment()),
        list(resources.logins()),
        comment("      ", &resources.labels_comment()),
        labels(resources),
        comment("      ", Resources::TTL_COMMENT),
        quoted(MAX_SESSION_TTL),
        comment("      ", Resources::TUNNELS_COMMENT),
    )
}

fn labels(resources: &Resources<'_>) -> String {
    let labels = resources.labels();
    let labels: Vec<_> = labels.iter().map(|(key, values)| (quoted(key), list(values))).collect();
    let labels: Vec<_> = labels.iter().map(|(key, values)| (key.as_str(), values.clone())).collect();
    let mut hcl = arguments(8, &labels);
    if resources.shows_last_resort() {
        hcl += &comment("        ", &format!("{}\n\"*\" = [\"*\"]", Resources::LAST_RESORT));
    }
    hcl
}

/// Who the step is, in the form that every version of the provider takes.
fn bot(resources: &Resources<'_>) -> String {
    let bot = &resources.names.bot;
    let role = format!("teleport_role.{}.metadata.name", identifier(&resources.names.role));
    format!(
        "\
# Who the step is. Every version 17 and 18 of the provider takes this form. Version 18.4.0 and newer warn that it is
# deprecated; they also take
#   metadata = {{ name = {} }}
#   spec     = {{ roles = [{role}] }}
# and then `bot_name` below is teleport_bot.{}.metadata.name.
resource \"teleport_bot\" {} {{
{}}}
",
        quoted(bot),
        identifier(bot),
        quoted(&identifier(bot)),
        arguments(2, &[("name", quoted(bot)), ("roles", format!("[{role}]"))]),
    )
}

/// Which steps are that bot.
fn token(resources: &Resources<'_>) -> String {
    let (names, rule) = (resources.names, resources.rule);
    let spec = [
        ("roles", list(["Bot"])),
        ("bot_name", format!("teleport_bot.{}.name", identifier(&names.bot))),
        ("join_method", quoted(rule.method())),
    ];
    let values = |fields: &[(&'static str, String)]| -> Vec<(&'static str, String)> {
        fields.iter().map(|(field, value)| (*field, quoted(value))).collect()
    };
    format!(
        "\
# Which steps may be that bot.
{}
resource \"teleport_provision_token\" {} {{
  version = \"v2\"
  metadata = {{
    name = {}
  }}
  spec = {{
{}    {} = {{
{}      allow = [{{
{}      }}]
    }}
  }}
}}
",
        rule.scope.comment,
        quoted(&identifier(&names.token)),
        quoted(&names.token),
        arguments(4, &spec),
        rule.method(),
        arguments(6, &values(rule.provider())),
        arguments(8, &values(rule.allow())),
    )
}

/// What to do with the file, as a comment. The provider's major version is that of the cluster.
pub(super) fn next(directory: Option<&Directory<'_>>, cluster: Option<&str>) -> String {
    let save = match directory {
        Some(directory) => format!("copies {} into", directory.file(TELEPORT_TF)),
        None => format!("saves all of this text as {TELEPORT_TF} in"),
    };
    let major = cluster.and_then(|version| version.split('.').next()).filter(|major| major.parse::<u16>().is_ok());
    let version = major.map(|major| format!(", version = \"~> {major}.0\"")).unwrap_or_default();
    format!(
        "\
# The administrator of the cluster {save} a Terraform configuration
# that has Teleport's provider, in the major version of the cluster:
#   terraform {{
#     required_providers {{
#       teleport = {{ source = \"{PROVIDER}\"{version} }}
#     }}
#   }}
# and runs `terraform plan` and `terraform apply` there.
"
    )
}
