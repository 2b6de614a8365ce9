//! The resources for Teleport's Terraform provider (docs/protocol.md, "Terraform provider").

use super::files::{Directory, Files};
use super::resources::{MAX_SESSION_TTL, Resources, comment};
use crate::hcl::{arguments, identifier, list, quoted};
use crate::output_files::TELEPORT_TF;
use crate::platform::rule::Rule;

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
    let provider = rule.provider().iter().map(|(field, value)| match field.split_once('.') {
        None => (*field, quoted(value)),
        Some((section, field)) => (section, format!("{{ {field} = {} }}", quoted(value))),
    });
    let provider: Vec<_> = provider.collect();
    let allow =
        rule.allow().map(|(field, value, is_list)| (field, if is_list { list([value]) } else { quoted(value) }));
    let allow: Vec<_> = allow.collect();
    format!(
        "\
# Which steps may be that bot.
{}
{}resource \"teleport_provision_token\" {} {{
  version = \"v2\"
  metadata = {{
    name = {}
  }}
  spec = {{
{}    {} = {{
{}{}    }}
  }}
}}
",
        rule.scope.comment,
        rule.to_complete(),
        quoted(&identifier(&names.token)),
        quoted(&names.token),
        arguments(4, &spec),
        rule.method(),
        arguments(6, &provider),
        if rule.has_conditions() {
            conditions(rule)
        } else {
            format!("      allow = [{{\n{}      }}]\n", arguments(8, &allow))
        },
    )
}

/// The rule of a method that has conditions. The provider ignores `must_match_fields`, without an error.
fn conditions(rule: &Rule) -> String {
    if rule.is_empty() {
        return String::new();
    }
    let conditions: String = rule
        .allow()
        .map(|(claim, value, _)| {
            format!("          {{ attribute = {}, eq = {{ value = {} }} }},\n", quoted(claim), quoted(value))
        })
        .collect();
    format!("      allow_any = [{{\n        conditions = [\n{conditions}        ]\n      }}]\n")
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

#[cfg(test)]
mod tests {
    use super::super::resources::{Given, Names};
    use super::*;
    use crate::environment::Environment;
    use crate::node_labels::NodeLabels;
    use crate::platform::id_token::tests::claims;
    use crate::platform::{ALL, Platform};

    /// The file for a step whose token, logins, labels and claims are all this text.
    fn file(platform: &'static Platform, hostile: &str) -> String {
        let json = serde_json::json!({
            "iss": hostile, "aud": hostile, "sub": hostile, "workspaceUuid": hostile, "branchName": hostile,
        });
        let rule = Rule::narrowest(platform, &claims(&json.to_string()));
        let token = hostile.split_whitespace().collect::<String>().parse().ok();
        let names = Names::new(&Environment::default(), &claims("{}"), rule.scope, token.as_ref());
        let label = format!("env='{hostile}'");
        let labels = NodeLabels::parse([&*label]).unwrap_or_default();
        let logins = [hostile.to_owned()];
        let (logins, labels) = (Given::Value(&logins[..]), Given::new(&labels, labels.is_empty(), false));
        files(&Resources { names: &names, logins, labels, rule: &rule }).remove(0).1
    }

    /// The file without comments and without what stands in quotes.
    fn structure(file: &str) -> String {
        let mut structure = String::new();
        for line in file.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let (mut is_quoted, mut chars) = (false, line.chars());
            while let Some(c) = chars.next() {
                match c {
                    '"' => is_quoted = !is_quoted,
                    '\\' if is_quoted => drop(chars.next()),
                    _ if !is_quoted => structure.push(c),
                    _ => {}
                }
            }
            assert!(!is_quoted, "{line}");
            structure.push('\n');
        }
        structure
    }

    #[test]
    fn no_text_changes_the_structure_of_the_file() {
        for platform in ALL {
            let plain = structure(&file(platform, "main"));
            assert_eq!(plain.matches("resource").count(), 3);
            for hostile in [
                "${file(\"/etc/passwd\")}",
                "%{ for x in y }",
                "\"]\n}\nresource \"teleport_role\" \"admin\" {",
                "\\",
                "\\\"",
                "# // /* */ <<EOT\nEOT",
                "a\u{2028}b\u{85}c\r\n",
            ] {
                let file = file(platform, hostile);
                // Names of resources, which references have, too, are made from the token's name.
                let names = |line: &str| !line.contains("teleport_bot.") && !line.contains("teleport_role.");
                let lines = |text: &str| text.lines().filter(|line| names(line)).collect::<Vec<_>>().join("\n");
                let label = |text: &str| text.replace("deploy-from", "env");
                assert_eq!(label(&lines(&structure(&file))), label(&lines(&plain)), "{file}");
                let template = |at: usize| {
                    file[..at].ends_with(['$', '%']) && !file[..at].ends_with("$$") && !file[..at].ends_with("%%")
                };
                assert!(file.match_indices('{').all(|(at, _)| !template(at)), "{file}");
            }
        }
    }
}
