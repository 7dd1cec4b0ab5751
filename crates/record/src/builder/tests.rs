//! Tests of building batches: what a reader of the batch would find.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;

use super::*;
use crate::schema::{self, value_text};

fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    value_text(batch.column_by_name(name)?, row).map(|v| v.into_owned())
}

#[test]
fn disagreeing_types_keep_their_text() {
    let mut b = BatchBuilder::new();
    let s = b.stream("{}");
    let values = ["1", "2.5", "9007199254740993", "-0", "1.50", "1e3", "12345678901234567890"];
    for (row, value) in values.iter().enumerate() {
        b.message("m");
        b.field_number_text("n", value);
        b.finish_row(row as i64, s);
    }
    b.field_bool("n", true);
    b.finish_row(9, s);
    let batch = b.finish().expect("a batch");
    schema::check(&batch).expect("the shape");
    for (row, value) in values.iter().enumerate() {
        assert_eq!(text(&batch, "n", row).as_deref(), Some(*value));
    }
    assert_eq!(text(&batch, "n", 7).as_deref(), Some("true"));
    assert_eq!(text(&batch, "_msg", 7), None);
}

#[test]
fn ints_and_exact_floats_become_floats() {
    let mut b = BatchBuilder::new();
    let s = b.stream("{}");
    for value in ["1", "2.5", "3"] {
        b.field_number_text("n", value);
        b.finish_row(0, s);
    }
    let batch = b.finish().expect("a batch");
    assert_eq!(batch.column_by_name("n").map(|c| c.data_type().clone()), Some(DataType::Float64));
    assert_eq!(text(&batch, "n", 0).as_deref(), Some("1"));
}

#[test]
fn an_abandoned_record_leaves_nothing() {
    let mut b = BatchBuilder::new();
    let s = b.stream("{a=\"b\"}");
    b.field_str("a", "first");
    b.finish_row(1, s);
    b.field_str("a", "gone");
    b.field_i64("never", 1);
    b.abandon_row();
    b.field_str("a", "second");
    b.finish_row(2, s);
    let batch = b.finish().expect("a batch");
    assert_eq!(batch.num_rows(), 2);
    assert_eq!(text(&batch, "a", 1).as_deref(), Some("second"));
    assert!(batch.column_by_name("never").is_none());
    assert_eq!(b.rows(), 0);
}

#[test]
fn doubled_reserved_long_and_many_names_are_all_kept() {
    let mut b = BatchBuilder::new();
    let s = b.stream("{}");
    b.message("m");
    for value in ["1", "2", "3"] {
        b.field_str("a", value);
    }
    b.field_str("_msg", "m2");
    b.field_str("_stream", "x");
    b.field_str(&"é".repeat(300), "long");
    for i in 0..3000 {
        b.field_i64(&format!("f{i:04}"), i);
    }
    b.finish_row(1, s);
    let batch = b.finish().expect("a batch");
    schema::check(&batch).expect("the shape");
    assert_eq!(text(&batch, "a#2", 0).as_deref(), Some("2"));
    assert_eq!(text(&batch, "a#3", 0).as_deref(), Some("3"));
    assert_eq!(text(&batch, "_msg#2", 0).as_deref(), Some("m2"));
    assert_eq!(text(&batch, "lodge.field._stream", 0).as_deref(), Some("x"));
    let over = text(&batch, field::OVERFLOW, 0).expect("overflow");
    assert_eq!(overflow::get(&over, "f2999").as_deref(), Some("2999"));
    let mut fields = batch.num_columns() - 4;
    overflow::for_each(&over, |_, _| fields += 1);
    assert_eq!(fields, 3006);
}

#[test]
fn one_name_over_and_over_is_not_searched_for() {
    let mut b = BatchBuilder::new();
    let stream = b.stream("{}");
    for row in 0..2 {
        for value in 1..=200_000 {
            b.field_i64("a", value);
        }
        b.finish_row(row, stream);
    }
    let batch = b.finish().expect("batch");
    for row in 0..2 {
        assert_eq!(text(&batch, "a", row).as_deref(), Some("1"));
        assert_eq!(text(&batch, "a#32", row).as_deref(), Some("32"));
        let overflow = text(&batch, field::OVERFLOW, row).expect("overflow");
        assert_eq!(overflow::get(&overflow, "a#33").as_deref(), Some("33"));
        assert_eq!(overflow::get(&overflow, "a#200000").as_deref(), Some("200000"));
    }
}

