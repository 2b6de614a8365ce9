//! `doctor`: checks the way of a join step by step, without joining. A person runs it first when a pipeline is red.
//!
//! It asks the cluster for nothing that needs a secret, changes something or is audited: discovery, handshakes, and a
//! call of a method that does not exist. Its output can be pasted into a ticket: it shows addresses and names, never the
//! ID token or its claims.

pub(crate) mod findings;
mod report;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tonic::Code;

use self::findings::{clock, described};
use self::report::{Check, Outcome, Report};
use super::block_on;
use super::start::check_destination;
use crate::auth::AuthRoute;
use crate::clock::{Clock, Offset, approximate};
use crate::error::{Exit, Failure};
use crate::host::{Host, HostError};
use crate::join::error::TooOld;
use crate::join::kind::Kind;
use crate::net::authorities::Authorities;
use crate::net::connection::Connection;
use crate::net::discovery::{ClusterInfo, ask};
use crate::net::grpc::code_name;
use crate::net::http::Http;
use crate::net::network::{Endpoint, Network};
use crate::net::tls::{Service, TlsInfo, Trust};
use crate::net::upgrade::{self, Upgrade};
use crate::net::{self, dial};
use crate::platform::{self, Found, Platform};
use crate::retry::Deadline;
use crate::settings::DoctorSettings;
use crate::text::sanitize;

const NETWORK: &str =
    "the administrators of the network between here and the proxy, if PROXY_SERVER (--proxy-server) is right";
const PROXY: &str = "the administrators of the cluster, or of what is in front of its proxy, if PROXY_SERVER \
                     (--proxy-server) is right";
const PROGRAM: Check = Check { name: "program", who: "the maintainers of teleport-pipe" };
const ID_TOKEN: Check = Check { name: "ID token", who: "the author of the step" };
const DESTINATION: Check =
    Check { name: "destination", who: "the author of the step, or the administrators of the runner" };
const LEAK_CHECK: Check = Check { name: "leak check", who: "the author of the step" };
const AUTHORITIES: Check = Check { name: "authorities", who: "the author of the step" };
const FORWARD_PROXY: Check = Check { name: "forward proxy", who: NETWORK };
const DNS: Check = Check { name: "DNS", who: NETWORK };
const TCP: Check = Check { name: "TCP", who: NETWORK };
const TLS: Check = Check { name: "TLS", who: "the administrators of the proxy, or of the network on the way to it" };
const CLUSTER: Check = Check { name: "cluster", who: PROXY };
const CLOCK: Check = Check { name: "clock", who: "the administrators of this machine" };
const LOAD_BALANCER: Check = Check { name: "load balancer", who: PROXY };
const JOIN_SERVICE: Check = Check { name: "join service", who: PROXY };
const REST: Check = Check { name: "join by REST", who: PROXY };
const AUTH_SERVICE: Check = Check { name: "Auth Service", who: PROXY };
const TRANSPORT_SERVICE: Check = Check { name: "transport service", who: PROXY };

/// The checks that need a connection, in their order. If one fails, those after it may not be possible.
const WITH_CONNECTION: [&Check; 5] = [&TLS, &CLUSTER, &JOIN_SERVICE, &AUTH_SERVICE, &TRANSPORT_SERVICE];

/// Checks, prints, and returns the exit code if not all is well.
pub(crate) fn run(settings: &DoctorSettings, host: &Host) -> Result<Option<Exit>, Failure> {
    let mut report = Report::new(host, settings.format);
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let program = concat!("teleport-pipe ", env!("CARGO_PKG_VERSION"));
    let addr = &settings.connection.addr;
    // A join copies the program into the destination.
    let readable = host.own_binary().map(|_| format!("{program} on {system}, checking {addr}"));
    report.add(&PROGRAM, readable, None)?;
    let now = || host.clock.now();
    let found = find(settings, host);
    let platform = found.as_ref().and_then(|found| found.as_ref().ok()).map_or(platform::ALL[0], Found::platform);
    let (outcome, later) = match found {
        None => (Some(Outcome::Skipped("not needed: the join method is `token`".to_owned())), None),
        Some(Err(error)) => (Some(findings::without_token(error)), None),
        Some(Ok(Found::IdToken(token))) if token.expired(now()).is_none() => {
            (Some(findings::token(&token, now(), settings.privacy)), None)
        }
        // One that is issued on request is requested below. One that has expired by our clock is reported at the end,
        // when the cluster's clock is known.
        Some(Ok(found)) => (None, Some(found)),
    };
    if let Some(outcome) = outcome {
        report.add(&ID_TOKEN, outcome, None)?;
    }
    files(settings, host, &mut report)?;
    let authorities = authorities(&settings.connection, host, &mut report)?;
    let checks = Checks {
        connection: &settings.connection,
        network: &settings.connection.network(&authorities),
        platform,
        deadline: Deadline::after(settings.timeout),
        clock: &host.clock,
    };
    if let Some(Found::Pending(_, pending)) = &later {
        let (began, deadline) = checks.begin();
        let outcome = match block_on(pending.issue(platform, checks.network, deadline))? {
            Ok(token) => findings::token(&token, now(), settings.privacy),
            Err(error) => Outcome::Bad(error.into()),
        };
        report.add(&ID_TOKEN, outcome, began)?;
    }
    let clock = block_on(checks.all(&mut report))??;
    if let Some(Found::IdToken(token)) = &later {
        report.add(&ID_TOKEN, findings::token(token, clock.cluster_time(now()), settings.privacy), None)?;
    }
    Ok(report.verdict()?)
}

