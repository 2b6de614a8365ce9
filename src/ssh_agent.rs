//! An ssh-agent with one key and its certificate, for proxies that record sessions: such a proxy terminates ssh's
//! connection and logs in to the node with this agent (docs/protocol.md, "Session recording").
//!
//! The protocol is draft-ietf-sshm-ssh-agent. The agent answers two requests: it lists its certificate, and it signs a
//! login. All other requests fail, and no request changes anything. The key also belongs to a TLS certificate, so a
//! peer that could have arbitrary bytes signed could pretend to be us to the cluster's Auth Service.
//!
//! Any proxy can ask, also one that does not record and was broken into. What it could do with a signature is log in to a
//! node as us. So the agent signs for one user, a few times, at the beginning of a session, and can be switched off.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use p256::ecdsa;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use ssh_encoding::{Decode as _, Encode as _};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, Signature};

/// The longest message that OpenSSH's agent accepts.
const MAX_MESSAGE: u32 = 256 * 1024;

/// The most messages that are answered. A login takes two.
const MAX_MESSAGES: u32 = 64;

/// The most logins that are signed. A session has one; a few more are for nodes that refuse the first algorithm.
const MAX_SIGNATURES: u32 = 4;

/// How long the agent answers. A proxy that records logs in to the node as soon as ssh has logged in to the proxy, at the
/// beginning of the session.
const LOGGING_IN: Duration = Duration::from_secs(60);

/// The length of a session identifier in bytes: a hash of the key exchange (RFC 4253, section 7.2), from SHA-1 to SHA-512.
const SESSION_ID: RangeInclusive<usize> = 20..=64;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// The request to log in (RFC 4252, section 6).
const USERAUTH_REQUEST: u8 = 50;

/// Flags of a signature by an RSA key. Without them the signature would use SHA-1.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// The agent at the end of one stream.
pub(crate) struct Agent {
    key: Arc<dyn SigningKey>,
    certificate: Option<Vec<u8>>,
    /// The user on the node, for whom alone logins are signed.
    user: String,
    began: Instant,
    messages: u32,
    signatures: u32,
    /// The bytes of a message that is not complete yet.
    pending: Vec<u8>,
    ended: bool,
}

impl Agent {
    /// An agent for a key and its SSH certificate in wire format, for logins of `user` in a session that began at
    /// `began`. Without a certificate the agent lists nothing and signs nothing. Returns `None` if the type of the key is
    /// not supported.
    pub(crate) fn new(
        key: &PrivateKeyDer<'_>,
        certificate: Option<Vec<u8>>,
        user: String,
        began: Instant,
    ) -> Option<Self> {
        let key = ring::sign::any_supported_type(key).ok()?;
        Some(Self { key, certificate, user, began, messages: 0, signatures: 0, pending: Vec::new(), ended: false })
    }

