//! Latency: delays the bytes of a connection in both directions without limiting their rate.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::injection::FaultyStream;

const CHUNK: usize = 16 * 1024;
/// Chunks in flight in one direction; enough that they do not act as a window.
const IN_FLIGHT: usize = 1024;

/// Delays a connection. The client's `connect` has already returned, so the round trip of TCP's handshake is waited for
/// here, before the first byte is read.
pub(crate) async fn delay_both_ways(connection: FaultyStream, one_way: Duration) -> DuplexStream {
    sleep(one_way * 2).await;
    let (near, far) = tokio::io::duplex(CHUNK * 16);
    let (client_read, client_write) = tokio::io::split(connection);
    let (server_read, server_write) = tokio::io::split(far);
    tokio::spawn(delayed(client_read, server_write, one_way));
    tokio::spawn(delayed(server_read, client_write, one_way));
    near
}

/// Copies bytes and the end of the stream with a delay.
async fn delayed<R, W>(mut from: R, mut to: W, delay: Duration) -> io::Result<()>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        // An error ends this direction like the end of the stream.
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let chunk = (Instant::now() + delay, buffer.get(..length).unwrap_or_default().to_vec());
            if sender.send(chunk).await.is_err() {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            to.write_all(&chunk).await?;
        }
        sleep(delay).await;
        to.shutdown().await
    };
    let ((), written) = tokio::join!(reading, writing);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_delay_does_not_add_up_over_bytes() {
        let (mut client, near) = tokio::io::duplex(64);
        let (far, mut server) = tokio::io::duplex(64);
        let (read, _write) = tokio::io::split(near);
        let (_read, write) = tokio::io::split(far);
        tokio::spawn(delayed(read, write, Duration::from_millis(60)));
        let began = Instant::now();
        for byte in 0..3u8 {
            client.write_u8(byte).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        drop(client);
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        let took = began.elapsed();
        assert_eq!(received, [0, 1, 2]);
        // One delay for the bytes and one for the end of the stream, not one for each byte.
        assert!(took >= Duration::from_millis(60) && took < Duration::from_millis(170), "{took:?}");
    }
}
