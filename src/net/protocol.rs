//! Which protocol a peer speaks, judged by the first bytes that it sent.

/// A protocol whose servers are met instead of the one that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tls,
    Http,
    Ssh,
    Socks5,
    Unknown,
}

impl Protocol {
    /// Returns `None` if the peer has sent nothing.
    pub(crate) fn identify(first: &[u8]) -> Option<Self> {
        // At least two bytes are needed to tell the beginning of a word from chance.
        let begins = |with: &[u8]| first.starts_with(with) || (first.len() > 1 && with.starts_with(first));
        match first {
            [] => None,
            // A TLS record begins with its type and version 3 (RFC 8446, section 5.1).
            [20..=24] | [20..=24, 3, ..] => Some(Self::Tls),
            [5, _, ..] => Some(Self::Socks5),
            _ if begins(b"SSH-") => Some(Self::Ssh),
            _ if begins(b"HTTP/") => Some(Self::Http),
            _ => Some(Self::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_identified_by_their_first_bytes() {
        for (first, protocol) in [
            (&b""[..], None),
            (b"\x16", Some(Protocol::Tls)),
            (b"\x16\x03\x03\x00\x7a\x02", Some(Protocol::Tls)),
            (b"\x15\x03\x01\x00\x02\x02\x46", Some(Protocol::Tls)),
            (b"\x16\x00", Some(Protocol::Unknown)),
            (b"HT", Some(Protocol::Http)),
            (b"HTTP/1.1 400 Bad Request\r\n", Some(Protocol::Http)),
            (b"S", Some(Protocol::Unknown)),
            (b"SS", Some(Protocol::Ssh)),
            (b"SSH-2.0-OpenSSH_9.2p1\r\nmore", Some(Protocol::Ssh)),
            (b"\x05\xff", Some(Protocol::Socks5)),
            (b"220 mail.example.com ESMTP\r\n", Some(Protocol::Unknown)),
        ] {
            assert_eq!(Protocol::identify(first), protocol, "{first:?}");
        }
    }
}
