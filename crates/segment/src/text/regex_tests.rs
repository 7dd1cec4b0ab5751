//! Regular expressions over the whole column against the same expressions over plain texts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::prepare::Plan;
use super::slot::{Digits, Kind};
use super::tests::{Opened, check, open, picks, texts, uuid};
use crate::bits::Mask;
use crate::predicate::{FieldTest, Pattern};

/// An expression, if it is one.
fn regex(source: &str) -> Option<FieldTest> {
    Pattern::new(source).ok().map(FieldTest::Regex)
}

/// Expressions of what texts hold and of what is special to expressions.
fn expression() -> impl Strategy<Value = String> {
    let atom = proptest::sample::select(
        &[
            "error",
            "err",
            "user",
            "Err",
            "a",
            "b",
            "abcd",
            "o",
            "é",
            "ошибка",
            " ",
            ": ",
            "=",
            "_",
            r"\.",
            "-",
            "/",
            "0",
            "1",
            "2",
            "12",
            "00",
            "7",
            "f",
            "10",
            "ms",
            "w",
            "0x",
            "abcd0000",
            r"\d",
            r"\d+",
            r"\d{2}",
            r"\d{1,3}",
            "[0-9]",
            "[1-4]+",
            "[0-9a-f]+",
            "[a-f0-9]{4}",
            "[A-F]",
            "[^0-9]",
            r"\w",
            r"\w+",
            r"\W",
            r"\s",
            ".",
            ".*",
            ".+?",
            ".{3}",
            r"\b",
            r"\B",
            "^",
            "$",
            r"\A",
            r"\z",
            "(?i)E",
            "(?i:ABCD)",
            "(?-u:.)",
            r"(?-u)\b",
            r"(?-u:\d\b)",
            "(?s).",
        ][..],
    );
    let atom = atom.prop_map(str::to_owned);
    atom.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            6 => vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            2 => vec(inner.clone(), 2..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            1 => inner.clone().prop_map(|part| format!("(?:{part})?")),
            1 => inner.clone().prop_map(|part| format!("(?:{part})+")),
            1 => inner.prop_map(|part| format!("(?:{part}){{2}}")),
        ]
    })
}

