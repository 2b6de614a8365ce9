//! The result of a join in JSON (docs/json.md, "join"): what a script needs to know, and never a secret.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::report;
use crate::credentials::Credentials;
use crate::host::HostError;
use crate::log;
use crate::session::Event;
use crate::settings::{Service, Settings};
use crate::text::sanitize;
use crate::values::Privacy;

/// When each stage of a run was done, and what was learnt on the way.
pub(super) struct Progress {
    began: Instant,
    done: RefCell<Vec<(&'static str, Instant)>>,
    /// The cluster's name and version.
    cluster: RefCell<(String, String)>,
    bot_user: RefCell<String>,
}

impl Progress {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            done: RefCell::default(),
            cluster: RefCell::default(),
            bot_user: RefCell::default(),
        }
    }

    pub(super) fn done(&self, stage: &'static str) {
        self.done.borrow_mut().push((stage, Instant::now()));
    }

    pub(super) fn event(&self, event: &Event<'_>) {
        match event {
            Event::Discovered(cluster) => {
                self.cluster.replace((cluster.name.to_string(), cluster.version.clone()));
                self.done("discover");
            }
            Event::Joined { bot_user, .. } => {
                self.bot_user.replace((*bot_user).to_owned());
                self.done("join");
            }
            Event::JoinServiceAbsent(_) => {}
        }
    }

    /// The time between the ends of two stages; before the first one is the start.
    fn between(&self, first: &str, last: &str) -> u64 {
        let done = self.done.borrow();
        let at = |stage| done.iter().find(|(name, _)| *name == stage).map_or(self.began, |(_, at)| *at);
        milliseconds(at(last).saturating_duration_since(at(first)))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct Summary<'a> {
    version: &'static str,
    cluster: &'a str,
    teleport_version: String,
    proxy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bot: Option<String>,
    #[serde(flatten)]
    outputs: Outputs,
    warnings: Vec<String>,
    milliseconds: Stages,
}

/// The fields of one output, or a list of several.
#[derive(Serialize)]
#[serde(untagged)]
enum Outputs {
    One(Output),
    Several { outputs: Vec<Output> },
}

impl Outputs {
    fn new(mut outputs: Vec<Output>) -> Self {
        match outputs.pop() {
            Some(output) if outputs.is_empty() => Self::One(output),
            last => {
                outputs.extend(last);
                Self::Several { outputs }
            }
        }
    }
}

/// What was written to a directory.
#[derive(Serialize)]
struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logins: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf_clusters: Option<Vec<String>>,
    expires: String,
    ttl_seconds: u64,
    destination: String,
    files: Vec<String>,
    /// Absent if there are no files for ssh.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How long each stage took. Discovery and the join run at the same time.
#[derive(Serialize)]
struct Stages {
    preflight: u64,
    discover: u64,
    join: u64,
    certificates: u64,
    write: u64,
    total: u64,
}

/// What was written for one service.
pub(super) struct Done<'a> {
    pub(super) service: &'a Service,
    pub(super) credentials: &'a Credentials,
    pub(super) directory: &'a Path,
    pub(super) files: &'a [String],
}

/// Prints the result to stdout. `now` is the time by the cluster's clock.
pub(super) fn print(
    done: &[Done<'_>],
    settings: &Settings,
    progress: &Progress,
    now: SystemTime,
) -> Result<(), HostError> {
    let (cluster, teleport_version) = &*progress.cluster.borrow();
    let is_private = settings.privacy == Privacy::Private;
    let summary = Summary {
        version: env!("CARGO_PKG_VERSION"),
        cluster,
        teleport_version: sanitize(teleport_version),
        proxy: settings.connection.addr.to_string(),
        bot: is_private.then(|| sanitize(&progress.bot_user.borrow())),
        outputs: Outputs::new(done.iter().map(|done| done.output(now, settings.privacy)).collect()),
        warnings: log::warnings(),
        milliseconds: Stages {
            preflight: progress.between("", "preflight"),
            discover: progress.between("preflight", "discover"),
            join: progress.between("preflight", "join"),
            certificates: progress.between("join", "certificates"),
            write: progress.between("certificates", "write"),
            total: milliseconds(progress.began.elapsed()),
        },
    };
    log::json(&summary).map_err(HostError::because("stdout"))
}

impl Done<'_> {
    /// In a public log, roles, logins and leaf clusters are not shown.
    fn output(&self, now: SystemTime, privacy: Privacy) -> Output {
        let Self { credentials, directory, files, .. } = self;
        let is_private = privacy == Privacy::Private;
        let shown = |names: &[String]| is_private.then(|| names.iter().map(|name| sanitize(name)).collect());
        let leaf_clusters = self.leaf_clusters();
        let is_of_leaf = |file: &str| leaf_clusters.iter().any(|cluster| file.starts_with(&format!("{cluster}.")));
        Output {
            roles: shown(&credentials.roles),
            logins: shown(&credentials.logins),
            expires: humantime::format_rfc3339_seconds(credentials.expires).to_string(),
            ttl_seconds: credentials.expires.duration_since(now).unwrap_or_default().as_secs(),
            destination: directory.to_string_lossy().into_owned(),
            files: files.iter().filter(|file| is_private || !is_of_leaf(file)).cloned().collect(),
            next: (self.service.output.program().is_some())
                .then(|| report::ssh_command(self.service, directory, credentials, privacy)),
            leaf_clusters: is_private.then_some(leaf_clusters),
        }
    }

    fn leaf_clusters(&self) -> Vec<String> {
        let Credentials { cluster, host_authorities, .. } = self.credentials;
        let others = host_authorities.iter().filter(|authority| authority.cluster != *cluster);
        others.map(|authority| authority.cluster.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(destination: &str) -> Output {
        Output {
            roles: Some(vec!["example-role".to_owned()]),
            logins: None,
            leaf_clusters: None,
            expires: "2026-11-21T14:20:00Z".to_owned(),
            ttl_seconds: 3600,
            destination: destination.to_owned(),
            files: Vec::new(),
            next: Some(String::new()),
        }
    }

    #[test]
    fn several_outputs_are_a_list() {
        let json = |outputs: &[&str]| {
            let outputs = outputs.iter().map(|destination| output(destination)).collect();
            let stages = Stages { preflight: 0, discover: 0, join: 0, certificates: 0, write: 0, total: 0 };
            let summary = Summary {
                version: "1.0.0",
                cluster: "example.teleport.sh",
                teleport_version: String::new(),
                proxy: String::new(),
                bot: None,
                outputs: Outputs::new(outputs),
                warnings: Vec::new(),
                milliseconds: stages,
            };
            serde_json::to_value(&summary).unwrap()
        };
        let one = json(&["/a"]);
        assert!(one["destination"] == "/a" && one["roles"][0] == "example-role", "{one}");
        assert!(one.get("outputs").is_none() && one.get("logins").is_none(), "{one}");
        let two = json(&["/a", "/b"]);
        assert_eq!(
            (&two["outputs"][0]["destination"], &two["outputs"][1]["destination"]),
            (&"/a".into(), &"/b".into())
        );
        assert!(two.get("destination").is_none() && two["cluster"] == "example.teleport.sh", "{two}");
    }
}
