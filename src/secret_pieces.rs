//! Pieces of secrets in text.
//!
//! A server that got an ID token can quote it in an error message, as a whole or in pieces, plain or encoded. The log of a
//! step has more readers than the server.

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use zeroize::Zeroizing;

/// The length of a piece that must not be printed, in characters.
const LENGTH: usize = 12;

/// A secret that is shorter than a piece, such as a password, is masked as a whole. Still shorter ones are words.
const SHORTEST: usize = 8;

const MASK: &str = "(not shown)";

/// Bits in the filter: ten times the number of bytes of an ID token in all its forms.
const FILTER_BITS: u32 = 17;

/// Finds the pieces of some secrets in text.
pub(crate) struct SecretPieces {
    /// Forms that are at least as long as a piece.
    long: Vec<Zeroizing<Vec<u8>>>,
    short: Vec<Zeroizing<Vec<u8>>>,
    /// A bit for each four successive bytes of a form. Almost no other text has all of its bits there, so that searching
    /// the forms is rare: the log must not take longer because there is a secret.
    filter: Vec<u64>,
}

impl Default for SecretPieces {
    fn default() -> Self {
        Self { long: Vec::new(), short: Vec::new(), filter: vec![0; 1 << (FILTER_BITS - 6)] }
    }
}

impl SecretPieces {
    pub(crate) fn add(&mut self, secret: &str) {
        for form in forms(secret).into_iter().filter(|form| form.len() >= SHORTEST) {
            for (word, bit) in form.array_windows().map(filter_position) {
                self.filter[word] |= bit;
            }
            let forms = if form.len() < LENGTH { &mut self.short } else { &mut self.long };
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
    }

    /// The text with a mask in place of each piece.
    pub(crate) fn mask(&self, text: &str) -> String {
        let (folded, positions) = decoded(text);
        let position = |at: usize| positions.get(at).copied().unwrap_or(text.len());
        let (mut masked, mut rest) = (String::with_capacity(text.len()), 0);
        for start in 0..folded.len() {
            let Some(length) = self.piece(&folded[start..]) else { continue };
            // A piece that overlaps with the one before, or follows it, belongs to the same mask.
            if position(start) > rest || rest == 0 {
                masked += &text[rest..position(start)];
                masked += MASK;
            }
            rest = rest.max(position(start + length));
        }
        masked + &text[rest..]
    }

    /// The length of the piece that the text begins with. A piece is ASCII, so that it begins and ends between characters.
    fn piece(&self, text: &[u8]) -> Option<usize> {
        let is_likely = |piece: &[u8]| {
            piece.is_ascii()
                && piece.array_windows().map(filter_position).all(|(word, bit)| self.filter[word] & bit != 0)
        };
        text.get(..SHORTEST).filter(|piece| is_likely(piece))?;
        let is_in = |piece: &[u8]| self.long.iter().any(|form| form.windows(LENGTH).any(|other| other == piece));
        if text.get(..LENGTH).is_some_and(|piece| is_likely(piece) && is_in(piece)) {
            return Some(LENGTH);
        }
        self.short.iter().find(|form| form.is_ascii() && text.starts_with(form)).map(|form| form.len())
    }
}

/// The place of four bytes in the filter: Fibonacci hashing.
fn filter_position(bytes: &[u8; 4]) -> (usize, u64) {
    let hash = u32::from_le_bytes(*bytes).wrapping_mul(0x9e37_79b1) >> (32 - FILTER_BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// A secret as it may be quoted: plain, backwards, in hex, in base64 at each of its three alignments, and what is base64 in
/// it in hex. Letters are folded.
fn forms(secret: &str) -> Vec<Zeroizing<Vec<u8>>> {
    let bytes = secret.as_bytes();
    let base64 = |skipped: usize| Base64::encode_string(bytes.get(skipped..).unwrap_or_default()).into_bytes();
    let digit = |number: u8| b"0123456789abcdef"[usize::from(number & 15)];
    let hex = |bytes: &[u8]| bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect::<Vec<_>>();
    let mut forms =
        vec![bytes.to_vec(), bytes.iter().rev().copied().collect(), hex(bytes), base64(0), base64(1), base64(2)];
    let parts = secret.split('.').filter_map(|part| Base64UrlUnpadded::decode_vec(part).ok());
    forms.extend(parts.map(|part| hex(&part)));
    forms.into_iter().map(|form| Zeroizing::new(form.into_iter().map(folded).collect())).collect()
}

/// The bytes of a text, folded, with `%41` as one byte, and the position of each in the text.
fn decoded(text: &str) -> (Zeroizing<Vec<u8>>, Vec<usize>) {
    let (mut bytes, mut positions) = (Zeroizing::new(Vec::with_capacity(text.len())), Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let encoded = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        positions.push(text.len() - rest.len());
        bytes.push(folded(encoded.unwrap_or(first)));
        rest = if encoded.is_some() { &after[2..] } else { after };
    }
    (bytes, positions)
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
            TOKEN
                .bytes()
                .enumerate()
                .map(|(n, byte)| if n % 3 == 0 { format!("%{byte:02X}") } else { char::from(byte).into() })
                .collect(),
            hex(r#"{"iss":"https://example"}"#),
            Base64::encode_string(TOKEN.as_bytes()),
            Base64::encode_string(&TOKEN.as_bytes()[1..]),
            Base64UrlUnpadded::encode_string(&TOKEN.as_bytes()[2..]),
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
    fn a_short_secret_is_masked_as_a_whole_and_a_word_is_not() {
        let mut pieces = SecretPieces::default();
        pieces.add("proxy");
        pieces.add("S3cret-pw");
        assert_eq!(
            pieces.mask("the proxy said s3cret-PW, S3cret-p and s3cret-pws3cret-pw"),
            format!("the proxy said {MASK}, S3cret-p and {MASK}")
        );
        let basic = Base64::encode_string(b"S3cret-pw");
        assert_eq!(pieces.mask(&format!("Basic {basic}!")), format!("Basic {MASK}!"));
    }
}
