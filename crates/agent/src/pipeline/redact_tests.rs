//! Whatever stands around a secret and wherever it stands: nothing of it is left in the batch.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::RecordBatch;
use base64::Engine;
use lodge_record::builder::BatchBuilder;
use lodge_record::{Batch, schema};
use lodge_wire::agent_batch;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::counters::Counters;
use crate::parse::{Context, RecordParser, Text};
use crate::pipeline::settings::PatternConfig;
use crate::timestamp::TimeContext;

fn redactor() -> Redactor {
    let pattern = |name: &str, regex: &str, with: &str| PatternConfig {
        name: name.into(),
        regex: regex.into(),
        with: with.into(),
    };
    let config = RedactConfig {
        builtin: vec![Builtin::Card, Builtin::Token, Builtin::Email],
        patterns: vec![pattern("staff", "staff-(\\d{6})", "******")],
    };
    Redactor::new(&config).expect("right").expect("something to do")
}

fn without_patterns() -> Redactor {
    let builtin = vec![Builtin::Card, Builtin::Token, Builtin::Email];
    let config = RedactConfig { builtin, patterns: Vec::new() };
    Redactor::new(&config).expect("right").expect("something to do")
}

fn parsed(lines: &[Vec<u8>], labels: &BTreeMap<String, String>) -> RecordBatch {
    let counters = Counters::default();
    let context = Context { time: TimeContext::system(0), counters: &counters };
    let mut parser = RecordParser::for_file("h", Path::new("/var/log/a.log"), labels);
    let mut builder = BatchBuilder::new();
    for line in lines {
        let original_bytes = line.len() as u64;
        parser.append(&mut builder, Text::head(line, original_bytes), &context);
    }
    builder.finish().expect("a batch")
}

/// The bytes of a batch on the wire, and those that it holds in base64.
fn all_bytes(records: &RecordBatch) -> Vec<u8> {
    schema::check(records).expect("the shape of a batch");
    let batch = Batch::new(Default::default(), None, None, records.clone()).expect("the shape");
    let mut bytes = agent_batch::encode(&batch).expect("it encodes");
    for column in records.columns() {
        for row in 0..records.num_rows() {
            let text = schema::value_text(column, row).unwrap_or_default();
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
            bytes.extend(STANDARD.decode(text.as_bytes()).unwrap_or_default());
        }
    }
    bytes
}

fn contains(bytes: &[u8], part: &str) -> bool {
    memchr::memmem::find(bytes, part.as_bytes()).is_some()
}

fn column<'r>(records: &'r RecordBatch, name: &str) -> Vec<Option<Cow<'r, str>>> {
    let column = records.column_by_name(name).expect("it is there");
    (0..records.num_rows()).map(|row| schema::value_text(column, row)).collect()
}

fn text_of(rng: &mut SmallRng, alphabet: &[u8], length: usize) -> String {
    let byte = |_| char::from(*alphabet.choose(rng).expect("some"));
    (0..length).map(byte).collect()
}

/// A secret, what must not be left of it, and whether it needs a telling word or name before it.
fn secret(rng: &mut SmallRng) -> (String, String, bool) {
    const ANY: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    match rng.random_range(0..7) {
        0 => {
            let mut digits: Vec<u8> = b"4".to_vec();
            digits.extend((0..14).map(|_| rng.random_range(b'0'..=b'9')));
            let right = (b'0'..=b'9').find(|last| {
                let number: u64 = String::from_utf8_lossy(&[&digits[..], &[*last]].concat())
                    .parse()
                    .expect("digits");
                card::is_card_number(number)
            });
            digits.push(right.expect("one digit makes the sum right"));
            let number = String::from_utf8(digits).expect("digits");
            (number.clone(), number, false)
        }
        1 => {
            let token = format!("ghp_{}", text_of(rng, ANY, 36));
            (token.clone(), token, false)
        }
        2 => {
            let tail = text_of(rng, b"ABCDEFGHIJKLMNOP234567", 16);
            (format!("AKIA{tail}"), tail, false)
        }
        3 => {
            let name = text_of(rng, ANY, 12);
            (format!("{name}@mail.example.org"), name, false)
        }
        4 => {
            let digits = text_of(rng, b"0123456789", 6);
            (format!("staff-{digits}"), format!("staff-{digits}"), false)
        }
        5 => {
            let payload = text_of(rng, ANY, 30);
            (format!("eyJhbGciOiJIUzI1NiJ9.eyJ{payload}.{payload}"), payload, false)
        }
        _ => {
            let word = text_of(rng, ANY, 14);
            (word.clone(), word, true)
        }
    }
}

