//! The parser: what queries mean, and what is said about wrong ones.

use expect_test::{Expect, expect};
use lodge_query::{Predicate, logsql};
use lodge_segment::predicate::Quoted;

use crate::fixture::{DAY, S};

const NOW: i64 = DAY + 3600 * S;

/// The filter of a query, in its canonical text.
fn filter(query: &str, expected: &str) {
    match logsql::parse(query, NOW) {
        Ok(parsed) => {
            assert_eq!(parsed.predicate.to_string(), expected, "{query}");
            let again = logsql::parse(expected, NOW).map(|again| again.predicate);
            assert_eq!(again, Ok(parsed.predicate), "{expected}");
        }
        Err(error) => panic!("{query}: {error}"),
    }
}

/// Where and how a query is wrong.
fn wrong(query: &str, expected: Expect) {
    let error = logsql::parse(query, NOW).expect_err(query);
    expected.assert_eq(&format!("{}: {error}", error.column));
}

#[test]
fn words_phrases_and_prefixes() {
    filter("error", r#""error""#);
    filter("\"cannot open file\"", r#""cannot open file""#);
    filter("err*", r#""err"*"#);
    filter("\"unexpected fail\"*", r#""unexpected fail"*"#);
    filter("*ampl*", r#"*"ampl"*"#);
    filter("*", "*");
    filter("поле:значение", r#"поле:"значение""#);
    filter("log.level:error", r#"log.level:"error""#);
    filter("\"ip:remote\":\"1.2.3.45\"", r#""ip:remote":"1.2.3.45""#);
    filter("foo-bar.baz/x", r#""foo-bar.baz/x""#);
    filter("i(error)", r#"i("error")"#);
    filter("level:i(Err*)", r#"level:i("err"*)"#);
    filter("`a\"b`", r#""a\"b""#);
    filter(r#"'it\'s\x41\n'"#, r#""it'sA\n""#);
}

#[test]
fn values_of_fields() {
    filter("host:\"\"", r#"host:"""#);
    filter("host:*", "host:*");
    filter("level:=error", r#"level:="error""#);
    filter("level:=\"err\"*", r#"level:="err"*"#);
    filter("level:!=error", r#"!level:="error""#);
    filter("_msg:~\"err|warn\"", r#"~"err|warn""#);
    filter("x:!~\"a+\"", r#"!x:~"a+""#);
    filter("level:in(error, \"fatal one\")", r#"level:in("error","fatal one")"#);
    filter("seq(error, \"open file\")", r#"seq("error","open file")"#);
    filter("contains_any(foo, \"bar baz\")", r#"contains_any("foo","bar baz")"#);
    filter("size:>10KiB", "size:range(10240,inf]");
    filter("size:<= -1.5", "size:range[-inf,-1.5]");
    filter("took:>=1.5s", "took:range[1500000000,inf]");
    filter("ip:>10.0.0.1", "ip:ipv4_range(10.0.0.2,255.255.255.255)");
    filter("name:<\"John\"", r#"name:string_range[,"John")"#);
    filter("d:range(4.2, Inf)", "d:range(4.2,inf)");
    filter("d:range[1, 10)", "d:range[1,10)");
    filter("len_range(5, inf)", "len_range(5,inf)");
    filter("ip:ipv4_range(\"10.0.0.0/8\")", "ip:ipv4_range(10.0.0.0,10.255.255.255)");
    // A comparison may follow the name without a colon.
    filter("status>=500", "status:range[500,inf]");
    filter("level!=\"info\"", r#"!level:="info""#);
    filter("path=~\"^/api\"", r#"path:~"^/api""#);
}

#[test]
fn logic_and_its_priorities() {
    filter("a b", r#"("a" "b")"#);
    filter("a AND b or not c d", r#"(("a" "b") or (!"c" "d"))"#);
    filter("not info OR debug", r#"(!"info" or "debug")"#);
    filter("-info !debug", r#"(!"info" !"debug")"#);
    filter("!(a or b)", r#"!("a" or "b")"#);
    filter("level:(error or \"two words\")", r#"(level:"error" or level:"two words")"#);
    filter("level:(!info a:b)", r#"(!level:"info" a:"b")"#);
    filter("(error OR warn) host.name:h1", r#"(("error" or "warn") host.name:"h1")"#);
    filter("error # a comment\n fatal", r#"("error" "fatal")"#);
    filter("not:x", r#"not:"x""#);
    filter("a | filter b:c", r#"("a" b:"c")"#);
}

#[test]
fn times() {
    filter("_time:5m", "_time:[2026-01-02T00:55:00.000000001Z,2026-01-02T01:00:00.000000000Z]");
    filter("_time:>1h", "_time:<=2026-01-01T23:59:59.999999999Z");
    filter("_time:2026Z", "_time:[2026-01-01T00:00:00Z,2026-12-31T23:59:59.999999999Z]");
    filter("_time:2026-02", "_time:[2026-02-01T00:00:00Z,2026-02-28T23:59:59.999999999Z]");
    filter("_time:2026-01-02", "_time:[2026-01-02T00:00:00Z,2026-01-02T23:59:59.999999999Z]");
    filter(
        "_time:2026-01-02T03+05:30",
        "_time:[2026-01-01T21:30:00Z,2026-01-01T22:29:59.999999999Z]",
    );
    filter("_time:2026-02-07:00", "_time:[2026-02-01T07:00:00Z,2026-03-01T06:59:59.999999999Z]");
    filter(
        "_time:2026-01-02T03:04:05.5Z",
        "_time:[2026-01-02T03:04:05.5Z,2026-01-02T03:04:05.599999999Z]",
    );
    filter(
        "_time:[2026-01-01, 2026-01-02)",
        "_time:[2026-01-01T00:00:00Z,2026-01-01T23:59:59.999999999Z]",
    );
    filter("_time:[now-2h, now]", "_time:[2026-01-01T23:00:00Z,2026-01-02T01:00:00.000000000Z]");
    filter("_time:>=1767312000", "_time:>=2026-01-02T00:00:00Z");
    filter("_time:<2026-01-02", "_time:<=2026-01-01T23:59:59.999999999Z");
    filter("_time:offset 1h", "_time:<=2026-01-02T00:00:00.000000000Z");
    filter(
        "_time:30m offset 1h",
        "_time:[2026-01-01T23:30:00.000000001Z,2026-01-02T00:00:00.000000000Z]",
    );
    filter(
        "(_time:5m) x",
        "(_time:[2026-01-02T00:55:00.000000001Z,2026-01-02T01:00:00.000000000Z] \"x\")",
    );
    filter("_time:day_range[08:00, 18:00)", "_time:day_range[08:00,17:59:59.999999999]");
    filter("_time:week_range[Mon, Fri] offset -90m", "_time:week_range[Mon,Fri] offset -5400s");
    filter("_time:week_range(Mon, Tue)", "!*");
}

#[test]
fn streams() {
    filter("{app=\"nginx\"}", r#"{app="nginx"}"#);
    filter(
        "_stream:{app=~\"a|b\", host!=\"x\" or env in (\"p\", q)}",
        r#"{app=~"a|b",host!="x" or env in ("p","q")}"#,
    );
    filter("{} error", r#"({} "error")"#);
    filter("_stream_id:abc", r#"_stream_id:"abc""#);
}

#[test]
fn pipes() {
    let parsed = |query: &str| format!("{:?}", logsql::parse(query, NOW).expect(query).pipes);
    expect![[r#"[Fields([Name("a"), Prefix("b."), Name("c d")])]"#]]
        .assert_eq(&parsed("* | keep a, b.*, 'c d'"));
    expect![[r#"[Sort(SortPipe { by: [SortKey { name: "a", descending: false }, SortKey { name: "b", descending: true }], limit: Some(20), offset: 10, partition_by: ["h"], rank: Some("place") })]"#]]
        .assert_eq(&parsed(
            "* | order by (a desc, b) desc partition by (h) offset 10 limit 20 rank as place",
        ));
    expect![[r#"[Sort(SortPipe { by: [SortKey { name: "x", descending: true }], limit: Some(3), offset: 0, partition_by: [], rank: None }), Limit(10), Offset(5)]"#]]
        .assert_eq(&parsed("* | last 3 by (x) | head | skip 5"));
    expect![[r#"[Stats(StatsPipe { by: [GroupKey { name: "_time", bucket: Some(Step { step: 86400000000000.0, step_ns: 86400000000000, offset_ns: 7200000000000 }) }, GroupKey { name: "host", bucket: None }], calls: [StatsCall { function: Count, fields: [], filter: None, name: "hits" }, StatsCall { function: CountUniq { limit: Some(10) }, fields: [Name("ip"), Name("path")], filter: None, name: "n" }, StatsCall { function: Quantile { phi: 0.99 }, fields: [Name("d")], filter: None, name: "quantile(0.99, d)" }] })]"#]]
        .assert_eq(&parsed(
            "* | stats by (_time:1d offset 2h, host) count() as hits, \
             count_uniq(ip, path) limit 10 n, quantile(0.99, d)",
        ));
    expect![[r#"[Stats(StatsPipe { by: [], calls: [StatsCall { function: Count, fields: [], filter: Some(Field { name: "_msg", test: Contains(Phrase) }), name: "gets" }] })]"#]]
        .assert_eq(&phrases_hidden(&parsed("* | count() if (GET) gets")));
    expect![[r#"[Top { limit: 7, by: ["a", "b"], hits: "visits", rank: Some("rank") }]"#]]
        .assert_eq(&parsed("* | top 7 by (a, b) hits as visits rank"));
    expect![[r#"[Uniq { by: ["a"], hits: Some("hits"), limit: Some(100) }]"#]]
        .assert_eq(&parsed("* | uniq (a) with hits limit 100"));
    expect![[r#"[Copy([("a", "b")]), Rename([("c", "d"), ("e", "f")]), Delete([Name("g")])]"#]]
        .assert_eq(&parsed("* | cp a as b | mv c d, e as f | rm g"));
}

/// The insides of a compiled phrase are nobody's business.
fn phrases_hidden(text: &str) -> String {
    regex::Regex::new(r"Phrase \{.*?word_last: \w+ \}").unwrap().replace_all(text, "Phrase").into()
}

#[test]
fn errors_point_at_the_column() {
    wrong(
        "",
        expect![
            "1: the query is empty; write a filter, for example `error`, `_time:5m`, or `*` for everything"
        ],
    );
    wrong(
        "error |",
        expect![
            "8: expected a pipe after `|`; there are: block_stats, blocks_count, coalesce, collapse_nums, copy, decolorize, delete, drop_empty_fields, extract, extract_regexp, facets, field_names, field_values, fields, filter, first, format, generate_sequence, hash, join, json_array_concat, json_array_len, last, len, limit, math, offset, pack_json, pack_logfmt, patterns, query_stats, rename, replace, replace_regexp, running_stats, sample, set_stream_fields, sort, split, stats, stream_context, time_add, top, total_stats, union, uniq, unpack_json, unpack_logfmt, unpack_syslog, unpack_words, unroll"
        ],
    );
    wrong(
        "(error",
        expect!["7: expected `)` after the filters in parentheses, not the end of the query"],
    );
    wrong("error)", expect!["6: expected `|` and a pipe, or the end, not `)`"]);
    wrong("\"open", expect!["1: the text that begins here has no closing \""]);
    wrong("ж:\"open", expect!["3: the text that begins here has no closing \""]);
    wrong(
        "a or",
        expect![
            "5: expected a filter (a word, \"a phrase\", field:value, {stream=\"labels\"}, _time:5m or `*`), not the end of the query"
        ],
    );
    wrong("or a", expect!["1: expected a filter, not `or`; put it in quotes to search the word"]);
    wrong(
        "level:",
        expect![
            "7: expected a value after `level:`, not the end of the query; write `level:\"\"` for records without it"
        ],
    );
    wrong(
        "url:http://x",
        expect![
            "9: expected the end of the value of `url:http`, not `:`; put a value with colons in quotes, as in `url:\"…\"`"
        ],
    );
    wrong("~\"(a\"", expect!["2: this regular expression cannot be used: unclosed group"]);
    wrong(
        "_time:yesterday",
        expect![
            "7: expected a time like 5m, >1h, 2026-03-01, 2026-03-01T12:30:00Z, >=2026-03-01, [2026-03-01, 2026-03-02) or now-1h, not `yesterday`"
        ],
    );
    wrong("{app}", expect!["5: expected =, !=, =~, !~ or in (…) after the label `app`, not `}`"]);
    wrong(
        "a:in(x:y)",
        expect![
            "7: expected `,` or `)` in in(…), not `:`; put values with spaces or signs in quotes"
        ],
    );
    wrong(
        "d:range(a, 5)",
        expect!["9: `a` is not a number; write one as in 12, -0.5, 10KiB, 1.5s or inf"],
    );
    wrong(
        "* | stats by (a)",
        expect![
            "17: expected a stats function, not the end of the query; there are: any, avg, count, count_empty, count_uniq, count_uniq_hash, field_max, field_min, histogram, json_values, max, median, min, quantile, rate, rate_sum, row_any, row_max, row_min, stddev, sum, sum_len, uniq_values, values"
        ],
    );
    wrong(
        "* | stats count() x, sum(a) x",
        expect!["22: the name `x` is used twice; add `as` and another name"],
    );
    wrong(
        "* | stats quantile(2, a) x",
        expect![
            "19: quantile(phi, field) needs a number from 0 to 1 first, for example quantile(0.99, size)"
        ],
    );
    wrong(
        "* | stats by (_time:5) count()",
        expect![
            "21: `5` is no width for buckets of `_time`; write a duration (5m, 1h, day, month) or, for other fields than _time, a number (10, 10KB)"
        ],
    );
    wrong(
        "* | frobnicate",
        expect![
            "5: there is no pipe `frobnicate`; there are: block_stats, blocks_count, coalesce, collapse_nums, copy, decolorize, delete, drop_empty_fields, extract, extract_regexp, facets, field_names, field_values, fields, filter, first, format, generate_sequence, hash, join, json_array_concat, json_array_len, last, len, limit, math, offset, pack_json, pack_logfmt, patterns, query_stats, rename, replace, replace_regexp, running_stats, sample, set_stream_fields, sort, split, stats, stream_context, time_add, top, total_stats, union, uniq, unpack_json, unpack_logfmt, unpack_syslog, unpack_words, unroll; to filter by a word write `| filter frobnicate`"
        ],
    );
    wrong(
        "* | extrct 'a<b>'",
        expect![
            "5: there is no pipe `extrct`; did you mean `extract`; to filter by a word write `| filter extrct`"
        ],
    );
    // Two letters changed places: nearer to `stats` than to `last`.
    wrong(
        "* | stast count()",
        expect![
            "5: there is no pipe `stast`; did you mean `stats`; to filter by a word write `| filter stast`"
        ],
    );
    wrong("* | unpack_json from", expect!["21: expected a field's name, not the end of the query"]);
    wrong("* | limit x", expect!["11: expected `|` and a pipe, or the end, not `x`"]);
}

/// The text of a predicate is a query that selects the same.
fn means_itself(predicate: &Predicate) {
    let text = predicate.to_string();
    let again = match logsql::parse(&text, NOW) {
        Ok(query) => query.predicate,
        Err(error) => panic!("{text}: {error}"),
    };
    assert_eq!(&again, predicate, "{text}");
    assert_eq!(again.to_string(), text);
}

#[test]
fn a_predicate_is_printed_as_a_query_that_means_the_same_model() {
    use proptest::prelude::*;
    let text = prop_oneof![
        proptest::sample::select(
            &["error", "a b", "or", "-x", "*", "\"q\"", "\\d", "ö\u{7}\n", "::1", "é\u{301}", ")|"]
                [..]
        )
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    let word = text.clone().prop_map(|text| format!("{}", Quoted(&text)));
    let number = proptest::sample::select(
        &["0", "-1.5", "1e300", "1e-300", "10KiB", "1h30m", "inf", "0x1f", "1_000"][..],
    );
    let value = prop_oneof![
        word.clone(),
        word.clone().prop_map(|word| format!("{word}*")),
        word.clone().prop_map(|word| format!("={word}")),
        word.clone().prop_map(|word| format!("={word}*")),
        word.clone().prop_map(|word| format!("*{word}*")),
        word.clone().prop_map(|word| format!("!={word}")),
        word.clone().prop_map(|word| format!("<{word}")),
        word.clone().prop_map(|word| format!("i({word})")),
        (word.clone(), word.clone()).prop_map(|(a, b)| format!("string_range({a}, {b})")),
        (word.clone(), word.clone()).prop_map(|(a, b)| format!("string_range({a}, {b}]")),
        (word.clone(), word.clone()).prop_map(|(a, b)| format!("({a} or !{b})")),
        (number.clone(), number.clone()).prop_map(|(a, b)| format!("range({a}, {b}]")),
        number.prop_map(|number| format!(">{number}")),
        word.clone().prop_map(|word| format!("pattern_match_full({word})")),
        word.clone().prop_map(|word| format!("eq_field({word})")),
        text.prop_map(|text| format!("~{}", Quoted(&regex::escape(&text)))),
        (
            proptest::sample::select(
                &[
                    "in",
                    "contains_any",
                    "contains_all",
                    "seq",
                    "json_array_contains_any",
                    "equals_common_case",
                ][..]
            ),
            proptest::collection::vec(word.clone(), 0..3)
        )
            .prop_map(|(function, words)| format!("{function}({})", words.join(", "))),
        Just("*".to_owned()),
        Just("value_type(int64)".to_owned()),
        Just("ipv4_range(10.0.0.0/8)".to_owned()),
        Just("ipv6_range(::1, 2001:db8::)".to_owned()),
        Just("len_range(1, 0x10)".to_owned()),
    ];
    let name = prop_oneof![
        Just(String::new()),
        word.clone().prop_map(|word| format!("{word}:")),
        Just("a.b:".to_owned()),
        Just("pre*:".to_owned()),
    ];
    let one = prop_oneof![
        8 => (name, value).prop_map(|(name, value)| format!("{name}{value}")),
        1 => Just("_time:[2026-01-01, 2026-02-03T04:05:06.7Z) offset 1h".to_owned()),
        1 => Just("_time:<1d".to_owned()),
        1 => Just("_time:day_range(08:00, 24:00] offset 1h".to_owned()),
        1 => Just("_time:week_range[Sun, Wed) offset 1ns".to_owned()),
        1 => word.clone().prop_map(|word| format!("{{app={word} or {word} not_in ({word}, a)}}")),
    ];
    let group = |inner: &str, parts: &[String]| format!("({})", parts.join(inner));
    let query = one.prop_recursive(4, 12, 3, move |inner| {
        let several = proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            several.clone().prop_map(move |parts| group(" ", &parts)),
            several.prop_map(move |parts| group(" or ", &parts)),
            inner.prop_map(|part| format!("!{part}")),
        ]
    });
    proptest!(|(query in query)| {
        if let Ok(query) = logsql::parse(&query, NOW) {
            means_itself(&query.predicate);
        }
    });
}

#[test]
fn no_text_makes_the_parser_panic() {
    use proptest::prelude::*;
    let piece = proptest::sample::select(
        &[
            "error",
            "*",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "|",
            ":",
            "=",
            "!",
            "~",
            "<",
            ">",
            "\"",
            "'",
            "`",
            "\\",
            ",",
            "-",
            " ",
            "\n",
            "#",
            "or",
            "and",
            "not",
            "_time",
            "5m",
            "offset",
            "stats",
            "by",
            "count()",
            "sort",
            "in(",
            "range[",
            "жы",
            "\u{0}",
            "limit",
            "1e999",
            "_stream",
            "9223372036854775807d",
            "2026-13-45",
            "day_range",
            "\\x",
            "\\777",
        ][..],
    );
    proptest!(|(pieces in proptest::collection::vec(piece, 0..40))| {
        for (text, now_ns) in [
            (pieces.concat(), NOW),
            (pieces.join(" "), i64::MIN),
            (pieces.join(" "), i64::MAX),
        ] {
            if let Ok(query) = logsql::parse(&text, now_ns) {
                means_itself(&query.predicate);
            }
        }
    });
}
