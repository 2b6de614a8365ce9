//! The codec of protobuf with a limit for the number of fields of a message.
//!
//! An empty message in a list takes two bytes on the wire, and in memory all of its structure. So a limit of bytes alone
//! would let a server use up many times as much memory.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// The most fields that a message may have, those of the messages in it included. The certificate authorities of 500
/// clusters have 20 000, if each has forty with those that are not read here.
pub const MAX_FIELDS: usize = 1 << 15;

/// How deep messages in messages are looked at. A certificate authority with its keys has four levels.
const MAX_DEPTH: usize = 6;

/// The text of the status that a message with too many fields leads to.
pub const TOO_MANY_FIELDS: &str = "a message with too many fields";

/// The codec of the clients and services in this crate.
#[derive(Clone, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for BoundedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::default())
    }
}

/// Decodes messages that do not have too many fields.
#[derive(Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use prost::bytes::Buf as _;
        // The message is in one piece. A field has at least two bytes, so that most messages need not be counted.
        let message = buf.chunk();
        let mut left = MAX_FIELDS;
        if message.len() / 2 > MAX_FIELDS && count(message, MAX_DEPTH, &mut left) == Count::TooMany {
            return Err(Status::internal(TOO_MANY_FIELDS));
        }
        self.0.decode(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

#[derive(Debug, PartialEq)]
enum Count {
    AMessage,
    NotAMessage,
    TooMany,
}

/// Takes the number of fields from `left`. The wire format does not tell messages from other bytes, so that whatever can
/// be read as a message counts as one.
fn count(mut bytes: &[u8], depth: usize, left: &mut usize) -> Count {
    let mut groups = Vec::new();
    while !bytes.is_empty() {
        let Some(key) = varint(&mut bytes) else { return Count::NotAMessage };
        let skipped = match key & 7 {
            0 => varint(&mut bytes).map(|_| &[][..]),
            1 => take(&mut bytes, 8),
            2 => varint(&mut bytes).and_then(|length| take(&mut bytes, length)),
            // The beginning and the end of a group, whose fields are counted like others.
            3 => {
                groups.push(key >> 3);
                Some(&[][..])
            }
            4 => groups.pop().filter(|begun| *begun == key >> 3).map(|_| &[][..]),
            5 => take(&mut bytes, 4),
            _ => None,
        };
        let Some(payload) = skipped.filter(|_| key >> 3 != 0) else { return Count::NotAMessage };
        let Some(rest) = left.checked_sub(1) else { return Count::TooMany };
        *left = rest;
        let before = *left;
        if key & 7 == 2 && depth > 0 {
            match count(payload, depth - 1, left) {
                Count::TooMany => return Count::TooMany,
                Count::NotAMessage => *left = before,
                Count::AMessage => {}
            }
        }
    }
    if groups.is_empty() { Count::AMessage } else { Count::NotAMessage }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CaKeySet, CertAuthoritySpecV2, CertAuthorityV2, SshKeyPair};

    const KEY: &[u8] = b"ssh-ed25519 AAAAC3NzaC1lZDI1";

    fn counted(message: &[u8]) -> (Count, usize) {
        let mut left = MAX_FIELDS;
        (count(message, MAX_DEPTH, &mut left), MAX_FIELDS - left)
    }

    #[test]
    fn fields_are_counted_at_every_level() {
        let keys = CaKeySet { ssh: vec![SshKeyPair { public_key: KEY.into() }; 3], ..Default::default() };
        let spec =
            CertAuthoritySpecV2 { cluster_name: "example.com".into(), active_keys: Some(keys), ..Default::default() };
        let message = CertAuthorityV2 { spec: Some(spec) }.encode_to_vec();
        // spec, cluster_name, active_keys, and three times ssh and public_key.
        assert_eq!(counted(&message), (Count::AMessage, 9));
    }

    #[test]
    fn a_bomb_of_empty_messages_is_found_at_every_level() {
        let mut bomb = [0x0a, 0].repeat(MAX_FIELDS + 1);
        for _ in 0..MAX_DEPTH {
            assert_eq!(counted(&bomb).0, Count::TooMany);
            let mut length = Vec::new();
            prost::encoding::encode_varint(bomb.len() as u64, &mut length);
            bomb = [&[0x0a][..], &length, &bomb].concat();
        }
        // In a group, which a decoder skips.
        let in_group = [&[0x7b][..], &[0x0a, 0].repeat(MAX_FIELDS), &[0x7c]].concat();
        assert_eq!(counted(&in_group).0, Count::TooMany);
        let most = [0x0a, 0].repeat(MAX_FIELDS);
        assert_eq!(counted(&most), (Count::AMessage, MAX_FIELDS));
    }

    #[test]
    fn other_bytes_are_one_field() {
        assert_eq!(counted(&[&[0x0a, 28][..], KEY].concat()), (Count::AMessage, 1));
        for bytes in [&[0x0a][..], &[0x0a, 5, 1], &[0x0b], &[0x0b, 0x14], &[0x0f], &[0x02, 0], &[0xff; 12]] {
            assert_eq!(counted(bytes).0, Count::NotAMessage, "{bytes:?}");
        }
    }
}
