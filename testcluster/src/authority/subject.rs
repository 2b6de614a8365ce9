//! The identity in a user certificate, and its place in the X.509 subject (docs/protocol.md, "Bot certificate").

use std::collections::BTreeSet;

use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Any, ObjectIdentifier, PrintableStringRef, SetOfVec, Utf8StringRef};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const LOCALITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.7");
const STREET_ADDRESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.9");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const POSTAL_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.17");
const TELEPORT_CLUSTER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.1.7");
const LOGIN_IP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.1.9");
const PRIVATE_KEY_POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.1.15");
const IMPERSONATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.7");
const DISALLOW_REISSUE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.9");
const BOT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.18");
const BOT_INSTANCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.20");

/// The holder of a user certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Identity {
    /// The user, `bot-example`.
    pub user: String,
    /// The bot's own role, which has no permissions, or the roles that it impersonates.
    pub roles: Vec<String>,
    /// Logins, and the principal of all user certificates.
    pub principals: Vec<String>,
    /// The cluster that the certificate is routed to.
    pub route: String,
    /// The user that requested a certificate with roles that it impersonates.
    pub impersonator: String,
    /// Whether the holder may not request further certificates.
    pub no_reissue: bool,
    /// The bot's name without `bot-`.
    pub bot: String,
    /// UUID of this join.
    pub instance: String,
}

impl Identity {
    /// The X.509 subject: the user is CN, the roles O, the principals L, the route StreetAddress, the (empty) traits
    /// PostalCode, and the rest private attributes.
    pub(crate) fn subject(&self, cluster: &str) -> Name {
        let mut name = SubjectBuilder::default();
        name.add(ORGANIZATION, self.roles.iter());
        name.add(LOCALITY, self.principals.iter());
        name.add(STREET_ADDRESS, [&self.route]);
        name.add(POSTAL_CODE, ["{}"]);
        name.add(COMMON_NAME, [&self.user]);
        name.add(TELEPORT_CLUSTER, [cluster]);
        name.add(LOGIN_IP, ["127.0.0.1"]);
        name.add(PRIVATE_KEY_POLICY, ["none"]);
        name.add(IMPERSONATOR, [&self.impersonator]);
        if self.no_reissue {
            name.add(DISALLOW_REISSUE, ["true"]);
        }
        name.add(BOT_NAME, [&self.bot]);
        name.add(BOT_INSTANCE, [&self.instance]);
        name.build()
    }

    /// Reads the identity of a client certificate (DER).
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let mut identity = Self::default();
        for part in certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter()) {
            let text = String::from_utf8_lossy(part.value.value()).into_owned();
            match part.oid {
                COMMON_NAME => identity.user = text,
                ORGANIZATION => identity.roles.push(text),
                LOCALITY => identity.principals.push(text),
                STREET_ADDRESS => identity.route = text,
                IMPERSONATOR => identity.impersonator = text,
                DISALLOW_REISSUE => identity.no_reissue = text == "true",
                BOT_NAME => identity.bot = text,
                BOT_INSTANCE => identity.instance = text,
                _ => {}
            }
        }
        Some(identity)
    }
}

/// A name of O and CN, as authorities have it.
pub(crate) fn authority_name(organization: &str, common_name: &str) -> Name {
    let mut name = SubjectBuilder::default();
    name.add(ORGANIZATION, [organization]);
    name.add(COMMON_NAME, [common_name]);
    name.build()
}

/// The subject of a host certificate: the kind of host is O, its ID CN, and the cluster a private attribute.
pub(crate) fn host_name(kind: &str, id: &str, cluster: &str) -> Name {
    let mut name = SubjectBuilder::default();
    name.add(ORGANIZATION, [kind]);
    name.add(COMMON_NAME, [id]);
    name.add(TELEPORT_CLUSTER, [cluster]);
    name.build()
}

#[derive(Default)]
struct SubjectBuilder(Vec<RelativeDistinguishedName>);

impl SubjectBuilder {
    /// Adds all values of a type as one set, as Go does, without empty values.
    fn add(&mut self, oid: ObjectIdentifier, values: impl IntoIterator<Item = impl AsRef<str>>) {
        // A set has no duplicates.
        let distinct: BTreeSet<String> = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
        let parts: Vec<_> = distinct
            .into_iter()
            .filter(|value| !value.is_empty())
            .map(|value| AttributeTypeAndValue { oid, value: string(&value) })
            .collect();
        if !parts.is_empty() {
            let set = SetOfVec::try_from(parts).expect("distinct values are a set");
            self.0.push(RelativeDistinguishedName(set));
        }
    }

    fn build(self) -> Name {
        RdnSequence(self.0)
    }
}

/// A PrintableString if the text allows it, else a UTF8String, as Go encodes it.
fn string(value: &str) -> Any {
    if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)) {
        let text = PrintableStringRef::new(value).expect("only printable characters");
        return Any::from(text);
    }
    let text = Utf8StringRef::new(value).expect("a short text");
    Any::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, Purpose, RsaKey};
    use crate::suite::Suite;

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let identity = Identity {
            user: "bot-example".into(),
            roles: vec!["a-role".into(), "example-role".into()],
            // DER sorts sets, shorter values first.
            principals: vec!["root".into(), "user".into(), "-teleport-internal-join".into()],
            route: "example.teleport.sh".into(),
            impersonator: "bot-example".into(),
            no_reissue: true,
            bot: "example".into(),
            instance: "8b0d0c6e-0000-4000-8000-000000000000".into(),
        };
        let ca = Authority::new("example.teleport.sh", Suite::BalancedV1, RsaKey::UserCa, 1_700_000_000);
        let key = crate::authority::SigningKey::new(crate::suite::KeyKind::P256, RsaKey::Server);
        let der =
            ca.issue_tls(key.public(), identity.subject(ca.cluster()), Purpose::Client, (1_700_000_000, 1_700_003_600));
        assert_eq!(Identity::parse(&der), Some(identity));
    }
}
