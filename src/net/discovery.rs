//! `GET /webapi/find`: what cluster is this, and where are its parts (teleport-join.md 1).

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::http::{Answer, Http};
use super::network::Network;
use crate::address::ClusterName;
use crate::address::HostPort;
use crate::clock::{Clock, Offset};
use crate::keys::Suite;
use crate::retry::{Deadline, retry};
use crate::text::{sanitize, sanitize_nested};

/// What discovery tells.
#[derive(Clone, Debug)]
pub(crate) struct ClusterInfo {
    /// The root cluster's name.
    pub(crate) name: ClusterName,
    /// The proxy's version, such as `18.2.0`; empty if not told.
    pub(crate) version: String,
    /// The signature suite; decides on the kind of our keys.
    pub(crate) suite: Suite,
    /// Everything goes through the web port.
    pub(crate) tls_routing: bool,
    /// Its clock.
    pub(crate) clock: Offset,
    /// Where ssh connections of later go (teleport-issue-and-outputs.md 1.3).
    pub(crate) ssh_proxy: HostPort,
}

/// The oldest version with the join method (teleport-join.md, version timeline).
const OLDEST: [u32; 3] = [17, 0, 2];

impl ClusterInfo {
    /// Whether the version is known, and too old to join by an ID token of Bitbucket. A pre-release is older than its
    /// release, but only just.
    pub(crate) fn is_too_old(&self) -> bool {
        let core = self.version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let numbers: Result<Vec<u32>, _> = core.split('.').map(str::parse).collect();
        numbers.is_ok_and(|numbers| numbers.len() == OLDEST.len() && numbers[..] < OLDEST[..])
    }
}

/// Asks the proxy, and keeps the connection: the REST join may want it.
///
/// # Errors
/// The proxy is not reached, or it is no Teleport proxy.
pub(crate) async fn discover(
    network: &Network,
    proxy: &HostPort,
    clock: &Clock,
    deadline: Deadline,
) -> Result<(ClusterInfo, Http), Error> {
    retry("discover", deadline, |deadline| async move {
        let mut http = network.web(proxy, deadline).await?;
        Ok((ask(&mut http, proxy, clock, deadline).await?, http))
    })
    .await
}

/// Asks once, over a connection to the proxy.
///
/// # Errors
/// The connection breaks, or it is no Teleport proxy.
pub(crate) async fn ask(
    http: &mut Http,
    proxy: &HostPort,
    clock: &Clock,
    deadline: Deadline,
) -> Result<ClusterInfo, Error> {
    let asked = clock.now();
    let answer = http.send("/webapi/find", None, deadline).await?;
    let mut cluster = read(proxy, &answer)?;
    cluster.clock = answer.date.map(|theirs| Offset::measured(theirs, asked, clock.now())).unwrap_or_default();
    Ok(cluster)
}

