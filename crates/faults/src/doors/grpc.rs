//! OpenTelemetry over gRPC: unary calls over HTTP/2 with prior knowledge.
//!
//! On `h2` itself rather than on a client: the oracle must know whether a call can have reached the
//! server at all, and no call may be sent twice behind its back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::{Door, Lines};
use crate::http::Trouble;
use crate::load::Load;

const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Calls of one connection.
const CALLS_MAX: u32 = 10;
/// How long a connection is looked at before it is used again: it may have been closed meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// What a call was answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// `grpc-status`: 0 is success.
    pub status: u32,
    /// `grpc-message`.
    pub text: String,
    /// The reply's message, without its frame: empty when all was taken.
    pub message: Vec<u8>,
}

/// A client with a connection that it keeps for a while.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    addr: SocketAddr,
    deadline: Duration,
    connection: Option<SendRequest<Bytes>>,
    calls_left: u32,
}

/// A call's message with minted lines, in its frame.
pub fn message(load: &Load, lines: Lines<'_>) -> Vec<u8> {
    let export = Door::OtlpProtobuf.body(load, lines);
    let mut frame = vec![0];
    frame.extend_from_slice(&(export.len() as u32).to_be_bytes());
    frame.extend_from_slice(&export);
    frame
}

impl Client {
    /// A client; each wait for the other side has the deadline.
    pub fn new(addr: SocketAddr, deadline: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, addr, deadline, connection: None, calls_left: 0 })
    }

    /// Calls `Export` with a message in its frame.
    pub fn call(&mut self, frame: &[u8], key: Option<&str>) -> Result<Reply, Trouble> {
        let mut request = Request::post(format!("http://{}{PATH}", self.addr))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(()).map_err(|e| self.other(&e))?;
        let (addr, deadline) = (self.addr, self.deadline);
        let kept = self.connection.take().filter(|_| self.calls_left > 0);
        let frame = Bytes::copy_from_slice(frame);
        let done: Result<_, Trouble> = self.runtime.block_on(async {
            let kept = match kept {
                Some(kept) => usable(kept).await,
                None => None,
            };
            let is_kept = kept.is_some();
            let sender = match kept {
                Some(sender) => sender,
                None => connect(addr, deadline).await?,
            };
            let again = sender.clone();
            let broken = |source| Trouble::Broken { addr, source };
            let late = |_| broken(io::ErrorKind::TimedOut.into());
            let calling = timeout(deadline, exchange(sender, request, frame));
            let reply = calling.await.map_err(late)?.map_err(|e| broken(io::Error::other(e)))?;
            Ok((reply, again, is_kept))
        });
        let (reply, again, is_kept) = done?;
        self.calls_left = if is_kept { self.calls_left - 1 } else { CALLS_MAX };
        self.connection = Some(again);
        Ok(reply)
    }

    fn other(&self, what: &dyn std::error::Error) -> Trouble {
        Trouble::Other { addr: self.addr, what: what.to_string() }
    }
}

/// A connection that was kept, if it is still open.
async fn usable(kept: SendRequest<Bytes>) -> Option<SendRequest<Bytes>> {
    // Its task runs only while a call does: now it sees what happened since.
    sleep(LOOK).await;
    kept.ready().await.ok()
}

async fn connect(addr: SocketAddr, deadline: Duration) -> Result<SendRequest<Bytes>, Trouble> {
    let no_connection = |source| Trouble::Connect { addr, source };
    let late = |_| no_connection(io::ErrorKind::TimedOut.into());
    let stream = timeout(deadline, TcpStream::connect(addr)).await.map_err(late)?;
    let shaken = h2::client::handshake(stream.map_err(no_connection)?).await;
    let (sender, connection) = shaken.map_err(|e| no_connection(io::Error::other(e)))?;
    // Ends with the connection; its error reaches whoever calls.
    drop(tokio::spawn(connection));
    sender.ready().await.map_err(|e| no_connection(io::Error::other(e)))
}

async fn exchange(
    mut sender: SendRequest<Bytes>,
    request: Request<()>,
    frame: Bytes,
) -> Result<Reply, h2::Error> {
    let (answer, mut body) = sender.send_request(request, false)?;
    body.send_data(frame, true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    // A refusal has its status where an answer has its headers.
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    let text = |name: &str| text_of(&trailers, name);
    let status = text("grpc-status").parse().unwrap_or(u32::MAX);
    let message = bytes.get(5..).unwrap_or_default().to_vec();
    Ok(Reply { status, text: text("grpc-message"), message })
}

fn text_of(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}
