//! Where a connection to the proxy's one port goes.
//!
//! The first name of the client's own ALPN list that somebody serves decides on the route; which name TLS then
//! agrees on is the server's choice, by its own order (teleport-join.md 3.1, conformance/FINDINGS.md 15).

/// What serves a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// The web server, behind the web certificate.
    Web,
    /// The proxy's gRPC services for those who have no certificate yet: the join service.
    Join,
    /// Auth: TLS with the host CA, a client certificate is a must.
    Auth,
    /// The transport service: TLS with the host CA, a client certificate is a must.
    Transport,
    /// Reverse tunnels. Only the handshake is served, for those who probe whether TLS routing gets through
    /// (teleport-join.md 3.3).
    ReverseTunnel,
    /// The load balancer in front, which looks at no name of Teleport's.
    LoadBalancer,
}

impl Route {
    /// Whether it is behind the web certificate, where nothing stands in front.
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

/// What the proxy's own TLS picks from, in its order: HTTP/1.1 before h2, so that a client which offers both loses
/// h2, also on the way to the join service.
pub(crate) const WEB_PREFERENCE: [&str; 6] = [HTTP1, H2, REVERSE_TUNNEL[0], REVERSE_TUNNEL[1], TRANSPORT, JOIN];

/// The route for a client's list; no list means HTTP. Auth of an unknown cluster is a route that leads nowhere: the
/// rest of the list is not looked at. Names that lead to what this port does not serve are skipped, as unknown ones
/// are.
pub(crate) fn route(offered: &[String], cluster: &str, serves: impl Fn(Route) -> bool) -> Option<Route> {
    if offered.is_empty() {
        return Some(Route::Web);
    }
    let served = |handler: &Option<Route>| serves(handler.unwrap_or(Route::Auth));
    offered.iter().find_map(|name| handler(name, cluster).filter(served)).flatten()
}

/// Who serves a name: nobody, or a route that exists, or does not.
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

/// The ALPN name of a cluster's Auth: the hex of its name below a wildcard name (teleport-issue-and-outputs.md 1.5).
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
    fn what_is_not_served_is_skipped() {
        let offered = ["teleport-auth@6162.teleport.cluster.local".to_owned(), H2.to_owned()];
        assert_eq!(route(&offered, "ab", |route| route != Route::Auth), Some(Route::Web));
        assert_eq!(route(&offered[..1], "ab", |route| route != Route::Auth), None);
        assert_eq!(route(&offered, "cd", |route| route != Route::Auth), Some(Route::Web));
    }
}
