//! An ssh-agent with one key and its certificate, for proxies that record sessions: such a proxy ends ssh's connection,
//! and logs in to the node by this agent (teleport-ssh-proxy.md 2.4, 4).
//!
//! The protocol is draft-ietf-sshm-ssh-agent. Two requests are answered, the list and the signature of a login; to all
//! others the answer is a failure, and nothing that is asked changes anything. The key is that of a TLS certificate as
//! well, so whoever could have any bytes signed could be us to the cluster's Auth Service.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;

/// The longest message that OpenSSH's agent takes.
const LONGEST: usize = 256 * 1024;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// The request to log in (RFC 4252, section 6).
const USERAUTH_REQUEST: u8 = 50;

/// Flags of a signature by an RSA key; without one it would be of SHA-1.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// The agent at the end of one stream.
pub(crate) struct Agent {
    key: Arc<dyn SigningKey>,
    certificate: Option<Vec<u8>>,
    /// What came in and is no whole message yet.
    pending: Vec<u8>,
    ended: bool,
}

impl Agent {
    /// An agent for a key and its SSH certificate in wire format, without which it has nothing to offer; `None` if the
    /// key is of a kind that signs nothing here.
    pub(crate) fn new(key: &PrivateKeyDer<'_>, certificate: Option<Vec<u8>>) -> Option<Self> {
        let key = ring::sign::any_supported_type(key).ok()?;
        Some(Self { key, certificate, pending: Vec::new(), ended: false })
    }

    /// Takes the next bytes of the stream, which begin and end anywhere, and gives what is to be answered. After a
    /// message of impossible length nothing is: where the next one would begin is unknown.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        if self.ended {
            return answers;
        }
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        while let Some((length, after)) = number(rest) {
            let length = length as usize;
            if !(1..=LONGEST).contains(&length) {
                self.ended = true;
                put(&mut answers, &[FAILURE]);
                break;
            }
            let Some((message, after)) = after.split_at_checked(length) else { break };
            put(&mut answers, &self.answer(message).unwrap_or_else(|| vec![FAILURE]));
            rest = after;
        }
        self.pending = rest.to_vec();
        answers
    }

    fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        match message.split_first()? {
            (&REQUEST_IDENTITIES, []) => {
                let mut answer = vec![IDENTITIES_ANSWER];
                answer.extend(u32::from(self.certificate.is_some()).to_be_bytes());
                if let Some(certificate) = &self.certificate {
                    put(&mut answer, certificate);
                    put(&mut answer, b"");
                }
                Some(answer)
            }
            (&SIGN_REQUEST, request) => {
                let (key, rest) = string(request)?;
                let (data, rest) = string(rest)?;
                let (flags, rest) = number(rest)?;
                let ours = self.certificate.as_deref() == Some(key) && rest.is_empty() && login(data) == Some(key);
                let mut answer = vec![SIGN_RESPONSE];
                put(&mut answer, &self.sign(data, flags).filter(|_| ours)?);
                Some(answer)
            }
            _ => None,
        }
    }

    /// A signature as SSH has it: the name of the algorithm, and its bytes.
    fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let rsa = match flags {
            _ if flags & RSA_SHA2_256 != 0 => Some((SignatureScheme::RSA_PKCS1_SHA256, "rsa-sha2-256")),
            _ if flags & RSA_SHA2_512 != 0 => Some((SignatureScheme::RSA_PKCS1_SHA512, "rsa-sha2-512")),
            _ => None,
        };
        let known = [
            (SignatureScheme::ED25519, "ssh-ed25519"),
            (SignatureScheme::ECDSA_NISTP256_SHA256, "ecdsa-sha2-nistp256"),
        ];
        let signed = known.into_iter().chain(rsa).find_map(|(scheme, name)| {
            let signer = self.key.choose_scheme(&[scheme])?;
            Some((scheme, name, signer.sign(data).ok()?))
        });
        let (scheme, name, bytes) = signed?;
        let mut signature = Vec::new();
        put(&mut signature, name.as_bytes());
        match scheme {
            SignatureScheme::ECDSA_NISTP256_SHA256 => put(&mut signature, &two_numbers(&bytes)?),
            _ => put(&mut signature, &bytes),
        }
        Some(signature)
    }
}

