//! The pipes from and to ssh, without a thread that waits for each of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;

/// The size of a pipe through which much passes, in bytes, instead of the system's 64 KiB. The processes take turns less
/// often, and a file copy takes a tenth less time.
const SIZE: usize = 256 * 1024;

/// How much passes before a pipe is enlarged, in bytes. The system limits the memory of all pipes of a user, which hundreds
/// of short sessions would use up.
const MUCH: usize = 1 << 20;

/// stdin and stdout, which do not block until this is dropped.
pub(super) struct Pipes {
    pub(super) from_ssh: End<Box<dyn AsyncRead + Send + Unpin>>,
    pub(super) to_ssh: End<Box<dyn AsyncWrite + Send + Unpin>>,
    pub(super) blocking: Blocking,
}

/// Sets stdin and stdout back when it is dropped, because other processes may have them, too.
pub(super) struct Blocking([Option<Pipe>; 2]);

impl Drop for Blocking {
    fn drop(&mut self) {
        for pipe in self.0.iter().flatten().filter(|pipe| pipe.was_blocking) {
            if let Ok(flags) = fcntl_getfl(&pipe.fd) {
                let _ = fcntl_setfl(&pipe.fd, flags - OFlags::NONBLOCK);
            }
        }
    }
}

impl Pipes {
    pub(super) fn open() -> Self {
        // Both before one of them is changed, because they may be the same socket.
        let [stdin, stdout] = [Pipe::new(io::stdin()), Pipe::new(io::stdout())];
        let from_ssh = match stdin.as_ref().and_then(|stdin| stdin.open(pipe::Receiver::from_owned_fd_unchecked)) {
            Some(pipe) => End::new(Box::new(pipe) as _, io::stdin()),
            None => End::new(Box::new(tokio::io::stdin()) as _, io::stdin()),
        };
        let to_ssh = match stdout.as_ref().and_then(|stdout| stdout.open(pipe::Sender::from_owned_fd_unchecked)) {
            Some(pipe) => End::new(Box::new(pipe) as _, io::stdout()),
            None => End::new(Box::new(tokio::io::stdout()) as _, io::stdout()),
        };
        Self { from_ssh, to_ssh, blocking: Blocking([stdin, stdout]) }
    }
}

/// A pipe or a socket.
struct Pipe {
    fd: OwnedFd,
    was_blocking: bool,
}

impl Pipe {
    /// Returns `None` for a file, which is always ready, and for a terminal, which must not be left changed if this process
    /// is killed.
    fn new(fd: impl AsFd) -> Option<Self> {
        let kind = FileType::from_raw_mode(fstat(&fd).ok()?.st_mode);
        let was_blocking = !fcntl_getfl(&fd).ok()?.contains(OFlags::NONBLOCK);
        let fd = fd.as_fd().try_clone_to_owned().ok()?;
        matches!(kind, FileType::Fifo | FileType::Socket).then_some(Self { fd, was_blocking })
    }

    fn open<T>(&self, open: fn(OwnedFd) -> io::Result<T>) -> Option<T> {
        let stream = open(self.fd.try_clone().ok()?).ok()?;
        fcntl_setfl(&self.fd, fcntl_getfl(&self.fd).ok()? | OFlags::NONBLOCK).ok()?;
        Some(stream)
    }
}

/// Our end of a pipe, or what else stdin or stdout is.
pub(super) struct End<S> {
    pub(super) stream: S,
    /// Until it is enlarged.
    small: Option<OwnedFd>,
    passed: usize,
}

impl<S> End<S> {
    fn new(stream: S, fd: impl AsFd) -> Self {
        Self { stream, small: fd.as_fd().try_clone_to_owned().ok(), passed: 0 }
    }

    /// Counts bytes that have passed.
    pub(super) fn count(&mut self, length: usize) {
        self.passed = self.passed.saturating_add(length);
        if self.passed > MUCH
            && let Some(fd) = self.small.take()
            // Only pipes have a size.
            && fcntl_getpipe_size(&fd).is_ok_and(|size| size < SIZE)
        {
            // The copy works at any size.
            let _ = fcntl_setpipe_size(fd, SIZE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_becomes_larger_after_much_has_passed() {
        let (reader, _writer) = io::pipe().unwrap();
        let mut end = End::new((), &reader);
        let before = fcntl_getpipe_size(&reader).unwrap();
        end.count(MUCH);
        assert_eq!(fcntl_getpipe_size(&reader).unwrap(), before);
        end.count(1);
        assert_eq!(fcntl_getpipe_size(&reader).unwrap(), SIZE);
    }
}
