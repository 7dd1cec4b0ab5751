//! Decoders that take bytes as they come: how the bytes are cut makes no difference.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use lodge_wire::journal_export::{self, EntryRows};
use lodge_wire::syslog_frames::{Framed, Framer};
use lodge_wire::{elastic_bulk, forward, gelf_chunks, jsonline};

use super::{NOW_NS, checked, pieces};

pub fn jsonline(data: &[u8]) {
    let (body, pieces) = pieces(data);
    let options = jsonline::Options {
        stream_fields: vec!["service".to_owned(), "a".to_owned()],
        ignore_fields: vec!["b".to_owned(), "c*".to_owned()],
        ..jsonline::Options::default()
    };
    let lines = body.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    let decoded = |parts: &[&[u8]]| {
        let mut decoder = jsonline::Decoder::new(&options, NOW_NS);
        parts.iter().for_each(|part| decoder.part(part));
        decoder.end();
        let decoded = decoder.finish().expect("columns");
        let rows = decoded.records.as_ref().map_or(0, |records| records.num_rows());
        assert_eq!(rows, lines, "every line that is not blank is one record");
        let written = checked(decoded.records.into_iter().collect(), body.len());
        (written, decoded.malformed, decoded.malformed_total, decoded.truncated_total)
    };
    assert_eq!(decoded(&pieces), decoded(&[body]), "the cuts make a difference");
}

pub fn elastic_bulk(data: &[u8]) {
    let (body, pieces) = pieces(data);
    let options = elastic_bulk::default_options();
    let decoded = |parts: &[&[u8]]| {
        let mut decoder = elastic_bulk::Decoder::new(&options, Some("logs"), NOW_NS);
        let done = parts.iter().try_for_each(|part| decoder.part(part));
        let done = done.and_then(|()| decoder.end());
        let mut reply = Vec::new();
        if let Err(error) = &done {
            error.write_reply(&mut reply);
        }
        let rows = decoder.rows();
        let records = decoder.finish().expect("columns");
        let outcomes = decoder.into_outcomes();
        assert_eq!(outcomes.items(), rows + outcomes.failed(), "an outcome for each item");
        if done.is_ok() {
            outcomes.write_reply(0, elastic_bulk::Detail::Full, &mut reply);
        }
        serde_json::from_slice::<serde_json::Value>(&reply).expect("a reply");
        // A refused request is not stored, whatever was decoded of it.
        let written = checked(records.into_iter().collect(), body.len());
        (done.is_ok().then_some(written), reply)
    };
    assert_eq!(decoded(&pieces), decoded(&[body]), "the cuts make a difference");
}

pub fn forward(data: &[u8]) {
    const LIMITS: forward::Limits = forward::Limits {
        message_bytes_max: 1 << 16,
        expanded_bytes_max: 1 << 16,
        decoded_bytes_max: 1 << 18,
    };
    let (body, pieces) = pieces(data);
    let decoded = |parts: &[&[u8]]| {
        let mut decoder = forward::Decoder::new(LIMITS);
        let (mut messages, mut accepted, mut end) = (Vec::new(), 0, None);
        'parts: for part in parts {
            decoder.push(part);
            loop {
                match decoder.next_message(NOW_NS) {
                    Ok(Some(message)) => {
                        accepted += message.accepted;
                        assert!(message.troubles.len() <= forward::TROUBLES_MAX);
                        let chunk = message.chunk.as_ref().map_or(0, Vec::len);
                        assert!(chunk <= forward::CHUNK_BYTES_MAX);
                        messages.push(message);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        end = Some(error);
                        break 'parts;
                    }
                }
            }
            assert!(decoder.held_bytes() <= LIMITS.message_bytes_max + part.len());
        }
        let batches = decoder.take_batches().expect("columns");
        let rows: usize = batches.iter().map(|records| records.num_rows()).sum();
        if end.is_none() {
            assert_eq!(rows as u64, accepted);
        }
        // Compressed entries are what the body expands to.
        (checked(batches, body.len() + messages.len() * LIMITS.expanded_bytes_max), messages, end)
    };
    assert_eq!(decoded(&pieces), decoded(&[body]), "the cuts make a difference");
}

