//! Keys that sign X.509 certificates and serve TLS.

use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rand_core::OsRng;
use rsa::RsaPrivateKey;
use sha2::Sha256;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::suite::KeyKind;

/// The RSA test keys that come with the crate: making one takes plain Rust seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RsaKey {
    HostCa,
    HostCaNext,
    UserCa,
    UserCaNext,
    Server,
    IdentityProvider,
}

/// A ready-made RSA key.
pub(crate) fn rsa_private_key(which: RsaKey) -> RsaPrivateKey {
    let pem = match which {
        RsaKey::HostCa => include_str!("../../testdata/rsa-host-ca.pem"),
        RsaKey::HostCaNext => include_str!("../../testdata/rsa-host-ca-next.pem"),
        RsaKey::UserCa => include_str!("../../testdata/rsa-user-ca.pem"),
        RsaKey::UserCaNext => include_str!("../../testdata/rsa-user-ca-next.pem"),
        RsaKey::Server => include_str!("../../testdata/rsa-server.pem"),
        RsaKey::IdentityProvider => include_str!("../../testdata/rsa-idp.pem"),
    };
    RsaPrivateKey::from_pkcs8_pem(pem).expect("the test keys are sound")
}

/// A private key for X.509.
#[derive(Clone, Debug)]
pub(crate) enum SigningKey {
    Rsa(Box<rsa::pkcs1v15::SigningKey<Sha256>>),
    P256(p256::ecdsa::SigningKey),
}

impl SigningKey {
    /// A key of a kind that X.509 has here: RSA ready-made, anything else P-256 and new.
    pub(crate) fn new(kind: KeyKind, rsa: RsaKey) -> Self {
        match kind {
            KeyKind::Rsa => Self::Rsa(Box::new(rsa::pkcs1v15::SigningKey::new(rsa_private_key(rsa)))),
            KeyKind::P256 | KeyKind::Ed25519 => Self::P256(p256::ecdsa::SigningKey::random(&mut OsRng)),
        }
    }

    /// The private key, PKCS#8 DER, as rustls wants it.
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        let document = match self {
            Self::Rsa(key) => key.to_pkcs8_der(),
            Self::P256(key) => key.to_pkcs8_der(),
        };
        document.expect("a sound key can be encoded").as_bytes().to_vec()
    }

    /// The public half.
    pub(crate) fn public(&self) -> SubjectPublicKeyInfoOwned {
        use rsa::signature::Keypair;
        let public = match self {
            Self::Rsa(key) => SubjectPublicKeyInfoOwned::from_key(key.verifying_key()),
            Self::P256(key) => SubjectPublicKeyInfoOwned::from_key(*key.verifying_key()),
        };
        public.expect("a sound key can be encoded")
    }
}
