//! tbot.yaml in version v2, for the output `identity` (docs/protocol.md, "tbot.yaml").
//!
//! What tbot accepts is accepted the same way. A key that only tbot has is refused by name and line, unless it makes no
//! difference to a run that joins once. A key that does not exist is refused, too, which tbot does not do: it ignores such
//! keys, so that a misspelled `roles` gives all roles (docs/decisions.md, 18).

mod error;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use self::error::Error;
use self::error::Problem;
use crate::address::{ClusterName, HostPort};
use crate::choice::choose;
use crate::destination::UnknownFiles;
use crate::invalid::Invalid;
use crate::join::kind::{self, Kind};
use crate::join_uri::JoinUri;
use crate::limits::TBOT_YAML_SIZE;
use crate::output::identity::Identity;
use crate::platform::command::{TIMEOUT, TokenCommand};
use crate::platform::{self, TokenSource};
use crate::regular_file;
use crate::settings::DestinationSettings;
use crate::text::sanitize;
use crate::values::{self, JoinToken, Ttl};
use crate::yaml::Tree;
use crate::yaml::section::Section;

/// What a tbot.yaml says. What is `None` or empty is not in it.
#[derive(Debug, Default)]
pub(crate) struct TbotYaml {
    pub(crate) proxy: Option<HostPort>,
    /// `auth_server`, which counts if there is no proxy.
    pub(crate) auth: Option<HostPort>,
    pub(crate) join_uri: Option<JoinUri>,
    pub(crate) token: Option<JoinToken>,
    pub(crate) method: Option<Kind>,
    /// The variables and files that a method reads instead of its own.
    pub(crate) sources: Sources,
    pub(crate) services: Vec<YamlService>,
    /// The lifetime for services that name none.
    pub(crate) ttl: Option<Ttl>,
    pub(crate) oneshot: bool,
    pub(crate) debug: bool,
}

/// Where ID tokens are, if not in their platforms' usual places: join methods and sources.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<(&'static str, TokenSource)>);

impl Sources {
    /// That of the method.
    pub(crate) fn take(&mut self, method: Option<Kind>) -> Option<TokenSource> {
        let at = self.0.iter().position(|(name, _)| method.is_some_and(|method| method.name() == *name))?;
        Some(self.0.swap_remove(at).1)
    }
}

/// An output.
#[derive(Debug)]
pub(crate) struct YamlService {
    pub(crate) name: Option<String>,
    pub(crate) output: Identity,
    pub(crate) destination: DestinationSettings,
    pub(crate) ttl: Option<Ttl>,
}

/// A key that only tbot has: why this program does not have it, and what to do.
type Missing = (&'static str, &'static str);

const ONBOARDING: &[Missing] = &[
    (
        "ca_pins",
        "Leave it out: a pin replaces the check of the Auth Service's certificate, but teleport-pipe connects to the proxy, \
         whose certificate it always checks. If the proxy has a certificate of a private authority, name its file in \
         SSL_CERT_FILE.",
    ),
    ("ca_path", "Leave it out. If the proxy has a certificate of a private authority, name the file in SSL_CERT_FILE."),
    ("bound_keypair", "The join method is planned. Until then keep tbot, or use another join method."),
];

const SERVICE: &[Missing] = &[("delegation_session_id", "Leave it out, or keep tbot for this output.")];

const DESTINATION: &[Missing] = &[(
    "readers",
    "Leave it out, and run this as the user who will read the files: access control lists are not written.",
)];

/// Types of services of tbot.
const OTHER_TYPES: &[&str] = &[
    "identity/key-agent",
    "application",
    "application-tunnel",
    "application-proxy",
    "database",
    "database-tunnel",
    "kubernetes",
    "kubernetes/v2",
    "kubernetes/argo-cd",
    "ssh_host",
    "ssh-multiplexer",
    "workload-identity-x509",
    "workload-identity-jwt",
    "workload-identity-api",
    "workload-identity-aws-roles-anywhere",
    "spiffe-svid",
    "spiffe-workload-api",
];

