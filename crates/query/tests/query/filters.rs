//! Every filter with the examples of its documentation, over records that are stored.

use expect_test::{Expect, expect};
use lodge_query::{QueryErrorKind, logsql};

use crate::fixture::{DAY, Lab, Record, S, record};

/// A store with one record per value of `field`.
async fn of_values(field: &str, values: &[&str]) -> Lab {
    let lab = Lab::new().await;
    let records: Vec<Record> = (values.iter().zip(0i64..))
        .map(|(value, id)| match field {
            "_msg" => record(DAY + id * S, value).with("id", id),
            field => record(DAY + id * S, "").with(field, *value).with("id", id),
        })
        .collect();
    lab.fill(&records).await;
    lab
}

async fn found<'v>(lab: &Lab, values: &[&'v str], query: &str) -> Vec<&'v str> {
    let rows = lab.logsql(&format!("{query} | sort by (id) | fields id")).await;
    let place = |row: &String| row.trim_start_matches("id=").parse::<usize>().unwrap();
    rows.iter().map(|row| values[place(row)]).collect()
}

/// Of records with these values of `field`, the query finds the first ones and not the second ones.
async fn finds(field: &str, query: &str, these: &[&str], others: &[&str]) {
    let values = [these, others].concat();
    let lab = of_values(field, &values).await;
    assert_eq!(found(&lab, &values, query).await, these, "{query}");
    let opposite = format!("!({query})");
    assert_eq!(found(&lab, &values, &opposite).await, others, "{opposite}");
}

