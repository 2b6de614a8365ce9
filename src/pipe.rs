//! The pipe: variables of the step's `variables:` block become a [`Command`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::HostPort;
use crate::choice::choose;
use crate::destination::UnknownFiles;
use crate::environment::Environment;
use crate::format::Format;
use crate::guard::LeakCheck;
use crate::invalid::{Error, Invalid, expect_plain};
use crate::join::kind::{self, Kind};
use crate::net::connection::Connection;
use crate::net::{egress, upgrade};
use crate::node_labels::NodeLabels;
use crate::output::identity::Identity;
use crate::platform::{self, TokenSource};
use crate::settings::{
    Command, DestinationSettings, DoctorSettings, InspectSettings, Onboarding, Service, Settings, default,
};
use crate::text::sanitize;
use crate::values::{self, Privacy, boolean, join_token};

/// A variable of the pipe. A test compares it with `pipe.yml`, the README and `--help`.
#[derive(Debug)]
pub struct Variable {
    pub name: &'static str,
    /// For `ACTION: 'join'`.
    pub required: bool,
    pub default: Option<&'static str>,
    pub help: &'static str,
}

/// All variables, in the order of the README.
pub const VARIABLES: [Variable; 20] = {
    const fn new(name: &'static str, default: Option<&'static str>, help: &'static str) -> Variable {
        Variable { name, required: false, default, help }
    }
    [
        Variable { required: true, ..new("PROXY_SERVER", None, "the cluster's proxy, host:port") },
        Variable {
            required: true,
            ..new("TOKEN", None, "name of the join token, or the absolute path of a file with it")
        },
        new("JOIN_METHOD", None, "join method, if it is not that of the CI system; `token` for a one-time token"),
        new(
            "ID_TOKEN_VARIABLE",
            None,
            "name of the variable that holds the ID token, if it is not that of the CI system",
        ),
        new("ACTION", Some("join"), "join, inspect, doctor or cleanup"),
        new("DESTINATION", Some(default::DESTINATION), "directory for the credentials, or for the files of inspect"),
        new("TTL", Some(default::TTL), "lifetime of the credentials, such as 1h30m"),
        new("CLUSTER", None, "leaf cluster that the certificates are routed to"),
        new("TIMEOUT", Some(default::TIMEOUT), "deadline of the whole run"),
        new("FILE_OWNER", None, "owner of the files, uid or uid:gid"),
        new("CA_FILE", None, "PEM file of certificate authorities to trust in addition to the public ones"),
        new("HTTPS_PROXY", None, "forward proxy: http, https or socks5://[user:password@]host:port"),
        new("NO_PROXY", None, "names, addresses and networks that bypass it, separated by commas or blanks"),
        new("SSH_AGENT", Some("true"), "let a proxy that records sessions log in to nodes"),
        new("LEAK_CHECK", None, "error, warn or off: what to do if artifacts or caches would capture the keys"),
        new("SCOPE", None, "inspect: deployment, branch, repository or workspace"),
        new("LOGINS", None, "inspect: logins for the role, a list"),
        new("NODE_LABELS", None, "inspect: labels of the nodes that the role reaches, a list, such as env=prod"),
        new("FORMAT", Some("text"), "text or json: how join and doctor print their result; inspect: tctl or terraform"),
        new("DEBUG", Some("false"), "print debug information (never tokens or keys)"),
    ]
};

/// tbot's variables that are accepted instead of ours (docs/protocol.md, "Command line").
const TBOT_VARIABLES: [(&str, &str); 2] = [("PROXY_SERVER", "TELEPORT_PROXY"), ("TOKEN", "TELEPORT_BOT_TOKEN")];

