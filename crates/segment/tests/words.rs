//! Filters of words: of what is there, nothing is refuted.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;

use lodge_record::field;
use lodge_segment::predicate::{FieldTest, Phrase, Predicate};
use lodge_segment::{Words, word_fields};

fn batch(column: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([(field::MSG, column)]).expect("one column")
}

fn words_of(texts: &[String]) -> Words {
    let plain: StringArray = texts.iter().map(Some).collect();
    // As slices of one array and as a dictionary.
    let third = texts.len() / 3;
    let rest: Vec<&str> = texts.iter().skip(2 * third).map(String::as_str).collect();
    let dictionary: DictionaryArray<Int32Type> = rest.into_iter().collect();
    let batches = [
        batch(Arc::new(plain.slice(0, third))),
        batch(Arc::new(plain.slice(third, third))),
        batch(Arc::new(dictionary)),
    ];
    Words::of(&batches, [field::MSG])
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-c]{1,3}",
        "[a-z0-9]{1,70}",
        "[ -~]{0,9}",
        "[ .:_/-]",
        Just("İK é".to_owned()),
        Just("ERROR failed".to_owned()),
        Just("c1356168-b896-4634-91f1-026a2900aa6c".to_owned()),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn tests_of(text: &str, other: &str) -> Vec<FieldTest> {
    let two = || vec![Phrase::whole(text), Phrase::whole(other)];
    vec![
        FieldTest::phrase(text),
        FieldTest::prefix(text),
        FieldTest::phrase_any_case(text),
        FieldTest::prefix_any_case(text),
        FieldTest::ContainsAll(two()),
        FieldTest::ContainsAny(two()),
        FieldTest::Sequence(two()),
        FieldTest::exact(text),
        FieldTest::ExactPrefix(text.to_owned()),
        FieldTest::Substring(text.to_owned()),
        FieldTest::In([text.to_owned(), other.to_owned()].into()),
    ]
}

proptest! {
    #[test]
    fn what_is_refuted_matches_nothing(
        texts in proptest::collection::vec(text(), 0..12),
        wanted in text(), other in "[a-c]{1,2}",
        cut in any::<[prop::sample::Index; 3]>(),
    ) {
        let words = words_of(&texts);
        let mut asked = vec![wanted];
        if !texts.is_empty() {
            // A part of a text that is there.
            let chars: Vec<char> = cut[0].get(&texts).chars().collect();
            let (a, b) = (cut[1].index(chars.len() + 1), cut[2].index(chars.len() + 1));
            asked.push(chars[a.min(b)..a.max(b)].iter().collect());
        }
        for test in asked.iter().flat_map(|text| tests_of(text, &other)) {
            if words.refute(field::MSG, &test) {
                prop_assert!(!texts.iter().any(|text| test.matches(text)), "{:?}", test);
                prop_assert!(!test.matches(""), "{:?}", test);
            }
        }
    }
}

#[test]
fn words_are_found_and_few_others_are() {
    let text = |no: u32| format!("worker-{no} took {}ms for request req{no:x}", no % 977);
    let texts: Vec<String> = (0..20_000).map(text).collect();
    let words = words_of(&texts);
    let absent = |word: &str| words.refute(field::MSG, &FieldTest::phrase(word));
    assert!((0..20_000).all(|no: u32| !absent(&format!("req{no:x}"))));
    assert!(!absent("WORKER-17 took 17ms") && absent("xyloneedle7q"));
    let found = (20_000..40_000).filter(|no| !absent(&format!("req{no:x}"))).count();
    assert!(found < 400, "{found} of 20,000");
    assert!(words.memory_bytes() < texts.iter().map(String::len).sum::<usize>() / 7);
}

#[test]
fn nothing_is_said_of_what_is_not_text_in_a_column() {
    let absent = FieldTest::phrase("xyloneedle7q");
    let of = |columns: Vec<(&str, ArrayRef)>, name: &str| {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        );
        Words::of(&[batch.expect("columns")], [name]).refute(name, &absent)
    };
    let texts = || Arc::new(StringArray::from(vec![Some("a b"), None])) as ArrayRef;
    let spilled = || {
        let text = r#"{"app":"xyloneedle7q"}"#;
        Arc::new(StringArray::from(vec![None, Some(text)])) as ArrayRef
    };
    assert!(of(vec![("app", texts())], "app"));
    let dictionary: DictionaryArray<Int32Type> = ["x", "y"].into_iter().collect();
    assert!(of(vec![("app", Arc::new(dictionary))], "app"));
    assert!(!of(vec![("app", Arc::new(Int64Array::from(vec![1, 2])))], "app"));
    assert!(!of(vec![("app", texts()), (field::OVERFLOW, spilled())], "app"));
    assert!(of(vec![(field::MSG, texts()), (field::OVERFLOW, spilled())], field::MSG));
    assert!(!Words::default().refute("app", &absent));
}

#[test]
fn fields_are_asked_for_words() {
    let word = |name: &str| Predicate::field(name, FieldTest::phrase("failed"));
    let predicate = Predicate::and([
        word(field::MSG).not(),
        Predicate::or([word("app"), word(field::STREAM), Predicate::field("n", FieldTest::Any)]),
        Predicate::field("part", FieldTest::Substring("fail".to_owned())),
    ]);
    assert_eq!(word_fields(&predicate).into_iter().collect::<Vec<_>>(), [field::MSG, "app"]);
}
