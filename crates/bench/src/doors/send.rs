//! Senders of prepared requests: over HTTP as fast as they are acknowledged, over sockets as fast
//! as they are read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Protocol;
use super::binary;
use crate::lodge::LodgeServer;
use crate::workload::{Kind, MESSAGE_FIELD, TIME_FIELD};

/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(120);
/// Chunks of a Forward connection that are not acknowledged yet.
const CHUNKS_AHEAD: usize = 4;

/// Sends all of it over two connections.
pub(super) async fn send(
    protocol: Protocol,
    server: &LodgeServer,
    bodies: &[Bytes],
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let take = || bodies.get(next.fetch_add(1, Ordering::Relaxed)).cloned();
    match protocol.socket() {
        None if protocol == Protocol::Journal => {
            let halves = bodies.split_at(bodies.len() / 2);
            tokio::try_join!(upload(server, halves.0), upload(server, halves.1))?;
        }
        None => {
            tokio::try_join!(requests(protocol, server, take), requests(protocol, server, take))?;
        }
        Some(_) if protocol == Protocol::Forward => {
            tokio::try_join!(chunks(server, take), chunks(server, take))?;
        }
        Some(setting) => {
            tokio::try_join!(stream(server, setting, take), stream(server, setting, take))?;
        }
    }
    Ok(())
}

fn client(protocol: Protocol) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().tls_certs_only([]).timeout(REQUEST_MAX);
    let builder = match protocol {
        Protocol::OtlpGrpc => builder.http2_prior_knowledge(),
        _ => builder,
    };
    Ok(builder.build()?)
}

/// One connection over HTTP.
async fn requests(
    protocol: Protocol,
    server: &LodgeServer,
    take: impl Fn() -> Option<Bytes>,
) -> anyhow::Result<()> {
    let client = client(protocol)?;
    let (path, content_type) = protocol.route().context("a protocol without HTTP")?;
    let mut url = format!("{}{path}", server.client().url());
    if protocol == Protocol::JsonLines {
        let streams = Kind::Fleet.stream_fields().join(",");
        url.push_str(&format!(
            "?_stream_fields={streams}&_msg_field={MESSAGE_FIELD}&_time_field={TIME_FIELD}"
        ));
    }
    while let Some(body) = take() {
        let mut request = client.post(&url).header("content-type", content_type).body(body);
        if protocol == Protocol::OtlpGrpc {
            request = request.header("te", "trailers");
        }
        let answer = request.send().await.with_context(|| url.clone())?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(|| url.clone())?;
        let text = String::from_utf8_lossy(&body);
        ensure!(status.is_success(), "{url}: {status}: {text}");
        // A refused call has no message, only trailers.
        let is_refused = protocol == Protocol::OtlpGrpc && body.len() < 5;
        let has_errors = protocol == Protocol::Bulk && text.contains("\"errors\":true");
        ensure!(!is_refused && !has_errors, "{url}: items are refused: {text}");
    }
    Ok(())
}

/// One upload that goes on until all of it is sent.
async fn upload(server: &LodgeServer, bodies: &[Bytes]) -> anyhow::Result<()> {
    let pieces: Vec<Result<Bytes, std::io::Error>> = bodies.iter().cloned().map(Ok).collect();
    let (path, content_type) = Protocol::Journal.route().context("a protocol without HTTP")?;
    let url = format!("{}{path}", server.client().url());
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let request = client(Protocol::Journal)?.post(&url).header("content-type", content_type);
    let answer = request.body(body).send().await.with_context(|| url.clone())?;
    let status = answer.status();
    ensure!(status.is_success(), "{url}: {status}: {}", answer.text().await.unwrap_or_default());
    Ok(())
}

async fn connect(server: &LodgeServer, setting: &str) -> anyhow::Result<TcpStream> {
    let address = server.door(setting).with_context(|| format!("no door {setting}"))?;
    let stream = TcpStream::connect(address).await.with_context(|| setting.to_owned())?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One connection of a protocol that says nothing back.
async fn stream(
    server: &LodgeServer,
    setting: &str,
    take: impl Fn() -> Option<Bytes>,
) -> anyhow::Result<()> {
    let mut stream = connect(server, setting).await?;
    while let Some(body) = take() {
        stream.write_all(&body).await.with_context(|| setting.to_owned())?;
    }
    stream.shutdown().await?;
    // The server closes when it has read all of it.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.with_context(|| setting.to_owned())?;
    ensure!(rest.is_empty(), "{setting} answers: {}", String::from_utf8_lossy(&rest));
    Ok(())
}

/// One connection of Forward, a few chunks ahead of their acknowledgements.
async fn chunks(server: &LodgeServer, take: impl Fn() -> Option<Bytes>) -> anyhow::Result<()> {
    let mut stream = connect(server, "forward").await?;
    let (mut sent, mut acknowledged) = (0, 0);
    let mut reply = vec![0; reply_to(0).len()];
    loop {
        let body = take();
        let ahead_max = if body.is_some() { CHUNKS_AHEAD - 1 } else { 0 };
        while sent - acknowledged > ahead_max {
            let read = tokio::time::timeout(REQUEST_MAX, stream.read_exact(&mut reply)).await;
            read.context("an acknowledgement did not come")??;
            if reply != reply_to(acknowledged) {
                bail!("an acknowledgement of something else: {}", reply.escape_ascii());
            }
            acknowledged += 1;
        }
        let Some(body) = body else { return Ok(()) };
        let mut option = Vec::new();
        binary::map(&mut option, 1);
        binary::text(&mut option, "chunk");
        binary::text(&mut option, &chunk_name(sent));
        stream.write_all(&body).await?;
        stream.write_all(&option).await?;
        sent += 1;
    }
}

fn chunk_name(number: usize) -> String {
    format!("chunk-{number:08}")
}

fn reply_to(number: usize) -> Vec<u8> {
    let mut reply = Vec::new();
    binary::map(&mut reply, 1);
    binary::text(&mut reply, "ack");
    binary::text(&mut reply, &chunk_name(number));
    reply
}
