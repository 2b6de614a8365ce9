//! Key pairs, by signature suite, in every encoding that Teleport and OpenSSH use.
//!
//! One key pair serves SSH and TLS. Every join and every output has its own (docs/protocol.md, "Keys").

use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rand_core::CryptoRngCore;
use rsa::pkcs1::{EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::{Advice, Exit, Explain};

/// A cluster's signature suite. For the keys of this program all but `Legacy` mean ECDSA P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// RSA. Also the suite of a cluster that names none, because it is older than suites.
    Legacy,
    BalancedV1,
    FipsV1,
    HsmV1,
}

impl Suite {
    /// Parses `auth.signature_algorithm_suite` of discovery: the name, the long name of the enum, its number, or
    /// nothing.
    pub(crate) fn from_discovery(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::from_name(text),
            Value::Number(number) => match number.as_u64() {
                Some(0 | 1) => Self::Legacy,
                Some(3) => Self::FipsV1,
                Some(4) => Self::HsmV1,
                _ => Self::BalancedV1,
            },
            _ => Self::Legacy,
        }
    }

    /// Parses the name as the join service sends it. An unknown suite is newer than this code. All suites after
    /// `legacy` accept P-256.
    pub(crate) fn from_name(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix("signature_algorithm_suite_").unwrap_or(&lower).replace('_', "-").as_str() {
            "" | "unspecified" | "legacy" => Self::Legacy,
            "fips-v1" => Self::FipsV1,
            "hsm-v1" => Self::HsmV1,
            _ => Self::BalancedV1,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::BalancedV1 => "balanced-v1",
            Self::FipsV1 => "fips-v1",
            Self::HsmV1 => "hsm-v1",
        }
    }
}

/// A private key. Wiped when dropped. It has no `Debug`, so that nothing can print it.
pub(crate) enum KeyPair {
    /// With 2048 bits.
    Rsa(Box<rsa::RsaPrivateKey>),
    P256(p256::SecretKey),
}

