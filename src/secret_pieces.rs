//! Pieces of secrets in text.
//!
//! A server that got an ID token can quote it in an error message, as a whole or in pieces, plain or encoded. The log of a
//! step has more readers than the server.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

/// The length of a piece that must not be printed, in characters.
const LENGTH: usize = 12;

const MASK: &str = "(a token, not shown)";

/// All pieces of some secrets. It keeps hashes with random keys, so that it holds no secret itself.
#[derive(Debug, Default)]
pub(crate) struct SecretPieces {
    state: RandomState,
    /// Sorted.
    hashes: Vec<u64>,
}

impl SecretPieces {
    /// Adds the pieces of a secret. Those of a text that is shorter than a piece cannot be told from other text.
    pub(crate) fn add(&mut self, secret: &str) {
        for form in forms(secret) {
            let hashes = form.windows(LENGTH).filter(|piece| piece.is_ascii()).map(|piece| self.hash(piece));
            let hashes: Vec<u64> = hashes.collect();
            self.hashes.extend(hashes);
        }
        self.hashes.sort_unstable();
        self.hashes.dedup();
    }

    /// The text with a mask in place of each piece.
    pub(crate) fn mask(&self, text: &str) -> String {
        let folded = Zeroizing::new(text.bytes().map(folded).collect::<Vec<_>>());
        let is_secret = |piece: &[u8]| piece.is_ascii() && self.hashes.binary_search(&self.hash(piece)).is_ok();
        let (mut masked, mut rest) = (String::with_capacity(text.len()), 0);
        for (start, piece) in folded.windows(LENGTH).enumerate() {
            if !is_secret(piece) {
                continue;
            }
            // A piece that overlaps with the one before belongs to the same mask.
            if start >= rest {
                masked += &text[rest..start];
                masked += if start == rest && rest > 0 { "" } else { MASK };
            }
            rest = start + LENGTH;
        }
        masked + &text[rest..]
    }

    fn hash(&self, piece: &[u8]) -> u64 {
        self.state.hash_one(piece)
    }
}

/// A secret as it may be quoted: plain, backwards, in hex, in base64 at each of its three alignments, and with every byte
/// percent-encoded. Letters are folded.
fn forms(secret: &str) -> [Zeroizing<Vec<u8>>; 7] {
    let bytes = secret.as_bytes();
    let base64 = |skipped: usize| Base64::encode_string(bytes.get(skipped..).unwrap_or_default()).into_bytes();
    let each = |encode: fn(u8) -> String| bytes.iter().flat_map(|byte| encode(*byte).into_bytes()).collect();
    let forms = [
        bytes.to_vec(),
        bytes.iter().rev().copied().collect(),
        each(|byte| format!("{byte:02x}")),
        each(|byte| format!("%{byte:02x}")),
        base64(0),
        base64(1),
        base64(2),
    ];
    forms.map(|form| Zeroizing::new(form.into_iter().map(folded).collect()))
}

/// A byte without its case, and without the difference between the two alphabets of base64.
fn folded(byte: u8) -> u8 {
    match byte.to_ascii_lowercase() {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V4YW1wbGUifQ.c2lnbmF0dXJlLW9mLWEtdG9rZW4_-x";

    fn mask(text: &str) -> String {
        let mut pieces = SecretPieces::default();
        pieces.add(TOKEN);
        pieces.mask(text)
    }

    #[test]
    fn every_form_of_every_piece_is_masked() {
        // F11: what a server can make of the token that it got.
        let reversed: String = TOKEN.chars().rev().collect();
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>();
        let (header, payload, signature) = (&TOKEN[..20], &TOKEN[21..58], &TOKEN[59..]);
        let swapped = format!("{signature}.{payload}.{header}");
        for quoted in [
            TOKEN.to_owned(),
            signature.to_owned(),
            payload[5..17].to_owned(),
            TOKEN[3..].to_owned(),
            TOKEN.to_uppercase(),
            TOKEN.to_lowercase(),
            swapped,
            reversed,
            hex(TOKEN),
            hex(&signature[1..]),
            TOKEN.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            Base64::encode_string(TOKEN.as_bytes()),
            Base64::encode_string(&TOKEN.as_bytes()[1..]),
            base64ct::Base64UrlUnpadded::encode_string(&TOKEN.as_bytes()[2..]),
        ] {
            let masked = mask(&format!("bad token={quoted}, sorry"));
            let rest = masked.strip_prefix("bad token=").and_then(|rest| rest.strip_suffix(", sorry")).unwrap();
            assert!(rest.replace(MASK, "").len() < LENGTH, "{quoted}: {rest}");
        }
    }

    #[test]
    fn other_text_stays() {
        for text in
            ["", "short", "the cluster example.teleport.sh, Teleport 18.2.0", "ключ äöü eyJhbGci", "eyJhbGciOiJ"]
        {
            assert_eq!(mask(text), text);
        }
        assert_eq!(mask(&format!("ключ{}ключ", &TOKEN[30..50])), format!("ключ{MASK}ключ"));
    }

    #[test]
    fn text_beside_a_piece_stays() {
        assert_eq!(mask(&format!("a {} b {} c", &TOKEN[..20], &TOKEN[60..])), format!("a {MASK} b {MASK} c"));
    }

    #[test]
    fn a_short_text_is_not_a_secret() {
        let mut pieces = SecretPieces::default();
        pieces.add("proxy");
        assert_eq!(pieces.mask("the proxy"), "the proxy");
    }
}