#[test]
fn text_that_repeats_is_a_dictionary_and_reads_the_same() {
    let mut b = BatchBuilder::new();
    for batch in 0..3 {
        let s = b.stream("{}");
        for row in 0..2_000 {
            b.field_str("repeats", ["x", "yy", ""][row % 3]);
            b.field_str("unique", &format!("{batch}-{row}"));
            if row % 5 == 0 {
                b.field_str("sparse", "z");
            }
            b.field_str("mixed", "w");
            if row % 7 == 0 {
                b.field_str("repeats", "gone");
                b.abandon_row();
                b.field_str("repeats", "never");
                b.abandon_row();
                b.field_str("repeats", ["x", "yy", ""][row % 3]);
                b.field_i64("mixed", 7);
            }
            b.finish_row(row as i64, s);
        }
        let batch_now = b.finish().expect("a batch");
        schema::check(&batch_now).expect("the shape");
        let is_coded = |name: &str| {
            batch_now.column_by_name(name).map(|c| *c.data_type() == schema::dictionary_type())
        };
        assert_eq!(is_coded("repeats"), Some(true));
        assert_eq!(is_coded("sparse"), Some(true));
        assert_eq!(is_coded("unique"), Some(false));
        for row in 0..2_000 {
            let repeats = text(&batch_now, "repeats", row);
            assert_eq!(repeats.as_deref(), Some(["x", "yy", ""][row % 3]));
            let mixed = if row % 7 == 0 { "7" } else { "w" };
            assert_eq!(text(&batch_now, "mixed", row).as_deref(), Some(mixed), "row {row}");
            if row % 7 != 0 {
                assert_eq!(text(&batch_now, "unique", row), Some(format!("{batch}-{row}")));
                let sparse = (row % 5 == 0).then_some("z");
                assert_eq!(text(&batch_now, "sparse", row).as_deref(), sparse);
            }
        }
        let column = batch_now.column_by_name("repeats").expect("there");
        let dictionary = column.as_dictionary::<arrow::datatypes::Int32Type>();
        assert_eq!(dictionary.values().len(), 3, "no text that no record has");
    }
}

#[test]
fn a_column_takes_its_type_anew_in_every_batch() {
    let mut b = BatchBuilder::new();
    for (value, data_type) in [
        ("1", DataType::Int64),
        ("1.5", DataType::Float64),
        ("1", DataType::Int64),
        ("1.50", DataType::Utf8),
        ("2", DataType::Int64),
    ] {
        let s = b.stream("{}");
        b.field_number_text("n", value);
        b.finish_row(1, s);
        let batch = b.finish().expect("a batch");
        assert_eq!(batch.column_by_name("n").map(|c| c.data_type().clone()), Some(data_type));
        assert_eq!(text(&batch, "n", 0).as_deref(), Some(value));
    }
}

#[test]
fn what_came_next_the_last_time_is_set_by_its_name_alone() {
    let mut b = BatchBuilder::new();
    let s = b.stream("{}");
    assert!(!b.set_next(b"a", Value::Int(1)), "nothing is known yet");
    for row in 0..3 {
        b.message("m");
        for name in ["a", "b", "c"] {
            if !b.set_next(name.as_bytes(), Value::Int(row)) {
                assert_eq!(row, 0, "{name}");
                b.field_i64(name, row);
            }
        }
        assert!(!b.set_next(b"", Value::Int(9)));
        assert!(!b.set_next(b"_msg", Value::Int(9)));
        b.finish_row(row, s);
    }
    let batch = b.finish().expect("a batch");
    schema::check(&batch).expect("the shape");
    for row in 0..3 {
        for name in ["a", "b", "c"] {
            assert_eq!(text(&batch, name, row), Some(row.to_string()));
        }
    }
}