/// An ECDSA signature as SSH has it (RFC 5656 3.1.2): the two numbers of the DER one, each with its length. Both write
/// numbers alike: with the sign, and no longer than needed (RFC 4251 5).
fn two_numbers(der: &[u8]) -> Option<Vec<u8>> {
    /// The tag of a SEQUENCE, and that of an INTEGER.
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    /// A value of less than 128 bytes; two numbers of 33 bytes make no more.
    fn value(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
        match der {
            [tag, length @ 0..0x80, rest @ ..] if *tag == wanted => rest.split_at_checked(usize::from(*length)),
            _ => None,
        }
    }
    let (numbers, []) = value(der, SEQUENCE)? else { return None };
    let (r, rest) = value(numbers, INTEGER)?;
    let (s, []) = value(rest, INTEGER)? else { return None };
    let mut blob = Vec::new();
    put(&mut blob, r);
    put(&mut blob, s);
    Some(blob)
}

/// The key that logs in, if these are the bytes that a client signs for that (RFC 4252, section 7; with the host's key
/// bound to it, PROTOCOL of OpenSSH). What TLS has signed does not begin like them.
fn login(data: &[u8]) -> Option<&[u8]> {
    let (_session, rest) = string(data)?;
    let (_user, rest) = string(rest.strip_prefix(&[USERAUTH_REQUEST])?)?;
    let (service, rest) = string(rest)?;
    let (method, rest) = string(rest)?;
    // With a signature: this one.
    let (_algorithm, rest) = string(rest.strip_prefix(&[1])?)?;
    let (key, rest) = string(rest)?;
    let rest = match method {
        b"publickey" => rest,
        b"publickey-hostbound-v00@openssh.com" => string(rest)?.1,
        _ => return None,
    };
    (service == b"ssh-connection" && rest.is_empty()).then_some(key)
}

