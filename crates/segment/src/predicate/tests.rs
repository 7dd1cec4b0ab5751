//! The fast paths on columns against the plain test of each value's text.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrow::record_batch::RecordBatch;
use lodge_record::schema::value_text;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TEXTS: &[&str] = &[
    "",
    "a",
    "error",
    "errors",
    "an error",
    "Error: x",
    "ошибка",
    "xerror error",
    "10",
    "-3",
    "1.5",
    "true",
    "10ms",
    "10.0.0.7",
    "error_1",
    "erro",
    "errorerror",
    "2001:db8::1",
    "2026-01-02T03:04:05Z",
    "[\"error\",10]",
    "256",
];

fn texts() -> impl Strategy<Value = Vec<Option<String>>> {
    let text = proptest::sample::select(TEXTS).prop_map(str::to_owned);
    vec(proptest::option::weighted(0.8, text), 0..80)
}

/// A column of each type that records can have, some sliced.
fn column() -> impl Strategy<Value = ArrayRef> {
    let sliced = |array: ArrayRef, cut: usize| {
        let cut = cut.min(array.len());
        array.slice(cut, array.len() - cut)
    };
    prop_oneof![
        (texts(), 0usize..5)
            .prop_map(move |(texts, cut)| sliced(Arc::new(StringArray::from(texts)), cut)),
        (texts(), 0usize..5).prop_map(move |(texts, cut)| {
            let texts: DictionaryArray<Int32Type> = texts.iter().map(Option::as_deref).collect();
            sliced(Arc::new(texts), cut)
        }),
        vec(proptest::option::of(-12i64..12), 0..80)
            .prop_map(|values| Arc::new(Int64Array::from(values)) as ArrayRef),
        vec(proptest::option::of(-4.0..4.0f64), 0..80)
            .prop_map(|values| Arc::new(Float64Array::from(values)) as ArrayRef),
        vec(proptest::option::of(any::<bool>()), 0..80)
            .prop_map(|values| Arc::new(BooleanArray::from(values)) as ArrayRef),
        vec(proptest::option::of(any::<i64>()), 0..20).prop_map(|values| {
            Arc::new(TimestampNanosecondArray::from(values).with_timezone("UTC")) as ArrayRef
        }),
    ]
}

fn test() -> impl Strategy<Value = FieldTest> {
    let text = || proptest::sample::select(TEXTS);
    let number = || proptest::sample::select(&[-3.0, 0.0, 1.5, 10.0, 1e7][..]);
    prop_oneof![
        Just(FieldTest::Empty),
        Just(FieldTest::Any),
        text().prop_map(FieldTest::phrase),
        text().prop_map(FieldTest::prefix),
        text().prop_map(FieldTest::phrase_any_case),
        text().prop_map(FieldTest::exact),
        text().prop_map(|text| FieldTest::ExactPrefix(text.to_owned())),
        text().prop_map(|text| FieldTest::Substring(text.to_owned())),
        vec(text(), 0..3)
            .prop_map(|texts| FieldTest::In(texts.into_iter().map(Into::into).collect())),
        vec(text(), 0..3).prop_map(|texts| FieldTest::ContainsAny(
            texts.into_iter().map(Phrase::whole).collect()
        )),
        (number(), any::<bool>(), number(), any::<bool>()).prop_map(
            |(min, min_open, max, max_open)| FieldTest::Number(NumberRange {
                min,
                min_open,
                max,
                max_open
            })
        ),
        Just(FieldTest::Regex(Pattern::new("^.r+|0").expect("a valid expression"))),
        Just(FieldTest::Ipv4 { min: 0, max: u32::MAX }),
        Just(FieldTest::Length { min: 2, max: 5 }),
        Just(FieldTest::Ipv6 { min: 1, max: u128::MAX }),
        proptest::sample::select(ValueKind::ALL.map(|(_, kind)| kind).to_vec())
            .prop_map(FieldTest::Kind),
        vec(text(), 0..3)
            .prop_map(|texts| FieldTest::JsonArray(texts.into_iter().map(Into::into).collect())),
        proptest::sample::select(&["<N>", "error<W>", "<N>.<N>", "-<N>"][..]).prop_map(|text| {
            let pattern = Pattern::placeholders(text, Ends::Open);
            FieldTest::Regex(pattern.expect("a valid pattern"))
        }),
    ]
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
}

