//! ProxyCommands that do nothing but copy bytes. That by TCP is what any ProxyCommand costs. That by TLS is not what TLS
//! costs at least: it uses tokio-rustls, which receives 4 KiB at a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use tokio::net::unix::pipe::{Receiver, Sender};

use crate::tls_client;

/// The buffer of each direction, as large as a pipe.
pub(crate) const BUFFER: usize = 64 * 1024;

/// Copies until the end of the stream. `std::io::copy` would use `splice`, which locks the pipe while it waits for the
/// socket, so that ssh cannot read what is in the pipe already.
pub(crate) fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length])?,
        }
    }
}

/// Copies between the standard streams and a TCP connection.
pub(crate) fn tcp(addr: &str) -> io::Result<()> {
    let server = TcpStream::connect(addr)?;
    server.set_nodelay(true)?;
    let (input, output) = (File::from(standard(&io::stdin())?), File::from(standard(&io::stdout())?));
    let upload = server.try_clone()?;
    thread::spawn(move || {
        let copied = copy(input, &upload);
        // ssh sees the end of the connection; there is no other way to say it.
        let _ = upload.shutdown(Shutdown::Write);
        copied
    });
    copy(&server, output)
}

/// Copies between the standard streams, which have to be pipes, and a TLS connection, on one thread.
pub(crate) fn tls(addr: &str, certificate: &Path) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let mut server = tls_client::connect(addr, &tls_client::trust(certificate)?).await?;
        let input = Receiver::from_owned_fd(standard(&io::stdin())?)?;
        let output = Sender::from_owned_fd(standard(&io::stdout())?)?;
        let mut streams = tokio::io::join(input, output);
        tokio::io::copy_bidirectional_with_sizes(&mut streams, &mut server, BUFFER, BUFFER).await.map(drop)
    })
}

fn standard(stream: &impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
