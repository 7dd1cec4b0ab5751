//! Tests of walking one JSON object.

use proptest::prelude::*;
use serde_json::Value as Serde;

use super::*;

fn fields(text: &str) -> Result<Vec<String>, JsonError> {
    let mut out = Vec::new();
    for_each_field(text, |name, value| out.push(format!("{name}={value:?}")))?;
    Ok(out)
}

#[test]
fn leaves_with_dotted_names() {
    let text = r#" {"a":1.50,"b":{"c":"x\ny","d":{"e":true}},"f":[1,{"g":2}],"h":null,"i":{}} "#;
    let expected = [
        "a=Number(\"1.50\")",
        "b.c=Text(\"x\\ny\")",
        "b.d.e=Bool(true)",
        "f=Json(\"[1,{\\\"g\\\":2}]\")",
    ];
    assert_eq!(fields(text), Ok(expected.map(String::from).to_vec()));
    assert_eq!(fields("{}"), Ok(vec![]));
}

#[test]
fn what_is_no_object_is_refused() {
    for bad in [
        "",
        "[]",
        "1",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1",
        "{\"a\":1} x",
        "nul",
        "{\"a\":tru}",
        "{\"a\":\"b}",
        "{\"a\":1}}",
        "{\"a\":1}{\"b\":2}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":[1,2}",
        "{\"a\":\"\t\"}",
    ] {
        let outcome = fields(bad);
        assert!(outcome.is_err(), "{bad:?} gave {outcome:?}");
    }
}

#[test]
fn depth_is_bounded() {
    let deep = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
    assert!(fields(&deep(100)).is_ok());
    assert_eq!(fields(&deep(100_000)), Err(JsonError::TooDeep));
    let objects = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
    let found = fields(&objects).expect("kept");
    assert!(found[0].contains("Json("), "{found:?}");
    let brackets = format!("{{\"a\":\"{}\"}}", "[".repeat(1000));
    assert_eq!(fields(&brackets).map(|f| f.len()), Ok(1));
}

#[test]
fn a_lone_surrogate_is_kept_visible() {
    assert_eq!(fields(r#"{"a":"x\ud800"}"#), Ok(vec![r#"a=Text("x\\ud800")"#.into()]));
}

#[test]
fn escapes_become_what_they_stand_for() {
    let text = r#"{"a\"\u0062":"\ud83d\ude00\/\b\f\n\r\t\\\"\u00e9","c":{"\u0064":"e"}}"#;
    let expected = ["a\"b=Text(\"😀/\\u{8}\\u{c}\\n\\r\\t\\\\\\\"é\")", "c.d=Text(\"e\")"];
    assert_eq!(fields(text), Ok(expected.map(String::from).to_vec()));
    for bad in [r#"{"a":"\x"}"#, r#"{"a":"\u12g4"}"#, r#"{"a":["\u12"]}"#, r#"{"a":"\"}"#] {
        assert!(fields(bad).is_err(), "{bad}");
    }
}

/// The leaves as a tree of serde_json has them.
fn flatten(name: &str, value: &Serde, out: &mut Vec<(String, String)>) {
    match value {
        Serde::Null => {}
        Serde::Object(fields) => {
            for (key, value) in fields {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, out);
            }
        }
        Serde::String(text) => out.push((name.to_owned(), text.clone())),
        other => out.push((name.to_owned(), other.to_string())),
    }
}

/// Guesses the first of its names, then the second, whatever comes.
struct Guessing<'g> {
    guesses: [&'g Guess; 2],
    names: [&'g str; 2],
    found: Vec<(String, String)>,
}

impl Leaves for Guessing<'_> {
    fn guesses(&self) -> [Option<&Guess>; 2] {
        self.guesses.map(Some)
    }

    fn guessed(&mut self, guess: usize, value: JsonValue<'_>) {
        self.leaf(self.names[guess], value);
    }

    fn leaf(&mut self, name: &str, value: JsonValue<'_>) {
        self.found.push((name.to_owned(), value.as_text().to_owned()));
    }
}

fn json() -> impl Strategy<Value = Serde> {
    let leaf = prop_oneof![
        Just(Serde::Null),
        any::<bool>().prop_map(Serde::from),
        any::<i64>().prop_map(Serde::from),
        "\\PC{0,20}".prop_map(Serde::from),
        "[\"\\\\\u{0}-\u{1f}é😀]{0,9}".prop_map(Serde::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Serde::from),
            proptest::collection::vec(("[a-c\"\\\\]{1,3}", inner), 0..4)
                .prop_map(|fields| Serde::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn leaves_are_those_of_serde_json_fuzz(
        values in proptest::collection::vec(("[a-d]{1,2}|[a-z_]{12,20}", json()), 0..6),
        pretty in any::<bool>(),
    ) {
        let object = Serde::Object(values.into_iter().collect());
        let text = if pretty { format!("{object:#}") } else { object.to_string() };
        let mut expected = Vec::new();
        flatten("", &object, &mut expected);
        let mut found = Vec::new();
        for_each_field(&text, |name, value| {
            let value = match value {
                // Arrays stay as they were sent, with their blank space.
                JsonValue::Json(text) => {
                    serde_json::from_str::<Serde>(text).expect("JSON").to_string()
                }
                value => value.as_text().to_owned(),
            };
            found.push((name.to_owned(), value));
        })
        .map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn what_is_accepted_is_what_serde_json_accepts_fuzz(
        text in "[{}\\[\\]\":,a10.eE+\\\\u \u{1}\t-]{0,12}|\\{\"a\":[{}\\[\\]\":,0-9.truefalsn eE+\\\\-]{0,12}\\}",
    ) {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let is_object = is_json && text.trim_ascii_start().starts_with('{');
        prop_assert_eq!(fields(&text).is_ok(), is_object, "{:?}: {:?}", text, fields(&text));
    }

    #[test]
    fn a_changed_byte_changes_the_verdict_as_for_serde_json_fuzz(
        value in json(), at in any::<proptest::sample::Index>(), to in 0u8..0x80,
    ) {
        let mut bytes = serde_json::to_vec(&serde_json::json!({"a": value})).expect("JSON");
        let place = at.index(bytes.len());
        bytes[place] = to;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            let is_object = is_json && text.trim_ascii_start().starts_with('{');
            prop_assert_eq!(fields(text).is_ok(), is_object, "{:?}", text);
        }
    }

    #[test]
    fn guesses_change_nothing_fuzz(
        values in proptest::collection::vec(("[a-d]|[a-z_]{15,17}", json()), 1..6),
        first in any::<proptest::sample::Index>(),
        second in any::<proptest::sample::Index>(),
        pretty in any::<bool>(),
    ) {
        let names = [first, second].map(|i| values[i.index(values.len())].0.clone());
        let object = Serde::Object(values.into_iter().collect());
        let text = if pretty { format!("{object:#}") } else { object.to_string() };
        let mut plain = Vec::new();
        for_each_field(&text, |n, v| plain.push((n.to_owned(), v.as_text().to_owned())))
            .expect("JSON");
        let guesses = [Guess::new(&names[0]), Guess::new(&names[1])];
        let mut guessing = Guessing {
            guesses: [&guesses[0], &guesses[1]],
            names: [&names[0], &names[1]],
            found: Vec::new(),
        };
        walk(&text, &mut guessing).expect("JSON");
        prop_assert_eq!(guessing.found, plain);
    }
}
