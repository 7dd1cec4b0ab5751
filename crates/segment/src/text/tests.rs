//! The whole column against plain texts.

use std::ops::Bound;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::SegmentError;
use crate::bits::Mask;
use crate::predicate::{FieldTest, NumberRange, Pattern, Phrase, TextRange, Verdict};
use crate::sections::{SectionWriter, Sections, Span};

/// A column with all its sections in memory.
pub(super) struct Opened {
    pub(super) reader: TextReader,
    pub(super) column: TextColumn,
    pub(super) sections: Sections,
}

impl Opened {
    pub(super) fn prepare(&self, test: &FieldTest) -> TextTest {
        self.column.prepare(test, &self.sections).expect("prepares")
    }
}

pub(super) struct Stored {
    pub(super) bytes: Vec<u8>,
    pub(super) spans: Vec<Span>,
    pub(super) meta: Vec<u8>,
}

fn encode(texts: &[String]) -> Option<Stored> {
    let (mut bytes, mut meta) = (Vec::new(), Vec::new());
    let mut writer = SectionWriter::new(&mut bytes).expect("a writer");
    let mut encoder = TextEncoder::new();
    texts.iter().for_each(|text| encoder.push(text));
    let outcome = encoder.finish(&mut writer, &mut meta).expect("is written");
    let (_, _, spans) = writer.finish();
    (outcome == Outcome::Written).then_some(Stored { bytes, spans, meta })
}

fn supply(stored: &Stored) -> Sections {
    let sections = Sections::new(stored.spans.clone());
    let bytes = Bytes::from(stored.bytes.clone());
    for no in 0..stored.spans.len() as u32 {
        let range = sections.range(no).expect("a range");
        let part = bytes.slice(range.start as usize..range.end as usize);
        sections.supply(no, &part).expect("is taken");
    }
    sections
}

pub(super) fn open(texts: &[String]) -> Option<Opened> {
    Some(reopen(&encode(texts)?, texts.len()))
}

/// Opens a column that was written.
pub(super) fn reopen(stored: &Stored, values: usize) -> Opened {
    let sections = supply(stored);
    let reader = TextReader::open(&mut &stored.meta[..]).expect("opens");
    assert_eq!((reader.len(), reader.sections()), (values, 0..stored.spans.len() as u32));
    Opened { column: reader.load(&sections).expect("loads"), reader, sections }
}

pub(super) fn read(
    opened: &Opened,
    values: std::ops::Range<usize>,
    picked: Option<&Mask>,
) -> Vec<String> {
    let mut out = Texts::default();
    opened.column.append(&opened.sections, values, picked, &mut out).expect("reads");
    let array = out.into_array().expect("is text");
    array.iter().map(|text| text.expect("no nulls").to_owned()).collect()
}

fn piece() -> impl Strategy<Value = String> {
    let fixed =
        |texts: &'static [&'static str]| proptest::sample::select(texts).prop_map(str::to_owned);
    prop_oneof![
        4 => fixed(&["error", "err", "open", "user", "Error", "a", "b_", "ошибка", "Σ", "İ", "abcd"]),
        6 => fixed(&[" ", " ", ": ", "=", "_", ".", "-", "/", "\n", "\0", "é", "{\"k\":\"", "\"}"]),
        3 => (0u32..30).prop_map(|n| n.to_string()),
        1 => any::<u64>().prop_map(|n| n.to_string()),
        1 => (0u32..30).prop_map(|n| format!("{n:03}")),
        1 => (0u32..300).prop_map(|n| format!("{n:04x}")),
        1 => (0u32..300).prop_map(|n| format!("{n:04X}")),
        1 => (0u64..300).prop_map(|n| format!("0x{n:x}")),
        1 => (0u32..30).prop_map(|n| format!("{n}ms")),
        1 => (0u32..30).prop_map(|n| format!("w{n}")),
        1 => (0u128..9).prop_map(|n| format!("{:024x}", n * 0x1234_5678_9abc_def0_1357)),
        1 => (0u128..9).prop_map(uuid),
        1 => (0u32..3, 0u32..3).prop_map(|(a, b)| format!("10.0.{a}.{b}")),
    ]
}

pub(super) fn uuid(n: u128) -> String {
    let mut text = Vec::new();
    values::put_uuid(0xabcd_0000_4000_8000_1234_5678_9abc_def0 ^ (n * 0x1_0001_0001), &mut text);
    String::from_utf8(text).expect("is text")
}

/// A row: a form, and what its slots are filled with.
#[derive(Clone, Debug)]
enum Fill {
    Text(String),
    Number(u32),
    Pool,
}

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![
        3 => piece().prop_map(Fill::Text),
        1 => (1u32..5).prop_map(Fill::Number),
        1 => Just(Fill::Pool),
    ]
}

