//! From the bytes of a file to records: lines, traces, limits.
#![allow(clippy::unwrap_used)]

use lodge_agent::frame::Frames;
use lodge_agent::framing::Framing;
use lodge_agent::parse::format::Format;
use lodge_agent::trace::{JOINED_BYTES_MAX, JOINED_LINES_MAX, Rule};

fn frames(chunk: &str, multiline: bool) -> Vec<String> {
    Frames::new(chunk.as_bytes(), multiline, true)
        .map(|frame| String::from_utf8(frame.text.to_vec()).unwrap())
        .collect()
}

#[test]
fn lines_end_in_lf_or_crlf() {
    assert_eq!(frames("a\r\nb\nc", false), ["a", "b", "c"]);
    assert_eq!(frames("a\n\n\r\n  \nb\n", true), ["a", "b"]);
    assert_eq!(frames("", true), [""; 0]);
    assert_eq!(frames("\0a\0\n", true), ["\0a\0"]);
}

#[test]
fn an_unfinished_line_stays_in_the_file() {
    let mut frames = Frames::new(b"one\ntwo\nthr", false, false);
    assert_eq!(frames.next().unwrap().text, b"one");
    assert_eq!(frames.next().unwrap().text, b"two");
    assert_eq!(frames.next(), None);
    assert_eq!(frames.consumed(), 8);
}

#[test]
fn the_last_record_waits_for_its_continuation_but_json_does_not() {
    let mut plain = Frames::new(b"one\ntwo\n", true, false);
    assert_eq!(plain.next().unwrap().text, b"one");
    assert_eq!(plain.next(), None);
    assert!(plain.holds() && !plain.holds_trace());
    assert_eq!(plain.consumed(), 4);
    assert_eq!(plain.take_held().unwrap().text, b"two");
    assert_eq!(plain.consumed(), 8);

    let mut json = Frames::new(b"{\"a\":1}\n{\"a\":2}\n", true, false);
    assert_eq!(json.by_ref().count(), 2);
    assert_eq!(json.consumed(), 16);
}

#[test]
fn a_hole_of_zeros_is_skipped_and_counted() {
    let chunk = [&b"before\n"[..], &[0u8; 4096], b"after\n"].concat();
    let mut frames = Frames::new(&chunk, true, true);
    let texts: Vec<_> = frames.by_ref().map(|frame| frame.text.to_vec()).collect();
    assert_eq!(texts, [&b"before"[..], b"after"]);
    assert_eq!(frames.passed().hole_bytes, 4096);
}

#[test]
fn joined_records_are_capped() {
    let long = format!("start\n{}", "  more\n".repeat(JOINED_LINES_MAX as usize + 10));
    let records = frames(&long, true);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].lines().count(), JOINED_LINES_MAX as usize);
    let wide = format!("start\n{}", format!("\t{}\n", "x".repeat(99_999)).repeat(9));
    let records = frames(&wide, true);
    assert!(records.len() > 1);
    assert!(records.iter().all(|record| record.len() <= JOINED_BYTES_MAX));
    assert_eq!(records.join("\n"), wide.trim_end());
}

const JAVA: &str = "\
2024-01-02 15:04:05,123 ERROR [main] c.a.Shop - order failed
java.lang.IllegalStateException: no stock
\tat com.acme.Shop.order(Shop.java:42)
\tat com.acme.Main.main(Main.java:7)
Caused by: java.sql.SQLException: timeout
\tat com.acme.Db.query(Db.java:9)
\t... 12 more
";
const PYTHON: &str = "\
ERROR:root:cannot load
Traceback (most recent call last):
  File \"/app/a.py\", line 3, in load
    open(path)
FileNotFoundError: [Errno 2] No such file or directory: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"/app/a.py\", line 5, in main
    raise Missing(path)
app.errors.Missing: x
";
const GO: &str = "\
panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.pick(0xc000012345, {0x1, 0x2})
\t/app/main.go:12 +0x1d
main.main()
\t/app/main.go:7 +0x25
created by main.start in goroutine 1
\t/app/main.go:3 +0x11
exit status 2
";
const RUST: &str = "\
thread 'main' panicked at src/main.rs:4:10:
index out of bounds: the len is 3 but the index is 5
stack backtrace:
   0: rust_begin_unwind
             at /rustc/abc/library/std/src/panicking.rs:645:5
   1: core::panicking::panic_fmt
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.
";

#[test]
fn traces_of_four_languages_are_one_record_each() {
    for (name, trace) in [("java", JAVA), ("python", PYTHON), ("go", GO), ("rust", RUST)] {
        let line = "2024-01-02 15:04:06 INFO around\n";
        let log = format!("{line}{trace}{line}");
        let records = frames(&log, true);
        assert_eq!(records.len(), 3, "{name}: {records:#?}");
        assert_eq!(records[1], trace.trim_end(), "{name}");
    }
}

