//! Small inputs that mean to take much: they are refused, or taken as what they are, in little
//! memory. One test, as the memory that it looks at is that of the whole process.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::io::{Read, Write};

use lodge_record::TenantId;
use lodge_wire::encoding::{self, DecompressError, Encoding};
use lodge_wire::journal_export::{Decoder as Journal, EntryRows};
use lodge_wire::otlp_logs::{self, Format};
use lodge_wire::protobuf::{put_bytes_field, put_varint};
use lodge_wire::syslog_frames::Framer;
use lodge_wire::{
    agent_batch, agent_report, container_log, datadog_logs, elastic_bulk, forward, gelf,
    grpc_frames, jsonline, loki_push, snappy, splunk_hec,
};

const NOW_NS: i64 = 7;
/// What a bomb may take while it is looked at.
const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// What the compressed ones expand to.
const EXPANDED_BYTES: u64 = 128 << 20;

/// Most memory that this process ever had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn zeros() -> impl Read {
    std::io::repeat(0).take(EXPANDED_BYTES)
}

fn compressed() -> Vec<(Encoding, Vec<u8>)> {
    let best = flate2::Compression::default();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), best);
    std::io::copy(&mut zeros(), &mut gzip).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), best);
    std::io::copy(&mut zeros(), &mut zlib).unwrap();
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    std::io::copy(&mut zeros(), &mut zstd).unwrap();
    zstd.flush().unwrap();
    vec![
        (Encoding::Gzip, gzip.finish().unwrap()),
        (Encoding::Deflate, zlib.finish().unwrap()),
        (Encoding::Zstd, zstd.finish().unwrap()),
    ]
}

fn compressed_bombs() {
    for (encoding, body) in compressed() {
        assert!((body.len() as u64) < EXPANDED_BYTES / 900, "{encoding}: {}", body.len());
        let error = encoding::decompress(encoding, &body, 8 << 20).unwrap_err();
        assert!(matches!(error, DecompressError::TooLarge { .. }), "{error}");
        // In a Forward message, whose entries may be compressed.
        if let Some(name) = [(Encoding::Gzip, "gzip"), (Encoding::Zstd, "zstd")]
            .iter()
            .find_map(|(known, name)| (*known == encoding).then_some(*name))
        {
            let mut message = vec![0x93, 0xa1, b't', 0xc6];
            message.extend_from_slice(&(body.len() as u32).to_be_bytes());
            message.extend_from_slice(&body);
            message.extend_from_slice(b"\x81\xaacompressed\xa4");
            message.extend_from_slice(name.as_bytes());
            let limits =
                forward::Limits { expanded_bytes_max: 8 << 20, ..forward::Limits::default() };
            let mut decoder = forward::Decoder::new(limits);
            decoder.push(&message);
            let found = decoder.next_message(NOW_NS).unwrap().unwrap();
            assert_eq!((found.accepted, found.rejected), (0, 1), "{:?}", found.troubles);
        }
    }
}

