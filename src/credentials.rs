//! The checks of issued certificates, before anything of them is written.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use ssh_key::certificate::CertType;
use ssh_key::{Certificate, Fingerprint, HashAlg};
use teleport_api::proto::Certs;
use teleport_api::types::{CaKeySet, CertAuthorityV2};

use crate::address::ClusterName;
use crate::clock::{Offset, approximate};
use crate::error::{Advice, Exit, Explain};
use crate::keys::KeyPair;
use crate::limits::{self, TooMany, expect_at_most};
use crate::net::crypto::provider;
use crate::text::sanitize;
use crate::x509::X509;

/// A certificate may live this much longer than requested, because clocks differ by seconds.
const TOLERANCE: Duration = Duration::from_secs(60);

pub(crate) struct Credentials {
    pub(crate) key: KeyPair,
    /// One line without a comment, encoded again, so that nothing else that Auth sent gets into a file.
    pub(crate) ssh_certificate: String,
    pub(crate) tls_certificate: X509,
    pub(crate) cluster: ClusterName,
    pub(crate) user: String,
    pub(crate) roles: Vec<String>,
    /// Principals that nodes may accept.
    pub(crate) logins: Vec<String>,
    /// Options of the SSH certificate that limit its use (OpenSSH's PROTOCOL.certkeys).
    pub(crate) critical_options: Vec<String>,
    /// When the first of the two certificates expires.
    pub(crate) expires: SystemTime,
    /// The host CAs: the root cluster's first, then those of leaf clusters.
    pub(crate) host_authorities: Vec<Authority>,
    pub(crate) user_authorities: Vec<Authority>,
    /// The number of leaf clusters that were left out, because their names differ from another's in case only.
    pub(crate) namesakes: usize,
}

/// The keys of one CA of one cluster: active ones, then additional trusted ones.
pub(crate) struct Authority {
    pub(crate) cluster: ClusterName,
    pub(crate) ssh: Vec<SshAuthority>,
    pub(crate) tls: Vec<X509>,
}

impl Authority {
    /// Parses the CAs in an answer of Auth, the root cluster's first, each cluster once. Also returns how many were left
    /// out because of their names: host names have no case, so that ssh would trust both clusters for the nodes of each.
    /// A CA that cannot be parsed is left out, too: a broken leaf cluster must not make the root cluster unusable.
    fn parse_all(list: Vec<CertAuthorityV2>, root: &ClusterName) -> Result<(Vec<Self>, usize), TooMany> {
        expect_at_most(limits::CLUSTERS, list.len(), "clusters")?;
        let keys = list.iter().map(|authority| key_sets(authority).map(|set| set.ssh.len().max(set.tls.len())).sum());
        expect_at_most(limits::AUTHORITY_KEYS, keys.max().unwrap_or_default(), "keys of one certificate authority")?;
        let mut authorities: Vec<Self> = list.into_iter().filter_map(Self::parse).collect();
        authorities.sort_by_key(|authority| authority.cluster != *root);
        let mut names = BTreeSet::new();
        authorities.retain(|authority| names.insert(authority.cluster.clone()));
        let all = authorities.len();
        let mut folded = BTreeSet::new();
        authorities.retain(|authority| folded.insert(authority.cluster.as_str().to_ascii_lowercase()));
        let left_out = all - authorities.len();
        Ok((authorities, left_out))
    }

    fn parse(authority: CertAuthorityV2) -> Option<Self> {
        let cluster = authority.spec.as_ref()?.cluster_name.parse().ok()?;
        let sets = || key_sets(&authority);
        let lines = sets().flat_map(|set| &set.ssh).filter_map(|pair| std::str::from_utf8(&pair.public_key).ok());
        let ssh = lines.filter_map(|line| SshAuthority::parse(line.trim()));
        let ssh: Vec<_> = ssh.collect();
        let tls = sets().flat_map(|set| &set.tls).filter_map(|pair| X509::from_pem(&pair.cert).ok());
        // Nothing can be verified without an SSH key.
        (!ssh.is_empty()).then(|| Self { cluster, ssh, tls: tls.collect() })
    }
}

/// The active keys, then the additional trusted ones.
fn key_sets(authority: &CertAuthorityV2) -> impl Iterator<Item = &CaKeySet> {
    let sets = authority.spec.iter().map(|spec| [&spec.active_keys, &spec.additional_trusted_keys]);
    sets.flatten().flatten()
}

pub(crate) struct SshAuthority {
    /// Algorithm and key, encoded again without a comment, so that nothing else of the line gets into a file.
    pub(crate) line: String,
    fingerprint: Fingerprint,
}

impl SshAuthority {
    /// Parses a line of `authorized_keys`, which is also the format of Auth.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut key = ssh_key::PublicKey::from_openssh(line).ok()?;
        key.set_comment("");
        Some(Self { line: key.to_openssh().ok()?, fingerprint: key.fingerprint(HashAlg::Sha256) })
    }
}

/// What the Auth Service answers, not yet checked.
pub(crate) struct Response {
    pub(crate) certs: Certs,
    pub(crate) host_authorities: Vec<CertAuthorityV2>,
    pub(crate) user_authorities: Vec<CertAuthorityV2>,
}

