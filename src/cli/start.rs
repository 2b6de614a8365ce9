//! `start` and `configure`, with the flags, the variables and the precedence of tbot (docs/protocol.md, "Command line"): flags
//! come before variables, variables before the file. Unlike in tbot, a flag or variable for the join token leaves the rest of
//! `onboarding` in the file as it is.

use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use clap::{Args, Subcommand};

use super::{given, parsed, timeout, valid};
use crate::address::HostPort;
use crate::destination::UnknownFiles;
use crate::environment::Environment;
use crate::error::Failure;
use crate::guard::LeakCheck;
use crate::invalid::{Error, Invalid};
use crate::join::kind::{self, Kind};
use crate::join_uri::JoinUri;
use crate::net::connection::Connection;
use crate::output::identity::Identity;
use crate::platform;
use crate::settings::{DestinationSettings, Onboarding, Service, Settings, default};
use crate::tbot_yaml::{TbotYaml, YamlService, auth_server};
use crate::values::{self, Ttl, join_token};

/// Flags that tbot takes before and after a command.
#[derive(Args, Debug)]
pub(crate) struct GlobalFlags {
    /// For `start`: a tbot.yaml of version v2 [env: TBOT_CONFIG_PATH]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<String>,
    /// The same in base64 [env: TBOT_CONFIG]
    #[arg(long, global = true, hide = true, conflicts_with = "config")]
    pub(crate) config_string: Option<String>,
    #[arg(long, global = true, hide = true, conflicts_with = "debug")]
    no_debug: bool,
    /// Accepted if it is text, which the log always is
    #[arg(long, global = true, hide = true)]
    log_format: Option<String>,
    /// Accepted and not used, as the next one: no check is ever switched off
    #[arg(long, global = true, hide = true)]
    no_insecure: bool,
    #[arg(long, global = true, hide = true)]
    no_fips: bool,
}

impl GlobalFlags {
    /// What the file says, or nothing.
    fn file(&self, env: &Environment) -> Result<TbotYaml, Failure> {
        let text = given(&self.config_string).map(|text| ("--config-string", text));
        let text = text.or_else(|| env.get("TBOT_CONFIG").map(|text| ("TBOT_CONFIG", text)));
        if let Some(path) = given(&self.config) {
            return Ok(TbotYaml::read(Path::new(path))?);
        }
        if let Some((name, text)) = text {
            let invalid = || Invalid::new("is not base64", "Encode the file by `base64 -w0 tbot.yaml`.").hidden();
            let text: String = text.split_whitespace().collect();
            let bytes = Base64::decode_vec(&text).map_err(|_| invalid().named(name, &text))?;
            let yaml = String::from_utf8(bytes).map_err(|_| invalid().named(name, &text))?;
            return Ok(TbotYaml::parse(name, &yaml)?);
        }
        match env.get("TBOT_CONFIG_PATH") {
            Some(path) => Ok(TbotYaml::read(Path::new(path))?),
            None => Ok(TbotYaml::default()),
        }
    }

