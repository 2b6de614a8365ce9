//! The command line: tbot's flags under tbot's names (teleport-issue-and-outputs.md 7.3, teleport-ssh-proxy.md 1.1).
//! The doc comments are the help.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::address::HostPort;
use crate::destination::UnknownFiles;
use crate::environment::Environment;
use crate::guard::LeakCheck;
use crate::invalid::{Error, Invalid};
use crate::net::egress::Egress;
use crate::net::upgrade::{self, Upgrade};
use crate::pipe;
use crate::platform::bitbucket;
use crate::settings::{Action, DoctorSettings, InspectSettings, Settings, default};
use crate::values;
use crate::values::{TokenName, timeout};

/// Short-lived SSH credentials from Teleport, for a step of a CI system
///
/// Without a command it is a Bitbucket pipe and takes its settings from the environment.
#[derive(Debug, Parser)]
#[command(name = "teleport-pipe", version, disable_help_subcommand = true, after_help = pipe::help())]
pub(crate) struct Cli {
    /// Tell more
    #[arg(short, long, global = true)]
    pub(crate) debug: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join and write credentials
    #[command(subcommand)]
    Start(Start),
    /// Show what the cluster needs to know of this step: claims, and files for `tctl create`
    Inspect(Inspect),
    /// Look at the way to the cluster, step by step, without joining; what to run first when something fails
    Doctor(Doctor),
    /// Remove what was written, and nothing else
    Cleanup(Cleanup),
    /// The ProxyCommand of the ssh_config that was written
    #[command(name = "ssh-proxy-command")]
    SshProxy(SshProxy),
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum Start {
    /// SSH credentials in a directory, for the step whose ID token is in BITBUCKET_STEP_OIDC_TOKEN (`oidc: true`)
    #[command(visible_aliases = ["ssh", "id"])]
    Identity(Identity),
}

/// What has flags that say the same as variables of the pipe.
#[derive(Debug)]
pub(crate) enum Verb {
    /// `start identity`.
    Identity(Identity),
    /// `inspect`.
    Inspect(Inspect),
    /// `doctor`.
    Doctor(Doctor),
    /// `cleanup`.
    Cleanup(Cleanup),
}

impl Verb {
    /// What is to be done.
    ///
    /// # Errors
    /// A flag is missing, cannot be understood, or asks for something that is not there yet.
    pub(crate) fn action(&self, env: &Environment, debug: bool) -> Result<Action, Error> {
        Ok(match self {
            Self::Identity(flags) => Action::Join(flags.settings(env, debug)?),
            Self::Inspect(flags) => Action::Inspect(flags.settings(env, debug)?),
            Self::Doctor(flags) => Action::Doctor(flags.settings(env, debug)?),
            Self::Cleanup(flags) => Action::Cleanup(given(&flags.destination).map(directory).transpose()?),
        })
    }
}

/// What a person asked for.
#[derive(Debug)]
pub(crate) enum Face {
    /// The pipe: everything is in the environment.
    Pipe,
    /// A command that has a log.
    Verb(Verb),
    /// `ssh-proxy-command`.
    SshProxy(SshProxy),
    /// `version`.
    Version,
}

impl Cli {
    /// What was asked for.
    pub(crate) fn face(self) -> Face {
        match self.command {
            None => Face::Pipe,
            Some(Command::Start(Start::Identity(flags))) => Face::Verb(Verb::Identity(flags)),
            Some(Command::Inspect(flags)) => Face::Verb(Verb::Inspect(flags)),
            Some(Command::Doctor(flags)) => Face::Verb(Verb::Doctor(flags)),
            Some(Command::Cleanup(flags)) => Face::Verb(Verb::Cleanup(flags)),
            Some(Command::SshProxy(flags)) => Face::SshProxy(flags),
            Some(Command::Version) => Face::Version,
        }
    }
}

/// Flags of `start identity`.
#[derive(Args, Debug)]
pub(crate) struct Identity {
    /// Directory for the credentials; file:///path is understood, too (required)
    #[arg(long)]
    destination: Option<String>,
    /// The cluster's proxy, host:port (required) [env: TELEPORT_PROXY]
    #[arg(long)]
    proxy_server: Option<String>,
    /// Name of the join token (required) [env: TELEPORT_BOT_TOKEN]
    #[arg(long)]
    token: Option<String>,
    /// How to join: bitbucket
    #[arg(long)]
    join_method: Option<String>,
    /// Lifetime of the credentials, such as 1h30m [default: 1h]
    #[arg(long)]
    certificate_ttl: Option<String>,
    /// Leaf cluster that the certificates are routed to; the files serve all clusters anyway
    #[arg(long)]
    cluster: Option<String>,
    /// Where the bot's own state is kept: memory://
    #[arg(long)]
    storage: Option<String>,
    /// Join once and end (required)
    #[arg(long)]
    oneshot: bool,
    /// Deadline of the whole run, such as 90s [default: 60s]
    #[arg(long)]
    timeout: Option<String>,
}

impl Identity {
    /// The settings of the run.
    ///
    /// # Errors
    /// A flag is missing, cannot be understood, or asks for something that is not there yet.
    fn settings(&self, env: &Environment, debug: bool) -> Result<Settings, Error> {
        self.refuse_the_unsupported()?;
        let missing = |name, example| Error::Missing { name, example };
        let proxy = given(&self.proxy_server).or_else(|| env.get("TELEPORT_PROXY"));
        let proxy = proxy.ok_or(missing("--proxy-server", "example.teleport.sh:443"))?;
        let proxy: HostPort = proxy.parse().map_err(|invalid: Invalid| invalid.of("--proxy-server", proxy))?;
        let upgrade = Upgrade::from_variable(env.get(upgrade::VARIABLE), &proxy.to_string());
        let token = given(&self.token).or_else(|| env.get("TELEPORT_BOT_TOKEN"));
        let token = token.ok_or(missing("--token", "example-bot"))?;
        let destination = given(&self.destination).ok_or(missing("--destination", "./tbot-user"))?;
        let ttl = given(&self.certificate_ttl).unwrap_or(default::TTL);
        let limit = given(&self.timeout).unwrap_or(default::TIMEOUT);
        Ok(Settings {
            proxy,
            upgrade,
            token: token.parse::<TokenName>().map_err(|invalid| invalid.of("--token", token))?,
            destination: directory(destination)?,
            unknown_files: UnknownFiles::Keep,
            ttl: ttl.parse().map_err(|invalid: Invalid| invalid.of("--certificate-ttl", ttl))?,
            cluster: given(&self.cluster)
                .map(|name| values::cluster(name).map_err(|invalid| invalid.of("--cluster", name)))
                .transpose()?,
            timeout: timeout(limit).map_err(|invalid| invalid.of("--timeout", limit))?,
            owner: None,
            ca_file: env.get("SSL_CERT_FILE").map(PathBuf::from),
            egress: Egress::from_environment(env)?,
            discreet: bitbucket::log_is_public(env) && !debug,
            // A line that works with tbot works here.
            leak_check: LeakCheck::Warn,
        })
    }

