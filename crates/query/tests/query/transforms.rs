//! The pipes that make fields of fields: LogsQL's documented examples, and what texts can do to them.

use crate::fixture::{DAY, Lab, Record, S, record};

/// A store of records with these messages, one second apart.
async fn lab(messages: &[&str]) -> Lab {
    let records: Vec<Record> = messages
        .iter()
        .enumerate()
        .map(|(at, message)| record(DAY + at as i64 * S, message).label("app", "web"))
        .collect();
    let lab = Lab::new().await;
    lab.fill(&records).await;
    lab
}

/// A store of these records.
async fn lab_of(records: &[Record]) -> Lab {
    let lab = Lab::new().await;
    lab.fill(records).await;
    lab
}

/// What a pipe makes of one message, as rows of the given fields.
async fn made(message: &str, pipe: &str, fields: &str) -> String {
    let lab = lab(&[message]).await;
    lab.logsql(&format!("* | {pipe} | fields {fields}")).await.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_unpacked_into_fields_that_were_never_declared() {
    let lab = lab(&[
        r#"{"ip":"1.2.3.4","n":7,"ok":true,"none":null,"list":[1,"a"],"host":{"name":"h","os":{"v":1}}}"#,
        r#"{"ip":"5.6.7.8","n":10,"app":"inner"}"#,
        "no json",
        r#"{"broken":"#,
    ])
    .await;
    assert_eq!(
        lab.logsql(
            "* | unpack_json | sort by (_time) | fields ip, n, ok, list, host.name, host.os.v"
        )
        .await,
        [
            r#"ip=1.2.3.4 n=7 ok=true list=[1,"a"] host.name=h host.os.v=1"#,
            "ip=5.6.7.8 n=10",
            "",
            ""
        ]
    );
    // Later pipes, filters, stats and sorts see them.
    assert_eq!(
        lab.logsql("* | unpack_json | ip:* | sort by (n desc) | fields ip").await,
        ["ip=5.6.7.8", "ip=1.2.3.4"]
    );
    assert_eq!(
        lab.logsql("* | unpack_json | stats sum(n) s, max(host.name) h").await,
        ["s=17 h=h"]
    );
    assert_eq!(lab.logsql("* | unpack_json | filter host.os.v:=1 | count() n").await, ["n=1"]);
    assert_eq!(
        lab.logsql("* | unpack_json | uniq by (ip) | sort by (ip) | offset 1").await.len(),
        2
    );
    // The output has all of them, and an overwritten field its new value.
    let rows =
        lab.logsql("* | unpack_json | filter ip:=5.6.7.8 | delete _time, _stream, _msg").await;
    assert_eq!(rows, ["app=inner ip=5.6.7.8 n=10"]);
    assert_eq!(
        lab.logsql("* | unpack_json keep_original_fields | filter n:=10 | fields app, ip").await,
        ["app=web ip=5.6.7.8"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn some_fields_of_json_are_unpacked() {
    let json = r#"{"foo":"1","bar":"2","foo2":"3","app":""}"#;
    for (pipe, expected) in [
        ("unpack_json from _msg fields (foo, bar)", "app=web foo=1 bar=2"),
        ("unpack_json fields (foo*)", "app=web foo=1 foo2=3"),
        ("unpack_json fields(foo, absent) result_prefix \"x_\"", "app=web x_foo=1"),
        ("unpack_json from _msg result_prefix \"p.\"", "app=web p.foo=1 p.bar=2 p.foo2=3"),
        ("unpack_json if (app:=db)", "app=web"),
        ("unpack_json fields (app, foo)", "foo=1"),
        ("unpack_json fields (app, foo) skip_empty_results", "app=web foo=1"),
        ("unpack_json from absent", "app=web"),
    ] {
        let lab = lab(&[json]).await;
        let rows = lab.logsql(&format!("* | {pipe} | delete _time, _stream, _msg")).await;
        assert_eq!(rows, [expected], "{pipe}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpacked_time_is_the_time() {
    let lab =
        lab(&[r#"{"_time":"2020-01-01T00:00:00Z","a":"1"}"#, r#"{"_time":"never","a":"2"}"#]).await;
    assert_eq!(
        lab.logsql("* | unpack_json | sort by (_time) | fields _time, a").await,
        ["_time=2020-01-01T00:00:00Z a=1", "_time=2026-01-02T00:00:01Z a=2"]
    );
    assert_eq!(
        lab.logsql("* | unpack_json | stats by (_time:1d) count() n | sort by (_time)").await,
        ["_time=2020-01-01T00:00:00Z n=1", "_time=2026-01-02T00:00:00Z n=1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn logfmt_is_unpacked() {
    for (message, expected) in [
        (r#"level=info msg="it \"works\"" done"#, r#"level=info msg=it "works""#),
        ("a= b=2  c", "b=2"),
        (r#"a="x"y b=2"#, "a=x"),
        ("", ""),
        (r#"a="open b=1"#, r#"a="open b=1"#),
    ] {
        let lab = lab(&[message]).await;
        let rows = lab.logsql("* | unpack_logfmt | delete _time, _stream, _msg, app").await;
        assert_eq!(rows.join(""), expected, "{message}");
    }
    assert_eq!(
        made("foo=1 bar=2", "unpack_logfmt from _msg fields (foo)", "foo, bar").await,
        "foo=1"
    );
    assert_eq!(made("foo=1", "unpack_logfmt result_prefix \"l_\"", "l_foo").await, "l_foo=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_is_unpacked() {
    let new = r#"<165>1 2023-06-03T17:42:32.123456789Z host app 345 ID47 [ex@1 a="b" c="d\]e"] text here"#;
    assert_eq!(
        made(
            new,
            "unpack_syslog",
            "level, priority, facility, facility_keyword, severity, format, timestamp, hostname, \
             app_name, proc_id, msg_id, message, ex@1.a, ex@1.c"
        )
        .await,
        "level=notice priority=165 facility=20 facility_keyword=local4 severity=5 format=rfc5424 \
         timestamp=2023-06-03T17:42:32.123456789Z hostname=host app_name=app proc_id=345 \
         msg_id=ID47 \
         message=text here ex@1.a=b ex@1.c=d]e"
    );
    let old = "<13>Dec 31 12:08:33 abcd systemd[1]: Starting";
    let fields = "priority, format, timestamp, hostname, app_name, proc_id, message";
    assert_eq!(
        made(old, "unpack_syslog from _msg", fields).await,
        "priority=13 format=rfc3164 timestamp=2025-12-31T12:08:33Z hostname=abcd app_name=systemd \
         proc_id=1 message=Starting"
    );
    assert_eq!(
        made(old, "unpack_syslog offset 5h30m", "timestamp").await,
        "timestamp=2025-12-31T06:38:33Z"
    );
    assert_eq!(
        made("what is this", "unpack_syslog result_prefix \"s_\"", "s_format, s_message, s_level")
            .await,
        "s_format=rfc3164 s_message=what is this"
    );
    assert_eq!(made(old, "unpack_syslog if (hostname:\"\") from foo", "format").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_take_texts_apart() {
    let line = r#"1.2.3.4 GET /foo/bar?baz 404 "Mozilla  foo \"bar\" baz" some tail here"#;
    for (message, pipe, fields, expected) in [
        ("error ip=1.2.3.4 from user_id=42", r#"extract "ip=<ip> " from _msg"#, "ip", "ip=1.2.3.4"),
        ("no such thing", r#"extract "ip=<ip> ""#, "ip", ""),
        (r#"{"ip":"1.2.3.4"}"#, r#"extract '"ip":"<ip>"'"#, "ip", "ip=1.2.3.4"),
        (
            line,
            r#"extract '<ip> <_> <path> <_> <user_agent>'"#,
            "ip, path, user_agent",
            "ip=1.2.3.4 path=/foo/bar?baz user_agent=Mozilla  foo \"bar\" baz",
        ),
        (r#"x "message":"a\nb\"c" y"#, r#"extract '"message":<msg>'"#, "msg", "msg=a\nb\"c"),
        (
            r#"some json string array: ["a","b"] x"#,
            "extract 'some json string array: [<plain:json_array>]'",
            "json_array",
            r#"json_array="a","b""#,
        ),
        ("a < b", "extract '<left> &lt; <right>'", "left, right", "left=a right=b"),
        ("ip=5 ", r#"extract if (app:="") "ip=<app> ""#, "app", "app=web"),
        ("ip=5 ", r#"extract "ip=<app> " keep_original_fields"#, "app", "app=web"),
        ("nothing", r#"extract "ip=<app> ""#, "app", ""),
        ("nothing", r#"extract "ip=<app> " skip_empty_results"#, "app", "app=web"),
        ("a=1 b=", "extract 'a=<a> b=<b>'", "a, b", "a=1"),
        ("ähm=ü öh", "extract 'ähm=<x> '", "x", "x=ü"),
        (
            "from 10.0.0.1 to",
            r#"extract_regexp "(?P<ip>([0-9]+[.]){3}[0-9]+)" from _msg"#,
            "ip",
            "ip=10.0.0.1",
        ),
        ("none", r#"extract_regexp "(?P<app>[0-9]+)" skip_empty_results"#, "app", "app=web"),
        ("7", r#"extract_regexp "(?P<app>[0-9]+)" keep_original_fields"#, "app", "app=web"),
        ("7", r#"extract_regexp if (app:"") "(?P<app>[0-9]+)""#, "app", "app=web"),
    ] {
        assert_eq!(made(message, pipe, fields).await, expected, "{pipe}");
    }
    // Names that an expression finds are fields like others.
    let lab = lab(&["ip=1 x", "ip=2 x", "ip=1 y"]).await;
    assert_eq!(
        lab.logsql(r#"* | extract "ip=<ip> " | top 10 (ip)"#).await,
        ["ip=1 hits=2", "ip=2 hits=1"]
    );
    assert_eq!(
        lab.logsql(
            "* | extract 'ip=<ip> ' from app | drop_empty_fields | fields ip | drop_empty_fields"
        )
        .await,
        [""; 0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_make_texts() {
    let made = async |pipe: &str| {
        let records = [record(DAY, "aцC d+")
            .label("app", "web")
            .with("ip", "1.2.3.4")
            .with("port", 80)
            .with("hex", "D099D0A6")
            .with("b64", "YSBi")
            .with("took", "1h5m35.5s")
            .with("ns", 210_123_456_789i64)
            .with("at", 1_717_328_141i64)
            .with("at_ms", 1_717_328_141_123i64)
            .with("address", 1_234_567_890i64)
            .with("empty", "")];
        let lab = lab_of(&records).await;
        lab.logsql(&format!("* | {pipe} | fields x, _msg, app")).await.join("\n")
    };
    for (template, expected) in [
        ("request from <ip>:<port>", "request from 1.2.3.4:80"),
        ("&lt;<uc:_msg>&gt; <lc:_msg>", "<AЦC D+> aцc d+"),
        ("{\"m\":<q:_msg>,\"e\":<q:empty>}", "{\"m\":\"aцC d+\",\"e\":\"\"}"),
        ("<urlencode:_msg> <urldecode:_msg>", "a%D1%86C+d%2B aцC d "),
        ("<hexencode:_msg> <hexdecode:hex>", "61D18643 20642B ЙЦ"),
        ("<base64encode:ip> <base64decode:b64>", "MS4yLjMuNA== a b"),
        ("<hexnumencode:port> <hexnumdecode:hex>", "0000000000000050 3499741350"),
        ("<duration_seconds:took> <duration:ns>", "3935.5 3m30.123456789s"),
        ("<time:at> <time:at_ms>", "2024-06-02T11:35:41Z 2024-06-02T11:35:41.123Z"),
        ("<ipv4:address>", "73.150.2.210"),
        // What is not of the kind stays as it is.
        ("<ipv4:ip> <time:ip> <duration:ip> <hexdecode:ip>", "1.2.3.4 1.2.3.4 1.2.3.4 1.2.3.4"),
        ("<absent><empty>", ""),
    ] {
        let expected = expected.replace("61D18643 20642B", "61D1864320642B");
        let row = made(&format!("format {} as x | delete _msg, app", quoted(template))).await;
        let expected = if expected.is_empty() { String::new() } else { format!("x={expected}") };
        assert_eq!(row, expected, "{template}");
    }
    assert_eq!(made("format 'some <ip>'").await, "_msg=some 1.2.3.4 app=web");
    assert_eq!(made("format 'new' as app keep_original_fields").await, "_msg=aцC d+ app=web");
    assert_eq!(made("format '<empty>' as app").await, "_msg=aцC d+");
    assert_eq!(
        made("format '<empty><absent>' as app skip_empty_results").await,
        "_msg=aцC d+ app=web"
    );
    assert_eq!(made("format if (ip:* and host:*) 'y' as x").await, "_msg=aцC d+ app=web");
    assert_eq!(made("format if (ip:* and port:*) 'y' x").await, "x=y _msg=aцC d+ app=web");
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_calculated() {
    let records = [record(DAY, "m")
        .with("a", 7)
        .with("b", 2.5)
        .with("d", "1.5s")
        .with("t", "2024-05-15T10:20:30.5Z")
        .with("ip", "12.34.56.78")
        .with("text", "abc")
        .with("my field", 3)];
    let lab = lab_of(&records).await;
    for (expression, expected) in [
        ("a + b * 2", "12"),
        ("(a + b) * 2", "19"),
        ("a - 1 - 1", "5"),
        ("2 ^ 3 ^ 2", "512"),
        ("-a ^ 2", "-49"),
        ("a % 4", "3"),
        ("a / 0", "+Inf"),
        ("0 / 0", "NaN"),
        ("a & 3", "3"),
        ("a or 8", "15"),
        ("a xor 2", "5"),
        ("text default 5", "5"),
        ("absent default a", "7"),
        ("abs(0 - a)", "7"),
        ("ceil(b)", "3"),
        ("floor(b)", "2"),
        ("round(b * 1.01, 0.1)", "2.5"),
        ("round(a / 2)", "4"),
        ("round(2024, 100)", "2000"),
        ("exp(0)", "1"),
        ("ln(1)", "0"),
        ("max(a, b, text)", "7"),
        ("min(a, b, text)", "2.5"),
        ("d / 1e9", "1.5"),
        ("round(d, 1e9)", "2000000000"),
        ("t", "1715768430500000000"),
        ("ip", "203569230"),
        ("1MiB / 1KiB", "1024"),
        ("\"2024-05-15T10:20:30Z\" - \"2024-05-15T10:20:29Z\"", "1000000000"),
        ("'my field' * 2", "6"),
        ("now()", "1767315600000000000"),
        ("min(rand(), 2) * 0", "0"),
    ] {
        let rows = lab.logsql(&format!("* | math {expression} as x | fields x")).await;
        assert_eq!(rows, [format!("x={expected}")], "{expression}");
    }
    // A result may use those before it; without a name it has that of its text.
    assert_eq!(lab.logsql("* | eval a * 2 as c, c + 1 e | fields c, e").await, ["c=14 e=15"]);
    assert_eq!(lab.logsql("* | math a / 2 | fields 'a / 2'").await, ["a / 2=3.5"]);
    assert_eq!(
        lab.logsql("* | math round(d, 1e9) as ns | format '<duration:ns>' as d | fields d").await,
        ["d=2s"]
    );
    assert_eq!(
        lab.logsql("* | math a*2 as c | filter c:>13 | sort by (c) | stats sum(c) s").await,
        ["s=14"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_texts_are_replaced() {
    for (message, pipe, expected) in [
        ("a secret-password b", r#"replace ("secret-password", "***") at _msg"#, "a *** b"),
        ("foofoo", r#"replace ('foo', 'bar') limit 1"#, "barfoo"),
        ("abc", r#"replace ("", "x")"#, "abc"),
        ("abc", r#"replace if (app:=admin) ("a", "x")"#, "abc"),
        ("abc", r#"replace if (app:=web) ("a", "")"#, "bc"),
        ("host-xyz-foo host-2-foo", r#"replace_regexp ("host-(.+?)-foo", "$1") at _msg"#, "xyz 2"),
        ("k=v", r#"replace_regexp ("(?P<k>\w+)=(\w+)", "${2}=${k} $$")"#, "v=k $"),
        ("a1b2", r#"replace_regexp ("[0-9]", "") limit 1"#, "ab2"),
        ("abc", r#"replace_regexp ("\d*", "-")"#, "-a-b-c-"),
        (
            "password: x y",
            r#"replace_regexp if (app:=db) ('password: [^ ]+', '')"#,
            "password: x y",
        ),
        ("\u{1b}[1;31mred\u{1b}[0m x", "decolorize", "red x"),
        ("\u{1b}[2Kcleared \u{1b}[", "decolorize _msg", "\u{1b}[2Kcleared \u{1b}["),
    ] {
        let row = made(message, pipe, "_msg").await;
        assert_eq!(row, format!("_msg={expected}"), "{pipe}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_in_texts_collapse() {
    for (message, pipe, expected) in [
        (
            "2024-10-20T12:34:56Z request duration 1.34s",
            "collapse_nums at _msg",
            "<N>-<N>-<N>T<N>:<N>:<N>Z request duration <N>.<N>s",
        ),
        ("deadbeef", "collapse_nums", "<N>"),
        ("be a decade", "collapse_nums", "be a <N>"),
        ("1foo", "collapse_nums", "1foo"),
        ("1 foo 23", "collapse_nums", "<N> foo <N>"),
        ("a1b2", "collapse_nums", "<N>"),
        ("release v1.2.3", "collapse_nums", "release v<N>.<N>.<N>"),
        ("123ms 3h5m6s", "collapse_nums", "<N>ms <N>h<N>m<N>s"),
        ("0x1234", "collapse_nums", "0x<N>"),
        ("Ä123 Ä 123", "collapse_nums", "Ä123 Ä <N>"),
        (
            "2edfed59-3e98-4073-bbb2-28d321ca71a7 - [2024/12/08 15:21:02] 10.71.20.32 GET 200",
            "collapse_nums prettify",
            "<UUID> - [<DATETIME>] <IP4> GET <N>",
        ),
        (
            "2024-12-08 15:22:32,123+10:30 E at 15:21:02.7",
            "collapse_nums prettify",
            "<DATETIME> E at <TIME>",
        ),
        ("5 x", "collapse_nums if (app:=admin)", "5 x"),
    ] {
        assert_eq!(made(message, pipe, "_msg").await, format!("_msg={expected}"), "{message}");
    }
    let lab = lab(&["took 5ms", "took 7ms", "done"]).await;
    assert_eq!(
        lab.logsql("* | collapse_nums | top 5 by (_msg)").await,
        ["_msg=took <N>ms hits=2", "_msg=done hits=1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_become_rows() {
    let records = [
        record(DAY, "a").with("timestamp", "[1,2,3]").with("value", r#"["x",{"y":1}]"#),
        record(DAY + S, "b").with("timestamp", "none").with("value", "[]"),
    ];
    let lab = lab_of(&records).await;
    assert_eq!(
        lab.logsql("* | unroll (timestamp, value) | sort by (_time, timestamp) | fields _msg, timestamp, value")
            .await,
        ["_msg=a timestamp=1 value=x", "_msg=a timestamp=2 value={\"y\":1}", "_msg=a timestamp=3", "_msg=b"]
    );
    assert_eq!(
        lab.logsql(
            "* | unroll if (value:=\"[]\") by (timestamp) | fields _msg, timestamp | sort by (_msg)"
        )
        .await,
        ["_msg=a timestamp=[1,2,3]", "_msg=b"]
    );
    assert_eq!(
        lab.logsql("* | unroll value | unpack_json from value | y:* | fields _msg, y").await,
        ["_msg=a y=1"]
    );
    let lab = self::lab(&["foo bar foo", "bar, Ünï"]).await;
    assert_eq!(
        lab.logsql("* | unpack_words from _msg as words | unroll words | top 5 (words)").await,
        ["words=bar hits=2", "words=foo hits=2", "words=Ünï hits=1"]
    );
    assert_eq!(
        lab.logsql("foo | unpack_words as words drop_duplicates | fields words").await,
        [r#"words=["foo","bar"]"#]
    );
    assert_eq!(
        lab.logsql(
            "* | unpack_words _msg as words | json_array_len (words) as words_count \
             | first 5 (words_count desc) | fields words_count"
        )
        .await,
        ["words_count=3", "words_count=2"]
    );
    assert_eq!(
        lab.logsql(r#"* | split " " as items | unroll items | top 5 (items)"#).await,
        ["items=foo hits=2", "items=bar hits=1", "items=bar, hits=1", "items=Ünï hits=1"]
    );
    assert_eq!(lab.logsql(r#"foo | split "o""#).await.len(), 1);
    assert_eq!(
        lab.logsql(r#"foo | split " " | json_array_concat ", " as x | fields x"#).await,
        ["x=foo, bar, foo"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_packed() {
    let records = [record(DAY, "m").with("foo", "a \"b\"").with("bar", 5).with("foo.x", "=")];
    let lab = lab_of(&records).await;
    for (pipe, expected) in [
        ("pack_json fields (foo, bar) as baz", r#"{"foo":"a \"b\"","bar":"5"}"#),
        ("pack_json fields (foo.*, b*) as baz", r#"{"foo.x":"=","bar":"5"}"#),
        ("pack_json fields (none) as baz", "{}"),
        ("pack_logfmt fields (foo, bar) as baz", r#"foo="a \"b\"" bar=5"#),
        ("pack_logfmt fields (foo.*) baz", r#"foo.x="=""#),
    ] {
        let rows = lab.logsql(&format!("* | {pipe} | fields baz")).await;
        assert_eq!(rows, [format!("baz={expected}")], "{pipe}");
    }
    assert_eq!(
        lab.logsql("* | pack_json | fields _msg").await,
        [
            r#"_msg={"_time":"2026-01-02T00:00:00Z","_stream":"{}","_msg":"m","bar":"5","foo":"a \"b\"","foo.x":"="}"#
        ]
    );
    assert_eq!(
        lab.logsql("* | pack_logfmt as x | unpack_logfmt from x fields (foo) result_prefix \"y.\" | fields y.foo")
            .await,
        [r#"y.foo=a "b""#]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn small_things_are_made() {
    let records = [record(DAY, "hello").label("app", "web").with("user", "").with("mail", "m@x")];
    let lab = lab_of(&records).await;
    for (pipe, fields, expected) in [
        ("len(_msg) as n", "n", "n=5"),
        ("len(absent)", "\"len(absent)\"", "len(absent)=0"),
        ("hash(_msg) as h | hash(_msg) as i | math h - i as d", "d", "d=0"),
        ("hash(_msg) as h | math (h % 4) as bucket | filter bucket:<4", "app", "app=web"),
        ("json_array_len(_msg) n", "n", "n=0"),
        ("coalesce(user, absent, mail) as who", "who", "who=m@x"),
        ("coalesce(user, absent) default nobody as who", "who", "who=nobody"),
        ("coalesce(absent*, ma*) as who", "who", "who=m@x"),
        ("time_add 1h", "_time", "_time=2026-01-02T01:00:00Z"),
        ("time_add -1h | filter _time:<2026-01-02", "_time", "_time=2026-01-01T23:00:00Z"),
        ("copy _time t | time_add 1w at t", "t", "t=2026-01-09T00:00:00Z"),
        ("set_stream_fields mail, user", "_stream", "_stream={mail=\"m@x\"}"),
        ("set_stream_fields if (app:=db) mail", "_stream", "_stream={app=\"web\"}"),
        ("copy ma* as x_*", "x_il, mail", "x_il=m@x mail=m@x"),
        ("rename ma* as *", "il, mail", "il=m@x"),
        ("rename * as p_*", "p_mail, p_app, mail", "p_mail=m@x p_app=web"),
    ] {
        let rows = lab.logsql(&format!("* | {pipe} | fields {fields}")).await;
        assert_eq!(rows, [expected], "{pipe}");
    }
    assert_eq!(
        lab.logsql("* | set_stream_fields mail | {mail=\"m@x\"} | count() n").await,
        ["n=1"]
    );
    let many = lab_of(&(0..500).map(|i| record(DAY + i * S, "x")).collect::<Vec<_>>()).await;
    assert_eq!(many.logsql("* | sample 1 | count() n").await, ["n=500"]);
    let rows = many.logsql("* | sample 10").await.len();
    assert!((5..150).contains(&rows), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn order_stays_and_limits_are_exact() {
    let messages: Vec<String> = (0..100).map(|i| format!("n={i} x")).collect();
    let texts: Vec<&str> = messages.iter().map(String::as_str).collect();
    let lab = lab(&texts).await;
    let expected: Vec<String> = (90..100).rev().map(|i| format!("n={i}")).collect();
    for query in [
        "* | extract 'n=<n> ' | sort by (n desc) | limit 10 | fields n",
        "* | extract 'n=<n> ' | sort by (n desc) limit 10 | len(n) as l | fields n",
        "* | sort by (_time desc) | extract 'n=<n> ' | limit 10 | fields n",
        "* | sort by (_time desc) limit 10 | extract 'n=<n> ' | filter n:* | fields n",
        "* | extract 'n=<n> ' | sort by (n desc) | fields n | replace ('z', '') at n | limit 10",
        "* | extract 'n=<n> ' | last 10 by (n) | copy n as m | format '<m>' as n | fields n",
    ] {
        assert_eq!(lab.logsql(query).await, expected, "{query}");
    }
    // A request's limit gives the newest.
    let mut request = lab.request("* | extract 'n=<n> ' | fields n");
    request.limit = Some(10);
    assert_eq!(lab.ask(request).await.unwrap(), expected);
    assert_eq!(lab.logsql("* | extract 'n=<n> ' | limit 7 | count() c").await, ["c=7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_without_bound_is_refused() {
    let many =
        format!("{{{}}}", (0..10_001).map(|i| format!("\"k{i}\":1")).collect::<Vec<_>>().join(","));
    let long = "a".repeat(1 << 20);
    let lab = lab(&[&many, &long]).await;
    for (query, limit) in [
        ("len(_msg) as l | filter l:>200000 | delete l | unpack_json", "10000 fields"),
        ("replace ('a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb')", "16777216 bytes"),
        ("replace_regexp ('.+', '$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0')", "16777216 bytes"),
        (
            "format '<q:_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg><_msg>'",
            "16777216 bytes",
        ),
    ] {
        let query = if query.starts_with("len") {
            "k1 | unpack_json | count(k5) n".to_owned()
        } else {
            format!("len_range(1000000, 2000000) | {query} | fields _msg")
        };
        let error = lab.ask(lab.request(&query)).await.unwrap_err();
        assert!(error.message().contains(limit), "{query}: {error}");
    }
    // As many as allowed are no trouble.
    let rows = lab.logsql("k1 | unpack_json fields (k10000, k1) | fields k10000, k1").await;
    assert_eq!(rows, ["k10000=1 k1=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_stay_narrow() {
    // A field that nobody looks at is not read: what a pipe writes anew hides what was stored.
    let records = [record(DAY, "ip=1 x").with("ip", "stored").with("other", "y")];
    let lab = lab_of(&records).await;
    assert_eq!(lab.logsql("* | extract 'ip=<ip> ' | stats by (ip) count() n").await, ["ip=1 n=1"]);
    assert_eq!(
        lab.logsql("* | extract 'port=<ip> ' skip_empty_results | stats by (ip) count() n").await,
        ["ip=stored n=1"]
    );
    assert_eq!(
        lab.logsql("* | extract if (other:=z) 'ip=<ip> ' | stats by (ip) count() n").await,
        ["ip=stored n=1"]
    );
    assert_eq!(lab.logsql("* | unpack_json | copy other as ip | fields ip").await, ["ip=y"]);
    assert_eq!(
        lab.logsql(
            "* | format '{\"ip\":\"j\"}' as j | unpack_json from j | copy other as ip | fields ip"
        )
        .await,
        ["ip=y"]
    );
}
