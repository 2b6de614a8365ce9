//! A TCP connection that can be made to fail as networks fail.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The faults of a connection.
#[derive(Debug)]
pub(crate) struct StreamFaults {
    reset: AtomicBool,
    blackhole: AtomicBool,
    garbage: AtomicBool,
    /// Bytes that may still be written.
    budget: AtomicUsize,
}

impl Default for StreamFaults {
    fn default() -> Self {
        let off = || AtomicBool::new(false);
        Self { reset: off(), blackhole: off(), garbage: off(), budget: AtomicUsize::new(usize::MAX) }
    }
}

impl StreamFaults {
    /// The connection will end with a reset.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// All further bytes vanish, in both directions.
    pub(crate) fn blackhole(&self) {
        self.blackhole.store(true, Ordering::Relaxed);
    }

    /// The next bytes that are written are replaced by those of another protocol.
    pub(crate) fn send_garbage(&self) {
        self.garbage.store(true, Ordering::Relaxed);
    }

    /// The connection fails after this many further bytes.
    pub(crate) fn truncate(&self, bytes: usize) {
        self.budget.store(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct FaultyStream {
    tcp: TcpStream,
    faults: Arc<StreamFaults>,
}

impl FaultyStream {
    pub(crate) fn new(tcp: TcpStream, faults: Arc<StreamFaults>) -> Self {
        Self { tcp, faults }
    }
}

impl Drop for FaultyStream {
    fn drop(&mut self) {
        if self.faults.reset.load(Ordering::Relaxed) {
            // With a linger time of zero, close() sends RST.
            let _gone = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer))?;
            if !self.faults.blackhole.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            if buffer.filled().len() == before {
                // The end of the stream vanishes as well, so this task is not woken again.
                return Poll::Pending;
            }
            buffer.set_filled(before);
        }
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.faults.blackhole.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.faults.garbage.load(Ordering::Relaxed) {
            // The socket's buffer has room for a few bytes.
            ready!(Pin::new(&mut self.tcp).poll_write(cx, b"SSH-2.0-OpenSSH_10.0\r\n"))?;
            self.faults.blackhole();
            return Poll::Ready(Ok(bytes.len()));
        }
        let budget = self.faults.budget.load(Ordering::Relaxed);
        if budget == 0 {
            return Poll::Ready(Err(io::Error::other("truncated on purpose")));
        }
        let some = bytes.get(..budget).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, some))?;
        if budget != usize::MAX {
            self.faults.truncate(budget - written);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
