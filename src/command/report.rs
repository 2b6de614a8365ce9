//! Every sentence that a run prints, in the order in which they appear. Retries and long waits are logged by
//! [`retry`](crate::retry), for all commands alike.

use std::path::{Component, Path};
use std::time::{Duration, SystemTime};

use crate::address::{ClusterName, HostPort};
use crate::clock::approximate;
use crate::credentials::Credentials;
use crate::destination::{Listing, Written};
use crate::environment::Environment;
use crate::log::print;
use crate::net::discovery::ClusterInfo;
use crate::output::identity::clusters::{LONGEST_FOR_FILES, with_files};
use crate::output_files::{SSH_CONFIG, of_cluster};
use crate::platform::{IdToken, Platform};
use crate::session::Event;
use crate::settings::Service;
use crate::text::{sanitize, visible};
use crate::values::{Privacy, Ttl};
use crate::{documents, shell};

/// The ID token that was found.
pub(super) fn id_token(token: &IdToken, env: &Environment, now: SystemTime, privacy: Privacy) {
    let platform = token.platform();
    let step = match privacy {
        Privacy::Public => format!("this {}", platform.texts.unit),
        Privacy::Private => platform.summary(token.claims(), env),
    };
    let claims = platform.listing(token.claims());
    log::debug!(target: "token", "claims, not verified: {}", claims.trim().replace('\n', ", "));
    let (name, left) = (platform.name, token.claims().expires().map(|expires| expires.duration_since(now)));
    match left {
        Some(Ok(left)) => log::info!(target: "token", "{name}, {step}; valid for {}", approximate(left)),
        Some(Err(_)) => {
            log::warn!(target: "token", "the ID token of {name} ({step}) has expired, by the clock of this machine")
        }
        None => log::info!(target: "token", "{name}, {step}"),
    }
}

/// The ID token has to be requested.
pub(super) fn id_token_is_requested(platform: &Platform) {
    log::debug!(target: "token", "{}: the ID token is requested", platform.name);
}

/// ssh could not start the ProxyCommand from this directory.
pub(super) fn noexec(directory: &Path) {
    log::warn!(
        target: "write",
        "the file system of {} is mounted noexec, so ssh cannot start its ProxyCommand from there",
        sanitize(&directory.display().to_string()),
    );
}

/// What happens while the session is opened.
pub(super) fn event(event: Event<'_>, proxy: &HostPort, privacy: Privacy) {
    match event {
        Event::Discovered(cluster) => discovered(cluster, proxy),
        Event::JoinServiceAbsent(attempt) => {
            log::debug!(target: "join", "the join service is not there ({attempt}); trying REST");
        }
        Event::Joined { bot_user, service } => match privacy {
            Privacy::Public => log::info!(target: "join", "by {service}"),
            Privacy::Private => log::info!(target: "join", "as {} by {service}", sanitize(bot_user)),
        },
    }
}

fn discovered(cluster: &ClusterInfo, proxy: &HostPort) {
    let ClusterInfo { name, version, suite, ssh_proxy, .. } = cluster;
    log::info!(target: "discover", "{proxy}: cluster {name}, Teleport {version}");
    if cluster.clock.seconds() != 0 {
        log::warn!(target: "discover", "the clock here is {}", cluster.clock);
    }
    let routing = if cluster.tls_routing { "with" } else { "without" };
    log::debug!(target: "discover", "suite {}, connections to nodes will go to {ssh_proxy}, {routing} TLS routing", suite.name());
}

/// The certificates that were issued.
pub(super) fn certificates(credentials: &Credentials, now: SystemTime, requested: Ttl, privacy: Privacy) {
    let lifetime = credentials.expires.duration_since(now).unwrap_or_default();
    let who = match privacy {
        Privacy::Public => String::new(),
        Privacy::Private => format!("{}, roles {}, ", sanitize(&credentials.user), listed(&credentials.roles)),
    };
    let expires = humantime::format_rfc3339_seconds(credentials.expires);
    log::info!(target: "certificates", "{who}valid until {expires}");
    // The server cuts without saying so, at 24 h and at `max_session_ttl` of the roles.
    if lifetime + Duration::from_secs(60) < requested.0 {
        log::warn!(
            target: "certificates",
            "the cluster allows {}, not the requested {}: max_session_ttl of a role, or its limit of 24h",
            approximate(lifetime),
            humantime::format_duration(requested.0),
        );
    }
    for option in &credentials.critical_options {
        let option = sanitize(option);
        log::warn!(target: "certificates", "nodes accept the SSH certificate only as its option `{option}` says");
    }
    if credentials.logins.is_empty() {
        log::warn!(target: "certificates", "no role of the bot allows a login: add `logins:` to one");
    }
    leaf_clusters(credentials, privacy);
}

