//! Decodes the public keys of clients.

use rsa::pkcs1::DecodeRsaPublicKey;
use ssh_key::public::KeyData;
use ssh_key::{EcdsaCurve, PublicKey};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::referenced::OwnedToRef;
use x509_cert::der::{Decode, Document};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::refusal::Refusal;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A public key of a client, its kind and its encoding.
#[derive(Debug)]
pub(crate) struct Received<K> {
    pub key: K,
    pub kind: String,
    pub encoding: &'static str,
}

pub(crate) type TlsKey = Received<SubjectPublicKeyInfoOwned>;
pub(crate) type SshKey = Received<PublicKey>;

/// Decodes PKIX DER, the encoding of the join service (docs/protocol.md, "Keys"). Anything else is an untyped error
/// (docs/protocol.md, "Join service").
pub(crate) fn tls_from_der(der: &[u8]) -> Result<TlsKey, Refusal> {
    let unknown = |error: String| Refusal::other(format!("parsing PublicTLSKey: {error}"));
    let key = SubjectPublicKeyInfoOwned::from_der(der).map_err(|error| unknown(error.to_string()))?;
    let kind = tls_kind(&key).ok_or_else(|| unknown("not a valid key of a known type".into()))?;
    Ok(Received { key, kind, encoding: "PKIX DER" })
}

/// Decodes PEM, the encoding of the REST join and of Auth: PKIX or PKCS#1 with either of two labels (docs/protocol.md,
/// "REST join").
pub(crate) fn tls_from_pem(pem: &[u8]) -> Result<TlsKey, Refusal> {
    let bad = |error: String| Refusal::bad_parameter(format!("parsing TLS public key: {error}"));
    let text = std::str::from_utf8(pem).map_err(|error| bad(error.to_string()))?;
    let (label, document) = Document::from_pem(text).map_err(|error| bad(error.to_string()))?;
    let encoding = match label {
        "PUBLIC KEY" => "PEM PUBLIC KEY",
        "RSA PUBLIC KEY" => "PEM RSA PUBLIC KEY",
        other => return Err(bad(format!("unexpected PEM block type {other:?}"))),
    };
    let key = SubjectPublicKeyInfoOwned::from_der(document.as_bytes())
        .ok()
        .or_else(|| {
            let key = rsa::RsaPublicKey::from_pkcs1_der(document.as_bytes()).ok()?;
            SubjectPublicKeyInfoOwned::from_key(key).ok()
        })
        .ok_or_else(|| bad("neither PKIX nor PKCS#1".into()))?;
    let kind = tls_kind(&key).ok_or_else(|| bad("not a valid key of a known type".into()))?;
    Ok(Received { key, kind, encoding })
}

/// Decodes SSH wire format, the encoding of the join service.
pub(crate) fn ssh_from_wire(bytes: &[u8]) -> Result<SshKey, Refusal> {
    let key = PublicKey::from_bytes(bytes)
        .map_err(|error| Refusal::bad_parameter(format!("parsing PublicSSHKey: {error}")))?;
    Ok(Received { kind: ssh_kind(&key), key, encoding: "SSH wire" })
}

/// Decodes an authorized_keys line, the encoding of the REST join and of Auth.
pub(crate) fn ssh_from_line(line: &[u8]) -> Result<SshKey, Refusal> {
    // This is the error of Go's parser (docs/protocol.md, "Auth calls").
    let key = std::str::from_utf8(line)
        .ok()
        .and_then(|line| PublicKey::from_openssh(line.trim_end()).ok())
        .ok_or_else(|| Refusal::bad_parameter("ssh: no key found"))?;
    Ok(Received { kind: ssh_kind(&key), key, encoding: "authorized_keys" })
}

/// Returns `None` if the key is invalid or of an unknown type.
fn tls_kind(key: &SubjectPublicKeyInfoOwned) -> Option<String> {
    use rsa::traits::PublicKeyParts;
    match key.algorithm.oid {
        RSA => {
            let key = rsa::RsaPublicKey::try_from(key.owned_to_ref()).ok()?;
            Some(format!("RSA-{}", key.size() * 8))
        }
        EC => p256::PublicKey::try_from(key.owned_to_ref()).ok().map(|_| "P-256".to_owned()),
        ED25519 => Some("Ed25519".to_owned()),
        _ => None,
    }
}

fn ssh_kind(key: &PublicKey) -> String {
    match key.key_data() {
        KeyData::Rsa(rsa) => {
            let bits = rsa.n.as_positive_bytes().map_or(0, |bytes| bytes.len() * 8);
            format!("RSA-{bits}")
        }
        KeyData::Ecdsa(ecdsa) if ecdsa.curve() == EcdsaCurve::NistP256 => "P-256".to_owned(),
        KeyData::Ed25519(_) => "Ed25519".to_owned(),
        _ => key.algorithm().as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{RsaKey, rsa_private_key};
    use rsa::pkcs1::EncodeRsaPublicKey;
    use rsa::pkcs8::{EncodePublicKey, LineEnding};

    #[test]
    fn both_pem_forms_of_an_rsa_key_are_the_same_key() {
        let public = rsa_private_key(RsaKey::Server).to_public_key();
        let pkcs1 = tls_from_pem(public.to_pkcs1_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        let pkix = tls_from_pem(public.to_public_key_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        assert_eq!((pkcs1.encoding, pkix.encoding), ("PEM RSA PUBLIC KEY", "PEM PUBLIC KEY"));
        assert_eq!((pkcs1.kind.as_str(), pkcs1.key), ("RSA-2048", pkix.key));
    }
}