/// What the certificates were requested with.
pub(crate) struct Expected {
    pub(crate) key: KeyPair,
    pub(crate) cluster: ClusterName,
    /// The host CAs that the join returned, by which Auth was verified.
    pub(crate) trusted_authorities: Vec<CertificateDer<'static>>,
    pub(crate) expires: SystemTime,
    /// The time of our clock.
    pub(crate) now: SystemTime,
    pub(crate) clock: Offset,
}

pub(crate) fn check(expected: Expected, response: Response) -> Result<Credentials, Error> {
    let Expected { key, cluster, trusted_authorities, expires, now, clock } = expected;
    let Response { certs, host_authorities, user_authorities } = response;
    let (host_authorities, namesakes) = Authority::parse_all(host_authorities, &cluster)?;
    let (user_authorities, _) = Authority::parse_all(user_authorities, &cluster)?;
    let user = root_ca(&user_authorities, &cluster, "user")?;
    let host = root_ca(&host_authorities, &cluster, "host")?;
    // During a rotation both lists have old and new keys. Lists with nothing in common are those of two clusters.
    if !host.tls.iter().any(|certificate| trusted_authorities.contains(certificate.der())) {
        return Err(Error::OtherHostAuthority);
    }

    let ssh = ssh_certificate(&certs.ssh).ok_or(Error::Unreadable("SSH certificate"))?;
    let tls = X509::from_pem(&certs.tls).map_err(|_| Error::Unreadable("TLS certificate"))?;

    let ssh_key = key.public_ssh().map_err(|_| Error::Unreadable("key"))?;
    let tls_key = key.public_der().map_err(|_| Error::Unreadable("key"))?;
    if ssh.public_key() != ssh_key.key_data() || ssh.cert_type() != CertType::User {
        return Err(Error::OtherKey("SSH"));
    }
    if tls.public_key_der() != tls_key {
        return Err(Error::OtherKey("TLS"));
    }
    check_lifetime("SSH", ssh.valid_after_time(), ssh.valid_before_time(), expires, now, clock)?;
    check_lifetime("TLS", tls.not_before(), tls.not_after(), expires, now, clock)?;
    check_signatures(user, &ssh, &tls, clock.cluster_time(now))?;

    check_options(&ssh)?;
    expect_at_most(limits::PRINCIPALS, ssh.valid_principals().len(), "principals")?;
    if ssh.valid_principals().is_empty() {
        return Err(Error::NoPrincipals);
    }
    // The others are Teleport's own (docs/protocol.md, "Issued certificates").
    let logins = ssh.valid_principals().iter().filter(|name| !name.starts_with("-teleport-")).cloned();
    Ok(Credentials {
        expires: ssh.valid_before_time().min(tls.not_after()),
        user: tls.common_name().unwrap_or_default(),
        roles: tls.organizations(),
        key,
        ssh_certificate: ssh.to_openssh().map_err(|_| Error::Unreadable("SSH certificate"))?,
        tls_certificate: tls,
        cluster,
        logins: logins.collect(),
        critical_options: ssh.critical_options().keys().cloned().collect(),
        host_authorities,
        user_authorities,
        namesakes,
    })
}

/// Parses a certificate as a line of text, without the comment at its end, which could hold anything.
fn ssh_certificate(line: &[u8]) -> Option<Certificate> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    Certificate::from_openssh(&format!("{} {}", words.next()?, words.next()?)).ok()
}

fn root_ca<'a>(
    authorities: &'a [Authority],
    cluster: &ClusterName,
    kind: &'static str,
) -> Result<&'a Authority, Error> {
    let found = authorities.iter().find(|authority| authority.cluster == *cluster);
    found.filter(|authority| !authority.ssh.is_empty() && !authority.tls.is_empty()).ok_or(Error::NoAuthority(kind))
}

fn check_lifetime(
    kind: &'static str,
    after: SystemTime,
    before: SystemTime,
    requested: SystemTime,
    now: SystemTime,
    clock: Offset,
) -> Result<(), Error> {
    if let Ok(ago) = clock.cluster_time(now).duration_since(before) {
        return Err(Error::Expired { kind, ago: approximate(ago) });
    }
    // By our clock, because the programs that read the files here use it.
    if after > now {
        let ahead = approximate(after.duration_since(now).unwrap_or_default());
        return Err(Error::NotYetValid { kind, ahead, clock });
    }
    match before.duration_since(requested) {
        Ok(longer) if longer > TOLERANCE => {
            let longer = humantime::format_duration(Duration::from_secs(longer.as_secs()));
            Err(Error::TooLong { kind, longer })
        }
        _ => Ok(()),
    }
}

/// sshd refuses a certificate with an unknown critical option without saying why.
fn check_options(ssh: &Certificate) -> Result<(), Error> {
    // PROTOCOL.certkeys.
    const KNOWN: [&str; 3] = ["force-command", "source-address", "verify-required"];
    let unknown = ssh.critical_options().keys().find(|name| !KNOWN.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| Err(Error::CriticalOption(sanitize(name))))
}

