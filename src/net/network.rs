//! From an address to a service, layer by layer: the egress, then TLS or a connection upgrade, then HTTP or gRPC.

use std::cell::Cell;
use std::time::Duration;

// The clock of tokio, so that a test can advance it.
use tokio::time::Instant;

use super::dial;
use super::egress::Egress;
use super::grpc::Channel;
use super::http::Http;
use super::tls::{self, Service, TlsInfo, Trust};
use super::upgrade::{self, Upgrade};
use super::{Error, Stream};
use crate::address::HostPort;
use crate::retry::Deadline;

/// A load balancer answers within this time (docs/protocol.md, "Connection upgrade").
const PROBE: Duration = Duration::from_secs(5);

/// How long a load balancer that was found is remembered: longer than most runs take, and shorter than the interval at
/// which a daemon renews, because a load balancer may be removed, or be in front of one of several addresses only.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

pub(crate) struct Network {
    egress: Egress,
    web: Trust,
    upgrade: Upgrade,
    /// When a connection last showed that a load balancer terminates TLS.
    balancer_found: Cell<Option<Instant>>,
}

pub(crate) struct Endpoint<'a> {
    pub(crate) addr: &'a HostPort,
    pub(crate) service: Service,
    /// The name that its certificate must have.
    pub(crate) server_name: &'a str,
    pub(crate) trust: &'a Trust,
    /// Whether it is a web port, which may have a load balancer in front.
    pub(crate) web_port: bool,
}

impl Network {
    /// `web` is whom to trust on web ports: the proxy's, and that of a forward proxy with an `https://` URL.
    pub(crate) fn new(egress: Egress, web: Trust, upgrade: Upgrade) -> Self {
        Self { egress, web, upgrade, balancer_found: Cell::new(None) }
    }

    /// Whether connections to web ports are upgraded, as far as is known now.
    pub(crate) fn upgrades(&self) -> bool {
        match self.upgrade {
            Upgrade::Always => true,
            Upgrade::Never => false,
            Upgrade::IfNeeded => self.balancer_found.get().is_some_and(|found| found.elapsed() < REMEMBERED),
        }
    }

    /// Looks for a load balancer in front of the proxy that terminates TLS, as Teleport's own clients do
    /// (docs/protocol.md, "Connection upgrade"). Returns true if there is one and it was not known before.
    pub(crate) async fn finds_balancer(&self, proxy: &HostPort, deadline: Deadline) -> bool {
        if self.upgrade != Upgrade::IfNeeded || self.upgrades() {
            return false;
        }
        let probe = async {
            let stream = self.dial(proxy, deadline).await?;
            tls::connect(stream, &proxy.host, &Service::ReverseTunnel, &self.web, deadline).await
        };
        matches!(tokio::time::timeout(PROBE, probe).await, Ok(Err(Error::NoAlpn { .. }))) && self.remember_balancer()
    }

    /// Upgrades connections to web ports for a while. Returns true if they were not upgraded before and may be.
    fn remember_balancer(&self) -> bool {
        let is_news = self.upgrade == Upgrade::IfNeeded && !self.upgrades();
        if is_news {
            log::info!(target: "discover", "a load balancer in front of the proxy terminates TLS: using a connection upgrade (WebSocket)");
            self.balancer_found.set(Some(Instant::now()));
        }
        is_news
    }

    /// A TCP connection, or one through a forward proxy, before TLS.
    pub(crate) async fn dial(&self, addr: &HostPort, deadline: Deadline) -> Result<Stream, Error> {
        self.egress.connect(addr, &self.web, deadline).await
    }

