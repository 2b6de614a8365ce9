//! The pipe: variables of the step's `variables:` block become an [`Action`].

use std::path::PathBuf;

use crate::address::HostPort;
use crate::destination::{NotAnOwner, UnknownFiles};
use crate::environment::Environment;
use crate::invalid::{Error, Invalid};
use crate::net::egress::{self, Egress};
use crate::net::upgrade::{self, Upgrade};
use crate::platform::bitbucket;
use crate::settings::{Action, DoctorSettings, InspectSettings, Settings, default};
use crate::text::sanitize;
use crate::values;
use crate::values::{TokenName, boolean};

/// A variable of the pipe. `pipe.yml`, the README and `--help` say the same of it; a test holds them together.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Whether a join needs it.
    pub required: bool,
    /// What it is where it is not given, if that can be said in a word.
    pub default: Option<&'static str>,
    /// What it is about, in a few words.
    pub help: &'static str,
}

/// All variables, in the order in which people meet them.
pub const VARIABLES: [Variable; 15] = {
    const fn new(name: &'static str, default: Option<&'static str>, help: &'static str) -> Variable {
        Variable { name, required: false, default, help }
    }
    const fn required(name: &'static str, help: &'static str) -> Variable {
        Variable { name, required: true, default: None, help }
    }
    [
        required("PROXY_SERVER", "the cluster's proxy, host:port"),
        required("TOKEN", "name of the join token"),
        new("ACTION", Some("join"), "join, inspect, doctor or cleanup"),
        new("DESTINATION", Some(default::DESTINATION), "directory for the credentials"),
        new("TTL", Some(default::TTL), "lifetime of the credentials, such as 1h30m"),
        new("CLUSTER", None, "leaf cluster that the certificates are routed to"),
        new("TIMEOUT", Some(default::TIMEOUT), "deadline of the whole run"),
        new("FILE_OWNER", None, "who shall own the files, uid or uid:gid"),
        new("CA_FILE", None, "PEM file of authorities to trust besides the public ones"),
        new("HTTPS_PROXY", None, "outgoing proxy: http, https or socks5://[user:password@]host:port"),
        new("NO_PROXY", None, "what is reached without it: names, addresses, networks"),
        new("LEAK_CHECK", None, "error, warn or off: what if artifacts or caches would take the keys"),
        new("SCOPE", None, "inspect: deployment, branch, repository or workspace"),
        new("LOGINS", None, "inspect: logins for the role, a list"),
        new("DEBUG", Some("false"), "tell more"),
    ]
};

/// Variables that tbot reads, and which of ours they stand for (teleport-issue-and-outputs.md 7.3).
const OF_TBOT: [(&str, &str); 2] = [("PROXY_SERVER", "TELEPORT_PROXY"), ("TOKEN", "TELEPORT_BOT_TOKEN")];

/// What people write instead, beyond slips of the pen.
const MISNOMERS: [(&str, &str); 26] = [
    ("PROXY", "PROXY_SERVER"),
    ("PROXY_ADDR", "PROXY_SERVER"),
    ("PROXY_ADDRESS", "PROXY_SERVER"),
    ("PROXY_URL", "PROXY_SERVER"),
    ("TELEPORT_PROXY_SERVER", "PROXY_SERVER"),
    ("TELEPORT_PROXY_ADDR", "PROXY_SERVER"),
    ("BOT_TOKEN", "TOKEN"),
    ("JOIN_TOKEN", "TOKEN"),
    ("TOKEN_NAME", "TOKEN"),
    ("TELEPORT_TOKEN", "TOKEN"),
    ("DEST", "DESTINATION"),
    ("DESTINATION_DIR", "DESTINATION"),
    ("OUTPUT", "DESTINATION"),
    ("OUTPUT_DIR", "DESTINATION"),
    ("CERTIFICATE_TTL", "TTL"),
    ("CERT_TTL", "TTL"),
    ("LEAF", "CLUSTER"),
    ("LEAF_CLUSTER", "CLUSTER"),
    ("CLUSTER_NAME", "CLUSTER"),
    ("OWNER", "FILE_OWNER"),
    ("CA_CERT", "CA_FILE"),
    ("CA_BUNDLE", "CA_FILE"),
    ("ALL_PROXY", "HTTPS_PROXY"),
    ("SOCKS_PROXY", "HTTPS_PROXY"),
    ("LOGIN", "LOGINS"),
    ("VERBOSE", "DEBUG"),
];

