//! `doctor`: walks the way of a join step by step, without joining, and says what it finds. What a person runs first
//! when a pipeline is red.
//!
//! Nothing is asked of the cluster that needs a secret, changes something or is audited: discovery, handshakes, and a
//! call of a method that does not exist. What is printed can be pasted into a ticket: addresses and names, never the ID
//! token or what it says.

pub(crate) mod findings;
mod report;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tonic::Code;

use self::findings::{TooOld, clock, described, id_token};
use self::report::{Outcome, Report, Step};
use super::block_on;
use crate::auth::AuthRoute;
use crate::clock::{Clock, Offset, approximate};
use crate::error::{Exit, Failure};
use crate::host::{Host, HostError};
use crate::net::authorities::Authorities;
use crate::net::discovery::{ClusterInfo, ask};
use crate::net::grpc::code_name;
use crate::net::http::Http;
use crate::net::network::{Endpoint, Network};
use crate::net::tls::{Service, TlsInfo, Trust};
use crate::net::upgrade::{self, Upgrade};
use crate::net::{self, dial};
use crate::platform::{Detection, bitbucket};
use crate::retry::Deadline;
use crate::settings::DoctorSettings;
use crate::text::sanitize;

/// No step takes longer than this: whoever answers at all does so by then.
const STEP: Duration = Duration::from_secs(10);

const NETWORK: &str = "whoever runs the network between here and the proxy, if PROXY_SERVER (--proxy-server) is right";
const PROXY: &str =
    "whoever runs the cluster, or what stands in front of its proxy, if PROXY_SERVER (--proxy-server) is right";
const PROGRAM: Step = Step { name: "program", turn: "us" };
const ID_TOKEN: Step = Step { name: "ID token", turn: "whoever writes the step" };
const AUTHORITIES: Step = Step { name: "authorities", turn: "whoever writes the step" };
const WAY_OUT: Step = Step { name: "way out", turn: NETWORK };
const DNS: Step = Step { name: "DNS", turn: NETWORK };
const TCP: Step = Step { name: "TCP", turn: NETWORK };
const TLS: Step = Step { name: "TLS", turn: "whoever runs the proxy, or the network on the way to it" };
const CLUSTER: Step = Step { name: "cluster", turn: PROXY };
const CLOCK: Step = Step { name: "clock", turn: "whoever runs this machine" };
const BALANCER: Step = Step { name: "load balancer", turn: PROXY };
const JOIN: Step = Step { name: "join service", turn: PROXY };
const REST: Step = Step { name: "join by REST", turn: PROXY };
const AUTH: Step = Step { name: "Auth Service", turn: PROXY };
const NODES: Step = Step { name: "way to nodes", turn: PROXY };

/// Examines, prints, and tells what to exit with if not all is well.
///
/// # Errors
/// stdout is closed, or the machine has no way to wait for a network.
pub(crate) fn run(settings: &DoctorSettings, host: &Host) -> Result<Option<Exit>, Failure> {
    let mut report = Report::new(host);
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let program = concat!("teleport-pipe ", env!("CARGO_PKG_VERSION"));
    report.tell(&PROGRAM, Outcome::Good(format!("{program} on {system}, looking at {}", settings.proxy)))?;
    let token = || bitbucket::detect(&host.env);
    let id_token_row = |now| id_token(token(), now, settings.discreet);
    // Whether it is the clock that is wrong is seen at the end.
    let expired = matches!(token(), Detection::Here(token) if token.expired(host.clock.now()).is_some());
    if !expired {
        report.tell(&ID_TOKEN, id_token_row(host.clock.now()))?;
    }
    let web = authorities(settings, host, &mut report)?;
    let visit = Checks {
        settings,
        network: &Network::new(settings.egress.clone(), web, settings.upgrade),
        deadline: Deadline::after(settings.timeout),
        clock: &host.clock,
    };
    let clock = block_on(visit.all(&mut report))??;
    if expired {
        report.tell(&ID_TOKEN, id_token_row(clock.cluster_time(host.clock.now())))?;
    }
    Ok(report.verdict()?)
}

/// Who is believed on the web. Without a file that can be used it goes on with the public ones.
fn authorities(settings: &DoctorSettings, host: &Host, report: &mut Report) -> Result<Trust, HostError> {
    let path = host.path(settings.ca_file.as_deref());
    let (outcome, authorities) = match (Authorities::from_file(path.as_deref()), path) {
        (Ok(authorities), None) => (Outcome::Good("the public ones".to_owned()), authorities),
        (Ok(authorities), Some(path)) => {
            let path = sanitize(&path.display().to_string());
            (Outcome::Good(format!("the public ones, and those in {path}")), authorities)
        }
        (Err(error), _) => (Outcome::Bad(error.into()), Authorities::default()),
    };
    report.tell(&AUTHORITIES, outcome)?;
    Ok(Trust::web(&authorities))
}

