//! `GET /webapi/find`: the proxy's answer about its cluster and its addresses (docs/protocol.md, "Discovery").

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Error;
use super::http::{Answer, Http};
use super::network::Network;
use crate::address::{ClusterName, HostPort};
use crate::clock::{Clock, Offset};
use crate::keys::Suite;
use crate::retry::{Deadline, retry};
use crate::text::{sanitize, sanitize_nested};

#[derive(Clone, Debug)]
pub(crate) struct ClusterInfo {
    pub(crate) name: ClusterName,
    /// The proxy's version, for example `18.2.0`; empty if the answer has none.
    pub(crate) version: String,
    pub(crate) suite: Suite,
    /// All services are behind the web port.
    pub(crate) tls_routing: bool,
    pub(crate) clock: Offset,
    pub(crate) ssh_proxy: HostPort,
}

impl ClusterInfo {
    /// The numbers of the version, if it is known. A pre-release counts as its release.
    fn release(&self) -> Option<[u32; 3]> {
        let core = self.version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let numbers: Result<Vec<u32>, _> = core.split('.').map(str::parse).collect();
        numbers.ok()?.try_into().ok()
    }

    /// Whether the version is known and older than this one.
    pub(crate) fn is_older_than(&self, oldest: [u32; 3]) -> bool {
        self.release().is_some_and(|release| release < oldest)
    }

    /// Whether nodes of this version have host certificates without the name `<node>.<cluster>`
    /// (docs/protocol.md, "Node names").
    pub(crate) fn lacks_full_node_names(&self) -> bool {
        self.release().is_some_and(|release| (Self::FIRST_WITHOUT..=Self::LAST_WITHOUT).contains(&release))
    }

    const FIRST_WITHOUT: [u32; 3] = [18, 2, 0];
    const LAST_WITHOUT: [u32; 3] = [18, 2, 9];
}

#[cfg(test)]
impl ClusterInfo {
    /// A cluster of this version.
    pub(crate) fn sample(version: &str) -> Self {
        let find = Find {
            cluster_name: "example.teleport.sh".to_owned(),
            server_version: version.to_owned(),
            proxy: FindProxy::default(),
            auth: FindAuth::default(),
        };
        info(&"example.teleport.sh:443".parse().unwrap(), find).unwrap()
    }
}

/// Asks the proxy, with retries. Returns the connection, too, because a join by REST can use it.
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

/// The part of an error body that is read. Its text is cut anyway. As values of JSON it takes a hundred times as much memory.
const ERROR_SIZE: usize = 64 << 10;

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
    signature_algorithm_suite: Option<Box<RawValue>>,
}

/// Parses an answer. The status comes first, because the body of an error is a valid, empty answer
/// (docs/protocol.md, "Discovery").
fn read(proxy: &HostPort, answer: &Answer) -> Result<ClusterInfo, Error> {
    let addr = || proxy.to_string();
    let find: Option<Find> = serde_json::from_slice(&answer.body).ok();
    match (answer.status, find) {
        (200, Some(find)) => info(proxy, find),
        (200, None) if answer.content_type == "application/json" && !is_json(&answer.body) => {
            Err(Error::Garbled { addr: addr(), reason: "/webapi/find did not answer with JSON".to_owned() })
        }
        // A proxy that is overloaded or cannot reach Auth answers in JSON; a server in front of it mostly in HTML.
        (status, _) if status == 429 || status >= 500 => {
            let message = format!("{}{}", error_message(&answer.body), by(answer));
            Err(Error::Status { addr: addr(), status, message, retry_after: answer.retry_after })
        }
        (status @ 300..=399, _) if !["", &*proxy.host].contains(&&*answer.redirect_host) => {
            Err(Error::Redirect { addr: addr(), status, to: sanitize(&answer.redirect_host) })
        }
        (status, _) => {
            let kind = if answer.content_type.is_empty() { "no content type" } else { &answer.content_type };
            let found = format!("/webapi/find answered {status}, {}{}", sanitize(kind), by(answer));
            Err(Error::NotTeleport { addr: addr(), found })
        }
    }
}

