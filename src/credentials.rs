//! What the cluster issued, checked before a byte of it is written.

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
use crate::error::{Exit, Explain};
use crate::keys::KeyPair;
use crate::net::crypto::provider;
use crate::text::sanitize;
use crate::x509::X509;

/// Principals of Teleport's own use; no login of a node (teleport-issue-and-outputs.md 3).
const INTERNAL_PRINCIPAL: &str = "-teleport-";

/// A certificate that lives this much longer than asked is still taken for what was asked: clocks have seconds.
const SLACK: Duration = Duration::from_secs(60);

/// Critical options that OpenSSH knows (PROTOCOL.certkeys).
const KNOWN_OPTIONS: [&str; 3] = ["force-command", "source-address", "verify-required"];

/// SSH credentials that passed every check.
pub(crate) struct Credentials {
    /// The key of both certificates.
    pub(crate) key: KeyPair,
    /// One line, as it came.
    pub(crate) ssh_certificate: String,
    /// The same as X.509.
    pub(crate) tls_certificate: X509,
    /// The cluster that issued them.
    pub(crate) cluster: ClusterName,
    /// The user that they are for: the bot's.
    pub(crate) user: String,
    /// Roles that they hold.
    pub(crate) roles: Vec<String>,
    /// Logins that nodes may accept.
    pub(crate) logins: Vec<String>,
    /// When the first of the two certificates expires.
    pub(crate) expires: SystemTime,
    /// Who signs hosts: the root cluster first, then trusted clusters.
    pub(crate) host_authorities: Vec<Authority>,
    /// Who signs users.
    pub(crate) user_authorities: Vec<Authority>,
}

/// The keys of one certificate authority of one cluster, active ones before those that are trusted besides.
pub(crate) struct Authority {
    /// The cluster.
    pub(crate) cluster: ClusterName,
    /// SSH public keys.
    pub(crate) ssh: Vec<SshAuthority>,
    /// X.509 certificates.
    pub(crate) tls: Vec<X509>,
}

impl Authority {
    /// The authorities in an answer of Auth, the root cluster's first. One of a trusted cluster that cannot be read is
    /// left out: it must not keep anybody from the root. Nor does a cluster come twice.
    pub(crate) fn read(list: Vec<CertAuthorityV2>, root: &ClusterName) -> Vec<Self> {
        let mut authorities: Vec<Self> = list.into_iter().filter_map(Self::read_one).collect();
        authorities.sort_by_key(|authority| authority.cluster != *root);
        let mut seen = BTreeSet::new();
        authorities.retain(|authority| seen.insert(authority.cluster.clone()));
        authorities
    }

    fn read_one(authority: CertAuthorityV2) -> Option<Self> {
        let spec = authority.spec?;
        let cluster = spec.cluster_name.parse().ok()?;
        let sets: Vec<CaKeySet> = [spec.active_keys, spec.additional_trusted_keys].into_iter().flatten().collect();
        let ssh = sets.iter().flat_map(|set| &set.ssh).filter_map(|pair| {
            let line = std::str::from_utf8(&pair.public_key).ok()?;
            SshAuthority::parse(line.trim())
        });
        let tls = sets.iter().flat_map(|set| &set.tls).filter_map(|pair| X509::from_pem(&pair.cert).ok());
        Some(Self { cluster, ssh: ssh.collect(), tls: tls.collect() })
    }
}

/// The SSH public key of an authority.
pub(crate) struct SshAuthority {
    text: String,
    fingerprint: Fingerprint,
}

impl SshAuthority {
    /// From a line as Auth and `authorized_keys` have it.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut key = ssh_key::PublicKey::from_openssh(line).ok()?;
        key.set_comment("");
        Some(Self { text: key.to_openssh().ok()?, fingerprint: key.fingerprint(HashAlg::Sha256) })
    }

    /// Algorithm and key, without a comment: written anew, so that nothing else of the line goes into a file.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// What was asked for.
pub(crate) struct Expected {
    /// The key.
    pub(crate) key: KeyPair,
    /// The cluster.
    pub(crate) cluster: ClusterName,
    /// The authorities that the join gave: those by which Auth was recognised.
    pub(crate) known: Vec<CertificateDer<'static>>,
    /// Latest expiry.
    pub(crate) expires: SystemTime,
    /// The time by our clock.
    pub(crate) now: SystemTime,
    /// The cluster's clock.
    pub(crate) clock: Offset,
}

