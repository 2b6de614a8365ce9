//! From an address to a service, layer by layer: way out, then TLS or a connection upgrade, then what is spoken there.

use std::cell::Cell;
use std::time::Duration;

use super::egress::Egress;
use super::grpc::Channel;
use super::http::Http;
use super::tls::{self, Service, TlsInfo, Trust};
use super::upgrade::{self, Upgrade};
use super::{Error, Stream};
use crate::address::HostPort;
use crate::retry::Deadline;

/// Whoever does not answer for so long is no load balancer (teleport-join.md 3.3).
const PROBE: Duration = Duration::from_secs(5);

/// How clusters are reached from here. One for a whole run: what it learns on the way serves the next connection.
pub(crate) struct Network {
    egress: Egress,
    web: Trust,
    upgrade: Cell<Upgrade>,
}

/// A service at a proxy's address.
pub(crate) struct Endpoint<'a> {
    /// Where to connect to.
    pub(crate) addr: &'a HostPort,
    /// What to ask for there.
    pub(crate) service: Service,
    /// The name that its certificate is to have.
    pub(crate) server_name: &'a str,
    /// Who is believed to be it.
    pub(crate) trust: &'a Trust,
    /// Whether it is a web port, where a load balancer may stand in front.
    pub(crate) web_port: bool,
}

impl Network {
    /// Leaves by `egress` and believes `web` on the web.
    pub(crate) fn new(egress: Egress, web: Trust, upgrade: Upgrade) -> Self {
        Self { egress, web, upgrade: Cell::new(upgrade) }
    }

    /// Whether connections are upgraded, as far as is known now.
    pub(crate) fn upgrades(&self) -> bool {
        self.upgrade.get() == Upgrade::Always
    }

    /// Looks whether something in front of the proxy takes its protocols away, as Teleport's own clients do
    /// (teleport-join.md 3.3). True if that is news.
    pub(crate) async fn finds_balancer(&self, proxy: &HostPort, deadline: Deadline) -> bool {
        if self.upgrade.get() != Upgrade::WhereNeeded {
            return false;
        }
        let probe = async {
            let stream = self.dial(proxy, deadline).await?;
            tls::connect(stream, &proxy.host, &Service::ReverseTunnel, &self.web, deadline).await
        };
        matches!(tokio::time::timeout(PROBE, probe).await, Ok(Err(Error::NoAlpn { .. }))) && self.upgrade_from_now_on()
    }

    /// Connections to the web port want an upgrade; true if that is news, and may help.
    fn upgrade_from_now_on(&self) -> bool {
        let news = self.upgrade.get() == Upgrade::WhereNeeded;
        if news {
            log::info!(target: "discover", "a load balancer in front ends TLS: going on by connection upgrade (WebSocket)");
            self.upgrade.set(Upgrade::Always);
        }
        news
    }

    /// A connection that nothing has been said on yet.
    ///
    /// # Errors
    /// The address is not reached.
    pub(crate) async fn dial(&self, addr: &HostPort, deadline: Deadline) -> Result<Stream, Error> {
        self.egress.connect(addr, &self.web, deadline).await
    }

    /// The same as a future of its own, to run while something else is done.
    pub(crate) fn dial_ahead(
        &self,
        addr: &HostPort,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Stream, Error>> + Send + use<> {
        let (egress, web, addr) = (self.egress.clone(), self.web.clone(), addr.clone());
        async move { egress.connect(&addr, &web, deadline).await }
    }

    /// A connection to the web API of a proxy.
    ///
    /// # Errors
    /// The proxy is not reached.
    pub(crate) async fn web(&self, proxy: &HostPort, deadline: Deadline) -> Result<Http, Error> {
        Ok(self.look(proxy, deadline).await?.0)
    }

    /// The same, and what TLS has shown.
    ///
    /// # Errors
    /// The proxy is not reached.
    pub(crate) async fn look(&self, proxy: &HostPort, deadline: Deadline) -> Result<(Http, TlsInfo), Error> {
        let stream = self.dial(proxy, deadline).await?;
        let stream = tls::handshake(stream, &proxy.host, &Service::Web, &self.web, deadline).await?;
        let seen = TlsInfo::new(&stream);
        Ok((Http::over(Box::new(stream), proxy.to_string()).await?, seen))
    }

    /// A connection to the join service of a proxy, which nobody needs a certificate for.
    ///
    /// # Errors
    /// It is not reached.
    pub(crate) async fn join(&self, proxy: &HostPort, deadline: Deadline) -> Result<Channel, Error> {
        let endpoint = Endpoint {
            addr: proxy,
            service: Service::Join,
            server_name: &proxy.host,
            trust: &self.web,
            web_port: true,
        };
        self.open(&endpoint, &Trust::unverified_teleport(), None, deadline).await
    }

    /// A connection to a gRPC service that shows a certificate of the cluster. `dialled` is one to its address that is
    /// open already.
    ///
    /// # Errors
    /// It is not reached.
    pub(crate) async fn grpc(
        &self,
        endpoint: &Endpoint<'_>,
        dialled: Option<Stream>,
        deadline: Deadline,
    ) -> Result<Channel, Error> {
        self.open(endpoint, endpoint.trust, dialled, deadline).await
    }

    /// Straight or, where that is needed, by an upgrade; `inside` is who is believed there.
    async fn open(
        &self,
        endpoint: &Endpoint<'_>,
        inside: &Trust,
        mut dialled: Option<Stream>,
        deadline: Deadline,
    ) -> Result<Channel, Error> {
        if !(endpoint.web_port && self.upgrades()) {
            match self.straight(endpoint, dialled.take(), deadline).await {
                // A balancer that speaks HTTP/2 agrees on that, and shows a certificate of its own.
                Err(Error::NoAlpn { .. } | Error::EndsTls { .. })
                    if endpoint.web_port && self.upgrade_from_now_on() => {}
                answer => return answer,
            }
        }
        self.upgraded(endpoint, inside, dialled, deadline).await
    }

    async fn straight(
        &self,
        endpoint: &Endpoint<'_>,
        dialled: Option<Stream>,
        deadline: Deadline,
    ) -> Result<Channel, Error> {
        let stream = self.dialled(endpoint, dialled, deadline).await?;
        let stream = tls::connect(stream, endpoint.server_name, &endpoint.service, endpoint.trust, deadline).await?;
        Channel::over(stream, endpoint.addr).await
    }

    async fn upgraded(
        &self,
        endpoint: &Endpoint<'_>,
        inside: &Trust,
        dialled: Option<Stream>,
        deadline: Deadline,
    ) -> Result<Channel, Error> {
        let stream = self.dialled(endpoint, dialled, deadline).await?;
        let stream = tls::connect(stream, &endpoint.addr.host, &Service::Balancer, &self.web, deadline).await?;
        let stream = upgrade::through(stream, &endpoint.addr.to_string(), &endpoint.service, deadline).await?;
        let stream = tls::connect(stream, endpoint.server_name, &endpoint.service, inside, deadline).await?;
        Channel::over(stream, endpoint.addr).await
    }

    async fn dialled(
        &self,
        endpoint: &Endpoint<'_>,
        dialled: Option<Stream>,
        deadline: Deadline,
    ) -> Result<Stream, Error> {
        match dialled {
            Some(stream) => Ok(stream),
            None => self.dial(endpoint.addr, deadline).await,
        }
    }
}
