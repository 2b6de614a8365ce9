//! The host certificate that a node shows to ssh, read from the bytes on their way to ssh. ssh itself only says that its
//! name is not a listed principal, and not which names are.
//!
//! Until both sides have agreed on keys, SSH is in clear: lines of text, then binary packets (RFC 4253, sections 4.2 and 6).
//! The answer to the key exchange begins with the node's host key or certificate, whichever exchange was negotiated (RFC
//! 4253, section 8; RFC 5656, section 4; hybrid ones have the same form). Nothing is verified here: ssh does that, and what
//! is found here only makes a message.

use std::ops::ControlFlow;

use crate::limits;

/// The answer of most key exchanges. In the group exchange of RFC 4419 it has the group, and the next one the key.
const KEX_REPLY: u8 = 31;
const GROUP_EXCHANGE_REPLY: u8 = 33;
const DISCONNECT: u8 = 1;
/// From here on everything is encrypted.
const NEW_KEYS: u8 = 21;

/// An SSH certificate as far as names matter (OpenSSH's PROTOCOL.certkeys).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    kind: u32,
    /// If there are none, the certificate is for all names.
    pub(super) principals: Vec<String>,
}

impl Certificate {
    /// Parses a certificate in wire format. Principals that are not UTF-8 are left out: no name that is compared has other
    /// characters.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let fields = match key_fields(string(&mut bytes)?)? {
            KeyType::Certificate { fields } => fields,
            KeyType::Plain => return None,
        };
        // A nonce, then the public key, then the serial number.
        (0..=fields).try_for_each(|_| string(&mut bytes).map(drop))?;
        take(&mut bytes, 8)?;
        let kind = number(&mut bytes)?;
        let _key_id = string(&mut bytes)?;
        let mut list = string(&mut bytes)?;
        let mut principals = Vec::new();
        while !list.is_empty() {
            if principals.len() == limits::PRINCIPALS {
                return None;
            }
            principals.push(String::from_utf8(string(&mut list)?.to_vec()).ok());
        }
        Some(Self { kind, principals: principals.into_iter().flatten().collect() })
    }

    pub(super) fn is_for_hosts(&self) -> bool {
        self.kind == 2
    }

    /// By bytes, as ssh compares: it knows no patterns in a certificate.
    pub(super) fn has(&self, name: &str) -> bool {
        self.principals.iter().any(|principal| principal == name)
    }

    pub(super) fn has_in_any_case(&self, name: &str) -> bool {
        self.principals.iter().any(|principal| principal.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
impl Certificate {
    pub(super) fn for_host(principals: &[&str]) -> Self {
        Self { kind: 2, principals: principals.iter().map(|name| (*name).to_owned()).collect() }
    }
}

enum KeyType {
    Plain,
    Certificate {
        /// The strings and numbers of the public key.
        fields: usize,
    },
}

/// Returns `None` if this is not the type of a key.
fn key_fields(name: &[u8]) -> Option<KeyType> {
    let name = std::str::from_utf8(name).ok()?;
    let Some(plain) = name.strip_suffix("-cert-v01@openssh.com") else {
        let is_type = name.starts_with("ssh-") || name.starts_with("ecdsa-") || name.starts_with("sk-");
        return is_type.then_some(KeyType::Plain);
    };
    let fields = match plain {
        "ssh-ed25519" => 1,
        "ssh-rsa" | "rsa-sha2-256" | "rsa-sha2-512" => 2,
        "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => 2,
        _ => return None,
    };
    Some(KeyType::Certificate { fields })
}

/// Reads the bytes that a node sends at the beginning of a session, in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct KeyExchange {
    /// What is not a whole line or a whole packet yet.
    pending: Vec<u8>,
    /// The bytes so far.
    seen: usize,
    /// Whether the line with the version of the protocol has ended.
    greeted: bool,
}

impl KeyExchange {
    /// Breaks once it is known which certificate the node has, or that none will be found.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> ControlFlow<Option<Certificate>> {
        let room = limits::KEY_EXCHANGE_SIZE - self.seen;
        let taken = &bytes[..bytes.len().min(room)];
        self.seen += taken.len();
        self.pending.extend_from_slice(taken);
        let mut rest = self.pending.as_slice();
        while !self.greeted {
            match line(&mut rest)? {
                Some(line) => self.greeted = line.starts_with(b"SSH-"),
                None => break,
            }
        }
        while self.greeted
            && let Some(payload) = packet(&mut rest)?
        {
            host_key(payload)?;
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        if self.seen < limits::KEY_EXCHANGE_SIZE { ControlFlow::Continue(()) } else { ControlFlow::Break(None) }
    }
}

/// The next line, if it is complete.
fn line<'a>(bytes: &mut &'a [u8]) -> ControlFlow<Option<Certificate>, Option<&'a [u8]>> {
    match bytes.iter().take(limits::GREETING_LINE_SIZE).position(|byte| *byte == b'\n') {
        Some(end) => {
            let (line, rest) = bytes.split_at(end);
            *bytes = &rest[1..];
            ControlFlow::Continue(Some(line))
        }
        None if bytes.len() < limits::GREETING_LINE_SIZE => ControlFlow::Continue(None),
        None => ControlFlow::Break(None),
    }
}

