//! OpenTelemetry over gRPC with a client made by hand: frames, trailers, compression, refusals.

use super::rig::Rig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use lodge_wire::grpc_frames::{framed, only_message};
use lodge_wire::protobuf::{Reader, put_bytes_field, put_varint, put_varint_field};
use std::io::Write;

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// What a call was told: the trailers are those of the headers where there is no body.
struct Told {
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    body: Vec<u8>,
}

impl Told {
    /// `grpc-status`, from where it has to be.
    fn status(&self) -> &str {
        let whence = self.trailers.as_ref().unwrap_or(&self.headers);
        whence["grpc-status"].to_str().unwrap()
    }

    fn message(&self) -> &str {
        let whence = self.trailers.as_ref().unwrap_or(&self.headers);
        whence["grpc-message"].to_str().unwrap()
    }
}

/// A client that speaks HTTP/2 with prior knowledge, as gRPC's do.
async fn call(rig: &Rig, path: &str, headers: &[(&str, &str)], body: reqwest::Body) -> Told {
    let http = super::rig::client().http2_prior_knowledge().build().unwrap();
    let mut request = http.post(rig.url(path)).header("te", "trailers").body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    let response: http::Response<reqwest::Body> = request.send().await.unwrap().into();
    let (head, body) = response.into_parts();
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.headers["content-type"], "application/grpc");
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    Told { headers: head.headers, trailers, body: collected.to_bytes().to_vec() }
}

