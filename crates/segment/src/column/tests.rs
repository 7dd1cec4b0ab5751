//! Every kind of column against the plain list of its values and the test of each one's text.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use lodge_record::schema::value_text;
use proptest::collection::vec;
use proptest::prelude::*;
use std::ops::Bound;

use super::choose::Choice;
use super::*;
use crate::predicate::{NumberRange, Pattern, Phrase, TextRange, Verdict};
use crate::sections::SectionWriter;

/// A segment of one column, its sections in memory.
fn stored(
    encode: impl FnOnce(&mut SectionWriter<'_>, &mut Vec<u8>) -> Result<(), SegmentError>,
) -> (Column, Arc<Sections>) {
    let (mut out, mut meta) = (Vec::new(), Vec::new());
    let mut writer = SectionWriter::new(&mut out).expect("zstd");
    encode(&mut writer, &mut meta).expect("encodes");
    let (out, _, spans) = writer.finish();
    let sections = Arc::new(Sections::new(spans));
    let bytes = Bytes::from(out.clone());
    let mut from = &meta[..];
    let column = Column::open(&mut from).expect("opens");
    assert!(from.is_empty());
    supply(&sections, &bytes, column.sections());
    (column, sections)
}

/// Brings sections into memory.
fn supply(sections: &Sections, bytes: &Bytes, nos: impl IntoIterator<Item = SectionNo>) {
    for no in nos {
        let range = sections.range(no).expect("a section");
        let stored = bytes.slice(range.start as usize..range.end as usize);
        sections.supply(no, &stored).expect("sound");
    }
}

fn texts_stored(texts: &[&str]) -> Loaded {
    let (column, sections) = stored(|w, meta| {
        if !choose(texts).encode(texts.len(), w, meta)? {
            encode_raw(texts, w, meta)?;
        }
        Ok(())
    });
    column.load(&sections).expect("loads")
}

/// Texts of one class each, so that every kind is chosen.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let of = |pattern: &'static str| vec(pattern, 1..60);
    prop_oneof![
        of("[a-c]?"),
        of("-?[1-9][0-9]{0,4}"),
        of("-?[1-9][0-9]{0,17}|0"),
        of("(1[0-9]{0,2}|0)\\.(1[0-9]{0,2}|0)\\.(1[0-9]{0,2}|0)\\.(1[0-9]|7)"),
        of("-?(0|[1-9][0-9]{0,3})\\.[0-9]{2}"),
        of("(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?"),
        of("[0-9a-f]{8}"),
        of("[0-9A-F]{9}"),
        of("[0-9a-f]{31,32}"),
        of("[0-9a-f]{32}"),
        of("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        of("(error|warn) [a-c ]{0,4}[0-9]{0,2}\\PC{0,3}"),
        of("(GET|POST|err_1|ÄÖ|)"),
        (vec("[0-9a-f]{16}", 1..4), vec(0usize..9, 1..60)).prop_map(|(ids, picks)| {
            picks.iter().map(|at| ids[at % ids.len()].clone()).collect()
        }),
        (vec("-?[1-9][0-9]{1,9}", 1..4), vec(0usize..9, 1..60)).prop_map(|(ids, picks)| {
            picks.iter().map(|at| ids[at % ids.len()].clone()).collect()
        }),
    ]
}

/// Tests made of what is in the values, and of what is nearly in them.
fn tests_of(texts: &[String], picks: &[(usize, usize, usize)]) -> Vec<FieldTest> {
    let mut tests = vec![
        FieldTest::Any,
        FieldTest::Empty,
        FieldTest::Length { min: 3, max: 9 },
        FieldTest::Ipv4 { min: 1 << 24, max: 110 << 24 },
        FieldTest::Regex(Pattern::new("^[1-3a]|e").expect("valid")),
    ];
    for (pick, from, len) in picks {
        let text = &texts[pick % texts.len()];
        let start = text.char_indices().nth(from % 5).map_or(0, |(at, _)| at);
        let part: String = text[start..].chars().take(*len).collect();
        let number = crate::predicate::parse_number(text).unwrap_or(5.0);
        for part in [text.as_str(), &part, "-1", "12.50", "ab"] {
            tests.extend([
                FieldTest::phrase(part),
                FieldTest::prefix(part),
                FieldTest::phrase_any_case(part),
                FieldTest::prefix_any_case(part),
                FieldTest::Exact(part.to_owned()),
                FieldTest::ExactPrefix(part.to_owned()),
                FieldTest::Substring(part.to_owned()),
                FieldTest::In([part.to_owned(), "7".into()].into()),
                FieldTest::ContainsAny(vec![Phrase::whole(part), Phrase::whole("error")]),
                FieldTest::ContainsAll(vec![Phrase::whole(part), Phrase::prefix("1")]),
                FieldTest::Sequence(vec![Phrase::prefix(part), Phrase::prefix("1")]),
                FieldTest::Text(TextRange {
                    min: Bound::Excluded(part.to_owned()),
                    max: Bound::Unbounded,
                }),
            ]);
        }
        let open = from % 2 == 0;
        tests.extend([
            FieldTest::Number(NumberRange {
                min: number,
                min_open: open,
                max: number + 40.0,
                max_open: !open,
            }),
            FieldTest::Number(NumberRange {
                min: f64::NEG_INFINITY,
                min_open: false,
                max: number,
                max_open: open,
            }),
        ]);
    }
    tests
}

/// Checks all that a column can do against its values.
fn check(loaded: &Loaded, expected: &ArrayRef, tests: &[FieldTest], cut: (usize, usize)) {
    let len = expected.len();
    assert_eq!(loaded.len(), len);
    assert_eq!(&loaded.data_type(), expected.data_type());
    let (from, to) = (cut.0.min(cut.1).min(len), cut.0.max(cut.1).min(len));
    let text = |at: usize| value_text(expected, at).expect("a value").into_owned();
    let picked = Mask::collect(to - from, |at| (at * 7 + from) % 3 == 0);
    let all: Vec<usize> = (from..to).collect();
    let some: Vec<usize> = picked.iter().map(|at| at + from).collect();
    for (mask, rows) in [(None, &all), (Some(&picked), &some)] {
        for dictionary in [false, true] {
            let array = loaded.array(from..to, mask, dictionary).expect("an array");
            assert_eq!(array.len(), rows.len());
            for (nth, row) in rows.iter().enumerate() {
                let found = value_text(&array, nth).expect("a value").into_owned();
                assert_eq!(found, text(*row));
            }
            if dictionary && array.as_dictionary_opt::<Int32Type>().is_none() {
                continue;
            }
            assert!(dictionary || array.data_type() == expected.data_type());
        }
        if let Some(numbers) = loaded.numbers(from..to, mask).expect("sound") {
            let expected = rows.iter().map(|row| text(*row).parse::<f64>().expect("a number"));
            assert_eq!(numbers, expected.collect::<Vec<_>>());
        }
    }
    for (picked, rows) in [(None, &all), (Some(&picked), &some)] {
        let Some((texts, codes)) = loaded.groups(from..to, picked).expect("sound") else { break };
        assert_eq!(codes.len(), rows.len());
        for (row, code) in rows.iter().zip(codes) {
            assert_eq!(texts.value(code as usize), text(*row));
        }
    }
    for test in tests {
        let prepared = loaded.prepare(test).expect("sound");
        let wanted: Vec<usize> =
            all.iter().copied().filter(|row| test.matches(&text(*row))).collect();
        let rows = |mask: &Mask| mask.iter().map(|at| at + from).collect::<Vec<_>>();
        let mask = loaded.select(&prepared, from..to, None).expect("sound");
        assert_eq!(rows(&mask), wanted, "{test} on {loaded:?}");
        let mask = loaded.select(&prepared, from..to, Some(&picked)).expect("sound");
        let both: Vec<usize> = wanted.iter().copied().filter(|row| some.contains(row)).collect();
        assert_eq!(rows(&mask), both, "{test} within, on {loaded:?}");
        let sparse = Mask::collect(to - from, |at| at == 1);
        let mask = loaded.select(&prepared, from..to, Some(&sparse)).expect("sound");
        let one: Vec<usize> = wanted.into_iter().filter(|row| *row == from + 1).collect();
        assert_eq!(rows(&mask), one, "{test} at one, on {loaded:?}");
        let matching = (0..len).filter(|row| test.matches(&text(*row))).count();
        match prepared.verdict() {
            Verdict::All => assert_eq!(matching, len, "{test}"),
            Verdict::None => assert_eq!(matching, 0, "{test}"),
            Verdict::Some => {}
        }
    }
}

fn array(texts: &[String]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

fn cut() -> impl Strategy<Value = (usize, usize)> {
    (0usize..70, 0usize..70)
}

fn picks() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    vec((any::<usize>(), 0usize..5, 0usize..6), 1..4)
}

proptest! {
    #[test]
    fn texts_of_every_kind_model(texts in texts(), cut in cut(), picks in picks()) {
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tests = tests_of(&texts, &picks);
        check(&texts_stored(&refs), &array(&texts), &tests, cut);
    }

    #[test]
    fn any_texts_raw_or_as_a_dictionary_model(texts in texts(), cut in cut(), picks in picks()) {
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tests = tests_of(&texts, &picks);
        let (column, sections) = stored(|w, meta| encode_raw(&refs, w, meta));
        check(&column.load(&sections).expect("loads"), &array(&texts), &tests, cut);
        let (distinct, codes) = intern::intern(&refs, usize::MAX).expect("no cap");
        let (column, sections) = stored(|w, meta| encode_dict(&distinct, &codes, w, meta));
        check(&column.load(&sections).expect("loads"), &array(&texts), &tests, cut);
    }

    #[test]
    fn integers_floats_booleans_times_model(
        small in vec(-900i64..900, 1..60),
        wide in vec(any::<i64>(), 1..60),
        short in vec((-90_000i64..90_000).prop_map(|m| m as f64 / 100.0), 1..60),
        long in vec(-1e6..1e6f64, 1..60),
        flags in vec(any::<bool>(), 1..60),
        rising in vec(0i64..1_000_000, 1..400),
        cut in cut(),
        picks in picks(),
    ) {
        let check = |array: ArrayRef, (column, sections): (Column, Arc<Sections>)| {
            let texts: Vec<String> =
                (0..array.len()).map(|at| value_text(&array, at).expect("a value").into_owned()).collect();
            let loaded = column.load(&sections).expect("loads");
            check(&loaded, &array, &tests_of(&texts, &picks), cut);
        };
        for values in [&small, &wide] {
            let array = Arc::new(Int64Array::from(values.clone()));
            check(array, stored(|w, m| encode_int64(values, w, m)));
            check(times::array_of(values.clone()), stored(|w, m| encode_times(values, w, m)));
        }
        for values in [&short, &long] {
            let array = Arc::new(Float64Array::from(values.clone()));
            check(array, stored(|w, m| encode_float64(values, w, m)));
        }
        let mask = Mask::collect(flags.len(), |at| flags[at]);
        check(Arc::new(BooleanArray::from(flags)), stored(|w, m| encode_bools(&mask, w, m)));
        let mut now = 1_790_000_000_000_000_000;
        let rising: Vec<i64> = rising.iter().map(|step| { now += step * 1_000; now }).collect();
        check(times::array_of(rising.clone()), stored(|w, m| encode_times(&rising, w, m)));
    }

    #[test]
    fn times_are_found_by_bisection_model(
        steps in vec(0i64..50, 1..700),
        from in 0usize..700,
        to in 0usize..700,
        wanted in 0i64..30_000,
    ) {
        let mut now = 0;
        let values: Vec<i64> = steps.iter().map(|step| { now += step; now }).collect();
        let (column, sections) = stored(|w, meta| encode_times(&values, w, meta));
        let loaded = column.load(&sections).expect("loads");
        let times = loaded.times().expect("times");
        let (from, to) = (from.min(to).min(values.len()), from.max(to).min(values.len()));
        let expected = from + values[from..to].partition_point(|time| *time < wanted);
        prop_assert_eq!(times.partition_point(from..to, |time| time < wanted), Ok(expected));
        let until = wanted + 3_000;
        let between = times.between(from..to, wanted, until).expect("sound");
        let lies = |at: &usize| (wanted..=until).contains(&values[*at]);
        let expected: Vec<usize> = (from..to).filter(lies).map(|at| at - from).collect();
        prop_assert_eq!(between.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn any_bytes_are_refused_or_have_the_right_length_fuzz(
        meta in vec(any::<u8>(), 0..40), kind in 0u8..11, len in 0u32..200,
        bytes in vec(any::<u8>(), 0..200), small in vec(0u8..12, 0..200), texts in texts(),
        change in any::<(usize, u8)>(),
    ) {
        let mut directory = vec![kind];
        directory.extend_from_slice(&len.to_le_bytes());
        directory.extend_from_slice(&0u32.to_le_bytes());
        directory.extend_from_slice(&(u32::from(kind) % 3).to_le_bytes());
        directory.extend_from_slice(&meta);
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        // Sections of another column, one byte changed, are nearly right.
        let (mut out, mut own) = (Vec::new(), Vec::new());
        let mut writer = SectionWriter::new(&mut out).expect("zstd");
        if !choose(&refs).encode(refs.len(), &mut writer, &mut own).expect("encodes") {
            encode_raw(&refs, &mut writer, &mut own).expect("encodes");
        }
        let (out, _, spans) = writer.finish();
        let sections = Arc::new(Sections::new(spans));
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let whole = Bytes::from(out.clone());
        let mut no = 0;
        while let Some(range) = sections.range(no) {
            let stored = whole.slice(range.start as usize..range.end as usize);
            sections.supply(no, &stored).expect("sound");
            let mut piece = sections.get(no).expect("there").to_vec();
            if let Some(len) = std::num::NonZeroUsize::new(piece.len()) {
                piece[change.0 % len] ^= change.1;
            }
            pieces.push(piece);
            no += 1;
        }
        for (directory, pieces) in [(directory, vec![bytes, small]), (own, pieces)] {
            let mut out = Vec::new();
            let mut writer = SectionWriter::new(&mut out).expect("zstd");
            pieces.iter().for_each(|piece| { writer.plain(piece).expect("writes"); });
            let (out, _, spans) = writer.finish();
            let sections = Arc::new(Sections::new(spans));
            supply(&sections, &Bytes::from(out.clone()), 0..pieces.len() as u32);
            let Ok(column) = Column::open(&mut &directory[..]) else { continue };
            let Ok(loaded) = column.load(&sections) else { continue };
            prop_assert_eq!(loaded.len(), column.meta.len);
            let tests = [FieldTest::Any, FieldTest::phrase("1"), FieldTest::Length { min: 1, max: 4 }];
            for test in tests {
                let Ok(test) = loaded.prepare(&test) else { continue };
                if let Ok(mask) = loaded.select(&test, 0..300, None) {
                    prop_assert_eq!(mask.len(), loaded.len());
                }
            }
            if let Ok(array) = loaded.array(0..300, None, true) {
                prop_assert_eq!(array.len(), loaded.len());
            }
            let numbers = loaded.numbers(0..300, None);
            let _ = (numbers, loaded.groups(0..300, None));
        }
    }
}

#[test]
fn long_columns_are_packed_in_groups_and_blocks() {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 20
    };
    let numbers: Vec<u64> = (0..9_000).map(|_| next()).collect();
    let of = |write: &dyn Fn(u64) -> String| numbers.iter().map(|n| write(*n)).collect::<Vec<_>>();
    let columns = [
        of(&|n| n.to_string()),
        of(&|n| (n % 70_000).to_string()),
        of(&|n| format!("10.{}.{}.{}", n % 3, n % 256, n % 77)),
        of(&|n| format!("{:032x}", u128::from(n % 4_000) * 0x1234_5678_9abc_def1)),
        of(&|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        of(&|n| format!("user {} did {n}", n % 5)),
        of(&|n| format!("host-{:03}", n % 500)),
        of(&|n| format!("{}.{:03}", n % 900, n % 1000)),
    ];
    for texts in columns {
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tests = tests_of(&texts, &[(17, 0, 9), (4_500, 1, 3)]);
        check(&texts_stored(&refs), &array(&texts), &tests, (1_000, 5_300));
    }
}

#[test]
fn each_class_of_texts_has_its_kind() {
    let kind = |texts: &[&str]| match choose(texts) {
        Choice::Const(_) => "const".to_owned(),
        Choice::Numbers(form, _) => format!("{form:?}"),
        Choice::Scaled(..) => "scaled".into(),
        Choice::Ids(shape, _) => format!("{} digits", shape.digits),
        Choice::Dict(..) => "dict".into(),
        Choice::Text => "text".into(),
    };
    assert_eq!(kind(&["a", "a"]), "const");
    assert_eq!(kind(&["1", "-20", "0"]), "IntText");
    assert_eq!(kind(&["10.0.0.1", "10.0.0.2"]), "Ip");
    assert_eq!(kind(&["1.50", "-0.05"]), "Decimal { scale: 2 }");
    assert_eq!(kind(&["00ff00ff", "12345678"]), "8 digits");
    assert_eq!(
        kind(&["6f2c1a3e-0000-4000-8000-0123456789ab", "6f2c1a3e-0000-4000-8000-0123456789ac"]),
        "32 digits"
    );
    assert_eq!(kind(&["GET", "POST"]), "dict");
    for odd in ["01", "+1", "-0", "1.", ".5", "-0.00", "1e3", "256.0.0.1", "0x1f"] {
        assert_eq!(kind(&["1", odd]), "dict", "{odd}");
    }
    let texts: Vec<String> = (0..3000).map(|n| format!("request {n} done")).collect();
    assert_eq!(kind(&texts.iter().map(String::as_str).collect::<Vec<_>>()), "text");
    let texts: Vec<String> = (0..3000).map(|n| format!("{}", f64::from(n) / 8.0)).collect();
    assert_eq!(kind(&texts.iter().map(String::as_str).collect::<Vec<_>>()), "scaled");
}
