//! The journal's export format: text and binary fields, in any pieces.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::*;
use crate::json_rows;

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

#[test]
fn an_entry_is_bounded_and_many_fields_are_counted() {
    let mut stream = b"MESSAGE=first\n".to_vec();
    for _ in 0..6 {
        stream.extend(binary("BIG", &vec![b'x'; FIELD_BYTES_MAX]));
    }
    for _ in 0..2_000 {
        stream.extend_from_slice(b"MANY=1\n");
    }
    stream.push(b'\n');
    let entry = entries(&stream, 1 << 20).unwrap().remove(0);
    let kept: usize = entry.fields.iter().map(|field| field.value.len()).sum();
    assert_eq!(kept, ENTRY_BYTES_MAX);
    assert_eq!((entry.fields.len(), entry.dropped_fields), (1024, 2_007 - 1024));
    assert!(entry.fields[1..7].iter().all(|f| f.original_bytes == FIELD_BYTES_MAX as u64));
}

#[test]
fn the_end_of_the_stream_ends_an_entry_that_is_whole() {
    for (stream, expected) in [
        (&b"A=1\nB=2\n"[..], Ok(2)),
        (b"A=1\n\n", Ok(1)),
        (b"", Ok(0)),
        (b"\n\n", Ok(0)),
        (b"A=1\nB=2", Err(ExportError::Cut)),
        (b"A=1\nB\n\x01\0\0", Err(ExportError::Cut)),
        (b"A=1\nB\n\x05\0\0\0\0\0\0\0abc", Err(ExportError::Cut)),
    ] {
        let mut parser = Parser::default();
        parser.push(stream);
        let found = parser.finish().map(|entry| entry.map_or(0, |entry| entry.fields.len()));
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(stream));
    }
}

fn uploaded(stream: &[u8], step: usize) -> (Vec<Map<String, Value>>, Result<(), ExportError>) {
    let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let mut decoder = Decoder::new(EntryRows::new(None, &labels));
    let mut done = stream.chunks(step).try_for_each(|part| decoder.part(part, 7));
    if done.is_ok() {
        done = decoder.end(7);
    }
    let mut out = Vec::new();
    let rows = decoder.rows();
    if let Some(records) = decoder.finish().expect("columns") {
        lodge_record::schema::check(&records).expect("shape");
        json_rows::write_rows(&records, &mut out);
    }
    let lines = out.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let written: Vec<_> = lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect();
    assert_eq!(written.len(), rows);
    (written, done)
}

/// As systemd-journal-upload sends it.
fn upload() -> Vec<u8> {
    [
        &b"__CURSOR=s=1;i=2;b=3\n__REALTIME_TIMESTAMP=1700000000000001\n"[..],
        b"__MONOTONIC_TIMESTAMP=5\n_BOOT_ID=b7\n_HOSTNAME=web-1\nPRIORITY=3\n_PID=812\n",
        b"_SYSTEMD_UNIT=nginx.service\nSYSLOG_IDENTIFIER=nginx\n",
        &binary("MESSAGE", b"two\nlines"),
        b"\n__REALTIME_TIMESTAMP=1700000001000000\n_SOURCE_REALTIME_TIMESTAMP=1700000000500000\n",
        b"_HOSTNAME=web-1\n_TRANSPORT=kernel\nPRIORITY=odd\n=nameless\n__=also\n",
        &binary("MESSAGE", b"a\xffb"),
        b"\nMESSAGE=last\n",
    ]
    .concat()
}

#[test]
fn an_upload_becomes_records_in_any_pieces() {
    let stream = upload();
    let (rows, done) = uploaded(&stream, stream.len());
    assert_eq!((rows.len(), done), (3, Ok(())));
    let expected: Value = serde_json::from_str(
        r#"{"_time":"2023-11-14T22:13:20.000001Z","_msg":"two\nlines","level":"error",
        "_stream":"{env=\"prod\",host=\"web-1\",unit=\"nginx.service\"}","env":"prod",
        "host":"web-1","unit":"nginx.service","boot_id":"b7","pid":"812",
        "systemd_unit":"nginx.service","syslog_identifier":"nginx"}"#,
    )
    .expect("JSON");
    let mut first = rows[0].clone();
    first.remove("_stream_id");
    assert_eq!(Value::Object(first), expected);
    assert_eq!(rows[1]["_time"], "2023-11-14T22:13:20.5Z");
    assert_eq!(
        (&rows[1]["_msg"], &rows[1]["lodge.raw_base64"]),
        (&"a\u{fffd}b".into(), &"Yf9i".into())
    );
    assert_eq!((&rows[1]["unit"], &rows[1]["priority"]), (&"kernel".into(), &"odd".into()));
    assert_eq!(
        (&rows[1]["lodge.field."], &rows[1]["lodge.field.#2"]),
        (&"nameless".into(), &"also".into())
    );
    assert_eq!((&rows[2]["_msg"], &rows[2]["unit"]), (&"last".into(), &"unknown".into()));
    assert_eq!(rows[2]["_time"], "1970-01-01T00:00:00.000000007Z");
    for step in 1..80 {
        assert_eq!(uploaded(&stream, step).0, rows, "in steps of {step}");
    }
}

#[test]
fn damaged_uploads_keep_what_came_before_fuzz() {
    let example = upload();
    let mut state = 0x0123_4567_89ab_cdef_u64;
    let mut below = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % end.max(1) as u64) as usize
    };
    for _ in 0..3_000 {
        let mut bytes = example.clone();
        for _ in 0..=below(4) {
            let at = below(bytes.len());
            match below(5) {
                0 => bytes[at] = below(256) as u8,
                1 => bytes[at] ^= 1 << below(8),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                3 => bytes.insert(at, b"\n=_\0\xff"[below(5)]),
                _ => bytes.truncate(at + 1),
            }
        }
        let whole = uploaded(&bytes, bytes.len());
        assert_eq!(uploaded(&bytes, 1 + below(30)), whole);
    }
}
