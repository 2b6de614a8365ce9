//! What a command is told. The pipe's variables and the command line both become these types.

use std::path::PathBuf;
use std::time::Duration;

use crate::destination::{Owner, UnknownFiles};
use crate::format::{Format, ResourceFormat};
use crate::guard::LeakCheck;
use crate::join::kind::Kind;
use crate::net::connection::Connection;
use crate::node_labels::NodeLabels;
use crate::output::Output;
use crate::platform::{Platform, TokenSource};
use crate::values::{JoinToken, Privacy, TokenName, Ttl};

/// A command that has a log.
#[derive(Debug)]
pub(crate) enum Command {
    Start(Settings),
    Inspect(InspectSettings),
    Doctor(DoctorSettings),
    /// Of this directory.
    Cleanup(PathBuf),
}

impl Command {
    /// The time that the command has.
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Start(Settings { timeout, .. })
            | Self::Inspect(InspectSettings { timeout, .. })
            | Self::Doctor(DoctorSettings { timeout, .. }) => *timeout,
            Self::Cleanup(_) => default::CLEANUP_TIMEOUT,
        }
    }
}

/// A run that joins and writes credentials.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) connection: Connection,
    pub(crate) onboarding: Onboarding,
    /// Either all of them are written or none.
    pub(crate) services: Vec<Service>,
    pub(crate) timeout: Duration,
    pub(crate) privacy: Privacy,
    pub(crate) leak_check: LeakCheck,
    pub(crate) format: Format,
}

/// How the bot joins.
#[derive(Debug)]
pub(crate) struct Onboarding {
    pub(crate) token: JoinToken,
    /// The join method that was named; otherwise it is that of the platform that is detected.
    pub(crate) method: Option<Kind>,
    /// Where the ID token is, if not where the platform puts it.
    pub(crate) source: Option<TokenSource>,
}

/// An output, and where it is written.
#[derive(Debug)]
pub(crate) struct Service {
    /// Tells it from others in the log.
    pub(crate) name: String,
    pub(crate) output: Box<dyn Output>,
    pub(crate) destination: DestinationSettings,
    pub(crate) ttl: Ttl,
}

#[derive(Debug)]
pub(crate) struct DestinationSettings {
    /// May be relative to the working directory.
    pub(crate) path: PathBuf,
    pub(crate) unknown_files: UnknownFiles,
    /// Otherwise the owner of the directory.
    pub(crate) owner: Option<Owner>,
}

/// What `inspect` shows.
#[derive(Debug)]
pub(crate) struct InspectSettings {
    /// Whose ID token is shown; otherwise that of the platform that is detected.
    pub(crate) platform: Option<&'static Platform>,
    /// Where the ID token is, if not where the platform puts it.
    pub(crate) source: Option<TokenSource>,
    /// Without it no cluster is asked.
    pub(crate) connection: Option<Connection>,
    /// The name that the join token will have.
    pub(crate) token: Option<TokenName>,
    /// The variable or flag, and the name of the scope. Otherwise the narrowest.
    pub(crate) scope: Option<(&'static str, String)>,
    /// Logins for the role.
    pub(crate) logins: Vec<String>,
    /// Labels for the role.
    pub(crate) node_labels: NodeLabels,
    pub(crate) format: ResourceFormat,
    /// The directory for the files. Otherwise the log shows them.
    pub(crate) destination: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) privacy: Privacy,
}

/// What `doctor` checks.
#[derive(Debug)]
pub(crate) struct DoctorSettings {
    /// The join method that was named; otherwise it is that of the platform that is detected.
    pub(crate) method: Option<Kind>,
    /// Where the ID token is, if not where the platform puts it.
    pub(crate) source: Option<TokenSource>,
    pub(crate) connection: Connection,
    /// What a join would write. `None` if it is not known where.
    pub(crate) service: Option<Service>,
    pub(crate) leak_check: LeakCheck,
    pub(crate) format: Format,
    pub(crate) timeout: Duration,
    pub(crate) privacy: Privacy,
}

/// Defaults that the pipe and the command line share.
pub(crate) mod default {
    /// Lifetime of the certificates.
    pub(crate) const TTL: &str = "1h";
    /// Deadline of a run.
    pub(crate) const TIMEOUT: &str = "60s";
    /// Deadline of a cleanup, which waits for a run that is writing there.
    pub(crate) const CLEANUP_TIMEOUT: super::Duration = super::Duration::from_secs(30);
    pub(crate) use crate::values::DEFAULT_DESTINATION as DESTINATION;
}
