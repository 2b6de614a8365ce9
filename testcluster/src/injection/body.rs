//! Invalid bodies of gRPC responses.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderValue};

use super::NetworkFault;

/// The frames that are not yet sent, and how the body ends.
#[derive(Debug)]
pub(crate) struct FaultyBody {
    frames: VecDeque<Bytes>,
    end: End,
}

#[derive(Debug)]
enum End {
    /// With the status OK.
    Ok,
    /// Without a status.
    NoStatus,
    /// With `RST_STREAM`.
    Reset,
    Ended,
}

impl FaultyBody {
    pub(crate) fn new(fault: NetworkFault) -> Self {
        let message = |length: u32, bytes: usize| {
            let mut message = vec![0];
            message.extend(length.to_be_bytes());
            // A field of a wire type that does not exist.
            message.resize(5 + bytes, 0xff);
            Bytes::from(message)
        };
        let (frames, end) = match fault {
            NetworkFault::Garbage => (vec![message(64, 64)], End::Ok),
            NetworkFault::Truncated => (vec![message(4096, 1000)], End::NoStatus),
            NetworkFault::Oversized => {
                let more = vec![Bytes::from_static(&[0; 64 * 1024]); 256];
                ([vec![message(16 << 20, 0)], more].concat(), End::Ok)
            }
            _ => (Vec::new(), End::Reset),
        };
        Self { frames: frames.into(), end }
    }

    /// A message, and the status OK.
    pub(crate) fn message(bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let frame = [&[0][..], &length, bytes].concat();
        Self { frames: [Bytes::from(frame)].into(), end: End::Ok }
    }

    pub(crate) fn next(&mut self) -> Option<Result<Frame<Bytes>, h2::Error>> {
        if let Some(bytes) = self.frames.pop_front() {
            return Some(Ok(Frame::data(bytes)));
        }
        match std::mem::replace(&mut self.end, End::Ended) {
            End::Ok => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Some(Ok(Frame::trailers(trailers)))
            }
            End::Reset => Some(Err(h2::Reason::INTERNAL_ERROR.into())),
            End::NoStatus | End::Ended => None,
        }
    }
}
