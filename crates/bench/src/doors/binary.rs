//! Just enough of protobuf and MessagePack to write requests as clients do.
//!
//! Specifications: <https://protobuf.dev/programming-guides/encoding/> and
//! <https://github.com/msgpack/msgpack/blob/master/spec.md>.

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

fn raw_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the head of a MessagePack array.
pub(super) fn array(out: &mut Vec<u8>, length: u8) {
    assert!(length < 16, "longer arrays are not written");
    out.push(0x90 | length);
}

/// Appends the head of a MessagePack map.
pub(super) fn map(out: &mut Vec<u8>, length: u8) {
    assert!(length < 16, "longer maps are not written");
    out.push(0x80 | length);
}

/// Appends a MessagePack text.
pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    match value.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..256 => out.extend_from_slice(&[0xd9, length as u8]),
        length => {
            out.push(0xda);
            let length = u16::try_from(length).unwrap_or(u16::MAX);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(
        value.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(value.as_bytes()),
    );
}

/// Appends MessagePack bytes.
pub(super) fn binary(out: &mut Vec<u8>, value: &[u8]) {
    out.push(0xc6);
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// Appends a MessagePack number that is not negative.
pub(super) fn uint(out: &mut Vec<u8>, value: u64) {
    if value < 128 {
        out.push(value as u8);
    } else {
        out.push(0xcf);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a MessagePack number with a fraction.
pub(super) fn float(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends Forward's EventTime: seconds and nanoseconds.
pub(super) fn event_time(out: &mut Vec<u8>, time_ns: u64) {
    out.extend_from_slice(&[0xd7, 0x00]);
    out.extend_from_slice(&((time_ns / 1_000_000_000) as u32).to_be_bytes());
    out.extend_from_slice(&((time_ns % 1_000_000_000) as u32).to_be_bytes());
}
