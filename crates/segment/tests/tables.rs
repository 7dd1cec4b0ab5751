//! L0 sections: what is written is what is read, and damage is noticed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use bytes::Bytes;
use lodge_record::{field, schema};
use lodge_segment::table::read_all;
use lodge_segment::{Footer, SegmentError, l0, segment};
use proptest::prelude::*;

mod whole;
use whole::{Row, rows};

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

/// A batch of the record shape.
fn batch(times: Vec<i64>, streams: Vec<String>, fields: Vec<(String, ArrayRef)>) -> RecordBatch {
    let rows = times.len();
    let streams: DictionaryArray<Int32Type> = streams.iter().map(String::as_str).collect();
    let mut fields: BTreeMap<String, ArrayRef> = fields.into_iter().collect();
    let message = fields
        .remove(field::MSG)
        .unwrap_or_else(|| Arc::new(StringArray::from(vec![Some("hello"); rows])) as ArrayRef);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")),
        Arc::new(streams),
        message,
    ];
    let mut all = schema::leading_fields().to_vec();
    for (name, column) in fields {
        all.push(schema::make_field(&name, column.data_type().clone(), false));
        columns.push(column);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(all)), columns).unwrap();
    schema::check(&batch).unwrap();
    batch
}

fn small_batch(seed: i64) -> RecordBatch {
    let streams = (0..40).map(|i| format!("{{service=\"s{}\"}}", (i + seed) % 3)).collect();
    let text = |i: i64| (i % 5 != 0).then(|| format!("value {}", i * seed));
    batch(
        (0..40).map(|i| 1_700_000_000_000_000_000 + (i * 7_919 * seed) % 1_000).collect(),
        streams,
        vec![
            ("level".into(), Arc::new(StringArray::from_iter((0..40).map(|_| Some("info"))))),
            ("text".into(), Arc::new(StringArray::from_iter((0..40).map(text)))),
            ("n".into(), Arc::new(Int64Array::from_iter((0..40).map(|i| Some(i * seed))))),
            (
                "ratio".into(),
                Arc::new(Float64Array::from_iter((0..40).map(|i| Some(i as f64 / 8.0)))),
            ),
            ("ok".into(), Arc::new(BooleanArray::from_iter((0..40).map(|i| Some(i % 2 == 0))))),
        ],
    )
}

fn l0_of(batches: &[RecordBatch]) -> (Bytes, l0::Section) {
    let mut out = Vec::new();
    let section = l0::append(&mut out, batches).unwrap();
    (out.into(), section)
}

#[test]
fn an_l0_section_gives_its_records_back_in_order() {
    let batches = [small_batch(1), small_batch(2)];
    let (bytes, section) = l0_of(&batches);
    assert_eq!(section.info.rows, 80);
    assert_eq!(rows(&section.blocks), rows(&batches));
    assert_eq!(rows(&read_all(&bytes).unwrap()), rows(&batches));
    let streams = ["{service=\"s0\"}", "{service=\"s1\"}", "{service=\"s2\"}"];
    assert_eq!(section.info.streams.unwrap(), streams);
    assert!(
        section
            .info
            .schema
            .fields()
            .iter()
            .all(|f| !matches!(f.data_type(), DataType::Dictionary(..)))
    );
}

#[test]
fn sections_of_one_object_are_read_by_themselves() {
    let mut out = Vec::new();
    let first = l0::append(&mut out, &[small_batch(1)]).unwrap();
    let second = l0::append(&mut out, &[small_batch(2)]).unwrap();
    let bytes = Bytes::from(out);
    for (section, seed) in [(first, 1), (second, 2)] {
        let (from, to) = (section.info.offset, section.info.offset + section.info.len);
        let table = bytes.slice(from as usize..to as usize);
        assert_eq!(rows(&read_all(&table).unwrap()), rows(&[small_batch(seed)]));
    }
}

#[test]
fn text_that_repeats_is_a_dictionary_and_text_that_does_not_is_plain() {
    let n = 5_000;
    let records = batch(
        (0..n).collect(),
        (0..n).map(|_| "{}".to_owned()).collect(),
        vec![
            (
                "level".into(),
                Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("l{}", i % 4)))),
            ),
            (
                "id".into(),
                Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("id-{i}")))),
            ),
        ],
    );
    let (bytes, _) = l0_of(&[records]);
    let out = read_all(&bytes).unwrap();
    let kind = |name: &str| out[0].column_by_name(name).unwrap().data_type().clone();
    assert_eq!(kind("level"), schema::dictionary_type());
    assert_eq!(kind("id"), DataType::Utf8);
}

