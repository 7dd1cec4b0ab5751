//! From a record's text to its fields: time, level, message, labels.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lodge_agent::counters::Counters;
use lodge_agent::parse::format::Format;
use lodge_agent::parse::pattern::Patterns;
use lodge_agent::parse::{Context, RecordParser, Text};
use lodge_agent::timestamp::{self, TimeContext};
use lodge_agent::{level, logfmt};
use lodge_record::builder::BatchBuilder;
use lodge_record::{limits, time};
use lodge_wire::json_rows;
use serde_json::{Map, Value};

/// 2024-03-01T00:00:00Z.
const NOW_NS: i64 = 1_709_251_200_000_000_000;

fn rows_of(texts: &[&[u8]], labels: &[(&str, &str)]) -> Vec<Map<String, Value>> {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let parser = RecordParser::for_file("h1", Path::new("/var/log/shop.log.1"), &labels);
    parsed(texts, parser)
}

/// The one row of `text` where the source is said to be of a format, or has patterns.
fn row_in(format: Format, patterns: &[&str], text: &str) -> Map<String, Value> {
    let labels = BTreeMap::new();
    let parser = RecordParser::for_file("h1", Path::new("/var/log/shop.log.1"), &labels);
    let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
    let patterns = (!patterns.is_empty()).then(|| Patterns::new(&patterns).unwrap());
    parsed(&[text.as_bytes()], parser.reading(format, patterns)).remove(0)
}

