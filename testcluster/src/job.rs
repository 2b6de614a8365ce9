//! The environment of a job of each platform, and the endpoints that issue ID tokens to some of them (docs/protocol.md,
//! "Other CIs"). Real ones speak HTTPS; these speak HTTP on this machine.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::cluster::Cluster;
use crate::idp::IdentityProvider;

/// What a job sends to the endpoint to be known.
const ACCESS_TOKEN: &str = "access-token-of-the-job-0123456789";

/// A defect of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndpointFault {
    /// 404.
    NotFound,
    /// 403, as for a job without the permission.
    Forbidden,
    /// 503, once.
    UnavailableOnce,
    /// It accepts the connection and does not answer.
    Silent,
    /// A page, with status 200.
    Page,
    /// Status 200 without a body.
    Empty,
    /// JSON without an ID token.
    NoToken,
    /// To another host, which would receive the job's access token.
    Redirect,
    /// An ID token for another audience.
    OtherAudience,
}

/// A job of the platform whose join method the cluster's join token has.
#[derive(Debug)]
pub struct Job {
    env: Vec<(String, String)>,
    requests: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    addr: Option<SocketAddr>,
}

impl Job {
    pub(crate) fn new(cluster: &Arc<Cluster>, directory: &Path, fault: Option<EndpointFault>) -> io::Result<Self> {
        let (requests, ends) = (Arc::default(), Arc::default());
        let mut job = Self { env: Vec::new(), requests, ends, addr: None };
        let token = || mint(cluster, None);
        let mut set = |name: &str, value: String| job.env.push((name.to_owned(), value));
        match cluster.options.token.method.name {
            "gitlab" => {
                set("GITLAB_CI", "true".into());
                set("CI_PROJECT_PATH", "acme/infrastructure".into());
                set("TBOT_GITLAB_JWT", token());
            }
            "circleci" => {
                set("CIRCLECI", "true".into());
                set("CIRCLE_PROJECT_REPONAME", "infrastructure".into());
                set("CIRCLE_OIDC_TOKEN", token());
            }
            "spacelift" => set("SPACELIFT_OIDC_TOKEN", token()),
            "terraform_cloud" => {
                set("TFC_RUN_ID", "run-abcd1234".into());
                set("TFC_WORKLOAD_IDENTITY_TOKEN", token());
            }
            "env0" => set("ENV0_OIDC_TOKEN", token()),
            "generic_oidc" => {
                set("ID_TOKEN_VARIABLE", "MY_ID_TOKEN".into());
                set("MY_ID_TOKEN", token());
            }
            "kubernetes" => {
                let path = directory.join("service-account-token");
                std::fs::write(&path, token() + "\n")?;
                set("KUBERNETES_SERVICE_HOST", "10.0.0.1".into());
                set("KUBERNETES_TOKEN_PATH", path.display().to_string());
            }
            "github" => {
                let addr = job.serve(cluster, fault)?;
                job.env.extend(
                    [
                        ("GITHUB_ACTIONS", "true".to_owned()),
                        ("GITHUB_REPOSITORY", "acme/infrastructure".to_owned()),
                        ("GITHUB_SERVER_URL", "https://github.example.com".to_owned()),
                        ("ACTIONS_ID_TOKEN_REQUEST_URL", format!("http://{addr}/idtoken?api-version=2.0")),
                        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", ACCESS_TOKEN.to_owned()),
                    ]
                    .map(|(name, value)| (name.to_owned(), value)),
                );
            }
            "azure_devops" => {
                let addr = job.serve(cluster, fault)?;
                job.env.extend(
                    [
                        ("TF_BUILD", "True".to_owned()),
                        ("SYSTEM_TEAMPROJECT", "infrastructure".to_owned()),
                        ("SYSTEM_OIDCREQUESTURI", format!("http://{addr}/oidctoken")),
                        ("SYSTEM_ACCESSTOKEN", ACCESS_TOKEN.to_owned()),
                    ]
                    .map(|(name, value)| (name.to_owned(), value)),
                );
            }
            "gcp" => {
                let addr = job.serve(cluster, fault)?;
                job.env.push(("GCE_METADATA_HOST".to_owned(), addr.to_string()));
            }
            _ => {}
        }
        Ok(job)
    }

