//! Just enough of protobuf, MessagePack, snappy and gzip to write requests as clients do.
//!
//! Specifications: <https://protobuf.dev/programming-guides/encoding/>,
//! <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Appends a protobuf field of wire type 0.
pub(super) fn varint(out: &mut Vec<u8>, number: u32, value: u64) {
    raw_varint(out, u64::from(number) << 3);
    raw_varint(out, value);
}

/// Appends a protobuf field of wire type 1.
pub(super) fn fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    raw_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a protobuf field of wire type 2: bytes, or a text.
pub(super) fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    raw_varint(out, u64::from(number) << 3 | 2);
    raw_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a protobuf field that is a message.
pub(super) fn message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, number, &inner);
}

/// Appends an attribute of OpenTelemetry: a name, and a value of any type.
pub(super) fn attribute(
    out: &mut Vec<u8>,
    number: u32,
    name: &str,
    value: impl FnOnce(&mut Vec<u8>),
) {
    message(out, number, |out| {
        bytes(out, 1, name.as_bytes());
        message(out, 2, value);
    });
}

fn raw_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A snappy block.
pub(super) fn snappy_block(plain: &[u8]) -> Vec<u8> {
    let packed = snap::raw::Encoder::new().compress_vec(plain);
    packed.expect("a request is far below the 4 GiB that a block can hold")
}

/// A gzip stream.
pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(plain).and_then(|()| encoder.finish());
    packed.expect("memory takes what is written")
}

/// Appends the head of a MessagePack array.
pub(super) fn array(out: &mut Vec<u8>, length: usize) {
    match u16::try_from(length) {
        Ok(length @ 0..16) => out.push(0x90 | length as u8),
        Ok(length) => {
            out.push(0xdc);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => panic!("a rig sends no array of {length}"),
    }
}

/// Appends the head of a MessagePack map.
pub(super) fn map(out: &mut Vec<u8>, length: u8) {
    assert!(length < 16, "a rig sends no larger maps");
    out.push(0x80 | length);
}

/// Appends a MessagePack text.
pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    let length = u16::try_from(value.len()).expect("a minted text is far below 64 KiB");
    match length {
        0..32 => out.push(0xa0 | length as u8),
        32..256 => out.extend_from_slice(&[0xd9, length as u8]),
        _ => {
            out.push(0xda);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(value.as_bytes());
}

/// Appends MessagePack bytes.
pub(super) fn binary(out: &mut Vec<u8>, value: &[u8]) {
    out.push(0xc6);
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// Appends a MessagePack number.
pub(super) fn int(out: &mut Vec<u8>, value: i64) {
    out.push(0xd3);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends Forward's EventTime: seconds and nanoseconds.
pub(super) fn event_time(out: &mut Vec<u8>, time: jiff::Timestamp) {
    out.extend_from_slice(&[0xd7, 0x00]);
    out.extend_from_slice(&(time.as_second() as u32).to_be_bytes());
    out.extend_from_slice(&(time.subsec_nanosecond() as u32).to_be_bytes());
}