pub fn syslog_frames(data: &[u8]) {
    const MESSAGE_BYTES_MAX: usize = 64;
    let (body, pieces) = pieces(data);
    let framed = |parts: &[&[u8]]| {
        let mut framer = Framer::new(MESSAGE_BYTES_MAX);
        let mut frames: Vec<Framed> = Vec::new();
        for part in parts {
            framer.push(part);
            frames.extend(std::iter::from_fn(|| framer.next_frame()));
        }
        frames.extend(std::iter::from_fn(|| framer.finish()));
        frames
    };
    let frames = framed(&pieces);
    assert_eq!(frames, framed(&[body]), "the cuts make a difference");
    for frame in &frames {
        assert!(frame.bytes.len() <= MESSAGE_BYTES_MAX);
        assert!(frame.bytes.len() as u64 <= frame.original_bytes);
    }
    let total: u64 = frames.iter().map(|frame| frame.original_bytes).sum();
    assert!(total <= body.len() as u64, "more came out than went in");
}

pub fn journal_export(data: &[u8]) {
    let (body, pieces) = pieces(data);
    let decoded = |parts: &[&[u8]]| {
        let rows = EntryRows::new(None, &BTreeMap::new());
        let mut decoder = journal_export::Decoder::new(rows);
        let mut done = Ok(());
        for part in parts {
            done = decoder.part(part, NOW_NS);
            if done.is_err() {
                break;
            }
            assert!(decoder.unfinished_bytes() <= journal_export::ENTRY_BYTES_MAX + body.len());
        }
        let done = done.and_then(|()| decoder.end(NOW_NS));
        let records = decoder.finish().expect("columns");
        (checked(records.into_iter().collect(), body.len()), done)
    };
    assert_eq!(decoded(&pieces), decoded(&[body]), "the cuts make a difference");
}

/// The data is a number of datagrams: a length, a step of the clock and a sender before each.
pub fn gelf_chunks(data: &[u8]) {
    const LIMITS: gelf_chunks::Limits =
        gelf_chunks::Limits { messages_max: 4, bytes_max: 4096, expanded_bytes_max: 1024 };
    let mut assembler = gelf_chunks::Assembler::new(LIMITS);
    let (mut rest, mut now_ns) = (data, 0i64);
    let (mut chunks, mut delivered) = (0u64, 0u64);
    while let Some((&[length, step], more)) = rest.split_first_chunk::<2>() {
        let (datagram, more) = more.split_at(usize::from(length).min(more.len()));
        rest = more;
        now_ns += i64::from(step >> 2) * 100_000_000;
        let sender = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::from(step & 3)));
        let is_chunk = datagram.starts_with(&[0x1e, 0x0f]);
        chunks += u64::from(is_chunk);
        let is_whole = match assembler.push(sender, datagram, now_ns) {
            Ok(Some(message)) => {
                assert!(message.len() <= LIMITS.expanded_bytes_max.max(128 * 256));
                true
            }
            Ok(None) => false,
            Err(error) => matches!(error, gelf_chunks::GelfError::Expansion(_)),
        };
        if is_chunk && is_whole {
            // The chunk before last byte of a head tells how many there were; the error of a whole
            // one is counted as refused, too.
            delivered += u64::from(datagram.get(11).copied().unwrap_or(0));
        }
        assert!(assembler.messages() <= LIMITS.messages_max);
        assert!(assembler.held_bytes() <= LIMITS.bytes_max);
    }
    assembler.expire(i64::MAX);
    assert_eq!((assembler.messages(), assembler.held_bytes()), (0, 0));
    let counts = assembler.counts();
    let dropped = counts.expired_chunks + counts.evicted_chunks + counts.repeated_chunks;
    assert_eq!(chunks, delivered + dropped + counts.refused_chunks, "{counts:?}");
}
