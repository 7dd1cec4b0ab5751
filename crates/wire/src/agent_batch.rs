//! The body of `POST /api/v1/batches`: one batch of an agent or an import.
//!
//! ```text
//! "LDGB" | version u8 = 1 | header length u32 LE | header, JSON | Arrow IPC stream, one record batch
//! ```
//! Header: `{"producer":uuid,"epoch":n,"seq":n,"position":text,"account":{…}}`; without `producer` the
//! batch has no identity, without `account` ([`lodge_record::Account`]) it is not in the ledger. The tenant is never in it: the receiver knows it from who sent it. Blank space at its
//! end puts the stream at a multiple of 64 bytes, so that the receiver need not move a value.
//!
//! The Arrow stream is checked before it is decoded: sizes inside the body, no compression (which
//! could expand without bound), and only the column types of a batch. The records lie in the bytes
//! that were received; nothing is copied.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use arrow::ipc::{MessageHeader, root_as_message};
use bytes::Bytes;
use lodge_record::schema::{self, ShapeError};
use lodge_record::{Account, Batch, Origin, Position, TenantId, limits};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 4] = b"LDGB";
const VERSION: u8 = 1;
/// An account at all of its limits, with every byte escaped in JSON, takes about half of this.
const HEADER_BYTES_MAX: usize = 256 << 10;
/// Messages in the Arrow stream: the schema, a dictionary for each column, one record batch, the
/// end.
const MESSAGES_MAX: usize = limits::COLUMNS_MAX + 8;
/// What precedes the header.
const HEADER_AT: usize = MAGIC.len() + 1 + 4;
/// The Arrow stream begins at a multiple of this, and so does each of its buffers.
const ALIGNMENT: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    producer: Option<String>,
    #[serde(default)]
    epoch: u32,
    #[serde(default)]
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<Box<Account>>,
}

/// What a header says.
type Told = (Option<Origin>, Option<Position>, Option<Box<Account>>);

/// Why bytes are no agent batch. Sending the same bytes again will not help.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not this format, or a version that is not known here.
    #[error("not a Lodge batch of version {VERSION}: {0}")]
    Format(&'static str),
    /// The header cannot be read.
    #[error("the batch's header is wrong: {0}")]
    Header(String),
    /// The Arrow stream cannot be read.
    #[error("the batch's Arrow stream is damaged: {0}")]
    Arrow(String),
    /// The records have not the shape of a batch.
    #[error("the batch is not of Lodge's shape: {0}")]
    Shape(#[from] ShapeError),
}

/// The bytes of a batch. Fails only if Arrow cannot write it, which is a bug.
pub fn encode(batch: &Batch) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let (origin, records) = (batch.origin, batch.records());
    let header = Header {
        producer: origin.map(|o| o.producer.to_string()),
        epoch: origin.map_or(0, |o| o.epoch),
        seq: origin.map_or(0, |o| o.seq),
        position: batch.position.as_ref().map(|p| p.as_str().to_owned()),
        account: batch.account.clone(),
    };
    let mut header = serde_json::to_vec(&header)
        .map_err(|e| arrow::error::ArrowError::ExternalError(Box::new(e)))?;
    let aligned = (HEADER_AT + header.len()).next_multiple_of(ALIGNMENT);
    header.resize(aligned - HEADER_AT, b' ');
    let mut out = Vec::with_capacity(records.get_array_memory_size() + 4096);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    out.extend_from_slice(&header);
    let mut writer = StreamWriter::try_new(out, records.schema_ref())?;
    writer.write(records)?;
    writer.into_inner()
}

/// A batch for `tenant` from the bytes that [`encode`] made, or that claim so.
pub fn decode(tenant: TenantId, bytes: Bytes) -> Result<Batch, DecodeError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(DecodeError::Format("it begins otherwise"))?;
    let (&version, rest) = rest.split_first().ok_or(DecodeError::Format("it is cut short"))?;
    if version != VERSION {
        return Err(DecodeError::Format("it is of another version"));
    }
    let (length, rest) =
        rest.split_first_chunk::<4>().ok_or(DecodeError::Format("it is cut short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > HEADER_BYTES_MAX {
        return Err(DecodeError::Header(format!("{length} bytes, over {HEADER_BYTES_MAX}")));
    }
    let (header, stream) =
        rest.split_at_checked(length).ok_or(DecodeError::Format("it is cut short"))?;
    let (origin, position, account) = read_header(header)?;
    check_messages(stream)?;
    let stream = Buffer::from(bytes.slice_ref(stream));
    // Arrow's reader validates what it reads; should it panic on bytes that no fuzzer has found
    // yet, that is one refused request and not a dead server.
    let read = std::panic::catch_unwind(|| read_stream(stream));
    let records = read.unwrap_or_else(|_| Err(DecodeError::Arrow("unreadable".into())))?;
    let mut batch = Batch::new(tenant, origin, position, records)?;
    batch.account = account;
    Ok(batch)
}