/// Unknown keys are ignored, optional ones may be missing.
#[derive(Deserialize)]
struct Find {
    cluster_name: String,
    #[serde(default)]
    server_version: String,
    #[serde(default)]
    proxy: FindProxy,
    #[serde(default)]
    auth: FindAuth,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FindProxy {
    tls_routing_enabled: bool,
    ssh: FindSsh,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FindSsh {
    listen_addr: String,
    web_listen_addr: String,
    public_addr: String,
    ssh_public_addr: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FindAuth {
    signature_algorithm_suite: Value,
}

/// The answer, if it is one of Teleport. The status is looked at first: an error body decodes into an empty answer
/// (conformance FINDINGS 17).
fn read(proxy: &HostPort, answer: &Answer) -> Result<ClusterInfo, Error> {
    let addr = || proxy.to_string();
    let find: Option<Find> = serde_json::from_slice(&answer.body).ok();
    match (answer.status, find) {
        (200, Some(find)) => info(proxy, find),
        (200, None) if answer.content_type == "application/json" && !is_json(&answer.body) => {
            Err(Error::Garbled { addr: addr(), reason: "/webapi/find answered no JSON".to_owned() })
        }
        // A proxy that is overloaded or cut off from Auth says so in JSON; anything in front of it, mostly in HTML.
        (status, _) if status == 429 || status >= 500 => {
            let message = error_message(&answer.body);
            Err(Error::Status {
                addr: addr(),
                status,
                message: format!("{message}{}", by(answer)),
                retry_after: answer.retry_after,
            })
        }
        (status @ 300..=399, _) if !["", &*proxy.host].contains(&&*answer.leads_to) => {
            Err(Error::Redirect { addr: addr(), status, to: sanitize(&answer.leads_to) })
        }
        (status, _) => {
            let kind = if answer.content_type.is_empty() { "no content type" } else { &answer.content_type };
            let found = format!("/webapi/find answered {status}, {}{}", sanitize(kind), by(answer));
            Err(Error::NotTeleport { addr: addr(), found })
        }
    }
}

/// Who answered, where it says so; Teleport does not.
fn by(answer: &Answer) -> String {
    let server = sanitize(&answer.server);
    if server.is_empty() { server } else { format!(", by {server}") }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

fn info(proxy: &HostPort, find: Find) -> Result<ClusterInfo, Error> {
    let name = find.cluster_name.parse().map_err(|()| Error::NotTeleport {
        addr: proxy.to_string(),
        found: sanitize(&format!("/webapi/find names a cluster `{}`", find.cluster_name)),
    })?;
    Ok(ClusterInfo {
        name,
        version: sanitize(&find.server_version),
        suite: Suite::from_discovery(&find.auth.signature_algorithm_suite),
        tls_routing: find.proxy.tls_routing_enabled,
        clock: Offset::default(),
        ssh_proxy: find.proxy.ssh_proxy(proxy),
    })
}

impl FindProxy {
    /// Where ssh goes: the public address, else the one it listens on, else the one that we were told. With separate
    /// ports the SSH port comes in (teleport-issue-and-outputs.md 1.3).
    fn ssh_proxy(&self, told: &HostPort) -> HostPort {
        let ssh = &self.ssh;
        let port_of = |text: &str, default: u16| address(text, default).map_or(default, |addr| addr.port);
        let web_port = port_of(&ssh.web_listen_addr, 443);
        let ssh_port = port_of(&ssh.listen_addr, 3023);
        let usable = |addr: &HostPort| !matches!(addr.host.as_str(), "0.0.0.0" | "::");
        let public = || address(&ssh.public_addr, web_port);
        let listed = || address(&ssh.web_listen_addr, web_port);
        let found = match self.tls_routing_enabled {
            true => public().or_else(listed),
            false => address(&ssh.ssh_public_addr, ssh_port)
                .or_else(|| public().map(|addr| HostPort { port: ssh_port, ..addr }))
                .or_else(|| address(&ssh.listen_addr, ssh_port))
                .or_else(listed),
        };
        // 0.0.0.0 is where the proxy listens, not where it is reached.
        match found {
            Some(addr) if usable(&addr) => addr,
            Some(addr) if !self.tls_routing_enabled => HostPort { host: told.host.clone(), port: addr.port },
            None if !self.tls_routing_enabled => HostPort { host: told.host.clone(), port: ssh_port },
            _ => told.clone(),
        }
    }
}

/// An address of discovery; may carry a scheme, may lack the port.
fn address(text: &str, default_port: u16) -> Option<HostPort> {
    let bare = ["tcp://", "http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let mut addr: HostPort = bare.parse().ok()?;
    let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(addr.port));
    if !has_port {
        addr.port = default_port;
    }
    Some(addr)
}

/// The words of an error body, in the three forms that it may have (teleport-join.md 2.3).
pub(crate) fn error_message(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = json.pointer("/error/message").or_else(|| json.get("message")).and_then(Value::as_str);
    match message {
        Some(message) => sanitize_nested(message),
        None if body.is_empty() => "no message".to_owned(),
        None if body.trim_ascii_start().starts_with(b"<") => "an HTML page".to_owned(),
        None => sanitize(&String::from_utf8_lossy(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::RetryAfter;

    fn answer(status: u16, content_type: &str, body: &str) -> Answer {
        Answer {
            status,
            content_type: content_type.to_owned(),
            retry_after: RetryAfter::default(),
            server: String::new(),
            leads_to: String::new(),
            date: None,
            body: body.as_bytes().to_vec(),
        }
    }

    fn found(body: &str) -> Result<ClusterInfo, Error> {
        read(&"told.example:3080".parse().unwrap(), &answer(200, "application/json", body))
    }

    #[test]
    fn a_cluster_is_read_and_what_is_missing_is_guessed() {
        let info = found(
            r#"{"cluster_name":"c.example","server_version":"18.2.0","more":[1],"auth":{"type":""},
            "proxy":{"tls_routing_enabled":true,"ssh":{"public_addr":"web.example:443"},"kube":{}}}"#,
        )
        .unwrap();
        assert_eq!((info.name.as_str(), info.version.as_str()), ("c.example", "18.2.0"));
        assert_eq!((info.suite, info.ssh_proxy.to_string().as_str()), (Suite::Legacy, "web.example:443"));
        assert_eq!(found(r#"{"cluster_name":"c"}"#).unwrap().ssh_proxy.to_string(), "told.example:3023");
    }

    #[test]
    fn versions() {
        let is_too_old = |version: &str| {
            found(&format!(r#"{{"cluster_name":"c","server_version":"{version}"}}"#)).unwrap().is_too_old()
        };
        for version in ["16.9.9", "17.0.1", "17.0.0-dev", "v15.4.22"] {
            assert!(is_too_old(version), "{version}");
        }
        for version in ["17.0.2", "17.1.0", "18.2.0", "100.0.0", "19.0.0-alpha.1", "", "17", "unknown"] {
            assert!(!is_too_old(version), "{version}");
        }
    }

    #[test]
    fn addresses_of_ssh() {
        for (proxy, expected) in [
            (r#""tls_routing_enabled":true,"ssh":{"public_addr":"web.example"}"#, "web.example:443"),
            (
                r#""tls_routing_enabled":true,"ssh":{"public_addr":"web.example","web_listen_addr":"0.0.0.0:3080"}"#,
                "web.example:3080",
            ),
            (r#""tls_routing_enabled":true,"ssh":{"web_listen_addr":"0.0.0.0:3080"}"#, "told.example:3080"),
            (r#""ssh":{"public_addr":"web.example:443","listen_addr":"0.0.0.0:13023"}"#, "web.example:13023"),
            (r#""ssh":{"ssh_public_addr":"tcp://ssh.example"}"#, "ssh.example:3023"),
            (r#""ssh":{"listen_addr":"0.0.0.0:13023"}"#, "told.example:13023"),
        ] {
            let info = found(&format!(r#"{{"cluster_name":"c","proxy":{{{proxy}}}}}"#)).unwrap();
            assert_eq!(info.ssh_proxy.to_string(), expected, "{proxy}");
        }
    }

    #[test]
    fn what_is_no_proxy() {
        let proxy = "told.example:3080".parse().unwrap();
        for (status, body) in [(200, "<html>"), (404, "{}"), (200, "{}"), (200, r#"{"cluster_name":"a b"}"#), (302, "")]
        {
            let error = read(&proxy, &answer(status, "text/html", body)).unwrap_err();
            assert!(matches!(error, Error::NotTeleport { .. }), "{status} {body}");
        }
        let nginx = Answer { server: "nginx/1.24".to_owned(), ..answer(404, "text/html", "<html>") };
        let error = read(&proxy, &nginx).unwrap_err().to_string();
        assert!(error.ends_with("(/webapi/find answered 404, text/html, by nginx/1.24)"), "{error}");
        let portal = Answer { leads_to: "login.example.com".to_owned(), ..answer(302, "text/html", "") };
        let error = read(&proxy, &portal).unwrap_err();
        assert!(matches!(&error, Error::Redirect { to, .. } if to == "login.example.com"), "{error}");
        let error =
            read(&proxy, &answer(502, "application/json", r#"{"error":{"message":"no\n\tauth"}}"#)).unwrap_err();
        assert_eq!(error.to_string(), "told.example:3080 answered 502 (no: auth)");
    }

    #[test]
    fn names_of_auth_at_the_edge_of_a_label() {
        let name = |length: usize| "c".repeat(length).parse::<ClusterName>().unwrap();
        assert_eq!(name(31).auth_sni().split('.').next().unwrap().len(), 62);
        assert_eq!(name(32).auth_sni(), "teleport.cluster.local");
        let alpn = format!("teleport-auth@{}", name(109).auth_server_name());
        assert!(alpn.len() <= 255, "{}", alpn.len());
    }
}