    /// As [`dial`](Self::dial), as a future of its own, to run while something else is done.
    pub(crate) fn dial_ahead(
        &self,
        addr: &HostPort,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Stream, Error>> + Send + use<> {
        let (egress, web, addr) = (self.egress.clone(), self.web.clone(), addr.clone());
        async move { egress.connect(&addr, &web, deadline).await }
    }

    pub(crate) async fn web(&self, proxy: &HostPort, deadline: Deadline) -> Result<Http, Error> {
        Ok(self.web_with_info(proxy, deadline).await?.0)
    }

    /// As [`web`](Self::web), with the facts of the handshake.
    pub(crate) async fn web_with_info(&self, proxy: &HostPort, deadline: Deadline) -> Result<(Http, TlsInfo), Error> {
        let stream = self.dial(proxy, deadline).await?;
        let handshake = tls::handshake(stream, &proxy.host, &Service::Web, &self.web, deadline).await;
        let stream = handshake.map_err(|error| error.through(self.egress.proxy_name(proxy), proxy))?;
        let info = TlsInfo::new(&stream);
        Ok((Http::new(Box::new(stream), proxy.to_string()).await?, info))
    }

    /// HTTP without TLS, which endpoints on this machine and metadata services speak. If it is `direct`, no forward proxy is
    /// used.
    pub(crate) async fn plain_http(&self, addr: &HostPort, direct: bool, deadline: Deadline) -> Result<Http, Error> {
        let stream = match direct {
            true => Box::new(dial::connect(addr, deadline).await?),
            false => self.dial(addr, deadline).await?,
        };
        Http::new(stream, addr.to_string()).await
    }

    /// A connection to the join service of a proxy. It needs no client certificate.
    pub(crate) async fn join(&self, proxy: &HostPort, deadline: Deadline) -> Result<Channel, Error> {
        let (service, server_name, trust) = (Service::Join, &*proxy.host, &self.web);
        self.grpc(&Endpoint { addr: proxy, service, server_name, trust, web_port: true }, None, deadline).await
    }

    /// A connection to a gRPC service: directly or, if that is needed, by an upgrade. `dialled` is an open connection to
    /// its address, if there is one.
    pub(crate) async fn grpc(
        &self,
        endpoint: &Endpoint<'_>,
        mut dialled: Option<Stream>,
        deadline: Deadline,
    ) -> Result<Channel, Error> {
        if !(endpoint.web_port && self.upgrades()) {
            match self.connect(endpoint, dialled.take(), false, deadline).await {
                // A load balancer that speaks HTTP/2 negotiates `h2` and shows a certificate of its own.
                Err(Error::NoAlpn { .. } | Error::TlsTerminated { .. })
                    if endpoint.web_port && self.remember_balancer() => {}
                answer => return answer,
            }
        }
        self.connect(endpoint, dialled, true, deadline).await
    }

    async fn connect(
        &self,
        endpoint: &Endpoint<'_>,
        dialled: Option<Stream>,
        upgraded: bool,
        deadline: Deadline,
    ) -> Result<Channel, Error> {
        let Endpoint { addr, service, server_name, .. } = endpoint;
        let mut stream = match dialled {
            Some(stream) => stream,
            None => self.dial(addr, deadline).await?,
        };
        let mut trust = endpoint.trust;
        let through = |error: Error| error.through(self.egress.proxy_name(addr), addr);
        if upgraded {
            stream =
                tls::connect(stream, &addr.host, &Service::Balancer, &self.web, deadline).await.map_err(through)?;
            stream = upgrade::connect(stream, &addr.to_string(), service, deadline).await?;
            // Before the join the cluster's authorities are not known; the outer TLS has verified the server.
            if matches!(service, Service::Join) {
                trust = &Trust::UnverifiedTeleport;
            }
        }
        let stream = tls::connect(stream, server_name, service, trust, deadline).await;
        Channel::new(stream.map_err(through)?, addr).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::authorities::Authorities;

    fn network(upgrade: Upgrade) -> Network {
        Network::new(Egress::default(), Trust::web(&Authorities::default()), upgrade)
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_balancer_is_forgotten_after_a_while() {
        let network = network(Upgrade::IfNeeded);
        assert!(!network.upgrades());
        assert!(network.remember_balancer() && network.upgrades());
        assert!(!network.remember_balancer());
        tokio::time::advance(REMEMBERED).await;
        assert!(!network.upgrades() && network.remember_balancer() && network.upgrades());
    }

    #[tokio::test]
    async fn a_load_balancer_changes_nothing_if_the_user_has_decided() {
        let (always, never) = (network(Upgrade::Always), network(Upgrade::Never));
        assert!(!always.remember_balancer() && always.upgrades());
        assert!(!never.remember_balancer() && !never.upgrades());
    }
}
