//! Keys that sign SSH certificates.

use rand_core::OsRng;
use rsa::pkcs1v15;
use rsa::signature::{self, SignatureEncoding, Signer};
use sha2::Sha512;
use ssh_key::private::RsaKeypair;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, PublicKey, Signature};

use super::{RsaKey, rsa_private_key};
use crate::suite::KeyKind;

/// A key of an authority. It signs with RSA itself, because `ssh-key` 0.6 rebuilds RSA keys with the first prime in
/// place of the second and then refuses them.
#[derive(Debug)]
pub(super) struct SshSigner {
    key: PrivateKey,
    rsa: Option<pkcs1v15::SigningKey<Sha512>>,
}

impl SshSigner {
    pub(super) fn new(kind: KeyKind, rsa: RsaKey) -> Self {
        let signer = (kind == KeyKind::Rsa).then(|| pkcs1v15::SigningKey::new(rsa_private_key(rsa)));
        Self { key: ssh_private_key(kind, rsa), rsa: signer }
    }

    pub(super) fn public(&self) -> &PublicKey {
        self.key.public_key()
    }
}

impl Signer<Signature> for SshSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        match &self.rsa {
            None => self.key.try_sign(message),
            Some(rsa) => {
                let algorithm = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
                let bytes = rsa.try_sign(message)?.to_vec();
                Signature::new(algorithm, bytes).map_err(signature::Error::from_source)
            }
        }
    }
}

impl From<&SshSigner> for KeyData {
    fn from(signer: &SshSigner) -> Self {
        signer.public().key_data().clone()
    }
}

/// A new SSH key pair, or the given key of `testdata/` if the kind is RSA.
pub(crate) fn ssh_private_key(kind: KeyKind, rsa: RsaKey) -> PrivateKey {
    let random = |algorithm| PrivateKey::random(&mut OsRng, algorithm).expect("the system has randomness");
    match kind {
        KeyKind::Rsa => RsaKeypair::try_from(rsa_private_key(rsa)).expect("the keys of testdata/ are valid").into(),
        KeyKind::P256 => random(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
        KeyKind::Ed25519 => random(Algorithm::Ed25519),
    }
}
