//! Syslog messages of many senders, and texts that are none.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A message in one line: the parts that it has.
fn shown(message: &Message<'_>) -> String {
    let mut parts = Vec::new();
    if let Some(severity) = message.severity {
        parts.push(format!("severity={severity}"));
    }
    if let Some(stamp) = message.timestamp {
        parts.push(format!("time={stamp}"));
    }
    message.for_each_field(|name, value| {
        parts.push(format!("{}={value}", name.trim_start_matches("syslog.")));
    });
    format!("{} | {}", parts.join(" "), message.text)
}

#[test]
fn messages_of_both_standards() {
    for (text, expected) in [
        (
            "<34>1 2003-10-11T22:14:15.003Z mymachine su - ID47 - \u{feff}'su root' failed",
            "severity=2 time=2003-10-11T22:14:15.003Z hostname=mymachine appname=su msgid=ID47 \
             facility=auth | 'su root' failed",
        ),
        (
            r#"<165>1 - - app 7 - [a@1 x="1" y="q\"\]\\\n"][b] text"#,
            r#"severity=5 appname=app procid=7 facility=local4 data.a@1.x=1 data.a@1.y=q"]\\n | text"#,
        ),
        (
            "<165>1 - - app 7 - [a x=1] text",
            "severity=5 appname=app procid=7 facility=local4 | [a x=1] text",
        ),
        ("<165>1 - - - - - -", "severity=5 facility=local4 | "),
        (
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
            "severity=2 time=Oct 11 22:14:15 hostname=mymachine appname=su facility=auth | \
             'su root' failed",
        ),
        (
            "<13>Oct  1 22:14:15 app[12]: on the local socket",
            "severity=5 time=Oct  1 22:14:15 appname=app procid=12 facility=user | on the local socket",
        ),
        (
            "<13>Oct  1 2024 22:14:15.123: host text without a tag",
            "severity=5 time=Oct  1 2024 22:14:15.123 hostname=host facility=user | text without a tag",
        ),
        ("<13>nothing known", "severity=5 facility=user | nothing known"),
        ("<13>app: no time", "severity=5 appname=app facility=user | no time"),
        (
            "2024-01-02T15:04:05.1+00:00 web-1 nginx[7]: x",
            "time=2024-01-02T15:04:05.1+00:00 hostname=web-1 appname=nginx procid=7 | x",
        ),
        (
            "Jan  2 15:04:05 h kernel: [1.5] x",
            "time=Jan  2 15:04:05 hostname=h appname=kernel | [1.5] x",
        ),
        ("<999>what", " | <999>what"),
        ("<13x>what", " | <13x>what"),
        ("", " | "),
    ] {
        assert_eq!(shown(&parse(text)), expected, "{text}");
    }
}

#[test]
fn only_what_is_surely_a_message_is_detected() {
    for text in [
        "<34>Oct 11 22:14:15 mymachine su: x",
        "<34>1 - - - - - x",
        "Jan  2 15:04:05 host app[7]: x",
        "Jan  2 15:04:05 host app: x",
        "2024-01-02T15:04:05Z host app[7]: x",
    ] {
        assert!(detect(text).is_some(), "{text}");
    }
    for text in [
        "",
        "text",
        "Jan  2 15:04:05 text",
        "Jan  2 15:04:05 some words and more: x",
        "Jan 32 15:04 host app: x",
        "2024-01-02T15:04:05Z INFO main: x",
        "2024-01-02 15:04:05 host app[7]: x",
        "<html> <b>",
        "[x] host app[7]: x",
    ] {
        assert_eq!(detect(text), None, "{text}");
    }
}

#[test]
fn structured_data_is_bounded() {
    let many = format!("<13>1 - - - - - {} text", "[a x=\"1\"]".repeat(ELEMENTS_MAX + 1));
    let message = parse(&many);
    assert!(message.structured.is_empty() && message.text.ends_with("] text"));
    let deep = format!("<13>1 - - - - - [a{}] text", " x=\"1\"".repeat(PARAMETERS_MAX + 1));
    assert!(parse(&deep).structured.is_empty());
}

proptest! {
    #[test]
    fn any_text_is_a_message_fuzz(text in "\\PC{0,200}") {
        let message = parse(&text);
        prop_assert!(text.ends_with(message.text) || message.text.is_empty());
        detect(&text);
    }

    #[test]
    fn damaged_messages_keep_their_text_fuzz(
        which in 0usize..4, at in 0usize..80, cut in 0usize..80, put in "[<>\\[\\]\" :\\\\=x-]",
    ) {
        let whole = [
            r#"<165>1 2024-01-02T15:04:05Z host app 7 id [a@1 x="1" y="\"\]"] the text"#,
            "<34>Oct 11 22:14:15 mymachine su[12]: the text",
            "Jan  2 15:04:05 host kernel: the text",
            "2024-01-02T15:04:05Z host app[7]: the text",
        ][which];
        let mut text = whole.to_owned();
        text.insert_str(at.min(text.len()), &put);
        let from = cut.min(text.len());
        text.drain(from..(from + 1).min(text.len()));
        let message = parse(&text);
        prop_assert!(text.ends_with(message.text));
        detect(&text);
    }
}