impl TbotYaml {
    /// Reads a file. Its path may be a symbolic link.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let name = sanitize(&path.display().to_string());
        let failed = |problem| Error { file: name.clone(), problem };
        let bytes = regular_file::read(path, TBOT_YAML_SIZE).map_err(|error| failed(Problem::Unreadable(error)))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| failed(Problem::NotText))?;
        Self::parse(&name, text)
    }

    /// Reads the text of a file of this name.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Error> {
        Self::from_text(text).map_err(|problem| Error { file: file.to_owned(), problem })
    }

    fn from_text(text: &str) -> Result<Self, Problem> {
        let tree = Tree::parse(text)?;
        let root = tree.root().ok_or(Problem::Empty)?;
        if let Some((line, key)) = tree.repeated_key() {
            return Err(Problem::Repeated { line, key: sanitize(key) });
        }
        let mut file = Section::new("the file", root)?;
        match file.text("version")? {
            Some("v2") => {}
            version => {
                return Err(Problem::Version {
                    line: file.line_of("version").unwrap_or(file.line),
                    found: version.map(sanitize),
                });
            }
        }
        let proxy: Option<HostPort> = file.parsed("proxy_server")?;
        let auth: Option<HostPort> = file.parsed_by("auth_server", auth_server)?;
        let join_uri = file.parsed_by("join_uri", JoinUri::parse)?;
        let mut this = Self {
            proxy,
            auth,
            join_uri,
            oneshot: file.parsed_by("oneshot", values::boolean)?.unwrap_or_default(),
            debug: file.parsed_by("debug", values::boolean)?.unwrap_or_default(),
            ..Self::default()
        };
        let alias: Option<Ttl> = file.parsed_by("certificate_ttl", go_ttl)?;
        this.ttl = file.parsed_by("credential_ttl", go_ttl)?.or(alias);
        file.parsed_by("renewal_interval", go_duration)?;
        for (key, instead) in [
            (
                "insecure",
                "Leave it out: certificates are always checked. If the proxy has a certificate of a private authority, name its file in SSL_CERT_FILE.",
            ),
            (
                "fips",
                "Leave it out, or use a build of tbot for FIPS: the cryptography of teleport-pipe is not validated by FIPS 140.",
            ),
        ] {
            if file.parsed_by(key, values::boolean)?.unwrap_or_default() {
                return Err(Problem::unsupported(&file, key, instead));
            }
        }
        // The address of the diagnosis and the format of the log make no difference to the result.
        for key in ["diag_addr", "log", "log_format"] {
            file.ignore(key);
        }
        if let Some(storage) = file.destination("storage")? {
            this.expect_storage(&storage)?;
        }
        if let Some(onboarding) = file.section("onboarding")? {
            this.onboarding(onboarding)?;
        }
        for key in ["services", "outputs"] {
            for service in file.sections(key)? {
                let line = service.line;
                let service = service_of(service)?;
                let is_same = |other: &YamlService| other.name.is_some() && other.name == service.name;
                if let Some(name) = service.name.clone().filter(|_| this.services.iter().any(is_same)) {
                    return Err(Problem::Repeated { line, key: name });
                }
                this.services.push(service);
            }
        }
        file.finish()?;
        Ok(this)
    }

    /// A run that joins once needs no state, but what it would keep is not kept.
    fn expect_storage(&self, storage: &YamlDestination) -> Result<(), Problem> {
        match storage {
            YamlDestination::Memory | YamlDestination::Directory(_) => Ok(()),
            YamlDestination::Other { line, kind } => Err(Problem::Unsupported {
                line: *line,
                what: format!("the storage `{}`", sanitize(kind)),
                instead: "Write `storage: {type: memory}`: every run joins anew.",
            }),
        }
    }

    fn onboarding(&mut self, mut section: Section<'_>) -> Result<(), Problem> {
        self.token = section.parsed_by("token", values::join_token)?;
        self.method = section.parsed_by("join_method", kind::by_name)?;
        for platform in platform::ALL {
            let Some(other) = &platform.other_source else { continue };
            let Some(mut section) = section.section(other.section)? else { continue };
            let mut source = section.parsed_by(other.key, other.source)?;
            if let Some((command, timeout)) = other.command {
                let words: Vec<_> = section.list(command)?.into_iter().map(str::to_owned).collect();
                let timeout = section.parsed_by(timeout, go_timeout)?.unwrap_or(TIMEOUT);
                if source.is_none() && !words.is_empty() {
                    source = Some(TokenSource::Command(TokenCommand { words, timeout }));
                }
            }
            self.sources.0.extend(source.map(|source| (platform.method, source)));
            section.finish()?;
        }
        // Of the method `azure`, which is refused by its name.
        section.ignore("azure");
        refuse(&mut section, ONBOARDING)?;
        Ok(section.finish()?)
    }

    /// Takes what the join URI says, if there is one. What is set already must be equal.
    pub(crate) fn apply_join_uri(&mut self) -> Result<(), Invalid> {
        let Some(uri) = self.join_uri.take() else { return Ok(()) };
        let conflict = |what: &str| {
            Invalid::new(
                format!("names {what}, which is set elsewhere, too"),
                "Leave one of them out: the join URI does not override the other.",
            )
        };
        if self.proxy.is_some() || self.auth.is_some() {
            return Err(conflict("the proxy"));
        }
        if self.token.is_some() {
            return Err(conflict("the join token"));
        }
        if self.method.is_some_and(|method| method.name() != uri.method.name()) {
            return Err(conflict("the join method"));
        }
        let parameter = uri.parameter.filter(|text| !text.is_empty());
        if let (Kind::IdToken(platform), Some(text)) = (uri.method, parameter)
            && let Some(other) = platform.other_source.as_ref().filter(|other| other.is_parameter)
        {
            self.sources.0.insert(0, (platform.method, (other.source)(&text)?));
        }
        (self.proxy, self.token, self.method) = (Some(uri.addr), Some(uri.token), Some(uri.method));
        Ok(())
    }
}