    fn refuse_the_unsupported(&self) -> Result<(), Error> {
        let unsupported = |what: String, instead| Err(Error::Unsupported { what, instead });
        if !self.oneshot {
            return unsupported("running without --oneshot".to_owned(), "Add --oneshot.");
        }
        if let Some(path) = given(&self.token).filter(|token| token.starts_with('/')) {
            let what = format!("reading the join token's name from the file {}", crate::text::sanitize(path));
            return unsupported(what, "Give the name itself: with `bitbucket` it is no secret.");
        }
        match given(&self.join_method) {
            None | Some("bitbucket") => {}
            Some(method) => {
                let what = format!("the join method `{}`", crate::text::sanitize(method));
                return unsupported(what, "Use --join-method=bitbucket, in a step with `oidc: true`.");
            }
        }
        match given(&self.storage) {
            None | Some("memory://") => Ok(()),
            Some(_) => unsupported(
                "keeping the bot's state between runs".to_owned(),
                "Leave --storage out, or say --storage=memory://: with `bitbucket` every step joins anew.",
            ),
        }
    }
}

/// Flags of `inspect`.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// The cluster's proxy, host:port; without it no cluster is asked [env: TELEPORT_PROXY]
    #[arg(long)]
    proxy_server: Option<String>,
    /// What the join token is to be called
    #[arg(long)]
    token: Option<String>,
    /// Whom the token admits: deployment, branch, repository or workspace [default: the narrowest]
    #[arg(long)]
    scope: Option<String>,
    /// Logins for the role, such as deploy,backup
    #[arg(long, value_delimiter = ',')]
    logins: Vec<String>,
    /// Deadline of asking the cluster, such as 90s [default: 60s]
    #[arg(long)]
    timeout: Option<String>,
}