/// A line with the secret somewhere in it.
fn line(rng: &mut SmallRng, secret: &str, needs_name: bool) -> Vec<u8> {
    let name = if needs_name { "password" } else { "note" };
    let around = ["", " ", "(", "é ", "\u{fffd}", "日本 ", "42 ", "a b ", "' "];
    let before = *around.choose(rng).expect("some");
    let after = *["", " ", ")", " é", "\u{fffd}", ", x", " 42", "; y=1"].choose(rng).expect("some");
    let json = |text: &str| serde_json::to_string(text).expect("it encodes");
    let is_number = secret.bytes().all(|b| b.is_ascii_digit());
    let keyed = format!("{before}{name}={secret}{after}");
    let shape = rng.random_range(0..9);
    let mut line = match shape {
        0 => format!("{keyed} end"),
        1 => format!("level=info {name}={secret} n=1"),
        2 => format!("{{\"msg\":{},\"n\":1}}", json(&keyed)),
        3 => format!("{{\"msg\":\"m\",\"{name}\":{}}}", json(secret)),
        4 => format!("{{\"a\":{{\"b\":{{\"{name}\":{}}}}}}}", json(secret)),
        5 => format!("{{\"list\":[{{\"{name}\":{}}},2]}}", json(secret)),
        6 if is_number => format!("{{\"msg\":\"m\",\"id\":{secret}}}"),
        7 => format!(
            "{{\"p\\u0061d\":1,\"body\":{}}}",
            json(&format!("{{\"{name}\":\"{secret}\"}}"))
        ),
        8 => format!("{{\"{}\":{}}}", name.replace('a', "\\u0061"), json(secret)),
        _ => keyed,
    }
    .into_bytes();
    // Escapes in the name are understood where the line is JSON, which it would not be any more.
    if shape != 8 && rng.random_bool(0.4) {
        let broken: &[u8] = [&b"\xff"[..], b"\xc3", b" \xe6\x97 "].choose(rng).expect("some");
        match rng.random_bool(0.5) {
            true => line.extend_from_slice(broken),
            false => {
                // Within JSON too: behind the first quote.
                let at = line.iter().position(|b| *b == b'"').map_or(0, |at| at + 1);
                line.splice(at..at, broken.iter().copied());
            }
        }
    }
    line
}

#[test]
fn nothing_of_a_secret_is_left_model() {
    let redactors = [redactor(), without_patterns()];
    for seed in 0..3_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (secret, rest, needs_name) = secret(&mut rng);
        let redactor = &redactors[usize::from(!rest.starts_with("staff") && seed % 2 == 0)];
        let count = *[1, 3, 200].choose(&mut rng).expect("some");
        let mut lines: Vec<Vec<u8>> =
            (0..count).map(|n| format!("line {n}").into_bytes()).collect();
        let hit = line(&mut rng, &secret, needs_name);
        // A value that repeats is in a dictionary.
        let repeats = if rng.random_bool(0.3) { count } else { 1 };
        for place in lines.iter_mut().take(repeats) {
            place.clone_from(&hit);
        }
        let mut labels = BTreeMap::new();
        if rng.random_bool(0.2) {
            let name = if needs_name { "api_key" } else { "owner" };
            labels.insert(name.to_owned(), format!("{secret}\"x"));
        }
        let before = parsed(&lines, &labels);
        let after = redactor.apply(before.clone());
        let shown = String::from_utf8_lossy(&hit).into_owned();
        let place = memchr::memmem::find(&all_bytes(&after), rest.as_bytes());
        assert!(place.is_none(), "seed {seed}: {rest:?} of {shown:?} is left");
        assert_eq!(after.num_rows(), before.num_rows());
        // Once is enough.
        assert_eq!(redactor.apply(after.clone()), after, "seed {seed}: {shown:?}");
    }
    let totals = redactors[0].totals();
    assert!(totals.iter().all(|kind| kind.count > 0), "{totals:?}");
}