/// Refuses the first of these keys that has a value.
fn refuse(section: &mut Section<'_>, keys: &[Missing]) -> Result<(), Problem> {
    for (key, instead) in keys {
        if section.is_set(key) {
            return Err(Problem::unsupported(section, key, instead));
        }
    }
    Ok(())
}

fn service_of(mut section: Section<'_>) -> Result<YamlService, Problem> {
    let line = section.line;
    match section.text("type")? {
        Some("identity") => {}
        Some(kind) if OTHER_TYPES.contains(&kind) => {
            return Err(Problem::Unsupported {
                line,
                what: format!("the output `{kind}`"),
                instead: "Keep tbot for it, with a file of its own: teleport-pipe writes the output `identity` only.",
            });
        }
        kind => return Err(Problem::NoSuchType { line, kind: kind.map(sanitize) }),
    }
    let destination = section.destination("destination")?.ok_or(Problem::NoDestination { line })?;
    let path = match destination {
        YamlDestination::Directory(path) => path,
        YamlDestination::Memory => {
            return Err(Problem::Unsupported {
                line,
                what: "an output in memory".to_owned(),
                instead: "Name a directory: `destination: {type: directory, path: ./tbot-user}`.",
            });
        }
        YamlDestination::Other { line, kind } => {
            return Err(Problem::Unsupported {
                line,
                what: format!("the destination `{}`", sanitize(&kind)),
                instead: "Name a directory: `destination: {type: directory, path: ./tbot-user}`.",
            });
        }
    };
    let cluster: Option<ClusterName> = section.parsed_by("cluster", values::cluster)?;
    let ssh_config =
        section.parsed_by("ssh_config", |text| choose(text, &[("on", true), ("off", false)]))?.unwrap_or(true);
    let roles = section.texts("roles")?.into_iter().map(str::to_owned).collect();
    let ttl = section.parsed_by("credential_ttl", go_ttl)?;
    let interval = section.parsed_by("renewal_interval", go_duration)?;
    if ttl.is_some() != interval.is_some() {
        return Err(Problem::HalfALifetime { line });
    }
    if section.parsed_by("allow_reissue", values::boolean)?.unwrap_or_default() {
        let instead = "Leave it out: the certificates cannot be used to request others. Or keep tbot for this output.";
        return Err(Problem::unsupported(&section, "allow_reissue", instead));
    }
    let name = section.parsed_by("name", service_name)?;
    refuse(&mut section, SERVICE)?;
    section.finish()?;
    let destination = DestinationSettings { path, unknown_files: UnknownFiles::Keep, owner: None };
    Ok(YamlService { name, output: Identity { cluster, agent: true, roles, ssh_config }, destination, ttl })
}