/// The ID token that a join would send, if the join method needs one.
fn find(settings: &DoctorSettings, host: &Host) -> Option<Result<Found, platform::Error>> {
    match settings.method {
        Some(Kind::OneTimeToken) => None,
        method => Some(platform::find(method.and_then(Kind::platform), settings.source.as_ref(), &host.env)),
    }
}

/// Whether a join could write its files, and whether something of the step would take them. These are the checks of a
/// join, which come before it uses the network.
fn files(settings: &DoctorSettings, host: &Host, report: &mut Report) -> Result<(), HostError> {
    let Some(service) = &settings.service else {
        report.skipped(
            &DESTINATION,
            "not looked at: neither --destination nor DESTINATION says where a join would write",
        )?;
        return report.skipped(&LEAK_CHECK, "not looked at: there is no destination");
    };
    let destination = match check_destination(service, host) {
        Ok(destination) => destination,
        Err(failure) => {
            report.add(&DESTINATION, Outcome::Bad(failure), None)?;
            return report.skipped(&LEAK_CHECK, "not tried: there is no destination to check");
        }
    };
    let mut warnings = Vec::new();
    let warn = &mut |warning: &str| warnings.push(warning.to_owned());
    let directory = destination.absolute();
    let step = platform::preflight(&host.env, directory, service.ttl, settings.leak_check, warn).transpose();
    let run_as_user = step.as_ref().and_then(|step| step.as_ref().ok()?.run_as_user);
    report.add(&DESTINATION, findings::destination(&destination, run_as_user), None)?;
    match step {
        Some(Ok(step)) => report.add(&LEAK_CHECK, findings::leak_check(step, warnings), None),
        Some(Err(failure)) => report.add(&LEAK_CHECK, Outcome::Bad(failure), None),
        None => report.skipped(&LEAK_CHECK, "not tried: this is not a CI system that is known"),
    }
}

/// If the file of authorities cannot be used, the checks go on with the public ones.
fn authorities(connection: &Connection, host: &Host, report: &mut Report) -> Result<Authorities, HostError> {
    let (outcome, authorities) = match (connection.authorities(&host.working_dir), &connection.ca_file) {
        (Ok(authorities), None) => (Outcome::Good("the public ones".to_owned()), authorities),
        (Ok(authorities), Some(path)) => {
            let path = sanitize(&host.working_dir.join(path).display().to_string());
            (Outcome::Good(format!("the public ones, and those in {path}")), authorities)
        }
        (Err(error), _) => (Outcome::Bad(error.into()), Authorities::default()),
    };
    report.add(&AUTHORITIES, outcome, None)?;
    Ok(authorities)
}

fn not_tried(checks: &[&'static Check], because: &str, report: &mut Report) -> Result<Offset, HostError> {
    checks.iter().try_for_each(|check| report.skipped(check, format!("not tried: {because}")))?;
    Ok(Offset::default())
}

/// The checks that need the network.
struct Checks<'a> {
    connection: &'a Connection,
    network: &'a Network,
    platform: &'static Platform,
    deadline: Deadline,
    clock: &'a Clock,
}