/// Texts of a few forms, so that templates get rows, and some others between them.
pub(super) fn texts() -> impl Strategy<Value = Vec<String>> {
    let forms = vec(vec(fill(), 0..8), 1..5);
    (forms, vec(piece(), 6), vec((0usize..12, any::<u32>()), 0..160), vec(piece(), 0..6)).prop_map(
        |(forms, pool, rows, other)| {
            rows.into_iter()
                .map(|(form, mut seed)| {
                    let Some(form) = forms.get(form % (forms.len() + 1)) else {
                        return other.concat();
                    };
                    let mut text = String::new();
                    for fill in form {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let random = seed >> 8;
                        match fill {
                            Fill::Text(fixed) => text += fixed,
                            Fill::Number(digits) => {
                                text += &(random % 10u32.pow(*digits)).to_string();
                            }
                            Fill::Pool => text += &pool[random as usize % pool.len()],
                        }
                    }
                    text
                })
                .collect()
        },
    )
}

pub(super) fn picks(len: usize, seed: u64) -> Mask {
    Mask::collect(len, |row| (row as u64 + 1).wrapping_mul(seed | 1) >> 3 & 3 == 0)
}

proptest! {
    #[test]
    fn texts_come_back(texts in texts(), from in 0usize..160, seed in any::<u64>()) {
        let Some(opened) = open(&texts) else { return Ok(()) };
        prop_assert_eq!(&read(&opened, 0..texts.len(), None), &texts);
        let from = from.min(texts.len());
        let picked = picks(texts.len() - from, seed);
        let expected: Vec<&String> = picked.iter().map(|row| &texts[from + row]).collect();
        let given = read(&opened, from..texts.len(), Some(&picked));
        prop_assert_eq!(given.iter().collect::<Vec<_>>(), expected);
        let numbers = opened.column.template_numbers(&opened.sections, 0..texts.len()).expect("reads");
        for info in opened.column.infos() {
            let rows = numbers.iter().filter(|number| **number == info.number).count() as u64;
            prop_assert_eq!(rows, info.rows);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_fuzz(
        texts in texts(), cuts in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let Some(stored) = encode(&texts) else { return Ok(()) };
        // The sections are unpacked first, so that the damage is not found by a checksum.
        let sections = supply(&stored);
        let mut parts: Vec<Vec<u8>> =
            (0..stored.spans.len() as u32).map(|no| sections.get(no).expect("is there").to_vec()).collect();
        let mut meta = stored.meta;
        for (at, byte) in cuts {
            let part = at.index(parts.len() + 1);
            let part = parts.get_mut(part).unwrap_or(&mut meta);
            if !part.is_empty() {
                let at = at.index(part.len());
                part[at] = byte;
            }
        }
        let mut bytes = Vec::new();
        let mut writer = SectionWriter::new(&mut bytes).expect("a writer");
        for part in &parts {
            writer.plain(part).expect("is written");
        }
        let (_, _, spans) = writer.finish();
        let sections = supply(&Stored { bytes, spans, meta: Vec::new() });
        let Ok(reader) = TextReader::open(&mut &meta[..]) else { return Ok(()) };
        let Ok(column) = reader.load(&sections) else { return Ok(()) };
        let mut out = Texts::default();
        if column.append(&sections, 0..texts.len(), None, &mut out).is_ok() {
            drop(out.into_array());
        }
        let regex = FieldTest::Regex(Pattern::new("[0-4]+[a-f ]|err.*7").expect("is one"));
        let Ok(prepared) = column.prepare(&regex, &sections) else { return Ok(()) };
        drop(column.select(&prepared, &sections, 0..texts.len(), None));
    }
}

#[test]
fn many_rows_fill_several_blocks() {
    let texts: Vec<String> = (0..150_000u64)
        .map(|row| match row % 7 {
            0 => format!("job {} took {}ms", row, row * 7919 % 1000),
            1 => format!("user u{} from 10.0.{}.{}", row % 97, row % 5, row * 31 % 256),
            2 => format!("id {}", uuid(u128::from(row))),
            3 => format!("{row:08} rare {}", "x".repeat((row % 50) as usize)),
            4 => format!("token {:x}z{}", row.wrapping_mul(0x9e37_79b9), row % 11),
            5 => "nothing here".to_owned(),
            _ => format!("batch {} of {:016x}", row % 3, row.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        })
        .collect();
    let opened = open(&texts).expect("is worth it");
    assert!(read(&opened, 0..texts.len(), None) == texts);
    assert!(read(&opened, 70_000..70_100, None) == texts[70_000..70_100]);
    let picked = Mask::collect(100_000, |row| row % 333 == 5);
    let expected: Vec<&String> = picked.iter().map(|row| &texts[40_000 + row]).collect();
    assert!(read(&opened, 40_000..140_000, Some(&picked)).iter().eq(expected));
}

#[test]
fn texts_with_nothing_in_common_are_refused() {
    let words = |row: u32| (0..9).map(move |at| row.wrapping_mul(2_654_435_761 + at * 2));
    let letters = |n: u32| char::from(b'a' + (n >> 13) as u8 % 26);
    let text = |row| words(row).map(letters).collect::<String>();
    let texts: Vec<String> = (0..1000).map(text).collect();
    assert!(encode(&texts).is_none());
}

#[test]
fn words_that_vary_are_in_slots_and_are_found() {
    let who = ["ann", "bob", "carla", "dmitri", "Eve", "beef", "42", "w7", "a"];
    let what = ["opened", "closed", "moved", "left", "saw", "sold"];
    let texts: Vec<String> = (0..600usize)
        .map(|row| {
            let (who, what) = (who[row % who.len()], what[row / 7 % what.len()]);
            format!("the user {who} of team-{} has {what} the door", row % 5)
        })
        .collect();
    let opened = open(&texts).expect("is worth it");
    let mut texts_of = opened.column.infos().map(|info| info.text).collect::<Vec<_>>();
    texts_of.dedup();
    assert_eq!(texts_of.len(), 1);
    assert!(read(&opened, 0..texts.len(), None) == texts);
    for text in ["bob", "opened the door", "user a", "user 42 of", "b", "ee", "bob of team", "ob"] {
        for test in [
            FieldTest::phrase(text),
            FieldTest::phrase_any_case(text),
            FieldTest::Contains(Phrase::prefix(text)),
            FieldTest::Substring(text.to_owned()),
        ] {
            check(&opened, &texts, &test, None, 0);
        }
    }
    for test in [FieldTest::Exact(texts[3].clone()), FieldTest::ExactPrefix("the user b".into())] {
        check(&opened, &texts, &test, None, 0);
    }
}

/// Tests made of pieces of the texts, so that they find something.
fn tests_of(texts: &[String], seeds: &[(u8, u32, u32, u32)]) -> Vec<FieldTest> {
    let part = |row: u32, from: u32, len: u32| -> String {
        let text = texts.get(row as usize % texts.len().max(1)).map_or("", String::as_str);
        let chars: Vec<char> = text.chars().collect();
        let from = from as usize % (chars.len() + 1);
        chars[from..].iter().take(len as usize % 24).collect()
    };
    let number = |seed: u32| f64::from(seed % 64) - 8.0;
    seeds
        .iter()
        .map(|(kind, row, from, len)| {
            let text = part(*row, *from, *len);
            let other = part(row / 7, from / 7, len / 7);
            let phrases = || vec![Phrase::whole(&text), Phrase::prefix(&other)];
            let whole =
                || texts.get(*row as usize % texts.len().max(1)).cloned().unwrap_or_default();
            match kind % 20 {
                0 => FieldTest::Contains(Phrase::whole(&text)),
                1 => FieldTest::Contains(Phrase::prefix(&text)),
                2 => FieldTest::phrase_any_case(&text),
                3 => FieldTest::prefix_any_case(&text),
                4 => FieldTest::ContainsAll(phrases()),
                5 => FieldTest::ContainsAny(phrases()),
                6 => FieldTest::Sequence(phrases()),
                7 => FieldTest::Exact(whole()),
                8 => FieldTest::ExactPrefix(part(*row, 0, *len)),
                9 | 10 => FieldTest::Substring(text),
                11 => FieldTest::Regex(Pattern::new(&regex::escape(&text)).expect("is one")),
                12 => {
                    let digits = regex::Regex::new("[0-9]+").expect("is one");
                    let text = regex::escape(&text);
                    let source = digits.replace_all(&text, "[0-9]+").into_owned();
                    FieldTest::Regex(Pattern::new(&source).expect("is one"))
                }
                13 => FieldTest::Regex(
                    Pattern::anchored(&format!("{}.*", regex::escape(&text))).expect("is one"),
                ),
                14 => FieldTest::In([whole(), text, other].into_iter().collect()),
                15 => FieldTest::Number(NumberRange {
                    min: number(*from),
                    min_open: row % 2 == 0,
                    max: number(*from) + number(*len),
                    max_open: row % 3 == 0,
                }),
                16 => FieldTest::Text(TextRange {
                    min: Bound::Included(text),
                    max: if row % 4 == 0 { Bound::Unbounded } else { Bound::Excluded(other) },
                }),
                17 => FieldTest::Ipv4 { min: 0, max: 0x0a00_0100 + len % 3 },
                18 => {
                    let length = u64::from(len % 30);
                    FieldTest::Length { min: length, max: length + u64::from(from % 9) }
                }
                _ if row % 2 == 0 => FieldTest::Empty,
                _ => FieldTest::Any,
            }
        })
        .collect()
}

pub(super) fn check(
    opened: &Opened,
    texts: &[String],
    test: &FieldTest,
    within: Option<&Mask>,
    from: usize,
) {
    let prepared = opened.prepare(test);
    let given = opened
        .column
        .select(&prepared, &opened.sections, from..texts.len(), within)
        .expect("selects");
    let of_interest = |row: &usize| within.is_none_or(|within| within.get(*row - from));
    let expected: Vec<usize> =
        (from..texts.len()).filter(of_interest).filter(|row| test.matches(&texts[*row])).collect();
    let given: Vec<usize> = given.iter().map(|row| row + from).collect();
    assert_eq!(given, expected, "{test:?}");
    let all = texts.iter().filter(|text| test.matches(text)).count();
    if opened.reader.refutes(test, &opened.sections).expect("has words") {
        assert_eq!(all, 0, "{test:?}");
    }
    // On its own, so that nothing is decided yet.
    let fresh = opened.prepare(test);
    if let Some(count) = opened.column.count(&fresh, &opened.sections).expect("counts") {
        assert_eq!(count, all as u64, "{test:?}");
    }
    match prepared.verdict() {
        Verdict::None => assert_eq!(all, 0, "{test:?}"),
        Verdict::All => assert_eq!(all, texts.len(), "{test:?}"),
        Verdict::Some => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]
    #[test]
    fn selects_what_the_test_says_of_the_text_model(
        texts in texts(),
        seeds in vec(any::<(u8, u32, u32, u32)>(), 24),
        from in 0usize..200,
        seed in any::<u64>(),
    ) {
        let Some(opened) = open(&texts) else { return Ok(()) };
        for test in tests_of(&texts, &seeds) {
            check(&opened, &texts, &test, None, 0);
            let from = from.min(texts.len());
            check(&opened, &texts, &test, Some(&picks(texts.len() - from, seed)), from);
        }
    }
}

#[test]
fn a_column_of_too_many_tokens_has_no_filter_and_is_right() {
    let token = |no: usize| format!("q{:x}z{:x}k", no * 7919, no % 5);
    let texts: Vec<String> = (0..3000).map(|no| format!("request {} ends", token(no))).collect();
    let opened = open(&texts).expect("is worth it");
    for wanted in [token(0), token(2999), token(3000), "ends".to_owned(), "nowhere".to_owned()] {
        let test = FieldTest::phrase(&wanted);
        check(&opened, &texts, &test, None, 0);
        assert_eq!(opened.reader.refutes(&test, &opened.sections), Ok(false), "{wanted}");
    }
}

#[test]
fn sections_are_asked_for_until_there_is_an_answer() {
    let texts: Vec<String> =
        (0..70_000u32).map(|row| format!("job {row} of {}", row % 9)).collect();
    let stored = encode(&texts).expect("is worth it");
    let bytes = Bytes::from(stored.bytes.clone());
    let reader = TextReader::open(&mut &stored.meta[..]).expect("opens");
    let sections = Sections::new(stored.spans.clone());
    let mut asked = 0;
    let mut answer = |sections: &Sections, missing: SegmentError| {
        let SegmentError::Missing(missing) = missing else { panic!("{missing}") };
        asked += missing.len();
        for no in missing {
            let range = sections.range(no).expect("a range");
            let part = bytes.slice(range.start as usize..range.end as usize);
            sections.supply(no, &part).expect("is taken");
        }
    };
    let column = loop {
        match reader.load(&sections) {
            Ok(column) => break column,
            Err(missing) => answer(&sections, missing),
        }
    };
    let mut prepare = |test: &FieldTest| loop {
        match column.prepare(test, &sections) {
            Ok(prepared) => break prepared,
            Err(missing) => answer(&sections, missing),
        }
    };
    let nowhere = prepare(&FieldTest::phrase("nowhere"));
    assert_eq!(nowhere.verdict(), Verdict::None);
    let (job, test) = (prepare(&FieldTest::phrase("job")), prepare(&FieldTest::phrase("66000")));
    let count = |test| column.count(test, &sections).expect("nothing is missing");
    assert_eq!((count(&nowhere), count(&job)), (Some(0), Some(70_000)));
    let found = loop {
        match column.select(&test, &sections, 65_536..70_000, None) {
            Ok(found) => break found,
            Err(missing) => answer(&sections, missing),
        }
    };
    assert_eq!(found.iter().collect::<Vec<_>>(), [66_000 - 65_536]);
    // The templates, the filter, the words, the postings, one of both sections of template numbers, and the slots.
    assert_eq!(asked, 6);
}