#[test]
fn traces_are_the_same_wherever_reading_stopped() {
    let line = "2024-01-02 15:04:06 INFO fine\n";
    let log = [line, JAVA, line, PYTHON, line, GO, line, RUST, line].concat();
    let whole = frames(&log, true);
    for step in 1..80 {
        let mut records = Vec::new();
        let (mut start, mut end) = (0, 0);
        while end < log.len() {
            end = (end + step).min(log.len());
            let mut part = Frames::new(&log.as_bytes()[start..end], true, end == log.len());
            records.extend(part.by_ref().map(|f| String::from_utf8(f.text.to_vec()).unwrap()));
            start += part.consumed();
        }
        assert_eq!(records, whole, "in steps of {step}");
    }
}

#[test]
fn lines_that_have_nothing_to_do_with_each_other_are_not_joined() {
    for log in [
        "GET / 200\nGET /a 200\nPOST /b 201\n",
        "{\"a\":1}\n\tindented\nplain\n",
        "2024-01-02 15:04:05 INFO ok\nTraceback (most recent call last):\n",
        "java.io exception: none\nError: x\nerror: y\n",
        "thread 'main' panicked at 'old form', src/main.rs:2:5\nnext\n",
        "panic: no\n2024-01-02 15:04:05 call()\nrestarted (ok)\n",
    ] {
        assert_eq!(frames(log, true).len(), log.lines().count(), "{log}");
    }
}

#[test]
fn without_multiline_every_line_is_a_record() {
    assert_eq!(frames(JAVA, false).len(), JAVA.lines().count());
}

fn by_rule(chunk: &str, rule: Rule) -> Vec<String> {
    Frames::by_rule(chunk.as_bytes(), rule, true)
        .map(|frame| String::from_utf8(frame.text.to_vec()).unwrap())
        .collect()
}

#[test]
fn lines_are_joined_by_rules_of_the_configuration() {
    let begins = |pattern: &str| Rule::Begins(regex::bytes::Regex::new(pattern).unwrap());
    let continues = |pattern: &str| Rule::Continues(regex::bytes::Regex::new(pattern).unwrap());
    let log = "tail of an older record\n# one\na\n\n  b\n# two\n# three\nc\n";
    assert_eq!(
        by_rule(log, begins("^# ")),
        ["tail of an older record", "# one\na\n\n  b", "# two", "# three\nc"]
    );
    let log = "one\n| a\n| b\n\n| c\ntwo\n  three\n";
    assert_eq!(by_rule(log, continues(r"^\|")), ["one\n| a\n| b", "| c", "two", "  three"]);
    // The limits hold for rules too, and a line of the limit's length is not searched whole.
    let endless = format!("# x\n{}", "more\n".repeat(JOINED_LINES_MAX as usize + 10));
    assert_eq!(by_rule(&endless, begins("^# ")).len(), 2);
    assert_eq!(by_rule(&"x".repeat(100_000), begins("y$")).len(), 1);
}

#[test]
fn the_last_record_of_a_rule_waits_for_more() {
    let rule = Rule::Begins(regex::bytes::Regex::new("^# ").unwrap());
    let mut frames = Frames::by_rule(b"# one\na\n# two\nb\n", rule, false);
    assert_eq!(frames.next().unwrap().text, b"# one\na");
    assert_eq!(frames.next(), None);
    assert!(frames.holds());
    assert_eq!(frames.consumed(), 8);
}

#[test]
fn the_shape_of_a_file_is_told_by_its_head() {
    for (head, expected) in [
        (&b"2024-01-02T15:04:05Z stdout F x\nmore"[..], Some(Framing::Cri)),
        (b"2024-01-02T15:04:05Z stdout F not yet a line", None),
        (b"2024-01-02T15:04:05Z INFO stdout F x\n", Some(Framing::Lines)),
        (
            b"{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-02T15:04:05Z\"}\n",
            Some(Framing::Docker),
        ),
        (b"{\"log\":\"x\",\"level\":\"info\"}\n", Some(Framing::Lines)),
        (b"\xff\xfea\0\n\0", Some(Framing::Utf16Le)),
        (b"\xfe\xff\0a\0\n", Some(Framing::Utf16Be)),
        (b"plain", Some(Framing::Lines)),
        (b"", Some(Framing::Lines)),
    ] {
        assert_eq!(Framing::of(head, Format::Auto), expected, "{}", head.escape_ascii());
    }
    let cri = b"2024-01-02T15:04:05Z stdout F x\n";
    assert_eq!(Framing::of(cri, Format::Text), Some(Framing::Lines));
    assert_eq!(Framing::of(b"anything", Format::Cri), Some(Framing::Cri));
}