/// Checks that the user CA signed both certificates. For TLS this is the code that servers with rustls use.
fn check_signatures(authority: &Authority, ssh: &Certificate, tls: &X509, now: SystemTime) -> Result<(), Error> {
    let fingerprints: Vec<Fingerprint> = authority.ssh.iter().map(|key| key.fingerprint).collect();
    // Validated at its first second, because `check_lifetime` has checked the current time with a clearer error.
    ssh.validate_at(ssh.valid_after(), &fingerprints).map_err(|_| Error::NotSigned("SSH"))?;

    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authority.tls.iter().map(|certificate| certificate.der().clone()));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider()).build();
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map(rustls::pki_types::UnixTime::since_unix_epoch);
    match (verifier, now) {
        (Ok(verifier), Ok(now)) if verifier.verify_client_cert(tls.der(), &[], now).is_ok() => Ok(()),
        _ => Err(Error::NotSigned("TLS")),
    }
}

/// What is wrong with the issued certificates. Except for clocks, the cluster, or something in front of it, does not
/// behave like Teleport.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("the {0} from the cluster cannot be read")]
    Unreadable(&'static str),
    /// The certificate is for another key, or for a host.
    #[error("the {0} certificate from the cluster is not for the key that was sent")]
    OtherKey(&'static str),
    #[error("the SSH certificate from the cluster names no principals")]
    NoPrincipals,
    #[error("the SSH certificate from the cluster has the critical option `{0}`, which OpenSSH does not know")]
    CriticalOption(String),
    #[error("the {kind} certificate from the cluster expired {ago} ago")]
    Expired { kind: &'static str, ago: humantime::FormattedDuration },
    #[error("the {kind} certificate from the cluster becomes valid only in {ahead}: the clock here is {clock}")]
    NotYetValid { kind: &'static str, ahead: humantime::FormattedDuration, clock: Offset },
    #[error("the {kind} certificate from the cluster is valid {longer} longer than requested")]
    TooLong { kind: &'static str, longer: humantime::FormattedDuration },
    #[error("the {0} certificate from the cluster is not signed by its user CA")]
    NotSigned(&'static str),
    #[error("the cluster's host CA is not the one that it named at the join")]
    OtherHostAuthority,
    #[error("the cluster returned no {0} CA of its own")]
    NoAuthority(&'static str),
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        match self {
            Self::TooMany(error) => error.advice(),
            Self::Expired { .. } => Advice::new(
                Exit::Refused,
                NOT_RIGHT,
                "Run the step again. Nothing was written. If it keeps failing, tell the administrator of the cluster.",
            )
            .cause("By the cluster's own clock the certificate had expired when it came: its servers' clocks differ."),
            Self::NotYetValid { .. } => Advice::new(Exit::Network, CLOCKS_DIFFER, "Correct the clock of the runner.")
                .cause("The clock here is behind the cluster's."),
            Self::NotSigned(_) => Advice::new(
                Exit::Refused,
                NOT_RIGHT,
                "Run the step again. Nothing was written. If it keeps failing, tell the administrator of the cluster.",
            )
            .cause("The user CA was rotated at this very moment."),
            Self::Unreadable(_)
            | Self::OtherKey(_)
            | Self::NoPrincipals
            | Self::CriticalOption(_)
            | Self::TooLong { .. }
            | Self::OtherHostAuthority
            | Self::NoAuthority(_) => Advice::new(
                Exit::Refused,
                NOT_RIGHT,
                "Nothing was written. Tell the administrator of the cluster, and quote this message: Teleport itself \
                 does not answer like this.",
            ),
        }
    }
}

const CLOCKS_DIFFER: &str = "the-clocks-differ";
const NOT_RIGHT: &str = "the-certificates-are-not-right";

#[cfg(test)]
mod tests {
    use rand_core::OsRng;
    use ssh_key::{Algorithm, PrivateKey, certificate::Builder};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lifetime_includes_now_and_is_not_longer_than_requested() {
        let requested = at(4600);
        let check =
            |after, before| check_lifetime("SSH", at(after), at(before), requested, at(1000), Offset::default());
        assert!(check(940, 4600).is_ok() && check(1000, 4660).is_ok() && check(0, 1001).is_ok());
        assert!(matches!(check(940, 1000), Err(Error::Expired { .. })));
        assert!(matches!(check(1001, 4600), Err(Error::NotYetValid { .. })));
        assert!(matches!(check(940, 4661), Err(Error::TooLong { .. })));
    }

    #[test]
    fn an_unknown_critical_option_is_refused() {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
        let with = |name: &str| {
            let mut builder = Builder::new_with_random_nonce(&mut OsRng, key.public_key(), 0, 1).unwrap();
            builder.valid_principal("x").unwrap().critical_option(name, "").unwrap();
            check_options(&builder.sign(&key).unwrap())
        };
        assert!(with("source-address").is_ok());
        assert!(matches!(with("only-on-tuesdays@example.com"), Err(Error::CriticalOption(_))));
    }
}