fn parsed(texts: &[&[u8]], mut parser: RecordParser) -> Vec<Map<String, Value>> {
    let counters = Counters::default();
    let context = Context { time: TimeContext::utc(NOW_NS), counters: &counters };
    let mut builder = BatchBuilder::new();
    for bytes in texts {
        let text = Text::whole(bytes);
        parser.append(&mut builder, text, &context);
    }
    let mut lines = Vec::new();
    json_rows::write_rows(&builder.finish().unwrap(), &mut lines);
    let lines = String::from_utf8(lines).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn row(text: &str) -> Map<String, Value> {
    rows_of(&[text.as_bytes()], &[]).remove(0)
}

fn text(row: &Map<String, Value>, name: &str) -> String {
    row[name].as_str().unwrap().to_owned()
}

/// The fields of a row that do not come from its file.
fn own(row: &Map<String, Value>) -> String {
    let of_file = ["_stream", "_stream_id", "file", "host", "service"];
    let own = row.iter().filter(|(name, _)| !of_file.contains(&name.as_str()));
    let own: BTreeMap<_, _> = own.map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
    own.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|")
}

#[test]
fn timestamps_at_the_start_of_lines() {
    for (line, expected) in [
        ("2024-01-02T15:04:05Z x", "2024-01-02T15:04:05Z"),
        ("2024-01-02T15:04:05.123456789+02:00 x", "2024-01-02T13:04:05.123456789Z"),
        ("2024-01-02 15:04:05,123 INFO x", "2024-01-02T15:04:05.123Z"),
        ("2024-01-02 15:04:05 -0800 x", "2024-01-02T23:04:05Z"),
        ("2024-01-02 15:04:05 UTC x", "2024-01-02T15:04:05Z"),
        ("2024-01-02 15:04:05 - x", "2024-01-02T15:04:05Z"),
        ("2024/01/02 15:04:05 [error] 7#7: x", "2024-01-02T15:04:05Z"),
        ("[2024-01-02T15:04:05Z] x", "2024-01-02T15:04:05Z"),
        ("[2024-01-02 15:04:05.5] x", "2024-01-02T15:04:05.5Z"),
        ("Jan  2 15:04:05 host app[1]: x", "2024-01-02T15:04:05Z"),
        ("Mar  1 15:04:05 host app[1]: x", "2024-03-01T15:04:05Z"),
        ("Dec 31 23:59:59 host app[1]: x", "2023-12-31T23:59:59Z"),
        ("Feb 29 12:00:00 host app[1]: x", "2024-02-29T12:00:00Z"),
        ("<34>Jan  2 15:04:05 host su: x", "2024-01-02T15:04:05Z"),
        ("<165>1 2024-01-02T15:04:05.003Z host app - - x", "2024-01-02T15:04:05.003Z"),
        ("10.0.0.1 - bob [02/Jan/2024:15:04:05 +0000] \"GET /\" 200", "2024-01-02T15:04:05Z"),
        ("10.0.0.1 - - [02/Jan/2024:15:04:05 +0130] \"GET /\" 200", "2024-01-02T13:34:05Z"),
        ("[Tue Jan 02 15:04:05 2024] [error] x", "2024-01-02T15:04:05Z"),
        ("[Tue Jan 02 15:04:05.120000 2024] [core:error] x", "2024-01-02T15:04:05.12Z"),
        ("E0102 15:04:05.000001 7 a.go:1] x", "2024-01-02T15:04:05.000001Z"),
        ("E20240102 15:04:05.000001 7 a.go:1] x", "2024-01-02T15:04:05.000001Z"),
        ("2024-01-02 15:04:05.123 UTC [7] LOG:  x", "2024-01-02T15:04:05.123Z"),
        ("2024-01-02T15:04:05.123456Z 0 [Note] x", "2024-01-02T15:04:05.123456Z"),
        ("2024-01-02 15:04:05,123 [myid:1] - INFO x", "2024-01-02T15:04:05.123Z"),
        ("2024/01/02 15:04:05.000012 x", "2024-01-02T15:04:05.000012Z"),
        ("2024.01.02 15:04:05 x", "2024-01-02T15:04:05Z"),
        ("2024-01-02_15:04:05.5 x", "2024-01-02T15:04:05.5Z"),
        ("02-Jan-2024 15:04:05.123 INFO [main] x", "2024-01-02T15:04:05.123Z"),
        ("1:M 02 Jan 2024 15:04:05.123 * Ready", "2024-01-02T15:04:05.123Z"),
        ("02 Jan 2024 15:04:05 +0100 x", "2024-01-02T14:04:05Z"),
        ("Tue, 02 Jan 2024 15:04:05 +0000 x", "2024-01-02T15:04:05Z"),
        ("Tue, 2 Jan 2024 15:04:05 GMT x", "2024-01-02T15:04:05Z"),
        ("Tue Jan  2 15:04:05 2024 x", "2024-01-02T15:04:05Z"),
        ("Tue Jan  2 15:04:05 UTC 2024 x", "2024-01-02T15:04:05Z"),
        ("Jan 02 2024 15:04:05 x", "2024-01-02T15:04:05Z"),
        ("Jan 02, 2024 3:04:05 PM com.acme.Shop order", "2024-01-02T15:04:05Z"),
        ("Jan 02, 2024 12:04:05 AM com.acme.Shop order", "2024-01-02T00:04:05Z"),
        ("1704207845 x", "2024-01-02T15:04:05Z"),
        ("1704207845.25 x", "2024-01-02T15:04:05.25Z"),
        ("[1704207845.25] x", "2024-01-02T15:04:05.25Z"),
        ("1704207845250 x", "2024-01-02T15:04:05.25Z"),
        ("1704207845250001 x", "2024-01-02T15:04:05.250001Z"),
        ("1704207845250001002: x", "2024-01-02T15:04:05.250001002Z"),
        ("2024-06-30T23:59:60Z leap", "2024-06-30T23:59:59Z"),
    ] {
        let found = timestamp::find(line.as_bytes(), &TimeContext::utc(NOW_NS));
        let found = found.map(|found| time::format(found.time_ns));
        assert_eq!(found.as_deref(), Some(expected), "{line}");
    }
    for line in [
        "",
        "x",
        "2024",
        "2024-13-02 15:04:05",
        "2024-02-30 15:04:05",
        "2024-01-02 25:04:05",
        "Jam  2 15:04:05",
        "[x] y",
        "12 apples",
        "[99/Jan/2024:15:04:05 +0000]",
        "I know",
        // In January or in February: no one can tell.
        "01/02/2024 15:04:05 x",
        // Numbers that are no times: an order of the future, one too short, one with a word.
        "9999999999 x",
        "1234567 x",
        "1704207845x",
        "9999999999999999999 x",
        "31-Feb-2024 15:04:05",
        "Jan 02, 2024 13:04:05 PM",
        "Tues, 02 Jan 2024 15:04:05",
    ] {
        assert_eq!(timestamp::find(line.as_bytes(), &TimeContext::utc(NOW_NS)), None, "{line}");
    }
}

#[test]
fn a_time_without_zone_is_in_the_zone_of_the_machine() {
    let zone = Some(jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
    let context = TimeContext { now_ns: NOW_NS, zone };
    for (line, expected) in [
        ("2024-01-02 15:04:05 x", "2024-01-02T14:04:05Z"),
        ("2024-07-02 15:04:05 x", "2024-07-02T13:04:05Z"),
        ("2024-07-02 15:04:05Z x", "2024-07-02T15:04:05Z"),
        ("Jan  2 15:04:05 host x", "2024-01-02T14:04:05Z"),
    ] {
        let found = timestamp::find(line.as_bytes(), &context).unwrap();
        assert_eq!(time::format(found.time_ns), expected, "{line}");
    }
}

#[test]
fn an_hour_that_is_not_or_is_twice_has_one_reading() {
    let zone = timestamp::zone("CET-1CEST,M3.5.0,M10.5.0/3");
    let context = TimeContext { now_ns: NOW_NS, zone };
    for (line, expected) in [
        // Put forward from 2 to 3: what says 2:30 was written by a clock not yet put forward.
        ("2023-03-26 01:59:59", "2023-03-26T00:59:59Z"),
        ("2023-03-26 02:30:00", "2023-03-26T01:30:00Z"),
        ("2023-03-26 03:00:00", "2023-03-26T01:00:00Z"),
        // Put back from 3 to 2: the first of the two.
        ("2023-10-29 01:59:59", "2023-10-28T23:59:59Z"),
        ("2023-10-29 02:30:00", "2023-10-29T00:30:00Z"),
        ("2023-10-29 03:00:00", "2023-10-29T02:00:00Z"),
        // What names its zone is not touched by the setting.
        ("2023-10-29 02:30:00 +0100", "2023-10-29T01:30:00Z"),
        ("1698543000 x", "2023-10-29T01:30:00Z"),
    ] {
        let found = timestamp::find(line.as_bytes(), &context).unwrap();
        assert_eq!(time::format(found.time_ns), expected, "{line}");
    }
    assert!(timestamp::zone("UTC").is_some());
    for name in ["", "Europa/Berlin", "../../etc/passwd", "/etc/localtime", "No/Where"] {
        assert!(timestamp::zone(name).is_none(), "{name}");
    }
}

#[test]
fn access_logs_become_fields_and_stay_the_message() {
    let line = r#"10.0.0.1 - bob [02/Jan/2024:15:04:05 +0000] "GET /a/b?c=d HTTP/1.1" 200 512 "https://x/" "curl/8 \"q\"""#;
    let fields = "client.address=10.0.0.1|http.request.header.referer=https://x/\
        |http.request.method=GET|http.response.body.size=512|http.response.status_code=200\
        |network.protocol.version=1.1|url.path=/a/b|url.query=c=d|user.name=bob\
        |user_agent.original=curl/8 \\\"q\\\"";
    let stated = "_time=2024-01-02T15:04:05Z";
    assert_eq!(own(&row(line)), format!("_msg={line}|{stated}|{fields}"));
    for (line, fields) in [
        (
            r#"::1 - - [02/Jan/2024:15:04:05 +0000] "POST /x HTTP/2.0" 404 -"#,
            "client.address=::1|http.request.method=POST|http.response.status_code=404\
             |network.protocol.version=2.0|url.path=/x",
        ),
        (
            r#"shop.acme:443 10.0.0.1 - - [02/Jan/2024:15:04:05 +0000] "GET / HTTP/1.1" 301 0 "-" "-""#,
            "client.address=10.0.0.1|http.request.method=GET|http.response.body.size=0\
             |http.response.status_code=301|network.protocol.version=1.1\
             |server.address=shop.acme:443|url.path=/",
        ),
        (
            r#"10.0.0.1 - - [02/Jan/2024:15:04:05 +0000] "\x16\x03" 400 150"#,
            "client.address=10.0.0.1|http.response.body.size=150|http.response.status_code=400",
        ),
        (r#"10.0.0.1 - - [02/Jan/2024:15:04:05 +0000] "GET / HTTP/1.1" x 150"#, ""),
        (r#"a line with [02/Jan/2024:15:04:05 +0000] within"#, ""),
    ] {
        let fields = if fields.is_empty() { String::new() } else { format!("|{fields}") };
        assert_eq!(own(&row(line)), format!("_msg={line}|{stated}{fields}"));
    }
}

#[test]
fn error_logs_of_web_servers() {
    let nginx = "2024/01/02 15:04:05 [error] 7#8: *9 open() failed, client: 10.0.0.1, \
        server: shop, request: \"GET /a HTTP/1.1\", host: \"x\"";
    assert_eq!(
        own(&row(nginx)),
        format!(
            "_msg={nginx}|_time=2024-01-02T15:04:05Z|client.address=10.0.0.1\
             |http.request.method=GET|level=error|network.protocol.version=1.1|process.pid=7\
             |server.address=shop|thread.id=8|url.path=/a"
        )
    );
    let apache = "[Tue Jan 02 15:04:05.5 2024] [core:warn] [pid 7:tid 8] [client 10.0.0.1:9] x";
    assert_eq!(
        own(&row(apache)),
        format!(
            "_msg={apache}|_time=2024-01-02T15:04:05.5Z|client.address=10.0.0.1|level=warn\
             |process.pid=7|thread.id=8"
        )
    );
}

#[test]
fn syslog_in_files() {
    let line = "Jan  2 15:04:05 web-1 sshd[7]: error: no key";
    assert_eq!(
        own(&row(line)),
        format!(
            "_msg={line}|_time=2024-01-02T15:04:05Z|level=error|syslog.appname=sshd\
             |syslog.hostname=web-1|syslog.procid=7"
        )
    );
    let line = r#"<165>1 2024-01-02T15:04:05Z web-1 app 7 ID4 [a@1 x="1"] text"#;
    assert_eq!(
        own(&row(line)),
        format!(
            "_msg={line}|_time=2024-01-02T15:04:05Z|level=notice|syslog.appname=app\
             |syslog.data.a@1.x=1|syslog.facility=local4|syslog.hostname=web-1|syslog.msgid=ID4\
             |syslog.procid=7"
        )
    );
    // Where the source is said to be syslog, the header is only in the fields.
    let row = row_in(Format::Syslog, &[], "<3>Jan  2 15:04:05 web-1 kernel: out of memory");
    assert_eq!(
        own(&row),
        "_msg=out of memory|_time=2024-01-02T15:04:05Z|level=error|syslog.appname=kernel\
         |syslog.facility=kern|syslog.hostname=web-1"
    );
}

#[test]
fn a_format_that_is_named_is_the_only_one_tried() {
    let json = r#"{"msg":"x"}"#;
    assert_eq!(
        own(&row_in(Format::Text, &[], json)),
        format!("_msg={json}|_time=2024-03-01T00:00:00Z")
    );
    assert_eq!(own(&row_in(Format::Json, &[], json)), "_msg=x|_time=2024-03-01T00:00:00Z");
    let pairs = "a=1 b=2";
    assert_eq!(own(&row_in(Format::Json, &[], pairs)), "_msg=a=1 b=2|_time=2024-03-01T00:00:00Z");
    assert_eq!(row_in(Format::Logfmt, &[], pairs)["b"], "2");
    let text = "Jan  2 15:04:05 web-1 sshd[7]: x";
    assert!(!row_in(Format::Text, &[], text).contains_key("syslog.appname"));
}

#[test]
fn patterns_make_fields_and_what_matches_none_is_text() {
    let patterns = [
        r"^%{TIMESTAMP_ISO8601:time} %{LOGLEVEL:level} %{IP:client.address} took %{NUMBER:took_ms:int}ms",
        r"^(?<kind>\w+): (?<message>.*)$",
    ];
    assert_eq!(
        own(&row_in(Format::Auto, &patterns, "2024-01-02T15:04:05Z WARN 10.0.0.1 took 12.5ms")),
        "_msg=2024-01-02T15:04:05Z WARN 10.0.0.1 took 12.5ms|_time=2024-01-02T15:04:05Z\
         |client.address=10.0.0.1|level=WARN|took_ms=12.5"
    );
    assert_eq!(
        own(&row_in(Format::Auto, &patterns, "order: paid")),
        "_msg=paid|_time=2024-03-01T00:00:00Z|kind=order"
    );
    assert_eq!(
        own(&row_in(Format::Auto, &patterns, "ERROR neither")),
        "_msg=ERROR neither|_time=2024-03-01T00:00:00Z|level=error"
    );
}

#[test]
fn every_named_part_matches_what_it_is_named_for() {
    for (part, text) in [
        ("WORD", "abc"),
        ("NOTSPACE", "a-b"),
        ("INT", "-7"),
        ("POSINT", "7"),
        ("NUMBER", "-1.5e3"),
        ("BASE16NUM", "0xAf"),
        ("QUOTEDSTRING", r#""a \" b""#),
        ("MAC", "00:1a:2b:3c:4d:5e"),
        ("UUID", "0b1c2d3e-0000-4000-8000-000000000001"),
        ("IPV4", "255.10.0.1"),
        ("IPV6", "fe80::1"),
        ("IP", "::1"),
        ("HOSTNAME", "a-1.acme.com"),
        ("IPORHOST", "web-1"),
        ("HOSTPORT", "web:80"),
        ("USER", "a.b-c"),
        ("EMAILADDRESS", "a+b@acme.com"),
        ("PATH", "/var/log/x.log"),
        ("PATH", r"C:\x\y"),
        ("URI", "https://a@acme.com:8/x?y=1"),
        ("URIPATHPARAM", "/a/b?c=d"),
        ("LOGLEVEL", "Warning"),
        ("MONTH", "January"),
        ("DAY", "Wednesday"),
        ("TIME", "15:04:05.5"),
        ("BOOL", "true"),
        ("JAVACLASS", "a.b.C$D"),
        ("TIMESTAMP_ISO8601", "2024-01-02 15:04:05,123"),
        ("SYSLOGPROG", "sshd[7]"),
        ("SYSLOGTIMESTAMP", "Jan  2 15:04:05"),
        ("HTTPDATE", "02/Jan/2024:15:04:05 +0000"),
    ] {
        let patterns = Patterns::new(&[format!("^%{{{part}:x}}$")]).unwrap();
        let mut got = None;
        patterns.for_each_field(text, |_, value| got = Some(value.to_owned()));
        assert_eq!(got.as_deref(), Some(text), "{part}");
        assert!(!patterns.for_each_field("\u{1} ", |_, _| {}), "{part}");
    }
}

#[test]
fn mistakes_in_patterns_are_named() {
    for (pattern, expected) in [
        ("(?<a>", "unclosed group"),
        ("%{WORDS:a}", "unknown part `WORDS`"),
        ("%{WORD:a b}", "no field's name"),
        ("%{WORD", "without `}`"),
        ("a.*b", "names no group"),
        ("(?<a>(?:x{1000}){1000})", "size limit"),
    ] {
        let error = Patterns::new(&[pattern.to_owned()]).unwrap_err();
        assert!(error.contains(expected), "{pattern}: {error}");
    }
    assert!(Patterns::new(&vec!["(?<a>x)".to_owned(); 65]).is_err());
}

/// Lines of all notations, damaged at random: each is one record, and its text is there.
#[test]
fn damaged_lines_of_all_notations_keep_their_text_fuzz() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    const LINES: [&str; 8] = [
        r#"10.0.0.1 - bob [02/Jan/2024:15:04:05 +0000] "GET /a?c=d HTTP/1.1" 200 512 "r" "u""#,
        "2024/01/02 15:04:05 [error] 7#8: *9 x, client: 10.0.0.1, request: \"GET / HTTP/1.1\"",
        "[Tue Jan 02 15:04:05.5 2024] [core:warn] [pid 7:tid 8] [client 10.0.0.1:9] x",
        r#"<165>1 2024-01-02T15:04:05Z web-1 app 7 ID4 [a@1 x="1"] text"#,
        "Jan  2 15:04:05 web-1 sshd[7]: error: no key",
        "1:M 02 Jan 2024 15:04:05.123 * Ready [x]",
        "Jan 02, 2024 3:04:05 PM com.acme.Shop order",
        "1704207845.25 [x] a=b",
    ];
    let mut rng = SmallRng::seed_from_u64(3);
    for _ in 0..4_000 {
        let mut line: Vec<char> = LINES[rng.random_range(0..LINES.len())].chars().collect();
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..line.len());
            match rng.random_range(0..3) {
                0 => drop(line.remove(at)),
                1 => line[at] = ['[', ']', '"', '\\', ' ', ':', 'é', '9'][rng.random_range(0..8)],
                _ => line.truncate(at.max(1)),
            }
            if line.is_empty() {
                line.push('x');
            }
        }
        let text: String = line.into_iter().collect();
        for format in [Format::Auto, Format::Access, Format::Syslog, Format::Text] {
            let row = row_in(format, &["(?<pid>[0-9]+)#"], &text);
            let message = row.get("_msg").and_then(Value::as_str).unwrap_or_default();
            assert!(text.ends_with(message), "{format:?}: {text}");
            if format != Format::Syslog {
                assert_eq!(message, text, "{format:?}");
            }
        }
    }
}

#[test]
fn levels_in_their_usual_places() {
    for (line, expected) in [
        ("2024-01-02 15:04:05,123 ERROR [main] x", Some("error")),
        ("2024/01/02 15:04:05 [warn] 7#7: x", Some("warn")),
        ("[Tue Jan 02 15:04:05 2024] [core:error] x", Some("error")),
        ("WARNING:root:x", Some("warn")),
        ("Jan  2 15:04:05 host app[1]: error: x", Some("error")),
        ("I0102 15:04:05.000000 7 a.go:1] x", Some("info")),
        ("time now (DEBUG) x", Some("debug")),
        ("CRITICAL x", Some("critical")),
        ("a line about an error in the text", None),
        ("the panic room", None),
        ("GET /info 200", None),
        ("", None),
    ] {
        assert_eq!(level::in_line(line), expected, "{line}");
    }
}

#[test]
fn logfmt_is_pairs_and_nothing_else() {
    let pairs = logfmt::parse(r#"ts=1 level=info msg="a \"b\"\nc" empty= x.y=z"#).unwrap();
    let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(pairs, ["ts=1", "level=info", "msg=a \"b\"\nc", "empty=", "x.y=z"]);
    for text in ["a=1", "a=1 b", "hello a=1 b=2", "a=1 b=\"x", "a=1 b=x\"y", "=1 b=2", "a = 1"] {
        assert_eq!(logfmt::parse(text), None, "{text}");
    }
}

#[test]
fn json_becomes_fields() {
    let text = r#"{"time":"2024-01-02T15:04:05Z","level":"INFO","msg":"hi","n":7,"k":{"pod":"p"},
        "f":1.50,"ok":true,"no":null,"list":[1,2]}"#;
    assert_eq!(
        own(&row(text)),
        "_msg=hi|_time=2024-01-02T15:04:05Z|f=1.50|k.pod=p|level=INFO|list=[1,2]|n=7|ok=true"
    );
    // The best name wins, the others stay fields.
    assert_eq!(
        own(&row(r#"{"log":"raw\n","message":"m","ts":1704207845123,"severity":"WARNING"}"#)),
        "_msg=m|_time=2024-01-02T15:04:05.123Z|level=warn|log=raw\n|severity=WARNING"
    );
    assert_eq!(
        own(&row(r#"{"log":"from docker\n","stream":"stdout","time":"2024-01-02T15:04:05.5Z"}"#)),
        "_msg=from docker|_time=2024-01-02T15:04:05.5Z|stream=stdout"
    );
    // A time that is none stays a field, and the record gets the time of reading.
    assert_eq!(
        own(&row(r#"{"time":"soon","msg":"x"}"#)),
        "_msg=x|_time=2024-03-01T00:00:00Z|time=soon"
    );
}

#[test]
fn what_is_no_json_is_text() {
    for text in ["{\"a\":1", "{not json}", "{\"a\":1} trailing", "{}x", "{\"a\":01}"] {
        assert_eq!(own(&row(text)), format!("_msg={text}|_time=2024-03-01T00:00:00Z"));
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(row(&deep)["_msg"].as_str(), Some(deep.as_str()));
}

#[test]
fn logfmt_and_plain_lines() {
    assert_eq!(
        own(&row(r#"ts=2024-01-02T15:04:05Z lvl=warning msg="slow query" ms=12 f=1.0"#)),
        "_msg=slow query|_time=2024-01-02T15:04:05Z|f=1.0|level=warn|lvl=warning|ms=12"
    );
    let trace = "2024-01-02 15:04:05,123 ERROR x\njava.lang.Error\n\tat a.b(C.java:1)";
    let expected = format!("_msg={trace}|_time=2024-01-02T15:04:05.123Z|level=error");
    assert_eq!(own(&row(trace)), expected);
}

#[test]
fn labels_name_the_stream() {
    let rows = rows_of(
        &[
            b"plain",
            br#"{"service":"shop","msg":"same"}"#,
            br#"{"service":"checkout","host":"inner","msg":"other"}"#,
        ],
        &[("env", "prod")],
    );
    let streams: Vec<_> = rows.iter().map(|row| row["_stream"].as_str().unwrap()).collect();
    let stream = |service: &str| {
        format!(r#"{{env="prod",file="/var/log/shop.log.1",host="h1",service="{service}"}}"#)
    };
    assert_eq!(streams, [stream("shop"), stream("shop"), stream("checkout")]);
    assert_eq!(rows[2]["service"], "checkout");
    // The label is the field; the record's own, different value is kept beside it.
    assert_eq!(rows[2]["host"], "h1");
    assert_eq!(rows[2]["host#2"], "inner");
    assert!(!rows[1].contains_key("service#2"));

    let rows = rows_of(&[br#"{"service":"checkout"}"#], &[("service", "fixed")]);
    assert_eq!(rows[0]["service"], "fixed");
    assert_eq!(rows[0]["service#2"], "checkout");
}

#[test]
fn a_file_names_a_bounded_number_of_services() {
    let lines: Vec<String> = (0..1000).map(|n| format!("{{\"service\":\"s{n}\"}}")).collect();
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let rows = rows_of(&lines, &[]);
    let streams: BTreeSet<_> = rows.iter().map(|row| text(row, "_stream")).collect();
    assert!(streams.len() < 100, "{} streams", streams.len());
    assert_eq!(rows[999]["service#2"], "s999");
}

#[test]
fn hostile_bytes_are_kept() {
    let rows = rows_of(&[b"a\xff\xfeb", "\u{feff}{\"msg\":\"bom\"}".as_bytes(), b"x\0y"], &[]);
    assert_eq!(rows[0]["_msg"], "a\u{fffd}\u{fffd}b");
    assert_eq!(rows[0]["lodge.raw_base64"], "Yf/+Yg==");
    assert_eq!(rows[1]["_msg"], "bom");
    assert_eq!(rows[2]["_msg"], "x\0y");

    let long = vec![b'z'; limits::LINE_BYTES_MAX + 1000];
    let row = rows_of(&[&long], &[]).remove(0);
    assert_eq!(row["_msg"].as_str().unwrap().len(), limits::LINE_BYTES_MAX);
    assert_eq!(row["truncated"], "true");
    assert_eq!(row["lodge.original_bytes"], long.len().to_string());
}

#[test]
fn many_field_names_fit() {
    let members: Vec<String> = (0..100_000).map(|n| format!("\"f{n}\":{n}")).collect();
    let text = format!("{{{}}}", members.join(","));
    let row = row(&text);
    assert_eq!(row["f0"], "0");
    assert_eq!(row["f99999"], "99999");
}