/// Names that people write instead, besides misspellings.
const WRONG_NAMES: [(&[&str], &str); 13] = [
    (
        &["PROXY", "PROXY_ADDR", "PROXY_ADDRESS", "PROXY_URL", "TELEPORT_PROXY_SERVER", "TELEPORT_PROXY_ADDR"],
        "PROXY_SERVER",
    ),
    (&["BOT_TOKEN", "JOIN_TOKEN", "TOKEN_NAME", "TELEPORT_TOKEN"], "TOKEN"),
    (&["METHOD", "TELEPORT_JOIN_METHOD"], "JOIN_METHOD"),
    (&["ID_TOKEN", "ID_TOKEN_NAME", "ID_TOKEN_ENV"], "ID_TOKEN_VARIABLE"),
    (&["DEST", "DESTINATION_DIR", "OUTPUT", "OUTPUT_DIR"], "DESTINATION"),
    (&["CERTIFICATE_TTL", "CERT_TTL"], "TTL"),
    (&["LEAF", "LEAF_CLUSTER", "CLUSTER_NAME"], "CLUSTER"),
    (&["OWNER"], "FILE_OWNER"),
    (&["CA_CERT", "CA_BUNDLE"], "CA_FILE"),
    (&["ALL_PROXY", "SOCKS_PROXY"], "HTTPS_PROXY"),
    (&["LOGIN"], "LOGINS"),
    (&["LABEL", "LABELS"], "NODE_LABELS"),
    (&["VERBOSE"], "DEBUG"),
];

/// Reads the pipe's variables. The log names each variable that is nearly one of them.
pub(crate) fn command(env: &Environment) -> Result<Command, Error> {
    for (name, meant) in misspelled(env) {
        log::warn!(target: "variables", "unknown variable {}, ignored; did you mean {meant}?", sanitize(name));
    }
    match optional(env, "ACTION", "join", action)? {
        Action::Join => {
            for name in ["SCOPE", "LOGINS", "NODE_LABELS"].into_iter().filter(|name| !env.list(name).is_empty()) {
                log::warn!(target: "variables", "{name} is for ACTION: 'inspect', ignored");
            }
            Ok(Command::Start(settings(env)?))
        }
        Action::Inspect => Ok(Command::Inspect(inspect_settings(env)?)),
        Action::Doctor => Ok(Command::Doctor(doctor_settings(env)?)),
        Action::Cleanup => Ok(Command::Cleanup(destination(env)?)),
    }
}

/// What `ACTION` says.
#[derive(Clone, Copy)]
enum Action {
    Join,
    Inspect,
    Doctor,
    Cleanup,
}

fn action(text: &str) -> Result<Action, Invalid> {
    let actions = [
        ("join", Action::Join),
        ("inspect", Action::Inspect),
        ("doctor", Action::Doctor),
        ("cleanup", Action::Cleanup),
    ];
    choose(text, &actions)
}

/// Whether no variable of the pipe is set, outside of a CI system: a person has typed the program's name and nothing else.
/// Other programs read the variables of forward proxies, too.
pub(crate) fn is_unused(env: &Environment) -> bool {
    let ours =
        VARIABLES.iter().map(|variable| variable.name).filter(|name| !["HTTPS_PROXY", "NO_PROXY"].contains(name));
    let mut names = ours.chain(TBOT_VARIABLES.iter().map(|(_, theirs)| *theirs));
    !platform::is_ci(env) && names.all(|name| env.list(name).is_empty())
}

/// Whether debug information is printed. It is read before the other variables, so that the log shows their errors.
pub(crate) fn debug(env: &Environment) -> Result<bool, Error> {
    optional(env, "DEBUG", "false", boolean)
}

/// What `join` is told.
pub(crate) fn settings(env: &Environment) -> Result<Settings, Error> {
    let addr = required(env, "PROXY_SERVER", "example.teleport.sh:443", str::parse)?;
    let token = required(env, "TOKEN", "example-bot", join_token)?;
    let method = method(env)?;
    Ok(Settings {
        connection: connection(env, addr)?,
        onboarding: Onboarding { token, method, source: source(env)? },
        services: vec![service(env)?],
        timeout: timeout(env)?,
        privacy: privacy(env)?,
        leak_check: leak_check(env)?,
        format: format(env)?,
    })
}

