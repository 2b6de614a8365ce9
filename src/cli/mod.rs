//! The command line: tbot's flags under tbot's names (docs/protocol.md, "Command line" and "ProxyCommand").
//! The doc comments are the help.

mod start;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::start::{ConfigureFlags, GlobalFlags, StartFlags};
use crate::environment::Environment;
use crate::format::Format;
use crate::invalid::{Error, Invalid, expect_plain};
use crate::join::kind;
use crate::settings::{DoctorSettings, InspectSettings, Settings, default};
use crate::text::sanitize;
use crate::values;
use crate::{pipe, platform};

/// Short-lived SSH credentials from Teleport, for a step of a CI system
///
/// Without a command it is a pipe and takes its settings from the environment.
#[derive(Debug, Parser)]
#[command(name = "teleport-pipe", version = concat!("v", env!("CARGO_PKG_VERSION")), after_help = pipe::help())]
pub(crate) struct Cli {
    /// Print debug information (never tokens or keys)
    #[arg(short, long, global = true)]
    pub(crate) debug: bool,
    #[command(flatten)]
    pub(crate) global: GlobalFlags,
    #[command(subcommand)]
    pub(crate) command: Option<Flags>,
}

impl Cli {
    /// How an error is printed. A format that does not exist is an error itself, in text.
    pub(crate) fn format(&self, env: &Environment) -> Format {
        let variable = || env.get("FORMAT");
        let text = match &self.command {
            None => variable(),
            Some(Flags::Join(JoinFlags { format, .. })) => given(format).or_else(variable),
            Some(Flags::Doctor(DoctorFlags { format, .. })) => {
                given(format).or_else(|| variable().filter(|_| platform::is_ci(env)))
            }
            Some(Flags::Start(flags)) => given(&flags.common().format),
            Some(
                Flags::Inspect(_)
                | Flags::Cleanup(_)
                | Flags::SshProxyCommand(_)
                | Flags::Configure(_)
                | Flags::Version,
            ) => None,
        };
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

/// The format that a command line asks for which was not parsed.
pub(crate) fn format_of(args: &[String]) -> Format {
    let is_json = |pair: &[String; 2]| pair[0] == "--format" && pair[1].eq_ignore_ascii_case("json");
    let asks = args.array_windows().any(is_json) || args.iter().any(|arg| arg.eq_ignore_ascii_case("--format=json"));
    if asks { Format::Json } else { Format::Text }
}

/// Whether the parser found a word that it does not know, or missed one.
pub(crate) fn is_unknown(usage: &clap::Error) -> bool {
    use clap::error::ErrorKind as Kind;
    let unknown =
        [Kind::UnknownArgument, Kind::InvalidSubcommand, Kind::MissingSubcommand, Kind::MissingRequiredArgument];
    unknown.contains(&usage.kind()) || usage.kind() == Kind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// The commands, each with its flags.
#[derive(Debug, Subcommand)]
pub(crate) enum Flags {
    /// Join and write credentials, with tbot's flags or a tbot.yaml
    Start(StartFlags),
    /// Print a tbot.yaml with what the flags of `start` say
    Configure(ConfigureFlags),
    /// Join and write credentials as the pipe does: flags, or the pipe's variables in the environment
    Join(JoinFlags),
    /// Show what the cluster needs to know of this step: claims, and files for `tctl create`
    Inspect(InspectFlags),
    /// Check the way to the cluster, step by step, without joining or writing; what to run first when something fails
    Doctor(DoctorFlags),
    /// Remove what was written, and nothing else
    Cleanup(CleanupFlags),
    /// The ProxyCommand of the ssh_config that was written
    SshProxyCommand(SshProxyCommandFlags),
    /// Print the version
    Version,
}

#[derive(Args, Debug)]
pub(crate) struct InspectFlags {
    /// The cluster's proxy, host:port; without it no cluster is asked [env: PROXY_SERVER, TELEPORT_PROXY]
    #[arg(long)]
    proxy_server: Option<String>,
    /// The name that the join token will have [env: TOKEN, TELEPORT_BOT_TOKEN]
    #[arg(long)]
    token: Option<String>,
    /// Whose ID token is shown, by its join method [env: JOIN_METHOD] [default: that of the CI system]
    #[arg(long)]
    join_method: Option<String>,
    /// Name of the variable that holds the ID token [env: ID_TOKEN_VARIABLE] [default: that of the CI system]
    #[arg(long)]
    id_token_variable: Option<String>,
    /// Which steps the token admits: deployment, branch, repository or workspace [env: SCOPE] [default: the narrowest]
    #[arg(long)]
    scope: Option<String>,
    /// Logins for the role, such as deploy,backup [env: LOGINS]
    #[arg(long)]
    logins: Vec<String>,
    /// Labels of the nodes that the role reaches, such as env=prod,role=web [env: NODE_LABELS]
    #[arg(long)]
    node_labels: Vec<String>,
    /// tctl, or terraform for Teleport's Terraform provider [env: FORMAT] [default: tctl]
    #[arg(long)]
    format: Option<String>,
    /// Directory for the files; without it they are printed [env: DESTINATION]
    #[arg(long)]
    destination: Option<String>,
    /// Deadline of asking the cluster, such as 90s [env: TIMEOUT] [default: 60s]
    #[arg(long)]
    timeout: Option<String>,
}

impl InspectFlags {
    pub(crate) fn settings(&self, env: &Environment, debug: bool) -> Result<InspectSettings, Error> {
        let variables = self.variables(debug);
        let settings = pipe::inspect_settings(&variables.environment(env)).map_err(|error| variables.named(error))?;
        // As a flag, the default of the pipe is a directory like any other.
        let directory = parsed("--destination", given(&self.destination), values::destination)?;
        Ok(InspectSettings { destination: directory.or(settings.destination), ..settings })
    }

    fn variables(&self, debug: bool) -> VariableFlags {
        VariableFlags::new(
            debug,
            [
                ("PROXY_SERVER", "--proxy-server", given(&self.proxy_server)),
                ("TOKEN", "--token", given(&self.token)),
                ("JOIN_METHOD", "--join-method", given(&self.join_method)),
                ("ID_TOKEN_VARIABLE", "--id-token-variable", given(&self.id_token_variable)),
                ("SCOPE", "--scope", given(&self.scope)),
                ("LOGINS", "--logins", given(&Some(self.logins.join(",")))),
                ("NODE_LABELS", "--node-labels", given(&Some(self.node_labels.join(",")))),
                ("FORMAT", "--format", given(&self.format)),
                ("TIMEOUT", "--timeout", given(&self.timeout)),
            ],
        )
    }
}

/// The commands besides `start` take what the pipe takes: a flag stands for the variable that is named beside it.
///
/// The pipe's other variables are read from the environment, too: `teleport-pipe --help` lists them.
#[derive(Args, Debug)]
pub(crate) struct JoinFlags {
    /// The cluster's proxy, host:port (required) [env: PROXY_SERVER, TELEPORT_PROXY]
    #[arg(long)]
    proxy_server: Option<String>,
    /// Name of the join token (required) [env: TOKEN, TELEPORT_BOT_TOKEN]
    #[arg(long)]
    token: Option<String>,
    #[arg(long, help = format!("Join method: {} [env: JOIN_METHOD] [default: that of the CI system]", kind::names()))]
    join_method: Option<String>,
    /// Name of the variable that holds the ID token [env: ID_TOKEN_VARIABLE] [default: that of the CI system]
    #[arg(long)]
    id_token_variable: Option<String>,
    /// Directory for the credentials [env: DESTINATION] [default: ./tbot-user]
    #[arg(long)]
    destination: Option<String>,
    /// Lifetime of the credentials, such as 1h30m [env: TTL] [default: 1h]
    #[arg(long, visible_alias = "ttl")]
    certificate_ttl: Option<String>,
    /// Leaf cluster that the certificates are routed to [env: CLUSTER]
    #[arg(long)]
    cluster: Option<String>,
    /// Deadline of the whole run, such as 90s [env: TIMEOUT] [default: 60s]
    #[arg(long)]
    timeout: Option<String>,
    /// How the result is printed on stdout: json, or text, which prints nothing there [env: FORMAT]
    #[arg(long)]
    format: Option<String>,
}

impl JoinFlags {
    pub(crate) fn settings(&self, env: &Environment, debug: bool) -> Result<Settings, Error> {
        let env = self.variables(debug).environment(env);
        pipe::settings(&env).map_err(|error| self.variables(debug).named(error))
    }

    fn variables(&self, debug: bool) -> VariableFlags {
        VariableFlags::new(
            debug,
            [
                ("PROXY_SERVER", "--proxy-server", given(&self.proxy_server)),
                ("TOKEN", "--token", given(&self.token)),
                ("JOIN_METHOD", "--join-method", given(&self.join_method)),
                ("ID_TOKEN_VARIABLE", "--id-token-variable", given(&self.id_token_variable)),
                ("DESTINATION", "--destination", given(&self.destination)),
                ("TTL", "--certificate-ttl", given(&self.certificate_ttl)),
                ("CLUSTER", "--cluster", given(&self.cluster)),
                ("TIMEOUT", "--timeout", given(&self.timeout)),
                ("FORMAT", "--format", given(&self.format)),
            ],
        )
    }
}

#[derive(Args, Debug)]
pub(crate) struct DoctorFlags {
    /// The cluster's proxy, host:port (required) [env: PROXY_SERVER, TELEPORT_PROXY]
    #[arg(value_name = "PROXY_SERVER")]
    proxy: Option<String>,
    /// The proxy as a flag, instead of as an argument
    #[arg(long)]
    proxy_server: Option<String>,
    /// The join method [env: JOIN_METHOD, in a CI system] [default: that of the CI system]
    #[arg(long)]
    join_method: Option<String>,
    /// Name of the variable that holds the ID token [env: ID_TOKEN_VARIABLE, in a CI system] [default: that of the CI
    /// system]
    #[arg(long)]
    id_token_variable: Option<String>,
    /// Directory that a join would write to, which is only looked at [env: DESTINATION] [default: ./tbot-user in a CI
    /// system; elsewhere none is looked at]
    #[arg(long)]
    destination: Option<String>,
    /// Deadline of all checks together, such as 90s [env: TIMEOUT, in a CI system] [default: 60s]
    #[arg(long)]
    timeout: Option<String>,
    /// How the checks are printed: text or json [env: FORMAT, in a CI system]
    #[arg(long)]
    format: Option<String>,
}

impl DoctorFlags {
    pub(crate) fn settings(&self, env: &Environment, debug: bool) -> Result<DoctorSettings, Error> {
        let variables = self.variables(debug)?;
        // On another machine than the step's, variables such as TTL are another program's, and the working directory is
        // anything.
        let env = variables.environment(&if platform::is_ci(env) { env.clone() } else { pipe::of_the_network(env) });
        let mut settings = pipe::doctor_settings(&env).map_err(|error| variables.named(error))?;
        if env.list("DESTINATION").is_empty() && !platform::is_ci(&env) {
            settings.service = None;
        }
        Ok(settings)
    }

    fn variables(&self, debug: bool) -> Result<VariableFlags, Error> {
        let (argument, flag) = (given(&self.proxy), given(&self.proxy_server));
        if let (Some(argument), Some(flag)) = (argument, flag)
            && argument != flag
        {
            let (reason, remedy) = (format!("differs from the argument `{}`", sanitize(argument)), "Give one of them.");
            return Err(Invalid::new(reason, remedy).named("--proxy-server", flag));
        }
        let name = if argument.is_some() { "the argument" } else { "--proxy-server" };
        Ok(VariableFlags::new(
            debug,
            [
                ("PROXY_SERVER", name, argument.or(flag)),
                ("JOIN_METHOD", "--join-method", given(&self.join_method)),
                ("ID_TOKEN_VARIABLE", "--id-token-variable", given(&self.id_token_variable)),
                ("DESTINATION", "--destination", given(&self.destination)),
                ("TIMEOUT", "--timeout", given(&self.timeout)),
                ("FORMAT", "--format", given(&self.format)),
            ],
        ))
    }
}

/// Variables of the pipe, the flags that stand for them, and the values that were given.
struct VariableFlags(Vec<(&'static str, &'static str, String)>);

impl VariableFlags {
    fn new<const N: usize>(debug: bool, flags: [(&'static str, &'static str, Option<&str>); N]) -> Self {
        let debug = ("DEBUG", "--debug", Some(if debug { "true" } else { "false" }));
        let all = flags.into_iter().chain([debug]);
        Self(all.filter_map(|(variable, flag, value)| Some((variable, flag, value?.to_owned()))).collect())
    }

    fn environment(&self, env: &Environment) -> Environment {
        self.0.iter().fold(env.clone(), |env, (variable, _, value)| env.with(variable, value))
    }

    /// An error about the value of a flag names the flag.
    fn named(&self, error: Error) -> Error {
        let flag = |name| self.0.iter().find(|(variable, ..)| *variable == name);
        match error {
            Error::Invalid { name, value, reason, remedy } => {
                let name = flag(name).map_or(name, |(_, flag, _)| *flag);
                Error::Invalid { name, value, reason, remedy }
            }
            error => error,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct CleanupFlags {
    /// Directory that holds the credentials [default: the one that this program was written to, else DESTINATION of the
    /// environment, else ./tbot-user]
    #[arg(long)]
    destination: Option<String>,
}

impl CleanupFlags {
    /// `own` is the directory that this program was written to. It comes before the variable, which may be another
    /// program's and is not read then: keys must not stay because of it.
    pub(crate) fn directory(&self, env: &Environment, own: Option<&Path>) -> Result<PathBuf, Error> {
        match (given(&self.destination), own) {
            (Some(text), _) => valid("--destination", text, values::destination),
            (None, Some(own)) => Ok(own.to_owned()),
            (None, None) => pipe::destination(env),
        }
    }
}

/// The value of a flag, trimmed. An empty one counts as not set, as with variables: scripts write `--token="$TOKEN"`.
fn given(flag: &Option<String>) -> Option<&str> {
    flag.as_deref().map(str::trim).filter(|value| !value.is_empty())
}

type Parse<T> = fn(&str) -> Result<T, Invalid>;

fn valid<T>(name: &'static str, text: &str, parse: Parse<T>) -> Result<T, Error> {
    expect_plain(text).and_then(|()| parse(text)).map_err(|invalid| invalid.named(name, text))
}

fn parsed<T>(name: &'static str, text: Option<&str>, parse: Parse<T>) -> Result<Option<T>, Error> {
    text.map(|text| valid(name, text, parse)).transpose()
}

fn timeout(flag: &Option<String>) -> Result<Duration, Error> {
    valid("--timeout", given(flag).unwrap_or(default::TIMEOUT), values::timeout)
}

/// Flags of `ssh-proxy-command`, as tbot writes them into an `ssh_config`.
#[derive(Args, Debug)]
pub(crate) struct SshProxyCommandFlags {
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
    /// The login on the node, for which a proxy that records sessions may log in
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Do not let the proxy log in to the node with this identity, as one that records sessions does
    #[arg(long)]
    pub(crate) no_agent: bool,
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
    /// The directory has a network.json that was written with it
    #[arg(long, hide = true)]
    pub(crate) network_file: bool,
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

    #[test]
    fn no_command_is_the_pipe() {
        assert!(parse("teleport-pipe").unwrap().command.is_none());
    }

    #[test]
    fn the_proxy_command_takes_tbots_line() {
        let line = "tbot ssh-proxy-command --destination-dir=/d --proxy-server=p:443 --cluster=c --no-tls-routing \
                    --no-connection-upgrade --resume --user=u --host=h --port=3022";
        match parse(line).unwrap().command {
            Some(Flags::SshProxyCommand(flags)) => assert!(!flags.connection_upgrade && flags.host == "h"),
            command => panic!("{command:?}"),
        }
    }
}
