//! `inspect`: what the cluster needs to know of this step.
//!
//! What it says is one YAML stream: documents for `tctl create`, and beside them, as comments, what the ID token and
//! the cluster say. So whoever copies too much from a step's log has still copied something that works. Nothing but
//! discovery is asked of the cluster, and without a cluster there is only less to say.

pub(crate) mod manifests;

use std::fmt::{Display, Write as _};
use std::time::SystemTime;

use self::manifests::Names;
use crate::address::HostPort;
use crate::clock::approximate;
use crate::command::block_on;
use crate::error::{Explain as _, Failure};
use crate::host::{Host, HostError};
use crate::log::out;
use crate::net;
use crate::net::authorities::Authorities;
use crate::net::discovery::{ClusterInfo, discover};
use crate::net::network::Network;
use crate::net::tls::Trust;
use crate::net::upgrade::Upgrade;
use crate::platform::Scope;
use crate::platform::rule::{self, Rule};
use crate::platform::{self, Claims, Detection, bitbucket};
use crate::retry::Deadline;
use crate::settings::InspectSettings;

/// Prints the token's claims, the cluster's answer to discovery, and what would admit this step.
///
/// # Errors
/// There is no token, the step does not have that scope, or stdout is closed.
pub(crate) fn run(settings: &InspectSettings, host: &Host) -> Result<(), Failure> {
    let now = host.clock.now();
    let token = match bitbucket::detect(&host.env) {
        Detection::Here(token) => token,
        Detection::Unusable(error) => return Err(error.into()),
        Detection::NotHere => return Err(platform::Error::NoCi.into()),
    };
    let claims = token.claims();
    if let Some(error) = token.expired(now) {
        log::warn!(target: "token", "{error}: what it says is shown all the same");
    }
    let narrowest = rule::narrowest(claims);
    let rule = match settings.scope {
        Some(scope) => Rule::new(claims, scope)?,
        None => Rule::narrowest(claims),
    };
    warn(claims, rule.scope, narrowest);

    let cluster = match &settings.proxy {
        Some(proxy) => Some((proxy, ask(proxy, settings, host)?)),
        None => None,
    };
    let names = Names::new(&host.env, rule.scope, settings.token.as_ref());
    // Where everybody can read it, not who may do what.
    let (logins, rule) = match settings.discreet {
        true => (&[][..], rule.without_values()),
        false => (&settings.logins[..], rule),
    };
    let name = cluster.as_ref().and_then(|(_, answer)| Some(answer.as_ref().ok()?.name.as_str()));
    let proxy = settings.proxy.as_ref().map(ToString::to_string);
    let text = format!(
        "{}#\n{}\n{}---\n{}---\n{}\n{}",
        if settings.discreet { HIDDEN.to_owned() } else { said(claims, now) },
        cluster.as_ref().map_or_else(|| NOT_ASKED.to_owned(), |(proxy, answer)| answered(proxy, answer)),
        manifests::role(&names, logins),
        manifests::bot(&names),
        manifests::token(&names, &rule),
        next(&manifests::step(&names, proxy.as_deref(), name, logins)),
    );
    Ok(out(&text).map_err(HostError::because("stdout"))?)
}

/// Says in the log what somebody should think about before using the files.
fn warn(claims: &Claims, scope: Scope, narrowest: Scope) {
    let admitted = match scope {
        Scope::Workspace => {
            Some("every repository of the workspace: any contributor's pipeline in one of them can join")
        }
        Scope::Repository => Some("every branch of the repository: any contributor's pipeline can join"),
        Scope::Branch if narrowest < Scope::Branch => {
            Some("every step on the branch, not only those of the deployment environment")
        }
        Scope::Branch | Scope::Deployment => None,
    };
    if let Some(admitted) = admitted {
        log::warn!(target: "inspect", "bot-token.yaml admits {admitted}");
    }
    if rule::is_for_too_many(claims) {
        log::warn!(
            target: "inspect",
            "the ID token is for several audiences, which clusters refuse: name one below `oidc:` of the step"
        );
    }
    let absent = ["iss", "workspaceUuid", "repositoryUuid"].into_iter().filter(|name| claims.literal(name).is_none());
    let absent: Vec<_> = absent.chain(claims.audiences().is_empty().then_some("aud")).collect();
    if !absent.is_empty() {
        log::warn!(
            target: "inspect",
            "the ID token has no {}, as those of Bitbucket have; nor has bot-token.yaml", absent.join(", ")
        );
    }
}

