//! The pipe: variables of the step's `variables:` block become [`Settings`].

use std::path::PathBuf;

use crate::destination::{Foreign, NotAnOwner};
use crate::environment::Environment;
use crate::id_token::bitbucket;
use crate::settings::{self, Error, Invalid, Settings, TokenName, boolean, default};

/// Reads the pipe's variables.
///
/// # Errors
/// One is missing or cannot be understood.
pub fn settings(env: &Environment) -> Result<Settings, Error> {
    let proxy = required(env, "PROXY_SERVER", "example.teleport.sh:443")?;
    let token = required(env, "TOKEN", "example-bot")?;
    let debug = debug(env)?;
    Ok(Settings {
        proxy: proxy.parse().map_err(|invalid: Invalid| invalid.of("PROXY_SERVER", proxy))?,
        token: token.parse::<TokenName>().map_err(|invalid| invalid.of("TOKEN", token))?,
        destination: optional(env, "DESTINATION", default::DESTINATION, settings::destination)?,
        foreign: Foreign::Refuse,
        ttl: optional(env, "TTL", default::TTL, str::parse)?,
        timeout: optional(env, "TIMEOUT", default::TIMEOUT, settings::timeout)?,
        owner: match env.get("FILE_OWNER") {
            None => None,
            Some(text) => Some(text.parse().map_err(|error: NotAnOwner| {
                Invalid::new(error.to_string(), NotAnOwner::WHAT_TO_DO).of("FILE_OWNER", text)
            })?),
        },
        ca_file: env.get("SSL_CERT_FILE").map(PathBuf::from),
        discreet: bitbucket::log_is_public(env) && !debug,
    })
}

/// Whether the pipe is to tell more. Asked before the other variables, so that their errors are logged right.
///
/// # Errors
/// `DEBUG` is no boolean.
pub fn debug(env: &Environment) -> Result<bool, Error> {
    optional(env, "DEBUG", "false", boolean)
}

fn required<'a>(env: &'a Environment, name: &'static str, example: &'static str) -> Result<&'a str, Error> {
    env.get(name).ok_or(Error::Missing { name, example })
}

fn optional<T>(
    env: &Environment,
    name: &'static str,
    default: &'static str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<T, Error> {
    let text = env.get(name).unwrap_or(default);
    parse(text).map_err(|invalid| invalid.of(name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_with(more: &[(&str, &str)]) -> Result<Settings, Error> {
        let least = [("PROXY_SERVER", "p.example:443"), ("TOKEN", "example-bot")];
        settings(&least.iter().chain(more).copied().collect())
    }

    #[test]
    fn two_variables_are_enough() {
        let settings = settings_with(&[]).unwrap();
        assert_eq!(settings.destination, PathBuf::from("./tbot-user"));
        assert_eq!((settings.ttl.0.as_secs(), settings.timeout.as_secs()), (3600, 60));
        assert!(settings.owner.is_none() && settings.ca_file.is_none() && !settings.discreet);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = settings(&Environment::from_iter([("PROXY_SERVER", " ")])).unwrap_err();
        assert_eq!(error.to_string(), "PROXY_SERVER is not set");
        for (name, value) in
            [("TOKEN", "two words"), ("TTL", "3600"), ("TIMEOUT", "0s"), ("FILE_OWNER", "me"), ("DEBUG", "maybe")]
        {
            let error = settings_with(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} is `{value}`, which ")), "{error}");
        }
    }

    #[test]
    fn a_public_log_is_kept_discreet_unless_debugging() {
        let public = ("BITBUCKET_REPO_IS_PRIVATE", "false");
        assert!(settings_with(&[public]).unwrap().discreet);
        assert!(!settings_with(&[public, ("DEBUG", "true")]).unwrap().discreet);
    }
}