#[test]
fn large_tables_are_cut_into_blocks() {
    let n = 150_000;
    let make = |from: i64| {
        batch(
            (from..from + n).collect(),
            (0..n).map(|i| format!("{{pod=\"p{}\"}}", i % 7)).collect(),
            vec![("n".into(), Arc::new(Int64Array::from_iter_values(from..from + n)) as ArrayRef)],
        )
    };
    let inputs = [make(0), make(n)];
    let (bytes, section) = l0_of(&inputs);
    let footer = Footer::parse(&bytes, bytes.len() as u64).unwrap();
    assert!(footer.blocks().iter().all(|b| b.rows as usize <= 65_536));
    assert_eq!(footer.rows(), 2 * n as u64);
    assert_eq!(section.info.len, bytes.len() as u64);
    let out = read_all(&bytes).unwrap();
    let sum: i64 = out
        .iter()
        .flat_map(|b| {
            let numbers: Vec<i64> = b
                .column_by_name("n")
                .unwrap()
                .as_primitive::<arrow::datatypes::Int64Type>()
                .values()
                .to_vec();
            numbers
        })
        .sum();
    assert_eq!(sum, (0..2 * n).sum::<i64>());
}

#[test]
fn fields_beyond_the_limit_go_to_overflow_and_come_back() {
    let wide = |from: usize| {
        let column = |i: usize| -> (String, ArrayRef) {
            (format!("f{:05}", from + i), Arc::new(Int64Array::from(vec![i as i64, 7])))
        };
        batch(vec![1, 2], vec!["{}".into(), "{}".into()], (0..900).map(column).collect())
    };
    let inputs = [wide(0), wide(900), wide(1_800)];
    let (bytes, section) = l0_of(&inputs);
    assert!(section.info.schema.fields().len() <= 1_004);
    let read = read_all(&bytes).unwrap();
    assert_eq!(rows(&read), rows(&inputs));
    let (built, _) = segment::build(&read).unwrap();
    let built = whole::read_all(&built.into()).unwrap();
    assert_eq!(sorted(rows(&built)), sorted(rows(&inputs)));
}

/// Reads a table in every way that a reader can; `Err` for damage.
fn read_table(bytes: &Bytes) -> Result<Vec<Row>, SegmentError> {
    read_all(bytes).map(|batches| rows(&batches))
}

/// Every bit position of every byte, a few bits each: an error or the right rows, never a panic.
#[test]
fn a_flipped_bit_is_an_error_fuzz() {
    let (bytes, _) = l0_of(&[small_batch(1)]);
    let right = read_table(&bytes).unwrap();
    let mut noticed = 0;
    for place in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[place] ^= 1 << (place % 8);
        match read_table(&damaged.into()) {
            Err(SegmentError::Damaged { place, .. }) => {
                assert!(!place.is_empty());
                noticed += 1;
            }
            Err(SegmentError::NewerVersion { .. }) => noticed += 1,
            Err(other) => panic!("byte {place}: {other}"),
            Ok(rows) => assert_eq!(rows, right, "byte {place}"),
        }
    }
    assert_eq!(noticed, bytes.len(), "every byte is under a checksum");
}

#[test]
fn a_cut_table_is_an_error_fuzz() {
    let (bytes, _) = l0_of(&[small_batch(1)]);
    for len in 0..bytes.len() {
        let cut = bytes.slice(..len);
        assert!(read_table(&cut).is_err(), "{len} bytes of {}", bytes.len());
    }
}

#[test]
fn damage_names_block_and_column() {
    let (bytes, _) = l0_of(&[small_batch(1)]);
    let footer = Footer::parse(&bytes, bytes.len() as u64).unwrap();
    let column = footer.column("text").unwrap();
    let place = footer.chunk_range(0, column).unwrap().start as usize + 9;
    let mut damaged = bytes.to_vec();
    damaged[place] ^= 0x40;
    let error = read_all(&damaged.into()).unwrap_err();
    assert_eq!(error.to_string(), "damaged: block 0, column `text`: the checksum does not hold");
}

#[test]
fn a_newer_version_is_refused_clearly() {
    let (bytes, _) = l0_of(&[small_batch(1)]);
    let mut newer = bytes.to_vec();
    let at = newer.len() - 12;
    newer[at..at + 4].copy_from_slice(&9u32.to_le_bytes());
    let error = read_all(&newer.into()).unwrap_err();
    assert_eq!(error, SegmentError::NewerVersion { found: 9, known: 1 });
}

