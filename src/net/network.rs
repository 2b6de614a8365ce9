//! From an address to a service, layer by layer: way out, TLS, and what is spoken over it.

use super::grpc::Channel;
use super::http::Http;
use super::tls::{self, Service, Trust};
use super::way_out::WayOut;
use super::{Error, Stream};
use crate::retry::Deadline;
use crate::settings::ProxyAddr;

/// How clusters are reached from here. One for a whole run: what it learns on the way serves the next connection.
pub struct Network {
    way_out: WayOut,
    web: Trust,
}

/// A service at a proxy's address.
pub struct Door<'a> {
    /// Where to connect to.
    pub addr: &'a ProxyAddr,
    /// What to ask for there.
    pub service: Service,
    /// The name that its certificate is to have.
    pub name: &'a str,
    /// Who is believed to be it.
    pub trust: &'a Trust,
}

impl Network {
    /// Leaves by `way_out` and believes `web` on the web.
    pub fn new(way_out: WayOut, web: Trust) -> Self {
        Self { way_out, web }
    }

    /// A connection that nothing has been said on yet.
    ///
    /// # Errors
    /// The address is not reached.
    pub async fn dial(&self, addr: &ProxyAddr, deadline: Deadline) -> Result<Stream, Error> {
        self.way_out.connect(addr, deadline).await
    }

    /// A connection to the web API of a proxy.
    ///
    /// # Errors
    /// The proxy is not reached.
    pub async fn web(&self, proxy: &ProxyAddr, deadline: Deadline) -> Result<Http, Error> {
        let stream = self.dial(proxy, deadline).await?;
        let stream = tls::connect(stream, &proxy.host, &Service::Web, &self.web, deadline).await?;
        Http::over(stream, proxy.to_string()).await
    }

    /// A connection to the join service of a proxy, which nobody needs a certificate for.
    ///
    /// # Errors
    /// It is not reached.
    pub async fn join(&self, proxy: &ProxyAddr, deadline: Deadline) -> Result<Channel, Error> {
        let door = Door { addr: proxy, service: Service::Join, name: &proxy.host, trust: &self.web };
        self.grpc(&door, None, deadline).await
    }

    /// A connection to a gRPC service. `dialled` is one to its address that is open already.
    ///
    /// # Errors
    /// It is not reached.
    pub async fn grpc(&self, door: &Door<'_>, dialled: Option<Stream>, deadline: Deadline) -> Result<Channel, Error> {
        let stream = match dialled {
            Some(stream) => stream,
            None => self.dial(door.addr, deadline).await?,
        };
        let stream = tls::connect(stream, door.name, &door.service, door.trust, deadline).await?;
        Channel::over(stream, door.addr).await
    }
}
