//! `inspect`: what the cluster needs to know of this step.
//!
//! It prints one YAML stream: documents for `tctl create`, and as comments beside them the claims of the ID token and the
//! cluster's answer. A person who copies too much from a step's log has still copied something that works. For Terraform it
//! prints one file of configuration in the same manner. If it is told a directory, it writes the resources as files there
//! and prints the comments. Only discovery is asked of the cluster; without a cluster there is less to print.

mod files;
mod resources;
mod tctl;
mod terraform;

use std::fmt::{Display, Write as _};
use std::time::SystemTime;

use self::files::{Directory, Files};
use self::resources::{Given, Names, Resources, comment};
use super::block_on;
use crate::clock::approximate;
use crate::error::{Explain as _, Failure};
use crate::format::ResourceFormat;
use crate::host::{Host, HostError};
use crate::log::out;
use crate::net;
use crate::net::connection::Connection;
use crate::net::discovery::{ClusterInfo, discover};
use crate::net::network::Network;
use crate::node_labels::NodeLabels;
use crate::platform::rule::{Rule, has_too_many_audiences};
use crate::platform::{self, Claims, Found, IdToken, Platform, Recipe, Scope, Warning};
use crate::retry::Deadline;
use crate::settings::InspectSettings;
use crate::values::Privacy;

/// The cluster's proxy, and its answer to discovery.
struct Discovery {
    proxy: String,
    answer: Result<ClusterInfo, net::Error>,
}

impl Discovery {
    fn cluster(&self) -> Option<&ClusterInfo> {
        self.answer.as_ref().ok()
    }
}

/// Shows the token's claims, the cluster's answer to discovery, and what would admit this step.
pub(crate) fn run(settings: &InspectSettings, host: &Host) -> Result<(), Failure> {
    let (now, deadline) = (host.clock.now(), Deadline::after(settings.timeout));
    expect_known_scope(settings, host)?;
    let token = id_token(settings, host, deadline)?;
    let (platform, claims) = (token.platform(), token.claims());
    if let Some(error) = token.expired(now) {
        log::warn!(target: "token", "{error}: its claims are shown anyway");
    }
    let rule = rule(settings, platform, claims)?;
    let directory = settings.destination.as_ref().map(|path| Directory::check(path, platform, host)).transpose()?;
    warn(settings, platform, claims, rule.scope);

    let names = Names::new(&host.env, claims, rule.scope, settings.token.as_ref());
    let is_public = settings.privacy == Privacy::Public;
    if let Some(directory) = &directory {
        let files = files(settings.format, &resources(settings, &names, &rule, false));
        directory.write(files, is_public, deadline)?;
    }
    let discovery =
        settings.connection.as_ref().map(|connection| ask(connection, platform, host, deadline)).transpose()?;
    // A public log does not show who may do what.
    let rule = if is_public { rule.without_values() } else { rule };
    let resources = resources(settings, &names, &rule, is_public);
    let text = format!(
        "{}#\n{}#\n{}{}",
        match is_public {
            true => hidden(platform),
            false => shown(platform, claims, now),
        },
        discovery.as_ref().map_or_else(|| NOT_ASKED.to_owned(), |discovery| answered(discovery, platform)),
        comment("", platform.texts.masked),
        body(settings.format, directory.as_ref(), &resources, discovery.as_ref()),
    );
    let text = text + &suggested_step(platform, host, &resources, discovery.as_ref());
    Ok(out(&text).map_err(HostError::because("stdout"))?)
}

/// The ID token, which is requested if that is the platform's way.
fn id_token(settings: &InspectSettings, host: &Host, deadline: Deadline) -> Result<IdToken, Failure> {
    match platform::find(settings.platform, settings.source.as_ref(), &host.env)? {
        Found::IdToken(token) => Ok(token),
        Found::Pending(platform, pending) => {
            let network = match &settings.connection {
                Some(connection) => connection.network(&connection.authorities(&host.working_dir)?),
                None => Network::without_cluster(&host.env, &host.working_dir)?,
            };
            Ok(block_on(pending.issue(platform, &network, deadline))??)
        }
    }
}