/// How many templates are walked along, and how many are looked at as texts.
fn plans(opened: &Opened, test: &FieldTest) -> (usize, usize) {
    let planned = opened.prepare(test).planned;
    let count = |of: fn(&Plan) -> bool| planned.iter().filter(|one| of(&one.plan)).count();
    let walked = count(|plan| matches!(plan, Plan::Walk(..)));
    (walked, count(|plan| matches!(plan, Plan::Decode)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]
    #[test]
    fn expressions_say_what_they_say_of_the_text_model(
        texts in texts(),
        sources in vec(expression(), 16),
        from in 0usize..200,
        seed in any::<u64>(),
    ) {
        let Some(opened) = open(&texts) else { return Ok(()) };
        let from = from.min(texts.len());
        for source in sources {
            let Some(test) = regex(&source) else { continue };
            check(&opened, &texts, &test, None, 0);
            check(&opened, &texts, &test, Some(&picks(texts.len() - from, seed)), from);
        }
    }
}

/// Rows of templates with slots of all kinds, over several pages and blocks.
fn long() -> Vec<String> {
    let mix =
        |row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ row.wrapping_mul(0xc2b2_ae35) >> 7;
    let who = ["ann", "bob", "carla", "Dmitri", "eve", "beef", "42", "w7", "a"];
    (0..30_000u64)
        .map(|row| {
            let random = mix(row) >> 20;
            match row % 3 {
                0 => format!(
                    "{} got {random} and {:05} by {:04x} or {:06X} in {}ms",
                    who[row as usize / 3 % who.len()],
                    random % 30_000,
                    random & 0xffff,
                    random & 0xff_ffff,
                    random % 900,
                ),
                1 => format!(
                    "id {} key {:032x} tag {}z{} of {:016x}",
                    uuid(u128::from(random)),
                    u128::from(mix(row)) * u128::from(mix(row + 1)),
                    random % 7_919,
                    "q".repeat((random % 4) as usize),
                    mix(row),
                ),
                _ => format!(
                    "10.{}.{}.{} 200 {} {}",
                    random % 4,
                    random % 256,
                    random / 256 % 256,
                    u64::MAX - random,
                    if row % 2 == 0 { "é done" } else { "done" },
                ),
            }
        })
        .collect()
}

#[test]
fn slots_of_all_kinds_are_walked_along() {
    let texts = long();
    let opened = open(&texts).expect("is worth it");
    let few = Mask::collect(texts.len() - 77, |row| row % 331 == 0);
    for (source, walked) in [
        (r"[0-9]{3}\.[0-9]{2,3} ", true),
        (r"\.1[0-9]\.", true),
        (r"^(bob|w7) got \d*7 and", true),
        (r"and 0\d+3 by", true),
        ("by [a-f]+ or", true),
        ("or [0-9A-F]*AA in", true),
        (r"\b9\d+ms\b", true),
        ("(?i)DMITRI|[^0-9]5ms", true),
        ("id [0-9a-f]*[a-f]{4}-", true),
        ("-[0-9]{12} key", true),
        ("key 0*[0-9]{6}", true),
        ("tag [0-9]*z(q{2})? of", true),
        ("[0-9]z.*ff$", true),
        ("00[0-9] (é )?done$", true),
        (r"(?-u:\b)2\d?(?-u:\b).*done", true),
        (r"\b2\d?\b.*done", true),
        (".*", false),
        ("^$", false),
        ("got [0-9]+ and", false),
        ("nobody here", false),
    ] {
        let test = regex(source).expect("is one");
        let (walks, _) = plans(&opened, &test);
        assert_eq!(walks > 0, walked, "{source}");
        check(&opened, &texts, &test, None, 0);
        check(&opened, &texts, &test, Some(&picks(texts.len() - 77, 5)), 77);
        check(&opened, &texts, &test, Some(&few), 77);
    }
}

#[test]
fn few_rows_are_looked_at_and_then_found_in_what_is_kept() {
    let texts = long();
    let opened = open(&texts).expect("is worth it");
    let test = regex(r"\b9\d+ms").expect("is one");
    let prepared = opened.prepare(&test);
    let few = Mask::collect(texts.len(), |row| row % 331 == 0);
    let select = |within| {
        let all = 0..texts.len();
        opened.column.select(&prepared, &opened.sections, all, within).expect("selects")
    };
    let first = select(Some(&few));
    let pages = || prepared.planned.iter().flat_map(|planned| &planned.pages);
    let kept = || pages().filter(|page| page.get().is_some()).count();
    assert_eq!(kept(), 0);
    let mut all = select(None);
    assert!(kept() > 1);
    assert_eq!(select(Some(&few)), first);
    all.and(&few);
    assert_eq!(all, first);
}

#[test]
fn what_no_automaton_can_tell_is_looked_up_in_texts() {
    let texts = long();
    let opened = open(&texts).expect("is worth it");
    // More states than are allowed at one place, and than there is room for.
    for source in ["[02468ace].{9}3.* ", r"(?:[0-9].{40}5|\d.{60}7){3}"] {
        let test = regex(source).expect("is one");
        let (_, decoded) = plans(&opened, &test);
        assert!(decoded > 0, "{source}");
        check(&opened, &texts, &test, None, 0);
    }
}

#[test]
fn a_value_beyond_what_its_slot_tells_is_looked_up_in_the_text() {
    let texts: Vec<String> = (0..16_000u64).map(|row| format!("job {} ends", row * 7)).collect();
    let mut opened = open(&texts).expect("is worth it");
    let slot = &mut opened.column.template_mut(1).slots[0];
    let Kind::Number { digits: Digits::Decimal { most, .. }, .. } = &mut slot.kind else {
        panic!("not a number: {:?}", slot.kind);
    };
    *most = 9;
    let test = regex(r"[57] ends|\d[5-8][0-9]").expect("is one");
    let (walked, decoded) = plans(&opened, &test);
    assert!(walked > 0 && decoded == 0);
    check(&opened, &texts, &test, None, 0);
}