proptest! {
    #[test]
    fn every_column_type_gives_the_answer_of_its_text_model(
        column in column(),
        tests in vec(test(), 1..6),
    ) {
        let records = batch(vec![("x", column.clone())]);
        let expected = |test: &FieldTest| -> Vec<bool> {
            (0..column.len())
                .map(|row| test.matches(&value_text(&column, row).unwrap_or_default()))
                .collect()
        };
        let given = |predicate: &Predicate| -> Vec<bool> {
            evaluate(predicate, &records).values().iter().collect()
        };
        let mut all = vec![true; column.len()];
        let mut any = vec![false; column.len()];
        for test in &tests {
            let one = expected(test);
            prop_assert_eq!(&given(&Predicate::field("x", test.clone())), &one, "{}", test);
            let opposite: Vec<bool> = one.iter().map(|bit| !bit).collect();
            prop_assert_eq!(&given(&Predicate::field("x", test.clone()).not()), &opposite);
            for (row, bit) in one.iter().enumerate() {
                all[row] &= bit;
                any[row] |= bit;
            }
        }
        // Later parts are only decided where earlier ones left rows.
        let parts = || tests.iter().map(|test| Predicate::field("x", test.clone()));
        prop_assert_eq!(given(&Predicate::and(parts())), all);
        prop_assert_eq!(given(&Predicate::or(parts())), any);
    }

    #[test]
    fn overflow_stands_in_for_missing_columns_model(
        values in vec((proptest::option::of(0i64..5), proptest::option::of(0i64..5)), 1..40),
        wanted in 0i64..5,
    ) {
        let stored: ArrayRef = Arc::new(Int64Array::from_iter(values.iter().map(|value| value.0)));
        let spilled: StringArray = values
            .iter()
            .map(|(_, value)| value.map(|value| format!("{{\"x\":\"{value}\"}}")))
            .collect();
        let spilled: ArrayRef = Arc::new(spilled);
        let test = Predicate::field("x", FieldTest::exact(&wanted.to_string()));
        let both = batch(vec![("x", stored), ("_overflow", spilled.clone())]);
        let expected: Vec<bool> =
            values.iter().map(|(stored, spilled)| stored.or(*spilled) == Some(wanted)).collect();
        prop_assert_eq!(evaluate(&test, &both).values().iter().collect::<Vec<_>>(), expected);
        let only = batch(vec![("_overflow", spilled)]);
        let expected: Vec<bool> =
            values.iter().map(|(_, spilled)| *spilled == Some(wanted)).collect();
        prop_assert_eq!(evaluate(&test, &only).values().iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn the_empty_phrase_occurs_in_every_value() {
    let column: ArrayRef = Arc::new(StringArray::from(vec![None, Some(""), Some("a"), Some("")]));
    let records = batch(vec![("x", column)]);
    for test in [
        FieldTest::ContainsAny(vec![Phrase::whole("")]),
        FieldTest::Contains(Phrase::prefix("")),
        FieldTest::Substring(String::new()),
    ] {
        let given = evaluate(&Predicate::field("x", test.clone()), &records);
        assert_eq!(given.true_count(), 4, "{test}");
    }
}

#[test]
fn verdicts_say_none_and_all_only_when_sure() {
    let schema = Schema::new(vec![Field::new("level", arrow::datatypes::DataType::Utf8, true)]);
    let streams = vec!["{app=\"api\"}".to_owned(), "{app=\"web\"}".to_owned()];
    let facts =
        Facts { time: (10, 20), streams: Some(&streams), schema: Some(&schema), words: None };
    let time = |min_ns, max_ns| Predicate::Time { min_ns, max_ns };
    let app = |value: &str| {
        let test = LabelTest::In(vec![value.to_owned()]);
        let matcher = LabelMatcher { name: "app".into(), test };
        Predicate::Stream(StreamSelector { groups: vec![vec![matcher]] })
    };
    let field = |name: &str, text: &str| Predicate::field(name, FieldTest::exact(text));
    let cases = [
        (time(10, 20), Verdict::All),
        (time(0, 9), Verdict::None),
        (time(15, 30), Verdict::Some),
        (app("api"), Verdict::Some),
        (app("db"), Verdict::None),
        (app("db").not(), Verdict::All),
        (field("level", "x"), Verdict::Some),
        (field("absent", "x"), Verdict::None),
        (field("absent", ""), Verdict::All),
        (Predicate::and([time(10, 20), field("absent", "x")]), Verdict::None),
        (Predicate::or([time(0, 9), field("absent", "")]), Verdict::All),
        (Predicate::or([time(0, 9), field("level", "")]), Verdict::Some),
    ];
    for (predicate, verdict) in cases {
        assert_eq!(predicate.verdict(&facts), verdict, "{predicate}");
    }
}

#[test]
fn time_bounds_are_those_of_the_whole_predicate() {
    let time = |min_ns, max_ns| Predicate::Time { min_ns, max_ns };
    let word = || Predicate::field("_msg", FieldTest::phrase("x"));
    assert_eq!(Predicate::and([time(0, 10), time(5, 20), word()]).time_bounds(), Some((5, 10)));
    assert_eq!(Predicate::and([time(0, 1), time(5, 20)]).time_bounds(), None);
    assert_eq!(Predicate::or([time(0, 1), time(5, 20)]).time_bounds(), Some((0, 20)));
    assert_eq!(Predicate::or([time(0, 1), word()]).time_bounds(), Some((i64::MIN, i64::MAX)));
    assert_eq!(time(i64::MIN, 9).not().time_bounds(), Some((10, i64::MAX)));
    assert_eq!(Predicate::None.time_bounds(), None);
    assert_eq!(word().within(3, 2), Predicate::None);
}
