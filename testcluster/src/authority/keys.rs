//! Keys of authorities for X.509, and of TLS servers.

use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rand_core::OsRng;
use rsa::RsaPrivateKey;
use sha2::Sha256;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::suite::KeyKind;

/// The RSA keys of `testdata/`. Generating one takes seconds in a debug build.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RsaKey {
    HostCa,
    HostCaNext,
    UserCa,
    UserCaNext,
    Server,
    IdentityProvider,
}

pub(crate) fn rsa_private_key(which: RsaKey) -> RsaPrivateKey {
    let pem = match which {
        RsaKey::HostCa => include_str!("../../testdata/rsa-host-ca.pem"),
        RsaKey::HostCaNext => include_str!("../../testdata/rsa-host-ca-next.pem"),
        RsaKey::UserCa => include_str!("../../testdata/rsa-user-ca.pem"),
        RsaKey::UserCaNext => include_str!("../../testdata/rsa-user-ca-next.pem"),
        RsaKey::Server => include_str!("../../testdata/rsa-server.pem"),
        RsaKey::IdentityProvider => include_str!("../../testdata/rsa-idp.pem"),
    };
    RsaPrivateKey::from_pkcs8_pem(pem).expect("the keys of testdata/ are valid")
}

/// A private key for X.509.
#[derive(Clone, Debug)]
pub(crate) enum SigningKey {
    Rsa(Box<rsa::pkcs1v15::SigningKey<Sha256>>),
    P256(p256::ecdsa::SigningKey),
}

impl SigningKey {
    /// A new P-256 key, or the given key of `testdata/` if the kind is RSA.
    pub(crate) fn new(kind: KeyKind, rsa: RsaKey) -> Self {
        match kind {
            KeyKind::Rsa => Self::Rsa(Box::new(rsa::pkcs1v15::SigningKey::new(rsa_private_key(rsa)))),
            KeyKind::P256 | KeyKind::Ed25519 => Self::P256(p256::ecdsa::SigningKey::random(&mut OsRng)),
        }
    }

    /// The private key as PKCS#8 DER.
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        let document = match self {
            Self::Rsa(key) => key.to_pkcs8_der(),
            Self::P256(key) => key.to_pkcs8_der(),
        };
        document.expect("a valid key can be encoded").as_bytes().to_vec()
    }

    pub(crate) fn public(&self) -> SubjectPublicKeyInfoOwned {
        use rsa::signature::Keypair;
        let public = match self {
            Self::Rsa(key) => SubjectPublicKeyInfoOwned::from_key(key.verifying_key()),
            Self::P256(key) => SubjectPublicKeyInfoOwned::from_key(*key.verifying_key()),
        };
        public.expect("a valid key can be encoded")
    }
}
