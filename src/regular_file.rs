//! Opening files in directories where other users may have put anything.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::path::Arg;
use zeroize::Zeroizing;

/// Opens a regular file for reading. Follows no link, and does not wait for the writer of a named pipe. The error
/// `LOOP` is a symbolic link; `NXIO` is anything else that is not a regular file, as the kernel says of a socket.
pub(crate) fn open(dir: impl AsFd, path: impl Arg) -> Result<fs::File, Errno> {
    open_with(dir, path, OFlags::NOFOLLOW)
}

/// Reads a whole file of at most `limit` bytes. Follows links, as the paths of a system's CA certificates need it. The
/// bytes may be secret, so they are zeroized when they are dropped.
///
/// # Errors
/// If it is larger, is not a regular file (`/dev/zero` never ends, and a named pipe never begins), or cannot be read.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = open_with(CWD, path, OFlags::empty()).map_err(|errno| match errno {
        Errno::NXIO => io::Error::other("it is not a regular file"),
        errno => errno.into(),
    })?;
    let size = file.metadata()?.len().min(limit);
    // The buffer does not grow, because that would leave copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {} KiB", limit >> 10)));
    }
    Ok(bytes)
}

fn open_with(dir: impl AsFd, path: impl Arg, more: OFlags) -> Result<fs::File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    let file = openat(dir, path, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(Errno::NXIO),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::mknodat;

    use super::*;

    #[test]
    fn only_regular_files_of_limited_size_are_read() {
        // F3.
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fs::write(path("file"), [7; 1 << 20]).unwrap();
        symlink("file", path("link")).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        let read = |name: &str, limit| read(&path(name), limit).map(|bytes| bytes.len()).map_err(|e| e.to_string());
        assert_eq!((read("file", 1 << 20), read("link", 1 << 20)), (Ok(1 << 20), Ok(1 << 20)));
        assert_eq!(read("file", (1 << 20) - 1), Err("it is larger than 1023 KiB".to_owned()));
        assert_eq!(read("sparse", 1 << 20), Err("it is larger than 1024 KiB".to_owned()));
        for special in ["zero", "pipe", ""] {
            assert_eq!(read(special, 1 << 20), Err("it is not a regular file".to_owned()), "{special}");
        }
        assert!(read("absent", 1).unwrap_err().contains("No such file"));
    }
}