/// The `Server` header as an addition to a message. Teleport sends none.
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
        suite: Suite::from_discovery(&find.auth.suite()),
        tls_routing: find.proxy.tls_routing_enabled,
        clock: Offset::default(),
        ssh_proxy: find.proxy.ssh_proxy(proxy),
    })
}

impl FindAuth {
    /// A text or a number. A longer value is neither, and not decoded.
    fn suite(&self) -> Value {
        let text = self.signature_algorithm_suite.as_deref().map(RawValue::get).filter(|text| text.len() < 100);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

impl FindProxy {
    /// The address for ssh: the public one, else the one that it listens on, else the one that we were given. With
    /// separate ports the SSH port is used (docs/protocol.md, "Addresses").
    fn ssh_proxy(&self, given: &HostPort) -> HostPort {
        let ssh = &self.ssh;
        let port_of = |text: &str, default: u16| address(text, default).map_or(default, |addr| addr.port);
        let web_port = port_of(&ssh.web_listen_addr, 443);
        let ssh_port = port_of(&ssh.listen_addr, 3023);
        let public = || address(&ssh.public_addr, web_port);
        let listed = || address(&ssh.web_listen_addr, web_port);
        let found = match self.tls_routing_enabled {
            true => public().or_else(listed),
            false => address(&ssh.ssh_public_addr, ssh_port)
                .or_else(|| public().map(|addr| HostPort { port: ssh_port, ..addr }))
                .or_else(|| address(&ssh.listen_addr, ssh_port))
                .or_else(listed),
        };
        let port = match &found {
            _ if self.tls_routing_enabled => given.port,
            Some(addr) => addr.port,
            None => ssh_port,
        };
        // A proxy may listen on 0.0.0.0; clients cannot connect to it.
        let usable = found.filter(|addr| !matches!(addr.host.as_str(), "0.0.0.0" | "::"));
        usable.unwrap_or_else(|| HostPort { host: given.host.clone(), port })
    }
}

/// Parses an address of the answer, which may have a scheme and may lack the port.
fn address(text: &str, default_port: u16) -> Option<HostPort> {
    let bare = ["tcp://", "http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let addr: HostPort = bare.parse().ok()?;
    let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(addr.port));
    Some(HostPort { port: if has_port { addr.port } else { default_port }, ..addr })
}

/// The message of an error body, in the three forms that it may have (docs/protocol.md, "Error answers").
pub(crate) fn error_message(body: &[u8]) -> String {
    let body = body.get(..ERROR_SIZE).unwrap_or(body);
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
            redirect_host: String::new(),
            date: None,
            body: body.as_bytes().to_vec(),
        }
    }

    fn found(body: &str) -> Result<ClusterInfo, Error> {
        read(&"given.example:3080".parse().unwrap(), &answer(200, "application/json", body))
    }

