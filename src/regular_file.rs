//! Opening files in directories where other users may have put anything.

use std::fs;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Opens a regular file for reading. Follows no link, and does not wait for the writer of a named pipe. The error
/// `LOOP` is a symbolic link; `NXIO` is anything else that is not a regular file, as the kernel says of a socket.
pub(crate) fn open(dir: impl AsFd, path: impl Arg) -> Result<fs::File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(dir, path, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(Errno::NXIO),
    }
}