fn service(env: &Environment) -> Result<Service, Error> {
    Ok(Service {
        name: "identity".to_owned(),
        output: Box::new(Identity {
            cluster: given(env, "CLUSTER", values::cluster)?,
            agent: optional(env, "SSH_AGENT", "true", boolean)?,
            roles: Vec::new(),
            ssh_config: true,
        }),
        destination: DestinationSettings {
            path: destination(env)?,
            unknown_files: UnknownFiles::Refuse,
            owner: given(env, "FILE_OWNER", str::parse)?,
        },
        ttl: optional(env, "TTL", default::TTL, str::parse)?,
    })
}

/// What `inspect` is told.
pub(crate) fn inspect_settings(env: &Environment) -> Result<InspectSettings, Error> {
    let addr = given(env, "PROXY_SERVER", str::parse)?;
    if let Some(Kind::OneTimeToken) = method(env)? {
        return Err(Error::Unsupported {
            what: "inspect for a one-time token".to_owned(),
            instead: "It has no rule to print: create it with `tctl bots instances add <bot>`. Leave JOIN_METHOD (--join-method) out to \
                      see what a CI system needs."
                .into(),
        });
    }
    Ok(InspectSettings {
        platform: method(env)?.and_then(Kind::platform),
        source: source(env)?,
        connection: addr.map(|addr| connection(env, addr)).transpose()?,
        token: given(env, "TOKEN", str::parse)?,
        scope: value(env, "SCOPE")?.map(|scope| ("SCOPE", scope.to_owned())),
        logins: logins(env)?,
        node_labels: node_labels(env)?,
        format: given(env, "FORMAT", str::parse)?.unwrap_or_default(),
        destination: inspect_destination(env)?,
        timeout: timeout(env)?,
        privacy: privacy(env)?,
    })
}

/// The directory for the files of `inspect`. A CI system may set the default of `pipe.yml` (docs/protocol.md, "Pipe
/// variables"), which is for credentials, so that it does not mean that a person wants files.
fn inspect_destination(env: &Environment) -> Result<Option<PathBuf>, Error> {
    let path = given(env, "DESTINATION", values::destination)?;
    let is_default = |path: &PathBuf| {
        Path::new("./").join(path.strip_prefix("./").unwrap_or(path)) == Path::new(default::DESTINATION)
    };
    Ok(path.filter(|path| !is_default(path)))
}

fn logins(env: &Environment) -> Result<Vec<String>, Error> {
    let logins = env.list("LOGINS").into_iter().map(|text| {
        let login = expect_plain(text).and_then(|()| values::login(text));
        login.map_err(|invalid| invalid.named("LOGINS", text))
    });
    logins.collect()
}

fn node_labels(env: &Environment) -> Result<NodeLabels, Error> {
    let items = env.items("NODE_LABELS");
    NodeLabels::parse(items.iter().copied()).map_err(|invalid| invalid.named("NODE_LABELS", &items.join(",")))
}

/// The variables that say where the cluster is and how it is reached, and the directory to look at.
pub(crate) fn of_the_network(env: &Environment) -> Environment {
    const OURS: [&str; 6] =
        ["PROXY_SERVER", "TELEPORT_PROXY", "CA_FILE", "SSL_CERT_FILE", "DESTINATION", "REQUEST_METHOD"];
    let of_forward_proxies = egress::PROXY_VARIABLES.into_iter().chain(egress::NO_PROXY_VARIABLES).collect::<Vec<_>>();
    env.only(|name| OURS.contains(&name) || of_forward_proxies.contains(&name) || name == upgrade::VARIABLE)
}

/// What a join would be told. The name of the join token is checked if it is set.
pub(crate) fn doctor_settings(env: &Environment) -> Result<DoctorSettings, Error> {
    let addr = required(env, "PROXY_SERVER", "example.teleport.sh:443", str::parse)?;
    given(env, "TOKEN", join_token)?;
    Ok(DoctorSettings {
        method: method(env)?,
        source: source(env)?,
        connection: connection(env, addr)?,
        service: Some(service(env)?),
        leak_check: leak_check(env)?,
        format: format(env)?,
        timeout: timeout(env)?,
        privacy: privacy(env)?,
    })
}