/// The part that needs the network.
struct Checks<'a> {
    settings: &'a DoctorSettings,
    network: &'a Network,
    deadline: Deadline,
    clock: &'a Clock,
}

impl Checks<'_> {
    /// The whole way. What the cluster's clock shows, as far as that is known then.
    async fn all(&self, report: &mut Report) -> Result<Offset, HostError> {
        let skipped = |why: &str| Outcome::Skipped(why.to_owned());
        if !self.goes(report).await? {
            for step in [&TLS, &CLUSTER, &JOIN, &AUTH, &NODES] {
                report.tell(step, skipped("not tried: there is no connection"))?;
            }
            return Ok(Offset::default());
        }
        let Some(http) = self.web(report).await? else {
            for step in [&CLUSTER, &JOIN, &AUTH, &NODES] {
                report.tell(step, skipped("not tried: there is no TLS connection"))?;
            }
            return Ok(Offset::default());
        };
        let Some(cluster) = self.cluster(http, report).await? else {
            for step in [&JOIN, &AUTH, &NODES] {
                report.tell(step, skipped("not tried: this is not known to be a cluster"))?;
            }
            return Ok(Offset::default());
        };
        report.tell(&CLOCK, clock(cluster.clock))?;
        self.balancer(&cluster, report).await?;
        self.join(report).await?;
        report.tell(&REST, skipped("cannot be tried without joining; where there is no join service, it is used"))?;
        self.auth(&cluster, report).await?;
        self.nodes(&cluster, report).await?;
        Ok(cluster.clock)
    }

    /// For one step.
    fn step(&self) -> (Instant, Deadline) {
        (Instant::now(), Deadline::after(self.deadline.left().min(STEP)))
    }

    /// By an outgoing proxy, or straight. Whether there is a connection then.
    async fn goes(&self, report: &mut Report) -> Result<bool, HostError> {
        let DoctorSettings { proxy, egress, .. } = self.settings;
        let Some(through) = egress.proxy_name(proxy) else {
            let straight = match egress.url() {
                Some(_) => "straight to the proxy: NO_PROXY exempts it from the outgoing proxy, or it is this machine",
                None => "straight to the proxy: no outgoing proxy is set",
            };
            report.tell(&WAY_OUT, Outcome::Good(straight.to_owned()))?;
            return self.reaches(report).await;
        };
        let (began, deadline) = self.step();
        let dialled = self.network.dial(proxy, deadline).await;
        let reached = dialled.is_ok();
        report.tell_timed(&WAY_OUT, began, dialled.map(|_| format!("by the outgoing proxy {through}")))?;
        report.tell(&DNS, Outcome::Skipped("left to the outgoing proxy".to_owned()))?;
        report.tell(&TCP, Outcome::Skipped("left to the outgoing proxy".to_owned()))?;
        Ok(reached)
    }

    /// Name, addresses, and whether one of them takes a connection.
    async fn reaches(&self, report: &mut Report) -> Result<bool, HostError> {
        let proxy = &self.settings.proxy;
        let (began, deadline) = self.step();
        let addresses = match dial::resolve(proxy, deadline).await {
            Ok(addresses) => addresses,
            Err(error) => {
                report.tell_timed(&DNS, began, Outcome::Bad(error.into()))?;
                report.tell(&TCP, Outcome::Skipped("not tried: there is no address".to_owned()))?;
                return Ok(false);
            }
        };
        let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        match proxy.host.parse::<IpAddr>() {
            Ok(_) => report.tell(&DNS, Outcome::Skipped("not needed for an address".to_owned()))?,
            Err(_) => {
                report.tell_timed(&DNS, began, Outcome::Good(format!("{} is {}", proxy.host, list.join(", "))))?
            }
        }
        let (began, deadline) = self.step();
        let answers = dial::try_each(&addresses, deadline).await;
        let told: Vec<_> = answers
            .iter()
            .map(|(address, answer)| match answer {
                Ok(took) => format!("{address} answers after {} ms", took.as_millis()),
                Err(error) => format!("{address} does not ({})", sanitize(&error.to_string())),
            })
            .collect();
        let reached = answers.iter().any(|(_, answer)| answer.is_ok());
        let failed = answers.into_iter().find_map(|(_, answer)| answer.err());
        let outcome = match failed.filter(|_| !reached) {
            None => Outcome::Good(told.join("; ")),
            Some(source) => Outcome::Bad(net::Error::Connect { addr: proxy.to_string(), source }.into()),
        };
        report.tell_timed(&TCP, began, outcome)?;
        Ok(reached)
    }

    /// TLS to the web port, as browsers do it.
    async fn web(&self, report: &mut Report) -> Result<Option<Http>, HostError> {
        let (began, deadline) = self.step();
        let (outcome, http) = match self.network.web_with_info(&self.settings.proxy, deadline).await {
            Ok((http, seen)) => (Outcome::Good(self.id_token_row(&seen)), Some(http)),
            Err(error) => (Outcome::Bad(error.into()), None),
        };
        report.tell_timed(&TLS, began, outcome)?;
        Ok(http)
    }

    fn id_token_row(&self, TlsInfo { version, chain }: &TlsInfo) -> String {
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

    /// Discovery.
    async fn cluster(&self, mut http: Http, report: &mut Report) -> Result<Option<ClusterInfo>, HostError> {
        let (began, deadline) = self.step();
        let answer = ask(&mut http, &self.settings.proxy, self.clock, deadline).await;
        let (outcome, cluster) = match answer {
            Ok(cluster) if cluster.is_too_old() => {
                (Outcome::Bad(TooOld { version: cluster.version.clone() }.into()), Some(cluster))
            }
            Ok(cluster) => (Outcome::Good(described(&cluster)), Some(cluster)),
            Err(error) => (Outcome::Bad(error.into()), None),
        };
        report.tell_timed(&CLUSTER, began, outcome)?;
        Ok(cluster)
    }

    /// Whether something in front ends TLS.
    async fn balancer(&self, cluster: &ClusterInfo, report: &mut Report) -> Result<(), HostError> {
        let (began, deadline) = self.step();
        match self.settings.upgrade {
            Upgrade::Always => report.tell(&BALANCER, Outcome::Good(format!("one, as {} says", upgrade::VARIABLE))),
            Upgrade::Never => report.tell(&BALANCER, Outcome::Skipped(format!("none, as {} says", upgrade::VARIABLE))),
            Upgrade::IfNeeded if !cluster.tls_routing => {
                report.tell(&BALANCER, Outcome::Skipped("not looked for: there are several ports".to_owned()))
            }
            Upgrade::IfNeeded => {
                let found = match self.network.finds_balancer(&self.settings.proxy, deadline).await {
                    true => "one in front ends TLS: connections are upgraded (WebSocket)",
                    false => "none that ends TLS",
                };
                report.tell_timed(&BALANCER, began, Outcome::Good(found.to_owned()))
            }
        }
    }

    /// Whether gRPC gets to the join service.
    async fn join(&self, report: &mut Report) -> Result<(), HostError> {
        const SERVICE: &str = "teleport.join.v1.JoinService";
        let (began, deadline) = self.step();
        let proxy = &self.settings.proxy;
        let asking = async {
            let mut channel = self.network.join(proxy, deadline).await?;
            channel.probe(SERVICE, &proxy.to_string(), deadline).await
        };
        let outcome = asking.await.map(|status| match (status.code(), status.message()) {
            (Code::Unimplemented, text) if text.contains("unknown service") => {
                "gRPC answers, and has no join service, as before Teleport 18: joins go by REST".to_owned()
            }
            (Code::Unimplemented, _) => "it is there".to_owned(),
            (code, text) => format!("gRPC answers, with {}: {}", code_name(code), sanitize(text)),
        });
        report.tell_timed(&JOIN, began, outcome)
    }

    /// Whether the Auth Service answers. Who it is can be known only after a join; that it is one of Teleport can be
    /// seen.
    async fn auth(&self, cluster: &ClusterInfo, report: &mut Report) -> Result<(), HostError> {
        let route = AuthRoute { network: self.network, proxy: &self.settings.proxy, cluster };
        let (sni, trust) = (cluster.name.auth_sni(), Trust::unverified_teleport());
        match route.endpoint(&cluster.name, &sni, &trust) {
            Some(endpoint) => {
                let (began, deadline) = self.step();
                let outcome = self.probe(&endpoint, deadline).await;
                let outcome = outcome.map_err(|error| error.behind(route.proxy, "the Auth Service"));
                report.tell_timed(&AUTH, began, outcome)
            }
            None => report.tell(&AUTH, Outcome::Skipped("reached by the way to nodes, with a certificate".to_owned())),
        }
    }

    /// Whether the transport service answers, to which every ssh connection of later goes.
    async fn nodes(&self, cluster: &ClusterInfo, report: &mut Report) -> Result<(), HostError> {
        let (addr, trust) = (&cluster.ssh_proxy, Trust::unverified_teleport());
        let web_port = cluster.tls_routing;
        let endpoint = Endpoint { addr, service: Service::Transport, server_name: &addr.host, trust: &trust, web_port };
        let (began, deadline) = self.step();
        let outcome = self.probe(&endpoint, deadline).await;
        report.tell_timed(&NODES, began, outcome.map(|found| format!("{found} at {addr}")))
    }

    /// Whether one of Teleport's servers is behind this endpoint. That it wants a certificate is what it should say.
    async fn probe(&self, endpoint: &Endpoint<'_>, deadline: Deadline) -> Result<String, net::Error> {
        match self.network.grpc(endpoint, None, deadline).await {
            Ok(_) | Err(net::Error::ClientRefused { .. }) => Ok("a server of Teleport answers".to_owned()),
            Err(error) => Err(error),
        }
    }
}
