//! Tests of the wire format, with bytes as protoc's own programs write them.

use proptest::prelude::*;

use super::*;

fn fields(bytes: &[u8]) -> Result<Vec<(u32, Payload<'_>)>, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(field) = reader.next_field()? {
        found.push((field.number, field.payload));
    }
    Ok(found)
}

#[test]
fn every_wire_type_is_read() {
    // 150 as in the specification, a text, both fixed widths, and -1 as int64.
    let bytes = [
        b"\x08\x96\x01".as_slice(),
        b"\x12\x07testing",
        b"\x19\x01\0\0\0\0\0\0\x80",
        b"\x25\x02\0\0\0",
        b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ]
    .concat();
    let expected = vec![
        (1, Payload::Varint(150)),
        (2, Payload::Bytes(b"testing")),
        (3, Payload::Fixed64(0x8000_0000_0000_0001)),
        (4, Payload::Fixed32(2)),
        (5, Payload::Varint(u64::MAX)),
    ];
    assert_eq!(fields(&bytes), Ok(expected));
    let mut reader = Reader::new(&bytes);
    let field = reader.next_field().expect("read").expect("a field");
    assert_eq!((field.varint(), field.bytes(), field.fixed64()), (Some(150), None, None));
    assert_eq!(reader.offset(), 3);
}

#[test]
fn errors_say_where_in_the_outermost_message() {
    // Field 1 holds a message whose field 2 claims 9 bytes but has 3.
    let inner = b"\x12\x09abc";
    let mut bytes = vec![0x0a, inner.len() as u8];
    bytes.extend_from_slice(inner);
    let field = Reader::new(&bytes).next_field().expect("read").expect("a field");
    let mut inner = field.message().expect("a message");
    assert_eq!(inner.next_field(), Err(ProtobufError::Cut { offset: 7, needed: 6 }));
    assert_eq!(inner.next_field(), Ok(None), "an error ends the reader");
    assert_eq!(fields(b"\x80"), Err(ProtobufError::Cut { offset: 1, needed: 1 }));
    assert_eq!(fields(b"\x08"), Err(ProtobufError::Cut { offset: 1, needed: 1 }));
    let long = [&b"\x08"[..], &[0xff; 10]].concat();
    assert_eq!(fields(&long), Err(ProtobufError::VarintTooLong { offset: 1 }));
    for group_or_zero in [0x0b, 0x0c, 0x0e, 0x0f, 0x00] {
        let tag = u64::from(group_or_zero);
        assert_eq!(fields(&[group_or_zero, 0]), Err(ProtobufError::BadTag { tag, offset: 0 }));
    }
}

#[test]
fn an_announced_gigabyte_takes_no_memory() {
    for length in [1 << 30, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = vec![0x0a];
        put_varint(&mut bytes, length);
        let at = bytes.len();
        bytes.extend_from_slice(b"abc");
        let error = ProtobufError::Cut { offset: at + 3, needed: length - 3 };
        assert_eq!(fields(&bytes), Err(error));
    }
}

#[test]
fn nesting_is_counted() {
    let mut bytes = Vec::new();
    for _ in 0..DEPTH_MAX + 1 {
        let mut outer = Vec::new();
        put_bytes_field(&mut outer, 1, &bytes);
        bytes = outer;
    }
    let mut reader = Reader::new(&bytes);
    let mut depth = 0;
    let error = loop {
        if let Err(error) = reader.deeper() {
            break error;
        }
        let field = reader.next_field().expect("read").expect("a field");
        reader = field.message().expect("a message");
        depth += 1;
    };
    assert_eq!(depth, DEPTH_MAX + 1);
    assert!(matches!(error, ProtobufError::TooDeep { .. }), "{error}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_model(
        fields_in in prop::collection::vec((1u32..1 << 29, any::<u64>(), any::<Vec<u8>>()), 0..9)
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (number, value, payload) in &fields_in {
            put_varint_field(&mut bytes, *number, *value);
            put_bytes_field(&mut bytes, *number, payload);
            expected.push((*number, Payload::Varint(*value)));
            expected.push((*number, Payload::Bytes(payload)));
        }
        prop_assert_eq!(fields(&bytes), Ok(expected));
    }

    /// A reader ends, stays within its bytes, and gives out at most a field for every two bytes.
    #[test]
    fn any_bytes_are_read_or_refused_fuzz(bytes in any::<Vec<u8>>()) {
        let mut reader = Reader::new(&bytes);
        let mut count = 0;
        while let Ok(Some(_)) = reader.next_field() {
            count += 1;
        }
        prop_assert!(count * 2 <= bytes.len());
        prop_assert!(reader.offset() <= bytes.len());
    }
}