/// Every decoder of JSON, on brackets within brackets.
fn nested_json() {
    const DEPTH: usize = 100_000;
    let arrays = format!("{{\"event\":{}{}}}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let objects = format!("{}1{}", "{\"event\":".repeat(DEPTH), "}".repeat(DEPTH));
    let open = "{\"event\":".repeat(DEPTH);
    for body in [arrays.as_bytes(), objects.as_bytes(), open.as_bytes()] {
        let decoded = jsonline::decode(&jsonline::Options::default(), NOW_NS, body).unwrap();
        assert_eq!((decoded.lines, decoded.malformed_total), (1, 1));

        let mut bulk = elastic_bulk::Decoder::new(&elastic_bulk::default_options(), None, NOW_NS);
        bulk.part(b"{\"index\":{\"_index\":\"i\"}}\n").unwrap();
        bulk.part(body).unwrap();
        bulk.end().unwrap();
        assert_eq!(bulk.outcomes().failed(), 1);

        let metadata = splunk_hec::Metadata::default();
        let decoded = splunk_hec::decode_events(&metadata, NOW_NS, body).unwrap();
        assert_eq!(decoded.items, 1);
        let decoded = datadog_logs::decode_json(&Default::default(), NOW_NS, body).unwrap();
        assert_eq!(decoded.items, 1);

        assert!(gelf::Decoder::new(NOW_NS).message(body).is_err());
        // What a report does not know is passed over, without going down into it.
        let report = agent_report::decode(body);
        assert!(report.is_err() || report.unwrap() == agent_report::Report::default());
        assert!(container_log::parse_docker(body).is_none());
    }
    for open in ["{\"streams\":[{\"stream\":", "{\"streams\":["] {
        let body = format!("{open}{}", "[".repeat(DEPTH));
        assert!(loki_push::decode_json(body.as_bytes(), NOW_NS).is_err());
    }
    let value = "{\"arrayValue\":{\"values\":[".repeat(DEPTH);
    let body = format!(
        "{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"body\":{value}\"\"{}}}]}}]}}]}}",
        "]}}".repeat(DEPTH)
    );
    // Refused, or kept as text with the reason: never followed.
    if let Ok(decoded) = otlp_logs::decode(Format::Json, NOW_NS, body.as_bytes(), 8 << 20) {
        assert_eq!(decoded.rejected + decoded.kept_as_text, 1);
    }
}

/// Lengths of a gigabyte and more, of which nothing comes.
fn announced_gigabytes() {
    for length in [1u64 << 30, u64::from(u32::MAX), u64::MAX] {
        // In the outermost message, and in one that is whole.
        let mut message = vec![0x0a];
        put_varint(&mut message, length);
        message.extend_from_slice(b"abc");
        let mut nested = Vec::new();
        put_bytes_field(&mut nested, 1, &message);
        for body in [&message, &nested] {
            let refused = match otlp_logs::decode(Format::Protobuf, NOW_NS, body, 8 << 20) {
                Ok(decoded) => decoded.accepted == 0,
                Err(_) => true,
            };
            assert!(refused);
            assert!(loki_push::decode_protobuf(body, NOW_NS).is_err());
        }
        let mut block = Vec::new();
        put_varint(&mut block, length);
        block.extend_from_slice(b"abc");
        assert!(snappy::decompress_block(&block, usize::MAX).is_err());

        let mut journal = Journal::new(EntryRows::new(None, &BTreeMap::new()));
        journal.part(b"MESSAGE\n", NOW_NS).unwrap();
        journal.part(&length.to_le_bytes(), NOW_NS).unwrap();
        journal.part(b"abc", NOW_NS).unwrap();
        assert!(journal.unfinished_bytes() < 100 && journal.end(NOW_NS).is_err());
    }
    // Texts, bytes, arrays, maps and extensions of MessagePack, alone and in a message.
    for kind in [0xdb, 0xc6, 0xdd, 0xdf, 0xc9] {
        for length in [1u32 << 30, u32::MAX] {
            for before in [&b""[..], &[0x93, 0xa1, b't']] {
                let mut decoder = forward::Decoder::new(forward::Limits::default());
                decoder.push(&[before, &[kind], &length.to_be_bytes(), b"abc"].concat());
                assert!(decoder.next_message(NOW_NS).is_err(), "{kind:x} {length}");
            }
        }
    }
    for length in ["999999999", "1073741824"] {
        let mut framer = Framer::new(64 << 10);
        framer.push(format!("{length} <13>").as_bytes());
        // What does come is counted, and its head kept.
        for _ in 0..2_000 {
            assert!(framer.next_frame().is_none());
            framer.push(&[b'x'; 64 << 10]);
        }
        assert!(framer.next_frame().is_none());
        let frame = framer.finish().unwrap();
        assert_eq!(frame.bytes.len(), 64 << 10);
        assert!(frame.original_bytes >= 2_000 * (64 << 10));
    }
    assert!(grpc_frames::only_message(b"\0\x40\0\0\0abc").is_err());
    for header in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x40", b"\x40\0\0\0"] {
        for version in 0..4u8 {
            let body = [&b"LDGB"[..], &[version], header, b"abc"].concat();
            assert!(agent_batch::decode(TenantId::default(), body.into()).is_err());
        }
    }
}

#[test]
fn bombs_take_little_memory() {
    let before = peak_bytes();
    compressed_bombs();
    nested_json();
    announced_gigabytes();
    let grown = peak_bytes() - before;
    assert!(grown < MEMORY_BYTES_MAX, "{} MiB", grown >> 20);
}
