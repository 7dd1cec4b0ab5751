//! Tests of GELF chunks, as Graylog's own libraries write them.

use std::io::Write as _;

use super::*;

const TEXT: &[u8] = br#"{"version":"1.1","host":"web-1","short_message":"hello","_user":7}"#;

fn sender(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn chunks(id: u64, message: &[u8], count: u8) -> Vec<Vec<u8>> {
    let size = message.len().div_ceil(usize::from(count)).max(1);
    (0..count)
        .map(|number| {
            let from = (usize::from(number) * size).min(message.len());
            let to = (from + size).min(message.len());
            [&MAGIC[..], &id.to_be_bytes(), &[number, count], &message[from..to]].concat()
        })
        .collect()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("to memory");
    out.finish().expect("to memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("to memory");
    out.finish().expect("to memory")
}

#[test]
fn datagrams_and_chunks_become_messages_however_compressed() {
    let mut assembler = Assembler::new(Limits::default());
    for (id, message) in [TEXT.to_vec(), zlib(TEXT), gzip(TEXT)].into_iter().enumerate() {
        let whole = assembler.push(sender(1), &message, 0).expect("sound").expect("whole");
        assert_eq!(&*whole, TEXT);
        let mut parts = chunks(id as u64, &message, 9);
        parts.reverse();
        let last = parts.pop().expect("a chunk");
        for part in &parts {
            assert!(assembler.push(sender(1), part, 1).expect("sound").is_none());
        }
        // The same id from another sender is another message; a repeated chunk changes nothing.
        assert!(assembler.push(sender(2), &last, 1).expect("sound").is_none());
        assert!(assembler.push(sender(1), &parts[3], 1).expect("sound").is_none());
        let whole = assembler.push(sender(1), &last, 2).expect("sound").expect("whole");
        assert_eq!(&*whole, TEXT);
    }
    assert_eq!(assembler.messages(), 3, "of the other sender");
    assert_eq!(assembler.counts(), Counts { repeated_chunks: 3, ..Counts::default() });
    let one = chunks(9, TEXT, 1);
    assert_eq!(&*assembler.push(sender(1), &one[0], 3).expect("sound").expect("whole"), TEXT);
    let most = chunks(10, &TEXT.repeat(9), 128);
    let whole = most.iter().filter_map(|part| assembler.push(sender(1), part, 3).expect("sound"));
    assert_eq!(whole.map(|message| message.len()).collect::<Vec<_>>(), [TEXT.len() * 9]);
}

#[test]
fn what_is_not_whole_in_time_is_dropped_and_counted() {
    let mut assembler = Assembler::new(Limits::default());
    for (at, id) in [(0, 1), (3_000_000_000, 2)] {
        for part in &chunks(id, TEXT, 4)[..3] {
            assert!(assembler.push(sender(1), part, at).expect("sound").is_none());
        }
    }
    assembler.expire(CHUNKS_NS_MAX - 1);
    assert_eq!(assembler.messages(), 2);
    assembler.expire(CHUNKS_NS_MAX);
    assert_eq!(assembler.messages(), 1);
    let counts = Counts { expired_messages: 1, expired_chunks: 3, ..Counts::default() };
    assert_eq!(assembler.counts(), counts);
    let last = chunks(2, TEXT, 4).pop().expect("a chunk");
    assert!(assembler.push(sender(1), &last, 7_900_000_000).expect("sound").is_some());
    assert_eq!((assembler.messages(), assembler.held_bytes()), (0, 0));
    // The rest of the message that expired is the start of one that never becomes whole.
    let late = chunks(1, TEXT, 4).pop().expect("a chunk");
    assert!(assembler.push(sender(1), &late, 8_000_000_000).expect("sound").is_none());
}

#[test]
fn the_oldest_messages_make_room() {
    let limits = Limits { messages_max: 10, bytes_max: 10_000, ..Limits::default() };
    let mut assembler = Assembler::new(limits);
    for id in 0..100 {
        let part = &chunks(id, TEXT, 2)[0];
        assert!(assembler.push(sender(1), part, 0).expect("sound").is_none());
        assert!(assembler.messages() <= 10);
    }
    let counts = Counts { evicted_messages: 90, evicted_chunks: 90, ..Counts::default() };
    assert_eq!(assembler.counts(), counts);
    for id in 100..200 {
        let part = &chunks(id, &[0; 9_000], 2)[0];
        assert!(assembler.push(sender(1), part, 0).expect("sound").is_none());
        assert!(assembler.held_bytes() <= 10_000);
    }
    assert_eq!(assembler.messages(), 2);
}

#[test]
fn damaged_chunks_and_bombs_are_refused() {
    let mut assembler = Assembler::new(Limits::default());
    let mut refused = |datagram: &[u8], reason: &str| {
        let error = assembler.push(sender(1), datagram, 0).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused(&MAGIC, "GELF chunk of 2 bytes");
    refused(&chunks(1, TEXT, 2)[0][..11], "GELF chunk of 11 bytes");
    for (number, count) in [(0, 0), (0, 129), (2, 2), (255, 255)] {
        let chunk = [&MAGIC[..], &[0; 8], &[number, count], b"x"].concat();
        refused(&chunk, &format!("chunk number {number} of {count}"));
    }
    refused(&gzip(&vec![b' '; 9 << 20]), "expands to more than");
    refused(&zlib(&vec![b' '; 9 << 20]), "expands to more than");
    refused(&gzip(TEXT)[..30], "not valid gzip");
    assert!(assembler.push(sender(1), &chunks(7, TEXT, 3)[0], 0).expect("sound").is_none());
    let error = assembler.push(sender(1), &chunks(7, TEXT, 4)[1], 0).expect_err("another count");
    assert!(matches!(error, GelfError::OtherCount { count: 4, expected: 3 }));
    assert_eq!(assembler.counts().refused_chunks, 7);
}

#[test]
fn any_datagrams_stay_within_the_limits_and_are_counted_fuzz() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % end.max(1) as u64) as usize
    };
    let limits = Limits { messages_max: 50, bytes_max: 20_000, expanded_bytes_max: 10_000 };
    let mut assembler = Assembler::new(limits);
    let (mut sent, mut in_messages) = (0, 0);
    let messages = [TEXT.to_vec(), gzip(TEXT)];
    for round in 0..20_000_u32 {
        let count = 1 + below(5) as u8;
        let mut parts = chunks(below(20) as u64, &messages[below(2)], count);
        let mut part = parts.swap_remove(below(parts.len()));
        if below(10) == 0 {
            let at = below(part.len());
            part[at] = below(256) as u8;
        }
        if below(20) == 0 {
            part.truncate(below(part.len() + 1));
        }
        let is_chunk = part.starts_with(&MAGIC);
        sent += u64::from(is_chunk);
        let before = assembler.chunks_under_way();
        let now_ns = i64::from(round) * 100_000_000;
        assembler.expire(now_ns);
        let expired = before - assembler.chunks_under_way();
        let counts = assembler.counts();
        let done = assembler.push(sender(1), &part, now_ns);
        let is_done = !matches!(&done, Ok(None)) && assembler.counts() == counts;
        if is_chunk && is_done {
            in_messages += before - expired + 1 - assembler.chunks_under_way();
        }
        assert!(assembler.messages() <= 50 && assembler.held_bytes() <= 20_000);
    }
    let counts = assembler.counts();
    let dropped = counts.expired_chunks + counts.evicted_chunks;
    let others = counts.repeated_chunks + counts.refused_chunks + assembler.chunks_under_way();
    assert_eq!(sent, in_messages + dropped + others, "{counts:?}");
    assert!(in_messages > 1_000 && counts.expired_chunks > 0, "{counts:?}");
}

impl Assembler {
    fn chunks_under_way(&self) -> u64 {
        self.under_way.values().map(UnderWay::chunks).sum()
    }
}