    /// Takes the next bytes of the stream, which may hold parts of messages, and returns the responses. After a message
    /// of invalid length there are no more responses, because it is unknown where the next message begins; nor are there
    /// any after too many messages or too long a time.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut responses = Vec::new();
        if self.ended {
            return responses;
        }
        self.pending.extend_from_slice(bytes);
        // Encoding fails only for 4 GiB or more.
        let mut send = |response: Vec<u8>| drop(response.encode(&mut responses));
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        loop {
            let mut message = rest;
            let Ok(length) = u32::decode(&mut message) else { break };
            let is_over = self.messages == MAX_MESSAGES || self.began.elapsed() > LOGGING_IN;
            if is_over || !(1..=MAX_MESSAGE).contains(&length) {
                self.ended = true;
                send(vec![FAILURE]);
                return responses;
            }
            let Some((request, after)) = message.split_at_checked(length as usize) else { break };
            self.messages += 1;
            send(self.respond(request).unwrap_or_else(|| vec![FAILURE]));
            rest = after;
        }
        self.pending = rest.to_vec();
        responses
    }

    /// Returns `None` if the request fails.
    fn respond(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        match request.split_first()? {
            (&REQUEST_IDENTITIES, []) => self.list().ok(),
            (&SIGN_REQUEST, request) => self.sign_login(request),
            _ => None,
        }
    }

    fn list(&self) -> ssh_encoding::Result<Vec<u8>> {
        let mut response = vec![IDENTITIES_ANSWER];
        u32::from(self.certificate.is_some()).encode(&mut response)?;
        if let Some(certificate) = &self.certificate {
            certificate.encode(&mut response)?;
            // The comment.
            "".encode(&mut response)?;
        }
        Ok(response)
    }

    fn sign_login(&mut self, mut request: &[u8]) -> Option<Vec<u8>> {
        let key = Vec::<u8>::decode(&mut request).ok()?;
        let data = Vec::<u8>::decode(&mut request).ok()?;
        let flags = u32::decode(&mut request).ok()?;
        let certificate = self.certificate.as_ref().filter(|certificate| **certificate == key)?;
        let login = Login::parse(&data).ok()??;
        let is_ours = login.key == *certificate && login.user == self.user.as_bytes();
        if !request.is_empty() || !is_ours || self.signatures == MAX_SIGNATURES {
            return None;
        }
        self.signatures += 1;
        let signature = Vec::<u8>::try_from(self.sign(&data, flags)?).ok()?;
        let mut response = vec![SIGN_RESPONSE];
        signature.encode(&mut response).ok()?;
        Some(response)
    }

    fn sign(&self, data: &[u8], flags: u32) -> Option<Signature> {
        let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
        let (scheme, algorithm) = match self.key.algorithm() {
            SignatureAlgorithm::ED25519 => (SignatureScheme::ED25519, Algorithm::Ed25519),
            SignatureAlgorithm::ECDSA => {
                (SignatureScheme::ECDSA_NISTP256_SHA256, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 })
            }
            _ if flags & RSA_SHA2_256 != 0 => (SignatureScheme::RSA_PKCS1_SHA256, rsa(HashAlg::Sha256)),
            _ if flags & RSA_SHA2_512 != 0 => (SignatureScheme::RSA_PKCS1_SHA512, rsa(HashAlg::Sha512)),
            _ => return None,
        };
        let signature = self.key.choose_scheme(&[scheme])?.sign(data).ok()?;
        match algorithm {
            // TLS has the two numbers in DER, SSH each with its length (RFC 5656, 3.1.2).
            Algorithm::Ecdsa { .. } => ecdsa::Signature::from_der(&signature).ok()?.try_into().ok(),
            algorithm => Signature::new(algorithm, signature).ok(),
        }
    }
}

/// What a client signs to log in (RFC 4252, section 7; OpenSSH's PROTOCOL describes the variant that includes the host
/// key). What TLS signs has another beginning.
struct Login {
    user: Vec<u8>,
    key: Vec<u8>,
}

impl Login {
    /// Returns `None` if it is something else.
    fn parse(mut data: &[u8]) -> ssh_encoding::Result<Option<Self>> {
        const HOST_BOUND: &[u8] = b"publickey-hostbound-v00@openssh.com";
        let reader = &mut data;
        let session = Vec::<u8>::decode(reader)?;
        let message = u8::decode(reader)?;
        let user = Vec::<u8>::decode(reader)?;
        let service = Vec::<u8>::decode(reader)?;
        let method = Vec::<u8>::decode(reader)?;
        let has_signature = u8::decode(reader)?;
        let _algorithm = Vec::<u8>::decode(reader)?;
        let key = Vec::<u8>::decode(reader)?;
        if method == HOST_BOUND {
            let _host_key = Vec::<u8>::decode(reader)?;
        }
        let is_login = (message, has_signature) == (USERAUTH_REQUEST, 1)
            && SESSION_ID.contains(&session.len())
            && service == b"ssh-connection"
            && (method == b"publickey" || method == HOST_BOUND)
            && reader.is_empty();
        Ok(is_login.then_some(Self { user, key }))
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::keys::{KeyPair, Suite};

    /// The agent does not parse it.
    const CERTIFICATE: &[u8] = b"certificate";

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut string = Vec::new();
        bytes.encode(&mut string).unwrap();
        string
    }

    /// A message has the form of a string.
    fn message(parts: &[&[u8]]) -> Vec<u8> {
        string(&parts.concat())
    }

    fn sign_request(key: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
        message(&[&[SIGN_REQUEST], &string(key), &string(data), &flags.to_be_bytes()])
    }