impl Inspect {
    fn settings(&self, env: &Environment, debug: bool) -> Result<InspectSettings, Error> {
        let proxy = given(&self.proxy_server).or_else(|| env.get("TELEPORT_PROXY"));
        let limit = given(&self.timeout).unwrap_or(default::TIMEOUT);
        Ok(InspectSettings {
            proxy: parsed("--proxy-server", proxy)?,
            token: parsed("--token", given(&self.token))?,
            scope: parsed("--scope", given(&self.scope))?,
            logins: self.logins.iter().map(|login| login.trim().to_owned()).filter(|login| !login.is_empty()).collect(),
            timeout: timeout(limit).map_err(|invalid| invalid.of("--timeout", limit))?,
            ca_file: env.get("SSL_CERT_FILE").map(PathBuf::from),
            egress: Egress::from_environment(env)?,
            discreet: bitbucket::log_is_public(env) && !debug,
        })
    }
}

/// Flags of `doctor`.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// The cluster's proxy, host:port (required) [env: TELEPORT_PROXY]
    #[arg(long)]
    proxy_server: Option<String>,
    /// Deadline of all of it, such as 90s [default: 60s]
    #[arg(long)]
    timeout: Option<String>,
}

impl Doctor {
    fn settings(&self, env: &Environment, debug: bool) -> Result<DoctorSettings, Error> {
        let proxy = given(&self.proxy_server).or_else(|| env.get("TELEPORT_PROXY"));
        let proxy: HostPort = parsed("--proxy-server", proxy)?
            .ok_or(Error::Missing { name: "--proxy-server", example: "example.teleport.sh:443" })?;
        let limit = given(&self.timeout).unwrap_or(default::TIMEOUT);
        Ok(DoctorSettings {
            upgrade: Upgrade::from_variable(env.get(upgrade::VARIABLE), &proxy.to_string()),
            proxy,
            timeout: timeout(limit).map_err(|invalid| invalid.of("--timeout", limit))?,
            ca_file: env.get("SSL_CERT_FILE").map(PathBuf::from),
            egress: Egress::from_environment(env)?,
            discreet: bitbucket::log_is_public(env) && !debug,
        })
    }
}

/// Flags of `cleanup`.
#[derive(Args, Debug)]
pub(crate) struct Cleanup {
    /// Directory that holds the credentials [default: the one that this program was written to, else ./tbot-user]
    #[arg(long)]
    destination: Option<String>,
}

/// The value of a flag, trimmed. An empty one is unset, as with variables: `--token="$TOKEN"` is what scripts say.
fn given(flag: &Option<String>) -> Option<&str> {
    flag.as_deref().map(str::trim).filter(|value| !value.is_empty())
}

/// A flag's value, understood.
fn parsed<T: FromStr<Err = Invalid>>(name: &'static str, text: Option<&str>) -> Result<Option<T>, Error> {
    text.map(|text| text.parse().map_err(|invalid: Invalid| invalid.of(name, text))).transpose()
}

/// A destination as tbot takes it: a path, or `file:///path`.
fn directory(text: &str) -> Result<PathBuf, Error> {
    let (scheme, path) = match text.split_once("://") {
        None => {
            return values::destination(text).map_err(|invalid| invalid.of("--destination", text));
        }
        Some(parts) => parts,
    };
    match scheme {
        "file" if path.starts_with('/') => Ok(PathBuf::from(path)),
        "file" => {
            Err(Invalid::new("names a host instead of an absolute path", "Write file:///path with three slashes.")
                .of("--destination", text))
        }
        _ => Err(Error::Unsupported {
            what: format!("a destination of the kind {}://", crate::text::sanitize(scheme)),
            instead: "Give a directory.",
        }),
    }
}