/// The join method that is named.
fn method(env: &Environment) -> Result<Option<Kind>, Error> {
    given(env, "JOIN_METHOD", kind::by_name)
}

/// Where the ID token is, if not where the CI system puts it.
fn source(env: &Environment) -> Result<Option<TokenSource>, Error> {
    Ok(given(env, "ID_TOKEN_VARIABLE", values::variable)?.map(TokenSource::Variable))
}

/// `CA_FILE` is what a pipe's variables can say, `SSL_CERT_FILE` what other programs read.
fn connection(env: &Environment, addr: HostPort) -> Result<Connection, Error> {
    Connection::new(addr, value(env, "CA_FILE")?, env)
}

/// The directory of the credentials.
pub(crate) fn destination(env: &Environment) -> Result<PathBuf, Error> {
    optional(env, "DESTINATION", default::DESTINATION, values::destination)
}

fn timeout(env: &Environment) -> Result<Duration, Error> {
    optional(env, "TIMEOUT", default::TIMEOUT, values::timeout)
}

fn leak_check(env: &Environment) -> Result<LeakCheck, Error> {
    Ok(given(env, "LEAK_CHECK", str::parse)?.unwrap_or_default())
}

fn format(env: &Environment) -> Result<Format, Error> {
    optional(env, "FORMAT", "text", str::parse)
}

fn privacy(env: &Environment) -> Result<Privacy, Error> {
    Ok(platform::privacy(env, debug(env)?))
}

/// The value of a variable, or of tbot's variable that is accepted for it.
fn value<'a>(env: &'a Environment, name: &'static str) -> Result<Option<&'a str>, Error> {
    const FORM: &str = "Write one value in quotes instead of a list.";
    let tbots = || TBOT_VARIABLES.iter().find(|(ours, _)| *ours == name).and_then(|(_, theirs)| env.get(theirs));
    let text = match (env.get(name), env.list(name).as_slice()) {
        (Some(text), _) | (None, &[text]) => Some(text),
        (None, []) => tbots(),
        (None, several) => return Err(Invalid::new("is a list", FORM).named(name, &several.join(", "))),
    };
    text.map_or(Ok(()), |text| expect_plain(text).map_err(|invalid| invalid.named(name, text)))?;
    Ok(text)
}

type Parse<T> = fn(&str) -> Result<T, Invalid>;

fn given<T>(env: &Environment, name: &'static str, parse: Parse<T>) -> Result<Option<T>, Error> {
    value(env, name)?.map(|text| parse(text).map_err(|invalid| invalid.named(name, text))).transpose()
}

fn required<T>(env: &Environment, name: &'static str, example: &'static str, parse: Parse<T>) -> Result<T, Error> {
    given(env, name, parse)?.ok_or_else(|| match platform::is_ci(env) {
        true => Error::Missing { name, example },
        false => Error::MissingOutside { name, example },
    })
}

fn optional<T>(env: &Environment, name: &'static str, default: &'static str, parse: Parse<T>) -> Result<T, Error> {
    let text = value(env, name)?.unwrap_or(default);
    parse(text).map_err(|invalid| invalid.named(name, text))
}

