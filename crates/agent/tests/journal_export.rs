//! The journal's export format: text and binary fields, in any pieces.
#![allow(clippy::unwrap_used)]

use lodge_agent::journal_export::{Entry, ExportError, FIELD_BYTES_MAX, Parser};

fn binary(name: &str, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u64).to_le_bytes();
    [name.as_bytes(), b"\n", &length, value, b"\n"].concat()
}

fn entries(stream: &[u8], step: usize) -> Result<Vec<Entry>, ExportError> {
    let mut parser = Parser::default();
    let mut entries = Vec::new();
    for piece in stream.chunks(step) {
        parser.push(piece);
        while let Some(entry) = parser.next_entry()? {
            entries.push(entry);
        }
    }
    Ok(entries)
}

#[test]
fn entries_are_the_same_in_any_pieces() {
    let stream = [
        b"__CURSOR=s=1;i=2\nMESSAGE=a=b\nEMPTY=\n\n".to_vec(),
        b"__CURSOR=c2\n".to_vec(),
        binary("MESSAGE", b"two\nlines\0and \xff"),
        binary("NONE", b""),
        b"LAST=x\n\n".to_vec(),
        b"\n\n__CURSOR=unfinished\n".to_vec(),
    ]
    .concat();
    for step in 1..=stream.len() {
        let entries = entries(&stream, step).unwrap();
        assert_eq!(entries.len(), 2, "in steps of {step}");
        assert_eq!(entries[0].text("__CURSOR"), Some("s=1;i=2"));
        assert_eq!(entries[0].text("MESSAGE"), Some("a=b"));
        assert_eq!(entries[0].text("EMPTY"), Some(""));
        assert_eq!(entries[1].get("MESSAGE"), Some(&b"two\nlines\0and \xff"[..]));
        assert_eq!(entries[1].text("MESSAGE"), None);
        assert_eq!(entries[1].text("NONE"), Some(""));
        assert_eq!(entries[1].text("LAST"), Some("x"));
    }
}

#[test]
fn long_fields_keep_their_head_and_length() {
    let long = vec![b'x'; FIELD_BYTES_MAX + 12_345];
    let stream = [b"MESSAGE=", &long[..], b"\nA=1\n", &binary("B", &long), b"C=2\n\n"].concat();
    let entry = entries(&stream, 60_000).unwrap().remove(0);
    for name in ["MESSAGE", "B"] {
        let field = entry.fields.iter().find(|field| field.name == name).unwrap();
        assert_eq!(field.value.len(), FIELD_BYTES_MAX, "{name}");
        assert_eq!(field.original_bytes, long.len() as u64, "{name}");
    }
    assert_eq!(entry.text("A"), Some("1"));
    assert_eq!(entry.text("C"), Some("2"));
}

#[test]
fn what_is_no_export_is_an_error() {
    assert_eq!(entries(&[b'x'; 1000], 100), Err(ExportError::NameTooLong));
    let mut damaged = binary("FIELD", b"value");
    damaged.pop();
    damaged.extend_from_slice(b"X=1\n\n");
    assert_eq!(entries(&damaged, 7), Err(ExportError::MissingLineEnd("FIELD".into())));
    // A length that no one could mean takes no memory.
    let huge = [&b"F\n"[..], &u64::MAX.to_le_bytes(), b"abc"].concat();
    assert_eq!(entries(&huge, 3), Ok(vec![]));
}