fn read_header(header: &[u8]) -> Result<Told, DecodeError> {
    let wrong = |error: &dyn std::fmt::Display| DecodeError::Header(error.to_string());
    let header: Header = serde_json::from_slice(header).map_err(|e| wrong(&e))?;
    let origin = match header.producer {
        None => None,
        Some(text) => {
            let producer = text.parse().map_err(|e| wrong(&e))?;
            if header.seq == 0 {
                return Err(DecodeError::Header("seq counts from 1".into()));
            }
            Some(Origin { producer, epoch: header.epoch, seq: header.seq })
        }
    };
    let position = header.position.map(Position::new).transpose().map_err(|e| wrong(&e))?;
    if let Some(account) = &header.account {
        account.check().map_err(|e| wrong(&e))?;
    }
    Ok((origin, position, header.account))
}

/// Walks the messages of an Arrow IPC stream without decoding them.
fn check_messages(stream: &[u8]) -> Result<(), DecodeError> {
    let damaged = |what: &str| DecodeError::Arrow(what.to_owned());
    let mut rest = stream;
    for _ in 0..MESSAGES_MAX {
        let Some((continuation, after)) = rest.split_first_chunk::<4>() else {
            return Err(damaged("it is cut short"));
        };
        if *continuation != [0xff; 4] {
            return Err(damaged("a message begins otherwise"));
        }
        let (length, after) =
            after.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut short"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            return Ok(());
        }
        let (metadata, body) =
            after.split_at_checked(length).ok_or_else(|| damaged("a message is cut short"))?;
        let message = root_as_message(metadata).map_err(|e| DecodeError::Arrow(e.to_string()))?;
        let compressed = match message.header_type() {
            MessageHeader::RecordBatch => {
                message.header_as_record_batch().and_then(|b| b.compression()).is_some()
            }
            MessageHeader::DictionaryBatch => message
                .header_as_dictionary_batch()
                .and_then(|d| d.data())
                .and_then(|b| b.compression())
                .is_some(),
            MessageHeader::Schema => false,
            _ => return Err(damaged("a message of a kind that is not used here")),
        };
        if compressed {
            return Err(damaged("compressed inside; compress the request instead"));
        }
        let length = usize::try_from(message.bodyLength()).map_err(|_| damaged("negative size"))?;
        rest = body.get(length..).ok_or_else(|| damaged("a body is cut short"))?;
    }
    Err(damaged("too many messages"))
}

fn read_stream(mut stream: Buffer) -> Result<RecordBatch, DecodeError> {
    let damaged = |e: arrow::error::ArrowError| DecodeError::Arrow(e.to_string());
    check_schema(&stream)?;
    let mut decoder = StreamDecoder::new();
    let missing = || DecodeError::Arrow("no record batch in it".into());
    let records = decoder.decode(&mut stream).map_err(damaged)?.ok_or_else(missing)?;
    match decoder.decode(&mut stream).map_err(damaged)? {
        None => Ok(records),
        Some(_) => Err(DecodeError::Arrow("more than one record batch in it".into())),
    }
}

/// Refuses columns that no batch has before any of them is decoded.
fn check_schema(stream: &[u8]) -> Result<(), DecodeError> {
    let damaged = |what: &str| DecodeError::Arrow(what.to_owned());
    let length = stream.get(4..).and_then(<[u8]>::first_chunk).copied().map(u32::from_le_bytes);
    let metadata = length
        .and_then(|length| stream.get(8..)?.get(..length as usize))
        .ok_or_else(|| damaged("it is cut short"))?;
    let message = root_as_message(metadata).map_err(|e| DecodeError::Arrow(e.to_string()))?;
    let found = message.header_as_schema().ok_or_else(|| damaged("it has no schema in front"))?;
    let found = Arc::new(fb_to_schema(found));
    Ok(schema::check(&RecordBatch::new_empty(found))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lodge_record::ProducerId;
    use lodge_record::builder::BatchBuilder;
    use proptest::prelude::*;

    fn sample() -> Batch {
        let mut b = BatchBuilder::new();
        let stream = b.stream("{host=\"a\"}");
        for i in 0..200 {
            b.message("hello");
            b.field_str("level", ["info", "warn"][i as usize % 2]);
            b.field_i64("n", i);
            b.finish_row(i, stream);
        }
        let records = b.finish().expect("a batch");
        let origin = Origin { producer: ProducerId::random(), epoch: 2, seq: 9 };
        let position = Position::new("g1:200").expect("short");
        Batch::new(TenantId::default(), Some(origin), Some(position), records).expect("shape")
    }

    #[test]
    fn a_batch_comes_back() {
        let batch = sample();
        let bytes = encode(&batch).expect("encode");
        let back = decode(TenantId::default(), bytes.into()).expect("decode");
        assert_eq!(back.origin, batch.origin);
        assert_eq!(back.position, batch.position);
        assert_eq!(back.records(), batch.records());
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = encode(&sample()).expect("encode");
        for end in 0..bytes.len() - 8 {
            let cut = Bytes::copy_from_slice(&bytes[..end]);
            assert!(decode(TenantId::default(), cut).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic_fuzz(
            flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = encode(&sample()).expect("encode");
            let length = bytes.len();
            for (at, to) in flips {
                bytes[at as usize % length] = to;
            }
            if let Ok(batch) = decode(TenantId::default(), bytes.into()) {
                for row in 0..batch.rows() {
                    for column in batch.records().columns() {
                        let _ = schema::value_text(column, row);
                    }
                }
            }
        }
    }
}