/// Variables whose names are nearly one of ours, and which. Others are not mentioned: outside of a pipe the environment
/// is full of them.
fn misspelled(env: &Environment) -> Vec<(&str, &'static str)> {
    let near = |name: &str| {
        let plain = name.to_ascii_uppercase().replace('-', "_");
        let wrong_name = WRONG_NAMES.iter().find(|(wrong, _)| wrong.contains(&&*plain)).map(|(_, meant)| *meant);
        let is_misspelled = |ours: &&Variable| {
            let distance = if ours.name.len() < 8 { 1 } else { 2 };
            ours.name == plain || (ours.name.len() > 3 && strsim::osa_distance(&plain, ours.name) <= distance)
        };
        wrong_name.or_else(|| VARIABLES.iter().find(is_misspelled).map(|ours| ours.name))
    };
    let is_item = |rest: &str| rest.strip_prefix('_').is_some_and(|n| n == "COUNT" || n.parse::<u16>().is_ok());
    // Other spellings that are read, too.
    let also_read = egress::PROXY_VARIABLES.into_iter().chain(egress::NO_PROXY_VARIABLES).collect::<Vec<_>>();
    let is_known = |name: &str| {
        let rest = |ours: &Variable| name.strip_prefix(ours.name).is_some_and(|rest| rest.is_empty() || is_item(rest));
        also_read.contains(&name) || VARIABLES.iter().any(rest)
    };
    env.names().filter(|name| !is_known(name)).filter_map(|name| Some((name, near(name)?))).collect()
}