/// Reports a scope that no platform has first, as other invalid values are.
fn expect_known_scope(settings: &InspectSettings, host: &Host) -> Result<(), Failure> {
    if let Some((name, value)) = &settings.scope
        && platform::ALL.iter().all(|platform| platform.scope(value).is_err())
    {
        let detected = || platform::detect(&host.env).unwrap_or(platform::ALL[0]);
        let platform = settings.platform.unwrap_or_else(detected);
        platform.scope(value).map_err(|invalid| invalid.named(name, value))?;
    }
    Ok(())
}

/// The rule for this step, of the scope that was asked for.
fn rule(settings: &InspectSettings, platform: &'static Platform, claims: &Claims) -> Result<Rule, Failure> {
    let scope = settings
        .scope
        .as_ref()
        .map(|(name, value)| platform.scope(value).map_err(|invalid| invalid.named(name, value)));
    Ok(Rule::new(platform, claims, scope.transpose()?)?)
}

fn resources<'a>(settings: &'a InspectSettings, names: &'a Names, rule: &'a Rule, is_public: bool) -> Resources<'a> {
    let InspectSettings { logins, node_labels, .. } = settings;
    Resources {
        names,
        logins: Given::new(logins.as_slice(), logins.is_empty(), is_public),
        labels: Given::new(node_labels, node_labels.is_empty(), is_public),
        rule,
    }
}

/// The resources and what to do with them, or where they were written.
fn body(
    format: ResourceFormat,
    directory: Option<&Directory<'_>>,
    resources: &Resources<'_>,
    discovery: Option<&Discovery>,
) -> String {
    let version = discovery.and_then(Discovery::cluster).map(|cluster| cluster.version.as_str());
    let files = files(format, resources);
    let next = match format {
        ResourceFormat::Tctl => tctl::next(directory),
        ResourceFormat::Terraform => terraform::next(directory, version),
    };
    match directory {
        Some(directory) => format!("#\n{}{next}", directory.comment(&files)),
        // Documents of YAML; Terraform has one file.
        None => format!("\n{}\n{next}", files.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("---\n")),
    }
}

fn files(format: ResourceFormat, resources: &Resources<'_>) -> Files {
    match format {
        ResourceFormat::Tctl => tctl::files(resources),
        ResourceFormat::Terraform => terraform::files(resources),
    }
}

/// The step to write after this one.
fn suggested_step(
    platform: &Platform,
    host: &Host,
    resources: &Resources<'_>,
    discovery: Option<&Discovery>,
) -> String {
    let cluster = discovery.and_then(Discovery::cluster).map(|cluster| cluster.name.as_str());
    let command = resources::command(cluster, resources.logins().first().copied().unwrap_or(resources::LOGIN));
    let recipe = Recipe {
        scope: resources.rule.scope,
        proxy: discovery.map_or("example.teleport.sh:443", |discovery| &discovery.proxy),
        cluster: cluster.unwrap_or("example.teleport.sh"),
        token: &resources.names.token,
        command: &command,
    };
    let step = (platform.recipe)(&host.env, &recipe);
    format!("#\n# Then the {}, in {}:\n{}", platform.texts.unit, platform.texts.file, note(&step))
}

/// The lines of the text as comments, indented.
fn note(text: &str) -> String {
    text.lines().map(|line| format!("#   {line}\n")).collect()
}

/// Warns of what a person should consider before using the files.
fn warn(settings: &InspectSettings, platform: &'static Platform, claims: &Claims, scope: &Scope) {
    warn_of_labels(&settings.node_labels);
    let is_narrowest = platform.narrowest_scope(claims).name == scope.name;
    match scope.warning {
        Warning::Always(admitted) => log::warn!(target: "inspect", "the join token admits {admitted}"),
        Warning::IfNarrowerExists(admitted) if !is_narrowest => {
            log::warn!(target: "inspect", "the join token admits {admitted}");
        }
        Warning::IfNarrowerExists(_) | Warning::Never => {}
    }
    if has_too_many_audiences(claims) {
        log::warn!(
            target: "inspect",
            "the ID token is for several audiences, which clusters refuse: name one"
        );
    }
    let absent = platform.required_claims.iter().copied().filter(|name| claims.literal(name).is_none());
    let absent: Vec<_> = absent.chain(claims.audiences().is_empty().then_some("aud")).collect();
    if !absent.is_empty() {
        log::warn!(
            target: "inspect",
            "the ID token lacks {}, which those of {} have; so does the join token", absent.join(", "), platform.name
        );
    }
}