    /// The variables of the job.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env.clone()
    }

    /// The requests that the endpoint received: the first line and the headers of each.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&mut self, cluster: &Arc<Cluster>, fault: Option<EndpointFault>) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        self.addr = Some(addr);
        let (cluster, requests, ends) = (Arc::clone(cluster), Arc::clone(&self.requests), Arc::clone(&self.ends));
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(mut stream) = stream else { continue };
                let Ok(request) = read(&stream) else { continue };
                let is_first = {
                    let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
                    requests.push(request.clone());
                    requests.len() == 1
                };
                if fault == Some(EndpointFault::Silent) {
                    silent.push(stream);
                    continue;
                }
                let answer = answer(&cluster, &request, fault, is_first);
                let _left = stream.write_all(answer.as_bytes());
            }
        });
        Ok(addr)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = self.addr.map(TcpStream::connect);
    }
}

fn mint(cluster: &Cluster, audience: Option<&str>) -> String {
    let options = &cluster.options;
    let mut claims = IdentityProvider::claims(options.token.method, &options.name, cluster.now());
    if let Some(audience) = audience {
        claims["aud"] = audience.into();
    }
    cluster.idp.sign(&claims)
}

/// The first line and the headers.
fn read(stream: &TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.take(64 << 10));
    let mut head = String::new();
    loop {
        let before = head.len();
        reader.read_line(&mut head)?;
        if head.len() - before <= 2 {
            return Ok(head);
        }
    }
}

fn answer(cluster: &Cluster, request: &str, fault: Option<EndpointFault>, is_first: bool) -> String {
    let status = match fault {
        Some(EndpointFault::NotFound) => Some("404 Not Found"),
        Some(EndpointFault::Forbidden) => Some("403 Forbidden"),
        Some(EndpointFault::UnavailableOnce) if is_first => Some("503 Service Unavailable"),
        _ => refusal(cluster, request),
    };
    if let Some(status) = status {
        return http(status, "application/json", r#"{"message":"the endpoint says no"}"#);
    }
    let token = match fault {
        Some(EndpointFault::Page) => return http("200 OK", "text/html", "<html>Log in</html>"),
        Some(EndpointFault::Empty) => return http("200 OK", "application/json", ""),
        Some(EndpointFault::NoToken) => return http("200 OK", "application/json", "{}"),
        Some(EndpointFault::Redirect) => return http("302 Found\r\nLocation: http://127.0.0.1:1/", "text/plain", ""),
        Some(EndpointFault::OtherAudience) => mint(cluster, Some("sts.example.com")),
        _ => mint(cluster, None),
    };
    match cluster.options.token.method.name {
        "github" => http("200 OK", "application/json", &json!({"count": 1, "value": token}).to_string()),
        "azure_devops" => http("200 OK", "application/json", &json!({"oidcToken": token}).to_string()),
        _ => http("200 OK", "text/html", &token),
    }
}

/// Why a real endpoint would refuse the request.
fn refusal(cluster: &Cluster, request: &str) -> Option<&'static str> {
    let first_line = request.lines().next().unwrap_or_default();
    let has_header = |wanted: &str| request.lines().any(|line| line.eq_ignore_ascii_case(wanted));
    let is_known = has_header(&format!("authorization: Bearer {ACCESS_TOKEN}"));
    let audience = "audience=teleport.cluster.local";
    match cluster.options.token.method.name {
        "github" | "azure_devops" if !is_known => Some("401 Unauthorized"),
        "github" if !first_line.starts_with("GET /idtoken?") || !first_line.contains(audience) => {
            Some("400 Bad Request")
        }
        "azure_devops" if !first_line.starts_with("POST ") => Some("405 Method Not Allowed"),
        "azure_devops" if !first_line.contains("?api-version=7.1 ") => Some("400 Bad Request"),
        "azure_devops" if !has_header("content-type: application/json") => Some("415 Unsupported Media Type"),
        "gcp" if !has_header("metadata-flavor: Google") => Some("403 Forbidden"),
        "gcp" if !first_line.contains(audience) || !first_line.contains("format=full") => Some("400 Bad Request"),
        _ => None,
    }
}

fn http(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
