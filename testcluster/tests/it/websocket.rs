//! The client side of a connection upgrade, with one masked frame per write.

use testcluster::Testcluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;

use crate::client::Dial;

/// The example of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

type Outer = TlsStream<TcpStream>;

/// Requests an upgrade. Returns the head of the response in lower case, and the connection.
pub(crate) async fn request(cluster: &Testcluster, protocol: &str) -> (String, Outer) {
    let mut stream = Dial::web(cluster, &[]).connect(cluster).await.unwrap();
    let request = format!(
        "GET /webapi/connectionupgrade HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap().to_ascii_lowercase(), stream)
}

/// An upgraded connection.
pub(crate) async fn raw(cluster: &Testcluster, protocol: &str) -> Outer {
    let (head, stream) = request(cluster, protocol).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nsec-websocket-protocol: {protocol}\r\n")), "{head}");
    assert!(head.contains(&format!("\r\nsec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase())), "{head}");
    stream
}

/// The connection inside an upgraded one; pings are answered.
pub(crate) async fn upgraded(cluster: &Testcluster, protocol: &str) -> DuplexStream {
    let (read, write) = tokio::io::split(raw(cluster, protocol).await);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (inner_read, inner_write) = tokio::io::split(far);
    let (pongs, pings) = mpsc::unbounded_channel();
    tokio::spawn(receive(read, inner_write, pongs));
    tokio::spawn(send(inner_read, write, pings));
    near
}

async fn receive(
    mut outer: ReadHalf<Outer>,
    mut inner: WriteHalf<DuplexStream>,
    pongs: mpsc::UnboundedSender<Vec<u8>>,
) {
    while let Ok((opcode, payload)) = frame(&mut outer).await {
        match opcode {
            2 if inner.write_all(&payload).await.is_err() => break,
            2 => {}
            9 => pongs.send(payload).unwrap_or_default(),
            _ => break,
        }
    }
    let _closed = inner.shutdown().await;
}

/// Reads a frame of the server, which is final and not masked.
pub(crate) async fn frame(outer: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let first = outer.read_u8().await?;
    assert_eq!(first & 0xf0, 0x80, "a fragment, or reserved bits");
    let length = match outer.read_u8().await? {
        126 => outer.read_u16().await?.into(),
        127 => outer.read_u64().await?,
        short => short.into(),
    };
    let mut payload = vec![0; length as usize];
    outer.read_exact(&mut payload).await?;
    Ok((first & 0x0f, payload))
}

async fn send(
    mut inner: ReadHalf<DuplexStream>,
    mut outer: WriteHalf<Outer>,
    mut pings: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let frame = tokio::select! {
            Ok(length @ 1..) = inner.read(&mut buffer) => masked(0x82, &buffer[..length]),
            Some(ping) = pings.recv() => masked(0x8a, &ping),
            else => break,
        };
        if outer.write_all(&frame).await.is_err() {
            break;
        }
    }
}

/// A frame of the client with a mask that is not zero.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        medium => {
            frame.push(0x80 | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