/// Warns of labels that let the role reach more nodes than a person may expect. A public log does not show the labels.
fn warn_of_labels(labels: &NodeLabels) {
    if labels.match_every_node() {
        log::warn!(target: "inspect", "with *=* in NODE_LABELS (--node-labels) the role reaches every node of the cluster");
    } else if labels.keys_of_any_value().next().is_some() {
        log::warn!(target: "inspect", "a value in NODE_LABELS (--node-labels) fits every value of its label");
    }
}

/// Discovery. A cluster that is not reached does not prevent the files.
fn ask(connection: &Connection, platform: &Platform, host: &Host, deadline: Deadline) -> Result<Discovery, HostError> {
    let answer = match connection.authorities(&host.working_dir) {
        Ok(authorities) => {
            connection.egress.log_proxy(&connection.addr);
            let network = connection.network(&authorities);
            block_on(discover(&network, &connection.addr, &host.clock, deadline))?.map(|(cluster, _)| cluster)
        }
        Err(error) => Err(error),
    };
    match &answer {
        Ok(cluster) if cluster.is_older_than(platform.since) => log::warn!(
            target: "discover",
            "the cluster is Teleport {}; to join by an ID token of {} it needs {} or newer",
            cluster.version, platform.name, platform.since(),
        ),
        Ok(_) => {}
        Err(_) => log::warn!(target: "discover", "the cluster was not reached; the files do not need it"),
    }
    Ok(Discovery { proxy: connection.addr.to_string(), answer })
}

fn hidden(platform: &Platform) -> String {
    format!(
        "\
# This repository is public, and so is this log: claims of the ID token are not shown, nor LOGINS and NODE_LABELS. The
# join token has placeholders; their values are
# {}.
# Or set DEBUG: 'true' (-d) to see all of it here.
",
        platform.texts.values,
    )
}

const NOT_ASKED: &str = "\
# The cluster was not asked: PROXY_SERVER (--proxy-server) is not set.
";

/// The claims.
fn shown(platform: &Platform, claims: &Claims, now: SystemTime) -> String {
    let mut text = format!("# Claims of the {}'s ID token, not verified here:\n", platform.texts.unit);
    text += &note(&platform.listing(claims));
    let age = claims.expires().map(|expires| {
        let at = humantime::format_rfc3339_seconds(expires);
        match expires.duration_since(now) {
            Ok(left) => format!("expires: in {}, at {at}", approximate(left)),
            Err(ago) => format!("expired: {} ago, at {at}", approximate(ago.duration())),
        }
    });
    text + &note(age.as_deref().unwrap_or("expires: (not stated)"))
}

/// What discovery found, or why it failed.
fn answered(Discovery { proxy, answer }: &Discovery, platform: &Platform) -> String {
    let mut text = String::new();
    match answer {
        Ok(cluster) => {
            let ClusterInfo { name, version, suite, tls_routing, ssh_proxy, .. } = cluster;
            let mut line = |label: &str, value: &dyn Display| {
                let _ = writeln!(text, "#   {label}: {value}");
            };
            line("name", name);
            match (version.as_str(), cluster.is_older_than(platform.since)) {
                ("", _) => line("version", &"(not stated)"),
                (_, true) => {
                    line("version", &format!("{version}, too old: {} is the first that can do it", platform.since()))
                }
                _ => line("version", version),
            }
            line("signature suite", &suite.name());
            line("TLS routing", if *tls_routing { &"yes" } else { &"no" });
            line("ssh goes to", ssh_proxy);
            format!("# The cluster at {proxy} answered:\n{text}")
        }
        Err(error) => {
            let advice = error.advice();
            text += &comment("", &format!("The cluster at {proxy} was not reached:"));
            text += &note(&error.to_string());
            if !advice.cause.is_empty() {
                text += &note(&format!("likely cause: {}", advice.cause));
            }
            text + &note(&format!("what to do: {}", advice.remedy))
        }
    }
}