/// The payload of the next packet, if it is complete: its length, the length of its padding, payload and padding.
fn packet<'a>(bytes: &mut &'a [u8]) -> ControlFlow<Option<Certificate>, Option<&'a [u8]>> {
    let mut rest = *bytes;
    let Some(length) = number(&mut rest) else { return ControlFlow::Continue(None) };
    if length as usize > limits::KEY_EXCHANGE_SIZE {
        return ControlFlow::Break(None);
    }
    let Some(packet) = take(&mut rest, length as usize) else { return ControlFlow::Continue(None) };
    *bytes = rest;
    let payload =
        packet.split_first().and_then(|(padding, rest)| rest.get(..rest.len().checked_sub(usize::from(*padding))?));
    match payload {
        Some(payload) => ControlFlow::Continue(Some(payload)),
        None => ControlFlow::Break(None),
    }
}

/// Looks at a message for the host key.
fn host_key(payload: &[u8]) -> ControlFlow<Option<Certificate>> {
    match payload.split_first() {
        Some((&(KEX_REPLY | GROUP_EXCHANGE_REPLY), mut fields)) => {
            let key = string(&mut fields);
            let is_key = key.is_some_and(|mut key| string(&mut key).and_then(key_fields).is_some());
            match key {
                Some(key) if is_key => ControlFlow::Break(Certificate::parse(key)),
                // The group of a group exchange.
                _ if payload[0] == KEX_REPLY => ControlFlow::Continue(()),
                _ => ControlFlow::Break(None),
            }
        }
        Some((&(DISCONNECT | NEW_KEYS), _)) | None => ControlFlow::Break(None),
        Some(_) => ControlFlow::Continue(()),
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*number))
}

fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = *bytes;
    let length = number(&mut rest)?;
    let string = take(&mut rest, length as usize)?;
    *bytes = rest;
    Some(string)
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;
    use ssh_key::certificate::{Builder, CertType};
    use ssh_key::{Algorithm, EcdsaCurve, PrivateKey};

    use super::*;

    fn certificate(algorithm: Algorithm, kind: CertType, names: &[&str]) -> Vec<u8> {
        let key = PrivateKey::random(&mut OsRng, algorithm).unwrap();
        let mut builder = Builder::new_with_random_nonce(&mut OsRng, key.public_key(), 0, 1).unwrap();
        builder.cert_type(kind).unwrap();
        match names {
            [] => _ = builder.all_principals_valid().unwrap(),
            names => names.iter().for_each(|name| _ = builder.valid_principal(*name).unwrap()),
        }
        builder.sign(&key).unwrap().to_bytes().unwrap()
    }

    fn host(names: &[&str]) -> Vec<u8> {
        certificate(Algorithm::Ed25519, CertType::Host, names)
    }

    fn with_length(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn message(number: u8, fields: &[&[u8]]) -> Vec<u8> {
        let fields: Vec<_> = fields.iter().map(|field| with_length(field)).collect();
        let payload = [&[number][..], &fields.concat()].concat();
        with_length(&[&[4][..], &payload, &[0; 4]].concat())
    }

    /// What a node sends, up to its host key.
    fn session(key: &[u8]) -> Vec<u8> {
        let greeting = b"a line before\r\nSSH-2.0-Teleport\r\n".to_vec();
        [greeting, message(20, &[&[0; 900]]), message(KEX_REPLY, &[key, &[1; 1120], &[2; 83]])].concat()
    }

    fn principals(found: ControlFlow<Option<Certificate>>) -> Option<Vec<String>> {
        match found {
            ControlFlow::Break(certificate) => certificate.map(|certificate| certificate.principals),
            ControlFlow::Continue(()) => panic!("undecided"),
        }
    }

    #[test]
    fn the_names_of_certificates_of_all_types_are_found() {
        for algorithm in [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }] {
            let found = Certificate::parse(&certificate(algorithm, CertType::Host, &["a", "b.example"])).unwrap();
            assert!(found.is_for_hosts() && found.principals == ["a", "b.example"], "{found:?}");
            assert!(found.has("a") && !found.has("A") && !found.has("b"));
        }
        let numbers: Vec<_> = [3, 129].iter().flat_map(|length| with_length(&vec![1; *length])).collect();
        let name = with_length(b"ssh-rsa-cert-v01@openssh.com");
        let names = with_length(&with_length(b"a"));
        let rsa =
            [&name[..], &with_length(&[0; 32]), &numbers, &[0; 8], &[0, 0, 0, 2], &with_length(b""), &names].concat();
        assert_eq!(Certificate::parse(&rsa).unwrap().principals, ["a"]);
        let user = Certificate::parse(&certificate(Algorithm::Ed25519, CertType::User, &["a"])).unwrap();
        assert!(!user.is_for_hosts());
    }

    #[test]
    fn a_host_certificate_is_found_in_pieces_of_any_size() {
        let bytes = session(&host(&["node", "node.CorpProd"]));
        for size in [1, 2, 7, 100, 1000, bytes.len()] {
            let mut exchange = KeyExchange::default();
            let found = bytes.chunks(size).map(|piece| exchange.receive(piece)).find(ControlFlow::is_break).unwrap();
            assert_eq!(principals(found).unwrap(), ["node", "node.CorpProd"], "{size}");
        }
        // What comes after the reply is not needed, and not disturbing.
        let more = [bytes, vec![7; 1 << 20]].concat();
        assert!(principals(KeyExchange::default().receive(&more)).is_some());
    }

    #[test]
    fn a_group_exchange_answers_twice() {
        let group = message(KEX_REPLY, &[&[0xff; 257], &[2]]);
        let reply = message(GROUP_EXCHANGE_REPLY, &[&host(&["node"]), &[1; 257], &[2; 83]]);
        let bytes = [b"SSH-2.0-x\n".to_vec(), message(20, &[]), group, reply].concat();
        assert_eq!(principals(KeyExchange::default().receive(&bytes)).unwrap(), ["node"]);
    }

    #[test]
    fn what_is_not_a_certificate_ends_the_search() {
        let plain = [with_length(b"ssh-ed25519"), with_length(&[1; 32])].concat();
        let cut = host(&["node"]);
        for key in [&plain[..], &cut[..100], &[0xff; 60]] {
            let mut exchange = KeyExchange::default();
            let bytes = [session(key), message(NEW_KEYS, &[])].concat();
            assert_eq!(principals(exchange.receive(&bytes)), None);
        }
    }

    #[test]
    fn too_many_principals_are_refused() {
        let names: Vec<_> = (0..=limits::PRINCIPALS).map(|n| n.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(Certificate::parse(&host(&names)).is_none() && Certificate::parse(&host(&names[1..])).is_some());
    }

    /// Feeds bytes in pieces until it is decided; the memory is limited at any time.
    fn decide(pieces: impl IntoIterator<Item = Vec<u8>>) -> Option<Option<Certificate>> {
        let mut exchange = KeyExchange::default();
        for piece in pieces {
            if let ControlFlow::Break(found) = exchange.receive(&piece) {
                return Some(found);
            }
            assert!(exchange.pending.capacity() <= 2 * limits::KEY_EXCHANGE_SIZE);
        }
        None
    }

    #[test]
    fn whatever_a_hostile_node_sends_the_search_ends() {
        let greeting = b"SSH-2.0-x\r\n".to_vec();
        let huge = |length: u32| [greeting.clone(), length.to_be_bytes().to_vec()].concat();
        for (what, bytes) in [
            ("zeros", vec![0; 1 << 20]),
            ("a line without an end", vec![b'a'; 1 << 20]),
            ("lines without an end", b"a\n".repeat(1 << 20)),
            ("empty packets", [greeting.clone(), vec![0; 1 << 20]].concat()),
            ("a huge packet", huge(u32::MAX)),
            ("a packet that never ends", [huge(60_000), vec![1; 1 << 20]].concat()),
            ("padding longer than the packet", [huge(2), vec![200, 20]].concat()),
            ("ignored messages", [greeting.clone(), message(2, &[b"x"]).repeat(1 << 16)].concat()),
            ("groups", [greeting.clone(), message(KEX_REPLY, &[]).repeat(1 << 16)].concat()),
        ] {
            assert_eq!(decide([bytes.clone()]), Some(None), "{what}");
            assert_eq!(decide(bytes.chunks(1).map(<[u8]>::to_vec)), Some(None), "{what}, by bytes");
        }
        assert_eq!(decide([greeting.clone(), vec![]]), None);
    }

    #[test]
    fn a_session_that_is_changed_anywhere_does_no_harm() {
        let session = session(&host(&["node"]));
        for at in 0..session.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut changed = session.clone();
                changed[at] ^= bits;
                decide([changed]);
            }
            decide([session[..at].to_vec()]);
        }
    }
}