/// Discovery.
fn ask(
    proxy: &HostPort,
    settings: &InspectSettings,
    host: &Host,
) -> Result<Result<ClusterInfo, net::Error>, HostError> {
    let deadline = Deadline::after(settings.timeout);
    let answer = match Authorities::from_file(host.path(settings.ca_file.as_deref()).as_deref()) {
        Ok(authorities) => {
            settings.egress.log_proxy(proxy);
            let network = Network::new(settings.egress.clone(), Trust::web(&authorities), Upgrade::Never);
            block_on(discover(&network, proxy, &host.clock, deadline))?.map(|(cluster, _)| cluster)
        }
        Err(error) => Err(error),
    };
    match &answer {
        Ok(cluster) if cluster.is_too_old() => log::warn!(
            target: "discover",
            "the cluster is Teleport {}; to join by an ID token of Bitbucket it needs 17.0.2 or newer", cluster.version
        ),
        Ok(_) => {}
        Err(_) => log::warn!(target: "discover", "the cluster was not reached; the files do not need it"),
    }
    Ok(answer)
}

const HIDDEN: &str = "\
# This repository is public, and so is this log: claims of the ID token are not shown, nor LOGINS. bot-token.yaml has
# placeholders; their values stand in Bitbucket, in the repository's settings, under OpenID Connect. Or set
# DEBUG: 'true' (-d) to see all of it here.
";

const NOT_ASKED: &str = "\
# The cluster was not asked: PROXY_SERVER (--proxy-server) is not set.
";

/// The claims.
fn said(claims: &Claims, now: SystemTime) -> String {
    let mut text = String::from("# The step's ID token says, not verified here:\n");
    text += &comment("  ", bitbucket::listing(claims).trim_end());
    let age = claims.expires().map(|expires| {
        let at = humantime::format_rfc3339_seconds(expires);
        match expires.duration_since(now) {
            Ok(left) => format!("expires: in {}, at {at}", approximate(left)),
            Err(ago) => format!("expired: {} ago, at {at}", approximate(ago.duration())),
        }
    });
    text + &comment("  ", age.as_deref().unwrap_or("expires: (it does not say)"))
}

/// What discovery found, or why it did not.
fn answered(proxy: &HostPort, answer: &Result<ClusterInfo, net::Error>) -> String {
    let mut text = String::new();
    match answer {
        Ok(cluster) => {
            let ClusterInfo { name, version, suite, tls_routing, ssh_proxy, .. } = cluster;
            let mut line = |label: &str, value: &dyn Display| {
                let _ = writeln!(text, "#   {label}: {value}");
            };
            line("name", name);
            match (version.as_str(), cluster.is_too_old()) {
                ("", _) => line("version", &"(not told)"),
                (_, true) => line("version", &format!("{version}, too old: 17.0.2 is the first that can do it")),
                _ => line("version", version),
            }
            line("signature suite", &suite.name());
            line("TLS routing", if *tls_routing { &"yes" } else { &"no" });
            line("ssh goes to", ssh_proxy);
            format!("# The cluster at {proxy} says:\n{text}")
        }
        Err(error) => {
            text += &comment("", &format!("The cluster at {proxy} was not reached:"));
            text += &comment("  ", &error.to_string());
            text += &Some(error.advice().cause)
                .filter(|cause| !cause.is_empty())
                .map(|cause| comment("  ", &format!("likely cause: {cause}")))
                .unwrap_or_default();
            text + &comment("  ", &format!("what to do: {}", error.what_to_do()))
        }
    }
}

/// What to do with the files.
fn next(step: &str) -> String {
    format!(
        "\
# Whoever runs the cluster saves each document as the file that it names, and creates them in this order:
#   tctl create -f role.yaml
#   tctl create -f bot.yaml
#   tctl create -f bot-token.yaml
# All of this text as one file will do, too. With -f, what has the same name already is replaced; without, tctl stops.
#
# Then the step, in bitbucket-pipelines.yml:
{}",
        comment("  ", step)
    )
}

/// The lines of the text as comments.
fn comment(indent: &str, text: &str) -> String {
    text.lines().map(|line| format!("# {indent}{line}\n")).collect()
}
