//! Bytes to the Auth Service of a cluster through the proxy's transport service (route B of docs/protocol.md, "Routes
//! to Auth"): for proxies that have several ports, and for clusters whose name is too long for ALPN.

use std::io;

use teleport_api::teleport::transport::v1::transport_service_client::TransportServiceClient;
use teleport_api::teleport::transport::v1::{Frame, ProxyClusterRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream as Requests, StreamExt as _};
use tokio_util::io::{ReaderStream, StreamReader};
use tonic::Status;

use super::Stream;
use hyper::body::Bytes;

use super::grpc::{Channel, code_name};
use crate::address::ClusterName;
use crate::text::sanitize_nested;

/// The largest frame that Teleport itself sends, in bytes (docs/protocol.md, "Stream limits").
const FRAME: usize = 16 * 1024;

/// A connection to the Auth Service of `cluster`. The proxy does not confirm it: if the proxy refuses, reading fails.
pub(crate) fn open(channel: &Channel, cluster: &ClusterName) -> Stream {
    let (write, written) = tokio::io::duplex(FRAME);
    // The most frames that wait to be read.
    let (bytes, received) = mpsc::channel(16);
    // The first frame names the cluster. An empty frame is never sent. The end of our bytes is the end of the stream.
    let mut cluster = Some(cluster.to_string());
    let requests = ReaderStream::with_capacity(written, FRAME).map_while(Result::ok).map(move |bytes| {
        let frame = Some(Frame { payload: bytes });
        ProxyClusterRequest { cluster: cluster.take().unwrap_or_default(), frame }
    });
    tokio::spawn(receive(channel.clone(), requests, bytes));
    Box::new(tokio::io::join(StreamReader::new(ReceiverStream::new(received)), write))
}

/// Receives bytes, and the error if the stream ends with one.
async fn receive(
    channel: Channel,
    requests: impl Requests<Item = ProxyClusterRequest> + Send + 'static,
    to: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut client = TransportServiceClient::with_origin(channel.clone(), channel.origin());
    let conversation = async {
        let mut answers = client.proxy_cluster(requests).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            let payload = answer.frame.map(|frame| frame.payload).unwrap_or_default();
            if to.send(Ok(payload)).await.is_err() {
                return Ok(());
            }
        }
        Ok::<(), Status>(())
    };
    let ended = tokio::select! {
        ended = conversation => ended,
        // The reader is gone.
        () = to.closed() => return,
    };
    if let Err(status) = ended {
        let reason =
            format!("the proxy answered: {} ({})", sanitize_nested(status.message()), code_name(status.code()));
        let _ = to.send(Err(io::Error::other(reason))).await;
    }
}