/// A string: its length, and its bytes (RFC 4251 5). A whole message has the same form.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing here comes near 4 GiB: what is read is bounded.
    to.extend((bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(length as usize)
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use ssh_key::Signature;

    use super::*;
    use crate::keys::{KeyPair, Suite};

    /// Any bytes will do: the agent looks at none of them.
    const CERTIFICATE: &[u8] = b"certificate";

    fn message(parts: &[&[u8]]) -> Vec<u8> {
        let mut message = Vec::new();
        put(&mut message, &parts.concat());
        message
    }

    fn string_of(bytes: &[u8]) -> Vec<u8> {
        message(&[bytes])
    }

    fn sign_request(key: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
        message(&[&[SIGN_REQUEST], &string_of(key), &string_of(data), &flags.to_be_bytes()])
    }

    /// What a client signs to log in.
    fn login_with(key: &[u8], method: &str, service: &str, more: &[u8]) -> Vec<u8> {
        let strings = [service, method].map(|text| string_of(text.as_bytes())).concat();
        let (session, user) = (string_of(&[7; 32]), string_of(b"root"));
        let key = [string_of(b"any algorithm"), string_of(key)].concat();
        [&session, &[USERAUTH_REQUEST][..], &user, &strings, &[1], &key, more].concat()
    }

    fn login_data() -> Vec<u8> {
        login_with(CERTIFICATE, "publickey", "ssh-connection", b"")
    }

    fn agent(key: &KeyPair) -> Agent {
        Agent::new(&key.private_der().unwrap(), Some(CERTIFICATE.to_vec())).unwrap()
    }

    fn p256() -> KeyPair {
        KeyPair::generate(Suite::BalancedV1, &mut OsRng).unwrap()
    }

    /// The signature in an answer, with the name of its algorithm.
    fn signature(answer: &[u8]) -> (String, Vec<u8>) {
        let (message, rest) = string(answer).unwrap();
        assert_eq!((message[0], rest), (SIGN_RESPONSE, &[][..]));
        let (blob, rest) = string(&message[1..]).unwrap();
        assert!(rest.is_empty());
        (String::from_utf8(string(blob).unwrap().0.to_vec()).unwrap(), blob.to_vec())
    }

    #[track_caller]
    fn signs(mut agent: Agent, public: &ssh_key::PublicKey, flags: u32, name: &str) {
        use ssh_key::public::KeyData;
        let (algorithm, blob) = signature(&agent.take(&sign_request(CERTIFICATE, &login_data(), flags)));
        assert_eq!(algorithm, name);
        let signature = Signature::try_from(blob.as_slice()).unwrap();
        let verify = |data: &[u8]| rsa::signature::Verifier::<Signature>::verify(public.key_data(), data, &signature);
        assert!(verify(&login_data()).is_ok(), "{name}");
        assert!(verify(b"other data").is_err(), "{name}");
        assert!(matches!(public.key_data(), KeyData::Rsa(_) | KeyData::Ecdsa(_) | KeyData::Ed25519(_)));
    }

    #[test]
    fn three_kinds_of_keys_sign() {
        // A number of an ECDSA signature is shorter once in 256 times, and has a zero in front every second time.
        for _ in 0..50 {
            let key = p256();
            signs(agent(&key), &key.public_ssh().unwrap(), 0, "ecdsa-sha2-nistp256");
        }
        let key = KeyPair::generate(Suite::Legacy, &mut OsRng).unwrap();
        for (flags, name) in [(2, "rsa-sha2-256"), (4, "rsa-sha2-512"), (6, "rsa-sha2-256")] {
            signs(agent(&key), &key.public_ssh().unwrap(), flags, name);
        }
        let key = ssh_key::PrivateKey::random(&mut OsRng, ssh_key::Algorithm::Ed25519).unwrap();
        // RFC 8410 7: the seed in two OCTET STRINGs.
        let prefix = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
        let seed = key.key_data().ed25519().unwrap().private.to_bytes();
        let der = PrivatePkcs8KeyDer::from([&prefix[..], &seed].concat()).into();
        signs(Agent::new(&der, Some(CERTIFICATE.to_vec())).unwrap(), key.public_key(), 0, "ssh-ed25519");
    }

    #[test]
    fn the_certificate_is_listed() {
        let answer = agent(&p256()).take(&message(&[&[REQUEST_IDENTITIES]]));
        let expected = [&[IDENTITIES_ANSWER, 0, 0, 0, 1][..], &string_of(CERTIFICATE), &string_of(b"")];
        assert_eq!(answer, message(&expected));
    }

    #[test]
    fn without_a_certificate_there_is_nothing() {
        let mut agent = Agent::new(&p256().private_der().unwrap(), None).unwrap();
        assert_eq!(agent.take(&message(&[&[REQUEST_IDENTITIES]])), message(&[&[IDENTITIES_ANSWER, 0, 0, 0, 0]]));
        assert_eq!(agent.take(&sign_request(b"", b"data", 0)), message(&[&[FAILURE]]));
    }

    #[test]
    fn everything_else_fails() {
        let rsa = KeyPair::generate(Suite::Legacy, &mut OsRng).unwrap();
        let failure = message(&[&[FAILURE]]);
        // No SHA-1.
        assert_eq!(agent(&rsa).take(&sign_request(CERTIFICATE, &login_data(), 0)), failure);
        let longer = [&sign_request(CERTIFICATE, &login_data(), 0)[4..], b"x"].concat();
        for request in [
            sign_request(b"another key", &login_with(b"another key", "publickey", "ssh-connection", b""), 0),
            message(&[&longer]),
            message(&[&[SIGN_REQUEST]]),
            message(&[&[SIGN_REQUEST], &u32::MAX.to_be_bytes(), b"x"]),
            message(&[&[REQUEST_IDENTITIES], b"x"]),
            // Adding a key, removing all, locking, an extension, and what nobody has heard of.
            message(&[&[17], b"key"]),
            message(&[&[19]]),
            message(&[&[22], &string_of(b"password")]),
            message(&[&[27], &string_of(b"session-bind@openssh.com")]),
            message(&[&[255]]),
        ] {
            let mut agent = agent(&p256());
            assert_eq!(agent.take(&request), failure, "{request:?}");
            // It goes on.
            assert!(agent.take(&message(&[&[REQUEST_IDENTITIES]])).len() > failure.len());
        }
    }

    #[test]
    fn only_logins_are_signed() {
        let bound = "publickey-hostbound-v00@openssh.com";
        let host = string_of(b"the host's key");
        let signed = |data: &[u8]| agent(&p256()).take(&sign_request(CERTIFICATE, data, 0))[4] == SIGN_RESPONSE;
        assert!(signed(&login_data()) && signed(&login_with(CERTIFICATE, bound, "ssh-connection", &host)));
        let of_tls =
            |side: &str| [&[b' '; 64], format!("TLS 1.3, {side} CertificateVerify\0").as_bytes(), &[7; 32]].concat();
        let mut unsigned = login_data();
        let at = unsigned.len() - CERTIFICATE.len() - "any algorithm".len() - 9;
        assert_eq!(std::mem::replace(&mut unsigned[at], 0), 1);
        for data in [
            b"".to_vec(),
            b"data".to_vec(),
            of_tls("client"),
            of_tls("server"),
            unsigned,
            login_data()[..login_data().len() - 1].to_vec(),
            login_with(b"another key", "publickey", "ssh-connection", b""),
            login_with(CERTIFICATE, "hostbased", "ssh-connection", b""),
            login_with(CERTIFICATE, "publickey", "ssh-userauth", b""),
            login_with(CERTIFICATE, "publickey", "ssh-connection", &host),
            login_with(CERTIFICATE, bound, "ssh-connection", b""),
        ] {
            assert!(!signed(&data), "{data:?}");
        }
    }

    #[test]
    fn messages_come_in_any_pieces() {
        let requests =
            [message(&[&[REQUEST_IDENTITIES]]), message(&[&[19]]), message(&[&[REQUEST_IDENTITIES]])].concat();
        let key = p256();
        let at_once = agent(&key).take(&requests);
        for size in [1, 3, 7] {
            let mut agent = agent(&key);
            let answers: Vec<u8> = requests.chunks(size).flat_map(|piece| agent.take(piece)).collect();
            assert_eq!(answers, at_once);
        }
    }

    #[test]
    fn a_message_has_bounds() {
        let list = message(&[&[REQUEST_IDENTITIES]]);
        for length in [0, LONGEST as u32 + 1, u32::MAX] {
            let mut agent = agent(&p256());
            assert_eq!(agent.take(&length.to_be_bytes()), message(&[&[FAILURE]]));
            assert_eq!(agent.take(&list), b"");
            assert!(agent.pending.len() <= 4);
        }
        let mut agent = agent(&p256());
        let longest = message(&[&vec![255; LONGEST]]);
        assert_eq!(agent.take(&[longest, list].concat())[..5], message(&[&[FAILURE]]));
    }

    #[test]
    fn a_der_signature_that_is_none() {
        assert_eq!(two_numbers(&[0x30, 6, 2, 1, 5, 2, 1, 7]), Some(vec![0, 0, 0, 1, 5, 0, 0, 0, 1, 7]));
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 5, 2, 1, 5, 2, 1, 7],
            &[0x30, 7, 2, 1, 5, 2, 1, 7],
            &[0x30, 6, 2, 1, 5, 3, 1, 7],
            &[0x31, 6, 2, 1, 5, 2, 1, 7],
            &[0x30, 3, 2, 1, 5],
            &[0x30, 0x81, 6, 2, 1, 5, 2, 1, 7],
            &[0x30, 6, 2, 1, 5, 2, 1, 7, 0],
        ] {
            assert_eq!(two_numbers(der), None, "{der:?}");
        }
    }
}