    /// What a client signs to log in.
    fn login_with(key: &[u8], method: &str, service: &str, more: &[u8]) -> Vec<u8> {
        login_of("root", &[7; 32], key, method, service, more)
    }

    fn login_of(user: &str, session: &[u8], key: &[u8], method: &str, service: &str, more: &[u8]) -> Vec<u8> {
        let strings = [service, method].map(|text| string(text.as_bytes())).concat();
        let (session, user) = (string(session), string(user.as_bytes()));
        let key = [string(b"any algorithm"), string(key)].concat();
        [&session, &[USERAUTH_REQUEST][..], &user, &strings, &[1], &key, more].concat()
    }

    fn login_data() -> Vec<u8> {
        login_with(CERTIFICATE, "publickey", "ssh-connection", b"")
    }

    fn agent_of(key: &PrivateKeyDer<'_>, certificate: Option<&[u8]>) -> Agent {
        Agent::new(key, certificate.map(<[u8]>::to_vec), "root".to_owned(), Instant::now()).unwrap()
    }

    fn agent(key: &KeyPair) -> Agent {
        agent_of(&key.private_der().unwrap(), Some(CERTIFICATE))
    }

    fn p256() -> KeyPair {
        KeyPair::generate(Suite::BalancedV1, &mut OsRng).unwrap()
    }

    fn signature(response: &[u8]) -> Signature {
        let message = Vec::<u8>::decode(&mut &*response).unwrap();
        assert_eq!((message[0], message.len()), (SIGN_RESPONSE, response.len() - 4));
        let signature = Vec::<u8>::decode(&mut &message[1..]).unwrap();
        assert_eq!(signature.len(), message.len() - 5);
        Signature::try_from(signature.as_slice()).unwrap()
    }

    #[track_caller]
    fn signs(mut agent: Agent, public: &ssh_key::PublicKey, flags: u32, name: &str) {
        let signature = signature(&agent.receive(&sign_request(CERTIFICATE, &login_data(), flags)));
        assert_eq!(signature.algorithm().as_str(), name);
        let verify = |data: &[u8]| rsa::signature::Verifier::<Signature>::verify(public.key_data(), data, &signature);
        assert!(verify(&login_data()).is_ok(), "{name}");
        assert!(verify(b"other data").is_err(), "{name}");
    }

    #[test]
    fn three_types_of_keys_sign() {
        // One number in 256 of an ECDSA signature is shorter, and every second one has a zero in front.
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
        signs(agent_of(&der, Some(CERTIFICATE)), key.public_key(), 0, "ssh-ed25519");
    }

    #[test]
    fn the_certificate_is_listed() {
        let answer = agent(&p256()).receive(&message(&[&[REQUEST_IDENTITIES]]));
        let expected = [&[IDENTITIES_ANSWER, 0, 0, 0, 1][..], &string(CERTIFICATE), &string(b"")];
        assert_eq!(answer, message(&expected));
    }

    #[test]
    fn without_a_certificate_nothing_is_listed_or_signed() {
        let mut agent = agent_of(&p256().private_der().unwrap(), None);
        assert_eq!(agent.receive(&message(&[&[REQUEST_IDENTITIES]])), message(&[&[IDENTITIES_ANSWER, 0, 0, 0, 0]]));
        assert_eq!(agent.receive(&sign_request(b"", b"data", 0)), message(&[&[FAILURE]]));
    }

    #[test]
    fn all_other_requests_fail() {
        let rsa = KeyPair::generate(Suite::Legacy, &mut OsRng).unwrap();
        let failure = message(&[&[FAILURE]]);
        // No SHA-1.
        assert_eq!(agent(&rsa).receive(&sign_request(CERTIFICATE, &login_data(), 0)), failure);
        let longer = [&sign_request(CERTIFICATE, &login_data(), 0)[4..], b"x"].concat();
        for request in [
            sign_request(b"another key", &login_with(b"another key", "publickey", "ssh-connection", b""), 0),
            message(&[&longer]),
            message(&[&[SIGN_REQUEST]]),
            message(&[&[SIGN_REQUEST], &u32::MAX.to_be_bytes(), b"x"]),
            message(&[&[REQUEST_IDENTITIES], b"x"]),
            // Adding a key, removing all keys, locking, an extension, an unknown request.
            message(&[&[17], b"key"]),
            message(&[&[19]]),
            message(&[&[22], &string(b"password")]),
            message(&[&[27], &string(b"session-bind@openssh.com")]),
            message(&[&[255]]),
        ] {
            let mut agent = agent(&p256());
            assert_eq!(agent.receive(&request), failure, "{request:?}");
            // The next request is answered.
            assert!(agent.receive(&message(&[&[REQUEST_IDENTITIES]])).len() > failure.len());
        }
    }