/// Reads the pipe's variables. A variable that is nearly one of them is named in the log.
///
/// # Errors
/// One is missing or cannot be understood.
pub(crate) fn action(env: &Environment) -> Result<Action, Error> {
    for (name, meant) in strays(env) {
        log::warn!(target: "variables", "{} is no variable of this pipe, and not used; {meant} is one", sanitize(name));
    }
    const ACTIONS: &str = "Write ACTION: 'join' (or leave it out), 'inspect', 'doctor' or 'cleanup'.";
    let action = value(env, "ACTION")?.unwrap_or("join");
    match action.to_ascii_lowercase().as_str() {
        "join" => {
            for name in ["SCOPE", "LOGINS"].into_iter().filter(|name| !env.list(name).is_empty()) {
                log::warn!(target: "variables", "{name} is for ACTION: 'inspect', and not used");
            }
            Ok(Action::Join(settings(env)?))
        }
        "inspect" => Ok(Action::Inspect(inspect_settings(env)?)),
        "doctor" => Ok(Action::Doctor(doctor_settings(env)?)),
        "cleanup" => {
            let destination = optional(env, "DESTINATION", default::DESTINATION, values::destination)?;
            Ok(Action::Cleanup(Some(destination)))
        }
        _ => Err(Invalid::new("is no action of this pipe", ACTIONS).of("ACTION", action)),
    }
}

/// Whether the pipe is to tell more. Expected before the other variables, so that their errors are logged right.
///
/// # Errors
/// `DEBUG` is no boolean.
pub(crate) fn debug(env: &Environment) -> Result<bool, Error> {
    optional(env, "DEBUG", "false", boolean)
}

fn settings(env: &Environment) -> Result<Settings, Error> {
    let proxy: HostPort = required(env, "PROXY_SERVER", "example.teleport.sh:443", str::parse)?;
    Ok(Settings {
        upgrade: Upgrade::from_variable(env.get(upgrade::VARIABLE), &proxy.to_string()),
        proxy,
        token: required(env, "TOKEN", "example-bot", str::parse::<TokenName>)?,
        destination: optional(env, "DESTINATION", default::DESTINATION, values::destination)?,
        unknown_files: UnknownFiles::Refuse,
        ttl: optional(env, "TTL", default::TTL, str::parse)?,
        cluster: given(env, "CLUSTER", values::cluster)?,
        timeout: optional(env, "TIMEOUT", default::TIMEOUT, values::timeout)?,
        owner: given(env, "FILE_OWNER", |text| {
            let invalid = |error: NotAnOwner| Invalid::new(error.to_string(), NotAnOwner::WHAT_TO_DO);
            text.parse().map_err(invalid)
        })?,
        ca_file: ca_file(env)?,
        egress: Egress::from_environment(env)?,
        discreet: discreet(env)?,
        leak_check: given(env, "LEAK_CHECK", str::parse)?.unwrap_or_default(),
    })
}

fn inspect_settings(env: &Environment) -> Result<InspectSettings, Error> {
    Ok(InspectSettings {
        proxy: given(env, "PROXY_SERVER", str::parse)?,
        token: given(env, "TOKEN", str::parse::<TokenName>)?,
        scope: given(env, "SCOPE", str::parse)?,
        logins: env.list("LOGINS").into_iter().map(str::to_owned).collect(),
        timeout: optional(env, "TIMEOUT", default::TIMEOUT, values::timeout)?,
        ca_file: ca_file(env)?,
        egress: Egress::from_environment(env)?,
        discreet: discreet(env)?,
    })
}