/// Checks everything that a client can check.
///
/// # Errors
/// The first check that fails.
pub(crate) fn check(
    asked: Expected,
    certs: &Certs,
    host_authorities: Vec<Authority>,
    user_authorities: Vec<Authority>,
) -> Result<Credentials, Error> {
    let Expected { key, cluster, known, expires: asked_expiry, now, clock } = asked;
    let user = root(&user_authorities, &cluster, "user")?;
    let host = root(&host_authorities, &cluster, "host")?;
    // In a rotation both lists have old and new keys; lists with nothing in common are not of one cluster.
    if !host.tls.iter().any(|certificate| known.contains(certificate.der())) {
        return Err(Error::OtherHostAuthority);
    }

    let ssh_certificate = one_line(&certs.ssh)?;
    let ssh = Certificate::from_openssh(&ssh_certificate).map_err(|_| Error::Unreadable("SSH certificate"))?;
    let tls = X509::from_pem(&certs.tls).map_err(|_| Error::Unreadable("TLS certificate"))?;

    let ssh_key = key.public_ssh().map_err(|_| Error::Unreadable("key"))?;
    let tls_key = key.public_der().map_err(|_| Error::Unreadable("key"))?;
    if ssh.public_key() != ssh_key.key_data() || ssh.cert_type() != CertType::User {
        return Err(Error::OtherKey("SSH"));
    }
    if tls.public_key_der() != tls_key {
        return Err(Error::OtherKey("TLS"));
    }
    lifetime("SSH", ssh.valid_after_time(), ssh.valid_before_time(), asked_expiry, now, clock)?;
    lifetime("TLS", tls.not_before(), tls.not_after(), asked_expiry, now, clock)?;
    signed_by(user, &ssh, &tls, clock.cluster_time(now))?;

    let logins: Vec<String> =
        ssh.valid_principals().iter().filter(|name| !name.starts_with(INTERNAL_PRINCIPAL)).cloned().collect();
    options(&ssh)?;
    if ssh.valid_principals().is_empty() {
        return Err(Error::NoPrincipals);
    }
    Ok(Credentials {
        expires: ssh.valid_before_time().min(tls.not_after()),
        user: tls.common_name().unwrap_or_default(),
        roles: tls.organizations(),
        key,
        ssh_certificate,
        tls_certificate: tls,
        cluster,
        logins,
        host_authorities,
        user_authorities,
    })
}

fn root<'a>(authorities: &'a [Authority], cluster: &ClusterName, kind: &'static str) -> Result<&'a Authority, Error> {
    let found = authorities.iter().find(|authority| authority.cluster == *cluster);
    found.filter(|authority| !authority.ssh.is_empty() && !authority.tls.is_empty()).ok_or(Error::NoAuthority(kind))
}

/// The certificate line. More than one line would put foreign lines into files that ssh reads.
fn one_line(bytes: &[u8]) -> Result<String, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Unreadable("SSH certificate"))?.trim();
    match text.chars().any(char::is_control) {
        true => Err(Error::Unreadable("SSH certificate")),
        false => Ok(text.to_owned()),
    }
}

fn lifetime(
    kind: &'static str,
    after: SystemTime,
    before: SystemTime,
    asked: SystemTime,
    now: SystemTime,
    clock: Offset,
) -> Result<(), Error> {
    let seconds = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs()));
    if let Ok(ago) = clock.cluster_time(now).duration_since(before) {
        return Err(Error::Expired { kind, ago: approximate(ago) });
    }
    match after.duration_since(now) {
        Ok(ahead) if !ahead.is_zero() => {
            // By our clock, whatever the cluster's says: what reads the files here goes by it.
            return Err(Error::NotYetValid { kind, ahead: approximate(ahead), clock });
        }
        _ => {}
    }
    match before.duration_since(asked) {
        Ok(longer) if longer > SLACK => Err(Error::TooLong { kind, longer: seconds(longer) }),
        _ => Ok(()),
    }
}

/// An unknown critical option makes every sshd refuse the certificate, without a word why.
fn options(ssh: &Certificate) -> Result<(), Error> {
    match ssh.critical_options().keys().find(|name| !KNOWN_OPTIONS.contains(&name.as_str())) {
        Some(name) => Err(Error::CriticalOption(sanitize(name))),
        None => Ok(()),
    }
}