#[test]
fn a_batch_without_secrets_is_handed_through() {
    let lines: Vec<Vec<u8>> = (0..500)
        .map(|n| {
            format!("{{\"msg\":\"user {n} in\",\"n\":{n},\"at\":17639241291{n:02}}}").into_bytes()
        })
        .chain([b"damaged \xff line".to_vec()])
        .collect();
    let before = parsed(&lines, &BTreeMap::new());
    let after = redactor().apply(before.clone());
    assert_eq!(after, before);
    assert!(redactor().totals().iter().all(|kind| kind.count == 0));
}

#[test]
fn fields_in_the_overflow_are_redacted() {
    let mut builder = BatchBuilder::new();
    for n in 0..1_100 {
        builder.field_str(&format!("f{n:04}"), "x");
    }
    builder.field_str("zz_note", "card 4111 1111 1111 1111");
    builder.field_str("zz_password", "hunter2");
    let stream = builder.stream("{}");
    builder.finish_row(0, stream);
    let out = redactor().apply(builder.finish().expect("a batch"));
    let bytes = all_bytes(&out);
    assert!(!contains(&bytes, "4111 1111") && !contains(&bytes, "hunter2"));
    let overflow = column(&out, "_overflow")[0].clone().expect("it is there");
    let get = |name: &str| lodge_record::overflow::get(&overflow, name).map(Cow::into_owned);
    assert_eq!(get("zz_note").as_deref(), Some("card [redacted:card]"));
    assert_eq!(get("zz_password").as_deref(), Some("[redacted:token]"));
    assert_eq!(get("f1050").as_deref(), Some("x"));
}

#[test]
fn a_number_that_is_a_card_becomes_text_and_the_others_stay() {
    let lines = ["{\"pan\":4111111111111111}", "{\"pan\":17}", "{\"pan\":2.5}", "{\"other\":1}"];
    for count in [2, 3, 4] {
        let lines: Vec<Vec<u8>> = lines.iter().take(count).map(|l| l.as_bytes().to_vec()).collect();
        let redactor = redactor();
        let out = redactor.apply(parsed(&lines, &BTreeMap::new()));
        let expected = [Some("[redacted:card]"), Some("17"), Some("2.5"), None];
        let found = column(&out, "pan");
        let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        assert_eq!(found, expected[..count]);
        assert_eq!(redactor.totals()[0].count, 1);
    }
}

#[test]
fn a_key_whose_lines_are_records_is_hidden_to_its_last_line() {
    let body = "MIIEpAIBAAKCAQEAx7Rk3vYq9sGq2mNn0pQ4cT5uV6wX7yZ8aB9cD0eF1gH2iJ3k";
    let key = [
        "before".to_owned(),
        "-----BEGIN RSA PRIVATE ".to_owned() + "KEY-----",
        body.to_owned(),
        "abCD12lastLine==".to_owned(),
        "-----END RSA PRIVATE KEY-----".to_owned(),
        "after".to_owned(),
        body.to_owned(),
    ];
    let lines: Vec<Vec<u8>> = key.iter().map(|line| line.clone().into_bytes()).collect();
    let out = redactor().apply(parsed(&lines, &BTreeMap::new()));
    let bytes = all_bytes(&out);
    assert!(!contains(&bytes, body) && !contains(&bytes, "lastLine"));
    let messages = column(&out, "_msg");
    assert_eq!((messages[0].as_deref(), messages[5].as_deref()), (Some("before"), Some("after")));
}

#[test]
fn what_redacts_its_own_work_is_refused() {
    for (regex, with) in [("\\w+", "hidden text"), ("x+", "ax"), ("a", "me@example.org")] {
        let pattern = PatternConfig { name: "p".into(), regex: regex.into(), with: with.into() };
        let builtin = vec![Builtin::Email];
        let error = Redactor::new(&RedactConfig { builtin, patterns: vec![pattern] })
            .expect_err("it would go on forever");
        assert!(error.to_string().contains("redacted again"), "{error}");
    }
}

/// Looking at the whole of a text again for each number in it would take minutes here.
#[test]
fn a_long_line_of_long_numbers_takes_no_time() {
    let line = "blk_1234567890123456789 4111 1111 1111 1112 a@b ".repeat(60_000).into_bytes();
    let before = parsed(&[line], &BTreeMap::new());
    for redactor in [redactor(), without_patterns()] {
        assert_eq!(redactor.apply(before.clone()), before);
    }
}
