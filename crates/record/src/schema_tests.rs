//! Tests of shapes: unify, conform, concat.

use super::*;
use crate::builder::BatchBuilder;

fn batch(rows: &[&[(&str, &str)]]) -> RecordBatch {
    let mut b = BatchBuilder::new();
    let s = b.stream("{}");
    for (at, row) in rows.iter().enumerate() {
        for (name, value) in *row {
            match value.strip_prefix('#') {
                Some(number) => b.field_number_text(name, number),
                None => b.field_str(name, value),
            }
        }
        b.finish_row(at as i64, s);
    }
    b.finish().expect("a batch")
}

fn text(records: &RecordBatch, name: &str, row: usize) -> Option<String> {
    value_text(records.column_by_name(name)?, row).map(Cow::into_owned)
}

#[test]
fn every_value_keeps_its_text_through_concat() {
    let a = batch(&[&[("n", "#1"), ("t", "#7")], &[("n", "#2"), ("only_a", "x")]]);
    let b = batch(&[&[("n", "#2.5"), ("t", "seven")]]);
    let c = batch(&[&[("n", "#9007199254740993")]]);
    let ab = concat(&[a.clone(), b.clone()]).expect("concat");
    check(&ab).expect("shape");
    assert_eq!(ab.column_by_name("n").map(|c| c.data_type().clone()), Some(DataType::Float64));
    let abc = concat(&[a, b, c]).expect("concat");
    for (row, n) in ["1", "2", "2.5", "9007199254740993"].iter().enumerate() {
        assert_eq!(text(&abc, "n", row).as_deref(), Some(*n), "row {row}");
    }
    assert_eq!(text(&abc, "t", 0).as_deref(), Some("7"));
    assert_eq!(text(&abc, "t", 2).as_deref(), Some("seven"));
    assert_eq!(text(&abc, "only_a", 0), None);
}

#[test]
fn fields_beyond_the_limit_overflow_and_stay() {
    let name = |set: usize, i: usize| format!("s{set}_{i:04}");
    let make = |set: usize| {
        let mut b = BatchBuilder::new();
        let s = b.stream("{}");
        for i in 0..900 {
            b.field_i64(&name(set, i), i as i64);
        }
        b.field_str("everywhere", "yes");
        b.finish_row(1, s);
        b.finish().expect("a batch")
    };
    let all = concat(&[make(1), make(2), make(3)]).expect("concat");
    check(&all).expect("shape");
    for (row, set) in [(0, 1), (1, 2), (2, 3)] {
        for i in [0, 450, 899] {
            let over = text(&all, field::OVERFLOW, row);
            let found = text(&all, &name(set, i), row).or_else(|| {
                over.as_deref().and_then(|o| overflow::get(o, &name(set, i))).map(Cow::into_owned)
            });
            assert_eq!(found, Some(i.to_string()), "set {set} field {i}");
        }
        assert_eq!(text(&all, "everywhere", row).as_deref(), Some("yes"));
    }
}

#[test]
fn float_text_has_one_form() {
    for (value, text) in
        [(1.0, "1"), (0.1, "0.1"), (-2.5, "-2.5"), (1e21, "1000000000000000000000"), (-0.0, "-0")]
    {
        assert_eq!(float_text(value), text);
    }
}

#[test]
fn a_wrong_shape_is_named() {
    let good = batch(&[&[("a", "1")]]);
    let swapped = good.project(&[1, 0, 2]).expect("project");
    assert_eq!(check(&swapped).expect_err("swapped").column, "_time");
}