/// The leaf clusters whose nodes can be reached, and how many clusters have no files of their own.
fn leaf_clusters(credentials: &Credentials, privacy: Privacy) {
    let clusters = &credentials.host_authorities;
    let mut leaf_clusters = clusters.iter().filter(|authority| authority.cluster != credentials.cluster).peekable();
    if privacy == Privacy::Private && leaf_clusters.peek().is_some() {
        let names: Listing = leaf_clusters.map(|authority| authority.cluster.to_string()).collect();
        log::info!(target: "certificates", "nodes of leaf clusters can be reached, too: {names}");
    }
    let with_files = with_files(clusters).len();
    if with_files < clusters.len() {
        log::warn!(
            target: "write",
            "{} of {} clusters have no ssh_config and known_hosts of their own, but are in those of all: their names \
             have over {LONGEST_FOR_FILES} characters",
            clusters.len() - with_files,
            clusters.len(),
        );
    }
    if credentials.namesakes > 0 {
        log::warn!(
            target: "certificates",
            "left out, because the name differs from another cluster's in case only: {} of the leaf clusters",
            credentials.namesakes,
        );
    }
}

/// The files that were written.
pub(super) fn written(names: &[String], service: &str, directory: &Path) {
    log::debug!(target: "write", "{service}: {}", names.join(", "));
    log::info!(target: "write", "{} files in {}", names.len(), directory.display());
}

/// ssh accepts a private key only if its user owns it, and the step need not run as the user that this runs as.
pub(super) fn ownership(written: &Written, run_as_user: Option<u32>, destination: &Path) {
    let Written { uid, user_of_step, is_default_owner, other_user } = written;
    let directory = shell::word(&sanitize(&destination.display().to_string()));
    let (reader, remedy) = match user_of_step {
        // No owner that can be set from here is a user of the step.
        Some(user) => (
            format!("root and user {user} of the step"),
            format!("for another user, see {}", documents::troubleshooting("the-pipe-has-other-users-than-the-step")),
        ),
        None => (
            format!("user {uid}"),
            format!("`mkdir -p {directory}` in the step before the pipe, or FILE_OWNER, lets another user read them"),
        ),
    };
    let step_user = run_as_user.filter(|user| ![0, user_of_step.unwrap_or(*uid)].contains(user));
    match (step_user, other_user) {
        (Some(user), _) => log::warn!(
            target: "write",
            "only {reader} can read the files, but the step has `run-as-user: {user}`: {remedy}"
        ),
        (None, Some(other)) => log::warn!(
            target: "write",
            "only {reader} can read the files, but user {other} has files here, too: {remedy}"
        ),
        // Nothing tells of another user: root runs the pipe, and most steps.
        (None, None) if *is_default_owner => log::debug!(target: "write", "only {reader} can read them; {remedy}"),
        (None, None) => {}
    }
}

/// Nothing is written.
pub(super) fn no_outputs() {
    log::info!(target: "done", "the join works; there are no outputs, so that nothing is written");
}

/// The result, and the command to type next on a line of its own, so that it can be copied. A public log does not show who
/// may do what.
pub(super) fn done(service: &Service, directory: &Path, credentials: &Credentials, now: SystemTime, privacy: Privacy) {
    let Credentials { cluster, logins, expires, .. } = credentials;
    let lifetime = approximate(expires.duration_since(now).unwrap_or_default());
    let who = match privacy {
        Privacy::Public => String::new(),
        Privacy::Private => format!(" for the logins {}", listed(logins)),
    };
    let route = service.output.request().route.filter(|route| route != cluster);
    let routed = route.map(|route| format!(", routed to {route}")).unwrap_or_default();
    if service.output.program().is_none() {
        return log::info!(target: "done", "credentials{who}{routed}, valid for {lifetime}, without files for ssh");
    }
    log::info!(target: "done", "credentials{who}{routed}, valid for {lifetime}. To reach a node:");
    print(&format!("{}\n", ssh_command(service, directory, credentials, privacy)));
}

/// The command that logs in to a node, with the files as ssh finds them.
pub(super) fn ssh_command(service: &Service, directory: &Path, credentials: &Credentials, privacy: Privacy) -> String {
    // As it was given, if ssh finds it by that: `a/../b` needs a directory `a`, which need not exist.
    let given = &service.destination.path;
    let has_parent = given.components().any(|part| part == Component::ParentDir);
    let directory = shell::word(&visible(&if has_parent { directory } else { given }.display().to_string()));
    let login = credentials.logins.first().filter(|login| privacy == Privacy::Private && is_plain(login));
    let login = login.map_or("<login>", String::as_str);
    let route = service.output.request().route;
    ssh_line(&directory, login, route.as_ref().unwrap_or(&credentials.cluster))
}

/// The command that logs in to a node of a cluster. ssh writes names in lower case, and a node's certificate has the cluster's name as it is: if that has
/// capital letters, only the node's name alone is accepted.
fn ssh_line(directory: &str, login: &str, cluster: &ClusterName) -> String {
    let name = cluster.as_str();
    match name.contains(|c: char| c.is_ascii_uppercase()) && name.len() <= LONGEST_FOR_FILES {
        true => format!("ssh -F {directory}/{} {login}@<node>", of_cluster(name, SSH_CONFIG)),
        false => format!("ssh -F {directory}/{SSH_CONFIG} {login}@<node>.{cluster}"),
    }
}

/// Whether a login is nothing but a login to a shell and to ssh. The cluster chose it, and a person pastes the line.
fn is_plain(login: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !login.is_empty() && !login.starts_with('-') && login.chars().all(is_plain)
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        _ => sanitize(&names.join(", ")),
    }
}
