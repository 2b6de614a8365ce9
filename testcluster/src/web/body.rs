//! Bodies of responses, whole or faulty.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

const CHUNK: usize = 64 * 1024;

/// The body of a response.
#[derive(Debug)]
pub(crate) enum WebBody {
    /// A whole body; `None` once it was sent.
    Whole(Option<Bytes>),
    /// The beginning of a body; then, after a delay in which the beginning is sent, the connection breaks.
    Truncated(Option<Bytes>, Pin<Box<Sleep>>),
    /// A JSON document that never ends.
    Endless,
}

impl WebBody {
    pub(crate) fn truncated(text: &str) -> Self {
        let half = text.as_bytes().get(..text.len() / 2).unwrap_or_default();
        Self::Truncated(Some(Bytes::copy_from_slice(half)), Box::pin(sleep(Duration::from_millis(50))))
    }
}

impl Default for WebBody {
    fn default() -> Self {
        Self::Whole(None)
    }
}

impl Body for WebBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match &mut *self {
            Self::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Self::Truncated(bytes, delay) => Some(match bytes.take() {
                Some(bytes) => Ok(Frame::data(bytes)),
                None => {
                    ready!(delay.as_mut().poll(context));
                    Err(io::Error::other("truncated on purpose"))
                }
            }),
            // Whitespace, which a JSON parser would skip without end.
            Self::Endless => Some(Ok(Frame::data(Bytes::from(vec![b' '; CHUNK])))),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Truncated(..) | Self::Endless => SizeHint::default(),
        }
    }
}
