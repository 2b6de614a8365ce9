//! Where a platform's ID token is, and finding it there.

use std::path::PathBuf;

use super::command::TokenCommand;
use super::endpoint::{Endpoint, TokenRequest};
use super::{Error, IdToken, Platform};
use crate::environment::Environment;
use crate::invalid::Invalid;
use crate::limits::ID_TOKEN_SIZE;
use crate::net::network::Network;
use crate::regular_file;
use crate::retry::Deadline;

/// Where the ID token is.
pub(crate) enum Source {
    /// In this environment variable.
    Variable(&'static str),
    /// In the file that this variable names, or else in this one.
    File { variable: &'static str, path: &'static str },
    /// An HTTP endpoint issues it.
    Endpoint(Endpoint),
    /// Where a person says.
    Named,
}

/// What names another place of an ID token in a tbot.yaml: the key of a section of `onboarding`.
pub(crate) struct OtherSource {
    pub(crate) section: &'static str,
    pub(crate) key: &'static str,
    /// The keys of a program that prints it, and of the program's timeout.
    pub(crate) command: Option<(&'static str, &'static str)>,
    /// Whether the parameter of a join URI means the same.
    pub(crate) is_parameter: bool,
    /// What a value of the key means.
    pub(crate) source: fn(&str) -> Result<TokenSource, Invalid>,
}

/// Another place than the one where the platform puts it, as a person named it.
#[derive(Clone, Debug)]
pub(crate) enum TokenSource {
    /// In this environment variable.
    Variable(String),
    /// In this file.
    File(PathBuf),
    /// This program prints it.
    Command(TokenCommand),
}

/// An ID token, or how to get it.
#[derive(Debug)]
pub(crate) enum Found {
    IdToken(IdToken),
    /// It has to be issued first.
    Pending(&'static Platform, Pending),
}

/// What issues an ID token.
#[derive(Debug)]
pub(crate) enum Pending {
    Request(TokenRequest),
    Command(TokenCommand),
}

impl Pending {
    /// # Errors
    /// It issues none.
    pub(crate) async fn issue(
        &self,
        platform: &'static Platform,
        network: &Network,
        deadline: Deadline,
    ) -> Result<IdToken, Error> {
        match self {
            Self::Request(request) => request.send(platform, network, deadline).await,
            Self::Command(command) => command.run(platform, deadline).await,
        }
    }
}

impl Found {
    pub(crate) fn platform(&self) -> &'static Platform {
        match self {
            Self::IdToken(token) => token.platform(),
            Self::Pending(platform, _) => platform,
        }
    }

    /// The ID token, if there is one already.
    pub(crate) fn id_token(&self) -> Option<&IdToken> {
        match self {
            Self::IdToken(token) => Some(token),
            Self::Pending(..) => None,
        }
    }
}

impl Source {
    /// Whether the environment has the ID token, or the address of its endpoint. A file tells nothing of what runs here.
    pub(super) fn is_in(&self, env: &Environment) -> bool {
        match self {
            Self::Variable(variable) => env.get(variable).is_some(),
            Self::File { variable, .. } => env.get(variable).is_some(),
            Self::Endpoint(endpoint) => endpoint.is_in(env),
            Self::Named => false,
        }
    }

    /// What an ID token can be had for.
    pub(super) fn secret<'a>(&self, env: &'a Environment) -> Option<&'a str> {
        if let Self::Endpoint(endpoint) = self { endpoint.secret(env) } else { None }
    }

    /// # Errors
    /// There is no ID token, or it cannot be used.
    pub(super) fn find(&'static self, platform: &'static Platform, env: &Environment) -> Result<Found, Error> {
        match self {
            Self::Variable(variable) => from_variable(platform, variable, env),
            Self::File { variable, path } => from_file(platform, env.get(variable).unwrap_or(path).into()),
            Self::Endpoint(endpoint) => {
                Ok(Found::Pending(platform, Pending::Request(endpoint.request(platform, env)?)))
            }
            Self::Named => Err(Error::NotNamed { platform }),
        }
    }
}

impl TokenSource {
    /// # Errors
    /// There is no ID token, or it cannot be used.
    pub(crate) fn find(&self, platform: &'static Platform, env: &Environment) -> Result<Found, Error> {
        match self {
            Self::Variable(variable) => from_variable(platform, variable, env),
            Self::File(path) => from_file(platform, path.clone()),
            Self::Command(command) => Ok(Found::Pending(platform, Pending::Command(command.clone()))),
        }
    }
}

impl Platform {
    /// The ID token, or how to get it; from `source` if a person named one.
    ///
    /// # Errors
    /// There is no ID token, or it cannot be used.
    pub(crate) fn find(&'static self, source: Option<&TokenSource>, env: &Environment) -> Result<Found, Error> {
        match source {
            Some(source) => source.find(self, env),
            None => self.source.find(self, env),
        }
    }
}

fn from_variable(platform: &'static Platform, variable: &str, env: &Environment) -> Result<Found, Error> {
    let Some(text) = env.get(variable) else {
        return Err(Error::Missing { platform, variable: variable.to_owned() });
    };
    from_text(platform, text, || variable.to_owned())
}

fn from_file(platform: &'static Platform, path: PathBuf) -> Result<Found, Error> {
    let bytes = match regular_file::read(&path, ID_TOKEN_SIZE) {
        Ok(bytes) => bytes,
        Err(source) => return Err(Error::File { platform, path, source }),
    };
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    from_text(platform, text, || path.display().to_string())
}

fn from_text(platform: &'static Platform, text: &str, place: impl FnOnce() -> String) -> Result<Found, Error> {
    let token = IdToken::parse(platform, text).ok_or_else(|| Error::NotAJwt { platform, place: place() })?;
    // Anything else is not sent, and may be the name of the place, which the error says.
    crate::log::hide(text);
    Ok(Found::IdToken(token))
}