    #[test]
    fn only_logins_are_signed() {
        let bound = "publickey-hostbound-v00@openssh.com";
        let host = string(b"the host's key");
        let signed = |data: &[u8]| agent(&p256()).receive(&sign_request(CERTIFICATE, data, 0))[4] == SIGN_RESPONSE;
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

    /// F4: what a proxy that was broken into asks for.
    #[test]
    fn only_logins_of_the_user_of_this_session_are_signed() {
        let signed = |user: &str, session: &[u8]| {
            let data = login_of(user, session, CERTIFICATE, "publickey", "ssh-connection", b"");
            agent(&p256()).receive(&sign_request(CERTIFICATE, &data, 0))[4] == SIGN_RESPONSE
        };
        assert!(signed("root", &[7; 20]) && signed("root", &[7; 64]));
        for user in ["", "Root", "root ", "user", "-teleport-internal-join"] {
            assert!(!signed(user, &[7; 32]), "{user}");
        }
        for length in [0, 1, 19, 65, 200_000] {
            assert!(!signed("root", &vec![7; length]), "{length}");
        }
    }

    #[test]
    fn a_session_has_few_signatures_and_messages() {
        let key = p256();
        let mut busy = agent(&key);
        let mut signed = || busy.receive(&sign_request(CERTIFICATE, &login_data(), 0))[4] == SIGN_RESPONSE;
        assert!((0..MAX_SIGNATURES).all(|_| signed()) && !signed());
        let list = message(&[&[REQUEST_IDENTITIES]]);
        let answer = agent(&key).receive(&list).len();
        let answers = agent(&key).receive(&list.repeat(100_000));
        assert_eq!(answers.len(), answer * MAX_MESSAGES as usize + message(&[&[FAILURE]]).len());
    }

    #[test]
    fn after_the_login_nothing_is_answered() {
        let key = p256();
        let began = Instant::now().checked_sub(LOGGING_IN + Duration::from_secs(1)).unwrap();
        let mut late =
            Agent::new(&key.private_der().unwrap(), Some(CERTIFICATE.to_vec()), "root".to_owned(), began).unwrap();
        assert_eq!(late.receive(&message(&[&[REQUEST_IDENTITIES]])), message(&[&[FAILURE]]));
        assert_eq!(late.receive(&sign_request(CERTIFICATE, &login_data(), 0)), b"");
    }

    #[test]
    fn messages_arrive_in_any_pieces() {
        let requests =
            [message(&[&[REQUEST_IDENTITIES]]), message(&[&[19]]), message(&[&[REQUEST_IDENTITIES]])].concat();
        let key = p256();
        let in_one_piece = agent(&key).receive(&requests);
        for size in [1, 3, 7] {
            let mut agent = agent(&key);
            let responses: Vec<u8> = requests.chunks(size).flat_map(|piece| agent.receive(piece)).collect();
            assert_eq!(responses, in_one_piece);
        }
    }

    #[test]
    fn the_length_of_a_message_is_limited() {
        let list = message(&[&[REQUEST_IDENTITIES]]);
        for length in [0, MAX_MESSAGE + 1, u32::MAX] {
            let mut agent = agent(&p256());
            assert_eq!(agent.receive(&length.to_be_bytes()), message(&[&[FAILURE]]));
            assert_eq!(agent.receive(&list), b"");
            assert!(agent.pending.len() <= 4);
        }
        let mut agent = agent(&p256());
        let longest = message(&[&vec![255; MAX_MESSAGE as usize]]);
        assert_eq!(agent.receive(&[longest, list].concat())[..5], message(&[&[FAILURE]]));
    }
}