#[tokio::test(flavor = "multi_thread")]
async fn word_filter() {
    let words = ["error", "an error happened", "error: cannot open file"];
    finds("_msg", "error", &words, &["ERROR", "multiple errors occurred"]).await;
    finds("log.level", "log.level:error", &["error"], &["errors", ""]).await;
    finds("სფერო", "სფერო:τιμή", &["τιμή", "a τιμή"], &["τιμήν"]).await;
    finds("ip:remote", "\"ip:remote\":\"1.2.3.45\"", &["1.2.3.45"], &["1.2.3.4", "11.2.3.45"])
        .await;
    finds("_msg", "\"and\"", &["this and that"], &["band"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn phrase_filter() {
    let these = ["ERROR: ssh: login fail for user \"foobar\"", "ssh: login fail!"];
    let others =
        ["ssh login fail", "login fail: ssh error", "ssh: login failed", "SSH: login fail"];
    finds("_msg", "\"ssh: login fail\"", &these, &others).await;
    finds("_msg", r#"'"foo":"bar"'"#, &[r#"{"foo":"bar"}"#], &[r#"{"foo":"barn"}"#]).await;
    let original = "event.original";
    let these = ["ERROR: cannot open file /foo/bar"];
    finds(original, "event.original:\"cannot open file\"", &these, &["cannot open  file"]).await;
    let these = ["Το αρχείο δεν μπορεί να ανοίξει"];
    finds("შეტყობინება", "შეტყობინება:\"δεν μπορεί\"", &these, &["μπορεί"]).await;
    finds("some:message", "\"some:message\":\"cannot open\"", &["cannot open"], &["cannot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_filter() {
    let these = ["err: foobar", "cannot open file: error occurred"];
    finds("_msg", "err*", &these, &["Error: foobar", "fooerror"]).await;
    let these = ["unexpected fail: IO error", "error:unexpected failure"];
    let others = ["unexpectedly failed", "failed to open file: unexpected EOF"];
    finds("_msg", "\"unexpected fail\"*", &these, &others).await;
    finds("_msg", r#"'"foo":"bar'*"#, &[r#"{"foo":"bar"}"#, r#"{"foo":"barn"}"#], &["foo"]).await;
    finds("log:level", "\"log:level\":err*", &["error", "an err"], &["warn"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn substring_filter() {
    finds("_msg", "~\"ampl\"", &["Example message", "This is a sample"], &["EXAMPLE message"])
        .await;
    finds("_msg", "*ampl*", &["Example message", "This is a sample"], &["EXAMPLE message"]).await;
    finds("_msg", "~\"(?i)ampl\"", &["Example message", "EXAMPLE message"], &["amp l"]).await;
    finds("_msg", r#"~"foo\\.bar""#, &["a foo.bar b"], &["foo-bar"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn comparisons() {
    let field = "response_size";
    finds(field, "response_size:>10KiB", &["10241", "11KiB", "1.5MB"], &["10240", "10KiB", "x"])
        .await;
    finds("username", "username:<\"John\"", &["Ann", "", "JOHN"], &["John", "Kim"]).await;
    finds("ip", "ip:>'12.34.56.78'", &["12.34.56.79", "112.0.0.0"], &["12.34.56.78", "2.0.0.0"])
        .await;
    finds("took", "took:<=1.5s", &["1500ms", "20µs", "-1h"], &["1501ms", "1m", ""]).await;
    finds("n", "n:>=1_000", &["1000", "1K", "1e3"], &["999.9", "a"]).await;
    finds("n", "n:<-0x10", &["-17"], &["-16", "-15"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_any_value_filters() {
    finds("host.hostname", "host.hostname:\"\"", &[""], &["a", "0"]).await;
    finds("host.hostname", "host.hostname:*", &["a", "0"], &[""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_filters() {
    let these = ["fatal error: cannot find /foo/bar"];
    let others = [
        "fatal error: cannot find /foo/bar/baz",
        "some-text fatal error: cannot find /foo/bar",
        "FATAL ERROR: cannot find /foo/bar",
    ];
    finds("_msg", "=\"fatal error: cannot find /foo/bar\"", &these, &others).await;
    finds("log:level", "\"log:level\":=\"error\"", &["error"], &["errors", "an error"]).await;
    finds("log.დონე", "log.დონე:=\"შეცდომა\"", &["შეცდომა"], &["x"]).await;
    finds("level", "level:!=error", &["errors", ""], &["error"]).await;
    finds("level", "level:exact(error)", &["error"], &["errors"]).await;
    let these = ["Processing request foobar", "Processing requests from ..."];
    let others = ["processing request foobar", "start: Processing request"];
    finds("_msg", "=\"Processing request\"*", &these, &others).await;
    finds("log:level", "\"log:level\":=\"err\"*", &["error", "err"], &["xerr", ""]).await;
    finds("level", "level:exact(\"err\"*)", &["error", "err"], &["xerr"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn multi_exact_filter() {
    let others = ["errors", "an error", "ERROR", ""];
    finds("log.level", "log.level:in(\"error\", \"fatal\")", &["error", "fatal"], &others).await;
    finds("log.level", "log.level:(=\"error\" OR =\"fatal\")", &["error", "fatal"], &others).await;
    finds("log.level", "log.level:in(error, \"\",)", &["error", ""], &["fatal"]).await;
    finds("log.level", "log.level:in(*)", &["error", ""], &[]).await;
    finds("log.level", "log.level:in()", &[], &["error", ""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contains_filters() {
    let these = ["foo, bar baz", "bar baz foo"];
    let others = ["foo bar", "bar baz", "foobar baz foo"];
    finds("_msg", "contains_all(foo, \"bar baz\")", &these, &others).await;
    finds("_msg", "foo AND \"bar baz\"", &these, &others).await;
    let these = ["foo bar", "xbar, bar baz"];
    finds("_msg", "contains_any(foo, \"bar baz\")", &these, &["foobar", "bar bazz"]).await;
    finds("_msg", "contains_any(*)", &["a", ""], &[]).await;
    finds("_msg", "contains_all(*)", &["a", ""], &[]).await;
    let these = [
        "VictoriaMetrics",
        "x VICTORIAMETRICS",
        "victoriametrics",
        "Victoriametrics",
        "the victoriaMetrics",
    ];
    let query = "contains_common_case(\"VictoriaMetrics\")";
    finds("_msg", query, &these, &["VictoriametricS", "aVictoriaMetrics"]).await;
    let these = ["Error", "ERROR", "error"];
    finds("level", "level:equals_common_case(Error)", &these, &["ErRor", "an error", ""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_insensitive_filter() {
    let these = [
        "unknown error happened",
        "ERROR: cannot read file",
        "Error: unknown arg",
        "An ErRoR occurred",
    ];
    finds("_msg", "i(error)", &these, &["FooError", "too many Errors"]).await;
    finds("_msg", "i(error*)", &["too many Errors", "ERROR"], &["FooError"]).await;
    finds("log:level", "\"log:level\":i(\"error\")", &["eRRor"], &["errors", ""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequence_filter() {
    let these = ["some error: cannot open file /foo/bar"];
    let others = ["cannot open file: error", "error: open files"];
    finds("_msg", "seq(\"error\", \"open file\")", &these, &others).await;
    let field = "event:original";
    finds(field, "\"event:original\":seq(error, \"open file\")", &these, &others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn regexp_filter() {
    let these =
        ["error: cannot read data", "2 warnings have been raised", "data transferring finished"];
    let others = ["ERROR: cannot open file", "it is warmer than usual"];
    finds("_msg", "~\"err|warn\"", &these, &others).await;
    finds("_msg", "re(\"err|warn\")", &these, &others).await;
    finds("_msg", r#"~'"foo":"(bar|baz)"'"#, &[r#"{"foo":"baz"}"#], &[r#"{"foo":"bat"}"#]).await;
    finds("event:original", "\"event:original\":~\"err|warn\"", &["an error"], &["ERR"]).await;
    finds("foo", "foo:~bar.*", &["bar", "xbart"], &["ba"]).await;
    finds("foo", "foo:~^ba+r$", &["bar", "baar"], &["bart"]).await;
    finds("foo", "foo:!~\"^b\"", &["", "ab"], &["b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn range_filters() {
    let field = "request.duration";
    let others = ["4.2", "4", "the request took 4.3 seconds", ""];
    finds(field, "request.duration:range(4.2, Inf)", &["4.21", "1e9"], &others).await;
    let values = ["1", "5", "10"];
    let lab = of_values("x", &values).await;
    for (query, expected) in [
        ("x:range(1, 10)", &values[1..2]),
        ("x:range[1, 10)", &values[..2]),
        ("x:range(1, 10]", &values[1..]),
        ("x:range[1, 10]", &values[..]),
        ("x:range[0x1, 0b101]", &values[..2]),
        ("x:range[-inf, 1_0]", &values[..]),
    ] {
        assert_eq!(found(&lab, &values, query).await, expected, "{query}");
    }
    let others = ["128.0.0.1", "request from 127.0.0.1: done", "127.0.0", ""];
    let these = ["127.0.0.0", "127.255.255.255", "127.1.2.3"];
    finds("user.ip", "user.ip:ipv4_range(127.0.0.0, 127.255.255.255)", &these, &others).await;
    finds("user.ip", "user.ip:ipv4_range(\"127.0.0.0/8\")", &these, &others).await;
    finds("user.ip", "user.ip:ipv4_range(127.0.0.0/8)", &these, &others).await;
    finds("user.ip", "user.ip:ipv4_range(\"1.2.3.4\")", &["1.2.3.4"], &["1.2.3.40"]).await;
    let (these, others) = (["2001:db8::1", "2001:db8:0:0::ff"], ["2001:db9::", "10.0.0.1", ""]);
    finds("ip", "ip:ipv6_range(\"2001:db8::/32\")", &these, &others).await;
    finds("ip", "ip:ipv6_range(2001:db8::1, 2001:db8::ff)", &these, &others).await;
    finds("user.name", "user.name:string_range(A, C)", &["A", "Anna", "Bob"], &["C", "Cid", ""])
        .await;
    finds("user.name", "user.name:string_range(C, E)", &["Cid", "Dan"], &["Bob", "E"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn length_range_filter() {
    finds("_msg", "len_range(5, 10)", &["foobar", "foo bar"], &["foo", "foo bar baz abc"]).await;
    finds("_msg", "len_range(5, inf)", &["ünïcö", "foo bar baz abc"], &["ünïc"]).await;
    finds("foo", "foo:len_range(0b11, 0x4)", &["abc", "abcd"], &["ab", "abcde", ""]).await;
    finds("foo", "foo:len_range(0, 1_0)", &["", "abcdefghij"], &["abcdefghijk"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn value_type_filter() {
    let others = ["-1", "01", "1.5", "x", "18446744073709551616", ""];
    finds("user_id", "user_id:value_type(uint64)", &["1", "4294967296"], &others).await;
    finds("x", "x:value_type(string)", &["a", "01", "1 2"], &["1", "1.2.3.4", ""]).await;
    finds("x", "x:value_type(iso8601)", &["2026-01-02T03:04:05Z"], &["2026-01-02", "1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_array_filter() {
    let (these, others) = (
        [r#"["prod","eu"]"#, r#"[1,"eu"]"#],
        [r#"["europe"]"#, r#"{"a":"eu"}"#, "eu", r#"[["eu"]]"#],
    );
    finds("tags", "tags:json_array_contains_any(eu, \"us\")", &these, &others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pattern_filters() {
    let these = ["user 123 from 10.0.0.1", "the user 7 from 1.2.3.4 left"];
    let others = ["user x from 10.0.0.1", "user 1 from 10.0.0"];
    finds("_msg", "pattern_match(\"user <N> from <IP4>\")", &these, &others).await;
    let others = ["a job-42", "job-42 done", "job-x"];
    finds("_msg", "pattern_match_full(\"job-<N>\")", &["job-42"], &others).await;
    finds("_msg", "pattern_match_prefix(\"job-<N>\")", &["job-42 done"], &["a job-42"]).await;
    finds("_msg", "pattern_match_suffix(\"job-<N>\")", &["a job-42"], &["job-42 done"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_compare_fields() {
    let lab = Lab::new().await;
    let rows = [("1", "1"), ("1", "1.0"), ("500ms", "2s"), ("b", "a"), ("", ""), ("9", "10")];
    let records: Vec<Record> = (rows.iter().zip(0i64..))
        .map(|((a, b), id)| record(DAY + id, "x").with("a", *a).with("b", *b).with("id", id))
        .collect();
    lab.fill(&records).await;
    for (query, expected) in [
        ("a:eq_field(b)", &["0", "4"][..]),
        ("NOT a:eq_field(b)", &["1", "2", "3", "5"]),
        ("a:lt_field(b)", &["2", "5"]),
        ("a:le_field(b)", &["0", "1", "2", "4", "5"]),
        ("NOT a:le_field(b)", &["3"]),
        ("_msg:eq_field(_msg) a:eq_field(\"absent\")", &["4"]),
    ] {
        let rows = lab.logsql(&format!("{query} | sort by (id) | fields id")).await;
        let ids: Vec<&str> = rows.iter().map(|row| row.trim_start_matches("id=")).collect();
        assert_eq!(ids, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_on_any_field_with_a_prefix() {
    let lab = Lab::new().await;
    let mut records = vec![
        record(DAY, "m0").with("http.method", "GET").with("http.path", "/error").with("id", 0),
        record(DAY + 1, "error").with("http.path", "/a").with("id", 1),
        record(DAY + 2, "m2").with("grpc.path", "error").with("id", 2),
        record(DAY + 3, "m3").with("id", 3),
    ];
    // So many fields that some of them have no column.
    for field in 0..1_100 {
        records[3] = records[3].clone().with(&format!("wide.{field}"), "y");
    }
    records[3] = records[3].clone().with("http.wide", "an error");
    lab.fill(&records).await;
    for (query, expected) in [
        ("http.*:error", &["0", "3"][..]),
        ("http.*:*", &["0", "1", "3"]),
        ("http.*:\"\"", &["2"]),
        ("!http.*:error", &["1", "2"]),
        ("http.*:!error", &["1", "2"]),
        ("http.*:(GET or =\"/a\")", &["0", "1"]),
        ("*:error", &["0", "1", "2", "3"]),
        ("\"grpc.\"*:=error", &["2"]),
        ("absent*:x", &[]),
        ("* | fields id, http.*, _msg | filter http.*:error", &["0", "3"]),
        ("* | rename http.path as path | filter http.*:error", &["3"]),
    ] {
        let rows = lab.logsql(&format!("{query} | sort by (id) | fields id")).await;
        let ids: Vec<&str> = rows.iter().map(|row| row.trim_start_matches("id=")).collect();
        assert_eq!(ids, expected, "{query}");
    }
    let counts = "* | stats count() if (http.*:error) some, count() all";
    assert_eq!(lab.logsql(counts).await, ["some=2 all=4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_filters() {
    let lab = Lab::new().await;
    let app = |name: &str, host: &str, id: i64| {
        let record = record(DAY + id, "x").label("app", name).label("host", host);
        record.with("id", id)
    };
    lab.fill(&[
        app("nginx", "a", 0),
        app("foo.bar", "a", 1),
        app("fooxbar", "b", 2),
        record(DAY, "x").with("id", 3),
    ])
    .await;
    let ids = |query: &str| {
        let query = format!("{query} | sort by (id) | fields id");
        let lab = &lab;
        async move {
            let rows = lab.logsql(&query).await;
            rows.iter().map(|row| row.trim_start_matches("id=").to_owned()).collect::<Vec<_>>()
        }
    };
    for (query, expected) in [
        ("{app=\"nginx\"}", &["0"][..]),
        ("app:=\"nginx\"", &["0"]),
        ("_stream:{app=\"nginx\"}", &["0"]),
        ("{app in (\"nginx\", \"foo.bar\")}", &["0", "1"]),
        ("{app=~\"nginx|foo\\\\.bar\"}", &["0", "1"]),
        ("{app not_in (\"nginx\", \"foo.bar\")}", &["2", "3"]),
        ("{app!~\"nginx|foo\\\\.bar\"}", &["2", "3"]),
        ("{app!=\"nginx\",host=\"a\"}", &["1"]),
        ("{app=\"nginx\" or host=\"b\"}", &["0", "2"]),
        ("{app in (*)}", &["0", "1", "2", "3"]),
        ("{app in (*), host=\"a\"}", &["0", "1"]),
        ("{host=\"b\" or app in (*)}", &["0", "1", "2", "3"]),
        ("{app not_in (*)}", &[]),
        ("{host=\"\"}", &["3"]),
        ("{}", &["0", "1", "2", "3"]),
        ("{host=\"a\"} {app=\"nginx\"}", &["0"]),
    ] {
        assert_eq!(ids(query).await, expected, "{query}");
    }
    let of = |query: &str| {
        let query = format!("{query} | fields _stream_id");
        let lab = &lab;
        async move { lab.logsql(&query).await[0].trim_start_matches("_stream_id=").to_owned() }
    };
    let (nginx, bar) = (of("id:0").await, of("id:1").await);
    assert_eq!(ids(&format!("_stream_id:{nginx}")).await, ["0"]);
    assert_eq!(ids(&format!("_stream_id:in({nginx}, {bar})")).await, ["0", "1"]);
    assert_eq!(ids("_stream_id:in(host:=a | fields _stream_id)").await, ["0", "1"]);
    assert_eq!(ids("_stream_id:abc").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_filters() {
    let lab = Lab::new().await;
    // 2026-01-01T22:00 to 2026-01-02T03:00, every half an hour; it is 2026-01-02T01:00.
    let records: Vec<Record> = (0..=10)
        .map(|id| record(DAY - 2 * 3_600 * S + id * 1_800 * S, "x").with("id", id))
        .collect();
    lab.fill(&records).await;
    for (query, expected) in [
        ("_time:1h", 5..=6),
        ("_time:1.5h", 4..=6),
        ("_time:30m offset 1h", 4..=4),
        ("_time:offset 1h", 0..=4),
        ("_time:>1h", 0..=3),
        ("_time:>=1h", 0..=4),
        ("_time:<1h", 5..=10),
        ("_time:2026-01-02Z", 4..=10),
        ("_time:2026-01-01Z", 0..=3),
        ("_time:2026Z", 0..=10),
        ("_time:2026-01Z offset 2h", 0..=10),
        ("_time:2026-01-02T01Z", 6..=7),
        ("_time:2026-01-02T01:30Z", 7..=7),
        ("_time:2026-01-02T01:30:00Z", 7..=7),
        ("_time:2026-01-02+02:00", 0..=10),
        ("_time:2026-01-02-01:00", 6..=10),
        ("_time:>2026-01-02T01:30:00Z", 8..=10),
        ("_time:>=2026-01-02T01:30:00Z", 7..=10),
        ("_time:<2026-01-02Z", 0..=3),
        ("_time:<=2026-01-02T00:00:00Z", 0..=4),
        ("_time:[2026-01-01T23:00Z, 2026-01-02T00:00Z]", 2..=4),
        ("_time:[2026-01-01T23:00Z, 2026-01-02T00:00Z)", 2..=3),
        ("_time:(2026-01-01T23:00Z, 2026-01-02T00:00Z]", 3..=4),
        ("_time:[2026-01-02T00:00Z, 2026-01-02T01:00Z] offset 1h", 2..=4),
        ("_time:[now-1h, now]", 4..=6),
        ("_time:[1767312000, 1767313800]", 4..=5),
        ("\"_time\":\"1h\"", 5..=6),
        ("_time>2026-01-02T01:30:00Z", 8..=10),
        ("_time:day_range[23:00, 23:30]", 2..=3),
        ("_time:day_range[00:00, 01:00) offset 2h", 0..=1),
        ("_time:day_range[00:00, 01:00) offset -2h", 8..=9),
        ("_time:week_range[Thu, Thursday]", 0..=3),
        ("_time:week_range(Thu, Sat]", 4..=10),
        ("_time:week_range[Thu, Sat)", 0..=10),
        ("_time:week_range[Fri, fri] offset 1h", 2..=10),
        ("_time:week_range[Mon, Fri] _time:day_range[00:00, 01:00)", 4..=5),
    ] {
        let rows = lab.logsql(&format!("{query} | sort by (id) | fields id")).await;
        let expected: Vec<String> = expected.map(|id| format!("id={id}")).collect();
        assert_eq!(rows, expected, "{query}");
    }
    assert_eq!(lab.logsql("_time:day_range(23:00, 23:30) | count() n").await, ["n=0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn logic_and_its_priorities() {
    let values = ["info", "debug", "info debug", "x"];
    let lab = of_values("_msg", &values).await;
    for (query, expected) in [
        ("NOT info OR debug", &["debug", "info debug", "x"][..]),
        ("NOT (info OR debug)", &["x"]),
        ("-info -debug", &["x"]),
        ("!info debug", &["debug"]),
        ("not info and debug or x", &["debug", "x"]),
        ("info debug", &["info debug"]),
        ("(info or x) !debug", &["info", "x"]),
        ("info # debug\n debug", &["info debug"]),
        ("options(concurrency=1) info", &["info", "info debug"]),
        ("options", &[]),
    ] {
        assert_eq!(found(&lab, &values, query).await, expected, "{query}");
    }
}

/// Visits of users, some by administrators.
async fn visits() -> Lab {
    let lab = Lab::new().await;
    let visit = |id: i64, user: &str, path: &str| {
        let visit = record(DAY + id * S, &format!("user {user} at {path}")).with("id", id);
        let visit = visit.with("path", path);
        if user.is_empty() { visit } else { visit.with("user_id", user) }
    };
    lab.fill(&[
        visit(0, "ann", "/admin"),
        visit(1, "bob", "/"),
        visit(2, "ann", "/a"),
        visit(3, "cid", "/admin/x"),
        visit(4, "", "/admin"),
        visit(5, "cid", "/b"),
    ])
    .await;
    lab
}

async fn ids(lab: &Lab, query: &str) -> Vec<String> {
    let rows = lab.logsql(&format!("{query} | sort by (id) | fields id")).await;
    rows.iter().map(|row| row.trim_start_matches("id=").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_inside_filters() {
    let lab = visits().await;
    for (query, expected) in [
        ("user_id:in(path:admin | fields user_id)", &["0", "2", "3", "5"][..]),
        ("user_id:in(_time:1d AND path:admin | keep user_id)", &["0", "2", "3", "5"]),
        ("user_id:in(path:admin | uniq by (user_id))", &["0", "2", "3", "5"]),
        ("user_id:in(path:=\"/admin\" | fields user_id) path:a", &["2"]),
        ("!user_id:in(path:admin | fields user_id)", &["1", "4"]),
        ("user_id:in(nothing_there | fields user_id)", &[]),
        ("contains_any(path:=\"/admin\" | fields user_id)", &["0", "2"]),
        ("contains_all(id:<2 | fields user_id)", &[]),
        ("contains_all(id:1 | fields user_id)", &["1"]),
        // A query inside a query inside a query.
        (
            "user_id:in(path:in(user_id:in(id:3 | fields user_id) | fields path) | fields user_id)",
            &["3", "5"],
        ),
        ("id:in(0,1) or id:in(user_id:cid | fields id)", &["0", "1", "3", "5"]),
        ("* | filter user_id:in(id:1 | fields user_id)", &["1"]),
        ("id:in(* | sort by (id desc) | limit 2 | fields id)", &["4", "5"]),
        ("id:in(* | stats by (user_id) max(id) last | fields last)", &["1", "2", "4", "5"]),
    ] {
        assert_eq!(ids(&lab, query).await, expected, "{query}");
    }
    let counts = "* | stats count() if (user_id:in(path:admin | fields user_id)) n, count() all";
    assert_eq!(lab.logsql(counts).await, ["n=4 all=6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_inside_filters_keep_to_the_request() {
    let lab = visits().await;
    let mut request = lab.request("user_id:in(path:admin | fields user_id) | sort by (id)");
    (request.start_ns, request.end_ns) = (Some(DAY + S), Some(DAY + 4 * S));
    request.query += " | fields id";
    // Within the range cid alone was at an admin's page.
    assert_eq!(lab.ask(request.clone()).await.unwrap(), ["id=3"]);
    request.query = "user_id:in(options(ignore_global_time_filter=true) path:admin \
                     | fields user_id) | sort by (id) | fields id"
        .into();
    assert_eq!(lab.ask(request.clone()).await.unwrap(), ["id=2", "id=3"]);
    request.query =
        "options(ignore_global_time_filter=1) path:admin | sort by (id) | fields id".into();
    assert_eq!(lab.ask(request.clone()).await.unwrap(), ["id=0", "id=3", "id=4"]);
    // Neither sees what the caller must not see.
    request.view = request.view.narrowed("id:>0", request.now_ns).unwrap();
    request.query = "user_id:in(options(ignore_global_time_filter=true) path:admin \
                     | fields user_id) | sort by (id) | fields id"
        .into();
    assert_eq!(lab.ask(request.clone()).await.unwrap(), ["id=3"]);
    for endpoint in ["hits", "tail", "view"] {
        let query = "user_id:in(path:admin | fields user_id)";
        match endpoint {
            "hits" => {
                let hits = lab.engine.field_values(lab.fields_request(query), "user_id").await;
                let values: Vec<String> = hits
                    .unwrap()
                    .value
                    .iter()
                    .map(|hit| format!("{}={}", hit.value, hit.hits))
                    .collect();
                assert_eq!(values, ["ann=2", "cid=2"]);
            }
            "tail" => {
                let error = lab.engine.tail(&request.view, query, 0).unwrap_err();
                assert!(error.message().contains("live tail"), "{error}");
            }
            _ => {
                let error = request.view.narrowed(query, 0).unwrap_err();
                assert_eq!(error.kind(), QueryErrorKind::Parse { column: 12 }, "{error}");
            }
        }
    }
}

#[test]
fn wrong_filters_point_at_the_column() {
    let wrong = |query: &str, expected: Expect| {
        let error = logsql::parse(query, DAY).expect_err(query);
        expected.assert_eq(&format!("{}: {error}", error.column));
    };
    wrong(
        "a:{b=\"c\"}",
        expect![
            "3: expected a value of `a`, not `{`; labels in braces select streams: write them alone or after `_stream:`"
        ],
    );
    wrong(
        "a:value_type(dict)",
        expect![
            "14: there is no kind `dict` of values; there are: string, uint8, uint16, uint32, uint64, int64, float64, ipv4, iso8601"
        ],
    );
    wrong(
        "a:ipv4_range(10.0.0)",
        expect![[
            r#"3: expected addresses as in ipv4_range(10.0.0.1, 10.0.0.9) or ipv4_range("10.0.0.0/8")"#
        ]],
    );
    wrong(
        "a:ipv6_range(\"10.0.0.1\")",
        expect![[
            r#"3: expected addresses as in ipv6_range("2001:db8::1", "2001:db8::ff") or ipv6_range("::1/8")"#
        ]],
    );
    wrong(
        "a*:eq_field(b)",
        expect!["4: eq_field(…) compares two fields; name one before it, as in a:eq_field(b)"],
    );
    wrong("a:eq_field()", expect!["12: expected the other field's name in eq_field(…), not `)`"]);
    wrong(
        "a:pattern_match(<N>)",
        expect!["17: expected a pattern in quotes in pattern_match(…), not `<`"],
    );
    wrong("a:len_range(1)", expect!["12: expected two lengths, as in `len_range(5, 10)`"]);
    wrong(
        "a:string_range(b)",
        expect!["17: expected `,` after the lower end of the range, not `)`"],
    );
    wrong(
        "a:contains_common_case(ABCDEFGHIJKL)",
        expect![
            "23: `ABCDEFGHIJKL` has 12 capital letters, contains_common_case(…) takes at most 10; write i(…) for any letter case"
        ],
    );
    wrong(
        "a:in(b c)",
        expect![
            "8: expected `,` or `)` in in(…), not `c`; put values with spaces or signs in quotes"
        ],
    );
    wrong(
        "a:in(b | limit 5)",
        expect![
            "17: a query in in(…) must end in `| fields name` or `| uniq by (name)`, with one field"
        ],
    );
    wrong(
        "a:in(b | fields c, d)",
        expect![
            "21: a query in in(…) must end in `| fields name` or `| uniq by (name)`, with one field"
        ],
    );
    wrong(
        "a:in(b | fields c",
        expect!["18: expected `)` after the query in in(…), not the end of the query"],
    );
    wrong(
        "a:in(b | frobnicate)",
        expect![
            "10: there is no pipe `frobnicate`; there are: block_stats, blocks_count, coalesce, collapse_nums, copy, decolorize, delete, drop_empty_fields, extract, extract_regexp, facets, field_names, field_values, fields, filter, first, format, generate_sequence, hash, join, json_array_concat, json_array_len, last, len, limit, math, offset, pack_json, pack_logfmt, patterns, query_stats, rename, replace, replace_regexp, running_stats, sample, set_stream_fields, sort, split, stats, stream_context, time_add, top, total_stats, union, uniq, unpack_json, unpack_logfmt, unpack_syslog, unpack_words, unroll; to filter by a word write `| filter frobnicate`"
        ],
    );
    wrong("{a in b}", expect!["7: expected `(` and a list of values, not `b`"]);
    wrong(
        "options(concurrency=x) a",
        expect!["21: expected a whole number for `concurrency`, not `x`"],
    );
    wrong(
        "options(speed=1) a",
        expect![
            "9: there is no option `speed`; there are: concurrency=2, ignore_global_time_filter=true"
        ],
    );
    wrong(
        "_time:day_range[8:00, 18:00)",
        expect!["16: expected times of day, as in day_range[08:00, 18:00)"],
    );
    wrong(
        "_time:week_range[Mon, Foo]",
        expect!["17: expected days of the week, as in week_range[Mon, Fri]"],
    );
    wrong("_time:5m offset x", expect!["17: `x` is not a duration like 5m"]);
}