impl Checks<'_> {
    /// Runs all of them. Returns the cluster's clock as far as it is known.
    async fn all(&self, report: &mut Report) -> Result<Offset, HostError> {
        if !self.connects(report).await? {
            return not_tried(&WITH_CONNECTION, "there is no connection", report);
        }
        let Some(http) = self.web(report).await? else {
            return not_tried(&WITH_CONNECTION[1..], "there is no TLS connection", report);
        };
        let Some(cluster) = self.cluster(http, report).await? else {
            return not_tried(&WITH_CONNECTION[2..], "there is no answer of a cluster", report);
        };
        report.add(&CLOCK, clock(cluster.clock), None)?;
        self.load_balancer(&cluster, report).await?;
        self.join_service(report).await?;
        report.skipped(&REST, "cannot be tried without joining; used if there is no join service")?;
        self.auth_service(&cluster, report).await?;
        self.transport_service(&cluster, report).await?;
        Ok(cluster.clock)
    }

    /// The beginning and the deadline of one check. A server that answers at all answers within ten seconds.
    fn begin(&self) -> (Option<Instant>, Deadline) {
        (Some(Instant::now()), Deadline::after(self.deadline.left().min(Duration::from_secs(10))))
    }

    /// Connects through a forward proxy or directly. Returns whether there is a connection.
    async fn connects(&self, report: &mut Report) -> Result<bool, HostError> {
        let Connection { addr: proxy, egress, .. } = self.connection;
        let warnings: Vec<_> = egress.useless_exemptions().collect();
        let good = |found: String| match warnings.is_empty() {
            true => Outcome::Good(found),
            false => Outcome::Remarked(found, warnings),
        };
        let Some(through) = egress.proxy_name(proxy) else {
            let found = match egress.url() {
                Some(_) => "not used: NO_PROXY exempts the cluster's proxy, or it is this machine",
                None => "not used: none is set",
            };
            report.add(&FORWARD_PROXY, good(found.to_owned()), None)?;
            return self.connects_directly(report).await;
        };
        let (began, deadline) = self.begin();
        let dialled = self.network.dial(proxy, deadline).await;
        let reached = dialled.is_ok();
        let outcome = match dialled {
            Ok(_) => good(format!("connected through {through}")),
            Err(error) => Outcome::Bad(error.into()),
        };
        report.add(&FORWARD_PROXY, outcome, began)?;
        report.skipped(&DNS, "left to the forward proxy")?;
        report.skipped(&TCP, "left to the forward proxy")?;
        Ok(reached)
    }

    /// Resolves the name, and checks whether one of its addresses accepts a connection.
    async fn connects_directly(&self, report: &mut Report) -> Result<bool, HostError> {
        let proxy = &self.connection.addr;
        let (began, deadline) = self.begin();
        let addresses = match dial::resolve(proxy, deadline).await {
            Ok(addresses) => addresses,
            Err(error) => {
                report.add(&DNS, Outcome::Bad(error.into()), began)?;
                report.skipped(&TCP, "not tried: there is no address")?;
                return Ok(false);
            }
        };
        let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        match proxy.host.parse::<IpAddr>() {
            Ok(_) => report.skipped(&DNS, "not needed for an address")?,
            Err(_) => report.add(&DNS, Outcome::Good(format!("{} is {}", proxy.host, list.join(", "))), began)?,
        }
        let (began, deadline) = self.begin();
        let answers = dial::try_each(&addresses, deadline).await;
        let results: Vec<_> = answers
            .iter()
            .map(|(address, answer)| match answer {
                Ok(took) => format!("{address} accepts after {} ms", took.as_millis()),
                Err(error) => format!("{address} does not ({})", sanitize(&error.to_string())),
            })
            .collect();
        let reached = answers.iter().any(|(_, answer)| answer.is_ok());
        let failed = answers.into_iter().find_map(|(_, answer)| answer.err());
        let outcome = match failed.filter(|_| !reached) {
            None => Outcome::Good(results.join("; ")),
            Some(source) => Outcome::Bad(net::Error::Connect { addr: proxy.to_string(), source }.into()),
        };
        report.add(&TCP, outcome, began)?;
        Ok(reached)
    }

    /// TLS to the web port, as browsers do it.
    async fn web(&self, report: &mut Report) -> Result<Option<Http>, HostError> {
        let (began, deadline) = self.begin();
        let (outcome, http) = match self.network.web_with_info(&self.connection.addr, deadline).await {
            Ok((http, info)) => (Outcome::Good(self.described_tls(&info)), Some(http)),
            Err(error) => (Outcome::Bad(error.into()), None),
        };
        report.add(&TLS, outcome, began)?;
        Ok(http)
    }

    fn described_tls(&self, TlsInfo { version, chain }: &TlsInfo) -> String {
        let Some(leaf) = chain.leaf() else { return version.clone() };
        let left = leaf.not_after().duration_since(self.clock.now()).unwrap_or_default();
        let left = match left.as_secs() / 86_400 {
            ..2 => approximate(left).to_string(),
            days => format!("{days} days"),
        };
        let mut names = leaf.names();
        names.dedup();
        let names = sanitize(&names.join(", "));
        format!("{version}, a certificate for {names}, signed by {}, valid for {left}", chain.signer())
    }

    async fn cluster(&self, mut http: Http, report: &mut Report) -> Result<Option<ClusterInfo>, HostError> {
        let (began, deadline) = self.begin();
        let platform = self.platform;
        let (outcome, cluster) = match ask(&mut http, &self.connection.addr, self.clock, deadline).await {
            Ok(cluster) => match TooOld::check(&cluster, platform.since, &platform.proof()) {
                Some(too_old) => (Outcome::Bad(too_old.into()), Some(cluster)),
                None => (described(&cluster), Some(cluster)),
            },
            Err(error) => (Outcome::Bad(error.into()), None),
        };
        report.add(&CLUSTER, outcome, began)?;
        Ok(cluster)
    }

    async fn load_balancer(&self, cluster: &ClusterInfo, report: &mut Report) -> Result<(), HostError> {
        let (began, deadline) = self.begin();
        match self.connection.upgrade {
            Upgrade::Always => report.good(&LOAD_BALANCER, format!("yes, because {} says so", upgrade::VARIABLE)),
            Upgrade::Never => {
                report.skipped(&LOAD_BALANCER, format!("not looked for, because {} says so", upgrade::VARIABLE))
            }
            Upgrade::IfNeeded if !cluster.tls_routing => {
                report.skipped(&LOAD_BALANCER, "not looked for: the proxy has separate ports")
            }
            Upgrade::IfNeeded => {
                let found = match self.network.finds_balancer(&self.connection.addr, deadline).await {
                    true => "one terminates TLS: connections are upgraded (WebSocket)",
                    false => "none that terminates TLS",
                };
                report.add(&LOAD_BALANCER, Outcome::Good(found.to_owned()), began)
            }
        }
    }

    async fn join_service(&self, report: &mut Report) -> Result<(), HostError> {
        let (began, deadline) = self.begin();
        let proxy = &self.connection.addr;
        let asking = async {
            let mut channel = self.network.join(proxy, deadline).await?;
            channel.probe(crate::join::service::SERVICE, &proxy.to_string(), deadline).await
        };
        let outcome = asking.await.map(|status| match (status.code(), status.message()) {
            (Code::Unimplemented, text) if text.contains("unknown service") => {
                "gRPC answers without a join service, as before Teleport 18: joins use REST".to_owned()
            }
            (Code::Unimplemented, _) => "found".to_owned(),
            (code, text) => format!("gRPC answers, with {}: {}", code_name(code), sanitize(text)),
        });
        report.add(&JOIN_SERVICE, outcome, began)
    }

    /// Whether the Auth Service answers. Its identity can be verified only after a join; that it is a Teleport server can
    /// be seen.
    async fn auth_service(&self, cluster: &ClusterInfo, report: &mut Report) -> Result<(), HostError> {
        let (sni, trust) = (cluster.name.auth_sni(), &Trust::UnverifiedTeleport);
        let route = AuthRoute { network: self.network, proxy: &self.connection.addr, cluster, trust };
        let Some(endpoint) = route.endpoint(&cluster.name, &sni) else {
            return report.skipped(&AUTH_SERVICE, "reached through the transport service, with a certificate");
        };
        let (began, deadline) = self.begin();
        let outcome = self.probe(&endpoint, deadline).await;
        report.add(&AUTH_SERVICE, outcome.map_err(|error| error.behind(route.proxy, "the Auth Service")), began)
    }

    /// Whether the transport service answers, through which ssh connects to nodes.
    async fn transport_service(&self, cluster: &ClusterInfo, report: &mut Report) -> Result<(), HostError> {
        let (addr, trust) = (&cluster.ssh_proxy, Trust::UnverifiedTeleport);
        let web_port = cluster.tls_routing;
        let endpoint = Endpoint { addr, service: Service::Transport, server_name: &addr.host, trust: &trust, web_port };
        let (began, deadline) = self.begin();
        let outcome = self.probe(&endpoint, deadline).await;
        report.add(&TRANSPORT_SERVICE, outcome.map(|found| format!("{found} at {addr}")), began)
    }

    /// Whether a Teleport server answers at this endpoint. It should demand a certificate.
    async fn probe(&self, endpoint: &Endpoint<'_>, deadline: Deadline) -> Result<String, net::Error> {
        match self.network.grpc(endpoint, None, deadline).await {
            Ok(_) | Err(net::Error::ClientRefused { .. }) => Ok("a Teleport server answers".to_owned()),
            Err(error) => Err(error),
        }
    }
}
