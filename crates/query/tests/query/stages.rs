//! The pipes that look at all rows, or at other queries: LogsQL's documented examples, and their limits.

use lodge_query::View;

use crate::fixture::{DAY, Lab, Record, S, record};

fn requests() -> Vec<Record> {
    (0..60)
        .map(|i| {
            let app = ["api", "web", "db"][(i % 3) as usize];
            record(DAY + i * S, &format!("line {i}{}", if i % 20 == 10 { " panic" } else { "" }))
                .label("app", app)
                .with("user", format!("u{}", i % 5).as_str())
                .with("size", i)
                .with("zone", "eu")
        })
        .collect()
}

async fn lab() -> Lab {
    let lab = Lab::new().await;
    lab.fill(&requests()).await;
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn facets_are_the_most_frequent_values_of_every_field() {
    let lab = lab().await;
    let rows = lab.logsql("* | facets").await;
    let of = |rows: &[String], field: &str| -> Vec<String> {
        let head = format!("field_name={field} ");
        rows.iter().filter_map(|row| row.strip_prefix(&head).map(str::to_owned)).collect()
    };
    assert_eq!(
        of(&rows, "app"),
        ["field_value=api hits=20", "field_value=db hits=20", "field_value=web hits=20"]
    );
    assert_eq!(of(&rows, "user").len(), 5);
    assert_eq!(of(&rows, "size").len(), 10);
    // The same everywhere says nothing, unless it is asked for.
    assert_eq!(of(&rows, "zone"), [""; 0]);
    let rows = lab.logsql("* | facets keep_const_fields").await;
    assert_eq!(of(&rows, "zone"), ["field_value=eu hits=60"]);
    let rows = lab.logsql("* | facets 2").await;
    assert_eq!(of(&rows, "user"), ["field_value=u0 hits=12", "field_value=u1 hits=12"]);
    // Fields of too many or too long values are left out.
    let rows = lab.logsql("* | facets 15 max_values_per_field 50").await;
    assert_eq!((of(&rows, "size").len(), of(&rows, "user").len()), (0, 5));
    let rows = lab.logsql("* | facets max_value_len 2").await;
    assert_eq!((of(&rows, "app").len(), of(&rows, "user").len()), (0, 5));
    // Fields that pipes make are fields, too.
    let rows = lab.logsql("* | extract 'line <n>' | fields n | facets 1").await;
    assert_eq!(of(&rows, "n"), ["field_value=0 hits=1"]);
    let rows =
        lab.logsql("* | format '{\"j\":\"<user>\"}' as x | unpack_json from x | facets 1").await;
    assert_eq!(of(&rows, "j"), ["field_value=u0 hits=12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_values_are_counted() {
    let lab = lab().await;
    assert_eq!(
        lab.sorted("* | field_names").await,
        [
            "name=_msg hits=60",
            "name=_stream hits=60",
            "name=_stream_id hits=60",
            "name=_time hits=60",
            "name=app hits=60",
            "name=size hits=60",
            "name=user hits=60",
            "name=zone hits=60",
        ]
    );
    assert_eq!(lab.logsql("* | fields size, absent | field_names").await, ["name=size hits=60"]);
    assert_eq!(lab.sorted("panic | field_values user").await, ["user=u0 hits=3"]);
    assert_eq!(lab.logsql("* | field_values user limit 2").await.len(), 2);
    assert_eq!(lab.logsql("* | field_values absent").await, [""; 0]);
    assert_eq!(
        lab.sorted("* | unpack_logfmt from app | extract 'line <n> ' | field_values n").await,
        ["n=10 hits=1", "n=30 hits=1", "n=50 hits=1"]
    );
    let blocks = lab.logsql("* | blocks_count | filter blocks_count:>1").await;
    assert_eq!(blocks.len(), 1, "an L0 of its own is a block of its own");
    assert_eq!(lab.logsql("nothing_here | blocks_count").await, ["blocks_count=0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_tell_what_their_fields_take() {
    let lab = Lab::new().await;
    lab.commit(&requests()).await;
    lab.build().await;
    // One built segment, so one block: each field once, of all its records.
    let rows = lab.sorted("* | block_stats | fields field, rows, type").await;
    assert_eq!(
        rows,
        [
            "field=_msg rows=60 type=dict",
            "field=_stream rows=60 type=stream",
            "field=_time rows=60 type=time",
            "field=app rows=60 type=dict",
            "field=size rows=60 type=int64",
            "field=user rows=60 type=dict",
            "field=zone rows=60 type=const",
        ]
    );
    let of = "* | fields us*, size | block_stats | fields field, dict_items, part_path";
    let rows = lab.sorted(of).await;
    assert_eq!(rows.len(), 2);
    assert!(rows[0].starts_with("field=size dict_items=0 part_path="), "{rows:?}");
    assert!(rows[1].starts_with("field=user dict_items=5 part_path="), "{rows:?}");
    // Only what is selected counts, and blocks without it not at all.
    let panics = "panic | delete _msg | block_stats | filter field:in(_msg, zone) | fields rows";
    assert_eq!(lab.logsql(panics).await, ["rows=3"]);
    assert_eq!(lab.logsql("nothing_here | block_stats").await, [""; 0]);

    // What takes most of the disk, as the documentation has it; L0s tell it as well.
    lab.commit(&requests()).await;
    let costly = "* | block_stats \
                  | stats by (field) sum(values_bytes) bytes, sum(rows) rows, count() blocks \
                  | filter bytes:>0 | sort by (bytes desc) | fields field, rows, blocks";
    let rows = lab.logsql(costly).await;
    assert!(rows.contains(&"field=size rows=120 blocks=2".to_owned()), "{rows:?}");

    // Rows that pipes made are stored nowhere.
    let made = "* | stats by (app) count() n | block_stats | stats by (field, type) sum(rows) r";
    assert_eq!(
        lab.sorted(made).await,
        ["field=app type=inmemory r=3", "field=n type=inmemory r=3"]
    );
    let view = View::default().narrowed("{app=\"api\"}", DAY).unwrap();
    let request = lodge_query::LogsqlRequest {
        view,
        ..lab.request("* | block_stats | stats by (type, part_path) max(rows) n")
    };
    let rows = lab.ask(request).await.unwrap();
    assert!(
        rows.iter().all(|row| row.starts_with("type=inmemory part_path=inmemory n=")),
        "who sees some records only is not told what others take: {rows:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_tells_what_it_has_done() {
    let lab = Lab::new().await;
    lab.commit(&requests()).await;
    lab.build().await;
    let done = "BlocksProcessed, RowsProcessed, RowsFound";
    assert_eq!(
        lab.logsql(&format!("size:<20 | query_stats | fields {done}")).await,
        ["BlocksProcessed=1 RowsProcessed=60 RowsFound=20"]
    );
    // Whatever comes between: what was read is told, not what is left of it.
    assert_eq!(
        lab.logsql(&format!("size:<20 | stats count() n | query_stats | fields {done}")).await,
        ["BlocksProcessed=1 RowsProcessed=60 RowsFound=20"]
    );
    // The search for the newest counts what it finds, too.
    let newest = "size:<20 | sort by (_time desc) limit 3 | query_stats";
    assert_eq!(
        lab.logsql(&format!("{newest} | fields {done}")).await,
        ["BlocksProcessed=1 RowsProcessed=60 RowsFound=20"]
    );
    // The catalog counts without reading.
    let counted = "* | count() n | query_stats | fields BytesReadTotal, RowsProcessed, RowsFound";
    assert_eq!(lab.logsql(counted).await, ["BytesReadTotal=0 RowsProcessed=0 RowsFound=60"]);
    let told = lab.logsql("* | query_stats | filter BytesReadTotal:>0 QueryDurationNsecs:>0").await;
    assert_eq!(told.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_fields_need_no_parentheses() {
    let lab = lab().await;
    assert_eq!(lab.sorted("* | not app:api | count() n").await, ["n=40"]);
    assert_eq!(lab.sorted("* | uniq user").await.len(), 5);
    assert_eq!(lab.sorted("* | uniq by user, app").await.len(), 15);
    assert_eq!(lab.logsql("* | top 1 user").await, ["user=u0 hits=12"]);
    assert_eq!(lab.logsql("* | top 1 by user hits as n").await, ["user=u0 n=12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_add_what_another_query_finds() {
    let lab = lab().await;
    let left = "{app=\"api\"} user:in(u0, u1) | stats by (user) count() api_hits";
    assert_eq!(
        lab.sorted(&format!(
            "{left} | join by (user) ({{app=\"web\"}} user:u0 | stats by (user) count() web_hits)"
        ))
        .await,
        ["user=u0 api_hits=4 web_hits=4", "user=u1 api_hits=4"]
    );
    assert_eq!(
        lab.sorted(&format!(
            "{left} | join by (user) ({{app=\"web\"}} user:u0 | stats by (user) count() web_hits) inner"
        ))
        .await,
        ["user=u0 api_hits=4 web_hits=4"]
    );
    assert_eq!(
        lab.sorted(&format!(
            "{left} | join by (user) ({{app=\"web\"}} user:u0 | stats by (user) count() web_hits) prefix \"web.\""
        ))
        .await,
        ["user=u0 api_hits=4 web.web_hits=4", "user=u1 api_hits=4"]
    );
    // What is there already stays; each partner gives a row.
    assert_eq!(
        lab.sorted(
            "size:=0 | fields user, zone | join by (user) (size:in(0, 5) | fields user, zone, size)"
        )
        .await,
        ["user=u0 zone=eu size=0", "user=u0 zone=eu size=5"]
    );
    // Fields without a declared column go through a join.
    assert_eq!(
        lab.sorted(
            "size:=0 | fields user | join by (user) \
             (size:=5 | format '{\"deep\":\"<size>\"}' as j | unpack_json from j | delete j) \
             | fields user, deep, app"
        )
        .await,
        ["user=u0 deep=5 app=db"]
    );
    assert_eq!(
        lab.sorted("* | join by (user) (size:<5 | fields user, size) | stats by (size) count() n")
            .await
            .len(),
        60
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unions_give_one_answer_after_the_other() {
    let lab = lab().await;
    assert_eq!(
        lab.logsql("size:=1 | fields size, app | union (size:=2 | fields app, user)").await,
        ["size=1 app=web", "app=db user=u2"]
    );
    assert_eq!(
        lab.logsql("size:<3 | sort by (size desc) | fields size | union (size:<3 | sort by (size) | fields size)")
            .await,
        ["size=2", "size=1", "size=0", "size=0", "size=1", "size=2"]
    );
    assert_eq!(
        lab.logsql("panic | union (size:<10) | stats count() n, sum(size) s").await,
        ["n=13 s=135"]
    );
    assert_eq!(
        lab.logsql("size:=1 | union (size:=2 | union (size:=3)) | count() n").await,
        ["n=3"]
    );
    // Another time range, and fields by any name on one side.
    assert_eq!(
        lab.logsql(
            "_time:<2026-01-02T00:00:02Z | union (_time:>=2026-01-02T00:00:58Z) | count() n"
        )
        .await,
        ["n=4"]
    );
    assert_eq!(
        lab.logsql(
            "size:=1 | format '{\"x\":\"1\"}' as j | unpack_json from j | fields x* \
             | union (size:=2 | fields size) | filter x:=1 or size:=2 | sort by (size)"
        )
        .await,
        ["x=1", "size=2"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn inner_queries_see_no_more_than_the_view_and_the_time_range() {
    let lab = lab().await;
    let view = View::default().narrowed("{app=\"api\"}", DAY).unwrap();
    for (query, expected) in [
        ("size:=0 | fields size | union (* | fields size) | count() n", "n=21"),
        ("* | fields user | join by (user) (* | fields user, size) | stats max(size) m", "m=57"),
        ("size:=30 | stream_context before 100 after 100 time_window 1h | count() n", "n=20"),
        ("size:=31 | stream_context before 100 | count() n", "n=0"),
    ] {
        let mut request = lab.request(query);
        request.view = view.clone();
        assert_eq!(lab.ask(request).await.unwrap(), [expected], "{query}");
    }
    for (query, expected) in [
        ("* | union (*) | count() n", "n=10"),
        ("* | union (options(ignore_global_time_filter=true) *) | count() n", "n=65"),
        ("* | join by (user) (* | fields user, size) | count() n", "n=5"),
    ] {
        let mut request = lab.request(query);
        (request.start_ns, request.end_ns) = (Some(DAY), Some(DAY + 5 * S));
        assert_eq!(lab.ask(request).await.unwrap(), [expected], "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_around_in_the_stream() {
    let lab = lab().await;
    let sizes = async |query: &str| -> Vec<String> {
        let rows = lab.logsql(&format!("{query} | fields size, _msg")).await;
        let of = |row: &String| match row.strip_prefix("size=") {
            Some(row) => row.split(' ').next().unwrap_or_default().to_owned(),
            None => row.trim_start_matches("_msg=").to_owned(),
        };
        rows.iter().map(of).collect()
    };
    // Streams: 0 3 6 …, 1 4 7 …, 2 5 8 …; 10 (web), 30 (api) and 50 (db) match.
    assert_eq!(sizes("\"line 30\" | stream_context after 2").await, ["30", "33", "36"]);
    assert_eq!(sizes("\"line 30\" | stream_context before 2").await, ["24", "27", "30"]);
    assert_eq!(
        sizes("panic | stream_context before 1 after 1").await,
        ["7", "10", "13", "---", "27", "30", "33", "---", "47", "50", "53"]
    );
    // Runs that touch are one; the ends of a stream are the ends.
    assert_eq!(
        sizes("size:in(0, 3, 57) | stream_context before 1 after 1").await,
        ["0", "3", "6", "---", "54", "57"]
    );
    // Not further away than the window, which may reach beyond the query's own time.
    assert_eq!(
        sizes("_time:2026-01-02T00:00:30Z panic | stream_context before 9 time_window 7s").await,
        ["24", "27", "30"]
    );
    assert_eq!(
        lab.logsql("panic | stream_context after 0 | filter size:=10 | fields _stream").await,
        ["_stream={app=\"web\"}"]
    );
    assert_eq!(
        lab.logsql("panic | stream_context after 1 | stats by (_stream) count() n | sort by (n desc, _stream)")
            .await,
        ["_stream={app=\"api\"} n=3", "_stream={app=\"web\"} n=3", "_stream={app=\"db\"} n=2"]
    );
    assert_eq!(sizes("nothing_here | stream_context after 5").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_run_along_the_rows() {
    let lab = lab().await;
    assert_eq!(
        lab.logsql(
            "size:<5 | running_stats count() as n, sum(size) s, max(user) m | fields size, n, s, m"
        )
        .await,
        [
            "size=0 n=1 s=0 m=u0",
            "size=1 n=2 s=1 m=u1",
            "size=2 n=3 s=3 m=u2",
            "size=3 n=4 s=6 m=u3",
            "size=4 n=5 s=10 m=u4"
        ]
    );
    assert_eq!(
        lab.logsql("size:<6 | running_stats by (app) sum(size) as s, min(size), count(absent) c | fields size, s, 'min(size)', c")
            .await,
        [
            "size=0 s=0 min(size)=0 c=0",
            "size=1 s=1 min(size)=1 c=0",
            "size=2 s=2 min(size)=2 c=0",
            "size=3 s=3 min(size)=0 c=0",
            "size=4 s=5 min(size)=1 c=0",
            "size=5 s=7 min(size)=2 c=0"
        ]
    );
    assert_eq!(
        lab.logsql(
            "* | stats by (_time:30s) count() as hits | total_stats sum(hits) as total \
             | running_stats sum(hits) as running \
             | math round((hits / total) * 100) as percent | delete _time"
        )
        .await,
        ["hits=30 total=60 running=30 percent=50", "hits=30 total=60 running=60 percent=50"]
    );
    assert_eq!(
        lab.logsql("size:<4 | total_stats (app) count() n | fields size, n").await,
        ["size=0 n=2", "size=1 n=1", "size=2 n=1", "size=3 n=2"]
    );
    assert_eq!(
        lab.logsql("size:<2 | total_stats sum(user) s, count(us*) c | fields size, s, c").await,
        ["size=0 s=NaN c=2", "size=1 s=NaN c=2"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_out_of_nothing() {
    let lab = lab().await;
    assert_eq!(lab.logsql("* | generate_sequence 3").await, ["_msg=0", "_msg=1", "_msg=2"]);
    assert_eq!(
        lab.logsql("* | generate_sequence 100_000 | math _msg % 4 as r | stats by (r) count() n | sort by (r)")
            .await,
        ["r=0 n=25000", "r=1 n=25000", "r=2 n=25000", "r=3 n=25000"]
    );
    assert_eq!(
        lab.logsql(
            "* | generate_sequence 1000 | math floor(rand() * 10) as r | filter r:>9 | count() n"
        )
        .await,
        ["n=0"]
    );
    let empty = Lab::new().await;
    assert_eq!(empty.logsql("* | generate_sequence 2 | count() n").await, ["n=2"]);
    assert_eq!(empty.logsql("* | facets").await, [""; 0]);
    assert_eq!(
        empty.logsql("* | unpack_json | sort by (x) | join by (x) (*) | union (*)").await,
        [""; 0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_pointed_at() {
    let lab = lab().await;
    for (query, column, message) in [
        ("* | extract foo", 13, "expected a pattern with a named placeholder"),
        ("* | extract 'a<b><c>'", 13, "expected a text between `<c>`"),
        ("* | format 'a<b'", 12, "a `<` has no `>`"),
        ("* | extract_regexp '(a'", 20, "this regular expression cannot be used"),
        ("* | extract_regexp 'a'", 20, "expected a regular expression with a named group"),
        ("* | math a +", 13, "expected a number, a field's name or `(`"),
        ("* | math round(a, b, c) x", 10, "round(…) takes 1 or 2 arguments, not 3"),
        ("* | replace 'a' at b", 13, "expected `(` after `replace`"),
        ("* | sample 0", 11, "expected a number of at least 1"),
        ("* | join (a) x", 14, "expected `(` after `join by (…)`"),
        ("* | union * ", 11, "expected `(` after `union`"),
        ("* | union (* | foo)", 16, "there is no pipe `foo`"),
        ("* | fields a | stream_context after 1", 15, "has to be the first pipe"),
        ("* | stream_context", 19, "expected `before` or `after`"),
        ("* | running_stats avg(x)", 19, "expected a function of `running_stats`"),
        ("* | copy a* as b", 16, "expected a name for a name, or a prefix"),
        ("* | time_add x", 14, "expected a duration"),
        ("* | unroll if (a", 17, "expected `)`"),
    ] {
        let error = lab.ask(lab.request(query)).await.unwrap_err();
        let kind = format!("{:?}", error.kind());
        assert!(kind.contains("Parse"), "{query}: {error}");
        assert!(error.message().contains(message), "{query}: {error}");
        assert!(kind.contains(&format!("column: {column} ")), "{query}: {kind} {error}");
    }
    let many = format!("* {}", "| len(a) as b ".repeat(201));
    let error = lab.ask(lab.request(&many)).await.unwrap_err();
    assert!(error.message().contains("at most 200 pipes"), "{error}");
    let deep = format!("* {}{}", "| union (* ".repeat(100), ")".repeat(100));
    let error = lab.ask(lab.request(&deep)).await.unwrap_err();
    assert!(error.message().contains("the most is 64"), "{error}");
}