/// Where something is kept.
#[derive(Debug)]
enum YamlDestination {
    Directory(PathBuf),
    Memory,
    Other { line: usize, kind: String },
}

impl Section<'_> {
    /// A destination: a mapping with a `type`.
    fn destination(&mut self, key: &'static str) -> Result<Option<YamlDestination>, Problem> {
        let Some(mut section) = self.section(key)? else { return Ok(None) };
        let destination = match section.text("type")? {
            Some("memory") => YamlDestination::Memory,
            Some("directory") => {
                let path = section.parsed_by("path", values::destination)?;
                let path = path.ok_or(Problem::NoPath { line: section.line })?;
                // Symbolic links are refused in any case.
                section.parsed_by("symlinks", |text| choose(text, &[("try-secure", ()), ("secure", ())]))?;
                section.parsed_by("acls", |text| choose(text, &[("off", ()), ("try", ())]))?;
                refuse(&mut section, DESTINATION)?;
                YamlDestination::Directory(path)
            }
            Some(kind) => return Ok(Some(YamlDestination::Other { line: section.line, kind: kind.to_owned() })),
            None => return Err(Problem::NoSuchType { line: section.line, kind: None }),
        };
        section.finish()?;
        Ok(Some(destination))
    }
}

/// `auth_server`, which clusters take for the proxy's address, too, as long as it is one.
pub(crate) fn auth_server(text: &str) -> Result<HostPort, Invalid> {
    let addr: HostPort = text.parse()?;
    match addr.port {
        3025 => Err(Invalid::new(
            "is the address of the Auth Service",
            "Write the proxy's address, `proxy_server: example.teleport.sh:443`: the Auth Service is reached through it.",
        )),
        _ => Ok(addr),
    }
}

/// A duration as Go writes it: without days and weeks, which tbot's command line has.
fn expect_go(text: &str) -> Result<(), Invalid> {
    let units = text.trim_start_matches('-').chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect::<String>();
    let is_go = !units.is_empty() && units.chars().all(|c| "hmsuµn".contains(c));
    match is_go {
        true => Ok(()),
        false => Err(Invalid::new(
            "is not a duration in a tbot.yaml",
            "Write hours, minutes and seconds, such as 1h30m or 24h.",
        )),
    }
}

fn go_ttl(text: &str) -> Result<Ttl, Invalid> {
    expect_go(text)?;
    text.parse()
}

fn go_duration(text: &str) -> Result<(), Invalid> {
    expect_go(text)?;
    match text.starts_with('-') {
        true => Err(Invalid::new("is negative", "Write a duration such as 20m.")),
        false => Ok(()),
    }
}

fn go_timeout(text: &str) -> Result<Duration, Invalid> {
    expect_go(text)?;
    let timeout = humantime::parse_duration(text).unwrap_or_default();
    match timeout.is_zero() {
        true => Err(Invalid::new("is not the time that a program may take", "Write a duration such as 60s.")),
        false => Ok(timeout),
    }
}