/// The files were written by the first release of this format. Each later one must read them.
/// `LODGE_GOLDEN=write cargo test -p lodge-segment golden` writes them anew, for a new version.
#[test]
fn golden_files_of_every_version_are_read() {
    // Asked when the test runs: a build may be kept over clones in other folders.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let dir = std::path::Path::new(&package).join("tests/golden");
    let records = [small_batch(1), small_batch(2)];
    if std::env::var("LODGE_GOLDEN").is_ok_and(|v| v == "write") {
        let (bytes, section) = l0_of(&records);
        std::fs::write(dir.join("v1.l0"), &bytes).unwrap();
        std::fs::write(dir.join("v3.seg"), segment::build(&section.blocks).unwrap().0).unwrap();
    }
    let file = |name: &str| Bytes::from(std::fs::read(dir.join(name)).unwrap());
    assert_eq!(rows(&read_all(&file("v1.l0")).unwrap()), rows(&records));
    let segment = whole::read_all(&file("v3.seg")).unwrap();
    assert_eq!(sorted(rows(&segment)), sorted(rows(&records)));
}

/// A column of any type, some of its values missing.
fn any_column(rows: usize) -> impl Strategy<Value = ArrayRef> {
    let text = proptest::option::of("[a-c]{0,3}|\\PC{0,12}");
    prop_oneof![
        proptest::collection::vec(text, rows)
            .prop_map(|v| Arc::new(StringArray::from(v)) as ArrayRef),
        proptest::collection::vec(
            proptest::option::of(-9_007_199_254_740_992i64..=9_007_199_254_740_992),
            rows
        )
        .prop_map(|v| Arc::new(Int64Array::from(v)) as ArrayRef),
        proptest::collection::vec(proptest::option::of(-1e9..1e9f64), rows)
            .prop_map(|v| Arc::new(Float64Array::from(v)) as ArrayRef),
        proptest::collection::vec(proptest::option::of(any::<bool>()), rows)
            .prop_map(|v| Arc::new(BooleanArray::from(v)) as ArrayRef),
        Just(Arc::new(StringArray::new_null(rows)) as ArrayRef),
    ]
}

fn any_batch() -> impl Strategy<Value = RecordBatch> {
    (1usize..300, 0usize..6).prop_flat_map(|(rows, fields)| {
        let times = proptest::collection::vec(prop_oneof![any::<i64>(), 0..1_000i64], rows);
        let streams = proptest::collection::vec("\\{s=\"[a-d]\"\\}", rows);
        let names = proptest::sample::subsequence(vec!["_msg", "a", "b", "c.d", "é", "z"], fields);
        (times, streams, names).prop_flat_map(move |(times, streams, names)| {
            let columns: Vec<_> = names
                .into_iter()
                .map(|name| {
                    let column = any_column(rows).prop_filter("_msg is text", move |c| {
                        name != "_msg" || c.data_type() == &DataType::Utf8
                    });
                    (Just(name.to_owned()), column)
                })
                .collect();
            (Just(times), Just(streams), columns)
                .prop_map(|(times, streams, columns)| batch(times, streams, columns))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Batches whose types disagree come back with the same values through L0, build and merge.
    #[test]
    fn any_batches_keep_their_values_model(groups in proptest::collection::vec(
        proptest::collection::vec(any_batch(), 1..4), 1..4)
    ) {
        let all: Vec<RecordBatch> = groups.iter().flatten().cloned().collect();
        let expected = sorted(rows(&all));
        let mut segments = Vec::new();
        for group in &groups {
            let (bytes, section) = l0_of(group);
            let cold = read_all(&bytes).unwrap();
            prop_assert_eq!(rows(&cold), rows(&section.blocks));
            prop_assert_eq!(rows(&cold), rows(group));
            // Half from memory, half from bytes, as the builder does.
            let blocks = if segments.len() % 2 == 0 { cold } else { section.blocks };
            let (built, info) = segment::build(&blocks).unwrap();
            let given: usize = group.iter().map(RecordBatch::num_rows).sum();
            prop_assert_eq!(info.rows as usize, given);
            segments.extend(whole::read_all(&built.into()).unwrap());
        }
        let (merged, _) = segment::build(&segments).unwrap();
        let merged = whole::read_all(&merged.into()).unwrap();
        prop_assert_eq!(sorted(rows(&merged)), expected);
    }

    /// No bytes make the reader panic.
    #[test]
    fn any_bytes_are_an_error_fuzz(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read_all(&Bytes::from(bytes.clone())).is_err());
        prop_assert!(Footer::parse(&bytes, bytes.len() as u64).is_err());
    }
}

/// A footer may claim anything under a right checksum: a hostile writer is still only an error.
#[test]
fn a_column_without_its_shape_is_refused() {
    let wrong = RecordBatch::try_new(
        Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)])),
        vec![Arc::new(StringArray::from(vec!["x"]))],
    )
    .unwrap();
    assert!(matches!(
        l0::append(&mut Vec::new(), std::slice::from_ref(&wrong)),
        Err(SegmentError::Encode(_))
    ));
    assert!(matches!(segment::build(&[wrong]), Err(SegmentError::Encode(_))));
}