    #[test]
    fn an_answer_is_parsed_and_defaults_are_used() {
        let info = found(
            r#"{"cluster_name":"c.example","server_version":"18.2.0","more":[1],"auth":{"type":""},
            "proxy":{"tls_routing_enabled":true,"ssh":{"public_addr":"web.example:443"},"kube":{}}}"#,
        )
        .unwrap();
        assert_eq!((info.name.as_str(), info.version.as_str()), ("c.example", "18.2.0"));
        assert_eq!((info.suite, info.ssh_proxy.to_string().as_str()), (Suite::Legacy, "web.example:443"));
        assert_eq!(found(r#"{"cluster_name":"c"}"#).unwrap().ssh_proxy.to_string(), "given.example:3023");
    }

    #[test]
    fn old_versions() {
        let is_too_old = |version: &str| {
            found(&format!(r#"{{"cluster_name":"c","server_version":"{version}"}}"#)).unwrap().is_older_than([17, 0, 2])
        };
        for version in ["16.9.9", "17.0.1", "17.0.0-dev", "v15.4.22"] {
            assert!(is_too_old(version), "{version}");
        }
        for version in ["17.0.2", "17.1.0", "18.2.0", "100.0.0", "19.0.0-alpha.1", "", "17", "unknown"] {
            assert!(!is_too_old(version), "{version}");
        }
    }

    #[test]
    fn versions_whose_nodes_lack_their_full_names() {
        for version in ["18.2.0", "18.2.9", "v18.2.1", "18.2.4-dev"] {
            assert!(ClusterInfo::sample(version).lacks_full_node_names(), "{version}");
        }
        for version in ["18.1.8", "18.2.10", "18.3.0", "17.7.0", "19.0.0", "", "18.2"] {
            assert!(!ClusterInfo::sample(version).lacks_full_node_names(), "{version}");
        }
    }

    #[test]
    fn addresses_for_ssh() {
        for (proxy, expected) in [
            (r#""tls_routing_enabled":true,"ssh":{"public_addr":"web.example"}"#, "web.example:443"),
            (
                r#""tls_routing_enabled":true,"ssh":{"public_addr":"web.example","web_listen_addr":"0.0.0.0:3080"}"#,
                "web.example:3080",
            ),
            (r#""tls_routing_enabled":true,"ssh":{"web_listen_addr":"0.0.0.0:3080"}"#, "given.example:3080"),
            (r#""ssh":{"public_addr":"web.example:443","listen_addr":"0.0.0.0:13023"}"#, "web.example:13023"),
            (r#""ssh":{"ssh_public_addr":"tcp://ssh.example"}"#, "ssh.example:3023"),
            (r#""ssh":{"listen_addr":"0.0.0.0:13023"}"#, "given.example:13023"),
        ] {
            let info = found(&format!(r#"{{"cluster_name":"c","proxy":{{{proxy}}}}}"#)).unwrap();
            assert_eq!(info.ssh_proxy.to_string(), expected, "{proxy}");
        }
    }

    #[test]
    fn answers_that_are_not_those_of_a_proxy() {
        let proxy = "given.example:3080".parse().unwrap();
        for (status, body) in [(200, "<html>"), (404, "{}"), (200, "{}"), (200, r#"{"cluster_name":"a b"}"#), (302, "")]
        {
            let error = read(&proxy, &answer(status, "text/html", body)).unwrap_err();
            assert!(matches!(error, Error::NotTeleport { .. }), "{status} {body}");
        }
        let nginx = Answer { server: "nginx/1.24".to_owned(), ..answer(404, "text/html", "<html>") };
        let error = read(&proxy, &nginx).unwrap_err().to_string();
        assert!(error.ends_with("(/webapi/find answered 404, text/html, by nginx/1.24)"), "{error}");
        let portal = Answer { redirect_host: "login.example.com".to_owned(), ..answer(302, "text/html", "") };
        let error = read(&proxy, &portal).unwrap_err();
        assert!(matches!(&error, Error::Redirect { to, .. } if to == "login.example.com"), "{error}");
        let error =
            read(&proxy, &answer(502, "application/json", r#"{"error":{"message":"no\n\tauth"}}"#)).unwrap_err();
        assert_eq!(error.to_string(), "given.example:3080 answered 502 (no: auth)");
    }

    #[test]
    fn auth_server_names_fit_into_labels_and_alpn() {
        let name = |length: usize| "c".repeat(length).parse::<ClusterName>().unwrap();
        assert_eq!(name(31).auth_sni().split('.').next().unwrap().len(), 62);
        assert_eq!(name(32).auth_sni(), "teleport.cluster.local");
        let alpn = format!("teleport-auth@{}", name(109).auth_server_name());
        assert!(alpn.len() <= 255, "{}", alpn.len());
    }
}
