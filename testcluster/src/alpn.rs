//! Routing of connections by ALPN.
//!
//! The first name of the client's list that is served decides on the route. The name that TLS negotiates is the
//! server's choice, by the server's order (docs/protocol.md, "ALPN routing").

/// The service that a connection is routed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// The web server, with the web certificate.
    Web,
    /// The join service, with the web certificate.
    Join,
    /// Auth, with a host certificate; requires a client certificate.
    Auth,
    /// The transport service, with a host certificate; requires a client certificate.
    Transport,
    /// Reverse tunnels, of which only the handshake is served, because clients use it to detect load balancers
    /// (docs/protocol.md, "Connection upgrade").
    ReverseTunnel,
    /// The load balancer in front of the proxy.
    LoadBalancer,
}

impl Route {
    /// Whether the proxy uses the web certificate for it, except inside an upgrade.
    pub(crate) fn uses_web_certificate(self) -> bool {
        matches!(self, Self::Web | Self::Join | Self::ReverseTunnel)
    }
}

pub(crate) const H2: &str = "h2";
pub(crate) const HTTP1: &str = "http/1.1";
pub(crate) const JOIN: &str = "teleport-proxy-grpc";
pub(crate) const TRANSPORT: &str = "teleport-proxy-ssh-grpc";
const REVERSE_TUNNEL: [&str; 2] = ["teleport-reversetunnel", "teleport-reversetunnelv2"];
const AUTH_PREFIX: &str = "teleport-auth@";

/// The proxy's ALPN names, by preference. HTTP/1.1 comes before h2, so that a client that offers both never gets h2,
/// not even for the join service.
pub(crate) const WEB_PREFERENCE: [&str; 6] = [HTTP1, H2, REVERSE_TUNNEL[0], REVERSE_TUNNEL[1], TRANSPORT, JOIN];

/// The route of a client's list. An empty list means HTTP. A name of Auth of an unknown cluster ends the search without
/// a route; names that this port does not serve are skipped like unknown ones.
pub(crate) fn route(offered: &[String], cluster: &str, serves: impl Fn(Route) -> bool) -> Option<Route> {
    if offered.is_empty() {
        return Some(Route::Web);
    }
    let served = |handler: &Option<Route>| serves(handler.unwrap_or(Route::Auth));
    offered.iter().find_map(|name| handler(name, cluster).filter(served)).flatten()
}

/// The handler of a name: `None` if there is none, `Some(None)` if it is Auth of an unknown cluster.
fn handler(name: &str, cluster: &str) -> Option<Option<Route>> {
    match name {
        JOIN => Some(Some(Route::Join)),
        TRANSPORT => Some(Some(Route::Transport)),
        H2 | HTTP1 => Some(Some(Route::Web)),
        _ if REVERSE_TUNNEL.contains(&name) => Some(Some(Route::ReverseTunnel)),
        _ if name.starts_with(AUTH_PREFIX) => Some((name == auth_name(cluster)).then_some(Route::Auth)),
        _ => None,
    }
}

/// The ALPN name of a cluster's Auth, which contains the cluster's name in hex (docs/protocol.md, "Routes to Auth").
pub(crate) fn auth_name(cluster: &str) -> String {
    let hex: String = cluster.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{AUTH_PREFIX}{hex}.teleport.cluster.local")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(offered: &[&str]) -> Option<Route> {
        let offered: Vec<String> = offered.iter().map(|name| (*name).to_owned()).collect();
        route(&offered, "ab", |_| true)
    }

    #[test]
    fn the_clients_order_decides() {
        let auth = "teleport-auth@6162.teleport.cluster.local";
        for (offered, expected) in [
            (&[][..], Some(Route::Web)),
            (&[H2, HTTP1], Some(Route::Web)),
            (&[JOIN, H2], Some(Route::Join)),
            (&[H2, JOIN], Some(Route::Web)),
            (&[TRANSPORT, H2], Some(Route::Transport)),
            (&[auth, H2], Some(Route::Auth)),
            (&["teleport-auth@6163.teleport.cluster.local", H2], None),
            (&["teleport-reversetunnel"], Some(Route::ReverseTunnel)),
            (&["nonsense"], None),
            (&["nonsense", HTTP1], Some(Route::Web)),
        ] {
            assert_eq!(routed(offered), expected, "{offered:?}");
        }
    }

    #[test]
    fn names_that_are_not_served_are_skipped() {
        let offered = ["teleport-auth@6162.teleport.cluster.local".to_owned(), H2.to_owned()];
        assert_eq!(route(&offered, "ab", |route| route != Route::Auth), Some(Route::Web));
        assert_eq!(route(&offered[..1], "ab", |route| route != Route::Auth), None);
        assert_eq!(route(&offered, "cd", |route| route != Route::Auth), Some(Route::Web));
    }
}
