//! Columns merged against the texts that they hold.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::tests::{Opened, Stored, open, read, reopen, texts};
use super::*;
use crate::predicate::{FieldTest, Phrase};

/// A part of a merge: texts, and whether they come split.
type Part = (Vec<String>, bool);

/// Merges parts, taking the next value of one part or another as `turns` say; the texts in the order
/// in which they were taken, and the column if there is one.
fn merged(parts: &[Part], turns: &[usize]) -> (Vec<String>, Option<Opened>) {
    let opened: Vec<Option<Opened>> =
        parts.iter().map(|(texts, split)| if *split { open(texts) } else { None }).collect();
    let mut merger = Merger::new();
    let mut feeds = Vec::new();
    for opened in &opened {
        feeds.push(opened.as_ref().and_then(|opened| {
            opened.column.load_all(&opened.sections).expect("is in memory");
            merger.feed(&opened.column, &opened.sections).expect("is no damage")
        }));
    }
    let mut next = vec![0; parts.len()];
    let mut expected = Vec::new();
    let all: usize = parts.iter().map(|(texts, _)| texts.len()).sum();
    let mut turns = turns.iter().copied().cycle();
    while expected.len() < all {
        let from = turns.next().unwrap_or(0);
        let part = (0..parts.len()).map(|at| (from + at) % parts.len());
        let part = part.clone().find(|at| next[*at] < parts[*at].0.len()).expect("some are left");
        let text = &parts[part].0[next[part]];
        next[part] += 1;
        expected.push(text.clone());
        match &mut feeds[part] {
            Some(feed) => merger.take(feed).expect("is taken"),
            None => merger.push(text),
        }
    }
    let (mut bytes, mut meta) = (Vec::new(), Vec::new());
    let mut writer = SectionWriter::new(&mut bytes).expect("a writer");
    let outcome = merger.finish(&mut writer, &mut meta).expect("is written");
    let (_, _, spans) = writer.finish();
    let stored = Stored { bytes, spans, meta };
    let opened = (outcome == Outcome::Written).then(|| reopen(&stored, expected.len()));
    (expected, opened)
}

fn check(parts: &[Part], turns: &[usize]) {
    let (expected, opened) = merged(parts, turns);
    let Some(opened) = opened else { return };
    assert_eq!(read(&opened, 0..expected.len(), None), expected);
    let mut words: Vec<&str> = expected.iter().flat_map(|text| text.split(' ')).collect();
    words.sort_unstable();
    words.dedup();
    for word in words.into_iter().filter(|word| !word.is_empty()).take(12) {
        let test = FieldTest::Contains(Phrase::whole(word));
        let found =
            opened.column.select(&opened.prepare(&test), &opened.sections, 0..expected.len(), None);
        let wanted: Vec<usize> =
            (0..expected.len()).filter(|row| test.matches(&expected[*row])).collect();
        assert_eq!(found.expect("is decided").iter().collect::<Vec<_>>(), wanted, "{word}");
    }
}

proptest! {
    #[test]
    fn merged_columns_hold_the_texts_of_all(
        parts in vec((texts(), prop::bool::weighted(0.8)), 1..4),
        turns in vec(0usize..4, 1..30),
    ) {
        check(&parts, &turns);
    }
}

#[test]
fn slots_of_every_kind_are_handed_on() {
    let forms: [fn(u64) -> String; 9] = [
        |n| format!("user {} took {}ms", n % 3000, n * 7),
        |n| format!("block {:08} of {:03}", n, n % 900),
        |n| format!("id {:016x} and {:04X}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n % 60_000),
        |n| format!("trace {:032x}", u128::from(n) << 64 | 0xabc),
        |n| format!("key c1356168-b896-4634-91f1-{n:012x}"),
        |n| format!("from 10.{}.{}.1:{}", n % 9, n % 250, 40_000 + n % 20_000),
        |n| format!("worker w{n} of pool p{} is up", n % 5),
        |n| format!("always 17 and {}", ["red", "green1", "blue"][n as usize % 3]),
        |n| format!("{n:040}"),
    ];
    let of = |from: u64, count: u64, forms: &[fn(u64) -> String]| -> Vec<String> {
        (from..from + count).map(|n| forms[n as usize % forms.len()](n / 2 * 31)).collect()
    };
    let parts = [
        (of(0, 4_000, &forms), true),
        (of(50_000, 3_000, &forms), true),
        (of(9_000, 1_000, &forms[..4]), false),
        (of(1_000_000, 9_000, &forms[2..]), true),
    ];
    let (expected, opened) = merged(&parts, &[0, 1, 1, 3, 2, 3, 0, 3]);
    let opened = opened.expect("templates pay");
    assert_eq!(read(&opened, 0..expected.len(), None), expected);
    let raw = opened.column.infos().find(|info| info.number == 0).map_or(0, |info| info.rows);
    assert_eq!(raw, 0, "every text has a template");
    check(&parts, &[3, 0, 0, 1, 2]);
}
