//! `inspect`: what the cluster needs to know of this step.
//!
//! It prints one YAML stream: documents for `tctl create`, and as comments beside them the claims of the ID token and the
//! cluster's answer. A person who copies too much from a step's log has still copied something that works. Only discovery
//! is asked of the cluster; without a cluster there is less to print.

mod manifests;

use std::fmt::{Display, Write as _};
use std::time::SystemTime;

use self::manifests::Names;
use super::block_on;
use crate::clock::approximate;
use crate::error::{Explain as _, Failure};
use crate::host::{Host, HostError};
use crate::log::out;
use crate::net;
use crate::net::connection::Connection;
use crate::net::discovery::{ClusterInfo, discover};
use crate::platform::rule::{self, Rule};
use crate::platform::{self, Claims, Platform, Recipe, Scope, Warning};
use crate::retry::Deadline;
use crate::settings::InspectSettings;
use crate::values::Privacy;

/// Prints the token's claims, the cluster's answer to discovery, and what would admit this step.
pub(crate) fn run(settings: &InspectSettings, host: &Host) -> Result<(), Failure> {
    let now = host.clock.now();
    // A scope that no platform has is reported first, as other invalid values are.
    if let Some((name, value)) = &settings.scope
        && platform::ALL.iter().all(|platform| platform.scope(value).is_err())
    {
        platform::ALL[0].scope(value).map_err(|invalid| invalid.named(name, value))?;
    }
    let token = platform::detect(&host.env)?;
    let (platform, claims) = (token.platform(), token.claims());
    if let Some(error) = token.expired(now) {
        log::warn!(target: "token", "{error}: its claims are shown anyway");
    }
    let scope = settings
        .scope
        .as_ref()
        .map(|(name, value)| platform.scope(value).map_err(|invalid| invalid.named(name, value)));
    let rule = Rule::new(platform, claims, scope.transpose()?)?;
    warn(platform, claims, rule.scope);

    let answer =
        settings.connection.as_ref().map(|connection| ask(connection, settings, platform, host)).transpose()?;
    let names = Names::new(&host.env, rule.scope, settings.token.as_ref());
    // A public log does not show who may do what.
    let (logins, rule) = match settings.privacy {
        Privacy::Public => (&[][..], rule.without_values()),
        Privacy::Private => (&settings.logins[..], rule),
    };
    let cluster = answer.as_ref().and_then(|answer| Some(answer.as_ref().ok()?.name.as_str()));
    let proxy = settings.connection.as_ref().map(|connection| connection.addr.to_string());
    let command = manifests::command(cluster, logins);
    let recipe = Recipe {
        scope: rule.scope,
        proxy: proxy.as_deref().unwrap_or("example.teleport.sh:443"),
        token: names.token(),
        command: &command,
    };
    let text = format!(
        "{}#\n{}\n{}---\n{}---\n{}\n{}",
        match settings.privacy {
            Privacy::Public => hidden(platform),
            Privacy::Private => shown(platform, claims, now),
        },
        match (&proxy, &answer) {
            (Some(proxy), Some(answer)) => answered(proxy, answer, platform),
            _ => NOT_ASKED.to_owned(),
        },
        manifests::role(&names, logins),
        manifests::bot(&names),
        manifests::token(&names, &rule),
        next(platform, &(platform.recipe)(&host.env, &recipe)),
    );
    Ok(out(&text).map_err(HostError::because("stdout"))?)
}

/// Warns of what a person should consider before using the files.
fn warn(platform: &'static Platform, claims: &Claims, scope: &Scope) {
    let is_narrowest = platform.narrowest_scope(claims).name == scope.name;
    match scope.warning {
        Warning::Always(admitted) => log::warn!(target: "inspect", "bot-token.yaml admits {admitted}"),
        Warning::IfNarrowerExists(admitted) if !is_narrowest => {
            log::warn!(target: "inspect", "bot-token.yaml admits {admitted}");
        }
        Warning::IfNarrowerExists(_) | Warning::Never => {}
    }
    if rule::has_too_many_audiences(claims) {
        log::warn!(
            target: "inspect",
            "the ID token is for several audiences, which clusters refuse: name one below `oidc:` of the step"
        );
    }
    let absent = platform.required_claims.iter().copied().filter(|name| claims.literal(name).is_none());
    let absent: Vec<_> = absent.chain(claims.audiences().is_empty().then_some("aud")).collect();
    if !absent.is_empty() {
        log::warn!(
            target: "inspect",
            "the ID token lacks {}, which those of {} have; so does bot-token.yaml", absent.join(", "), platform.name
        );
    }
}

/// Discovery. A cluster that is not reached does not prevent the files.
fn ask(
    connection: &Connection,
    settings: &InspectSettings,
    platform: &Platform,
    host: &Host,
) -> Result<Result<ClusterInfo, net::Error>, HostError> {
    let deadline = Deadline::after(settings.timeout);
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
    Ok(answer)
}

fn hidden(platform: &Platform) -> String {
    format!(
        "\
# This repository is public, and so is this log: claims of the ID token are not shown, nor LOGINS. bot-token.yaml has
# placeholders; their values are {}. Or set
# DEBUG: 'true' (-d) to see all of it here.
",
        platform.texts.values,
    )
}

const NOT_ASKED: &str = "\
# The cluster was not asked: PROXY_SERVER (--proxy-server) is not set.
";

/// The claims.
fn shown(platform: &Platform, claims: &Claims, now: SystemTime) -> String {
    let mut text = String::from("# Claims of the step's ID token, not verified here:\n");
    text += &comment("  ", platform.listing(claims).trim_end());
    let age = claims.expires().map(|expires| {
        let at = humantime::format_rfc3339_seconds(expires);
        match expires.duration_since(now) {
            Ok(left) => format!("expires: in {}, at {at}", approximate(left)),
            Err(ago) => format!("expired: {} ago, at {at}", approximate(ago.duration())),
        }
    });
    text + &comment("  ", age.as_deref().unwrap_or("expires: (not stated)"))
}

/// What discovery found, or why it failed.
fn answered(proxy: &str, answer: &Result<ClusterInfo, net::Error>, platform: &Platform) -> String {
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
            text += &comment("  ", &error.to_string());
            if !advice.cause.is_empty() {
                text += &comment("  ", &format!("likely cause: {}", advice.cause));
            }
            text + &comment("  ", &format!("what to do: {}", advice.remedy))
        }
    }
}

/// What to do with the files.
fn next(platform: &Platform, step: &str) -> String {
    format!(
        "\
# The administrator of the cluster saves each document as the file that it names, and creates them in this order:
#   tctl create -f role.yaml
#   tctl create -f bot.yaml
#   tctl create -f bot-token.yaml
# All of this text as one file works, too. With -f, a resource of the same name is replaced; without it, tctl stops.
#
# Then the step, in {}:
{}",
        platform.texts.file,
        comment("  ", step),
    )
}

/// The lines of the text as comments.
fn comment(indent: &str, text: &str) -> String {
    text.lines().map(|line| format!("# {indent}{line}\n")).collect()
}