/// A key could not be generated or encoded. Never seen, and nothing that a user could fix.
#[derive(Debug, thiserror::Error)]
#[error("a key pair could not be {0}")]
pub(crate) struct Error(pub(crate) &'static str);

impl Explain for Error {
    fn advice(&self) -> Advice {
        const REMEDY: &str =
            "This is a bug in teleport-pipe; please report it with the log of a run with DEBUG: 'true'.";
        Advice::new(Exit::Bug, "a-bug", REMEDY)
    }
}

impl KeyPair {
    /// Generates a key for the suite. RSA takes a good part of a second, so generate it while the network is busy.
    pub(crate) fn generate(suite: Suite, rng: &mut impl CryptoRngCore) -> Result<Self, Error> {
        if suite != Suite::Legacy {
            return Ok(Self::P256(p256::SecretKey::random(rng)));
        }
        let key = rsa::RsaPrivateKey::new(rng, 2048).map_err(|_| Error("generated"))?;
        Ok(Self::Rsa(Box::new(key)))
    }

    /// Starts to generate a key on its own thread at once, with the operating system's random numbers.
    pub(crate) fn generate_in_background(suite: Suite) -> impl Future<Output = Result<Self, Error>> {
        let generated = tokio::task::spawn_blocking(move || Self::generate(suite, &mut rand_core::OsRng));
        async { generated.await.unwrap_or(Err(Error("generated"))) }
    }

    /// As Teleport writes it: RSA as PKCS#1 `RSA PRIVATE KEY`, ECDSA as PKCS#8 `PRIVATE KEY`.
    pub(crate) fn private_pem(&self) -> Result<Zeroizing<String>, Error> {
        match self {
            Self::Rsa(key) => key.to_pkcs1_pem(LineEnding::LF).map_err(|_| Error("encoded")),
            Self::P256(key) => key.to_pkcs8_pem(LineEnding::LF).map_err(|_| Error("encoded")),
        }
    }

    pub(crate) fn private_der(&self) -> Result<PrivateKeyDer<'static>, Error> {
        let der = match self {
            Self::Rsa(key) => key.to_pkcs8_der(),
            Self::P256(key) => key.to_pkcs8_der(),
        };
        Ok(PrivatePkcs8KeyDer::from(der.map_err(|_| Error("encoded"))?.as_bytes().to_vec()).into())
    }

    /// The public key as PKIX DER (SubjectPublicKeyInfo): the new join service, and certificates.
    pub(crate) fn public_der(&self) -> Result<Vec<u8>, Error> {
        let der = match self {
            Self::Rsa(key) => key.to_public_key().to_public_key_der(),
            Self::P256(key) => key.public_key().to_public_key_der(),
        };
        Ok(der.map_err(|_| Error("encoded"))?.into_vec())
    }

    /// As Teleport writes it: RSA as PKCS#1 `RSA PUBLIC KEY`, ECDSA as `PUBLIC KEY`.
    pub(crate) fn public_pem(&self) -> Result<String, Error> {
        match self {
            Self::Rsa(key) => key.to_public_key().to_pkcs1_pem(LineEnding::LF).map_err(|_| Error("encoded")),
            Self::P256(key) => key.public_key().to_public_key_pem(LineEnding::LF).map_err(|_| Error("encoded")),
        }
    }

    /// The public key for SSH, without a comment.
    pub(crate) fn public_ssh(&self) -> Result<ssh_key::PublicKey, Error> {
        use ssh_key::public::{EcdsaPublicKey, KeyData, RsaPublicKey};
        let data = match self {
            Self::Rsa(key) => RsaPublicKey::try_from(key.to_public_key()).map(KeyData::Rsa),
            Self::P256(key) => EcdsaPublicKey::from_sec1_bytes(&key.public_key().to_sec1_bytes()).map(KeyData::Ecdsa),
        };
        Ok(ssh_key::PublicKey::from(data.map_err(|_| Error("encoded"))?))
    }

    /// An authorized_keys line, with its line break.
    pub(crate) fn authorized_key(&self) -> Result<String, Error> {
        Ok(self.public_ssh()?.to_openssh().map_err(|_| Error("encoded"))? + "\n")
    }

    /// SSH wire format.
    pub(crate) fn public_ssh_wire(&self) -> Result<Vec<u8>, Error> {
        self.public_ssh()?.to_bytes().map_err(|_| Error("encoded"))
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn suites_in_all_forms() {
        for (json, suite) in [
            ("null", Suite::Legacy),
            ("0", Suite::Legacy),
            ("1", Suite::Legacy),
            ("2", Suite::BalancedV1),
            ("3", Suite::FipsV1),
            ("4", Suite::HsmV1),
            ("99", Suite::BalancedV1),
            (r#""""#, Suite::Legacy),
            (r#""legacy""#, Suite::Legacy),
            (r#""SIGNATURE_ALGORITHM_SUITE_UNSPECIFIED""#, Suite::Legacy),
            (r#""SIGNATURE_ALGORITHM_SUITE_FIPS_V1""#, Suite::FipsV1),
            (r#""hsm-v1""#, Suite::HsmV1),
            (r#""balanced-v1""#, Suite::BalancedV1),
            (r#""of-2031""#, Suite::BalancedV1),
        ] {
            assert_eq!(Suite::from_discovery(&serde_json::from_str(json).unwrap()), suite, "{json}");
        }
    }

    #[test]
    fn labels_are_those_of_teleport() {
        let first = |text: &str| text.lines().next().unwrap().to_owned();
        let p256 = KeyPair::generate(Suite::BalancedV1, &mut OsRng).unwrap();
        assert_eq!(first(&p256.private_pem().unwrap()), "-----BEGIN PRIVATE KEY-----");
        assert_eq!(first(&p256.public_pem().unwrap()), "-----BEGIN PUBLIC KEY-----");
        assert!(p256.authorized_key().unwrap().starts_with("ecdsa-sha2-nistp256 AAAA"));
        let rsa = KeyPair::generate(Suite::Legacy, &mut OsRng).unwrap();
        assert_eq!(first(&rsa.private_pem().unwrap()), "-----BEGIN RSA PRIVATE KEY-----");
        assert_eq!(first(&rsa.public_pem().unwrap()), "-----BEGIN RSA PUBLIC KEY-----");
        assert!(rsa.authorized_key().unwrap().starts_with("ssh-rsa AAAA"));
    }
}
