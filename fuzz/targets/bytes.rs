//! Encodings, frames and single lines: what is read lies within what was given, and within its cap.

use std::io::Read;

use lodge_wire::encoding::{self, Encoding};
use lodge_wire::forward::handshake;
use lodge_wire::protobuf::{Reader, put_bytes_field, put_varint};
use lodge_wire::{agent_report, container_log, grpc_frames, json_items, snappy, syslog};

pub fn grpc_frames(data: &[u8]) {
    match grpc_frames::only_message(data) {
        Ok(message) => {
            assert_eq!(message.bytes.len() + grpc_frames::HEAD_BYTES, data.len());
            let framed = grpc_frames::framed(message.bytes).expect("short");
            assert_eq!(framed.get(1..), data.get(1..));
        }
        Err(error) => drop(error.to_string()),
    }
    let text = String::from_utf8_lossy(data);
    if let Some(time) = grpc_frames::timeout(&text) {
        assert!(text.len() <= 9 && time.as_secs() <= 99_999_999 * 3600);
    }
    let encoded = grpc_frames::percent_encoded(&text);
    assert!(encoded.len() <= grpc_frames::MESSAGE_BYTES_MAX);
    assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(text.as_bytes().starts_with(&percent_decoded(encoded.as_bytes())));
}

fn percent_decoded(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&first, rest)) = text.split_first() {
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                out.push(byte);
                text = &rest[2..];
            }
            _ => {
                out.push(first);
                text = rest;
            }
        }
    }
    out
}

pub fn syslog(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let message = syslog::parse(&text);
    let within = |part: &str| text.contains(part);
    assert!(within(message.text));
    let parts = [message.timestamp, message.hostname, message.appname, message.procid];
    assert!(parts.into_iter().chain([message.msgid]).flatten().all(within));
    assert!(message.facility.is_none_or(|facility| facility <= 23));
    assert!(message.severity.is_none_or(|severity| severity <= 7));
    let mut bytes = 0;
    message.for_each_field(|name, value| bytes += name.len() + value.len());
    // An element's name is in each of its parameters' names.
    assert!(bytes <= 200 + text.len() * (message.structured.len() + 2));
    if let Some(detected) = syslog::detect(&text) {
        assert_eq!(detected.text, message.text, "what is detected is read the same");
    }
}

pub fn forward_handshake(data: &[u8]) {
    let short = |part: &[u8]| assert!(part.len() <= handshake::PART_BYTES_MAX);
    if let Ok(helo) = handshake::read_helo(data) {
        short(&helo.nonce);
        short(&helo.auth_salt);
        let written = helo.write();
        assert_eq!(handshake::read_helo(&written).as_ref(), Ok(&helo));
        let ping = handshake::write_ping(&helo, "client", b"salt", b"key", Some(("u", "p")));
        let ping = handshake::read_ping(&ping).expect("our own");
        assert!(ping.has_key(&helo.nonce, b"key") && !ping.has_key(&helo.nonce, b"other"));
    }
    if let Ok(ping) = handshake::read_ping(data) {
        [ping.hostname, ping.salt, ping.key_digest, ping.username].into_iter().for_each(short);
        assert!(!ping.has_key(b"nonce", b"a key that nobody knows"));
        let pong = ping.accept("server", b"nonce", b"key");
        let pong = handshake::read_pong(&pong).expect("our own");
        assert!(pong.accepted && pong.has_key(ping.salt, b"nonce", b"key"));
    }
    if let Ok(pong) = handshake::read_pong(data) {
        [pong.reason, pong.hostname, pong.key_digest].into_iter().for_each(short);
    }
}