/// Flags of `ssh-proxy-command`, as tbot writes them into an `ssh_config`.
#[derive(Args, Debug)]
pub(crate) struct SshProxy {
    /// Directory that holds the identity file
    #[arg(long)]
    pub(crate) destination_dir: PathBuf,
    /// Address of the proxy, host:port
    #[arg(long)]
    pub(crate) proxy_server: String,
    /// The node's cluster; otherwise that of the identity
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// The node, as given to ssh
    #[arg(long)]
    pub(crate) host: String,
    /// The port, as given to ssh
    #[arg(long)]
    pub(crate) port: Option<String>,
    /// Login on the node; not needed on this way
    #[arg(long, hide = true)]
    user: Option<String>,
    /// The proxy has one port for everything
    #[arg(long, hide = true)]
    pub(crate) tls_routing: bool,
    #[arg(long, hide = true, overrides_with = "tls_routing")]
    no_tls_routing: bool,
    /// Go through a load balancer that ends TLS
    #[arg(long)]
    pub(crate) connection_upgrade: bool,
    #[arg(long, hide = true, overrides_with = "connection_upgrade")]
    no_connection_upgrade: bool,
    /// Accepted; sessions are not resumed
    #[arg(long, hide = true)]
    resume: bool,
    #[arg(long, hide = true, overrides_with = "resume")]
    no_resume: bool,
    #[arg(long, hide = true)]
    proxy_templates: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn identity(line: &str) -> Result<Settings, Error> {
        match parse(line).unwrap().face() {
            Face::Verb(Verb::Identity(flags)) => flags.settings(&Environment::default(), false),
            face => panic!("{face:?}"),
        }
    }

    #[test]
    fn the_guides_line_word_for_word() {
        let settings = identity(
            "tbot start identity --destination=./tbot-user --join-method=bitbucket \
             --proxy-server=example.teleport.sh:443 --token=example-bot --oneshot",
        )
        .unwrap();
        assert_eq!(settings.proxy.to_string(), "example.teleport.sh:443");
        assert_eq!(settings.token.as_str(), "example-bot");
        assert_eq!(settings.destination, PathBuf::from("./tbot-user"));
    }

    #[test]
    fn tbots_other_spellings() {
        let line = "tbot -d start ssh --destination file:///opt/x --proxy-server p --token t --oneshot \
                    --storage=memory:// --certificate-ttl=1h0m0s --cluster=leaf.example";
        assert_eq!(identity(line).unwrap().destination, PathBuf::from("/opt/x"));
        assert_eq!(identity(line).unwrap().cluster.unwrap().as_str(), "leaf.example");
        assert!(parse(line).unwrap().debug);
        assert!(parse("tbot start id --debug --oneshot").unwrap().debug);
    }

    #[test]
    fn what_is_not_there_yet_is_refused() {
        let line = "tbot start identity --destination=d --proxy-server=p --token=t";
        for more in ["", "--oneshot --join-method=iam", "--oneshot --storage=/var/lib/teleport/bot"] {
            let error = identity(&format!("{line} {more}")).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{more}");
        }
        let error = identity("tbot start identity --destination=d --proxy-server=p --token=/run/token --oneshot");
        assert!(matches!(error, Err(Error::Unsupported { .. })));
        let error = identity("tbot start identity --destination=memory:// --proxy-server=p --token=t --oneshot");
        assert!(matches!(error, Err(Error::Unsupported { .. })));
    }

    #[test]
    fn an_empty_flag_is_unset() {
        let flags = ["tbot", "start", "identity", "--oneshot", "--destination=d", "--proxy-server=", "--token= "];
        let Face::Verb(Verb::Identity(flags)) = Cli::try_parse_from(flags).unwrap().face() else { panic!() };
        let env = Environment::from_iter([("TELEPORT_PROXY", "p.example"), ("TELEPORT_BOT_TOKEN", "t")]);
        let settings = flags.settings(&env, false).unwrap();
        assert_eq!((settings.proxy.host.as_str(), settings.token.as_str()), ("p.example", "t"));
        let error = flags.settings(&Environment::default(), false).unwrap_err();
        assert_eq!(error.to_string(), "--proxy-server is not set");
    }

    #[test]
    fn no_command_is_the_pipe() {
        assert!(matches!(parse("teleport-pipe").unwrap().face(), Face::Pipe));
    }

    #[test]
    fn the_proxy_command_takes_tbots_line() {
        let line = "tbot ssh-proxy-command --destination-dir=/d --proxy-server=p:443 --cluster=c --no-tls-routing \
                    --no-connection-upgrade --resume --user=u --host=h --port=3022";
        match parse(line).unwrap().face() {
            Face::SshProxy(flags) => assert!(!flags.connection_upgrade && flags.host == "h"),
            face => panic!("{face:?}"),
        }
    }
}
