//! Tests of Forward: messages as Fluentd, Fluent Bit and the fluent-logger libraries write them.

use std::io::Write as _;

use lodge_record::schema::check;
use serde_json::{Map, Value};

use std::borrow::Cow;

use super::handshake::*;
use super::*;
use crate::json_rows;
use crate::msgpack::put_bool;

const NOW_NS: i64 = 1_767_225_600_000_000_000;

fn text(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_str(&mut out, value.as_bytes());
    out
}

fn int(value: u64) -> Vec<u8> {
    [&[0xcf][..], &value.to_be_bytes()].concat()
}

fn array(values: &[Vec<u8>]) -> Vec<u8> {
    [&[0xdc][..], &(values.len() as u16).to_be_bytes(), &values.concat()].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xde];
    out.extend((pairs.len() as u16).to_be_bytes());
    for (key, value) in pairs {
        put_str(&mut out, key.as_bytes());
        out.extend_from_slice(value);
    }
    out
}

fn event_time(seconds: u32, ns: u32) -> Vec<u8> {
    [&[0xd7, 0][..], &seconds.to_be_bytes(), &ns.to_be_bytes()].concat()
}

fn bin32(bytes: &[u8]) -> Vec<u8> {
    [&[0xc6][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("to memory");
    out.finish().expect("to memory")
}

fn entry(number: u32) -> Vec<u8> {
    let record = map(&[("message", text(&format!("line {number}"))), ("n", int(number.into()))]);
    array(&[event_time(1_700_000_000 + number, 5), record])
}

type Row = Map<String, Value>;

/// What a connection's bytes, in parts of `step`, become.
fn decoded(bytes: &[u8], step: usize) -> Result<(Vec<Row>, Vec<Message>), ForwardError> {
    let mut decoder = Decoder::new(Limits {
        message_bytes_max: 1 << 20,
        expanded_bytes_max: 1 << 20,
        decoded_bytes_max: 8 << 20,
    });
    let mut messages = Vec::new();
    for part in bytes.chunks(step) {
        decoder.push(part);
        while let Some(message) = decoder.next_message(NOW_NS)? {
            messages.push(message);
        }
    }
    let rows = decoder.rows();
    let mut out = Vec::new();
    for batch in decoder.take_batches().expect("columns") {
        check(&batch).expect("shape");
        json_rows::write_rows(&batch, &mut out);
    }
    let lines = out.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let written: Vec<Row> = lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect();
    assert_eq!(written.len(), rows);
    assert_eq!(rows as u64, messages.iter().map(|m| m.accepted).sum::<u64>());
    Ok((written, messages))
}

fn all_modes() -> Vec<u8> {
    let packed = [entry(4), entry(5)].concat();
    let size = ("size", int(2));
    let option = |compressed: &str, chunk: &str| {
        map(&[size.clone(), ("compressed", text(compressed)), ("chunk", text(chunk))])
    };
    let members = [gzip(&entry(6)), gzip(&entry(7))].concat();
    let frame = crate::encoding::compress_zstd(&[entry(8), entry(9)].concat()).expect("zstd");
    let record = map(&[("log", text("line 0")), ("k8s", map(&[("pod", text("p"))]))]);
    [
        array(&[text("app.web"), int(1_700_000_000), record]),
        vec![0xc0],
        array(&[
            text("app.web"),
            event_time(1_700_000_001, 5),
            map(&[]),
            map(&[("chunk", text("c1"))]),
        ]),
        array(&[text("app.db"), array(&[entry(2), entry(3)]), map(&[("chunk", text("c2"))])]),
        array(&[text("app.db"), bin32(&packed), map(std::slice::from_ref(&size))]),
        array(&[text("app.db"), bin32(&members), option("gzip", "c3")]),
        array(&[text("app.db"), bin32(&frame), option("zstd", "c4")]),
        // As old clients wrote it: the entries as a text, without an option.
        array(&[
            text("old"),
            [&[0xdb][..], &(packed.len() as u32).to_be_bytes(), &packed].concat(),
        ]),
    ]
    .concat()
}

#[test]
fn all_modes_in_any_cuts() {
    let bytes = all_modes();
    let whole = decoded(&bytes, bytes.len()).expect("sound");
    let (rows, messages) = &whole;
    let said: Vec<_> = rows
        .iter()
        .map(|row| row.get("_msg").and_then(Value::as_str).unwrap_or_default().to_owned())
        .collect();
    let numbered: Vec<_> = (2..10).map(|n| format!("line {n}")).collect();
    assert_eq!(said[..2], ["line 0", ""]);
    assert_eq!(said[2..10], numbered);
    assert_eq!(said[10..], ["line 4", "line 5"]);
    assert_eq!(rows[0]["_time"], "2023-11-14T22:13:20Z");
    assert_eq!(rows[1]["_time"], "2023-11-14T22:13:21.000000005Z");
    assert_eq!(rows[0]["_stream"], "{fluent.tag=\"app.web\"}");
    assert_eq!((&rows[0]["fluent.tag"], &rows[0]["k8s.pod"]), (&"app.web".into(), &"p".into()));
    assert_eq!(rows[10]["_stream"], "{fluent.tag=\"old\"}");
    let chunks: Vec<_> = messages.iter().filter_map(|m| m.chunk.as_deref()).collect();
    assert_eq!(chunks, [&b"c1"[..], b"c2", b"c3", b"c4"]);
    assert_eq!(messages.iter().map(|m| m.accepted).collect::<Vec<_>>(), [1, 0, 1, 2, 2, 2, 2, 2]);
    for step in 1..60 {
        assert_eq!(decoded(&bytes, step).as_ref(), Ok(&whole), "in steps of {step}");
    }
    assert_eq!(ack(b"c1"), b"\x81\xa3ack\xa2c1");
    assert_eq!(ack(&[b'x'; 300])[..8], *b"\x81\xa3ack\xda\x01\x2c");
}

#[test]
fn records_keep_their_values() {
    let record = map(&[
        ("message", b"\xa3a\xffb".to_vec()),
        ("bin", b"\xc4\x02hi".to_vec()),
        ("raw", b"\xc4\x02\xff\x00".to_vec()),
        ("list", array(&[int(1), vec![0xc0], text("x"), map(&[("a", vec![0xc3])])])),
        ("deep", map(&[("er", map(&[("est", vec![0xff])]))])),
        ("float", [&[0xca][..], &1.5f32.to_be_bytes()].concat()),
        ("big", int(u64::MAX)),
        ("neg", b"\xd1\xff\x00".to_vec()),
        ("when", event_time(1_700_000_000, 0)),
        ("stamp", b"\xd6\xff\x65\x53\xf1\x00".to_vec()),
        ("ext", b"\xd4\x07\x01".to_vec()),
        ("nil", vec![0xc0]),
        ("", text("nameless")),
    ]);
    let bytes = array(&[text("t"), int(1_700_000_000_123), record]);
    let row = &decoded(&bytes, 7).expect("sound").0[0];
    let expected = [
        ("_time", "2023-11-14T22:13:20.123Z"),
        ("_msg", "a\u{fffd}b"),
        ("lodge.raw_base64", "Yf9i"),
        ("bin", "hi"),
        ("raw", "\u{fffd}\0"),
        ("raw.raw_base64", "/wA="),
        ("list", r#"[1,null,"x",{"a":true}]"#),
        ("deep.er.est", "-1"),
        ("float", "1.5"),
        ("big", "18446744073709551615"),
        ("neg", "-256"),
        ("when", "2023-11-14T22:13:20Z"),
        ("stamp", "2023-11-14T22:13:20Z"),
        ("ext", "AQ=="),
        ("lodge.field.", "nameless"),
    ];
    for (name, value) in expected {
        assert_eq!(row.get(name).and_then(Value::as_str), Some(value), "{name}");
    }
    assert_eq!(row.len(), expected.len() + 3, "and tag, stream and its id: {row:?}");
}

#[test]
fn times_of_every_kind() {
    let float = [&[0xcb][..], &1_700_000_000.5f64.to_be_bytes()].concat();
    let with_metadata = array(&[event_time(1_700_000_000, 0), map(&[("severity", text("e"))])]);
    let ext8 = [&[0xc7, 8, 0][..], &1_700_000_000u32.to_be_bytes(), &[0; 4]].concat();
    for (time, expected) in [
        (float, "2023-11-14T22:13:20.5Z"),
        (ext8, "2023-11-14T22:13:20Z"),
        (with_metadata, "2023-11-14T22:13:20Z"),
        (int(0), "2026-01-01T00:00:00Z"),
        (vec![0xc0], "2026-01-01T00:00:00Z"),
        (text("never"), "2026-01-01T00:00:00Z"),
    ] {
        let bytes = array(&[text("t"), array(&[array(&[time, map(&[("a", int(1))])])])]);
        let row = &decoded(&bytes, 1000).expect("sound").0[0];
        assert_eq!(row["_time"], expected);
        if let Some(severity) = row.get("fluent.metadata.severity") {
            assert_eq!(severity, "e");
        }
    }
}

#[test]
fn one_bad_entry_does_not_lose_the_others() {
    let mut deep = vec![0x91; 200];
    deep.push(0xc0);
    let odd = array(&[int(1), text("just a text")]);
    let packed =
        [entry(1), text("no entry"), array(&[int(1)]), odd, array(&[int(1), deep]), entry(2)];
    let mut packed = packed.concat();
    packed.extend_from_slice(&entry(3)[..20]);
    let bytes = array(&[text("t"), bin32(&packed), map(&[("chunk", text("c"))])]);
    let (rows, messages) = decoded(&bytes, 1000).expect("sound");
    let message = &messages[0];
    assert_eq!((message.accepted, message.rejected, message.kept_as_text), (3, 4, 1));
    assert_eq!(message.troubles.iter().map(|t| t.entry).collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
    assert!(message.troubles[3].reason.contains("nested more than 128 deep"));
    assert!(message.troubles[4].reason.contains("from here on"), "{message:?}");
    assert_eq!(rows[1]["_msg"], "just a text");
    assert_eq!(rows[1]["lodge.error"], "the record is not a map");
    assert_eq!(rows[2]["_msg"], "line 2");

    let gzipped = map(&[("compressed", text("gzip")), ("chunk", text("c"))]);
    let bomb = gzip(&vec![0xc0; 16 << 20]);
    for (bytes, reason) in [
        (array(&[text("t"), bin32(b"no gzip"), gzipped.clone()]), "not valid gzip"),
        (array(&[text("t"), bin32(&bomb), gzipped]), "expands to more than"),
        (array(&[text("t"), bin32(b""), map(&[("compressed", text("lzma"))])]), "lzma"),
        (array(&[text("t"), array(&[]), map(&[("fluent_signal", vec![1])])]), "metrics"),
        (array(&[int(1), array(&[])]), "tag"),
        (array(&[text("t")]), "tag and entries"),
        (array(&[text("t"), int(1)]), "without a record"),
    ] {
        let (rows, messages) = decoded(&bytes, 4096).expect("sound");
        assert_eq!((rows.len(), messages[0].rejected), (0, 1), "{reason}");
        assert!(messages[0].troubles[0].reason.contains(reason), "{:?}", messages[0]);
    }
}

#[test]
fn what_is_announced_too_large_or_is_no_forward_is_refused_at_once() {
    for (bytes, announced) in [
        (&b"\xdd\xff\xff\xff\xff"[..], 5 + u64::from(u32::MAX)),
        (b"\x92\xc6\x40\x00\x00\x00", 1 + 5 + (1 << 30)),
        (b"\x92\xa1t\xdf\xff\xff\xff\xff", 3 + 5 + 2 * u64::from(u32::MAX)),
    ] {
        let error = decoded(bytes, 1).expect_err("too large");
        assert_eq!(error, ForwardError::TooLarge { announced, bytes_max: 1 << 20 });
    }
    let nested = vec![0x91; 100_000];
    let error = decoded(&nested, 1000).expect_err("too deep");
    assert!(matches!(error, ForwardError::Damaged(MsgpackError::TooDeep { .. })), "{error}");
    for other in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"{\"a\":1}", b"<13>Jan", b"\x81\xa1a\x01"]
    {
        assert_eq!(decoded(other, 1).expect_err("another format"), ForwardError::NotForward);
    }
    let error = decoded(b"\x92\xc1", 1).expect_err("no MessagePack");
    assert_eq!(error, ForwardError::Damaged(MsgpackError::NotMsgpack { offset: 1 }));
    // Entries of three bytes that are records of a hundred.
    let tiny = gzip(&b"\x92\x00\x80".repeat(300_000));
    let option = map(&[("compressed", text("gzip"))]);
    let bytes = array(&[text(&"t".repeat(500)), bin32(&tiny), option]);
    let message = &decoded(&bytes, bytes.len()).expect("sound").1[0];
    assert_eq!(message.accepted + message.rejected, 300_000);
    assert!(message.accepted > 10_000 && message.accepted < 20_000, "{}", message.accepted);
    assert!(message.troubles[0].reason.contains("send smaller chunks"));
    // Within a message the counts of what is packed are not believed either.
    let lying = array(&[text("t"), bin32(b"\xdd\xff\xff\xff\xff\x01")]);
    assert_eq!(decoded(&lying, 1).expect("framed").1[0].rejected, 1);
}

#[test]
fn both_sides_of_the_handshake_agree() {
    let (nonce, salt, auth) = (b"\x00nonce", b"salt\xff", b"auth salt");
    let helo = Helo { nonce: nonce[..].into(), auth_salt: auth[..].into(), keepalive: true };
    let sent = helo.write();
    assert_eq!(read_helo(&sent), Ok(helo.clone()));
    let ping_sent = write_ping(&helo, "web-1", salt, b"secret", Some(("ann", "pw")));
    // A server takes the handshake's messages from the connection as frames.
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(&ping_sent[..10]);
    assert_eq!(decoder.next_frame(), Ok(None));
    decoder.push(&ping_sent[10..]);
    let frame = decoder.next_frame().expect("sound").expect("whole").to_vec();
    let ping = read_ping(&frame).expect("a ping");
    assert_eq!((ping.hostname, ping.username), (&b"web-1"[..], &b"ann"[..]));
    assert!(ping.has_key(nonce, b"secret") && ping.has_password(auth, b"pw"));
    assert!(!ping.has_key(nonce, b"Secret") && !ping.has_key(b"", b"secret"));
    assert!(!ping.has_password(auth, b"pW") && !ping.has_password(b"", b"pw"));
    let pong_sent = ping.accept("lodge", nonce, b"secret");
    let pong = read_pong(&pong_sent).expect("a pong");
    assert!(pong.accepted && pong.has_key(salt, nonce, b"secret"));
    assert!(!pong.has_key(salt, nonce, b"other"));
    let refused = refuse("shared_key mismatch");
    let pong = read_pong(&refused).expect("a pong");
    assert_eq!((pong.accepted, pong.reason), (false, &b"shared_key mismatch"[..]));

    let without_user = Helo { auth_salt: Cow::Borrowed(b""), ..helo };
    let ping_sent = write_ping(&without_user, "h", salt, b"k", Some(("ann", "pw")));
    assert_eq!(read_ping(&ping_sent).expect("a ping").username, b"");
    // sha512 of "abc", as FIPS 180 has it.
    assert_eq!(
        key_digest(b"a", b"b", b"", b"c"),
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    );
    assert_eq!(read_ping(&entry(1)), Err(HandshakeError::Expected("PING")));
    let mut numbers = vec![0x96];
    put_str(&mut numbers, b"PING");
    numbers.extend([1, 2, 3, 4, 5]);
    let error = HandshakeError::BadPart { message: "PING", part: "hostname" };
    assert_eq!(read_ping(&numbers), Err(error));
    let mut long = vec![0x95];
    put_str(&mut long, b"PONG");
    put_bool(&mut long, true);
    put_str(&mut long, &[b'x'; PART_BYTES_MAX + 1]);
    assert!(matches!(read_pong(&long), Err(HandshakeError::BadPart { .. })));
}

#[test]
fn damaged_connections_end_or_every_entry_is_told_of_fuzz() {
    let example = all_modes();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
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
                3 => bytes.insert(at, [0xc1, 0xdd, 0xdf, 0xc6, 0xc0, 0x91, 0x80][below(7)]),
                _ => bytes.truncate(at + 1),
            }
        }
        let whole = decoded(&bytes, bytes.len());
        let step = 1 + below(40);
        let parts = decoded(&bytes, step);
        assert_eq!(whole, parts);
        for message in whole.map(|(_, messages)| messages).unwrap_or_default() {
            let told = message.troubles.len() as u64;
            assert_eq!(told, (message.rejected + message.kept_as_text).min(TROUBLES_MAX as u64));
        }
        for frame in [&bytes[..], &bytes[below(bytes.len())..]] {
            let _ = (read_helo(frame).is_ok(), read_ping(frame).is_ok(), read_pong(frame).is_ok());
        }
    }
}
