//! Streams of messages in both framings, in any pieces.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn framed(stream: &[u8], step: usize, limit: usize) -> Vec<(String, u64)> {
    let mut framer = Framer::new(limit);
    let mut frames = Vec::new();
    for piece in stream.chunks(step.max(1)) {
        framer.push(piece);
        frames.extend(std::iter::from_fn(|| framer.next_frame()));
    }
    frames.extend(std::iter::from_fn(|| framer.finish()));
    let shown = |f: Framed| (String::from_utf8_lossy(&f.bytes).into_owned(), f.original_bytes);
    frames.into_iter().map(shown).collect()
}

#[test]
fn both_framings_in_any_pieces() {
    let stream = b"<13>one\r\n7 <13>two5 <1>\nx\n\n12 apples\n<13>three\x00\x0034 no <1>\n1234567890 <1>y\n9 <13>cut";
    let expected = [
        ("<13>one", 7),
        ("<13>two", 7),
        ("<1>\nx", 5),
        ("12 apples", 9),
        ("<13>three", 9),
        ("34 no <1>", 9),
        ("1234567890 <1>y", 15),
        ("<13>cut", 7),
    ];
    let expected: Vec<_> = expected.iter().map(|(text, n)| (text.to_string(), *n)).collect();
    for step in 1..=stream.len() {
        assert_eq!(framed(stream, step, 100), expected, "in steps of {step}");
    }
}

#[test]
fn long_messages_keep_their_head_and_length() {
    let long = format!("<13>{}", "x".repeat(100_000));
    let stream = format!("{long}\n{} {long}<13>next\n", long.len());
    for step in [1000, 7, 200_000] {
        let frames = framed(stream.as_bytes(), step, 50);
        let lengths: Vec<_> = frames.iter().map(|(text, n)| (text.len(), *n)).collect();
        assert_eq!(lengths, [(50, 100_004), (50, 100_004), (8, 8)]);
    }
}

#[test]
fn what_is_held_and_what_is_missing_is_told() {
    let mut framer = Framer::new(100);
    assert!(!framer.is_inside());
    framer.push(b"<13>whole\n");
    let frame = framer.next_borrowed().unwrap();
    assert_eq!((frame.bytes, frame.missing_bytes), (&b"<13>whole"[..], 0));
    assert_eq!(framer.next_borrowed(), None);
    assert!(!framer.is_inside());
    framer.push(b"30 <13>counted");
    assert_eq!(framer.next_borrowed(), None);
    assert_eq!((framer.is_inside(), framer.held_bytes()), (true, 11));
    let frame = framer.finish_borrowed().unwrap();
    assert_eq!((frame.bytes, frame.original_bytes), (&b"<13>counted"[..], 11));
    assert_eq!(frame.missing_bytes, 19);
    assert_eq!(framer.finish_borrowed(), None);
    assert_eq!(framer.held_bytes(), 0);
}

proptest! {
    #[test]
    fn any_stream_is_cut_alike_in_any_pieces_fuzz(
        stream in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'<'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..200),
        step in 1usize..20,
    ) {
        prop_assert_eq!(framed(&stream, step, 16), framed(&stream, 1000, 16));
        let kept: u64 = framed(&stream, step, 1000).iter().map(|(_, n)| n).sum();
        prop_assert!(kept <= stream.len() as u64);
    }
}
