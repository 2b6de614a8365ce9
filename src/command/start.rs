//! The run: token, discover, join, certificates, write, summary.

use std::cell::Cell;
use std::path::{Component, Path};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::{block_on, leaf_clusters};
use crate::auth::{Auth, AuthRoute};
use crate::bot_identity::BotIdentity;
use crate::clock::{Clock, Offset, approximate};
use crate::credentials::{self, Authority, Credentials, Expected};
use crate::destination::{Destination, File, Written};
use crate::error::Failure;
use crate::guard;
use crate::host::Host;
use crate::join::{self, Joined, Outcome};
use crate::keys::{self, KeyPair};
use crate::net::Stream;
use crate::net::authorities::Authorities;
use crate::net::discovery::{ClusterInfo, discover};
use crate::net::http::Http;
use crate::net::network::Network;
use crate::net::tls::Trust;
use crate::output::identity::network_file::{self, NetworkFile};
use crate::output::identity::{self, ssh_config};
use crate::platform::{self, Detection, IdToken, bitbucket};
use crate::retry::{Deadline, log_if_slow, retry};
use crate::settings::Settings;
use crate::shell;
use crate::text::sanitize;

/// How long an expired token may keep a run, in case it is the clock that is wrong.
const ASKING_FOR_THE_TIME: Duration = Duration::from_secs(10);

/// Joins once and writes credentials.
///
/// # Errors
/// Anything on the way. Nothing is written before everything is there and checked.
pub(crate) fn run(settings: &Settings, host: &Host) -> Result<(), Failure> {
    let deadline = Deadline::after(settings.timeout);
    // What can be known to fail is found out before the network is touched.
    let id_token = id_token(settings, host)?;
    let Settings { destination, unknown_files, owner, .. } = settings;
    let destination = Destination::check(&host.working_dir, destination, *unknown_files, *owner)?;
    let place = ssh_config::ssh_config_path(destination.absolute())?;
    guard::expect_in_step(&host.env, destination.absolute())?;
    let step = guard::check(&host.env, destination.absolute(), settings.ttl, settings.leak_check)?;
    if destination.is_noexec() {
        log::warn!(
            target: "write",
            "the file system of {place} is mounted noexec, so ssh cannot start its ProxyCommand from there"
        );
    }
    let authorities = Authorities::from_file(host.path(settings.ca_file.as_deref()).as_deref())?;
    let network = Network::new(settings.egress.clone(), Trust::web(&authorities), settings.upgrade);
    settings.egress.log_proxy(&settings.proxy);

    let mut files = vec![File::executable(identity::BINARY, host.own_binary()?)];

    let clock = &host.clock;
    let run = Run { settings, id_token: &id_token, network: &network, deadline, clock, now: clock.now() };
    let (cluster, credentials) = block_on(run.issue())??;

    let egress = Some(settings.egress.clone());
    let kept = NetworkFile { egress, authorities: Some(authorities), clock: cluster.clock };
    files.extend(kept.render().map(|bytes| File::private(network_file::NAME, bytes)));
    // With separate ports ssh goes to one that no balancer for the web stands in front of.
    let upgrade = cluster.tls_routing && network.upgrades();
    let now = cluster.clock.cluster_time(run.now);
    let paths = ssh_config::Paths::new(place, cluster.ssh_proxy, cluster.tls_routing, upgrade);
    files.extend(identity::files(&credentials, &paths)?);
    let count = files.len();
    let names = files.iter().map(File::name).collect::<Vec<_>>().join(", ");
    let written = destination.write(files, deadline)?;
    log::debug!(target: "write", "{names}");
    log::info!(target: "write", "{count} files in {}", destination.absolute().display());
    warn_about_ownership(&written, step.run_as_user, &settings.destination);
    // As it was given, if ssh finds it by that: `a/../b` wants an `a` that need not be there.
    let dotted = settings.destination.components().any(|part| part == Component::ParentDir);
    let place = if dotted { destination.absolute() } else { &settings.destination };
    summary(settings, place, &credentials, now);
    Ok(())
}

/// ssh takes a private key only from the user who owns it, and the step need not run as the user that this runs as.
fn warn_about_ownership(written: &Written, run_as_user: Option<u32>, destination: &Path) {
    let Written { uid, guessed, someone_else } = written;
    let other_user = run_as_user.filter(|user| ![0, *uid].contains(user));
    let place = shell::word(&sanitize(&destination.display().to_string()));
    let remedy = format!("`mkdir -p {place}` in the step before the pipe, or FILE_OWNER, lets another user read them");
    match (other_user, someone_else) {
        (Some(user), _) => log::warn!(
            target: "write",
            "only user {uid} can read the files, but the step has `run-as-user: {user}`: {remedy}"
        ),
        (None, Some(other)) => log::warn!(
            target: "write",
            "only user {uid} can read the files, but user {other} has files here, too: {remedy}"
        ),
        // root runs the pipe and owns the clone directory; that says nothing about the step.
        (None, None) if *guessed && *uid == 0 => {
            log::info!(target: "write", "only user 0 (root) can read them; {remedy}")
        }
        (None, None) => {}
    }
}

