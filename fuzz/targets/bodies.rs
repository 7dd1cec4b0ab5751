//! Decoders of whole bodies: their records are whole, counted, and within their caps.

use arrow::array::RecordBatch;
use lodge_record::TenantId;
use lodge_wire::batches::{BodyError, Decoded, ITEM_ERRORS_MAX};
use lodge_wire::otlp_logs::{self, Format, reply};
use lodge_wire::protobuf::Reader;
use lodge_wire::{agent_batch, datadog_logs, gelf, loki_push, splunk_hec};

use super::{NOW_NS, checked};

/// What the records of an export may take here.
const DECODED_BYTES_MAX: usize = 1 << 20;

fn rows(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|records| records.num_rows() as u64).sum()
}

fn otlp(format: Format, body: &[u8]) {
    let Ok(decoded) = otlp_logs::decode(format, NOW_NS, body, DECODED_BYTES_MAX) else { return };
    assert_eq!(decoded.accepted, rows(&decoded.batches));
    assert!(decoded.troubles.len() <= otlp_logs::REPORTED_MAX);
    assert!(decoded.troubles.len() as u64 <= decoded.rejected + decoded.kept_as_text);
    let whole = decoded.rejected + decoded.kept_as_text == 0;
    assert_eq!(decoded.message().is_empty(), whole, "{}", decoded.message());
    let reply = reply::response(format, decoded.rejected, &decoded.message());
    match format {
        Format::Protobuf => {
            let mut reply = Reader::new(&reply);
            while reply.next_field().expect("a reply").is_some() {}
        }
        Format::Json => drop(serde_json::from_slice::<serde_json::Value>(&reply).expect("a reply")),
    }
    checked(decoded.batches, body.len());
}

pub fn otlp_protobuf(data: &[u8]) {
    otlp(Format::Protobuf, data);
}

pub fn otlp_json(data: &[u8]) {
    otlp(Format::Json, data);
}

fn loki(decoded: Result<loki_push::Decoded, loki_push::PushError>, body: &[u8]) {
    let Ok(decoded) = decoded else { return };
    let stored = rows(&decoded.records);
    assert_eq!(decoded.entries, stored + decoded.rejected_total);
    checked(decoded.records, body.len());
}

pub fn loki_protobuf(data: &[u8]) {
    loki(loki_push::decode_protobuf(data, NOW_NS), data);
}

pub fn loki_json(data: &[u8]) {
    loki(loki_push::decode_json(data, NOW_NS), data);
}

/// What holds of all bodies of items.
fn items<C>(decoded: Result<Decoded<C>, BodyError>, body: &[u8]) -> Option<Decoded<C>> {
    let mut decoded = decoded.ok()?;
    assert_eq!(decoded.items, rows(&decoded.records) + decoded.failed_total);
    assert!(decoded.errors.len() <= ITEM_ERRORS_MAX);
    assert!(decoded.errors.len() as u64 <= decoded.failed_total);
    assert!(decoded.errors.iter().all(|e| e.offset <= body.len() && e.item < decoded.items));
    checked(std::mem::take(&mut decoded.records), body.len());
    Some(decoded)
}

pub fn splunk_events(data: &[u8]) {
    let metadata = splunk_hec::Metadata::default();
    let decoded = items(splunk_hec::decode_events(&metadata, NOW_NS, data), data);
    let Some((code, event)) = decoded.as_ref().and_then(splunk_hec::refusal) else { return };
    let mut out = Vec::new();
    splunk_hec::write_refusal(code, event, &mut out);
    serde_json::from_slice::<serde_json::Value>(&out).expect("a reply");
}

pub fn splunk_raw(data: &[u8]) {
    let metadata = splunk_hec::Metadata::default();
    items(splunk_hec::decode_raw(&metadata, NOW_NS, data), data);
}

fn datadog(
    decode: impl Fn(&datadog_logs::Metadata, &[u8]) -> Result<Decoded, BodyError>,
    d: &[u8],
) {
    // The first line is what the request's arguments say.
    let (tags, body) = d.split_at(d.iter().position(|b| *b == b'\n').unwrap_or(0));
    let tags = Some(String::from_utf8_lossy(tags).into_owned()).filter(|tags| !tags.is_empty());
    let metadata = datadog_logs::Metadata { tags, ..datadog_logs::Metadata::default() };
    let Some(decoded) = items(decode(&metadata, body), body) else { return };
    let mut out = Vec::new();
    datadog_logs::write_errors(&decoded, &mut out);
    serde_json::from_slice::<serde_json::Value>(&out).expect("a reply");
}

pub fn datadog_json(data: &[u8]) {
    datadog(|metadata, body| datadog_logs::decode_json(metadata, NOW_NS, body), data);
}

pub fn datadog_text(data: &[u8]) {
    datadog(|metadata, body| datadog_logs::decode_text(metadata, NOW_NS, body), data);
}

pub fn gelf(data: &[u8]) {
    let mut decoder = gelf::Decoder::new(NOW_NS);
    let mut expected = 0;
    // As over TCP: messages end with NUL.
    for message in data.split(|byte| *byte == 0).filter(|message| !message.is_empty()) {
        if let Err(error) = decoder.message(message) {
            assert_eq!(decoder.rows(), expected, "a message with an error is no record");
            decoder.keep_as_text(message, message.len(), &error.to_string());
        }
        expected += 1;
        assert_eq!(decoder.rows(), expected);
    }
    let records = decoder.finish().expect("columns");
    checked(records.into_iter().collect(), data.len());
}

pub fn agent_batch(data: &[u8]) {
    let Ok(batch) = agent_batch::decode(TenantId::default(), data.to_vec().into()) else { return };
    let mut written = Vec::new();
    lodge_wire::json_rows::write_rows(batch.records(), &mut written);
    let lines = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    assert_eq!(lines.count(), batch.rows(), "an accepted batch can be read");
    let again = agent_batch::encode(&batch).expect("it can be encoded");
    let again = agent_batch::decode(TenantId::default(), again.into()).expect("and decoded");
    assert_eq!((again.rows(), again.origin), (batch.rows(), batch.origin));
}