/// The variables, for `--help`.
pub(crate) fn help() -> String {
    use std::fmt::Write as _;
    let mut text = String::from("Variables of the pipe (*: required):\n");
    for Variable { name, required, default, help } in &VARIABLES {
        let star = if *required { " (*)" } else { "" };
        let default = default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
        let _ = writeln!(text, "  {:<18}{help}{default}", format!("{name}{star}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ResourceFormat;
    use crate::values::JoinToken;

    fn command_with(more: &[(&str, &str)]) -> Result<Command, Error> {
        let least = [("PROXY_SERVER", "p.example:443"), ("TOKEN", "example-bot")];
        command(&least.iter().chain(more).copied().collect())
    }

    fn settings_with(more: &[(&str, &str)]) -> Result<Settings, Error> {
        match command_with(more)? {
            Command::Start(settings) => Ok(settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_variables_are_enough() {
        let settings = settings_with(&[]).unwrap();
        let [Service { output, destination, ttl, .. }] = &settings.services[..] else { panic!() };
        assert_eq!(destination.path, PathBuf::from("./tbot-user"));
        assert_eq!((ttl.0.as_secs(), settings.timeout.as_secs()), (3600, 60));
        assert!(destination.owner.is_none() && output.request().route.is_none());
        assert!(settings.connection.ca_file.is_none() && settings.privacy == Privacy::Private);
    }

    #[test]
    fn tbots_variables_stand_in() {
        let tbots = [("TELEPORT_PROXY", "p.example"), ("TELEPORT_BOT_TOKEN", "t")];
        let Command::Start(settings) = command(&tbots.into_iter().collect()).unwrap() else { panic!() };
        let token = |settings: &Settings| match &settings.onboarding.token {
            JoinToken::Name(name) => name.reveal().to_owned(),
            JoinToken::File(path) => panic!("{path:?}"),
        };
        assert_eq!((settings.connection.addr.host.as_str(), token(&settings).as_str()), ("p.example", "t"));
        assert_eq!(token(&settings_with(&tbots).unwrap()), "example-bot");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = command(&Environment::from_iter([("PROXY_SERVER", " ")])).unwrap_err();
        assert_eq!(error.to_string(), "PROXY_SERVER is not set");
        for (name, value) in [
            ("TOKEN", "two words"),
            ("ACTION", "start"),
            ("TTL", "3600"),
            ("TIMEOUT", "0s"),
            ("CLUSTER", "https://leaf.example"),
            ("FILE_OWNER", "me"),
            ("DEBUG", "maybe"),
        ] {
            let error = command_with(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} is `{value}`, which ")), "{error}");
        }
    }

    #[test]
    fn the_other_actions_need_nothing() {
        let alone = |action: &str, more| super::command(&[("ACTION", action), more].into_iter().collect()).unwrap();
        assert!(matches!(alone("Inspect", ("CI", "true")), Command::Inspect(InspectSettings { connection: None, .. })));
        match alone("cleanup", ("DESTINATION", "creds")) {
            Command::Cleanup(directory) => assert_eq!(directory, PathBuf::from("creds")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_of_the_catalogue_do_not_change_what_inspect_does() {
        let inspect = |more: &[(&str, &str)]| match command_with(&[more, &[("ACTION", "inspect")]].concat()).unwrap() {
            Command::Inspect(settings) => (settings.destination, settings.format),
            other => panic!("{other:?}"),
        };
        let defaults = VARIABLES.iter().filter(|variable| variable.name != "ACTION");
        let defaults: Vec<_> = defaults.filter_map(|variable| Some((variable.name, variable.default?))).collect();
        assert!(defaults.len() > 4);
        assert_eq!(inspect(&defaults), inspect(&[]));
        assert_eq!(inspect(&[]), (None, ResourceFormat::Tctl));
        assert_eq!(inspect(&[("DESTINATION", "./teleport")]).0, Some(PathBuf::from("./teleport")));
    }

    #[test]
    fn lists_have_two_forms() {
        let logins = |variables: &[(&'static str, &'static str)]| {
            let variables = [("ACTION", "inspect")].iter().chain(variables).copied();
            match command(&variables.collect()).unwrap() {
                Command::Inspect(settings) => settings.logins.join(" "),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(logins(&[("LOGINS", "deploy, backup,")]), "deploy backup");
        assert_eq!(logins(&[("LOGINS_COUNT", "2"), ("LOGINS_0", "deploy"), ("LOGINS_1", "backup")]), "deploy backup");
        assert_eq!(logins(&[]), "");
        // A list of one is what it holds, of two is not.
        assert_eq!(settings_with(&[("TTL_COUNT", "1"), ("TTL_0", "2h")]).unwrap().services[0].ttl.0.as_secs(), 7200);
        let error = settings_with(&[("TTL_COUNT", "2"), ("TTL_0", "2h"), ("TTL_1", "3h")]).unwrap_err();
        assert_eq!(error.to_string(), "TTL is `2h, 3h`, which is a list");
    }

    #[test]
    fn what_is_nearly_a_variable_is_named() {
        let near = |name: &str| misspelled(&Environment::from_iter([(name, "x")])).first().map(|(_, meant)| *meant);
        for (name, meant) in [
            ("PROXY", "PROXY_SERVER"),
            ("PROXY_ADDR", "PROXY_SERVER"),
            ("PROXYSERVER", "PROXY_SERVER"),
            ("proxy_server", "PROXY_SERVER"),
            ("DESTINATON", "DESTINATION"),
            ("FILE-OWNER", "FILE_OWNER"),
            ("ttl", "TTL"),
            ("LEAKCHECK", "LEAK_CHECK"),
            ("HTTPSPROXY", "HTTPS_PROXY"),
            ("Https_Proxy", "HTTPS_PROXY"),
            ("all_proxy", "HTTPS_PROXY"),
        ] {
            assert_eq!(near(name), Some(meant), "{name}");
        }
        for name in ["PATH", "HOME", "CI", "TERM", "TTY", "DOCKER_HOST", "TELEPORT_PROXY"] {
            assert_eq!(near(name), None, "{name}");
        }
        for name in ["DESTINATION_0", "FILE_OWNER_COUNT", "LOGINS_12", "HTTP_PROXY", "https_proxy", "no_proxy"] {
            assert_eq!(near(name), None, "{name}");
        }
        assert!(VARIABLES.iter().all(|ours| near(ours.name).is_none()));
        assert!(WRONG_NAMES.iter().all(|(_, meant)| VARIABLES.iter().any(|ours| ours.name == *meant)));
    }

    #[test]
    fn a_public_log_shows_details_only_with_debug() {
        let public = platform::tests::PUBLIC_LOG;
        assert_eq!(settings_with(&[public]).unwrap().privacy, Privacy::Public);
        assert_eq!(settings_with(&[public, ("DEBUG", "true")]).unwrap().privacy, Privacy::Private);
    }
}