fn id_token(settings: &Settings, host: &Host) -> Result<IdToken, platform::Error> {
    let now = host.clock.now();
    let token = match bitbucket::detect(&host.env) {
        Detection::Here(token) => token,
        Detection::Unusable(error) => return Err(error),
        Detection::NotHere => return Err(platform::Error::NoCi),
    };
    let step = if settings.discreet { "this step".to_owned() } else { bitbucket::summary(token.claims()) };
    let says = bitbucket::listing(token.claims());
    log::debug!(target: "token", "it says, not verified: {}", says.trim().replace('\n', ", "));
    let left = token.claims().expires().map(|expires| expires.duration_since(now));
    match left {
        Some(Ok(left)) => log::info!(target: "token", "Bitbucket, {step}; valid for {}", approximate(left)),
        Some(Err(_)) => log::warn!(target: "token", "Bitbucket, {step}; expired by the clock of this machine"),
        None => log::info!(target: "token", "Bitbucket, {step}"),
    }
    Ok(token)
}

/// One run, as far as it needs the network.
struct Run<'a> {
    settings: &'a Settings,
    id_token: &'a IdToken,
    network: &'a Network,
    deadline: Deadline,
    clock: &'a Clock,
    now: SystemTime,
}

impl Run<'_> {
    async fn issue(&self) -> Result<(ClusterInfo, Credentials), Failure> {
        self.expect_valid_token().await?;
        let (clock, known_clock) = watch::channel(None);
        let request = join::Request {
            proxy: &self.settings.proxy,
            network: self.network,
            token: &self.settings.token,
            id_token: self.id_token,
            ttl: self.settings.ttl,
            now: self.now,
            clock: known_clock,
            deadline: self.deadline,
        };
        // Neither waits for the other to begin.
        let joining = async { tokio::try_join!(self.discover(clock), self.join(&request)) };
        let (joining, dialled) = self.dialling_ahead(joining).await;
        let ((cluster, http, key), outcome) = joining?;
        let joined = match outcome {
            Outcome::Joined(joined) => joined,
            Outcome::NotThere(first) => {
                log::debug!(target: "join", "the join service is not there ({first}); trying REST");
                let joined = join::by_rest(&request, &cluster, http, first).await;
                joined.map_err(|error| self.explained(error))?
            }
        };
        // The key that was made meanwhile fits, but for a suite that was changed in between.
        let key = async {
            if joined.suite == cluster.suite { key.await } else { KeyPair::generate_aside(joined.suite).await }
        };
        let key = log_if_slow("certificates", "making the key pair", key).await;
        let credentials = self.certificates(joined, &cluster, key?, dialled).await?;
        Ok((cluster, credentials))
    }

    /// A token that has expired by our clock is not tried, unless it turns out that our clock is wrong.
    async fn expect_valid_token(&self) -> Result<(), Failure> {
        let Some(expired) = self.id_token.expired(self.now) else {
            return Ok(());
        };
        let deadline = Deadline::after(ASKING_FOR_THE_TIME.min(self.deadline.left()));
        let Ok((cluster, _)) = discover(self.network, &self.settings.proxy, self.clock, deadline).await else {
            return Err(expired.into());
        };
        match self.id_token.expired(cluster.clock.cluster_time(self.now)) {
            Some(expired) => Err(expired.into()),
            None => Ok(()),
        }
    }

    /// Discovery; with its answer begins the making of the key that the output will have, and the join learns the time.
    async fn discover(
        &self,
        clock: watch::Sender<Option<Offset>>,
    ) -> Result<(ClusterInfo, Http, impl Future<Output = Result<KeyPair, keys::Error>>), Failure> {
        let (cluster, http) = discover(self.network, &self.settings.proxy, self.clock, self.deadline).await?;
        log::info!(
            target: "discover", "{}: cluster {}, Teleport {}, suite {}",
            self.settings.proxy, cluster.name, cluster.version, cluster.suite.name(),
        );
        if !cluster.clock.is_zero() {
            log::warn!(target: "discover", "the clock here is {}", cluster.clock);
        }
        clock.send_replace(Some(cluster.clock));
        let (ssh, routing) = (&cluster.ssh_proxy, if cluster.tls_routing { "with" } else { "without" });
        log::debug!(target: "discover", "connections to nodes will go to {ssh}, {routing} TLS routing");
        let key = KeyPair::generate_aside(cluster.suite);
        Ok((cluster, http, key))
    }

    async fn join(&self, request: &join::Request<'_>) -> Result<Outcome, Failure> {
        Ok(join::by_service(request).await.map_err(|error| self.explained(error))?)
    }

    /// A refusal with what would admit the step, unless everybody can read the log.
    fn explained(&self, error: join::Error) -> join::Error {
        match self.settings.discreet {
            true => error,
            false => {
                let claims = self.id_token.claims();
                error.with_advice(bitbucket::listing(claims), bitbucket::token_spec(claims))
            }
        }
    }

    /// What this comes to, and the connection that Auth will be reached by, if it is open by then: it is to save time,
    /// and must not cost any. That it fails will be seen again when it is needed, it goes to the same address.
    async fn dialling_ahead<T>(&self, other: impl Future<Output = T>) -> (T, Option<Stream>) {
        let (mut other, dialling) = (pin!(other), self.network.dial(&self.settings.proxy, self.deadline));
        tokio::select! {
            biased;
            done = &mut other => (done, None),
            dialled = dialling => (other.await, dialled.ok()),
        }
    }

    async fn certificates(
        &self,
        joined: Joined,
        cluster: &ClusterInfo,
        key: KeyPair,
        dialled: Option<Stream>,
    ) -> Result<Credentials, Failure> {
        let service = joined.service;
        let bot = BotIdentity::new(joined)?;
        match self.settings.discreet {
            true => log::info!(target: "join", "by {service}"),
            false => log::info!(target: "join", "as {} by {service}", sanitize(&bot.user)),
        }
        let clock = cluster.clock;
        let expires = clock.cluster_time(self.now) + self.settings.ttl.0;
        let dialled = Cell::new(dialled);
        let route = AuthRoute { network: self.network, proxy: &self.settings.proxy, cluster };
        let (certs, host, user) = retry("certificates", self.deadline, |deadline| {
            let (dialled, route, bot, key) = (dialled.take(), &route, &bot, &key);
            async move {
                let asking = async {
                    let auth = Auth::reach(route, dialled, &bot.cluster, &bot.trust, deadline).await?;
                    bot.ask(&auth, key, self.settings.cluster.as_ref(), expires).await
                };
                // The log tells of each failure that is tried again, too.
                asking.await.map_err(|error| if self.settings.discreet { error.without_details() } else { error })
            }
        })
        .await?;
        let cluster = bot.cluster;
        let host = Authority::read(host, &cluster);
        let user = Authority::read(user, &cluster);
        let asked = Expected { key, cluster, known: bot.authorities, expires, now: self.clock.now(), clock };
        let credentials = credentials::check(asked, &certs, host, user)?;
        self.tell(&credentials, clock.cluster_time(self.now));
        Ok(credentials)
    }

    fn tell(&self, credentials: &Credentials, now: SystemTime) {
        let lives = credentials.expires.duration_since(now).unwrap_or_default();
        log::info!(target: "certificates", "valid until {}", humantime::format_rfc3339_seconds(credentials.expires));
        // The server cuts silently, at 24 h and at `max_session_ttl` of the roles.
        if lives + Duration::from_secs(60) < self.settings.ttl.0 {
            let asked = humantime::format_duration(self.settings.ttl.0);
            let allowed = approximate(lives);
            log::warn!(
                target: "certificates",
                "the cluster allows {allowed}, not the {asked} asked for: max_session_ttl of a role, or its limit of 24h"
            );
        }
        if credentials.logins.is_empty() {
            log::warn!(target: "certificates", "no role of the bot allows a login: add `logins:` to one");
        }
        leaf_clusters::tell(credentials, self.settings.discreet);
    }
}

/// What came of it in one line, and what to type next. Where the log is public, not who may do what.
fn summary(settings: &Settings, place: &Path, credentials: &Credentials, now: SystemTime) {
    let Credentials { cluster, user, roles, logins, expires, .. } = credentials;
    let place = shell::word(&sanitize(&place.display().to_string()));
    let config = format!("{place}/ssh_config");
    let lives = approximate(expires.duration_since(now).unwrap_or_default());
    let (who, login) = match settings.discreet {
        true => (format!("cluster {cluster}"), "<login>".to_owned()),
        false => (
            format!("cluster {cluster}, {}, roles {}, logins {}", sanitize(user), listed(roles), listed(logins)),
            logins.first().map_or_else(|| "<login>".to_owned(), |login| sanitize(login)),
        ),
    };
    let target = settings.cluster.as_ref().unwrap_or(cluster);
    let routed = if target == cluster { String::new() } else { format!(", routed to {target}") };
    log::info!(
        target: "done",
        "{who}{routed}, valid for {lives}, files in {place}; next: ssh -F {config} {login}@<node>.{target}"
    );
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        _ => sanitize(&names.join(", ")),
    }
}