/// The name of a service: lower-case letters, digits and `-`, `_`, `+`.
fn service_name(text: &str) -> Result<String, Invalid> {
    // Names of parts of tbot.
    let reserved = ["ca-rotation", "crl-cache", "heartbeat", "identity", "spiffe-trust-bundle-cache"];
    if reserved.contains(&text) {
        return Err(Invalid::new("is a name that tbot itself uses", "Choose another one."));
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '+');
    match !text.is_empty() && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("is not a name of a service", "Use lower-case letters, digits, `-`, `_` and `+`.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
version: v2
proxy_server: example.teleport.sh:443
onboarding: &base
  join_method: gitlab
  token: 00123
  gitlab: {token_env_var_name: MY_TOKEN}
  azure :
storage: {type: memory}
credential_ttl: 1h30m
oneshot: yes
outputs:
  - type: identity
    name: first
    roles: [a, b]
    destination: &at {type: directory, path: ./a, symlinks: secure}
  - type: identity
    destination:
      <<: *at
      path: /b
    cluster: leaf.example
    ssh_config: off
services:
---
not: read
";

    #[test]
    fn what_a_file_says() {
        let mut file = TbotYaml::parse("tbot.yaml", FILE).unwrap();
        assert_eq!(file.proxy.as_ref().unwrap().to_string(), "example.teleport.sh:443");
        assert!(matches!(&file.token, Some(JoinToken::Name(name)) if name.reveal() == "00123"));
        assert!(matches!(file.sources.take(file.method), Some(TokenSource::Variable(name)) if name == "MY_TOKEN"));
        assert!(file.oneshot && !file.debug && file.ttl.unwrap().0.as_secs() == 5400);
        let services: Vec<_> =
            file.services.iter().map(|service| (&service.destination.path, &service.output)).collect();
        assert_eq!(services[0].0, Path::new("./a"));
        assert_eq!(services[0].1.roles, ["a", "b"]);
        assert_eq!((services[1].0.as_path(), services[1].1.ssh_config), (Path::new("/b"), false));
        assert_eq!(file.services[0].name.as_deref(), Some("first"));
    }

    #[test]
    fn durations_are_those_of_go() {
        for text in ["1h", "1h30m", "90m0s", "24h"] {
            assert!(go_ttl(text).is_ok(), "{text}");
        }
        for text in ["3600", "0", "90", "1d", "1w", "1y", "", "-1h", "1 h", "1H"] {
            assert!(go_ttl(text).is_err(), "{text}");
        }
    }

    /// A small generator of numbers, so that a failure can be repeated (Marsaglia's xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % limit as u64).unwrap()
        }
    }

    /// Whatever a file holds: no panic, no endless work, and lines that exist.
    #[test]
    fn files_with_random_changes_are_read_or_refused() {
        let pieces = [
            "", " ", ":", "-", "\n", "  ", "*at", "&x ", "<<: ", "[", "]", "{", "}", "\"", "'", "~", "v1", "\u{1b}",
            "ü", "---\n",
        ];
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..3000 {
            let mut text: Vec<char> = FILE.chars().collect();
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(text.len());
                let end = (at + numbers.below(4)).min(text.len());
                let piece = pieces[numbers.below(pieces.len())];
                text.splice(at..end, piece.chars());
            }
            let text: String = text.into_iter().collect();
            match TbotYaml::parse("tbot.yaml", &text) {
                Ok(_) => read += 1,
                Err(error) => {
                    refused += 1;
                    let error = error.to_string();
                    let line = error
                        .split_once("line ")
                        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
                    assert!(line.is_none_or(|line| line >= 1 && line <= text.lines().count() + 1), "{error}\n{text}");
                    assert!(!error.contains('\u{1b}'), "{error:?}");
                }
            }
        }
        assert!(read > 20 && refused > 1000, "{read} {refused}");
    }
}
