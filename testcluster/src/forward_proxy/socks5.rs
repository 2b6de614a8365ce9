//! SOCKS5: RFC 1928, with user and password by RFC 1929.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt as _;

use super::{ByteStream, ForwardProxyBehavior, Shared};

/// Reads the request and returns the target to connect to. `None` means that the request was refused.
pub(super) async fn read_request(shared: &Shared, client: &mut Box<dyn ByteStream>) -> io::Result<Option<String>> {
    if client.read_u8().await? != 5 {
        return Ok(None);
    }
    let methods = counted(client).await?;
    let method = if shared.credentials.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        shared.send(client, &[5, 0xff]).await?;
        return Ok(None);
    }
    shared.send(client, &[5, method]).await?;
    if let Some((user, password)) = &shared.credentials {
        let version = client.read_u8().await?;
        let given = (counted(client).await?, counted(client).await?);
        let good = version == 1 && given == (user.clone().into_bytes(), password.clone().into_bytes());
        shared.send(client, &[1, u8::from(!good)]).await?;
        if !good {
            return Ok(None);
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let [5, 1, 0, kind] = request else { return Ok(None) };
    let host = match kind {
        1 => Ipv4Addr::from_bits(client.read_u32().await?).to_string(),
        4 => format!("[{}]", Ipv6Addr::from_bits(client.read_u128().await?)),
        _ => String::from_utf8(counted(client).await?).map_err(io::Error::other)?,
    };
    let target = format!("{host}:{}", client.read_u16().await?);
    let before = shared.record(&target);
    if shared.behavior == ForwardProxyBehavior::ClosesOnRequest {
        return Ok(None);
    }
    match shared.refusal(before) {
        None => Ok(Some(target)),
        Some((reply, ..)) => {
            let reply = u8::try_from(reply).unwrap_or(1);
            shared.send(client, &[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            Ok(None)
        }
    }
}

/// Bytes after a length byte.
async fn counted(client: &mut Box<dyn ByteStream>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}