async fn export(rig: &Rig, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Told {
    call(rig, EXPORT, headers, body.into().into()).await
}

fn nested(numbers: &[u32], inner: &[u8]) -> Vec<u8> {
    numbers.iter().rev().fold(inner.to_vec(), |inner, number| {
        let mut out = Vec::new();
        put_bytes_field(&mut out, *number, &inner);
        out
    })
}

/// An ExportLogsServiceRequest with one record for each text.
fn request(texts: &[&str]) -> Vec<u8> {
    let mut scope_logs = Vec::new();
    for text in texts {
        let mut record = Vec::new();
        put_varint(&mut record, 1 << 3 | 1);
        record.extend_from_slice(&1_772_366_400_000_000_000u64.to_le_bytes());
        put_varint_field(&mut record, 2, 17);
        record.extend(nested(&[5, 1], text.as_bytes()));
        put_bytes_field(&mut scope_logs, 2, &record);
    }
    nested(&[1, 2], &scope_logs)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn snappy_frames(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.into_inner().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A compressed message in its frame.
fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = framed(bytes).unwrap();
    frame[0] = 1;
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_stored_in_every_encoding_and_answered_with_a_message_and_trailers() {
    let rig = Rig::start().await;
    for (encoding, body) in [
        ("", framed(&request(&["plain one"])).unwrap()),
        ("identity", framed(&request(&["plain two"])).unwrap()),
        ("gzip", compressed(&gzip(&request(&["three"])))),
        ("deflate", compressed(&zlib(&request(&["four"])))),
        ("zstd", compressed(&zstd::encode_all(&request(&["five"])[..], 1).unwrap())),
        ("snappy", compressed(&snappy_frames(&request(&["seven"])))),
        // A sender may leave a short message plain whatever it said.
        ("gzip", framed(&request(&["plain six"])).unwrap()),
    ] {
        let headers = [("grpc-encoding", encoding)];
        let headers = if encoding.is_empty() { &[][..] } else { &headers[..] };
        let told = export(&rig, headers, body).await;
        assert_eq!(told.status(), "0", "{encoding}");
        assert!(told.trailers.is_some(), "the status of a success comes behind its message");
        let message = only_message(&told.body).unwrap();
        assert!(!message.is_compressed && message.bytes.is_empty(), "{encoding}");
        assert_eq!(told.headers["grpc-accept-encoding"], "identity,gzip,deflate,zstd,snappy");
    }
    assert_eq!(rig.count().await, 7);
    let rows = rig.rows("five").await;
    assert_eq!(rows[0]["_time"], "2026-03-01T12:00:00Z");
    assert_eq!((&rows[0]["_msg"], &rows[0]["level"]), (&"five".into(), &"error".into()));
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_is_rejected_alone() {
    let rig = Rig::start().await;
    // Its body is cut off within; the message around it is whole.
    let bad = nested(&[1, 2, 2], b"\x2a\x7f");
    let body = [request(&["good"]), bad].concat();
    let told = export(&rig, &[], framed(&body).unwrap()).await;
    assert_eq!(told.status(), "0");
    let mut reply = Reader::new(only_message(&told.body).unwrap().bytes);
    let mut partial = reply.next_field().unwrap().unwrap().message().unwrap();
    assert_eq!(partial.next_field().unwrap().unwrap().varint(), Some(1));
    let text = partial.next_field().unwrap().unwrap().bytes().unwrap();
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.contains("1 log records rejected"), "{text}");
    assert_eq!(rig.count().await, 1);
    rig.server.stop().await;
}

/// What it is, headers, body; status, and a part of the message.
type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], Vec<u8>, &'c str, &'c str);

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused_in_headers_alone() {
    let rig = Rig::start().await;
    let good = framed(&request(&["good"])).unwrap();
    let cases: [Case<'_>; 11] = [
        ("no protobuf", &[], framed(b"\xff\xff").unwrap(), "3", "ExportLogsServiceRequest"),
        ("no message", &[], Vec::new(), "12", "no message"),
        ("two messages", &[], [&good[..], &good].concat(), "12", "takes one message"),
        ("cut", &[], good[..good.len() - 1].to_vec(), "3", "cut off"),
        ("a gigabyte announced", &[], b"\0\x40\0\0\0x".to_vec(), "3", "1073741824 bytes"),
        ("no frame", &[], b"{\"a\"".to_vec(), "3", "cut off"),
        ("not gzip", &[("grpc-encoding", "gzip")], compressed(b"plain"), "3", "gzip"),
        ("no encoding named", &[], compressed(b"plain"), "3", "no grpc-encoding"),
        ("unknown encoding", &[("grpc-encoding", "br")], good.clone(), "12", "`br`"),
        ("no timeout", &[("grpc-timeout", "soon")], good.clone(), "3", "grpc-timeout"),
        (
            "a bomb",
            &[("grpc-encoding", "zstd")],
            compressed(&zstd::encode_all(&vec![0; 65 << 20][..], 1).unwrap()),
            "8",
            "expands to more than",
        ),
    ];
    for (what, headers, body, status, text) in cases {
        let told = export(&rig, headers, body).await;
        assert_eq!(told.status(), status, "{what}: {}", told.message());
        assert!(told.message().contains(text), "{what}: {}", told.message());
        assert!(told.trailers.is_none() && told.body.is_empty(), "{what}");
        assert!(!told.headers.contains_key("grpc-status-details-bin"), "{what}: no second try");
    }
    for path in [
        "/opentelemetry.proto.collector.logs.v1.LogsService/Import",
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ] {
        let told = call(&rig, path, &[], good.clone().into()).await;
        assert_eq!(told.status(), "12", "{path}: {}", told.message());
    }
    // Who speaks no gRPC learns it in HTTP.
    let json = rig.post(EXPORT).header("content-type", "application/json").body("{}");
    assert_eq!(json.send().await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let old = rig.post(EXPORT).header("content-type", "application/grpc").body(good);
    assert_eq!(old.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(rig.count().await, 0);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_tells_the_client_to_come_again() {
    let rig = Rig::with(|config| config.insert_memory_bytes_max = 64 << 10).await;
    let body = framed(&request(&[&"x".repeat(1 << 20)])).unwrap();
    let told = export(&rig, &[], body).await;
    assert_eq!(told.status(), "8", "{}", told.message());
    let details = told.headers["grpc-status-details-bin"].as_bytes();
    let details = STANDARD_NO_PAD.decode(details).unwrap();
    let mut status = Reader::new(&details);
    assert_eq!(status.next_field().unwrap().unwrap().varint(), Some(8));
    let text = String::from_utf8_lossy(&details).into_owned();
    assert!(text.contains("google.rpc.RetryInfo"), "{text}");
    assert_eq!(export(&rig, &[], framed(&request(&["small"])).unwrap()).await.status(), "0");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_body_that_does_not_come() {
    let rig = Rig::start().await;
    let begun = Bytes::from_static(b"\0\0\0\x01\0");
    let never = futures::stream::once(async { Ok::<_, std::io::Error>(begun) });
    let never = futures::StreamExt::chain(never, futures::stream::pending());
    let body = reqwest::Body::wrap_stream(never);
    let told = call(&rig, EXPORT, &[("grpc-timeout", "200m")], body).await;
    assert_eq!(told.status(), "4", "{}", told.message());
    assert_eq!(rig.count().await, 0);
    let good = framed(&request(&["in time"])).unwrap();
    assert_eq!(export(&rig, &[("grpc-timeout", "30S")], good).await.status(), "0");
    rig.server.stop().await;
}