fn doctor_settings(env: &Environment) -> Result<DoctorSettings, Error> {
    let proxy: HostPort = required(env, "PROXY_SERVER", "example.teleport.sh:443", str::parse)?;
    Ok(DoctorSettings {
        upgrade: Upgrade::from_variable(env.get(upgrade::VARIABLE), &proxy.to_string()),
        proxy,
        timeout: optional(env, "TIMEOUT", default::TIMEOUT, values::timeout)?,
        ca_file: ca_file(env)?,
        egress: Egress::from_environment(env)?,
        discreet: discreet(env)?,
    })
}

/// `SSL_CERT_FILE` is what other programs read; `CA_FILE` is what a pipe's variables can say.
fn ca_file(env: &Environment) -> Result<Option<PathBuf>, Error> {
    let own = value(env, "CA_FILE")?;
    Ok(own.or_else(|| env.get("SSL_CERT_FILE")).map(PathBuf::from))
}

fn discreet(env: &Environment) -> Result<bool, Error> {
    Ok(!debug(env)? && bitbucket::log_is_public(env))
}

/// The value of a variable, or of the one of tbot that stands for it.
fn value<'a>(env: &'a Environment, name: &'static str) -> Result<Option<&'a str>, Error> {
    const FORM: &str = "Write one value in quotes instead of a list.";
    let of_tbot = || OF_TBOT.iter().find(|(ours, _)| *ours == name).and_then(|(_, theirs)| env.get(theirs));
    match (env.get(name), env.list(name).as_slice()) {
        (Some(text), _) | (None, &[text]) => Ok(Some(text)),
        (None, []) => Ok(of_tbot()),
        (None, several) => Err(Invalid::new("is a list", FORM).of(name, &several.join(", "))),
    }
}