#[test]
fn labels_are_those_of_their_stream() {
    let mut b = BatchBuilder::new();
    for round in 0..2 {
        for row in 0..200usize {
            let host = format!("h{}", row % 7);
            let canonical = format!("{{host=\"{host}\"}}");
            let labels = [("host", host.as_str()), ("zone", "z")];
            let s = b.stream_labelled(&canonical, labels.into_iter());
            b.set_labels(s);
            if row % 5 == 4 {
                b.abandon_row();
                b.set_labels(s);
            }
            b.finish_row(row as i64, s);
        }
        let batch = b.finish().expect("a batch");
        schema::check(&batch).expect("the shape");
        for row in 0..200 {
            let host = format!("h{}", row % 7);
            assert_eq!(text(&batch, "host", row).as_deref(), Some(&*host), "{round} {row}");
            assert_eq!(text(&batch, "zone", row).as_deref(), Some("z"));
            let stream = format!("{{host=\"{host}\"}}");
            assert_eq!(text(&batch, "_stream", row).as_deref(), Some(&*stream));
        }
    }
}

/// One record of the test below: what its group has in common, then what is its own.
fn common_then_own(
    b: &mut BatchBuilder,
    group: usize,
    row: usize,
    held: Option<&mut Option<Held>>,
) {
    let s = b.stream(&format!("{{group=\"{group}\"}}"));
    let has_it_all = held.as_ref().is_some_and(|held| held.is_some_and(|held| b.again(held)));
    if !has_it_all {
        b.field_str("host", ["h0", "h1", "h2"][group % 3]);
        b.field_i64("pid", group as i64);
        b.field_bool("odd", group % 2 == 1);
        if group % 4 == 2 {
            b.field_f64("load", 0.5);
            b.field_str("host", "doubled");
        }
        if let Some(held) = held {
            *held = b.hold();
        }
    }
    if row.is_multiple_of(11) {
        b.field_str("host", "own");
        b.field_str("host", "own, once more");
        b.field_str("pid", "7a");
    }
    if row % 5 == 3 {
        b.field_str("late", ["x", "y"][row % 2]);
    }
    b.message("m");
    if row % 13 == 7 {
        b.abandon_row();
        b.field_str("pid", "alone");
    }
    b.finish_row(row as i64, s);
}

#[test]
fn what_is_held_is_as_if_each_record_had_set_it() {
    let (mut one_by_one, mut together) = (BatchBuilder::new(), BatchBuilder::new());
    let mut row = 0;
    for group in 0..300 {
        let mut held = None;
        for _ in 0..=(group * 7 % 17) {
            common_then_own(&mut one_by_one, group, row, None);
            common_then_own(&mut together, group, row, Some(&mut held));
            assert_eq!(one_by_one.bytes(), together.bytes(), "{row}");
            row += 1;
            if row == 500 {
                together.expect(5_000);
            }
            // Within a group, too.
            if row.is_multiple_of(700) {
                let (a, b) = (one_by_one.finish(), together.finish());
                assert_eq!(a.expect("a batch"), b.expect("a batch"), "{row}");
            }
        }
    }
    let batch = together.finish().expect("a batch");
    schema::check(&batch).expect("the shape");
    assert_eq!(one_by_one.finish().expect("a batch"), batch);
}

#[test]
fn a_known_text_is_set_as_any_other() {
    let (mut b, mut known) = (BatchBuilder::new(), [None, None]);
    for batch in 0..3 {
        let s = b.stream("{}");
        for row in 0..3_000 {
            let level = row / 7 % 2;
            b.set_known("level", ["info", "error"][level], &mut known[level]);
            if row % 9 == 8 {
                // Another text comes and is forgotten with its record.
                b.abandon_row();
                b.field_str("level", "gone");
                b.abandon_row();
                b.set_known("level", ["info", "error"][level], &mut known[level]);
            }
            if row % 50 == 3 {
                b.set_known("level", "info", &mut known[0]);
            }
            b.finish_row(row as i64, s);
        }
        let batch_now = b.finish().expect("a batch");
        schema::check(&batch_now).expect("the shape");
        for row in 0..3_000 {
            let level = ["info", "error"][row / 7 % 2];
            assert_eq!(text(&batch_now, "level", row).as_deref(), Some(level), "{batch} {row}");
            let second = (row % 50 == 3).then_some("info");
            assert_eq!(text(&batch_now, "level#2", row).as_deref(), second);
        }
    }
}
