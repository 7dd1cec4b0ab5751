//! Container logs: what is one of their lines, and that nothing else is taken for one.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn cri(line: &str) -> Option<String> {
    parse_cri(line.as_bytes()).map(shown)
}

fn docker(line: &str) -> Option<String> {
    parse_docker(line.as_bytes()).map(shown)
}

fn shown(entry: Entry<'_>) -> String {
    let text = String::from_utf8_lossy(&entry.text);
    let part = if entry.partial { "part" } else { "line" };
    format!("{} {} {part} {text:?}", time::format(entry.time_ns), entry.output.name())
}

#[test]
fn cri_lines() {
    for (line, expected) in [
        (
            "2024-01-02T15:04:05.123456789Z stdout F hi  there",
            "2024-01-02T15:04:05.123456789Z stdout line \"hi  there\"",
        ),
        ("2024-01-02T15:04:05+01:00 stderr P half", "2024-01-02T14:04:05Z stderr part \"half\""),
        ("2024-01-02T15:04:05Z stdout F ", "2024-01-02T15:04:05Z stdout line \"\""),
        ("2024-01-02T15:04:05Z stdout F", "2024-01-02T15:04:05Z stdout line \"\""),
        ("2024-01-02T15:04:05Z stdout P:x y", "2024-01-02T15:04:05Z stdout part \"y\""),
    ] {
        assert_eq!(cri(line).as_deref(), Some(expected), "{line}");
    }
    for line in [
        "",
        "2024-01-02T15:04:05Z",
        "2024-01-02T15:04:05Z stdout",
        "2024-01-02T15:04:05Z stdin F x",
        "2024-01-02T15:04:05Z stdout G x",
        "1704207845 stdout F x",
        "2024-01-02 stdout F x",
        "INFO stdout F x",
    ] {
        assert_eq!(cri(line), None, "{line}");
    }
    let bytes = parse_cri(b"2024-01-02T15:04:05Z stdout F a\xffb").unwrap();
    assert_eq!(&*bytes.text, b"a\xffb");
}

#[test]
fn docker_lines() {
    for (line, expected) in [
        (
            r#"{"log":"a \"b\"\tc\n","stream":"stdout","time":"2024-01-02T15:04:05.5Z"}"#,
            r#"2024-01-02T15:04:05.5Z stdout line "a \"b\"\tc""#,
        ),
        (
            r#"{"log":"half","stream":"stderr","attrs":{"x":"y"},"time":"2024-01-02T15:04:05Z"}"#,
            "2024-01-02T15:04:05Z stderr part \"half\"",
        ),
        (
            r#"{"log":"\n","stream":"stdout","time":"2024-01-02T15:04:05Z"}"#,
            "2024-01-02T15:04:05Z stdout line \"\"",
        ),
    ] {
        assert_eq!(docker(line).as_deref(), Some(expected), "{line}");
    }
    for line in [
        "",
        "{}",
        r#"{"log":"x\n","stream":"stdout"}"#,
        r#"{"log":"x\n","time":"2024-01-02T15:04:05Z"}"#,
        r#"{"log":7,"stream":"stdout","time":"2024-01-02T15:04:05Z"}"#,
        r#"{"log":"x\n","stream":"other","time":"2024-01-02T15:04:05Z"}"#,
        r#"{"log":"x\n","stream":"stdout","time":"soon"}"#,
        r#"{"log":"x\n","stream":"stdout","time":"2024-01-02T15:04:05Z"#,
    ] {
        assert_eq!(docker(line), None, "{line}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm_fuzz(line: Vec<u8>) {
        parse_cri(&line);
        parse_docker(&line);
    }

    #[test]
    fn damaged_lines_are_read_without_harm_fuzz(
        at in 0usize..90, byte: u8, length in 0usize..90, text in "\\PC{0,20}",
    ) {
        let cri = format!("2024-01-02T15:04:05Z stdout F {text}");
        prop_assert_eq!(parse_cri(cri.as_bytes()).unwrap().text, text.as_bytes());
        let log = serde_json::to_string(&format!("{text}\n")).unwrap();
        let docker = format!(r#"{{"log":{log},"stream":"stdout","time":"2024-01-02T15:04:05Z"}}"#);
        prop_assert_eq!(parse_docker(docker.as_bytes()).unwrap().text, text.as_bytes());
        for whole in [cri, docker] {
            let mut line = whole.into_bytes();
            if let Some(place) = line.get_mut(at) {
                *place = byte;
            }
            line.truncate(length.max(1));
            parse_cri(&line);
            parse_docker(&line);
        }
    }
}