fn given<T>(
    env: &Environment,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<Option<T>, Error> {
    value(env, name)?.map(|text| parse(text).map_err(|invalid| invalid.of(name, text))).transpose()
}

fn required<T>(
    env: &Environment,
    name: &'static str,
    example: &'static str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<T, Error> {
    given(env, name, parse)?.ok_or(Error::Missing { name, example })
}

fn optional<T>(
    env: &Environment,
    name: &'static str,
    default: &'static str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<T, Error> {
    match given(env, name, &parse)? {
        Some(value) => Ok(value),
        None => parse(default).map_err(|invalid| invalid.of(name, default)),
    }
}

/// Variables that are nearly one of ours, and which. A pipe is given what stands under its `variables:`, so what is not
/// known there is a mistake; elsewhere the environment is full of other names.
fn strays(env: &Environment) -> Vec<(&str, &'static str)> {
    let near = |name: &str| {
        let plain = name.to_ascii_uppercase().replace('-', "_");
        let misnomer = MISNOMERS.iter().find(|(wrong, _)| *wrong == plain).map(|(_, meant)| *meant);
        let slip = |ours: &&Variable| {
            let slips = if ours.name.len() < 8 { 1 } else { 2 };
            ours.name == plain || (ours.name.len() > 3 && strsim::osa_distance(&plain, ours.name) <= slips)
        };
        misnomer.or_else(|| VARIABLES.iter().find(slip).map(|ours| ours.name))
    };
    // Items of a list, too.
    let is_item = |rest: &str| rest.strip_prefix('_').is_some_and(|n| n == "COUNT" || n.parse::<u16>().is_ok());
    // Other forms of ours that are read, too.
    let others = egress::PROXY_VARIABLES.into_iter().chain(egress::NO_PROXY_VARIABLES).collect::<Vec<_>>();
    let ours = |name: &str| {
        let rest = |ours: &Variable| name.strip_prefix(ours.name).is_some_and(|rest| rest.is_empty() || is_item(rest));
        others.contains(&name) || VARIABLES.iter().any(rest)
    };
    env.names().filter(|name| !ours(name)).filter_map(|name| Some((name, near(name)?))).collect()
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

    fn action_with(more: &[(&str, &str)]) -> Result<Action, Error> {
        let least = [("PROXY_SERVER", "p.example:443"), ("TOKEN", "example-bot")];
        action(&least.iter().chain(more).copied().collect())
    }

    fn settings_with(more: &[(&str, &str)]) -> Result<Settings, Error> {
        match action_with(more)? {
            Action::Join(settings) => Ok(settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_variables_are_enough() {
        let settings = settings_with(&[]).unwrap();
        assert_eq!(settings.destination, PathBuf::from("./tbot-user"));
        assert_eq!((settings.ttl.0.as_secs(), settings.timeout.as_secs()), (3600, 60));
        assert!(
            settings.owner.is_none() && settings.cluster.is_none() && settings.ca_file.is_none() && !settings.discreet
        );
    }

    #[test]
    fn tbots_variables_stand_in() {
        let tbots = [("TELEPORT_PROXY", "p.example"), ("TELEPORT_BOT_TOKEN", "t")];
        let Action::Join(settings) = action(&tbots.into_iter().collect()).unwrap() else { panic!() };
        assert_eq!((settings.proxy.host.as_str(), settings.token.as_str()), ("p.example", "t"));
        assert_eq!(settings_with(&tbots).unwrap().token.as_str(), "example-bot");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = action(&Environment::from_iter([("PROXY_SERVER", " ")])).unwrap_err();
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
            let error = action_with(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} is `{value}`, which ")), "{error}");
        }
    }

    #[test]
    fn the_other_actions_need_nothing() {
        let alone = |action: &str, more| super::action(&[("ACTION", action), more].into_iter().collect()).unwrap();
        assert!(matches!(alone("Inspect", ("CI", "true")), Action::Inspect(InspectSettings { proxy: None, .. })));
        match alone("cleanup", ("DESTINATION", "creds")) {
            Action::Cleanup(path) => assert_eq!(path, Some(PathBuf::from("creds"))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lists_have_two_forms() {
        let logins = |variables: &[(&'static str, &'static str)]| {
            let variables = [("ACTION", "inspect")].iter().chain(variables).copied();
            match action(&variables.collect()).unwrap() {
                Action::Inspect(settings) => settings.logins.join(" "),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(logins(&[("LOGINS", "deploy, backup,")]), "deploy backup");
        assert_eq!(logins(&[("LOGINS_COUNT", "2"), ("LOGINS_0", "deploy"), ("LOGINS_1", "backup")]), "deploy backup");
        assert_eq!(logins(&[]), "");
        // A list of one is what it holds, of two is not.
        assert_eq!(settings_with(&[("TTL_COUNT", "1"), ("TTL_0", "2h")]).unwrap().ttl.0.as_secs(), 7200);
        let error = settings_with(&[("TTL_COUNT", "2"), ("TTL_0", "2h"), ("TTL_1", "3h")]).unwrap_err();
        assert_eq!(error.to_string(), "TTL is `2h, 3h`, which is a list");
    }

    #[test]
    fn what_is_nearly_a_variable_is_named() {
        let near = |name: &str| strays(&Environment::from_iter([(name, "x")])).first().map(|(_, meant)| *meant);
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
        for name in ["PATH", "HOME", "CI", "TERM", "TTY", "DOCKER_HOST", "BITBUCKET_STEP_OIDC_TOKEN", "TELEPORT_PROXY"]
        {
            assert_eq!(near(name), None, "{name}");
        }
        for name in ["DESTINATION_0", "FILE_OWNER_COUNT", "LOGINS_12", "HTTP_PROXY", "https_proxy", "no_proxy"] {
            assert_eq!(near(name), None, "{name}");
        }
        assert!(VARIABLES.iter().all(|ours| near(ours.name).is_none()));
        assert!(MISNOMERS.iter().all(|(_, meant)| VARIABLES.iter().any(|ours| ours.name == *meant)));
    }

    #[test]
    fn a_public_log_is_kept_discreet_unless_debugging() {
        let public = ("BITBUCKET_REPO_IS_PRIVATE", "false");
        assert!(settings_with(&[public]).unwrap().discreet);
        assert!(!settings_with(&[public, ("DEBUG", "true")]).unwrap().discreet);
    }
}