/// Both certificates are the user CA's. TLS is checked by the same code that servers with rustls use.
fn signed_by(authority: &Authority, ssh: &Certificate, tls: &X509, now: SystemTime) -> Result<(), Error> {
    let fingerprints: Vec<Fingerprint> = authority.ssh.iter().map(|key| key.fingerprint).collect();
    // At its first second: whether it is valid now was looked at before, with better words.
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

/// What is wrong with what the cluster issued. All of it is a cluster, or something in front of one, that does not do
/// what Teleport does; but for the clock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Cannot be parsed.
    #[error("the {0} from the cluster cannot be read")]
    Unreadable(&'static str),
    /// For somebody else's key, or for a host.
    #[error("the {0} certificate from the cluster is not for the key that was sent")]
    OtherKey(&'static str),
    /// It has no principals.
    #[error("the SSH certificate from the cluster names no principals")]
    NoPrincipals,
    /// No sshd would accept it.
    #[error("the SSH certificate from the cluster has the critical option `{0}`, which OpenSSH does not know")]
    CriticalOption(String),
    /// It has expired already.
    #[error("the {kind} certificate from the cluster expired {ago} ago")]
    Expired {
        /// SSH or TLS.
        kind: &'static str,
        /// How long ago.
        ago: humantime::FormattedDuration,
    },
    /// By our clock it is from the future.
    #[error("the {kind} certificate from the cluster becomes valid only in {ahead}: the clock here is {clock}")]
    NotYetValid {
        /// SSH or TLS.
        kind: &'static str,
        /// How long until then.
        ahead: humantime::FormattedDuration,
        /// The cluster's clock.
        clock: Offset,
    },
    /// It lives longer than asked.
    #[error("the {kind} certificate from the cluster lives {longer} longer than was asked for")]
    TooLong {
        /// SSH or TLS.
        kind: &'static str,
        /// By how much.
        longer: humantime::FormattedDuration,
    },
    /// By none of the authorities that came with it.
    #[error("the {0} certificate from the cluster is not signed by its user CA")]
    NotSigned(&'static str),
    /// The host CA is not the one by which Auth was recognised.
    #[error("the cluster's host CA is not the one that it named at the join")]
    OtherHostAuthority,
    /// No such authority.
    #[error("the cluster names no {0} CA of its own")]
    NoAuthority(&'static str),
}

impl Explain for Error {
    fn likely_cause(&self) -> Option<String> {
        Some(
            match self {
                Self::Expired { .. } => "The clock here is ahead of the cluster's.",
                Self::NotYetValid { .. } => "The clock here is behind the cluster's.",
                Self::NotSigned(_) => "The user CA was rotated in this very moment.",
                _ => return None,
            }
            .to_owned(),
        )
    }

    fn what_to_do(&self) -> String {
        match self {
            Self::Expired { .. } | Self::NotYetValid { .. } => "Correct the clock of the runner.",
            Self::NotSigned(_) => {
                "Run the step again. If it keeps failing, nothing was written on purpose: tell whoever runs the cluster."
            }
            _ => {
                "Nothing was written. Tell whoever runs the cluster, and quote this message: \
                 Teleport itself does not answer like this."
            },
        }
        .to_owned()
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NotYetValid { .. } => Exit::Network,
            _ => Exit::Refused,
        }
    }

    fn anchor(&self) -> &'static str {
        match self {
            Self::Expired { .. } | Self::NotYetValid { .. } => "the-clocks-differ",
            _ => "the-certificates-are-not-right",
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;
    use ssh_key::{Algorithm, PrivateKey, certificate::Builder};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lifetime_holds_now_and_is_not_longer_than_asked() {
        let asked = at(4600);
        let judged = |after, before| lifetime("SSH", at(after), at(before), asked, at(1000), Offset::default());
        assert!(judged(940, 4600).is_ok() && judged(1000, 4660).is_ok() && judged(0, 1001).is_ok());
        assert!(matches!(judged(940, 1000), Err(Error::Expired { .. })));
        assert!(matches!(judged(1001, 4600), Err(Error::NotYetValid { .. })));
        assert!(matches!(judged(940, 4661), Err(Error::TooLong { .. })));
    }

    #[test]
    fn an_option_that_no_sshd_knows_is_refused() {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
        let with = |name: &str| {
            let mut builder = Builder::new_with_random_nonce(&mut OsRng, key.public_key(), 0, 1).unwrap();
            builder.valid_principal("x").unwrap().critical_option(name, "").unwrap();
            options(&builder.sign(&key).unwrap())
        };
        assert!(with("source-address").is_ok());
        assert!(matches!(with("only-on-tuesdays@example.com"), Err(Error::CriticalOption(_))));
    }
}