    /// A flag that is for `start` only.
    pub(crate) fn of_start(&self) -> Option<&'static str> {
        let flags = [("--config", &self.config), ("--config-string", &self.config_string)];
        flags.into_iter().find(|(_, value)| value.is_some()).map(|(name, _)| name)
    }

    /// Whether a variable of tbot asks for debug information.
    pub(crate) fn debug(&self, env: &Environment) -> Result<bool, Error> {
        let variable = env.get("TBOT_DEBUG").map(|text| valid("TBOT_DEBUG", text, values::boolean));
        Ok(!self.no_debug && variable.transpose()?.unwrap_or_default())
    }

    fn check(&self) -> Result<(), Error> {
        match given(&self.log_format).is_some_and(|format| format != "text") {
            true => Err(Error::Unsupported {
                what: "a log in another format than text".to_owned(),
                instead: "Leave --log-format out. --format=json prints the result as JSON.".into(),
            }),
            false => Ok(()),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct StartFlags {
    #[command(subcommand)]
    service: Option<ServiceFlags>,
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    legacy: LegacyFlags,
}

#[derive(Debug, Subcommand)]
enum ServiceFlags {
    /// SSH credentials in a directory, beside the outputs of the file if there is one
    #[command(visible_aliases = ["ssh", "id"])]
    Identity(IdentityFlags),
    /// The outputs of the file, or one in --destination-dir; the same as no service
    #[command(hide = true)]
    Legacy(LegacyService),
    /// No outputs: only the join is tried
    Noop(CommonFlags),
}

#[derive(Args, Debug)]
struct LegacyService {
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    legacy: LegacyFlags,
}

#[derive(Args, Debug, Default, PartialEq)]
struct LegacyFlags {
    /// Directory for the credentials, instead of the outputs of the file
    #[arg(long, hide = true)]
    destination_dir: Option<String>,
    /// Accepted and not used, as --storage
    #[arg(long, hide = true)]
    data_dir: Option<String>,
}

/// The flags of every service.
#[derive(Args, Debug, Default, PartialEq)]
pub(crate) struct CommonFlags {
    /// The cluster's proxy, host:port (required) [env: TELEPORT_PROXY]
    #[arg(long)]
    proxy_server: Option<String>,
    /// Accepted if it is the proxy's address, too [env: TELEPORT_AUTH_SERVER]
    #[arg(short, long, hide = true)]
    auth_server: Option<String>,
    /// Name of the join token, or absolute path of a file with it (required) [env: TELEPORT_BOT_TOKEN]
    #[arg(long)]
    token: Option<String>,
    #[arg(long, help = format!("Join method: {} [default: that of the CI system]", kind::names()))]
    join_method: Option<String>,
    /// Proxy, join method and join token in one, as clusters print it
    #[arg(long)]
    join_uri: Option<String>,
    /// Lifetime of the credentials, such as 1h30m [default: 1h]
    #[arg(long)]
    certificate_ttl: Option<String>,
    /// Where the bot's own state is kept: memory://. A run that joins once needs none
    #[arg(long)]
    storage: Option<String>,
    /// Join once and end (required)
    #[arg(long)]
    oneshot: bool,
    /// Deadline of the whole run, such as 90s [default: 60s]
    #[arg(long)]
    timeout: Option<String>,
    /// How the result is printed on stdout: json, or text, which prints nothing there [default: text]
    #[arg(long)]
    pub(super) format: Option<String>,
    #[arg(long, hide = true, conflicts_with = "oneshot")]
    no_oneshot: bool,
    /// Accepted and not used, as the next two: a run that joins once renews nothing, and ends by itself
    #[arg(long, hide = true)]
    renewal_interval: Option<String>,
    #[arg(long, hide = true)]
    diag_addr: Option<String>,
    #[arg(long, hide = true)]
    pid_file: Option<String>,
    /// Accepted: nothing is ever sent to anyone but the cluster
    #[arg(long, hide = true)]
    anonymous_telemetry: bool,
    #[arg(long, hide = true, conflicts_with = "anonymous_telemetry")]
    no_anonymous_telemetry: bool,
    #[arg(long, hide = true)]
    no_scoped: bool,
}

#[derive(Args, Debug)]
struct IdentityFlags {
    #[command(flatten)]
    common: CommonFlags,
    /// Directory for the credentials; file:///path is understood, too (required)
    #[arg(long)]
    destination: Option<String>,
    /// Leaf cluster that the certificates are routed to; the files serve all clusters anyway
    #[arg(long)]
    cluster: Option<String>,
    /// Do not let a proxy that records sessions log in to nodes with this identity
    #[arg(long)]
    no_agent: bool,
    #[arg(long, hide = true)]
    no_allow_reissue: bool,
}

impl IdentityFlags {
    fn service(&self) -> Result<YamlService, Error> {
        let missing = Error::Missing { name: "--destination", example: "./tbot-user" };
        let destination = given(&self.destination).ok_or(missing)?;
        let cluster = parsed("--cluster", given(&self.cluster), values::cluster)?;
        Ok(service(valid("--destination", destination, values::destination)?, cluster, !self.no_agent))
    }
}

/// An output in this directory.
fn service(path: PathBuf, cluster: Option<crate::address::ClusterName>, agent: bool) -> YamlService {
    YamlService {
        name: None,
        output: Identity { cluster, agent, roles: Vec::new(), ssh_config: true },
        destination: DestinationSettings { path, unknown_files: UnknownFiles::Keep, owner: None },
        ttl: None,
    }
}

impl StartFlags {
    /// The flags that every service has.
    pub(super) fn common(&self) -> &CommonFlags {
        match &self.service {
            None => &self.common,
            Some(ServiceFlags::Identity(flags)) => &flags.common,
            Some(ServiceFlags::Legacy(flags)) => &flags.common,
            Some(ServiceFlags::Noop(common)) => common,
        }
    }

    pub(crate) fn settings(&self, global: &GlobalFlags, env: &Environment, debug: bool) -> Result<Settings, Failure> {
        global.check()?;
        let mut file = self.overlaid(global.file(env)?, env)?;
        let common = self.common();
        if !file.oneshot {
            return Err(Error::Unsupported {
                what: "running without --oneshot".to_owned(),
                instead: "Add --oneshot, or `oneshot: true` to the file.".into(),
            }
            .into());
        }
        let missing = |name, example| Error::Missing { name, example };
        let addr = file.proxy.ok_or_else(|| missing("--proxy-server", "example.teleport.sh:443"))?;
        let token = file.token.ok_or_else(|| missing("--token", "example-bot"))?;
        let debug = debug || (file.debug && !global.no_debug);
        if debug {
            crate::log::more();
        }
        let ttl: Ttl = file.ttl.map_or_else(|| valid("--certificate-ttl", default::TTL, str::parse), Ok)?;
        Ok(Settings {
            connection: Connection::new(addr, None, env)?,
            onboarding: Onboarding {
                token,
                method: file.method,
                source: file.sources.take(file.method.or_else(|| platform::detect(env).ok().map(Kind::IdToken))),
            },
            services: named(file.services, ttl),
            timeout: timeout(&common.timeout)?,
            privacy: platform::privacy(env, debug),
            // A line that works with tbot works here.
            leak_check: LeakCheck::Warn,
            format: parsed("--format", given(&common.format), str::parse)?.unwrap_or_default(),
        })
    }

    /// Lays flags and variables over the file.
    fn overlaid(&self, mut file: TbotYaml, env: &Environment) -> Result<TbotYaml, Error> {
        let common = self.common();
        if self.service.is_some() && (self.common != CommonFlags::default() || self.legacy != LegacyFlags::default()) {
            let instead = "Write all flags behind the service, such as `start identity --oneshot`.";
            return Err(Error::Unsupported { what: "a flag before the service".to_owned(), instead: instead.into() });
        }
        let with_variable = |flag, name: &'static str, variable: &'static str| match given(flag) {
            Some(text) => Some((name, text)),
            None => env.get(variable).map(|text| (variable, text)),
        };
        let proxy = with_variable(&common.proxy_server, "--proxy-server", "TELEPORT_PROXY");
        let auth = with_variable(&common.auth_server, "--auth-server", "TELEPORT_AUTH_SERVER");
        if let Some((name, text)) = proxy {
            file.proxy = Some(valid(name, text, str::parse::<HostPort>)?);
        }
        if let Some((name, text)) = auth {
            file.auth = Some(valid(name, text, auth_server)?);
        }
        if let Some((name, text)) = with_variable(&common.token, "--token", "TELEPORT_BOT_TOKEN") {
            file.token = Some(valid(name, text, join_token)?);
        }
        if let Some(method) = parsed("--join-method", given(&common.join_method), kind::by_name)? {
            file.method = Some(method);
        }
        if let Some(ttl) = parsed("--certificate-ttl", given(&common.certificate_ttl), str::parse)? {
            file.ttl = Some(ttl);
        }
        file.oneshot |= common.oneshot;
        let uri = given(&common.join_uri);
        if let Some(text) = uri {
            file.join_uri = Some(valid("--join-uri", text, JoinUri::parse)?);
        }
        let name = if uri.is_some() { "--join-uri" } else { "join_uri" };
        file.apply_join_uri().map_err(|invalid| invalid.hidden().named(name, uri.unwrap_or_default()))?;
        file.proxy = file.proxy.or(file.auth.take());
        match &self.service {
            Some(ServiceFlags::Identity(flags)) => file.services.push(flags.service()?),
            Some(ServiceFlags::Noop(_)) => file.services.clear(),
            Some(ServiceFlags::Legacy(LegacyService { legacy, .. })) => legacy.replace(&mut file)?,
            None => self.legacy.replace(&mut file)?,
        }
        Ok(file)
    }
}

impl LegacyFlags {
    /// tbot's old flag replaces all outputs of the file.
    fn replace(&self, file: &mut TbotYaml) -> Result<(), Error> {
        if let Some(path) = parsed("--destination-dir", given(&self.destination_dir), values::destination)? {
            file.services = vec![service(path, None, true)];
        }
        Ok(())
    }
}

/// The services, those without a name as newer versions of tbot name them.
fn named(services: Vec<YamlService>, ttl: Ttl) -> Vec<Service> {
    let number = |(at, YamlService { name, output, destination, ttl: own })| Service {
        name: name.unwrap_or_else(|| format!("identity-{}", at + 1)),
        output: Box::new(output),
        destination,
        ttl: own.unwrap_or(ttl),
    };
    services.into_iter().enumerate().map(number).collect()
}

#[derive(Args, Debug)]
pub(crate) struct ConfigureFlags {
    #[command(flatten)]
    start: StartFlags,
    /// The file to write, instead of stdout
    #[arg(short, long, global = true)]
    pub(crate) output: Option<PathBuf>,
}

impl ConfigureFlags {
    /// A tbot.yaml that says what the flags say. tbot reads it, too.
    pub(crate) fn yaml(&self, env: &Environment) -> Result<String, Failure> {
        let file = self.start.overlaid(TbotYaml::default(), env)?;
        let missing = Error::Missing { name: "--join-method", example: platform::ALL[0].method };
        let method = file.method.ok_or(missing)?;
        Ok(file.written(method))
    }
}