pub fn encoding(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let all = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Identity];
    // The two highest bits mean nothing else.
    let is_snappy = choice >= 0xc0;
    let encoding = if is_snappy { Encoding::Snappy } else { all[usize::from(choice % 4)] };
    let bytes_max = 1 << (usize::from(choice) >> 2 & 15);
    let expanded = encoding::decompress(encoding, body, bytes_max);
    match &expanded {
        Ok(plain) => {
            assert!(plain.len() <= bytes_max);
            let twice = encoding::decompress(encoding, body, bytes_max * 2);
            assert_eq!(twice.ok().as_ref(), Some(plain), "the cap changes what is read");
        }
        Err(encoding::DecompressError::TooLarge { .. }) => {}
        Err(encoding::DecompressError::Damaged { bytes_read, .. }) => {
            assert!(*bytes_read <= bytes_max + 1);
        }
    }
    // Piece by piece, as large bodies are read.
    let mut plain = Vec::new();
    let read = encoding::reader(encoding, body).and_then(|reader| {
        let mut reader = reader.take(bytes_max as u64 + 1);
        let mut piece = [0; 7];
        loop {
            match reader.read(&mut piece)? {
                0 => return Ok(()),
                read => plain.extend_from_slice(&piece[..read]),
            }
        }
    });
    if let Ok(expanded) = expanded {
        assert!(read.is_ok(), "{read:?}");
        assert_eq!(plain, expanded);
    }
}

pub fn snappy(data: &[u8]) {
    const BYTES_MAX: usize = 1 << 16;
    if let Ok(plain) = snappy::decompress_block(data, BYTES_MAX) {
        assert!(plain.len() <= BYTES_MAX && plain.len() <= data.len() * 22);
        let again = snap::raw::Encoder::new().compress_vec(&plain).expect("a block");
        assert_eq!(snappy::decompress_block(&again, BYTES_MAX), Ok(plain));
    }
}

pub fn protobuf(data: &[u8]) {
    let mut again = Vec::new();
    walk(Reader::new(data), &mut again, 0);
    assert!(again.len() <= data.len(), "the shortest form is the longest");
}

/// Reads whatever may be a message as one, and writes it again.
fn walk(mut reader: Reader<'_>, out: &mut Vec<u8>, depth: usize) {
    if reader.deeper().is_err() {
        return;
    }
    assert!(depth <= lodge_wire::protobuf::DEPTH_MAX);
    let mut offset = reader.offset();
    loop {
        match reader.next_field() {
            Ok(Some(field)) => {
                assert!(reader.offset() > offset, "it moves on");
                offset = reader.offset();
                match (field.varint(), field.bytes()) {
                    (Some(value), _) => {
                        put_varint(out, u64::from(field.number) << 3);
                        put_varint(out, value);
                    }
                    // Only the first level is kept: the others are looked at.
                    (_, Some(bytes)) if depth == 0 => put_bytes_field(out, field.number, bytes),
                    _ => {}
                }
                if let Some(message) = field.message().filter(|_| depth < 200) {
                    walk(message, &mut Vec::new(), depth + 1);
                }
            }
            Ok(None) => return,
            Err(error) => {
                drop(error.to_string());
                assert_eq!(reader.next_field(), Ok(None), "an error is the end");
                return;
            }
        }
    }
}

pub fn json_items(data: &[u8]) {
    let mut end = 0;
    let separates = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
    let is_array = data.trim_ascii_start().starts_with(b"[");
    for item in json_items::Items::new(data) {
        assert!(!item.bytes.is_empty(), "an item is something");
        let skipped = data.get(end..item.offset).expect("items come in order");
        let opening = |byte: &u8| is_array && *byte == b'[';
        assert!(skipped.iter().all(|b| separates(b) || opening(b)), "nothing is passed over");
        end = item.offset + item.bytes.len();
        assert_eq!(data.get(item.offset..end), Some(item.bytes));
    }
    let rest = data.get(end..).expect("items lie within");
    let closing = |byte: &u8| is_array && matches!(byte, b'[' | b']');
    assert!(rest.iter().all(|byte| separates(byte) || closing(byte)), "nothing is left");
}

pub fn agent_report(data: &[u8]) {
    let Ok(report) = agent_report::decode(data) else { return };
    assert!(report.sources.len() <= agent_report::SOURCES_MAX);
    let again = serde_json::to_vec(&report).expect("JSON");
    // Escapes may take more room than what they stand for did.
    if again.len() <= agent_report::REPORT_BYTES_MAX {
        assert_eq!(agent_report::decode(&again).expect("our own"), report);
    }
}

pub fn container_log(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(entry) = container_log::parse_cri(line) {
            assert!(line.ends_with(&entry.text), "the text is the line's end");
        }
        if let Some(entry) = container_log::parse_docker(line) {
            assert!(entry.text.len() <= line.len());
            assert!(std::str::from_utf8(&entry.text).is_ok());
        }
    }
}
