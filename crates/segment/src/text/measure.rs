//! Measures the column on real texts: the lines of the files named by `TEXT_FILES` (separated by
//! `:`), at most `TEXT_ROWS` of each; a line of JSON stands for its `message`.

#![expect(clippy::print_stderr, reason = "figures are for the one who measures")]

use bytes::Bytes;

use super::*;
use crate::predicate::{FieldTest, Pattern};
use crate::sections::{SectionWriter, Sections};

fn messages(path: &str, most: usize) -> Vec<String> {
    use std::io::BufRead;
    let file = std::io::BufReader::new(std::fs::File::open(path).expect("is a file"));
    let message = |line: Vec<u8>| {
        let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        match line.split_once("\"message\":\"") {
            Some((_, rest)) => rest.trim_end_matches("\"}").replace("\\\"", "\""),
            None => line,
        }
    };
    file.split(b'\n').map_while(Result::ok).take(most).map(message).collect()
}

/// Nanoseconds that this thread has run: the machine may be busy with other things.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Milliseconds run since `start`.
fn ms(start: u64) -> f64 {
    (cpu_ns() - start) as f64 / 1e6
}

#[test]
#[ignore = "measures the texts of the files named by TEXT_FILES"]
fn measure() {
    let most = std::env::var("TEXT_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(1 << 20);
    for path in std::env::var("TEXT_FILES").unwrap_or_default().split(':') {
        let mut texts = messages(path, most);
        if path.ends_with("jsonl") {
            // Segments are sorted by stream; the first word stands for that here.
            texts.sort_by(|a, b| a.split(' ').next().cmp(&b.split(' ').next()));
            // In memory as a batch has them, one after the other.
            texts = texts.iter().map(|text| text.as_str().to_owned()).collect();
        }
        one(path, &texts);
    }
}

fn one(path: &str, texts: &[String]) {
    let bytes: usize = texts.iter().map(String::len).sum();
    let (mut out, mut meta) = (Vec::new(), Vec::new());
    let (mut outcome, mut spans) = (Outcome::NotWorth, Vec::new());
    for _ in 0..std::env::var("TEXT_ENCODES").ok().and_then(|n| n.parse().ok()).unwrap_or(2) {
        out.clear();
        meta.clear();
        let start = cpu_ns();
        let mut encoder = TextEncoder::new();
        texts.iter().for_each(|text| encoder.push(text));
        let pushed = ms(start);
        let mut writer = SectionWriter::new(&mut out).expect("a writer");
        outcome = encoder.finish(&mut writer, &mut meta).expect("is written");
        spans = writer.finish().2;
        let took = ms(start);
        let per_gb = took * 1e6 / bytes as f64;
        eprintln!("  push {pushed:.1} ms, finish {:.1} ms, {per_gb:.2} s/GB", took - pushed);
    }
    let all = texts.concat();
    let start = cpu_ns();
    let blocks = all.as_bytes().chunks(64 << 10);
    let blocks =
        blocks.map(|block| zstd::bulk::compress(block, 1).map_or(0, |packed| packed.len()));
    let blocks: usize = blocks.sum();
    eprintln!(
        "{path}\n  {} rows, {bytes} B: {outcome:?} {} B, zstd blocks {blocks} B in {:.1} ms",
        texts.len(),
        out.len(),
        ms(start),
    );
    if outcome == Outcome::NotWorth {
        return;
    }
    let sections = Sections::new(spans.clone());
    let bytes_of = Bytes::from(out);
    for no in 0..spans.len() as u32 {
        let range = sections.range(no).expect("a range");
        let part = bytes_of.slice(range.start as usize..range.end as usize);
        sections.supply(no, &part).expect("is taken");
    }
    let reader = TextReader::open(&mut &meta[..]).expect("opens");
    let start = cpu_ns();
    let column = reader.load(&sections).expect("loads");
    let raw = column.templates().next().filter(|info| info.number == 0);
    let count = column.templates().count();
    let sizes = |from: usize, until: usize| -> u32 {
        spans.get(from..until).unwrap_or_default().iter().map(|span| span.stored).sum()
    };
    let numbers = texts.len().div_ceil(rows::SECTION_VALUES);
    eprintln!(
        "  load {:.2} ms, {count} templates, {} rows raw; {} sections: numbers {} B, templates {} B, slots and raw {} B; \
         {} B in memory",
        ms(start),
        raw.map_or(0, |info| info.rows),
        spans.len(),
        sizes(0, numbers),
        sizes(spans.len() - 1, spans.len()),
        sizes(numbers, spans.len() - 1),
        sections.memory_bytes() + column.memory_bytes(),
    );
    if std::env::var_os("TEXT_SHOW").is_some() {
        let mut infos: Vec<_> = column.templates().collect();
        infos.sort_by_key(|info| std::cmp::Reverse(info.rows));
        infos.iter().for_each(|info| eprintln!("  {} {}", info.rows, info.text));
    }
    for _ in 0..2 {
        let start = cpu_ns();
        let mut read = Texts::default();
        let mut same = true;
        for from in (0..texts.len()).step_by(rows::BLOCK_VALUES) {
            read.clear();
            let until = texts.len().min(from + rows::BLOCK_VALUES);
            column.append(&sections, from..until, None, &mut read).expect("reads");
            same &= read.len() == until - from;
        }
        assert!(same);
        let took = ms(start);
        eprintln!("  append all {took:.1} ms, {:.2} GB/s", bytes as f64 / took / 1e6);
    }
    let at = |row: usize| texts.get(row).map_or("", String::as_str);
    let needle = at(texts.len() / 2)
        .split(|c: char| !c.is_ascii_alphanumeric())
        .rfind(|token| token.bytes().any(|b| b.is_ascii_digit()));
    let word = at(texts.len() / 3).split(' ').find(|w| w.bytes().all(|b| b.is_ascii_alphabetic()));
    let (needle, word) = (needle.unwrap_or("1"), word.unwrap_or("error"));
    let tests = [
        FieldTest::phrase(needle),
        FieldTest::phrase(word),
        FieldTest::phrase_any_case(word),
        FieldTest::Substring("error".into()),
        FieldTest::Substring("07".into()),
        FieldTest::Substring("7f".into()),
        FieldTest::Exact(at(texts.len() / 2).to_owned()),
        FieldTest::Regex(Pattern::new("size [0-9]*77 from").expect("is one")),
        FieldTest::Regex(Pattern::new("(timeout|refused).*[0-9]{4}5").expect("is one")),
        FieldTest::Regex(Pattern::new("[0-9]{3}7ms").expect("is one")),
    ];
    for test in tests {
        for _ in 0..2 {
            let start = cpu_ns();
            let prepared = column.prepare(&test);
            let ready = ms(start);
            let mut found = 0;
            for from in (0..texts.len()).step_by(rows::SECTION_VALUES) {
                let until = texts.len().min(from + rows::SECTION_VALUES);
                found +=
                    column.select(&prepared, &sections, from..until, None).map_or(0, |m| m.count());
            }
            let took = ms(start);
            let of = |wanted: fn(&prepare::Plan) -> bool| {
                prepared.plans.iter().filter(|p| wanted(p)).count()
            };
            let decode = of(|plan| matches!(plan, prepare::Plan::Decode | prepare::Plan::Both(_)));
            eprintln!(
                "  {test:40} prepare {ready:7.2} all {took:8.2} ms, {found} found; {decode} templates read, {} by slots",
                of(|plan| matches!(plan, prepare::Plan::Slots(_))),
            );
        }
    }
}
